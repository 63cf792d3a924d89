//! Keys that clients give so that a retry is not a second turn or a second session.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use paddock_api::http::ErrorCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use uuid::Uuid;

use crate::error::ApiError;

/// The header clients send.
pub const HEADER: &str = "Idempotency-Key";
/// Longest key.
const MAX_LEN: usize = 128;

/// A client's key, or one made here: 1 to 128 printable ASCII characters, no space at either end. It travels in
/// headers, which lose such spaces on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// A new key that no other request has.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7().to_string())
    }

    /// Reads a key; `source` names the field or header in an error.
    ///
    /// # Errors
    /// It is empty, too long, not printable ASCII, or has a space at an end.
    pub fn parse(text: &str, source: &str) -> Result<Self, ApiError> {
        let printable = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if text.is_empty() || text.trim() != text || text.len() > MAX_LEN || !printable {
            return Err(ApiError::new(
                ErrorCode::BadRequest,
                format!(
                    "{source}: must be 1 to {MAX_LEN} printable ASCII characters without a space at either end"
                ),
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The key in the request's `Idempotency-Key` header.
    ///
    /// # Errors
    /// It is malformed or doubled.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut values = headers.get_all(HEADER).iter();
        let first = values.next();
        if values.next().is_some() {
            return Err(ApiError::bad_request("Idempotency-Key is given more than once"));
        }
        first.map(|value| Self::parse(value.to_str().unwrap_or_default(), "Idempotency-Key")).transpose()
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl JsonSchema for Key {
    fn schema_name() -> Cow<'static, str> {
        "Key".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "minLength": 1, "maxLength": MAX_LEN, "pattern": "^[!-~]([ -~]*[!-~])?$",
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
