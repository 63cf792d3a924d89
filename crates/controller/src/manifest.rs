//! A pod to create, sent as the JSON it was built as: a typed Pod would drop fields that are newer than
//! this program.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Serialize;
use serde_json::Value;

#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct PodManifest {
    json: Value,
    #[serde(skip)]
    meta: ObjectMeta,
}

impl PodManifest {
    pub(crate) fn new(json: Value) -> Self {
        Self { json, meta: ObjectMeta::default() }
    }
}

impl Resource for PodManifest {
    type DynamicType = ();
    type Scope = <Pod as Resource>::Scope;

    fn kind(_: &()) -> Cow<'_, str> {
        Pod::kind(&())
    }
    fn group(_: &()) -> Cow<'_, str> {
        Pod::group(&())
    }
    fn version(_: &()) -> Cow<'_, str> {
        Pod::version(&())
    }
    fn plural(_: &()) -> Cow<'_, str> {
        Pod::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
