//! Makes the document of the operations.

use std::collections::BTreeMap;

use http::Method;
use paddock_api::http::{ErrorCode, ErrorResponse};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use strum::IntoEnumIterator;

use super::operation::{
    Answer, Body, Content, Header, NamesTurn, OpensTo, Operation, Parameter, Place, Shape, Tag,
};
use super::{operations, parameters};
use crate::routes::router::{self, RouteKind};

const DESCRIPTION: &str = "Coding agents on a Kubernetes cluster. Unknown members of requests are ignored, and answers may gain \
    members. Each stream of events sends a comment every 15 s while nothing happens. Another method of a path that is here is \
    answered with 405, `method_not_allowed` and the header `allow`, any other path with 404 and `not_found`.";

/// Errors of any request: its head cannot be read or is too slow, or something broke here.
const OF_ANY: &[ErrorCode] =
    &[ErrorCode::BadRequest, ErrorCode::RequestTimeout, ErrorCode::HeadersTooLarge, ErrorCode::Internal];
/// Errors of any request that needs a key.
const OF_API: &[ErrorCode] = &[
    ErrorCode::Unauthorized,
    ErrorCode::RateLimited,
    ErrorCode::TooManyInFlight,
    ErrorCode::NotSynced,
    ErrorCode::Draining,
];
/// Errors of any request with a body.
const OF_BODY: &[ErrorCode] = &[ErrorCode::TooLarge, ErrorCode::UnsupportedMediaType];

/// The document, its keys in alphabetical order.
pub fn document() -> Value {
    let mut document = Writer::new().document();
    document.sort_all_objects();
    document
}

pub(super) struct Writer {
    /// Of what clients send.
    pub(super) requests: SchemaGenerator,
    /// Of what they are sent.
    pub(super) answers: SchemaGenerator,
    /// Error answers that operations share, by name.
    errors: Map<String, Value>,
}

impl Writer {
    pub(super) fn new() -> Self {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = "/components/schemas".into();
        settings.transforms.push(Box::new(RecursiveTransform(without_null_default)));
        Self {
            requests: settings.clone().for_deserialize().into_generator(),
            answers: settings.for_serialize().into_generator(),
            errors: Map::new(),
        }
    }

    pub(super) fn paths(&mut self) -> Map<String, Value> {
        let mut paths = Map::new();
        for kind in RouteKind::iter() {
            let operation = operations::of(kind);
            let path = paths.entry(router::path_of(operation.template)).or_insert_with(|| json!({}));
            for method in &operation.methods {
                path[method.as_str().to_ascii_lowercase()] = self.operation(kind, method, &operation);
            }
        }
        paths
    }

    fn document(mut self) -> Value {
        let paths = self.paths();
        let mut schemas = self.requests.take_definitions(true);
        schemas.extend(self.answers.take_definitions(true));
        let tags: Vec<Value> = Tag::iter().map(|tag| json!({"name": tag_name(tag)})).collect();
        json!({
            "openapi": "3.1.1",
            "info": {
                "title": "Paddock",
                "version": env!("CARGO_PKG_VERSION"),
                "description": DESCRIPTION,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{"key": []}, {"password": []}],
            "tags": tags,
            "paths": paths,
            "components": {
                "schemas": schemas,
                "responses": self.errors,
                "securitySchemes": {
                    "key": {
                        "type": "http", "scheme": "bearer",
                        "description": "The master key, or a scoped one.",
                    },
                    "password": {
                        "type": "http", "scheme": "basic",
                        "description": "The same key as the password, with any user name.",
                    },
                    "token": {
                        "type": "apiKey", "in": "query", "name": "token",
                        "description": "The session's `tty_token`, or a key.",
                    },
                },
            },
        })
    }

    fn operation(&mut self, kind: RouteKind, method: &Method, operation: &Operation) -> Value {
        let name: &'static str = kind.into();
        let id = match operation.methods.len() {
            1 => name.to_owned(),
            // Each operation has an id of its own.
            _ => format!("{name}_{}", method.as_str().to_ascii_lowercase()),
        };
        let mut written = json!({
            "operationId": id, "tags": [tag_name(operation.tag)], "summary": operation.summary,
            "responses": self.responses(method, operation),
        });
        let of_path = names_in(operation.template).map(parameters::in_path);
        let all = of_path.chain([parameters::request_id()]);
        let mut parameters: Vec<Value> = all.map(|parameter| self.parameter(&parameter)).collect();
        parameters.extend(operation.parameters.iter().map(|parameter| self.parameter(parameter)));
        written["parameters"] = json!(parameters);
        if !operation.description.is_empty() {
            written["description"] = json!(operation.description);
        }
        if let Some(body) = &operation.body {
            written["requestBody"] = self.body(body);
        }
        match operation.opens_to {
            OpensTo::Everybody => written["security"] = json!([]),
            OpensTo::Keys => {}
            OpensTo::KeysAndTokens => {
                written["security"] = json!([{"key": []}, {"password": []}, {"token": []}]);
            }
        }
        written
    }

