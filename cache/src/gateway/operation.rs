//! The operations of S3 that the gateway knows, and what it does with each: one table. Everything else is
//! `NotImplemented`.

use http::{HeaderMap, Method};

use super::address::{Address, Parameters};
use crate::access::Verb;

/// What the gateway does with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handling {
    /// Read through the cache.
    Cached,
    /// Forwarded as it is, and so is the answer.
    Forwarded,
    /// Forwarded; then every node drops the object; then the client gets the answer.
    Written,
    /// The same, for the keys in its body.
    DeletedMany,
    /// Answered here: the buckets that the caller may name.
    Buckets,
}

/// What an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Service,
    Bucket,
    Object,
}

/// One row of [`OPERATIONS`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    method: Method,
    pub(super) level: Level,
    /// The parameter that identifies it among those of its method; `""` when there is none.
    mark: &'static str,
    pub(super) verb: Verb,
    pub(super) handling: Handling,
}

const fn on(
    level: Level,
    method: Method,
    mark: &'static str,
    name: &'static str,
    verb: Verb,
    handling: Handling,
) -> Operation {
    Operation {
        name,
        method,
        level,
        mark,
        verb,
        handling,
    }
}

use Handling::{Buckets, Cached, DeletedMany, Forwarded, Written};
use Level::{Bucket, Object, Service};
use Verb::{Read, Write};

/// Every operation that the gateway knows.
pub(super) const OPERATIONS: &[Operation] = &[
    on(Object, Method::GET, "", "GetObject", Read, Cached),
    on(Object, Method::HEAD, "", "HeadObject", Read, Cached),
    on(
        Object,
        Method::GET,
        "attributes",
        "GetObjectAttributes",
        Read,
        Forwarded,
    ),
    on(
        Object,
        Method::GET,
        "tagging",
        "GetObjectTagging",
        Read,
        Forwarded,
    ),
    on(Object, Method::GET, "acl", "GetObjectAcl", Read, Forwarded),
    on(
        Object,
        Method::GET,
        "retention",
        "GetObjectRetention",
        Read,
        Forwarded,
    ),
    on(
        Object,
        Method::GET,
        "legal-hold",
        "GetObjectLegalHold",
        Read,
        Forwarded,
    ),
    on(
        Object,
        Method::GET,
        "uploadId",
        "ListParts",
        Read,
        Forwarded,
    ),
    on(Object, Method::PUT, "", "PutObject", Write, Written),
    on(Object, Method::DELETE, "", "DeleteObject", Write, Written),
    on(
        Object,
        Method::PUT,
        "tagging",
        "PutObjectTagging",
        Write,
        Written,
    ),
    on(
        Object,
        Method::DELETE,
        "tagging",
        "DeleteObjectTagging",
        Write,
        Written,
    ),
    on(Object, Method::PUT, "acl", "PutObjectAcl", Write, Written),
    on(
        Object,
        Method::PUT,
        "retention",
        "PutObjectRetention",
        Write,
        Written,
    ),
    on(
        Object,
        Method::PUT,
        "legal-hold",
        "PutObjectLegalHold",
        Write,
        Written,
    ),
    on(
        Object,
        Method::POST,
        "uploads",
        "CreateMultipartUpload",
        Write,
        Forwarded,
    ),
    on(
        Object,
        Method::PUT,
        "uploadId",
        "UploadPart",
        Write,
        Forwarded,
    ),
    on(
        Object,
        Method::POST,
        "uploadId",
        "CompleteMultipartUpload",
        Write,
        Written,
    ),
    on(
        Object,
        Method::DELETE,
        "uploadId",
        "AbortMultipartUpload",
        Write,
        Forwarded,
    ),
    on(Bucket, Method::HEAD, "", "HeadBucket", Read, Forwarded),
    on(Bucket, Method::GET, "", "ListObjects", Read, Forwarded),
    on(
        Bucket,
        Method::GET,
        "versions",
        "ListObjectVersions",
        Read,
        Forwarded,
    ),
    on(
        Bucket,
        Method::GET,
        "uploads",
        "ListMultipartUploads",
        Read,
        Forwarded,
    ),
    on(
        Bucket,
        Method::GET,
        "location",
        "GetBucketLocation",
        Read,
        Forwarded,
    ),
    on(
        Bucket,
        Method::GET,
        "versioning",
        "GetBucketVersioning",
        Read,
        Forwarded,
    ),
    on(
        Bucket,
        Method::POST,
        "delete",
        "DeleteObjects",
        Write,
        DeletedMany,
    ),
    on(Service, Method::GET, "", "ListBuckets", Read, Buckets),
];

/// Parameters that make a request another operation, known here or not.
const MARKS: &[&str] = &[
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versioning",
    "versions",
    "website",
];

/// The parameters of a read, besides its version: the cache knows the answer, or knows that S3 has to be asked.
const READING: &[&str] = &[
    "partNumber",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "versionId",
];

