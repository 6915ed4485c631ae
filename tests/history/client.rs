//! Clients of both APIs: each request becomes a line of the history.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Request};
use md5::{Digest, Md5};
use tokio::time::timeout;

use super::checker::{Effect, Outcome, Read, Span, Value, Write};
use super::dice::Dice;
use super::rig::{ALL, BUCKET, KEYS, Rig};
use super::version::Version;
use crate::harness::http::{self, Answer, encoded};

/// A client that has waited so long gives up.
const READ: Duration = Duration::from_secs(6);
const WRITE: Duration = Duration::from_secs(20);

/// Who writes, and what it has written.
pub(super) struct Writer<'a> {
    pub(super) rig: &'a Rig,
    pub(super) dice: Dice,
    pub(super) me: usize,
    pub(super) sequence: u64,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Upload,
    Put,
    PutIf,
    Copy,
    Multipart,
    Delete,
    DeleteGateway,
    DeleteMany,
    DeletePrefix,
    Behind,
    RemoveBehind,
}

const CHANGES: [(u64, Change); 11] = [
    (6, Change::Upload),
    (6, Change::Put),
    (5, Change::PutIf),
    (2, Change::Copy),
    (2, Change::Multipart),
    (1, Change::Delete),
    (2, Change::DeleteGateway),
    (2, Change::DeleteMany),
    (1, Change::DeletePrefix),
    (7, Change::Behind),
    (1, Change::RemoveBehind),
];

/// What an answer came to, in one word or two.
fn told(answer: Option<&Answer>) -> String {
    answer.map_or_else(
        || "no answer".to_owned(),
        |answer| answer.status.as_u16().to_string(),
    )
}

