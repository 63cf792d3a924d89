//! A stream of events, followed.

use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use crate::LIVENESS;
use crate::contract::Expectation;

/// A stream of server-sent events, read as a plain client would.
pub struct Watcher {
    expectation: Expectation,
    response: Response,
    read: String,
}

/// An event and its id.
pub struct Told {
    /// Its id.
    pub id: String,
    /// Its data.
    pub data: Value,
}

impl Watcher {
    /// Sends a request for a stream.
    ///
    /// # Panics
    /// When the answer is none.
    pub async fn begin(request: RequestBuilder) -> Self {
        let (client, request) = request.build_split();
        let request = request.expect("a request");
        let expectation = Expectation::of(&request);
        let response = client.execute(request).await.expect("an answer");
        assert_eq!(response.status().as_u16(), 200, "{:?}", response.headers());
        expectation.check(200, response.headers(), &[]);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        Self { expectation, response, read: String::new() }
    }

    /// The next event; nothing once the stream has ended.
    ///
    /// # Panics
    /// When none comes, or one that the OpenAPI document does not have.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((frame, rest)) = self.read.split_once("\n\n") {
                let (frame, rest) = (frame.to_owned(), rest.to_owned());
                self.read = rest;
                if frame.starts_with(':') {
                    continue;
                }
                let (id, data) = frame.split_once('\n').expect("an id and data");
                let id = id.strip_prefix("id: ").expect("each event has an id").to_owned();
                let data = data.strip_prefix("data: ").expect("data");
                let data = serde_json::from_str(data).expect("JSON");
                self.expectation.check_event(&data);
                return Some(Told { id, data });
            }
            let chunk = tokio::time::timeout(LIVENESS, self.response.chunk()).await;
            let chunk = chunk.expect("the stream goes on").expect("the stream is not cut")?;
            self.read.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// Everything up to the first event for which this holds.
    ///
    /// # Panics
    /// When the stream ends before it.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Vec<Told> {
        let mut all = Vec::new();
        loop {
            let told = self.next().await.unwrap_or_else(|| panic!("the stream ended before {what}"));
            let is_it = holds(&told.data);
            all.push(told);
            if is_it {
                return all;
            }
        }
    }
}