impl Operation {
    /// The operation that a request is, if it is one of the table.
    pub(super) fn find(
        method: &Method,
        address: &Address,
        parameters: &Parameters,
    ) -> Option<&'static Self> {
        let level = match (&address.bucket, &address.key) {
            (None, _) => Service,
            (Some(_), None) => Bucket,
            (Some(_), Some(_)) => Object,
        };
        let mut marks = MARKS.iter().filter(|mark| parameters.has(mark));
        let mark = marks.next().copied().unwrap_or_default();
        if marks.next().is_some() {
            return None;
        }
        OPERATIONS
            .iter()
            .find(|it| it.level == level && it.method == *method && it.mark == mark)
    }

    /// The parameter that tells it from others of its method, `""` where there is none.
    pub(super) fn mark(&self) -> &'static str {
        self.mark
    }

    /// True for a parameter that the operation has. S3 may take a request with any other one for another operation, now
    /// or some day.
    pub(super) fn takes(&self, name: &str) -> bool {
        let taken: &[&str] = match (self.name, self.mark) {
            ("GetObject" | "HeadObject", _) => READING,
            ("ListObjects", _) => &[
                "allow-unordered",
                "continuation-token",
                "delimiter",
                "encoding-type",
                "fetch-owner",
                "list-type",
                "marker",
                "max-keys",
                "metadata",
                "prefix",
                "start-after",
            ],
            ("ListObjectVersions", _) => &[
                "delimiter",
                "encoding-type",
                "key-marker",
                "max-keys",
                "prefix",
                "version-id-marker",
            ],
            ("ListMultipartUploads", _) => &[
                "delimiter",
                "encoding-type",
                "key-marker",
                "max-uploads",
                "prefix",
                "upload-id-marker",
            ],
            ("ListParts", _) => &["encoding-type", "max-parts", "part-number-marker"],
            ("ListBuckets", _) => &["continuation-token", "max-buckets", "prefix"],
            ("UploadPart", _) => &["partNumber"],
            ("DeleteObject", _)
            | (_, "acl" | "attributes" | "legal-hold" | "retention" | "tagging") => &["versionId"],
            _ => &[],
        };
        taken.contains(&name)
    }

    /// True for a header that leaves a cached answer as it is.
    pub(super) fn ignores(&self, header: &str) -> bool {
        self.handling != Cached || matches!(header, "x-amz-checksum-mode" | "x-amz-user-agent")
    }

    /// True when the request copies from another object.
    pub(super) fn copies(headers: &HeaderMap) -> bool {
        headers.contains_key("x-amz-copy-source")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(method: &str, target: &str) -> Option<&'static str> {
        let uri: http::Uri = target.parse().unwrap();
        let address = Address::parse(&uri, None, &[]).unwrap();
        let parameters = Parameters::parse(uri.query().unwrap_or_default()).unwrap();
        let method = method.parse().unwrap();
        Operation::find(&method, &address, &parameters).map(|it| it.name)
    }

    #[test]
    fn a_request_is_told_by_method_place_and_mark() {
        for (method, target, name) in [
            ("GET", "/", Some("ListBuckets")),
            ("GET", "/b", Some("ListObjects")),
            ("GET", "/b/", Some("ListObjects")),
            ("GET", "/b?list-type=2&prefix=acl", Some("ListObjects")),
            ("GET", "/b/k?versionId=3", Some("GetObject")),
            ("GET", "/b/k?x-id=GetObject", Some("GetObject")),
            ("HEAD", "/b/k/", Some("HeadObject")),
            ("PUT", "/b/k?partNumber=1&uploadId=u", Some("UploadPart")),
            ("POST", "/b/k?uploads", Some("CreateMultipartUpload")),
            ("POST", "/b?delete", Some("DeleteObjects")),
            ("DELETE", "/b/k?tagging=", Some("DeleteObjectTagging")),
            ("PUT", "/b", None),
            ("DELETE", "/b", None),
            ("PUT", "/b?policy", None),
            ("GET", "/b?policy", None),
            ("POST", "/b/k?select&select-type=2", None),
            ("PUT", "/b/k?acl&tagging", None),
            ("POST", "/b", None),
            ("PATCH", "/b/k", None),
        ] {
            assert_eq!(named(method, target), name, "{method} {target}");
        }
    }

    #[test]
    fn the_table_in_the_architecture_is_this_one() {
        let text = include_str!("../../../ARCHITECTURE.md");
        let (_, rest) = text.split_once("<!-- operations -->").unwrap();
        let (told, _) = rest.split_once("<!-- /operations -->").unwrap();
        let told: Vec<&str> = told.lines().skip(3).collect();
        let lines = OPERATIONS.iter().map(|it| {
            let place = match it.level {
                Service => "/",
                Bucket => "/BUCKET",
                Object => "/BUCKET/KEY",
            };
            let mark = if it.mark.is_empty() {
                String::new()
            } else {
                format!("?{}", it.mark)
            };
            let becomes = match it.handling {
                Cached => "cached",
                Forwarded => "forwarded",
                Written => "written",
                DeletedMany => "written, for the keys in its body",
                Buckets => "the buckets that the cache serves and the caller may read",
            };
            let right = match it.verb {
                Read => "read",
                Write => "write",
                Verb::Invalidate => "invalidate",
            };
            format!(
                "| {} | `{} {place}{mark}` | {right} | {becomes} |",
                it.name, it.method
            )
        });
        let lines: Vec<String> = lines.collect();
        assert_eq!(told, lines, "it should be:\n{}", lines.join("\n"));
    }

    #[test]
    fn every_operation_can_be_told_from_every_other() {
        for (at, one) in OPERATIONS.iter().enumerate() {
            assert!(one.mark.is_empty() || MARKS.contains(&one.mark), "{one:?}");
            for other in &OPERATIONS[at + 1..] {
                let same =
                    (&one.method, one.level, one.mark) == (&other.method, other.level, other.mark);
                assert!(!same && one.name != other.name, "{one:?} {other:?}");
            }
        }
    }
}
