//! The one place where a failure becomes a status. S3's own code is kept; the message names the cause.

use std::error::Error as StdError;
use std::fmt::Display;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONNECTION, CONTENT_RANGE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use super::{Dialect, answer};
use crate::object::{InvalidName, ObjectId, Said};
use crate::server::BodyStalled;
use crate::{origin, proxy};

/// A body that its verifier refuses: what is wrong with it is known there.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message())]
pub(crate) struct BodyRefused(pub(crate) Failure);

/// Seconds after which a refused client may try again: the pressure of a moment is over by then.
const RETRY_SECONDS: u16 = 1;

/// A request that was not served. It travels in the response's extensions until the outermost layer gives it a body,
/// because only that one knows the request's id.
#[derive(Debug, Clone)]
pub struct Failure(Box<Inner>);

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
}

#[derive(Serialize)]
struct Shown<'a> {
    code: &'a str,
    message: &'a str,
    key: Option<&'a str>,
    bucket: Option<&'a str>,
    request_id: &'a str,
    #[serde(flatten)]
    detail: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Failure {
    /// A failure with a code of Falcon's.
    pub fn new(status: StatusCode, code: &str, message: impl Display) -> Self {
        Self(Box::new(Inner {
            status,
            code: code.to_owned(),
            message: message.to_string(),
            bucket: None,
            key: None,
            headers: Vec::new(),
            detail: None,
            said: None,
        }))
    }

    /// `400`: the request says something that Falcon does not understand.
    pub fn bad(code: &str, message: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// `503` with `Retry-After`: not now.
    pub fn later(code: &str, message: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
            .with(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS))
    }

    /// `405`: the route is known, the method is not its own.
    pub fn method(allow: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            format_args!("this route takes {allow}"),
        )
        .with(ALLOW, HeaderValue::from_static(allow))
    }

    /// A request's body that could not be read: it stopped (`408`), or `otherwise`.
    pub fn body(error: &(dyn StdError + 'static), otherwise: StatusCode) -> Self {
        let mut cause = Some(error);
        let mut deepest = error;
        while let Some(error) = cause {
            if let Some(stalled) = error.downcast_ref::<BodyStalled>() {
                return Self::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", stalled)
                    .with(CONNECTION, HeaderValue::from_static("close"));
            }
            if let Some(BodyRefused(failure)) = error.downcast_ref::<BodyRefused>() {
                return failure.clone();
            }
            deepest = error;
            cause = error.source();
        }
        let code = match otherwise {
            StatusCode::PAYLOAD_TOO_LARGE => "EntityTooLarge",
            _ => "MalformedBody",
        };
        Self::new(otherwise, code, deepest)
    }

    /// The same, said of an object.
    #[must_use]
    pub fn at(self, object: &ObjectId) -> Self {
        self.about(object.bucket(), Some(object.key()))
    }

    /// The same, said of a bucket or a key in it.
    #[must_use]
    pub fn about(mut self, bucket: &str, key: Option<&str>) -> Self {
        self.0.bucket = Some(bucket.to_owned());
        self.0.key = key.map(str::to_owned);
        self
    }

    /// The same, with one more member in its JSON.
    #[must_use]
    pub fn detailed(mut self, name: &'static str, value: serde_json::Value) -> Self {
        self.0.detail = Some((name, value));
        self
    }

    /// The same, with one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The same, with what S3 said of it: its header fields, and its own document where S3's form is answered.
    fn saying(mut self, said: Option<&Arc<Said>>) -> Self {
        self.0.said = said.cloned();
        self
    }

    /// The same, without that header.
    #[must_use]
    pub fn without(mut self, name: &HeaderName) -> Self {
        self.0.headers.retain(|(own, _)| own != name);
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// S3's code, or Falcon's.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// What happened, for a human.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The bucket it is about.
    pub fn bucket(&self) -> Option<&str> {
        self.0.bucket.as_deref()
    }

    /// The key it is about.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// The body of the answer, and what kind of text it is.
    pub(super) fn render(&self, dialect: Dialect, request_id: &str) -> (&'static str, Vec<u8>) {
        match dialect {
            Dialect::Blob => ("application/json", self.json(request_id)),
            Dialect::S3 => ("application/xml", self.xml_of_s3(request_id)),
        }
    }

    /// S3's own document, where it gave one. Its request ID is that of this answer's header: S3 may have said it long ago.
    fn xml_of_s3(&self, request_id: &str) -> Vec<u8> {
        const ID: [&str; 2] = ["<RequestId>", "</RequestId>"];
        let Some(said) = self.0.said.as_ref().filter(|said| !said.xml.is_empty()) else {
            return self.xml(request_id);
        };
        let found = said.xml.split_once(ID[0]);
        let Some((before, (_, after))) =
            found.and_then(|(before, rest)| Some((before, rest.split_once(ID[1])?)))
        else {
            return said.xml.as_bytes().to_vec();
        };
        let mut text = before.to_owned();
        element(&mut text, "RequestId", request_id);
        text.push_str(after);
        text.into_bytes()
    }

    /// As S3 shows an error.
    fn xml(&self, request_id: &str) -> Vec<u8> {
        let mut text = r#"<?xml version="1.0" encoding="UTF-8"?><Error>"#.to_owned();
        let shown = [
            ("Code", Some(self.code())),
            ("Message", Some(self.message())),
            ("BucketName", self.bucket()),
            ("Key", self.key()),
            ("RequestId", Some(request_id)),
        ];
        for (name, value) in shown {
            if let Some(value) = value {
                element(&mut text, name, value);
            }
        }
        text.push_str("</Error>");
        text.into_bytes()
    }

    fn json(&self, request_id: &str) -> Vec<u8> {
        let detail = self
            .0
            .detail
            .clone()
            .map(|(name, value)| serde_json::Map::from_iter([(name.to_owned(), value)]));
        let shown = Shown {
            code: self.code(),
            message: self.message(),
            key: self.key(),
            bucket: self.bucket(),
            request_id,
            detail,
        };
        serde_json::to_vec(&shown).expect("strings and JSON values become JSON")
    }
}

/// An element of XML. What XML can't hold at all is left out: it can only stand in a key that was asked for.
pub(crate) fn element(xml: &mut String, name: &str, text: &str) {
    xml.extend(["<", name, ">"]);
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\'' => xml.push_str("&apos;"),
            '\t' => xml.push_str("&#9;"),
            '\n' => xml.push_str("&#10;"),
            '\r' => xml.push_str("&#13;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => xml.push(c),
        }
    }
    xml.extend(["</", name, ">"]);
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        let headers = response.headers_mut();
        if let Some(said) = &self.0.said {
            answer::append(said.fields.iter(), headers);
        }
        for (name, value) in &self.0.headers {
            headers.insert(name, value.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<InvalidName> for Failure {
    fn from(error: InvalidName) -> Self {
        let code = match error {
            InvalidName::EmptyBucket => "MissingBucket",
            InvalidName::EmptyKey => "MissingKey",
            InvalidName::KeyTooLong(_) => "KeyTooLongError",
        };
        Self::bad(code, error)
    }
}

impl From<&origin::Error> for Failure {
    fn from(error: &origin::Error) -> Self {
        use origin::Error as E;
        let status = match error {
            E::NotFound { .. } => StatusCode::NOT_FOUND,
            E::Denied { .. } => StatusCode::FORBIDDEN,
            E::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            E::VersionChanged | E::SlowDown { .. } | E::Refused { status: 503, .. } => {
                return Self::later(error.code(), error);
            }
            E::Timeout { .. } | E::TooSlow { .. } => StatusCode::GATEWAY_TIMEOUT,
            E::Unreachable { .. } | E::Broken(_) => StatusCode::BAD_GATEWAY,
            E::Unknown(last) => match &**last {
                E::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
                E::SlowDown { .. } | E::Refused { status: 503, .. } => {
                    return Self::later(error.code(), error);
                }
                _ => StatusCode::BAD_GATEWAY,
            },
            E::Body(_) => return Self::body(error, StatusCode::BAD_REQUEST),
            // A fault of S3's is not one of this node; a refusal is the client's to know.
            E::Refused { status, .. } => match StatusCode::from_u16(*status) {
                Ok(status) if status.is_client_error() => status,
                _ => StatusCode::BAD_GATEWAY,
            },
        };
        Self::new(status, error.code(), error).saying(error.said())
    }
}

impl From<origin::Error> for Failure {
    fn from(error: origin::Error) -> Self {
        Self::from(&error)
    }
}

impl From<proxy::Error> for Failure {
    fn from(error: proxy::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&proxy::Error> for Failure {
    fn from(error: &proxy::Error) -> Self {
        use proxy::Error as E;
        match error {
            E::Absent { code, message, .. } => {
                Self::new(StatusCode::NOT_FOUND, code, message).saying(error.said())
            }
            E::Unsatisfiable { head } => Self::unsatisfiable(head.size),
            E::Origin(error) => Self::from(error.as_ref()),
            E::VersionChanged => Self::later("VersionChanged", error),
            E::NoMemory => Self::later("NoMemory", error),
            E::Relayed {
                status: 503,
                code,
                message,
                ..
            } => Self::later(code, message),
            E::Relayed {
                status,
                code,
                message,
                said,
            } => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
                Self::new(status, code, message).saying(said.as_ref())
            }
            E::Timeout { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", error),
        }
    }
}

impl Failure {
    /// `416` for an object of `size` bytes.
    fn unsatisfiable(size: u64) -> Self {
        let value =
            HeaderValue::try_from(format!("bytes */{size}")).expect("digits are a header's value");
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "InvalidRange",
            format_args!("the object has {size} bytes, and none in this range"),
        )
        .with(CONTENT_RANGE, value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::object::FieldLines;

    #[test]
    fn the_json_names_everything_and_is_json_for_any_key() {
        let object = ObjectId::new("b", "a\"\n#ü").unwrap();
        let failure = Failure::later("SlowDown", "S3 asks for time").at(&object);
        let json: serde_json::Value = serde_json::from_slice(&failure.json("id-1")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "code": "SlowDown", "message": "S3 asks for time", "key": "a\"\n#ü", "bucket": "b", "request_id": "id-1"
            })
        );
        let response = failure.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }

    #[test]
    fn a_refusal_of_s3_keeps_its_code_and_a_fault_of_s3_is_not_ours() {
        for (theirs, ours) in [
            (400, 400),
            (409, 409),
            (500, 502),
            (501, 502),
            (503, 503),
            (304, 502),
            (99, 502),
        ] {
            let failure = Failure::from(origin::Error::Refused {
                status: theirs,
                code: "Theirs".into(),
                message: "said so".into(),
                said: None,
            });
            assert_eq!(
                (failure.status().as_u16(), failure.code()),
                (ours, "Theirs")
            );
        }
    }

    #[test]
    fn the_xml_is_s3s_and_holds_any_key() {
        let failure = Failure::bad("InvalidArgument", "a < b & \u{1}c").about("b", Some("k\n\"'"));
        let (media, xml) = failure.render(Dialect::S3, "id-1");
        assert_eq!(media, "application/xml");
        assert_eq!(
            String::from_utf8(xml).unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>InvalidArgument</Code>\
             <Message>a &lt; b &amp; c</Message><BucketName>b</BucketName><Key>k&#10;&quot;&apos;</Key>\
             <RequestId>id-1</RequestId></Error>"
        );
    }

    #[test]
    fn the_document_of_s3_bears_the_request_id_of_the_answer_it_comes_with() {
        for (theirs, ours) in [
            (
                "<Error><RequestId>9</RequestId><HostId>h</HostId></Error>",
                "<Error><RequestId>id-1</RequestId><HostId>h</HostId></Error>",
            ),
            (
                "<Error><Code>NoSuchKey</Code></Error>",
                "<Error><Code>NoSuchKey</Code></Error>",
            ),
        ] {
            let said = Said::new(FieldLines::default(), theirs).map(Arc::new);
            let failure =
                Failure::new(StatusCode::NOT_FOUND, "NoSuchKey", "").saying(said.as_ref());
            let (_, xml) = failure.render(Dialect::S3, "id-1");
            assert_eq!(String::from_utf8(xml).unwrap(), ours);
        }
    }

    #[test]
    fn an_unsatisfiable_range_names_the_size() {
        let response = Failure::unsatisfiable(12).into_response();
        assert_eq!(response.status(), 416);
        assert_eq!(response.headers()[CONTENT_RANGE], "bytes */12");
    }

    #[test]
    fn a_body_that_stopped_is_408_however_deep_the_cause_lies() {
        let deep = std::io::Error::other(axum::Error::new(BodyStalled(Duration::from_secs(30))));
        assert_eq!(
            Failure::body(&deep, StatusCode::BAD_REQUEST)
                .status()
                .as_u16(),
            408
        );
        let other = std::io::Error::other("boundary missing");
        assert_eq!(
            Failure::body(&other, StatusCode::BAD_REQUEST)
                .status()
                .as_u16(),
            400
        );
    }

    #[test]
    fn falcons_own_refusals_say_when_to_come_back() {
        for (error, code) in [
            (proxy::Error::VersionChanged, "VersionChanged"),
            (proxy::Error::NoMemory, "NoMemory"),
        ] {
            let failure = Failure::from(error);
            assert_eq!((failure.status().as_u16(), failure.code()), (503, code));
            assert!(failure.into_response().headers().contains_key(RETRY_AFTER));
        }
    }
}