impl Writer<'_> {
    /// One change of some object by some way at some node, and often an invalidation where its outcome is not known.
    pub(super) async fn step(&mut self) {
        let change = self.dice.weighed(&CHANGES);
        let key = self.dice.place(KEYS.len());
        let node = self.dice.place(ALL);
        let known = match change {
            Change::Upload => self.upload(key, node).await,
            Change::Put => self.put(key, node, &[]).await,
            Change::PutIf => self.put_if(key, node).await,
            Change::Copy => self.copy(key, node).await,
            Change::Multipart => self.multipart(key, node).await,
            Change::Delete => {
                let path = format!("/delete?key={}", encoded(KEYS[key]));
                self.delete(vec![key], node, Method::DELETE, &path).await
            }
            Change::DeletePrefix => {
                let prefix = &KEYS[key][..1];
                let keys = (0..KEYS.len())
                    .filter(|at| KEYS[*at].starts_with(prefix))
                    .collect();
                let path = format!("/delete?prefix={prefix}");
                self.delete(keys, node, Method::DELETE, &path).await
            }
            Change::DeleteGateway => self.delete_at_gateway(key, node).await,
            Change::DeleteMany => self.delete_many(node).await,
            Change::Behind => {
                let (_, bytes) = self.version(key);
                self.rig.s3.put(BUCKET, KEYS[key], bytes);
                false
            }
            Change::RemoveBehind => {
                self.rig.s3.remove(BUCKET, KEYS[key]);
                false
            }
        };
        if !known && self.dice.percent(70) {
            let node = self.dice.place(ALL);
            self.invalidate(key, node).await;
        }
    }

    /// A version that nobody has written yet, and its bytes.
    pub(super) fn version(&mut self, key: usize) -> (Version, Bytes) {
        self.sequence += 1;
        let version = Version {
            key,
            writer: self.me,
            sequence: self.sequence,
        };
        let most = self
            .dice
            .weighed(&[(10, 4_000), (6, 200_000), (3, 700_000), (1, 2_000_000)]);
        let size = self.dice.within(64..most);
        (version, self.rig.versions.make(version, size))
    }

    /// Sends it; what came of it. What no one could tell apart from a success is one.
    async fn send(
        &self,
        write: (Vec<usize>, usize, Effect),
        what: &str,
        request: Request<Bytes>,
    ) -> (Outcome, Option<Answer>) {
        let (keys, node, effect) = write;
        let start = self.rig.now();
        let answer = timeout(WRITE, http::whole(request))
            .await
            .ok()
            .and_then(Result::ok);
        let outcome = self.outcome(answer.as_ref());
        let told = told(answer.as_ref());
        self.rig.note_write(Write {
            keys,
            node,
            span: Span {
                start,
                end: self.rig.now(),
            },
            effect,
            outcome: outcome.clone(),
            how: format!("{what} by {} at {node}: {told}", self.me),
        });
        (outcome, answer)
    }

    fn outcome(&self, answer: Option<&Answer>) -> Outcome {
        let Some(answer) = answer else {
            return Outcome::Unknown { answered: false };
        };
        match answer.status.as_u16() {
            200 | 204 | 207 => Outcome::Done {
                unanswered: self.unanswered(answer),
            },
            400..500 => Outcome::Refused,
            _ => Outcome::Unknown { answered: true },
        }
    }

    /// Who has not forgotten yet, as the answer says it: by header, by `invalidation`, or by the table of
    /// `/invalidate`.
    fn unanswered(&self, answer: &Answer) -> Vec<usize> {
        let mut names: Vec<String> = Vec::new();
        let header = answer.header("x-falcon-unanswered");
        names.extend(header.split(',').map(|name| name.trim().to_owned()));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let listed = body["invalidation"]["unanswered"].as_array();
        let table = body["nodes"].as_array().into_iter().flatten();
        let table = table.filter(|node| node["answered"] == false);
        for node in listed.into_iter().flatten().chain(table) {
            names.extend(node["name"].as_str().map(str::to_owned));
        }
        self.rig.named(names.iter().map(String::as_str))
    }

    async fn stored(
        &self,
        key: usize,
        node: usize,
        version: Version,
        what: &str,
        request: Request<Bytes>,
    ) -> bool {
        let write = (vec![key], node, Effect::Store(version));
        let (outcome, _) = self
            .send(write, &format!("{what} {version}"), request)
            .await;
        !matches!(outcome, Outcome::Unknown { .. })
    }

    pub(super) async fn upload(&mut self, key: usize, node: usize) -> bool {
        let (version, bytes) = self.version(key);
        let url = format!("{}/upload", self.rig.places[node].blob);
        let request = http::upload_request(&url, &[(KEYS[key], &bytes)]);
        self.stored(key, node, version, "upload", request).await
    }

    async fn put(&mut self, key: usize, node: usize, headers: &[(&str, &str)]) -> bool {
        let (version, bytes) = self.version(key);
        let mut request = http::request(Method::PUT, &self.at_gateway(node, KEYS[key]), headers);
        *request.body_mut() = bytes;
        let what = if headers.is_empty() {
            "put"
        } else {
            "conditional put"
        };
        self.stored(key, node, version, what, request).await
    }

    fn at_gateway(&self, node: usize, key: &str) -> String {
        format!("{}/{BUCKET}/{key}", self.rig.places[node].gateway)
    }

    async fn put_if(&mut self, key: usize, node: usize) -> bool {
        let held = self.rig.s3.stored(BUCKET, KEYS[key]);
        match held {
            Some(held) if self.dice.percent(80) => {
                let tag = format!("\"{}\"", held.etag);
                self.put(key, node, &[("if-match", &tag)]).await
            }
            _ => self.put(key, node, &[("if-none-match", "*")]).await,
        }
    }

    async fn copy(&mut self, key: usize, node: usize) -> bool {
        let (version, bytes) = self.version(key);
        let source = format!("{BUCKET}/source/{version}");
        self.rig.s3.put(BUCKET, &format!("source/{version}"), bytes);
        let headers = [("x-amz-copy-source", source.as_str())];
        let request = http::request(Method::PUT, &self.at_gateway(node, KEYS[key]), &headers);
        self.stored(key, node, version, "copy", request).await
    }

    async fn multipart(&mut self, key: usize, node: usize) -> bool {
        let (version, bytes) = self.version(key);
        let url = self.at_gateway(node, KEYS[key]);
        let begun = timeout(
            WRITE,
            http::whole(http::request(Method::POST, &format!("{url}?uploads"), &[])),
        );
        let Ok(Ok(begun)) = begun.await else {
            return true;
        };
        let text = begun.text();
        let id = text
            .split("<UploadId>")
            .nth(1)
            .and_then(|rest| rest.split('<').next());
        let Some(id) = id else {
            return true;
        };
        let half = bytes.len() / 2;
        let parts = [&bytes[..half], &bytes[half..]];
        let mut list = String::new();
        for (at, part) in parts.iter().enumerate() {
            let number = at + 1;
            let url = format!("{url}?partNumber={number}&uploadId={id}");
            let mut request = http::request(Method::PUT, &url, &[]);
            *request.body_mut() = bytes.slice_ref(part);
            match timeout(WRITE, http::whole(request)).await {
                Ok(Ok(answer)) if answer.status == 200 => {
                    let tag = answer.header("etag").to_owned();
                    write!(
                        list,
                        "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
                    )
                    .expect("a string takes it");
                }
                _ => return true,
            }
        }
        self.rig.versions.in_parts(version, &parts);
        let xml = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let mut request = http::request(Method::POST, &format!("{url}?uploadId={id}"), &[]);
        *request.body_mut() = xml.into();
        self.stored(key, node, version, "complete", request).await
    }

    async fn delete(&self, keys: Vec<usize>, node: usize, method: Method, path: &str) -> bool {
        let url = format!("{}{path}", self.rig.places[node].blob);
        let request = http::request(method, &url, &[]);
        let (outcome, _) = self.send((keys, node, Effect::Remove), path, request).await;
        !matches!(outcome, Outcome::Unknown { .. })
    }

    async fn delete_at_gateway(&self, key: usize, node: usize) -> bool {
        let request = http::request(Method::DELETE, &self.at_gateway(node, KEYS[key]), &[]);
        let (outcome, _) = self
            .send((vec![key], node, Effect::Remove), "delete", request)
            .await;
        !matches!(outcome, Outcome::Unknown { .. })
    }

    async fn delete_many(&mut self, node: usize) -> bool {
        let first = self.dice.place(KEYS.len() - 1);
        let keys = vec![first, first + 1];
        let objects = keys
            .iter()
            .map(|key| format!("<Object><Key>{}</Key></Object>", KEYS[*key]));
        let xml = format!("<Delete>{}</Delete>", objects.collect::<String>());
        let sum = base64(&Md5::digest(xml.as_bytes()));
        let url = format!("{}/{BUCKET}?delete", self.rig.places[node].gateway);
        let mut request = http::request(Method::POST, &url, &[("content-md5", &sum)]);
        *request.body_mut() = xml.into();
        let (outcome, _) = self
            .send((keys, node, Effect::Remove), "delete many", request)
            .await;
        !matches!(outcome, Outcome::Unknown { .. })
    }

    /// Makes Falcon forget the key, by one scope or another.
    pub(super) async fn invalidate(&mut self, key: usize, node: usize) -> Outcome {
        let (query, keys) = match self.dice.within(0..20) {
            0 => ("all=true".to_owned(), (0..KEYS.len()).collect()),
            1..5 => {
                let prefix = &KEYS[key][..1];
                let keys = (0..KEYS.len()).filter(|at| KEYS[*at].starts_with(prefix));
                (format!("prefix={prefix}"), keys.collect())
            }
            _ => (format!("key={}", encoded(KEYS[key])), vec![key]),
        };
        self.forget(keys, node, &query).await
    }

    /// Makes Falcon forget that key alone.
    pub(super) async fn invalidate_key(&self, key: usize, node: usize) -> Outcome {
        let query = format!("key={}", encoded(KEYS[key]));
        self.forget(vec![key], node, &query).await
    }

    async fn forget(&self, keys: Vec<usize>, node: usize, query: &str) -> Outcome {
        let url = format!("{}/invalidate?{query}", self.rig.places[node].blob);
        let request = http::request(Method::POST, &url, &[]);
        self.send(
            (keys, node, Effect::Invalidate),
            &format!("invalidate {query}"),
            request,
        )
        .await
        .0
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let mut bits = 0_u32;
        for at in 0..3 {
            bits = bits << 8 | u32::from(group.get(at).copied().unwrap_or(0));
        }
        for at in 0..4 {
            let letter = usize::try_from(bits >> (18 - 6 * at) & 63).expect("six bits");
            out.push(if at <= group.len() {
                char::from(LETTERS[letter])
            } else {
                '='
            });
        }
    }
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Whole,
    Part,
    Tail,
    Head,
    Unless,
    PartOf,
}

