//! Asking another node: the client of the routes under `/_falcon/`. Which node, and what then, is `proxy`'s to decide.
//!
//! HTTP/1.1 over pooled connections; bodies are streamed. Every request carries the cache's shared token, when there is
//! one.

mod message;
mod token;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use message::{
    Contact, Heartbeat, HeartbeatAck, InvalidateAck, InvalidateRequest, Owing, ReadRequest,
    ReadResponse, Refusal, RefusalKind, SenderStatus,
};
pub use token::Token;

/// Carries the shared token.
pub const TOKEN: HeaderName = HeaderName::from_static("x-falcon-peer-token");
/// Carries [`ReadResponse`], as JSON.
pub const READ_RESPONSE: HeaderName = HeaderName::from_static("x-falcon-read-response");

/// How long a connection to a node of the same cluster may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// Small answers (heartbeat, invalidate) are a few KiB; a cache of 4,096 nodes still fits, and what they may owe.
const MAX_JSON_BYTES: usize = 2 << 20;

/// Why another node did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("{url} can't be reached")]
    Unreachable {
        /// The node.
        url: String,
        /// What the client said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It did not answer in time.
    #[error("{url} did not answer within {} ms", after.as_millis())]
    Timeout {
        /// The node.
        url: String,
        /// How long it had.
        after: Duration,
    },
    /// It answered, with a reason why not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It answered what no Falcon node answers.
    #[error("{url} answered {what}: is it a node of this cache, and of this version?")]
    Broken {
        /// The node.
        url: String,
        /// What it answered.
        what: String,
    },
}

impl Error {
    /// Nothing listens at the address: no process that could hold anything runs there.
    pub fn is_refused_connection(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = match self {
            Self::Unreachable { source, .. } => Some(&**source),
            _ => None,
        };
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>()
                && error.kind() == io::ErrorKind::ConnectionRefused
            {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// The client.
#[derive(Debug, Clone)]
pub struct Peers {
    client: Client<HttpConnector, Full<Bytes>>,
    token: Token,
}

/// The bytes of a node's answer.
#[derive(Debug)]
pub struct PeerBody {
    url: String,
    frames: Incoming,
    left: u64,
}

impl PeerBody {
    /// The next bytes; an error if there are fewer than promised. More than promised are never read.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        while self.left > 0 {
            let broken = |what: &str| Error::Broken {
                url: self.url.clone(),
                what: what.to_owned(),
            };
            match self.frames.frame().await {
                None => return Some(Err(broken("fewer bytes than it promised"))),
                Some(Err(source)) => {
                    return Some(Err(Error::Unreachable {
                        url: self.url.clone(),
                        source: source.into(),
                    }));
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if data.is_empty() {
                        continue;
                    }
                    let Some(left) = self.left.checked_sub(data.len() as u64) else {
                        return Some(Err(broken("more bytes than it promised")));
                    };
                    self.left = left;
                    return Some(Ok(data));
                }
            }
        }
        None
    }
}

impl Peers {
    /// A client that sends `token` with its requests.
    pub fn new(token: Token) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_mins(1))
            .http1_read_buf_exact_size(256 * 1024)
            .build(connector);
        Self { client, token }
    }

    /// Sends a heartbeat. The caller bounds the time.
    pub async fn heartbeat(&self, url: &str, heartbeat: &Heartbeat) -> Result<HeartbeatAck, Error> {
        let answer = self
            .send(url, "/_falcon/heartbeat", json(heartbeat))
            .await?;
        decode(url, answer).await
    }

    /// Gives one round of an invalidation to a node. The caller bounds the time.
    pub async fn invalidate(
        &self,
        url: &str,
        request: &InvalidateRequest,
    ) -> Result<InvalidateAck, Error> {
        let answer = self.send(url, "/_falcon/invalidate", json(request)).await?;
        decode(url, answer).await
    }

    /// Asks for an object's current version, or for bytes of a version. There is no deadline here: the asked node
    /// has its own for S3, and whether the node still lives is the heartbeat's to know.
    pub async fn read(
        &self,
        url: &str,
        request: &ReadRequest,
    ) -> Result<(ReadResponse, PeerBody), Error> {
        let response = self.send(url, "/_falcon/read", json(request)).await?;
        let broken = |what: &str| Error::Broken {
            url: url.to_owned(),
            what: what.to_owned(),
        };
        let read_response: ReadResponse = response
            .headers()
            .get(READ_RESPONSE)
            .and_then(|value| serde_json::from_slice(value.as_bytes()).ok())
            .ok_or_else(|| broken("no description of what follows"))?;
        if let Some(asked) = &request.bytes
            && (read_response.bytes.start != asked.start || read_response.bytes.end > asked.end)
            && !read_response.bytes.is_empty()
        {
            return Err(broken("other bytes than were asked for"));
        }
        let left = read_response
            .bytes
            .end
            .saturating_sub(read_response.bytes.start);
        Ok((
            read_response,
            PeerBody {
                url: url.to_owned(),
                frames: response.into_body(),
                left,
            },
        ))
    }

    /// Asks the owner of an extent to hold it; the answer comes when it does.
    pub async fn warm(&self, url: &str, request: &ReadRequest) -> Result<u64, Error> {
        let response = self.send(url, "/_falcon/warm", json(request)).await?;
        decode(url, response).await
    }

    /// Gives a block that was just written to S3 to its owner. `request` names the version and the bytes.
    pub async fn write_through(
        &self,
        url: &str,
        request: &ReadRequest,
        block: Bytes,
    ) -> Result<(), Error> {
        let request = utf8_percent_encode(
            &serde_json::to_string(request).unwrap_or_default(),
            NON_ALPHANUMERIC,
        )
        .to_string();
        let response = self
            .send(url, &format!("/_falcon/write-through?{request}"), block)
            .await?;
        decode(url, response).await
    }

    async fn send(&self, url: &str, path: &str, body: Bytes) -> Result<Response<Incoming>, Error> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unreachable {
            url: url.to_owned(),
            source,
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{url}{path}"))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| unreachable(error.into()))?;
        if let Some(token) = self.token.bytes() {
            let mut value =
                HeaderValue::from_bytes(&token).map_err(|error| unreachable(error.into()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(TOKEN, value);
        }
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| unreachable(error.into()))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        match decode::<Refusal>(url, response).await {
            Ok(refusal) => Err(refusal.into()),
            Err(Error::Broken { url, .. }) => Err(Error::Broken {
                url,
                what: status.to_string(),
            }),
            Err(error) => Err(error),
        }
    }
}

async fn decode<A: DeserializeOwned>(url: &str, response: Response<Incoming>) -> Result<A, Error> {
    let body = Limited::new(response.into_body(), MAX_JSON_BYTES)
        .collect()
        .await;
    let unreachable = |source| Error::Unreachable {
        url: url.to_owned(),
        source,
    };
    let body = body.map_err(unreachable)?.to_bytes();
    let broken = |error: serde_json::Error| Error::Broken {
        url: url.to_owned(),
        what: error.to_string(),
    };
    serde_json::from_slice(&body).map_err(broken)
}

fn json<Q: Serialize>(question: &Q) -> Bytes {
    serde_json::to_vec(question)
        .expect("these types have string keys only")
        .into()
}
