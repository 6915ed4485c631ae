//! Principals by rights by places by states, each cell against a model: no byte, and no word of what exists, to whom it
//! is not due.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use futures::stream::{self, StreamExt};
use http::Method;

use super::client;
use crate::harness::http as plain;
use crate::harness::node::Ring;
use crate::harness::s3::S3;
use crate::harness::until;

/// What stands in every object, and in no answer that is a refusal.
const MARK: &str = "the-bytes-of";

/// One who may do some things: name, verbs, buckets, prefixes; an empty list is all.
type Rights = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

const PRINCIPALS: [Rights; 9] = [
    ("admin", &["read", "write", "invalidate"], &[], &[]),
    ("reader", &["read"], &[], &[]),
    ("llm-reader", &["read"], &["bucket"], &["llm/"]),
    ("llm-writer", &["read", "write"], &["bucket"], &["llm/"]),
    ("write-only", &["write"], &["bucket", "other"], &["llm/"]),
    ("forgetter", &["invalidate"], &[], &[]),
    (
        "llm-forgetter",
        &["read", "invalidate"],
        &["bucket"],
        &["llm/"],
    ),
    ("other-reader", &["read"], &["other"], &[]),
    (
        "dreamer",
        &["read", "write", "invalidate"],
        &["hidden"],
        &[],
    ),
];

/// Buckets and keys; nothing is stored under `…/absent`. `hidden` is at the origin, and the cache does not serve it.
const PLACES: [(&str, &str); 7] = [
    ("bucket", "llm/a"),
    ("bucket", "llm/absent"),
    ("bucket", "vision/a"),
    ("bucket", "vision/absent"),
    ("other", "llm/a"),
    ("other", "elsewhere"),
    ("hidden", "llm/a"),
];

const DEEDS: [Deed; 13] = [
    Deed::Get,
    Deed::Part,
    Deed::Head,
    Deed::Presigned,
    Deed::List,
    Deed::Put,
    Deed::Delete,
    Deed::CopyFrom,
    Deed::BlobGet,
    Deed::BlobList,
    Deed::BlobUpload,
    Deed::BlobDelete,
    Deed::BlobInvalidate,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Get,
    Part,
    Head,
    Presigned,
    List,
    Put,
    Delete,
    CopyFrom,
    BlobGet,
    BlobList,
    BlobUpload,
    BlobDelete,
    BlobInvalidate,
}

impl Deed {
    fn verb(self) -> &'static str {
        match self {
            Self::Put | Self::Delete | Self::BlobUpload | Self::BlobDelete => "write",
            Self::BlobInvalidate => "invalidate",
            _ => "read",
        }
    }
}

/// The model: what the file means, told a second time.
fn may(rights: &Rights, deed: Deed, bucket: &str, key: &str) -> bool {
    let (_, verbs, buckets, prefixes) = rights;
    let allowed = |verb: &str, bucket: &str, key: &str| {
        bucket != "hidden"
            && verbs.contains(&verb)
            && (buckets.is_empty() || buckets.contains(&bucket))
            && (prefixes.is_empty() || prefixes.iter().any(|it| key.starts_with(it)))
    };
    let copied = deed != Deed::CopyFrom || allowed("write", "bucket", "llm/copy");
    allowed(deed.verb(), bucket, key) && copied
}

/// What came of a deed: the status, S3's or Falcon's code, and everything that was said.
struct Told {
    status: u16,
    code: String,
    text: String,
}

