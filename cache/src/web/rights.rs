//! What a request may touch: the caller's rights, and the buckets that this cache serves.

use std::fmt;

use http::StatusCode;

use super::failure::Failure;
use crate::access::{Caller, Target, Verb};

/// The buckets that the cache serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedBuckets(Option<Vec<String>>);

impl ServedBuckets {
    /// Those named; `None`: every bucket.
    pub fn new(names: Option<Vec<String>>) -> Self {
        Self(names)
    }

    /// True when the cache serves that bucket.
    pub fn contains(&self, bucket: &str) -> bool {
        let names = self.0.as_ref();
        names.is_none_or(|names| names.iter().any(|name| name == bucket))
    }
}

impl fmt::Display for ServedBuckets {
    /// As `--buckets` has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("*"),
            Some(names) => f.write_str(&names.join(",")),
        }
    }
}

/// Refuses what the caller may not do. The answer is the same whether or not the target exists.
pub(crate) fn permit(
    who: &Caller,
    verb: Verb,
    bucket: &str,
    target: Target<'_>,
) -> Result<(), Failure> {
    if who.may(verb, bucket, target) {
        return Ok(());
    }
    Err(denied(bucket))
}

/// `403`, without a word on what exists.
pub(crate) fn denied(bucket: &str) -> Failure {
    let failure = Failure::new(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied");
    if bucket.is_empty() {
        return failure;
    }
    failure.about(bucket, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_serves_the_named_buckets_or_every_bucket() {
        let named = ServedBuckets::new(Some(vec!["a".into(), "b".into()]));
        assert!(named.contains("a") && named.contains("b") && !named.contains("c"));
        assert!(ServedBuckets::new(None).contains("c"));
        assert!(!ServedBuckets::new(Some(Vec::new())).contains("a"));
    }
}
