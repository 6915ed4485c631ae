//! The connections to S3: HTTP/1.1 always, one pool for the process.
//!
//! The SDK's own connector offers HTTP/2, and one HTTP/2 connection carries less than several HTTP/1.1 connections.
//! Timeouts are not here: each call has one, as a whole.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::retry::ErrorKind;
use http::HeaderMap;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower::ServiceExt;
use tower::util::MapResponse;

use super::expect::{Expectations, Permitted};
use super::socket::Socket;

/// S3 closes connections that are idle for about as long; a request on one that is just being closed is lost.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// So that an S3 that vanished silently is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Header fields of an answer. S3 lets an object have 2 KiB of metadata, which are some hundred short entries; the HTTP
/// library's own limit is a hundred.
const MAX_FIELDS: usize = 1024;

/// Makes connections on which S3's last words are heard.
type Sockets = MapResponse<Tcp, fn(TokioIo<TcpStream>) -> Socket>;

#[derive(Debug, Clone)]
struct Connector {
    client: Client<HttpsConnector<Sockets>, Permitted>,
    expectations: Expectations,
}

/// One pool of connections. `tls`: whether the machine's certificates are needed.
pub(super) fn pool(connect: Duration, max_idle: usize, tls: bool) -> SharedHttpClient {
    let mut tcp = Tcp::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_connect_timeout(Some(connect));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls_config(tls))
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp.map_response(Socket::new as fn(_) -> _));
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(max_idle)
        .http1_max_headers(MAX_FIELDS)
        .build(https);
    let shared = SharedHttpConnector::new(Connector {
        client,
        expectations: Expectations::default(),
    });
    http_client_fn(move |_, _| shared.clone())
}

fn tls_config(load_roots: bool) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    if load_roots {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "failed to read one of this machine's certificate authorities");
        }
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            tracing::warn!("no certificate authority found: set SSL_CERT_FILE to trust the origin");
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => {
                return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into())));
            }
        };
        let request = self.expectations.hold(with_raw_headers(request));
        let answer = self.client.request(request);
        HttpConnectorFuture::new(async move {
            let response = answer.await.map_err(classify)?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// Headers whose values are not text. The SDK holds and signs only text, so they go unsigned.
#[derive(Debug, Clone)]
pub(super) struct RawHeaders(pub(super) HeaderMap);

fn with_raw_headers(mut request: http::Request<SdkBody>) -> http::Request<SdkBody> {
    if let Some(RawHeaders(raw)) = request.extensions_mut().remove() {
        for (name, value) in &raw {
            request.headers_mut().append(name, value.clone());
        }
    }
    request
}

/// There was no connection: S3 has not seen a byte of the request.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct NotSent(ClientError);

/// Tells the SDK what may be retried: whatever broke before an answer came.
fn classify(error: ClientError) -> ConnectorError {
    let http = find::<hyper::Error>(&error);
    if http.is_some_and(hyper::Error::is_user) {
        return ConnectorError::user(error.into());
    }
    if error.is_connect() {
        return ConnectorError::io(Box::new(NotSent(error)));
    }
    let broke = find::<io::Error>(&error).is_some()
        || http.is_some_and(|e| e.is_closed() || e.is_canceled());
    if broke {
        return ConnectorError::io(error.into());
    }
    // S3 hangs up in the middle of an answer now and then.
    let cut = http.is_some_and(hyper::Error::is_incomplete_message);
    ConnectorError::other(error.into(), cut.then_some(ErrorKind::TransientError))
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |&e| e.source()).find_map(|e| e.downcast_ref())
}
