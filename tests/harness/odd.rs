//! An origin whose answers a test writes byte for byte: what no library for S3 would say.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request, as far as its head goes.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    head: String,
}

impl Asked {
    fn of(head: &str) -> Self {
        let mut words = head.split(' ').map(ToOwned::to_owned);
        Self {
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            head: head.to_owned(),
        }
    }

    /// A header of the request.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }

    /// The bytes it wants of an object of `size`; `None` is all of them.
    fn range(&self, size: usize) -> Option<Range<usize>> {
        let (first, last) = self
            .header("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        let end = last.parse::<usize>().map_or(size, |last| last + 1);
        Some(first.parse().unwrap()..end.min(size))
    }
}

/// The origin. It stops with the runtime of the test.
pub(crate) struct Odd {
    pub(crate) endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Odd {
    /// Answers each request, on a connection of its own, with the bytes that `script` gives.
    pub(crate) async fn start(script: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (asked, script) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(script));
        let log = asked.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, log) = (script.clone(), log.clone());
                tokio::spawn(async move {
                    // A client that hangs up wanted no more.
                    let _ = answer(stream, &*script, &log).await;
                });
            }
        });
        Self { endpoint, asked }
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many of them had this method.
    pub(crate) fn count(&self, method: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|it| it.method == method).count()
    }

    /// Counts from nothing again.
    pub(crate) fn forget_requests(&self) {
        self.asked.lock().unwrap().clear();
    }
}

async fn answer(
    mut stream: TcpStream,
    script: &(dyn Fn(&Asked) -> Vec<u8> + Send + Sync),
    log: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let asked = Asked::of(&String::from_utf8_lossy(&head));
    log.lock().unwrap().push(asked.clone());
    let answer = script(&asked);
    stream.write_all(&answer).await?;
    stream.shutdown().await
}

/// A status line, header lines (each with its end) and a body, which is not sent after a HEAD.
pub(crate) fn says(asked: &Asked, status: &str, fields: &[u8], body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
    answer.extend_from_slice(fields);
    answer.extend_from_slice(b"\r\n");
    if asked.method != "HEAD" {
        answer.extend_from_slice(body);
    }
    answer
}

/// The object `bytes` as S3 gives it, with these header lines.
pub(crate) fn object(asked: &Asked, bytes: &[u8], fields: &[u8]) -> Vec<u8> {
    let size = bytes.len();
    let Some(range) = asked.range(size) else {
        return whole(asked, bytes, fields);
    };
    if range.is_empty() {
        return says(
            asked,
            "416 Range Not Satisfiable",
            b"Content-Length: 0\r\n",
            b"",
        );
    }
    let mut lines = format!(
        "Content-Length: {}\r\nContent-Range: bytes {}-{}/{size}\r\n",
        range.len(),
        range.start,
        range.end - 1
    )
    .into_bytes();
    lines.extend_from_slice(fields);
    says(asked, "206 Partial Content", &lines, &bytes[range])
}

/// The object, whatever range is asked for.
pub(crate) fn whole(asked: &Asked, bytes: &[u8], fields: &[u8]) -> Vec<u8> {
    let mut lines = format!("Content-Length: {}\r\n", bytes.len()).into_bytes();
    lines.extend_from_slice(fields);
    says(asked, "200 OK", &lines, bytes)
}

/// The object, whatever range is asked for, in one chunk without a length before it.
pub(crate) fn chunked(asked: &Asked, bytes: &[u8], fields: &[u8]) -> Vec<u8> {
    let lines = [b"Transfer-Encoding: chunked\r\n", fields].concat();
    let mut body = Vec::new();
    if !bytes.is_empty() {
        body.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    says(asked, "200 OK", &lines, &body)
}