#[expect(clippy::too_many_lines, reason = "a table of deeds")]
async fn done(deed: Deed, gateway: &str, blob: &str, who: &str, bucket: &str, key: &str) -> Told {
    let s3 = client(gateway, who, &format!("{who}-secret"));
    let scratch = format!("{key}-scratch");
    let (at, bearer) = (
        |route: &str, name: &str, value: &str| {
            format!(
                "{blob}/{route}?bucket={bucket}&{name}={}",
                plain::encoded(value)
            )
        },
        format!("Bearer {who}-token"),
    );
    let ask = async |method: Method, url: String| {
        let request = plain::request(method, &url, &[("authorization", &bearer)]);
        let answer = plain::whole(request).await.unwrap();
        let code = answer
            .body
            .starts_with(b"{")
            .then(|| answer.json()["code"].clone());
        let code = code.and_then(|code| code.as_str().map(str::to_owned));
        Told {
            status: answer.status.as_u16(),
            code: code.unwrap_or_default(),
            text: answer.text(),
        }
    };
    match deed {
        Deed::Get => told(s3.get_object().bucket(bucket).key(key).send().await).await,
        Deed::Part => {
            let get = s3.get_object().bucket(bucket).key(key).range("bytes=0-3");
            told(get.send().await).await
        }
        Deed::Head => told_of(s3.head_object().bucket(bucket).key(key).send().await),
        Deed::Presigned => {
            let within = PresigningConfig::expires_in(std::time::Duration::from_mins(1)).unwrap();
            let url = s3
                .get_object()
                .bucket(bucket)
                .key(key)
                .presigned(within)
                .await
                .unwrap();
            let answer = plain::get(url.uri()).await;
            let text = answer.text();
            let code = text
                .split("<Code>")
                .nth(1)
                .and_then(|rest| rest.split('<').next());
            Told {
                status: answer.status.as_u16(),
                code: code.unwrap_or_default().to_owned(),
                text,
            }
        }
        Deed::List => told_of(s3.list_objects_v2().bucket(bucket).prefix(key).send().await),
        Deed::Put => {
            let put = s3.put_object().bucket(bucket).key(&scratch);
            told_of(put.body(ByteStream::from_static(b"scratch")).send().await)
        }
        Deed::Delete => told_of(s3.delete_object().bucket(bucket).key(&scratch).send().await),
        Deed::CopyFrom => {
            let copy = s3.copy_object().bucket("bucket").key("llm/copy");
            told_of(copy.copy_source(format!("{bucket}/{key}")).send().await)
        }
        Deed::BlobGet => ask(Method::GET, at("get", "key", key)).await,
        Deed::BlobList => ask(Method::GET, at("list", "prefix", key)).await,
        Deed::BlobDelete => ask(Method::DELETE, at("delete", "key", &scratch)).await,
        Deed::BlobInvalidate => ask(Method::POST, at("invalidate", "key", key)).await,
        Deed::BlobUpload => {
            // The rights are of the path; the file's name is the rest of the key.
            let url = at("upload", "path", &scratch);
            let mut form = plain::file_head("f").into_bytes();
            form.extend_from_slice(b"scratch\r\n--falcon-test-boundary--\r\n");
            let request = http::Request::post(url)
                .header("authorization", &bearer)
                .header("content-type", plain::form_type());
            let answer = plain::whole(request.body(form.into()).unwrap())
                .await
                .unwrap();
            Told {
                status: answer.status.as_u16(),
                code: answer.json()["code"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                text: answer.text(),
            }
        }
    }
}

fn told_of<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    result: Result<T, SdkError<E, aws_sdk_s3::config::http::HttpResponse>>,
) -> Told {
    match result {
        Ok(output) => Told {
            status: 200,
            code: String::new(),
            text: format!("{output:?}"),
        },
        Err(error) => Told {
            status: error.raw_response().map_or(0, |raw| raw.status().as_u16()),
            code: error.code().unwrap_or_default().to_owned(),
            text: format!(
                "{:?}",
                error.raw_response().and_then(|raw| raw.body().bytes())
            ),
        },
    }
}

async fn told(
    result: Result<
        aws_sdk_s3::operation::get_object::GetObjectOutput,
        SdkError<
            aws_sdk_s3::operation::get_object::GetObjectError,
            aws_sdk_s3::config::http::HttpResponse,
        >,
    >,
) -> Told {
    match result {
        Ok(output) => {
            let bytes = output.body.collect().await.unwrap().into_bytes();
            Told {
                status: 200,
                code: String::new(),
                text: String::from_utf8_lossy(&bytes).into_owned(),
            }
        }
        Err(error) => told_of::<(), _>(Err(error)),
    }
}

