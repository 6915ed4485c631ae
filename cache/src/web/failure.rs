//! A request that was not served: status, code and message, before they have the form of a port. Which error becomes
//! which status is in `status`, the form in `error_document`.

use std::fmt::Display;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};

use super::response_headers;
use crate::object::{ObjectId, Said};

/// Seconds after which a refused client may try again: a short overload is over by then.
const RETRY_SECONDS: u16 = 1;

/// A request that was not served. It travels in the response's extensions until the middleware gives it a body, because
/// only the middleware knows the request's id.
#[derive(Debug, Clone)]
pub(crate) struct Failure(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    code: String,
    message: String,
    bucket: Option<String>,
    key: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    detail: Option<(&'static str, serde_json::Value)>,
    said: Option<Arc<Said>>,
    routine: bool,
}

/// Why a request's body can't be used, found out while it is read.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message())]
pub(crate) struct BodyRefused(pub(crate) Failure);

impl Failure {
    /// A failure with a code of Falcon's.
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Display) -> Self {
        Self(Box::new(Inner {
            status,
            code: code.to_owned(),
            message: message.to_string(),
            bucket: None,
            key: None,
            headers: Vec::new(),
            detail: None,
            said: None,
            routine: false,
        }))
    }

    /// `400`: the request is wrong.
    pub(crate) fn bad(code: &str, message: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// `503` with `Retry-After`: not now.
    pub(crate) fn later(code: &str, message: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
            .with(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS))
    }

    /// `405`: the route exists, but not for this method.
    pub(crate) fn method(allow: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            format_args!("the method of this route must be one of: {allow}"),
        )
        .with(ALLOW, HeaderValue::from_static(allow))
    }

    /// The same, about an object.
    #[must_use]
    pub(crate) fn at(self, object: &ObjectId) -> Self {
        self.about(object.bucket(), Some(object.key()))
    }

    /// The same, about a bucket or a key in it.
    #[must_use]
    pub(crate) fn about(mut self, bucket: &str, key: Option<&str>) -> Self {
        self.0.bucket = Some(bucket.to_owned());
        self.0.key = key.map(str::to_owned);
        self
    }

    /// The same, with one more member in its JSON.
    #[must_use]
    pub(crate) fn detailed(mut self, name: &'static str, value: serde_json::Value) -> Self {
        self.0.detail = Some((name, value));
        self
    }

    /// The same, with one more header.
    #[must_use]
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The same, without that header.
    #[must_use]
    pub(crate) fn without(mut self, name: &HeaderName) -> Self {
        self.0.headers.retain(|(own, _)| own != name);
        self
    }

    /// The same, with what else S3 said: its header fields, and its own document for clients of the S3 gateway.
    #[must_use]
    pub(super) fn saying(mut self, said: Option<&Arc<Said>>) -> Self {
        self.0.said = said.cloned();
        self
    }

    /// The same, as the regular answer to a question, such as a probe's: the log has no warning of it.
    #[must_use]
    pub(crate) fn routine(mut self) -> Self {
        self.0.routine = true;
        self
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// S3's code, or Falcon's.
    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    /// What happened, for a human.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The bucket it is about.
    pub(crate) fn bucket(&self) -> Option<&str> {
        self.0.bucket.as_deref()
    }

    /// The key it is about.
    pub(crate) fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// The additional member of its JSON.
    pub(super) fn detail(&self) -> Option<&(&'static str, serde_json::Value)> {
        self.0.detail.as_ref()
    }

    /// What else S3 said.
    pub(crate) fn said(&self) -> Option<&Said> {
        self.0.said.as_deref()
    }

    /// True when the operator of this node should hear of it.
    pub(super) fn is_worth_a_warning(&self) -> bool {
        self.0.status.is_server_error() && !self.0.routine
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        let headers = response.headers_mut();
        if let Some(said) = &self.0.said {
            response_headers::append(said.fields.iter(), headers);
        }
        for (name, value) in &self.0.headers {
            headers.insert(name, value.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}
