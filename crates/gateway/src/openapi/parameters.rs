//! Parameters and headers that more than one operation has.

use paddock_runnerapi::{RESPOND_ASYNC, TURN_ID_HEADER};
use paddock_websocket::handshake;
use schemars::JsonSchema;
use serde_json::json;

use super::operation::{Header, NamesTurn, Parameter, Place, Shape, schema_of};
use crate::http::idempotency::{self, Key};
use crate::http::query::Number;
use crate::http::request_id::REQUEST_ID_HEADER;
use crate::routes::router::ObjectName;

/// A number in the query.
pub fn number(of: &Number, description: &str) -> Parameter {
    let mut schema = json!({"type": "integer", "minimum": of.least, "default": of.default});
    if of.most < usize::MAX {
        schema["maximum"] = json!(of.most);
    }
    query(of.name, Shape::Like(schema), description)
}

/// A word in the query, one of those that `T` has.
pub fn word<T: JsonSchema>(name: &'static str, description: &str) -> Parameter {
    query(name, Shape::Of(schema_of::<T>), description)
}

/// Any text in the query.
pub fn text(name: &'static str, description: &str) -> Parameter {
    query(name, Shape::Like(json!({"type": "string"})), description)
}

/// Something else in the query.
pub fn query(name: &'static str, shape: Shape, description: &str) -> Parameter {
    Parameter { name, place: Place::Query, description: description.to_owned(), shape }
}

/// How long the answer may take to become what is waited for.
pub fn wait(description: &str) -> Parameter {
    let pattern = "^([0-9]+|([0-9]+(ms|s|m|h))+)$";
    query(
        "wait",
        Shape::Like(json!({"type": "string", "pattern": pattern, "examples": ["30s"]})),
        description,
    )
}

/// `Prefer`, where only its `wait` counts.
pub fn prefer_wait() -> Parameter {
    prefer("`wait=30` is both `?wait=30s` and the client's own deadline for the answer.".to_owned())
}

/// `Prefer`, where a message may be answered at once.
pub fn prefer_async() -> Parameter {
    prefer(format!(
        "`{RESPOND_ASYNC}` asks to be answered once the turn is accepted. `wait=30` is both `?wait=30s` and the client's own \
         deadline for the answer."
    ))
}

fn prefer(description: String) -> Parameter {
    let shape = Shape::Like(json!({"type": "string", "examples": ["wait=30"]}));
    Parameter { name: "Prefer", place: Place::Header, description, shape }
}

/// `Idempotency-Key`.
pub fn idempotency_key(description: &str) -> Parameter {
    Parameter {
        name: idempotency::HEADER,
        place: Place::Header,
        description: description.to_owned(),
        shape: Shape::Of(schema_of::<Key>),
    }
}

/// Where a stream goes on, as a header and, for those who cannot send it, in the query.
pub fn resumes() -> [Parameter; 2] {
    let id = || Shape::Like(json!({"type": "string", "pattern": r"^[0-9]+\.[0-9]+$", "examples": ["1.17"]}));
    let header = "The id of the last event that the client has; the stream goes on after it.";
    [
        Parameter {
            name: "Last-Event-ID",
            place: Place::Header,
            description: header.to_owned(),
            shape: id(),
        },
        query("after", id(), "The same, for clients that cannot send headers. The header counts."),
    ]
}

/// A parameter of a path, by its name in templates.
pub fn in_path(name: &'static str) -> Parameter {
    let (description, shape) = match name {
        "id" => ("The name of the Kubernetes object.", Shape::Of(schema_of::<ObjectName>)),
        "turn" => ("The turn's id, percent-encoded.", Shape::Of(schema_of::<Key>)),
        _ => ("The rest of the path.", Shape::Like(json!({"type": "string"}))),
    };
    Parameter { name, place: Place::Path, description: description.to_owned(), shape }
}

/// The id of a request, in and out.
pub fn request_id() -> Parameter {
    Parameter {
        name: REQUEST_ID_HEADER,
        place: Place::Header,
        description: "Names the request in answers and logs; made where there is none.".to_owned(),
        shape: Shape::Like(json!({"type": "string"})),
    }
}

/// Headers that any answer may have.
pub fn answer_headers(status: u16, names_turn: NamesTurn) -> Vec<Header> {
    let text = || json!({"type": "string"});
    let mut headers = vec![Header {
        name: REQUEST_ID_HEADER,
        required: true,
        description: "Names the request.",
        schema: text(),
    }];
    if names_turn != NamesTurn::Never {
        headers.push(Header {
            name: TURN_ID_HEADER,
            // A head that cannot be read is refused before anybody knows what it asks for.
            required: names_turn == NamesTurn::Always && !matches!(status, 400 | 408 | 431),
            description: "Names the turn; as Idempotency-Key of a retry it joins it.",
            schema: text(),
        });
    }
    if status == 401 {
        headers.push(Header {
            name: "www-authenticate",
            required: true,
            description: "The scheme.",
            schema: json!({"const": "Bearer"}),
        });
    }
    if matches!(status, 404 | 409 | 429 | 503 | 504) {
        headers.push(Header {
            name: "retry-after",
            required: status == 429,
            description: "After how many seconds it is worth a try.",
            schema: json!({"type": "integer", "minimum": 1}),
        });
    }
    if status == 426 {
        let says = |name, description, value| Header {
            name,
            required: true,
            description,
            schema: json!({"const": value}),
        };
        headers.extend([
            says("upgrade", "What the connection has to become.", "websocket"),
            says("sec-websocket-version", "The version that is spoken.", handshake::VERSION),
        ]);
    }
    headers
}

/// Headers of a stream of events.
pub fn stream_headers() -> [Header; 2] {
    [
        Header {
            name: "cache-control",
            required: true,
            description: "A stream is not kept.",
            schema: json!({"const": "no-cache"}),
        },
        Header {
            name: "x-accel-buffering",
            required: true,
            description: "Proxies shall not hold it back.",
            schema: json!({"const": "no"}),
        },
    ]
}
