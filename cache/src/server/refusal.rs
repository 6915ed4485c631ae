//! What the server answers itself, before any route: too many connections, and heads that must not reach a route.

use std::io;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::head_scanner::Fault;

/// The media type and the body of an error, in the form of the port.
pub type ErrorBody = fn(code: &str, message: &str) -> (&'static str, Vec<u8>);

/// How long a refused client may take to read why.
const READ_TIME: Duration = Duration::from_secs(1);

/// The answer to a head that is refused. The connection is closed after it.
pub(super) fn bad_head(fault: Fault, error_body: ErrorBody) -> Response<Body> {
    let message = match fault {
        Fault::TwoLengths => "a request must have Content-Length or Transfer-Encoding, not both",
        Fault::Fragment => "a # in the request's target must be written as %23",
        Fault::BehindBody => "a request after one with a body must wait for that one's answer",
        Fault::BareNewline => "each line of the request's head must end with CR LF",
        Fault::Host => {
            "a request must have exactly one Host header, with a host and optionally a port"
        }
    };
    let (media, body) = error_body("BadRequest", message);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Says that there are too many connections, and reads what the client had sent: closing a socket with unread bytes
/// would discard the answer.
pub(super) async fn too_many_connections(mut stream: TcpStream, error_body: ErrorBody) {
    let message = "too many connections to this node: try again";
    let (media, body) = error_body("TooManyConnections", message);
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {media}\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let talk = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        let mut sink = [0; 1024];
        while stream.read(&mut sink).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // A client that is gone or slow needs no answer.
    timeout(READ_TIME, talk).await.ok();
}
