//! The document has every route, and nothing else.

use std::collections::BTreeMap;

use http::Method;
use strum::IntoEnumIterator;

use super::write::Writer;
use super::{document, operations};
use crate::routes::router::{Resolved, RouteKind, path_of, resolve};

fn filled(template: &str) -> String {
    path_of(template).replace("{id}", "a").replace("{turn}", "b").replace("{path}", "c")
}

#[test]
fn every_operation_is_the_route_that_it_describes() {
    for kind in RouteKind::iter() {
        let operation = operations::of(kind);
        for method in &operation.methods {
            let resolved = resolve(method, &filled(operation.template));
            assert_eq!(resolved.template(), operation.template, "{kind:?}");
            let Resolved::Route(route) = resolved else {
                panic!("{method} {} is no route", operation.template)
            };
            assert_eq!(RouteKind::from(route), kind, "{method} {}", operation.template);
        }
    }
}

#[test]
fn a_path_takes_the_methods_that_the_document_has_and_no_others() {
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "a").replace("{turn}", "b").replace("{path}", "c");
        for method in [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE, Method::HEAD] {
            let documented = item.get(method.as_str().to_ascii_lowercase()).is_some();
            let routed = matches!(resolve(&method, &path), Resolved::Route(_));
            assert_eq!(documented, routed, "{method} {path}");
        }
    }
}

#[test]
fn operations_have_names_of_their_own() {
    let document = document();
    let mut seen = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            assert_eq!(seen.insert(id, (path, method)), None);
            assert!(!operation["summary"].as_str().unwrap().is_empty());
        }
    }
    assert!(seen.contains_key("sendMessage") && seen.contains_key("openApi"), "{seen:?}");
}

#[test]
fn a_schema_of_requests_and_one_of_answers_with_the_same_name_are_the_same() {
    let mut writer = Writer::new();
    writer.paths();
    let (of_requests, of_answers) = (writer.requests.definitions(), writer.answers.definitions());
    let of_both = of_requests.keys().filter(|name| of_answers.contains_key(*name));
    let of_both: Vec<_> =
        of_both.inspect(|name| assert_eq!(of_requests[*name], of_answers[*name], "{name}")).collect();
    assert!(of_both.iter().any(|name| *name == "HarnessPart"), "{of_both:?}");
}
