//! What is sent on to S3 as it is, and what follows a write: every node forgets, then the client hears of it.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::TryStreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::deletion::Deletion;
use super::operation::Operation;
use super::{Asked, Door, digest, payload};
use crate::access::{Target, Verb};
use crate::api::barrier::{Barriers, may_have_happened, to_the_end};
use crate::api::error::Failure;
use crate::api::held::held;
use crate::api::{Note, permit};
use crate::object::{ObjectId, Scope, Source};
use crate::origin::{self, Forward, Origin, Payload};
use crate::store::Kind;

/// How long S3 may take to put an object together from parts or from another one.
const ASSEMBLY: Duration = Duration::from_mins(5);

/// The answer to a write is a few lines of XML; the parts of 10,000 fit.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// A thousand keys of 1,024 bytes, each of which may be escaped.
const DELETE_BYTES: u64 = 8 * 1024 * 1024;

/// The list as it came, what was read from it twice (by object, and in order), and what is written from that.
const DELETE_COPIES: u64 = 4;

const X_FALCON_CACHE: HeaderName = HeaderName::from_static("x-falcon-cache");

/// Says that not every node has forgotten yet, and which have not.
const X_FALCON_UNANSWERED: HeaderName = HeaderName::from_static("x-falcon-unanswered");

/// Of the connection, of the client's signature and encoding, or the SDK's own: not sent on.
const NOT_SENT: &[&str] = &[
    "accept-encoding",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-security-token",
    "x-amz-trailer",
    "x-request-id",
];

/// Of the origin's connection: not handed on.
const NOT_ANSWERED: &[&str] = &["connection", "keep-alive", "server", "transfer-encoding"];

impl Door {
    /// Sent on, and the answer as it comes.
    pub(super) async fn forwarded(&self, asked: Asked) -> Result<Response, Failure> {
        let about = asked.key.clone();
        let (forward, wait) = outgoing(&self.parts().origin, asked).await?;
        let answer = self.parts().origin.forward(forward, wait).await?;
        let (head, body) = answer.into_parts();
        let mut response = Response::new(Body::from_stream(body));
        *response.status_mut() = head.status;
        *response.headers_mut() = handed_on(head.headers);
        Ok(noted(response, about))
    }

    /// Sent on; then the object is forgotten everywhere, whether or not the client still waits.
    pub(super) async fn written(&self, asked: Asked) -> Result<Response, Failure> {
        let scope = Scope::Key {
            bucket: asked.bucket.clone(),
            key: asked.key.clone(),
        };
        let about = asked.key.clone();
        let (forward, wait) = outgoing(&self.parts().origin, asked).await?;
        self.write(forward, wait, scope)
            .await
            .map(|response| noted(response, about))
    }

    /// DeleteObjects: the keys are in the body.
    pub(super) async fn deleted_many(&self, mut asked: Asked) -> Result<Response, Failure> {
        let length = payload::length(&asked.head.headers).unwrap_or_default();
        if length > DELETE_BYTES {
            return Err(Failure::bad("MalformedXML", "the list of keys is too long"));
        }
        let wait = self.parts().settings.upload_wait;
        let store = self.parts().proxy.store();
        let body = std::mem::replace(&mut asked.body, payload::none());
        // Charged as it comes: what is announced takes no memory yet.
        let (body, _charge) = held(store, body, DELETE_BYTES).await?;
        if body.len() as u64 != length {
            return Err(Failure::bad(
                "IncompleteBody",
                format_args!("the body does not hold the {length} bytes that its head names"),
            ));
        }
        let copies = length * (DELETE_COPIES - 1);
        let Some(_copies) = store.reserve(Kind::Uploads, copies, wait).await else {
            return Err(Failure::later(
                "SlowDown",
                "there is no memory for the list now",
            ));
        };
        digest::check(&asked.head.headers, &body)?;
        let list = Deletion::of(&body)?;
        let keys = list.keys();
        for key in &keys {
            permit(&asked.who, Verb::Write, &asked.bucket, Target::Key(key))?;
        }
        let scope = Scope::Keys {
            bucket: asked.bucket.clone(),
            keys,
        };
        let body = list.to_xml();
        let headers = &mut asked.head.headers;
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/xml"),
        );
        digest::renew(headers, &body);
        let (forward, wait) = addressed(&self.parts().origin, asked, Payload::Held(body));
        self.write(forward, wait, scope).await
    }

    async fn write(
        &self,
        forward: Forward,
        wait: Duration,
        scope: Scope,
    ) -> Result<Response, Failure> {
        let (origin, invalidator) = (
            self.parts().origin.clone(),
            self.parts().invalidator.clone(),
        );
        let (answered, barriers) = to_the_end(async move {
            let answered = whole(&origin, forward, wait).await;
            let happened = match &answered {
                Ok((head, _)) => head.status.is_success() || head.status.is_server_error(),
                Err(error) => may_have_happened(error),
            };
            let mut barriers = Barriers::default();
            if happened {
                barriers.add(invalidator.invalidate(scope).await);
            }
            (answered, barriers)
        })
        .await?;
        let (head, body) = answered?;
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = head.status;
        *response.headers_mut() = handed_on(head.headers);
        if let Some(names) = barriers.unanswered()
            && let Ok(names) = HeaderValue::try_from(names)
        {
            response.headers_mut().insert(X_FALCON_UNANSWERED, names);
        }
        Ok(response)
    }

    /// The head that S3 gives of a part; `None` where it gives none.
    pub(super) async fn head_of_part(
        &self,
        object: &ObjectId,
        query: &str,
    ) -> Result<Option<HeaderMap>, Failure> {
        let mut headers = HeaderMap::new();
        if self.parts().origin.tells_checksums() {
            let enabled = HeaderValue::from_static("ENABLED");
            headers.insert("x-amz-checksum-mode", enabled);
        }
        let forward = Forward {
            op: "HeadObject",
            method: Method::HEAD,
            bucket: object.bucket().to_owned(),
            key: Some(object.key().to_owned()),
            query: query.to_owned(),
            headers,
            payload: Payload::Held(Bytes::new()),
        };
        let wait = self.parts().origin.upload_wait(0);
        let answer = self.parts().origin.forward(forward, wait).await?;
        Ok((answer.status() == StatusCode::PARTIAL_CONTENT).then(|| answer.headers().clone()))
    }
}

