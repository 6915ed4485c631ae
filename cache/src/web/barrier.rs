//! What clients hear of the barrier: which nodes have dropped the old version, which did not answer, and that Falcon
//! retries.

use std::collections::BTreeMap;
use std::future::Future;

use http::StatusCode;
use serde_json::{Value, json};

use super::failure::Failure;
use crate::invalidate::Report;

/// The reports of all writes of one request, taken together.
#[derive(Default)]
pub(crate) struct Barriers {
    raised: bool,
    unanswered: BTreeMap<String, Option<String>>,
}

impl Barriers {
    /// Adds one write's report.
    pub(crate) fn add(&mut self, report: Report) {
        self.raised = true;
        let missing = report.nodes.into_iter().filter(|node| !node.answered);
        self.unanswered
            .extend(missing.map(|node| (node.name, node.error)));
    }

    /// True when every node has dropped the old versions.
    pub(crate) fn complete(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// The nodes that did not answer, comma separated; `None` when all did.
    pub(crate) fn unanswered(&self) -> Option<String> {
        let names: Vec<&str> = self.unanswered.keys().map(String::as_str).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// The member `invalidation` of an answer.
    pub(crate) fn json(&self) -> Value {
        let unanswered: Vec<Value> = self
            .unanswered
            .iter()
            .map(|(name, error)| json!({"name": name, "error": error}))
            .collect();
        let names = self.unanswered.keys().map(String::as_str);
        json!({"raised": self.raised, "complete": self.complete(), "unanswered": unanswered, "message": message(names)})
    }
}

/// The full report of one invalidation, and its status.
pub(crate) fn table(report: &Report) -> (StatusCode, Value) {
    let nodes: Vec<Value> = report
        .nodes
        .iter()
        .map(|node| {
            json!({
                "name": node.name, "answered": node.answered, "dropped_heads": node.dropped_heads,
                "dropped_blocks": node.dropped_blocks, "error": node.error,
            })
        })
        .collect();
    let missing = report.nodes.iter().filter(|node| !node.answered);
    let message = message(missing.map(|node| node.name.as_str()));
    let status = if report.complete {
        StatusCode::OK
    } else {
        StatusCode::MULTI_STATUS
    };
    (
        status,
        json!({"complete": report.complete, "nodes": nodes, "message": message}),
    )
}

fn message<'a>(unanswered: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = unanswered.collect();
    if names.is_empty() {
        return "every node has acknowledged".to_owned();
    }
    format!(
        "not acknowledged by {}: these nodes may still serve the old version. Falcon retries until they answer or are gone",
        names.join(", ")
    )
}

/// Runs `write` to its end even when the client hangs up: a write that S3 may have begun must be followed by its
/// barrier.
pub(crate) async fn to_the_end<T: Send + 'static>(
    write: impl Future<Output = T> + Send + 'static,
) -> Result<T, Failure> {
    tokio::spawn(write).await.map_err(|_| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "the write failed inside Falcon, and its outcome is unknown: read the object before you write it again",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invalidate::NodeReport;

    fn report(answered: bool) -> Report {
        let node = |name: &str, answered: bool| NodeReport {
            name: name.into(),
            answered,
            dropped_heads: 1,
            dropped_blocks: 2,
            error: (!answered).then(|| "connection refused".into()),
        };
        Report {
            complete: answered,
            nodes: vec![node("a", true), node("b", answered)],
        }
    }

    #[test]
    fn a_node_that_did_not_answer_makes_it_207_and_is_named() {
        let (status, json) = table(&report(true));
        assert_eq!((status.as_u16(), &json["complete"]), (200, &json!(true)));
        let (status, json) = table(&report(false));
        assert_eq!(status.as_u16(), 207);
        assert_eq!(json["nodes"][1]["error"], "connection refused");
        let message = json["message"].as_str().unwrap();
        assert!(message.contains("not acknowledged by b:") && message.contains("retries"));
    }

    #[test]
    fn one_silent_node_is_enough_for_many_writes() {
        let mut barriers = Barriers::default();
        assert_eq!(barriers.json()["raised"], false);
        barriers.add(report(false));
        barriers.add(report(true));
        assert!(!barriers.complete());
        assert_eq!(
            barriers.json()["unanswered"],
            json!([{"name": "b", "error": "connection refused"}])
        );
    }
}
