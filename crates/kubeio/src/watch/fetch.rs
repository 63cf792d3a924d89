//! The two requests of a watch: list everything, then follow from there.

use std::marker::PhantomData;
use std::time::Duration;

use kube::Resource;
use kube::client::Body;
use kube::core::params::{ListParams, WatchParams};
use kube::core::request::Request;
use serde::de::DeserializeOwned;

use super::{Scope, WatchOptions};
use crate::request::{self, Identity, Page, Repeat};
use crate::write::WriteError;

/// Small pages keep the peak of memory low: a page is held as full objects until it is decoded into what is kept.
const PAGE: u32 = 200;

pub(super) struct Fetcher<K> {
    client: kube::Client,
    path: Request,
    options: WatchOptions,
    kind: PhantomData<fn() -> K>,
}

/// Everything there is at one version.
pub(super) struct Listing<K> {
    pub(super) objects: Vec<K>,
    pub(super) undecodable: Vec<(serde_json::Error, Identity)>,
    pub(super) version: String,
}

impl<K: Resource<DynamicType = ()> + DeserializeOwned> Fetcher<K> {
    pub(super) fn new(client: kube::Client, options: WatchOptions) -> Self {
        let namespace = match &options.scope {
            Scope::Cluster => None,
            Scope::Namespace(namespace) => Some(namespace.as_str()),
        };
        let path = Request::new(K::url_path(&(), namespace));
        Self { client, path, options, kind: PhantomData }
    }

    /// A consistent list: no version is asked for, so no server may answer from a cache that lags behind what was
    /// seen before.
    pub(super) async fn list(&self) -> Result<Listing<K>, WriteError> {
        let mut params = ListParams {
            label_selector: self.options.label_selector.clone(),
            field_selector: self.options.field_selector.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let mut listing = Listing { objects: Vec::new(), undecodable: Vec::new(), version: String::new() };
        loop {
            let body = request::send(&self.client, self.path.list(&params), Repeat::Caller).await?;
            let page: Page<'_> = request::decode(&body, &format!("list of {}", K::plural(&())))?;
            for raw in page.items.unwrap_or_default() {
                match request::object(raw) {
                    Ok(object) => listing.objects.push(object),
                    Err(undecodable) => listing.undecodable.push(undecodable),
                }
            }
            if page.metadata.next.is_empty() {
                listing.version = page.metadata.resource_version;
                return Ok(listing);
            }
            params.continue_token = Some(page.metadata.next);
        }
    }

    /// Opens a watch that the server ends after `window`.
    pub(super) async fn watch(&self, version: &str, window: Duration) -> Result<Body, WriteError> {
        let params = WatchParams {
            label_selector: self.options.label_selector.clone(),
            field_selector: self.options.field_selector.clone(),
            timeout: Some(u32::try_from(window.as_secs()).unwrap_or(u32::MAX)),
            bookmarks: true,
            send_initial_events: false,
        };
        let response = request::open(&self.client, self.path.watch(&params, version), Repeat::Caller).await?;
        Ok(response.into_body())
    }
}
