//! The names: of metrics, and of the labels' values that come from outside. Both are closed lists.

/// All metrics: name as scraped, type, labels, meaning. The documentation is made from it.
pub const METRICS: &[(&str, &str, &str, &str)] = &[
    (
        "falcon_requests_total",
        "counter",
        "api, op, source, status",
        "Requests answered, counted at the first byte; op is read for objects read through the cache, whose source gives the hit ratio",
    ),
    (
        "falcon_request_first_byte_seconds",
        "histogram",
        "api, source",
        "From a request's head to its answer's head",
    ),
    (
        "falcon_request_seconds",
        "histogram",
        "api, source",
        "From a request's head to the last byte of its answer, or until it is cut off",
    ),
    (
        "falcon_sent_bytes_total",
        "counter",
        "source",
        "Bytes of answers sent to clients, by source",
    ),
    (
        "falcon_bypassed_bytes_total",
        "counter",
        "reason",
        "Bytes of objects that were read past the cache: too-large, private (S3 forbids to store them), whole-only (S3 can't give them in parts), no-memory, fetch-failed, customer-key, or origin-only (for S3 alone to answer)",
    ),
    (
        "falcon_cut_answers_total",
        "counter",
        "api",
        "Answers that ended before their last byte: the client hung up or the source failed",
    ),
    (
        "falcon_origin_requests_total",
        "counter",
        "op, code",
        "Requests to S3 by S3's code, or ok",
    ),
    (
        "falcon_origin_request_seconds",
        "histogram",
        "op",
        "From a request to S3 to the head of its answer",
    ),
    (
        "falcon_origin_bytes_total",
        "counter",
        "",
        "Bytes of objects read from S3",
    ),
    (
        "falcon_peer_bytes_total",
        "counter",
        "",
        "Bytes of objects read from other nodes",
    ),
    ("falcon_fills", "gauge", "", "Fills in progress"),
    (
        "falcon_fill_waiters",
        "gauge",
        "",
        "Readers that follow a fill",
    ),
    (
        "falcon_origin_reads",
        "gauge",
        "speed",
        "Reads from S3 in progress: normal ones, and slow ones, which are counted apart",
    ),
    (
        "falcon_invalidations_total",
        "counter",
        "result",
        "Invalidations begun at this node: complete, or incomplete when a node did not answer",
    ),
    (
        "falcon_unanswered_nodes",
        "gauge",
        "",
        "Nodes that still owe the answer to an invalidation",
    ),
    ("falcon_connections", "gauge", "api", "Connections open now"),
    (
        "falcon_connections_refused_total",
        "counter",
        "api",
        "Connections answered 503 because the limit was reached",
    ),
    ("falcon_blocks", "gauge", "", "Blocks held"),
    ("falcon_heads", "gauge", "", "Heads held"),
    (
        "falcon_cached_bytes",
        "gauge",
        "pool",
        "Bytes of blocks held: owned by this node, or replicas",
    ),
    (
        "falcon_evictions_total",
        "counter",
        "reason",
        "Blocks and heads removed, by reason",
    ),
    (
        "falcon_memory_bytes",
        "gauge",
        "kind",
        "Memory reserved, by use",
    ),
    (
        "falcon_memory_budget_bytes",
        "gauge",
        "",
        "The upper bound on reserved memory",
    ),
    (
        "falcon_memory_peak_bytes",
        "gauge",
        "",
        "The peak of reserved memory since the start",
    ),
    (
        "falcon_ring_members",
        "gauge",
        "state",
        "Members of the ring as this node sees them",
    ),
    (
        "falcon_build_info",
        "info",
        "version",
        "Always 1; the label is the running version",
    ),
];

/// [`METRICS`] as a table in Markdown.
pub fn table() -> String {
    let head = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    METRICS
        .iter()
        .fold(head, |text, (name, kind, labels, help)| {
            text + &format!("| `{name}` | {kind} | {labels} | {help} |\n")
        })
}

/// The name as the library expects it (it adds the suffixes itself), and the help.
pub(super) fn listed(name: &'static str) -> (&'static str, &'static str) {
    let (name, kind, _, help) = METRICS
        .iter()
        .find(|line| line.0 == name)
        .expect("every metric has its line in METRICS");
    let suffix = match *kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    (name.strip_suffix(suffix).unwrap_or(name), help)
}

/// From a hit in memory (0.1 ms) to a large object over a slow connection.
pub(super) const SECONDS: [f64; 18] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 120.0,
];

/// S3's codes that keep their name; all others are `other`.
const CODES: &[&str] = &[
    "ok",
    "AccessDenied",
    "Broken",
    "ExpiredToken",
    "InternalError",
    "InvalidAccessKeyId",
    "InvalidRange",
    "NoSuchBucket",
    "NoSuchKey",
    "NotFound",
    "NotModified",
    "OriginBroken",
    "OriginTimeout",
    "OriginUnreachable",
    "PreconditionFailed",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "ServiceUnavailable",
    "SignatureDoesNotMatch",
    "SlowDown",
    "Timeout",
    "Unreachable",
    "VersionChanged",
];

/// A code as a label.
pub(super) fn code_label(code: &str) -> &'static str {
    let known = CODES.iter().find(|known| **known == code);
    known.copied().unwrap_or("other")
}

/// Statuses that Falcon returns; others are reported by their class.
const STATUSES: &[(u16, &str)] = &[
    (200, "200"),
    (202, "202"),
    (206, "206"),
    (207, "207"),
    (304, "304"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (412, "412"),
    (413, "413"),
    (416, "416"),
    (500, "500"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];

/// A status as a label.
pub(super) fn status_label(status: u16) -> &'static str {
    if let Some((_, label)) = STATUSES.iter().find(|(known, _)| *known == status) {
        return label;
    }
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
