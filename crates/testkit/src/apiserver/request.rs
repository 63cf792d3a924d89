//! What a request asks for.

use std::sync::Arc;

use super::kinds::{Kind, Kinds};
use super::refusal::Refusal;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// Many objects.
    List,
    /// What changes.
    Watch,
    /// A new object.
    Create,
    /// An object in place of another version.
    Update,
    /// A merge patch.
    Patch,
    /// The end of an object.
    Delete,
}

impl Verb {
    /// Whether it changes anything.
    pub fn writes(self) -> bool {
        match self {
            Self::Get | Self::List | Self::Watch => false,
            Self::Create | Self::Update | Self::Patch | Self::Delete => true,
        }
    }
}

/// Which part of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The object itself.
    Main,
    /// Its status.
    Status,
}

/// One request, understood.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked for.
    pub verb: Verb,
    /// Of which kind.
    pub kind: Arc<Kind>,
    pub(super) index: usize,
    /// Empty for all namespaces and for kinds without.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// Main or status.
    pub part: Part,
    /// Query parameters.
    pub query: Query,
}

/// The query parameters that mean something here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Of labels.
    pub label_selector: String,
    /// Of fields.
    pub field_selector: String,
    /// From where a watch starts, or how old a read may be.
    pub resource_version: String,
    /// Seconds after which a watch ends.
    pub timeout_seconds: Option<u32>,
    /// Whether a watch may send bookmarks.
    pub bookmarks: bool,
    /// Objects in a page.
    pub limit: Option<usize>,
    /// Where the page before ended.
    pub next: String,
}

impl Call {
    pub(super) fn parse(kinds: &Kinds, method: &http::Method, uri: &http::Uri) -> Result<Self, Refusal> {
        let mut rest = uri.path().trim_matches('/').split('/').collect::<Vec<_>>().into_iter();
        let (group, version) = match rest.next() {
            Some("api") => ("", rest.next().unwrap_or_default()),
            Some("apis") => (rest.next().unwrap_or_default(), rest.next().unwrap_or_default()),
            _ => return Err(Refusal::no_such_path()),
        };
        let parts: Vec<&str> = rest.collect();
        // "namespaces" names a kind of its own, unless a kind in that namespace follows.
        let (namespace, plural, name, sub) = match parts[..] {
            [plural] => ("", plural, "", ""),
            ["namespaces", name] => ("", "namespaces", name, ""),
            ["namespaces", name, sub @ ("status" | "finalize")] => ("", "namespaces", name, sub),
            ["namespaces", namespace, plural] => (namespace, plural, "", ""),
            ["namespaces", namespace, plural, name] => (namespace, plural, name, ""),
            ["namespaces", namespace, plural, name, sub] => (namespace, plural, name, sub),
            [plural, name] => ("", plural, name, ""),
            [plural, name, sub] => ("", plural, name, sub),
            _ => return Err(Refusal::no_such_path()),
        };
        let index = kinds.by_path(group, version, plural).ok_or_else(Refusal::no_such_path)?;
        let kind = kinds.get(index).clone();
        let part = match sub {
            "" => Part::Main,
            "status" if kind.status => Part::Status,
            _ if kind.traits.custom => return Err(Refusal::not_found(&kind, name)),
            _ => return Err(Refusal::no_such_path()),
        };
        let (query, watch) = Query::parse(uri.query().unwrap_or_default());
        let verb = match (method.as_str(), name.is_empty()) {
            ("GET", true) if watch => Verb::Watch,
            ("GET", true) => Verb::List,
            ("GET", false) => Verb::Get,
            ("POST", true) => Verb::Create,
            ("PUT", false) => Verb::Update,
            ("PATCH", false) => Verb::Patch,
            ("DELETE", false) => Verb::Delete,
            _ => {
                return Err(Refusal::new(
                    405,
                    "MethodNotAllowed",
                    "the server does not allow this method on the requested resource",
                ));
            }
        };
        if kind.namespaced && namespace.is_empty() && !matches!(verb, Verb::List | Verb::Watch) {
            return Err(Refusal::no_such_path());
        }
        Ok(Self { verb, kind, index, namespace: namespace.to_owned(), name: name.to_owned(), part, query })
    }
}

impl Query {
    fn parse(query: &str) -> (Self, bool) {
        let mut parsed = Self::default();
        let mut watch = false;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let truth = matches!(&*value, "true" | "1");
            match &*key {
                "labelSelector" => parsed.label_selector = value.into_owned(),
                "fieldSelector" => parsed.field_selector = value.into_owned(),
                "resourceVersion" => parsed.resource_version = value.into_owned(),
                "timeoutSeconds" => parsed.timeout_seconds = value.parse().ok(),
                "allowWatchBookmarks" => parsed.bookmarks = truth,
                "limit" => parsed.limit = value.parse().ok().filter(|limit| *limit > 0),
                "continue" => parsed.next = value.into_owned(),
                "watch" => watch = truth,
                _ => {}
            }
        }
        (parsed, watch)
    }
}