/// What goes to S3, and how long it may take there.
async fn outgoing(origin: &Origin, mut asked: Asked) -> Result<(Forward, Duration), Failure> {
    let body = std::mem::replace(&mut asked.body, payload::none());
    let payload = payload::of(&asked.head.headers, body).await?;
    Ok(addressed(origin, asked, payload))
}

fn addressed(origin: &Origin, asked: Asked, payload: Payload) -> (Forward, Duration) {
    let Asked {
        operation,
        bucket,
        key,
        parameters,
        head,
        ..
    } = asked;
    let wait = match (&payload, operation.name) {
        (_, "CompleteMultipartUpload") => ASSEMBLY,
        _ if Operation::copies(&head.headers) => ASSEMBLY,
        (Payload::Streamed { length, .. }, _) => origin.upload_wait(*length),
        (Payload::Held(bytes), _) => origin.upload_wait(bytes.len() as u64),
    };
    let forward = Forward {
        op: operation.name,
        method: head.method,
        bucket,
        key: Some(key).filter(|key| !key.is_empty()),
        query: parameters.query(),
        headers: sent_on(&head.headers),
        payload,
    };
    (forward, wait)
}

/// The answer with all its bytes.
async fn whole(
    origin: &Origin,
    forward: Forward,
    wait: Duration,
) -> Result<(http::response::Parts, Bytes), origin::Error> {
    let (head, body) = origin.forward(forward, wait).await?.into_parts();
    let whole = body
        .try_fold(Vec::new(), |mut whole: Vec<u8>, bytes| async move {
            if whole.len() + bytes.len() > ANSWER_BYTES {
                return Err(origin::Error::Broken(
                    "it is too long for an answer to a write".to_owned(),
                ));
            }
            whole.extend_from_slice(&bytes);
            Ok(whole)
        })
        .await?;
    Ok((head, whole.into()))
}

fn sent_on(headers: &HeaderMap) -> HeaderMap {
    let mut sent = HeaderMap::new();
    for (name, value) in headers {
        let text = name.as_str();
        // A server that takes underscores for dashes must not find what was not judged here.
        let disguised = text.contains('_') && !text.starts_with("x-amz-meta-");
        if NOT_SENT.contains(&text) || text.starts_with("x-falcon-") || disguised {
            continue;
        }
        if name == header::CONTENT_ENCODING
            && let Some(own) = without_chunks(value)
        {
            if !own.is_empty() {
                sent.append(name, own);
            }
            continue;
        }
        sent.append(name, value.clone());
    }
    sent
}

/// The object's own encodings, where the streaming one is among those that are named.
fn without_chunks(value: &HeaderValue) -> Option<HeaderValue> {
    let is_chunks = |it: &str| it.eq_ignore_ascii_case("aws-chunked");
    let named = || value.to_str().unwrap_or_default().split(',').map(str::trim);
    if !named().any(is_chunks) {
        return None;
    }
    let own: Vec<&str> = named().filter(|it| !is_chunks(it)).collect();
    HeaderValue::try_from(own.join(", ")).ok()
}

pub(super) fn handed_on(mut headers: HeaderMap) -> HeaderMap {
    for name in NOT_ANSWERED {
        headers.remove(*name);
    }
    headers.insert(
        X_FALCON_CACHE,
        HeaderValue::from_static(Source::Bypass.as_str()),
    );
    headers
}

fn noted(mut response: Response, key: String) -> Response {
    response.extensions_mut().insert(Note {
        key: Some(key),
        source: Source::Bypass.as_str(),
    });
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_connection_or_the_signature_stays_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "AWS4"),
            ("host", "falcon"),
            ("content-encoding", "aws-chunked, gzip"),
            ("x-amz-meta-a", "1"),
            ("content_type", "a/b"),
            ("if-none-match", "*"),
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let sent = sent_on(&headers);
        assert_eq!(sent.len(), 3);
        assert_eq!(sent["content-encoding"], "gzip");
        assert_eq!(sent["x-amz-meta-a"], "1");
        assert_eq!(sent["if-none-match"], "*");
    }
}