const WAYS: [(u64, Way); 6] = [
    (8, Way::Whole),
    (6, Way::Part),
    (1, Way::Tail),
    (3, Way::Head),
    (3, Way::Unless),
    (2, Way::PartOf),
];

/// One read of some object by some way at some node. An answer that is wrong in itself is an error.
pub(super) async fn read_some(rig: &Rig, dice: &mut Dice) -> Result<(), String> {
    let key = dice.place(KEYS.len());
    let node = dice.place(ALL);
    let way = dice.weighed(&WAYS);
    let held = rig.s3.stored(BUCKET, KEYS[key]);
    let tag = held.as_ref().map_or_else(
        || "\"none\"".to_owned(),
        |held| format!("\"{}\"", held.etag),
    );
    let size = held.and_then(|held| rig.versions.size(rig.versions.of_tag(&held.etag)?));
    let from = dice.within(0..size.unwrap_or(2).max(2));
    let until = from + dice.within(0..300_000);
    let range = format!("bytes={from}-{until}");
    let headers: Vec<(&str, &str)> = match way {
        Way::Whole | Way::Head => vec![],
        Way::Part => vec![("range", &range)],
        Way::Tail => vec![("range", "bytes=-1000")],
        Way::Unless => vec![("if-none-match", &tag)],
        Way::PartOf => vec![("if-match", &tag), ("range", &range)],
    };
    let method = if way == Way::Head {
        Method::HEAD
    } else {
        Method::GET
    };
    read(rig, key, node, dice.percent(50), (method, &headers))
        .await
        .map(drop)
}

