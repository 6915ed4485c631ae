//! The entrance for signed requests: s3s verifies the signature and the body as it streams, and knows the rules for
//! clocks and for presigned URLs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_stream::try_stream;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::FutureExt;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use s3s::auth::{S3Auth, SecretKey};
use s3s::route::S3Route;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::validation::NameValidation;
use s3s::{S3, S3Request, S3Response, S3Result, TrailingHeaders, s3_error};

use super::address::Parameters;
use super::dispatch::Gateway;
use super::{chunked, presigned_v2, refusal};
use crate::access::{Access, Caller};
use crate::origin::Incoming;
use crate::proxy::Proxy;
use crate::store::Kind;
use crate::web::failure::Failure;
use crate::web::rights::denied;

/// Headers of S3 that need not be signed.
const UNSIGNED: &[&str] = &["x-amz-content-sha256", "x-amz-user-agent"];

/// How long a large signed chunk waits for memory.
const CHARGE_WAIT: Duration = Duration::from_secs(5);

/// A presigned URL is good for a week at most.
const LONGEST_SECONDS: u64 = 7 * 24 * 3600;

/// The verifier, before the gateway.
#[derive(Clone)]
pub(super) struct Signatures {
    service: S3Service,
    proxy: Proxy,
}

impl Signatures {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        let proxy = gateway.services.proxy.clone();
        let mut service = S3ServiceBuilder::new(Nothing);
        service.set_auth(Keys(gateway.services.access.clone()));
        service.set_validation(AnyName);
        service.set_route(Within(gateway));
        Self {
            service: service.build(),
            proxy,
        }
    }
}

/// Admits a request whose signature holds.
pub(super) async fn verify(
    State(Signatures { service, proxy }): State<Signatures>,
    request: Request,
) -> Response {
    if let Err(failure) = covers(request.method(), request.uri(), request.headers()) {
        return failure.into_response();
    }
    let request = limit_chunks(request, proxy);
    match service.call(request.map(s3s::Body::http_body_unsync)).await {
        Ok(response) => refusal::translate(response.map(Body::new)).await,
        Err(_) => Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "failed to read the request",
        )
        .into_response(),
    }
}

/// The verifier holds a chunk until all of it has come, so none may be larger than what can be held.
fn limit_chunks(request: Request, proxy: Proxy) -> Request {
    let hash = request.headers().get("x-amz-content-sha256");
    let hash = hash.map(HeaderValue::as_bytes).unwrap_or_default();
    if !hash.starts_with(b"STREAMING-") {
        return request;
    }
    let signed = !hash.starts_with(b"STREAMING-UNSIGNED-");
    let reserve = move |bytes| {
        let proxy = proxy.clone();
        let charge = async move {
            let store = proxy.store();
            store.reserve(Kind::Uploads, bytes, CHARGE_WAIT).await
        };
        charge.boxed()
    };
    request.map(|body| Body::from_stream(chunked::limit_chunks(body, signed, reserve)))
}

/// What S3 demands of a signature before it verifies it: that it covers every `x-amz-` header, and expires.
fn covers(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let parameters = Parameters::all_of(uri.query().unwrap_or_default())?;
    presigned_v2::check(method, &parameters, headers, SystemTime::now())?;
    let authorization = headers.get(header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok());
    let signed = parameters.get("X-Amz-SignedHeaders").or_else(|| {
        let (_, rest) = authorization?.split_once("SignedHeaders=")?;
        rest.split(',').next()
    });
    let Some(signed) = signed else {
        return Ok(()); // there is none, or none of this kind
    };
    let is_signed = |name: &str| {
        signed
            .split(';')
            .any(|it| it.trim().eq_ignore_ascii_case(name))
    };
    let mut names = headers.keys().map(HeaderName::as_str);
    let loose = names
        .find(|name| name.starts_with("x-amz-") && !UNSIGNED.contains(name) && !is_signed(name));
    if let Some(name) = loose {
        return Err(Failure::new(
            StatusCode::FORBIDDEN,
            "AccessDenied",
            format_args!("There were headers present in the request which were not signed: {name}"),
        ));
    }
    let expires = parameters
        .get("X-Amz-Expires")
        .and_then(|it| it.parse::<u64>().ok());
    if expires.is_some_and(|seconds| seconds > LONGEST_SECONDS) {
        return Err(Failure::bad(
            "AuthorizationQueryParametersError",
            "X-Amz-Expires must be less than a week (in seconds) that is 604800",
        ));
    }
    Ok(())
}

