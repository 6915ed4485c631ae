//! A plain HTTP client for tests: whole answers, or bodies piece by piece.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The header's value; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The word in `x-falcon-cache`.
    pub(crate) fn source(&self) -> &str {
        self.header("x-falcon-cache")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Why there is no whole answer.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A connection is new for each request: no pool outlives a test's runtime.
static CONNECTOR: LazyLock<HttpConnector> = LazyLock::new(|| {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
});

/// Sends a request; the answer's body is still to be read.
pub(crate) async fn send(request: Request<Bytes>) -> Result<http::Response<Incoming>, Error> {
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .http1_max_headers(1024)
        .build(CONNECTOR.clone());
    Ok(client.request(request.map(Full::new)).await?)
}

/// The whole answer, or the error that cut it.
pub(crate) async fn whole(request: Request<Bytes>) -> Result<Answer, Error> {
    let (head, body) = send(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// A request without a body.
pub(crate) fn request(method: Method, url: &str, headers: &[(&str, &str)]) -> Request<Bytes> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Bytes::new()).unwrap()
}

pub(crate) async fn try_get(url: &str) -> Result<Answer, Error> {
    whole(request(Method::GET, url, &[])).await
}

pub(crate) async fn get(url: &str) -> Answer {
    try_get(url).await.unwrap()
}

pub(crate) async fn get_with(url: &str, headers: &[(&str, &str)]) -> Answer {
    whole(request(Method::GET, url, headers)).await.unwrap()
}

pub(crate) async fn post(url: &str) -> Answer {
    whole(request(Method::POST, url, &[])).await.unwrap()
}

/// `POST /upload` of one file, as curl's `-F files=@…` sends it.
pub(crate) async fn upload(url: &str, name: &str, bytes: &[u8]) -> Answer {
    upload_all(url, &[(name, bytes)]).await
}

/// `POST /upload` of several files in one form.
pub(crate) async fn upload_all(url: &str, files: &[(&str, &[u8])]) -> Answer {
    whole(upload_request(url, files)).await.unwrap()
}

/// The request of [`upload_all`].
pub(crate) fn upload_request(url: &str, files: &[(&str, &[u8])]) -> Request<Bytes> {
    let mut body = Vec::new();
    for (name, bytes) in files {
        body.extend_from_slice(file_head(name).as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    let request = Request::post(url).header("content-type", form_type());
    request.body(body.into()).unwrap()
}

const BOUNDARY: &str = "falcon-test-boundary";

/// The media type of a form.
pub(crate) fn form_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

/// What stands before a file's bytes in a form.
pub(crate) fn file_head(name: &str) -> String {
    format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
}

/// Text as it stands in a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
