//! Bodies of answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use paddock_runnerapi::passage::PASSED_BACK;
use serde::Serialize;

use crate::auth::Place;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::http::request_id::RequestId;
use crate::metrics::Held;
use crate::relay::connections::Reply;
use crate::server::drain::Stage;
use crate::server::io::ActivityGuard;
use crate::server::upgrade::TakeOver;
use crate::streams::sse::Frames;

/// What an answer is made of.
pub enum Answer {
    /// Bytes at hand.
    Whole(Full<Bytes>),
    /// A runner's reply, passed on as it arrives.
    Relayed(Reply),
    /// A harness's stream without an end, passed on as it arrives. It ends when this gateway does.
    Passed(Reply, BoxFuture<'static, ()>),
    /// What happens, as it happens.
    Stream(Frames),
    /// No body: the connection becomes something else.
    Upgrade(TakeOver),
}

impl Answer {
    /// `value` as JSON, with status 200.
    pub fn json<T: Serialize>(value: &T) -> Response<Self> {
        // The types of `paddock_api::http` always serialise.
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        let mut response = Response::new(Self::Whole(Full::new(Bytes::from(bytes))));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// Plain text, with status 200. No client takes it for anything else.
    pub fn text(text: String) -> Response<Self> {
        let mut response = Response::new(Self::Whole(Full::new(Bytes::from(text))));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// Nothing, with status 204.
    pub fn no_content() -> Response<Self> {
        let mut response = Response::new(Self::Whole(Full::default()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }

    /// A runner's answer, as it arrives. Nothing of the pod's headers gets out but the kind of the body; its length is known
    /// from the body.
    pub fn relayed(answer: Response<Reply>) -> Response<Self> {
        let (head, body) = answer.into_parts();
        let mut response = Response::new(Self::Relayed(body));
        if let Some(kind) = head.headers.get(CONTENT_TYPE) {
            response.headers_mut().insert(CONTENT_TYPE, kind.clone());
        }
        response
    }

    /// A harness's own answer, as it arrives.
    pub fn passed(gateway: &Gateway, answer: Response<Reply>) -> Response<Self> {
        let (head, body) = answer.into_parts();
        let kind = head.headers.get(CONTENT_TYPE);
        let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let body = if is_stream {
            let drain = gateway.drain.clone();
            Self::Passed(body, async move { drain.reached(Stage::Closing).await }.boxed())
        } else {
            Self::Relayed(body)
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        let headers = response.headers_mut();
        for name in PASSED_BACK {
            if let Some(value) = head.headers.get(name) {
                headers.insert(name, value.clone());
            }
        }
        if is_stream {
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        }
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// An error.
    pub fn error(error: &ApiError, request_id: &RequestId) -> Response<Self> {
        error.to_response(request_id).map(|bytes| Self::Whole(Full::new(bytes)))
    }
}

/// A body that holds its request's marks until it is sent.
pub struct Tracked {
    body: Answer,
    _activity: ActivityGuard,
    _marks: Option<Marks>,
}

/// What a request holds until it is answered: its part of a gauge, and its place among those of its key.
pub type Marks = (Held, Option<Place>);

impl Tracked {
    /// Ties the marks to `body`.
    pub fn new(body: Answer, activity: ActivityGuard, marks: Marks) -> Self {
        Self { body, _activity: activity, _marks: Some(marks) }
    }

    /// No body, of an answer after which the request goes on.
    pub fn nothing(activity: ActivityGuard) -> Self {
        Self { body: Answer::Whole(Full::default()), _activity: activity, _marks: None }
    }
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().body {
            Answer::Whole(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
            Answer::Relayed(incoming) => Pin::new(incoming).poll_frame(cx),
            Answer::Passed(incoming, ending) => match ending.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => Pin::new(incoming).poll_frame(cx),
            },
            Answer::Stream(frames) => frames.poll(cx).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes)))),
            Answer::Upgrade(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Answer::Whole(full) => full.is_end_stream(),
            Answer::Relayed(incoming) => incoming.is_end_stream(),
            Answer::Passed(..) | Answer::Stream(_) => false,
            Answer::Upgrade(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Answer::Whole(full) => full.size_hint(),
            Answer::Relayed(incoming) => incoming.size_hint(),
            Answer::Passed(..) | Answer::Stream(_) => SizeHint::default(),
            Answer::Upgrade(_) => SizeHint::with_exact(0),
        }
    }
}