fn access_file(principals: &[Rights]) -> String {
    let mut text = String::new();
    for (name, verbs, buckets, prefixes) in principals {
        write!(text, "- name: {name}\n  accessKeyId: {name}\n  secretAccessKey: {name}-secret\n  token: {name}-token\n  verbs: {verbs:?}\n").unwrap();
        for (field, list) in [("buckets", buckets), ("prefixes", prefixes)] {
            let list = if list.is_empty() { &["*"] } else { *list };
            writeln!(text, "  {field}: {list:?}").unwrap();
        }
    }
    text
}

/// A place to ask at: the S3 gateway, and the blob API.
type Gateways = (String, String);

/// Tries every deed of these principals there; what each refusal said, by principal and deed.
async fn try_all(
    state: &str,
    gateways: &Gateways,
    principals: &[Rights],
    allowed: impl Fn(&Rights, Deed, &str, &str) -> bool,
) -> usize {
    let mut cells = Vec::new();
    for rights in principals {
        for (bucket, key) in PLACES {
            for deed in DEEDS {
                cells.push((*rights, bucket, key, deed));
            }
        }
    }
    let answers = stream::iter(cells).map(async |(rights, bucket, key, deed)| {
        let told = done(deed, &gateways.0, &gateways.1, rights.0, bucket, key).await;
        (rights, bucket, key, deed, told)
    });
    let mut answers = answers.buffer_unordered(16);
    let (mut count, mut refusals) = (0, BTreeMap::new());
    while let Some((rights, bucket, key, deed, told)) = answers.next().await {
        count += 1;
        let cell = format!("{state}: {} {deed:?} {bucket}/{key}", rights.0);
        let shown = format!("{cell}: {} {} {}", told.status, told.code, told.text);
        if allowed(&rights, deed, bucket, key) {
            assert!(!matches!(told.status, 0 | 401 | 403), "{shown}");
            if deed == Deed::Get && !key.ends_with("absent") {
                assert_eq!(told.text, format!("{MARK} {bucket}/{key}"), "{shown}");
            }
            continue;
        }
        assert!(matches!(told.status, 401 | 403), "{shown}");
        assert!(!told.text.contains(MARK), "{shown}");
        // Whether it is there or not, the refusal is the same.
        let known = refusals
            .entry((rights.0, format!("{deed:?}"), bucket))
            .or_insert_with(|| (told.status, told.code.clone()));
        assert_eq!(*known, (told.status, told.code.clone()), "{shown}");
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_byte_or_a_hint_that_is_not_due_to_him() {
    let s3 = S3::start().await;
    for bucket in ["other", "hidden"] {
        s3.create_bucket(bucket);
    }
    for (bucket, key) in PLACES {
        if !key.ends_with("absent") {
            s3.put(bucket, key, format!("{MARK} {bucket}/{key}"));
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), access_file(&PRINCIPALS)).unwrap();
    let access = format!("--access-file={}", file.path().display());
    let flags = ["--s3-auth=keys", "--buckets=other", &access];
    let ring = Ring::start(&s3.endpoint(), 2, &flags).await;
    let sidecar = ring.sidecar(&flags).await;
    let gateways = |place: usize| {
        let node = ring.nodes.get(place).unwrap_or(&sidecar);
        (node.s3.clone(), node.url.clone())
    };
    let mut cells = 0;
    // Cold, then what that has warmed, then where others have to be asked.
    for (state, place) in [
        ("cold", 0),
        ("warm", 0),
        ("another node", 1),
        ("sidecar", 2),
    ] {
        cells += try_all(state, &gateways(place), &PRINCIPALS, may).await;
    }
    // Keys that were just taken out: the admin's alone are left.
    std::fs::write(file.path(), access_file(&PRINCIPALS[..1])).unwrap();
    for place in 0..3 {
        until("the keys are revoked", || async {
            let (gateway, blob) = gateways(place);
            let told = done(Deed::Get, &gateway, &blob, "reader", "bucket", "llm/a").await;
            (told.code == "InvalidAccessKeyId").then_some(())
        })
        .await;
        let never = |_: &Rights, _: Deed, _: &str, _: &str| false;
        cells += try_all("revoked", &gateways(place), &PRINCIPALS[1..], never).await;
    }
    println!("{cells} cells");
    assert!(cells >= 2_000, "{cells}");
}
