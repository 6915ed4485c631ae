//! Requests that two servers in a row may read in two ways, by the hundred: what the gateway judged must be what S3
//! does.
//!
//! They are sent to a gateway before an S3 that reads as leniently as any server is known to, and before SeaweedFS
//! where that is installed.

use std::sync::{Arc, Mutex};

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::SdkBody;

use super::client;
use crate::harness::http as plain;
use crate::harness::node::Ring;
use crate::harness::s3::S3;
use crate::harness::weed::Weed;

/// Each number is another test; this one is the same on every machine.
const SEED: u64 = 0x5eed_f00d;

/// Requests of each round.
const CASES: usize = 400;

/// What stands in every object that the limited caller may not read.
const MARK: &str = "the-private-bytes";

pub(super) const RULES: &str = "
- {name: all, accessKeyId: ALL, secretAccessKey: all-secret, buckets: ['*'], prefixes: ['*'], verbs: [read, write, invalidate]}
- {name: models, accessKeyId: MODELS, secretAccessKey: models-secret, buckets: ['*'], verbs: [read, write], prefixes: [models/]}
";

const S3_NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) method: &'static str,
    /// Path and query, as they are sent.
    pub(super) target: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
    /// Keys that it may touch at some S3.
    pub(super) touches: Vec<String>,
}

impl Case {
    pub(super) fn get(target: String) -> Self {
        Self {
            method: "GET",
            target,
            headers: Vec::new(),
            body: String::new(),
            touches: Vec::new(),
        }
    }
}

/// The next request; the objects that it is about carry its number.
fn case(dice: &mut Dice, number: usize) -> Case {
    match dice.below(10) {
        0..=4 => deletion(dice, number),
        5 | 6 => list(dice),
        7 => read(dice, number),
        _ => copy(dice, number),
    }
}

/// One more object of a list, the private one in some disguise or the allowed one in an odd form; `private` is the key
/// that is meant in some reading.
fn disguised(dice: &mut Dice, number: usize, allowed: &str, private: &mut String) -> String {
    match dice.below(16) {
        0 => format!("<s:Object><s:Key>{private}</s:Key></s:Object>"),
        1 => {
            *private = format!("private/models/{number}");
            format!("<Object><Key><![CDATA[private/]]>models/{number}</Key></Object>")
        }
        2 => format!("<Object><Key>{private}</Key><Key>{allowed}</Key></Object>"),
        3 => format!("<Object><Key>{allowed}</Key><Key>{private}</Key></Object>"),
        4 => format!("<Object><Key>{allowed}</Key><x:Key>{private}</x:Key></Object>"),
        5 => format!("<Other><Object><Key>{private}</Key></Object></Other>"),
        6 => format!("<Object><Key>&#x70;riv&#97;te/{number}</Key></Object>"),
        7 => format!("<Object><Key>priv<!-- models/ -->ate/{number}</Key></Object>"),
        8 => format!("<Object><Key><?models/ ?>private/{number}</Key></Object>"),
        9 => {
            *private = format!("private/models/{number}");
            format!("<Object><Key>private/<!--x-->models/{number}</Key></Object>")
        }
        12 => format!("<Object><Key>&#109;odels<![CDATA[/]]>{number}</Key></Object>"),
        13 => format!("<Object >\r\n<Key>models/<!-- private/ -->{number}</Key >\n</Object>"),
        14 => format!("<Object><Key>models/&#x1F600;&amp;{number}</Key></Object>"),
        15 => "<!-- nothing -->".to_owned(),
        10 => format!(
            "<Object><VersionId>null</VersionId><![CDATA[ ]]><Key>{allowed}</Key><Object><Key>{private}</Key></Object></Object>"
        ),
        _ => format!("<Object><Key>{private}</Key></Object>"),
    }
}

