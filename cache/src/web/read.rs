//! One read of an object in terms of HTTP, the same for both APIs: range, conditions and freshness in, headers and
//! bytes out.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::conditions::{Conditions, Precondition};
use super::failure::Failure;
use super::response_context::ResponseContext;
use super::response_headers::{self, HeaderSink};
use super::{access_log, range};
use crate::object::{ByteRange, Head, ObjectId, Source};
use crate::proxy::{self, Freshness, Proxy, ReadOptions, ReadResult, Requester};

/// Room for the usual headers of an answer, with those of the middleware and the server.
const HEADERS: usize = 12;

/// How often a conditional read starts over because the object changes under it.
const ATTEMPTS: usize = 4;

/// What is asked for.
pub(crate) struct ObjectRequest {
    object: ObjectId,
    range: Option<ByteRange>,
    conditions: Conditions,
    freshness: Freshness,
    body: bool,
    checksums: bool,
}

impl ObjectRequest {
    /// Parses what these headers ask of an object; `body`: its bytes, too.
    pub(crate) fn parse(object: ObjectId, headers: &HeaderMap, body: bool) -> Self {
        Self {
            range: range::from_headers(headers),
            conditions: Conditions::parse(headers),
            freshness: freshness(headers),
            body,
            checksums: false,
            object,
        }
    }

    /// The same, of the whole object whatever range is asked for.
    #[must_use]
    pub(crate) fn whole(self) -> Self {
        Self {
            range: None,
            ..self
        }
    }

    /// The same, of these bytes.
    #[must_use]
    pub(crate) fn within(self, range: ByteRange) -> Self {
        Self {
            range: Some(range),
            ..self
        }
    }

    /// The same; `checksums`: those of the object, with all of it.
    #[must_use]
    pub(crate) fn with_checksums(self, checksums: bool) -> Self {
        Self { checksums, ..self }
    }

    /// The answer, or why there is none.
    pub(crate) async fn answer(&self, proxy: &Proxy) -> Result<Response, Failure> {
        let answered = if self.conditions.any() {
            conditional(proxy, self).await
        } else {
            plain(proxy, self).await
        };
        let mut response = answered.map_err(|failure| failure.at(&self.object))?;
        if access_log::is_on()
            && let Some(context) = response.extensions_mut().get_mut::<ResponseContext>()
        {
            context.key = Some(self.object.key().to_owned());
        }
        Ok(response)
    }

    /// Reads through the proxy.
    ///
    /// S3 gives checksums with the whole object or its head. If the head came with a part, S3 is asked for them, once.
    async fn put(
        &self,
        proxy: &Proxy,
        range: Option<ByteRange>,
        body: bool,
    ) -> Result<ReadResult, Failure> {
        let answer = proxy
            .read(self.options(range, self.freshness.clone(), body))
            .await?;
        let is_head = !self.body && self.range.is_none();
        if is_head && self.checksums && !answer.head.checksums_known {
            let told = self.options(None, Freshness::Revalidate, false);
            return Ok(proxy.read(told).await?);
        }
        Ok(answer)
    }

    fn options(&self, range: Option<ByteRange>, freshness: Freshness, body: bool) -> ReadOptions {
        ReadOptions {
            object: self.object.clone(),
            range,
            freshness,
            by: Requester::Client,
            body,
        }
    }
}

/// `no-cache` (or `max-age=0`, or the older `Pragma`): the client wants S3 to be asked.
fn freshness(headers: &HeaderMap) -> Freshness {
    let has = |name: header::HeaderName, words: &[&str]| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|word| {
                words
                    .iter()
                    .any(|known| word.trim().eq_ignore_ascii_case(known))
            })
    };
    // Pragma counts only where Cache-Control is not there (RFC 9111, 5.4).
    let pragma = !headers.contains_key(header::CACHE_CONTROL) && has(header::PRAGMA, &["no-cache"]);
    if pragma || has(header::CACHE_CONTROL, &["no-cache", "max-age=0"]) {
        Freshness::Revalidate
    } else {
        Freshness::Stored
    }
}

/// Reads without conditions.
async fn plain(proxy: &Proxy, request: &ObjectRequest) -> Result<Response, Failure> {
    let answer = request.put(proxy, request.range, request.body).await?;
    let source = answer.source;
    Ok(found(answer, request.range.is_some(), source, request))
}

