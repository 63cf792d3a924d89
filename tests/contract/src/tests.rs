//! Each kind of difference between an answer and a small document is noticed.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::{Answered, Asked, Contract, Place};

fn document() -> Value {
    let id = json!({"name": "id", "in": "path", "schema": {"$ref": "#/components/schemas/Name"}});
    let limit = json!({"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 9}});
    let rest = json!({"name": "path", "in": "path", "schema": {"type": "string"}});
    let request_id = json!({"x-request-id": {"required": true, "schema": {"type": "string"}}});
    let schema = json!({"$ref": "#/components/schemas/Thing"});
    let thing = json!({"content": {"application/json": {"schema": schema, "example": {"name": "a"}}}});
    let event = json!({"content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/Event"}}}});
    json!({
        "paths": {
            "/things/{id}": {
                "get": {"parameters": [id, limit], "responses": {
                    "200": thing, "404": {"$ref": "#/components/responses/missing"},
                }},
                "delete": {"parameters": [id], "responses": {"204": {"headers": request_id}}},
                "put": {
                    "parameters": [id], "responses": {"200": thing},
                    "requestBody": {"content": {"application/json": {
                        "schema": {"$ref": "#/components/schemas/Thing"}, "examples": {"one": {"value": {"name": "a"}}},
                    }}},
                },
            },
            "/things/{id}/events": {"get": {"parameters": [id], "responses": {"200": event}}},
            "/things/{id}/relay/{path}": {"get": {"parameters": [id, rest], "responses": {
                "default": {"headers": request_id, "x-relayed": true},
            }}},
        },
        "components": {
            "responses": {"missing": {
                "headers": request_id,
                "content": {"application/json": {"schema": {
                    "$ref": "#/components/schemas/ErrorResponse", "properties": {"code": {"enum": ["missing"]}},
                }}},
            }},
            "schemas": {
                "Name": {"type": "string", "pattern": "^[a-z]+$"},
                "Thing": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"},
                    "more": {"anyOf": [{"$ref": "#/components/schemas/Thing"}, {"type": "null"}]},
                    "foreign": {"type": "object", "properties": {"kind": {}}, "additionalProperties": true},
                }},
                "Event": {"oneOf": [
                    {"type": "object", "required": ["type"], "properties": {"type": {"const": "ready"}}},
                    {"type": "object", "required": ["type", "properties"], "properties": {
                        "type": {"const": "gap"}, "properties": {"type": "object"},
                    }},
                ]},
                "ErrorResponse": {"type": "object", "required": ["code"], "properties": {"code": {"type": "string"}}},
            },
        },
    })
}

fn contract() -> Contract {
    Contract::new(&document()).unwrap()
}

#[test]
fn a_document_that_says_nothing_is_refused() {
    for (pointer, value, problem) in [
        ("/components/schemas/Thing/type", json!("objct"), "Thing is no schema"),
        ("/paths/~1things~1{id}/get/parameters", json!([]), "the path's id is no parameter"),
        ("/paths/~1things~1{id}/get/responses/404/$ref", json!("#/x"), "#/x is not in the document"),
        (
            "/paths/~1things~1{id}/get/responses/200/content/application~1json/example",
            json!({}),
            "an example",
        ),
        ("/paths", json!(null), "no paths"),
    ] {
        let mut document = document();
        *document.pointer_mut(pointer).unwrap() = value;
        let refused = Contract::new(&document).unwrap_err().to_string();
        assert!(refused.contains(problem), "{pointer}: {refused}");
    }
}

fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
    let each =
        list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    each.collect()
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json; charset=utf-8"), ("content-length", "1")];
const ERROR: &[(&str, &str)] = &[("content-type", "application/json"), ("x-request-id", "r")];