/// DeleteObjects of an allowed key, and of a private one in some disguise.
fn deletion(dice: &mut Dice, number: usize) -> Case {
    let allowed = format!("models/{number}");
    let mut private = format!("private/{number}");
    let mut objects = vec![format!("<Object><Key>{allowed}</Key></Object>")];
    let hidden = disguised(dice, number, &allowed, &mut private);
    objects.insert(dice.below(2), hidden);
    if dice.one_in(4) {
        objects.push(
            dice.of(&[
                "<Quiet>true</Quiet>",
                "<Quiet>false</Quiet>",
                "<Quiet/>",
                "<x:Quiet>true</x:Quiet>",
                "<!-- -->",
                "<New>1</New>",
                "text",
                "\r\n",
            ])
            .to_owned(),
        );
    }
    let prolog = dice.of(&[
        "",
        "",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
        "<!-- a list -->",
        "\u{feff}",
        "<!DOCTYPE Delete [<!ENTITY e \"private/\">]>",
        "<?xml version=\"1.1\"?>",
    ]);
    let other =
        format!(" xmlns=\"{S3_NAMESPACE}\" xmlns:x=\"urn:other\" xmlns:s=\"{S3_NAMESPACE}\"");
    let plain = format!(" xmlns=\"{S3_NAMESPACE}\"");
    let attributes = dice.of(&["", plain.as_str(), other.as_str(), " xmlns:s=\"urn:s\""]);
    let objects = objects.concat();
    let body = format!("{prolog}<Delete{attributes}>{objects}</Delete>");
    let target = dice.of(&[
        "/bucket?delete",
        "/bucket/?delete=",
        "/bucket?delete&x-id=DeleteObjects",
        "/bucket?%64elete",
    ]);
    Case {
        method: "POST",
        target: target.to_owned(),
        headers: Vec::new(),
        body,
        touches: vec![private, allowed],
    }
}

/// A list that is allowed by one reading of its parameters.
fn list(dice: &mut Dice) -> Case {
    let first = dice.of(&[
        "prefix=models/",
        "prefix=models%2F",
        "%70refix=models/",
        "Prefix=models/",
        "prefix=models/;",
    ]);
    let second = dice.of(&[
        "prefix=private/",
        "prefix=",
        "%70refix=private/",
        "PREFIX=private/",
        "prefix=private%2f",
        "prefix",
        "marker=n",
        "new=1",
        "x-id=ListObjects",
    ]);
    let (first, second) = if dice.one_in(3) {
        (second, first)
    } else {
        (first, second)
    };
    let glue = dice.of(&["&", "&&", ";", "%26"]);
    let kind = dice.of(&[
        "list-type=2&",
        "list-type=2&",
        "list-type=2&encoding-type=url&",
        "",
    ]);
    Case::get(format!("/bucket?{kind}{first}{glue}{second}"))
}

/// A read of an allowed key with something that may make it a read of another.
fn read(dice: &mut Dice, number: usize) -> Case {
    let key = dice.of(&[
        "models/",
        "models%2F",
        "models/%2e/",
        "private/",
        "%70rivate/",
    ]);
    let query = dice.of(&[
        "",
        "?x-id=GetObject",
        "?versionId=null&versionId=null",
        "?new=private/1",
        "?response-content-type=a&response-content-type=b",
        "?partNumber=1&partNumber=2",
    ]);
    Case::get(format!("/bucket/{key}{number}{query}"))
}

/// A copy to an allowed key.
fn copy(dice: &mut Dice, number: usize) -> Case {
    let own = format!("bucket/models/{number}");
    let other = format!("bucket/private/{number}");
    let headers = match dice.below(7) {
        0 => vec![("x-amz-copy-source", own), ("x-amz-copy-source", other)],
        1 => vec![("x-amz-copy-source", other), ("x-amz-copy-source", own)],
        2 => vec![("x_amz_copy_source", other)],
        3 => vec![("x-amz-copy-source", own), ("x_amz_copy_source", other)],
        4 => vec![("x-amz-copy-source", format!("/bucket/%70rivate/{number}"))],
        5 => vec![(
            "x-amz-copy-source",
            format!("{own}?versionId=null&versionId=null"),
        )],
        _ => vec![(
            "x-amz-copy-source",
            format!("{own}?x=/../../private/{number}"),
        )],
    };
    Case {
        method: "PUT",
        target: format!("/bucket/models/copy-{number}"),
        headers,
        body: String::new(),
        touches: vec![format!("models/copy-{number}"), format!("private/{number}")],
    }
}