/// s3s's own operations, of which there are none: the route takes every request.
struct Nothing;

impl S3 for Nothing {}

/// Accepts every name: S3 judges them.
struct AnyName;

impl NameValidation for AnyName {
    fn validate_bucket_name(&self, name: &str) -> bool {
        !name.is_empty()
    }
}

struct Keys(Access);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        let principal = self.0.by_key(id);
        let secret = principal.as_ref().and_then(|known| known.secret());
        secret.map(SecretKey::from).ok_or_else(|| {
            s3_error!(
                InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records."
            )
        })
    }
}

/// The gateway behind the verifier.
struct Within(Arc<Gateway>);

#[async_trait::async_trait]
impl S3Route for Within {
    fn is_match(&self, _: &Method, _: &Uri, _: &HeaderMap, _: &mut Extensions) -> bool {
        true
    }

    /// The gateway itself decides.
    async fn check_access(&self, _: &mut S3Request<s3s::Body>) -> S3Result<()> {
        Ok(())
    }

    async fn call(&self, request: S3Request<s3s::Body>) -> S3Result<S3Response<s3s::Body>> {
        let response = self.answer(request).await.into_response();
        let (mut head, body) = response.into_parts();
        head.extensions.insert(refusal::FromGateway);
        Ok(S3Response {
            output: s3s::Body::http_body_unsync(body),
            status: Some(head.status),
            headers: head.headers,
            extensions: head.extensions,
        })
    }
}

impl Within {
    async fn answer(&self, request: S3Request<s3s::Body>) -> Result<Response, Failure> {
        let credentials = request.credentials.as_ref();
        let known = credentials.and_then(|shown| self.0.services.access.by_key(&shown.access_key));
        let Some(principal) = known else {
            return Err(denied(""));
        };
        let body = body(request.input, request.trailing_headers);
        let mut head = http::Request::new(()).into_parts().0;
        head.method = request.method;
        head.uri = request.uri;
        head.headers = request.headers;
        self.0.answer(Caller::Known(principal), head, body).await
    }
}

/// A verified body, followed by its trailers, which are known at its end.
fn body(mut body: s3s::Body, trailing: Option<TrailingHeaders>) -> Incoming {
    let Some(trailing) = trailing else {
        return body.map_err(refusal::translate_body_error).boxed_unsync();
    };
    let frames = try_stream! {
        while let Some(frame) = body.frame().await {
            yield frame.map_err(refusal::translate_body_error)?;
        }
        if let Some(trailers) = trailing.take() {
            yield Frame::<Bytes>::trailers(trailers);
        }
    };
    StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_what_it_is_sent_with() {
        let code = |uri: &str, given: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                let name = HeaderName::try_from(*name).unwrap();
                headers.append(name, value.parse().unwrap());
            }
            let covered = covers(&Method::GET, &uri.parse().unwrap(), &headers);
            covered.err().map(|failure| failure.code().to_owned())
        };
        let by_header = |signed: &str| {
            format!("AWS4-HMAC-SHA256 Credential=a, SignedHeaders={signed}, Signature=0")
        };
        let with = by_header("host;x-amz-date;x-amz-meta-a");
        let date = ("x-amz-date", "d");
        assert_eq!(code("/b/k", &[("authorization", &with), date]), None);
        let meta = [
            ("authorization", with.as_str()),
            date,
            ("x-amz-meta-b", "1"),
        ];
        assert_eq!(code("/b/k", &meta).as_deref(), Some("AccessDenied"));
        let url = "/b/k?X-Amz-SignedHeaders=host%3Bx-amz-meta-a&X-Amz-Expires=604800";
        assert_eq!(code(url, &[("x-amz-meta-a", "1")]), None);
        assert_eq!(
            code(url, &[("x-amz-acl", "private")]).as_deref(),
            Some("AccessDenied")
        );
        let ever = "/b/k?X-Amz-SignedHeaders=host&X-Amz-Expires=604801";
        assert_eq!(
            code(ever, &[]).as_deref(),
            Some("AuthorizationQueryParametersError")
        );
        assert_eq!(code("/b/k", &[("x-amz-acl", "private")]), None);
    }
}