/// What a read gave.
pub(super) enum Given {
    /// A version, or the word that there is none.
    Value,
    /// An error, or no answer.
    Nothing(String),
}

/// One read; notes what it gave.
pub(super) async fn read(
    rig: &Rig,
    key: usize,
    node: usize,
    gateway: bool,
    (method, headers): (Method, &[(&str, &str)]),
) -> Result<Given, String> {
    let place = &rig.places[node];
    let url = if gateway {
        format!("{}/{BUCKET}/{}", place.gateway, KEYS[key])
    } else {
        format!("{}/get?key={}", place.blob, encoded(KEYS[key]))
    };
    let request = http::request(method.clone(), &url, headers);
    let start = rig.now();
    let answer = match timeout(READ, http::whole(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Ok(Given::Nothing(error.to_string())),
        Err(_) => return Ok(Given::Nothing(format!("no answer within {READ:?}"))),
    };
    let span = Span {
        start,
        end: rig.now(),
    };
    let api = if gateway { "gateway" } else { "blob" };
    let how = format!(
        "{method} {headers:?} ({api}, {}, {})",
        answer.status.as_u16(),
        answer.source()
    );
    let value = value_of(rig, &answer, &method, headers);
    let value = value.map_err(|wrong| {
        format!(
            "key {key} at node {node} at {}, {how}: {wrong}",
            super::checker::seconds(span.end)
        )
    })?;
    let Some(value) = value else {
        return Ok(Given::Nothing(format!("{how}: {}", answer.text())));
    };
    rig.note_read(Read {
        key,
        node,
        span,
        value,
        how,
    });
    Ok(Given::Value)
}

/// What an answer says of its object, if it says anything; what is wrong with it in itself otherwise.
fn value_of(
    rig: &Rig,
    answer: &Answer,
    method: &Method,
    headers: &[(&str, &str)],
) -> Result<Option<Value>, String> {
    let etag = answer.headers.get("etag").map(|_| answer.header("etag"));
    let offset = match answer.status.as_u16() {
        404 => return Ok(Some(Value::Absent)),
        304 => {
            let sent = headers.iter().find(|(name, _)| *name == "if-none-match");
            let sent = sent.map(|(_, tag)| *tag).ok_or("304 to no condition")?;
            return Ok(rig.versions.of_tag(sent).map(Value::Stored));
        }
        200 => 0,
        206 => {
            let range = answer.header("content-range");
            let start = range
                .strip_prefix("bytes ")
                .and_then(|range| range.split('-').next());
            start
                .and_then(|start| start.parse().ok())
                .ok_or(format!("206 with {range:?}"))?
        }
        _ => return Ok(None),
    };
    let version = if *method == Method::HEAD {
        let version = etag.map(|tag| {
            rig.versions
                .of_tag(tag)
                .ok_or(format!("nobody wrote {tag}"))
        });
        version.transpose()?
    } else {
        rig.versions.identify(etag, offset, &answer.body)?
    };
    let Some(version) = version else {
        return Ok(None);
    };
    let size = rig.versions.size(version).unwrap_or_default();
    let said = match answer.status.as_u16() {
        206 => answer
            .header("content-range")
            .rsplit('/')
            .next()
            .and_then(|size| size.parse().ok()),
        _ if *method == Method::HEAD => answer.header("content-length").parse().ok(),
        _ => Some(answer.body.len() as u64),
    };
    if said.is_some_and(|said| said != size) {
        return Err(format!(
            "{version} has {size} bytes, and the answer says {said:?}"
        ));
    }
    Ok(Some(Value::Stored(version)))
}