    fn parameter(&mut self, parameter: &Parameter) -> Value {
        let schema = match &parameter.shape {
            Shape::Of(schema) => schema(&mut self.requests).to_value(),
            Shape::Like(schema) => schema.clone(),
        };
        let place = match parameter.place {
            Place::Path => "path",
            Place::Query => "query",
            Place::Header => "header",
        };
        let mut written = json!({
            "name": parameter.name, "in": place, "description": parameter.description, "schema": schema,
        });
        if parameter.place == Place::Path {
            written["required"] = json!(true);
        }
        written
    }

    fn body(&mut self, body: &Body) -> Value {
        let mut schema: Schema = (body.schema)(&mut self.requests);
        if !body.required_members.is_empty() {
            schema.insert("required".to_owned(), json!(body.required_members));
        }
        let examples: Map<String, Value> =
            body.examples.iter().map(|(name, value)| ((*name).to_owned(), json!({"value": value}))).collect();
        json!({
            "required": body.required,
            "content": {"application/json": {"schema": schema, "examples": examples}},
        })
    }

    fn responses(&mut self, method: &Method, operation: &Operation) -> Value {
        let mut codes: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
        let at_own =
            |codes: &[ErrorCode]| codes.iter().map(|code| (code.status(), *code)).collect::<Vec<_>>();
        let mut all = at_own(OF_ANY);
        all.extend(&operation.errors);
        if operation.opens_to != OpensTo::Everybody {
            all.extend(at_own(OF_API));
            if *method != Method::GET {
                all.push((ErrorCode::Forbidden.status(), ErrorCode::Forbidden));
            }
        }
        if operation.body.is_some() {
            all.extend(at_own(OF_BODY));
        }
        for (status, code) in all {
            codes.entry(status).or_default().push(code);
        }
        let mut responses = Map::new();
        for answer in &operation.answers {
            let of_errors = codes.remove(&answer.status).unwrap_or_default();
            responses.insert(answer.status.to_string(), self.answer(answer, of_errors, operation.names_turn));
        }
        for (status, codes) in codes {
            responses.insert(status.to_string(), self.error(status, codes, operation.names_turn));
        }
        if let Some(description) = operation.relayed {
            let usual = parameters::answer_headers(200, operation.names_turn);
            let relayed =
                json!({"description": description, "headers": headers(usual.iter()), "x-relayed": true});
            responses.insert("default".to_owned(), relayed);
        }
        Value::Object(responses)
    }

    fn answer(&mut self, answer: &Answer, errors: Vec<ErrorCode>, names_turn: NamesTurn) -> Value {
        let usual = parameters::answer_headers(answer.status, names_turn);
        let mut written = json!({
            "description": answer.description,
            "headers": headers(usual.iter().chain(&answer.headers)),
        });
        let (kind, schema) = match answer.content {
            Content::Nothing => return written,
            Content::Json(schema) if errors.is_empty() => {
                ("application/json", schema(&mut self.answers).to_value())
            }
            Content::Json(schema) => {
                let schemas = [schema(&mut self.answers).to_value(), self.error_schema(errors)];
                ("application/json", json!({"anyOf": schemas}))
            }
            Content::Events(schema) => ("text/event-stream", schema(&mut self.answers).to_value()),
            Content::Text => ("text/plain", json!({"type": "string"})),
        };
        written["content"] = json!({kind: {"schema": schema}});
        if let Some(example) = &answer.example {
            written["content"][kind]["example"] = example.clone();
        }
        written
    }

    /// The answer to an error with one of these codes; operations that have the same share it.
    fn error(&mut self, status: u16, mut codes: Vec<ErrorCode>, names_turn: NamesTurn) -> Value {
        codes.sort_unstable_by_key(|code| code.as_str());
        codes.dedup();
        let words: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        let turn = match names_turn {
            NamesTurn::Never => "",
            NamesTurn::OnceKnown => ".known_turn",
            NamesTurn::Always => ".turn",
        };
        let name = format!("{status}.{}{turn}", words.join("."));
        if !self.errors.contains_key(&name) {
            let usual = parameters::answer_headers(status, names_turn);
            let written = json!({
                "description": words.join(", "),
                "headers": headers(usual.iter()),
                "content": {"application/json": {"schema": self.error_schema(codes)}},
            });
            self.errors.insert(name.clone(), written);
        }
        json!({"$ref": format!("#/components/responses/{name}")})
    }

    fn error_schema(&mut self, codes: Vec<ErrorCode>) -> Value {
        let mut schema = self.answers.subschema_for::<ErrorResponse>();
        let words: Vec<&str> = codes.into_iter().map(ErrorCode::as_str).collect();
        schema.insert("properties".to_owned(), json!({"code": {"enum": words}}));
        schema.to_value()
    }
}

/// A member that may be left out is not the same as one that is null.
fn without_null_default(schema: &mut Schema) {
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
}

fn headers<'a>(headers: impl Iterator<Item = &'a Header>) -> Value {
    let written = headers.map(|header| {
        let mut written = json!({"description": header.description, "schema": header.schema});
        if header.required {
            written["required"] = json!(true);
        }
        (header.name.to_owned(), written)
    });
    Value::Object(written.collect())
}

fn names_in(template: &'static str) -> impl Iterator<Item = &'static str> {
    template.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn tag_name(tag: Tag) -> &'static str {
    tag.into()
}