/// The S3 behind, asked past the gateway.
enum Behind {
    Lenient(S3),
    Seaweed(Box<Weed>),
}

impl Behind {
    fn endpoint(&self) -> String {
        match self {
            Self::Lenient(s3) => s3.endpoint(),
            Self::Seaweed(weed) => weed.endpoint(),
        }
    }

    async fn put(&self, key: &str, bytes: &str) {
        match self {
            Self::Lenient(s3) => drop(s3.put("bucket", key, bytes.to_owned())),
            Self::Seaweed(weed) => weed.put("bucket", key, bytes.to_owned()).await,
        }
    }

    /// What it holds there.
    async fn get(&self, key: &str) -> Option<String> {
        match self {
            Self::Lenient(s3) => s3
                .get("bucket", key)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            Self::Seaweed(weed) => {
                let answer = plain::get(&format!("{}/bucket/{key}", weed.endpoint())).await;
                let status = answer.status.as_u16();
                assert!(matches!(status, 200 | 404), "{key}: {}", answer.text());
                (status == 200).then(|| answer.text())
            }
        }
    }

    /// Puts there what a request may touch.
    async fn prepare(&self, case: &Case) {
        for key in &case.touches {
            let bytes = if key.starts_with("private/") {
                MARK
            } else {
                "models"
            };
            self.put(key, bytes).await;
        }
    }
}

