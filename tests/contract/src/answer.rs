//! One answer of the document, and whether another one is like it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::HeaderMap;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, RETRY_AFTER, TRANSFER_ENCODING};
use serde_json::{Value, json};

use crate::Answered;
use crate::schema::{Components, Schema};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// An answer as the document has it.
#[derive(Debug)]
pub struct Response {
    headers: BTreeMap<String, Header>,
    /// By media type; none where the document says nothing of a body.
    content: BTreeMap<String, Schema>,
    /// Whether the document leaves the answer to somebody else, whom the gateway only relays.
    is_relayed: bool,
}

#[derive(Debug)]
struct Header {
    required: bool,
    schema: Schema,
}

impl Response {
    /// Those that operations share, by how these refer to them.
    pub fn shared(document: &Value, components: &Components) -> Result<BTreeMap<String, Arc<Self>>, String> {
        let shared = document["components"]["responses"].as_object().into_iter().flatten();
        let read = |(name, response): (&String, &Value)| {
            Ok((format!("#/components/responses/{name}"), Arc::new(Self::read(components, response)?)))
        };
        shared.map(read).collect()
    }

    /// Reads a response object, whose examples must be as it says itself.
    pub fn read(components: &Components, response: &Value) -> Result<Self, String> {
        let headers = response["headers"].as_object().into_iter().flatten();
        let headers = headers.map(|(name, header)| {
            let read = Header {
                required: header["required"] == true,
                schema: Schema::closed(&header["schema"], &components.nothing),
            };
            (name.to_ascii_lowercase(), read)
        });
        let mut content = BTreeMap::new();
        for (kind, body) in response["content"].as_object().into_iter().flatten() {
            let schema = Schema::closed(&body["schema"], &components.of_answers);
            if let Some(example) = body.get("example") {
                schema.check(example).map_err(|problem| format!("an example: {problem}"))?;
            }
            content.insert(kind.clone(), schema);
        }
        Ok(Self { headers: headers.collect(), content, is_relayed: response["x-relayed"] == true })
    }

    /// What is answered to a request that means no operation.
    pub fn refusal(components: &Components) -> Result<Self, String> {
        let text = json!({"schema": {"type": "string"}});
        let required = json!({"schema": {"type": "string"}, "required": true});
        let refusal = json!({
            "headers": {
                "x-request-id": required, ALLOW.as_str(): text, RETRY_AFTER.as_str(): text, "www-authenticate": text,
            },
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}},
        });
        Self::read(components, &refusal)
    }

    /// Checks an answer to a request that means nothing.
    pub fn check_refusal(&self, answered: Answered<'_>) -> Result<(), String> {
        if !matches!(answered.status, 400 | 401 | 404 | 405 | 408 | 429 | 431 | 503) {
            return Err("the document has no such operation".to_owned());
        }
        self.check(answered)
    }

    /// Checks an answer to a request whose path has these methods only.
    pub fn check_other_methods(
        &self,
        answered: Answered<'_>,
        methods: &BTreeSet<&str>,
    ) -> Result<(), String> {
        self.check_refusal(answered)?;
        if answered.status != 405 {
            return Ok(());
        }
        let allow = answered.headers.get(ALLOW).and_then(|allow| allow.to_str().ok()).unwrap_or_default();
        let allowed: BTreeSet<&str> = allow.split(',').map(str::trim).collect();
        if allowed == *methods {
            Ok(())
        } else {
            Err(format!("allow is {allowed:?}, and the document has {methods:?}"))
        }
    }

    /// Checks an answer.
    pub fn check(&self, answered: Answered<'_>) -> Result<(), String> {
        if self.is_relayed {
            return self.check_required(answered.headers);
        }
        self.check_headers(answered.headers)?;
        let kind = media_type(answered.headers);
        if self.content.is_empty() {
            let is_empty = kind.is_none() && answered.body.is_empty();
            return if is_empty { Ok(()) } else { Err("the document has no body here".to_owned()) };
        }
        let kind = kind.ok_or("it has no content type")?;
        let schema = self.content.get(&kind).ok_or_else(|| format!("the document has no {kind} here"))?;
        let text = || std::str::from_utf8(answered.body).map_err(|error| error.to_string());
        let parsed =
            |text: &str| serde_json::from_str::<Value>(text).map_err(|error| format!("{error}: {text}"));
        match kind.as_str() {
            JSON => schema.check(&parsed(text()?)?),
            EVENTS => text()?
                .lines()
                .filter_map(|line| line.strip_prefix("data: "))
                .try_for_each(|data| schema.check(&parsed(data)?)),
            _ => schema.check(&Value::String(text()?.to_owned())),
        }
    }

    /// Whether it is a stream of events.
    pub fn streams(&self) -> bool {
        self.content.contains_key(EVENTS)
    }

    /// Checks the data of an event.
    pub fn check_event(&self, data: &Value) -> Result<(), String> {
        self.content.get(EVENTS).ok_or("the document has no events here")?.check(data)
    }

    fn check_required(&self, headers: &HeaderMap) -> Result<(), String> {
        let missing =
            |(name, header): &(&String, &Header)| header.required && !headers.contains_key(name.as_str());
        match self.headers.iter().find(missing) {
            Some((name, _)) => Err(format!("the header {name} is missing")),
            None => Ok(()),
        }
    }

    fn check_headers(&self, headers: &HeaderMap) -> Result<(), String> {
        self.check_required(headers)?;
        for (name, value) in headers {
            // Of every HTTP answer; no document names them.
            if [CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, DATE].contains(name) {
                continue;
            }
            let header = self.headers.get(name.as_str());
            let header = header.ok_or_else(|| format!("the document has no header {name} here"))?;
            let text = value.to_str().map_err(|error| format!("header {name}: {error}"))?;
            header.schema.check_text(text).map_err(|problem| format!("header {name}: {problem}"))?;
        }
        Ok(())
    }
}

/// The content type without its parameters.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}
