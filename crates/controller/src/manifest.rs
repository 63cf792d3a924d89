//! An object to create, sent as the JSON it was built as: a typed one would drop fields that are newer than this program.

use std::borrow::Cow;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Serialize;
use serde_json::Value;

/// The JSON of an object of kind `K`.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Manifest<K> {
    json: Value,
    #[serde(skip)]
    meta: ObjectMeta,
    #[serde(skip)]
    kind: PhantomData<K>,
}

impl<K> Manifest<K> {
    pub(crate) fn new(json: Value) -> Self {
        Self { json, meta: ObjectMeta::default(), kind: PhantomData }
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Manifest<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind(_: &()) -> Cow<'_, str> {
        K::kind(&())
    }
    fn group(_: &()) -> Cow<'_, str> {
        K::group(&())
    }
    fn version(_: &()) -> Cow<'_, str> {
        K::version(&())
    }
    fn plural(_: &()) -> Cow<'_, str> {
        K::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