/// Sends a request as it stands, signed; the status, and what was said.
pub(super) async fn send(
    gateway: &aws_sdk_s3::Client,
    gateway_url: &str,
    case: &Case,
) -> (u16, String) {
    let (url, case) = (format!("{gateway_url}{}", case.target), case.clone());
    let wrong = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&wrong);
    let sent = gateway
        .get_object()
        .bucket("bucket")
        .key("key")
        .customize()
        .mutate_request(move |request| {
            request.set_method(case.method).unwrap();
            if let Err(error) = request.set_uri(url.clone()) {
                *noted.lock().unwrap() = Some(error.to_string());
            }
            for name in ["x-amz-checksum-mode", "content-length"] {
                request.headers_mut().remove(name);
            }
            for (name, value) in &case.headers {
                request.headers_mut().append(*name, value.clone());
            }
            *request.body_mut() = SdkBody::from(case.body.clone());
        })
        .send()
        .await;
    assert_eq!(*wrong.lock().unwrap(), None);
    match sent {
        Ok(output) => {
            let bytes = output.body.collect().await.unwrap().into_bytes();
            (200, String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(SdkError::ServiceError(refusal)) => {
            let raw = refusal.raw();
            let bytes = raw.body().bytes().unwrap_or_default();
            let said = String::from_utf8_lossy(bytes).into_owned();
            (raw.status().as_u16(), said)
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// A gateway in front of an S3.
struct Place {
    name: &'static str,
    behind: Behind,
    ring: Ring,
    _rules: tempfile::NamedTempFile,
}

impl Place {
    async fn before(name: &'static str, behind: Behind) -> Self {
        let rules = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(rules.path(), RULES).unwrap();
        let access = format!("--access-file={}", rules.path().display());
        let flags = ["--s3-auth=keys", &access, "--timeout=20000"];
        let ring = Ring::start(&behind.endpoint(), 1, &flags).await;
        Self {
            name,
            behind,
            ring,
            _rules: rules,
        }
    }

    fn gateway(&self) -> &str {
        &self.ring.nodes[0].s3
    }
}

/// Counts, and what was wrong.
#[derive(Default)]
struct Course {
    accepted: usize,
    unsigned: usize,
    wrong: Vec<String>,
}

impl Course {
    fn note(&mut self, (status, said): &(u16, String)) {
        self.accepted += usize::from(*status < 300);
        self.unsigned += usize::from(said.contains("SignatureDoesNotMatch"));
    }

    fn end(&self, place: &Place, what: &str) {
        let Self {
            accepted,
            unsigned,
            wrong,
        } = self;
        println!(
            "{}, {what}: {CASES} cases, {accepted} accepted, {unsigned} not signed as read, {} wrong",
            place.name,
            wrong.len()
        );
        assert!(*accepted > CASES / 20, "nothing passes any more");
        assert!(*unsigned < CASES / 10, "the signer and the gateway differ");
        let shown = wrong
            .iter()
            .take(10)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n");
        assert!(
            wrong.is_empty(),
            "{}: {} of {CASES}:\n{shown}",
            place.name,
            wrong.len()
        );
    }
}

/// A caller who is limited to `models/` tries to reach `private/`.
async fn beyond_the_rights(place: &Place) {
    let caller = client(place.gateway(), "MODELS", "models-secret");
    let (mut dice, mut course) = (Dice(SEED), Course::default());
    place.behind.put("private/listed", MARK).await;
    for number in 0..CASES {
        let case = case(&mut dice, number);
        place.behind.prepare(&case).await;
        let answer = send(&caller, place.gateway(), &case).await;
        course.note(&answer);
        if answer.0 < 300
            && (answer.1.contains(MARK) || answer.1.contains("<Key>private"))
            && case.method == "GET"
        {
            course.wrong.push(format!("read: {case:?}: {answer:?}"));
        }
        for key in &case.touches {
            let held = place.behind.get(key).await;
            let right = match &held {
                Some(bytes) => key.starts_with("private/") == (bytes == MARK),
                None => !key.starts_with("private/"),
            };
            if !right {
                course
                    .wrong
                    .push(format!("{key} is {held:?}: {case:?}: {answer:?}"));
            }
        }
    }
    course.end(place, "beyond the rights");
}

/// A caller who may do all changes objects that the cache holds.
async fn past_the_barrier(place: &Place) {
    let caller = client(place.gateway(), "ALL", "all-secret");
    let (mut dice, mut course) = (Dice(SEED + 1), Course::default());
    for number in 0..CASES {
        let mut case = deletion(&mut dice, number);
        if dice.one_in(4) {
            case = copy(&mut dice, number);
        }
        place.behind.prepare(&case).await;
        for key in &case.touches {
            let warm = send(
                &caller,
                place.gateway(),
                &Case::get(format!("/bucket/{key}")),
            )
            .await;
            assert_eq!(warm.0, 200, "{key}: {}", warm.1);
        }
        let answer = send(&caller, place.gateway(), &case).await;
        course.note(&answer);
        for key in &case.touches {
            let (status, said) = send(
                &caller,
                place.gateway(),
                &Case::get(format!("/bucket/{key}")),
            )
            .await;
            let served = (status == 200).then_some(said);
            let held = place.behind.get(key).await;
            if served != held {
                course.wrong.push(format!(
                    "{key} is {held:?}, and served as {served:?}: {case:?}: {answer:?}"
                ));
            }
        }
    }
    course.end(place, "past the barrier");
}

async fn lenient() -> Place {
    let s3 = S3::start().await;
    s3.read_loosely();
    Place::before("a lenient S3", Behind::Lenient(s3)).await
}

async fn seaweed() -> Option<Place> {
    let weed = Weed::start().await?;
    weed.create_bucket("bucket").await;
    Some(Place::before("SeaweedFS", Behind::Seaweed(Box::new(weed))).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_of_writing_a_request_reaches_beyond_its_callers_rights() {
    beyond_the_rights(&lenient().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_request_exceeds_its_callers_rights_at_seaweed() {
    if let Some(place) = seaweed().await {
        beyond_the_rights(&place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_of_writing_a_request_changes_s3_behind_the_cache() {
    past_the_barrier(&lenient().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_of_writing_a_request_changes_seaweed_behind_the_cache() {
    if let Some(place) = seaweed().await {
        past_the_barrier(&place).await;
    }
}