/// Reads the head first, so that no byte of the object is read for a `304` or `412`. The verdict must hold for the
/// version that is sent in the end: when the object changes in between, it is judged again.
async fn conditional(proxy: &Proxy, request: &ObjectRequest) -> Result<Response, Failure> {
    let first = request.put(proxy, None, false).await?;
    let (verified, mut judged) = (first.source, first);
    for _ in 0..ATTEMPTS {
        let precondition = request.conditions.judge(&judged.head);
        match precondition {
            Precondition::NotModified => return Ok(not_modified(&judged)),
            Precondition::Failed => return Err(failed(&judged.head)),
            Precondition::Send | Precondition::SendWhole => {}
        }
        let range = request.range.filter(|_| precondition == Precondition::Send);
        if range.is_none() && !request.body {
            let source = judged.source;
            return Ok(found(judged, false, source, request));
        }
        // If revalidation was wanted, it has happened with the head.
        let opts = request.options(range, Freshness::Stored, request.body);
        match proxy.read(opts).await {
            Ok(answer) if request.conditions.judge(&answer.head) == precondition => {
                let source = source_of(verified, answer.source);
                return Ok(found(answer, range.is_some(), source, request));
            }
            Ok(answer) => judged = answer,
            // The range is outside of the object, but that is another version than the one that was judged.
            Err(proxy::Error::Unsatisfiable { head }) if head.etag != judged.head.etag => {
                judged = proxy
                    .read(request.options(None, Freshness::Stored, false))
                    .await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(proxy::Error::VersionChanged.into())
}

/// A read from memory right after S3 confirmed the head is a confirmed read.
fn source_of(head: Source, body: Source) -> Source {
    match (head, body) {
        (Source::Revalidated, Source::Memory) => Source::Revalidated,
        (_, body) => body,
    }
}

fn found(answer: ReadResult, ranged: bool, source: Source, request: &ObjectRequest) -> Response {
    let partial = response_headers::is_partial(&answer, ranged);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = if partial {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
    let headers = response.headers_mut();
    response_headers::describe(&answer.head, headers);
    response_headers::provenance(&answer, source.as_str(), headers);
    response_headers::extent(&answer.range, answer.head.size, partial, headers);
    if request.checksums && !partial {
        headers.lines(&answer.head.checksums);
    }
    // An error of this stream ends the connection before the announced length is reached: the client notices. For the head
    // of an object whose length is unknown, too: a body known to be empty would be announced as its length.
    if request.body || !answer.head.is_sized() {
        *response.body_mut() = Body::from_stream(answer.body);
    }
    ResponseContext::read_from(source).attach(response)
}

fn not_modified(answer: &ReadResult) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response_headers::validators(&answer.head, response.headers_mut());
    response_headers::provenance(answer, answer.source.as_str(), response.headers_mut());
    ResponseContext::read_from(answer.source).attach(response)
}

fn failed(head: &Head) -> Failure {
    let failure = Failure::new(
        StatusCode::PRECONDITION_FAILED,
        "PreconditionFailed",
        "the object is not the version that the request's conditions name",
    );
    match HeaderValue::from_str(head.etag.as_str()) {
        Ok(etag) => failure.with(header::ETAG, etag),
        Err(_) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_demand_that_s3_is_asked() {
        for (name, value, want) in [
            ("cache-control", "no-cache", true),
            ("cache-control", "max-stale, NO-CACHE", true),
            ("cache-control", "max-age=0", true),
            ("cache-control", "max-age=01", false),
            ("cache-control", "no-store", false),
            ("pragma", "no-cache", true),
            ("pragma", "other", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let revalidates = freshness(&headers) == Freshness::Revalidate;
            assert_eq!(revalidates, want, "{name}: {value}");
        }
        let mut both = HeaderMap::new();
        both.insert("pragma", "no-cache".parse().unwrap());
        both.insert("cache-control", "max-age=60".parse().unwrap());
        assert_eq!(freshness(&both), Freshness::Stored);
    }

    #[test]
    fn a_failed_condition_names_the_version_that_is_there() {
        let failure = failed(&response_headers::sample());
        assert_eq!(
            (failure.status().as_u16(), failure.code()),
            (412, "PreconditionFailed")
        );
    }
}