#[track_caller]
fn check(asked: (&str, &str), status: u16, head: &[(&'static str, &'static str)], body: &str) -> String {
    let asked = Asked { method: asked.0, target: asked.1, body: br#"{"name": "a"}"# };
    let answered = Answered { status, headers: &headers(head), body: body.as_bytes() };
    contract().check(asked, answered).err().map(|violation| violation.to_string()).unwrap_or_default()
}

const GET: (&str, &str) = ("GET", "/things/a?b=c");

#[test]
fn an_answer_as_documented_is_fine() {
    let nested = r#"{"name": "a", "more": {"name": "b", "more": null}, "foreign": {"kind": 1, "any": 2}}"#;
    assert_eq!(check(GET, 200, JSON, nested), "");
    assert_eq!(check(GET, 404, ERROR, r#"{"code": "missing"}"#), "");
    assert_eq!(check(("DELETE", "/things/a"), 204, &[("x-request-id", "r")], ""), "");
    assert_eq!(check(("PUT", "/things/a"), 200, JSON, r#"{"name": "a"}"#), "");
}

#[test]
fn a_wrong_status_is_noticed() {
    assert!(
        check(GET, 202, JSON, r#"{"name": "a"}"#)
            .contains("GET /things/a?b=c -> 202: the operation has no such status")
    );
}

#[test]
fn a_wrong_body_is_noticed() {
    for (body, problem) in [
        ("{}", "\"name\" is a required property"),
        (r#"{"name": 1}"#, "not of type \"string\""),
        (r#"{"name": "a", "new": 1}"#, "'new' was unexpected"),
        (r#"{"name": "a", "more": {"name": "b", "new": 1}}"#, "not valid under any"),
        ("nonsense", "expected ident"),
    ] {
        assert!(check(GET, 200, JSON, body).contains(problem), "{body}: {}", check(GET, 200, JSON, body));
    }
    assert!(check(GET, 404, ERROR, r#"{"code": "other"}"#).contains("\"other\""));
    assert!(check(GET, 404, ERROR, r#"{"code": "missing", "new": 1}"#).contains("'new' was unexpected"));
    assert!(check(("DELETE", "/things/a"), 204, &[("x-request-id", "r")], "x").contains("no body"));
}

#[test]
fn a_wrong_head_is_noticed() {
    let thing = r#"{"name": "a"}"#;
    assert!(check(GET, 200, &[], thing).contains("no content type"));
    assert!(check(GET, 200, &[("content-type", "text/html")], thing).contains("no text/html"));
    let more = [("content-type", "application/json"), ("set-cookie", "a=b")];
    assert!(check(GET, 200, &more, thing).contains("no header set-cookie"));
    assert!(check(GET, 404, JSON, r#"{"code": "missing"}"#).contains("header x-request-id is missing"));
}

#[test]
fn a_request_that_was_taken_and_is_not_documented_is_noticed() {
    let asked = Asked { method: "PUT", target: "/things/a", body: br#"{"unknown": 1}"# };
    let answered = Answered { status: 200, headers: &headers(JSON), body: br#"{"name": "a"}"# };
    let problem = contract().check(asked, answered).unwrap_err().to_string();
    assert!(problem.contains("its request was taken") && problem.contains("name"), "{problem}");
    for (query, refused) in
        [("limit=9&other=x", false), ("limit=10", true), ("limit=x", true), ("limit=%39", false)]
    {
        let asked = Asked { method: "GET", target: &format!("/things/a?{query}"), body: &[] };
        assert_eq!(contract().check(asked, answered).is_err(), refused, "{query}");
    }
    let unknown = Asked { body: br#"{"name": "a", "unknown": 1}"#, ..asked };
    assert_eq!(contract().check(unknown, answered), Ok(()), "clients may send more");
}

#[test]
fn what_means_no_operation_is_refused() {
    let error = r#"{"code": "not_found"}"#;
    assert_eq!(check(("GET", "/nothing"), 404, ERROR, error), "");
    assert!(check(("GET", "/nothing"), 200, JSON, "{}").contains("no such operation"));
    assert!(check(("GET", "/things/a/b"), 200, JSON, "{}").contains("no such operation"));
    // What is no name means nothing.
    assert_eq!(check(("GET", "/things/A1"), 404, ERROR, error), "");
    assert_eq!(check(("PATCH", "/things/A1"), 404, ERROR, error), "");
}

#[test]
fn another_method_is_told_all_that_there_are() {
    let allow = |methods| [("content-type", "application/json"), ("x-request-id", "r"), ("allow", methods)];
    let patch = ("PATCH", "/things/a");
    assert_eq!(check(patch, 405, &allow("GET, PUT, DELETE"), r#"{"code": "x"}"#), "");
    for wrong in ["GET, DELETE", "GET, PUT, DELETE, POST", ""] {
        assert!(check(patch, 405, &allow(wrong), r#"{"code": "x"}"#).contains("allow is"), "{wrong}");
    }
}

#[test]
fn events_are_checked_one_by_one_and_in_a_whole_stream() {
    let contract = contract();
    let asked = Asked { method: "GET", target: "/things/a/events", body: &[] };
    let event = |data: Value| contract.check_event(asked, &data).map_err(|violation| violation.to_string());
    assert_eq!(event(json!({"type": "ready"})), Ok(()));
    assert_eq!(event(json!({"type": "gap", "properties": {"any": 1}})), Ok(()));
    for wrong in [json!({"type": "ready", "new": 1}), json!({"type": "gap"}), json!({"type": "x"})] {
        assert!(event(wrong.clone()).unwrap_err().starts_with("an event of GET"), "{wrong}");
    }
    let stream =
        |body| check(("GET", "/things/a/events"), 200, &[("content-type", "text/event-stream")], body);
    assert_eq!(stream("id: 1.1\ndata: {\"type\": \"ready\"}\n\n: heartbeat\n\n"), "");
    assert!(stream("id: 1.1\ndata: {\"type\": \"new\"}\n\n").contains("new"));
    let streams = contract.operations().iter().filter(|operation| operation.streams());
    assert_eq!(
        streams.map(|operation| operation.template.as_str()).collect::<Vec<_>>(),
        ["/things/{id}/events"]
    );
}

#[test]
fn what_is_relayed_may_be_anything_below_its_path() {
    let relayed = |head| check(("GET", "/things/a/relay/b/c"), 418, head, "tea");
    assert_eq!(relayed(&[("x-request-id", "r"), ("x-any", "1"), ("content-type", "text/plain")]), "");
    assert!(relayed(&[]).contains("x-request-id is missing"));
}

#[test]
fn what_can_be_asked_is_told() {
    let contract = contract();
    let operation =
        |method: &str| contract.operations().iter().find(|operation| operation.method == method).unwrap();
    assert_eq!(operation("PUT").examples, [json!({"name": "a"})]);
    assert_eq!(operation("GET").wrong_parameters(), [(Place::Query, "limit", "!".to_owned())]);
}
