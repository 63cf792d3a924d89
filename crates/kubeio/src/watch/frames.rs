//! The bytes of a watch, cut into lines and read as events.

use bytes::BytesMut;
use http::StatusCode;
use http_body_util::BodyExt;
use kube::client::Body;
use kube::core::Status;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::request::{self, Identity, causes};
use crate::write::WriteError;

/// No object in Kubernetes comes near this; a stream that does is not one of events.
const LONGEST_LINE: usize = 32 * 1024 * 1024;

/// One line of a watch.
#[derive(Debug)]
pub(super) enum Frame<K> {
    Applied(K),
    Deleted(K),
    /// Everything up to this version has been sent.
    Bookmark(String),
    Error(WriteError),
    Undecodable {
        deletion: bool,
        error: serde_json::Error,
        identity: Identity,
    },
    /// A type that a later Kubernetes may bring.
    Unknown(String),
}

#[derive(Deserialize)]
struct RawFrame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl<K: DeserializeOwned> Frame<K> {
    /// Fails only if the line is no event at all.
    pub(super) fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        let RawFrame { kind, object } = serde_json::from_slice(line)?;
        let undecodable = |deletion| move |(error, identity)| Self::Undecodable { deletion, error, identity };
        Ok(match kind {
            "ADDED" | "MODIFIED" => request::object(object).map_or_else(undecodable(false), Self::Applied),
            "DELETED" => request::object(object).map_or_else(undecodable(true), Self::Deleted),
            "BOOKMARK" => {
                Self::Bookmark(serde_json::from_str::<Identity>(object.get())?.metadata.resource_version)
            }
            "ERROR" => {
                let status: Status = serde_json::from_str(object.get())?;
                let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Self::Error(request::refused(code, None, status))
            }
            other => Self::Unknown(other.to_owned()),
        })
    }
}

/// Cuts a body into lines. A last line without an end is no event and is dropped.
pub(super) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line, or none at the end. May be dropped while it waits without losing anything.
    pub(super) async fn next(&mut self) -> Result<Option<BytesMut>, String> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end + 1);
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > LONGEST_LINE {
                return Err(format!("watch event of more than {LONGEST_LINE} bytes"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(format!("the watch broke off: {}", causes(&error))),
            }
        }
    }
}
