//! Parses the pods' metrics and sums them up. Pure.

use std::collections::BTreeMap;

/// Codes that prove that S3 responds, even if it rejected the request.
const RESPONSE_CODES: [&str; 7] = [
    "ok",
    "NoSuchKey",
    "NotFound",
    "NotModified",
    "PreconditionFailed",
    "InvalidRange",
    "VersionChanged",
];

/// Metrics of one pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodMetrics {
    reads: i64,
    hits: i64,
    used_bytes: i64,
    capacity_bytes: i64,
    ring_members: Option<i64>,
    origin: BTreeMap<String, i64>,
}

/// Metrics of a cache.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CacheMetrics {
    /// Successful reads.
    pub reads: i64,
    /// Those served without S3.
    pub hits: i64,
    /// Memory used by cached blocks.
    pub used_bytes: i64,
    /// Memory available for them.
    pub capacity_bytes: i64,
    /// Members of the ring: the smallest number that a pod reports.
    pub ring_members: Option<i64>,
    /// Whether S3 responds.
    pub origin: OriginHealth,
    origin_requests: BTreeMap<String, i64>,
}

/// Whether S3 responds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OriginHealth {
    /// It was not contacted yet.
    #[default]
    NotContacted,
    /// It responds.
    Responding,
    /// All requests since the last reading failed, most of them with this code.
    Failing(String),
}

impl CacheMetrics {
    /// Sums up the pods' metrics. The requests to S3 since the last reading count; without any, its health is
    /// unchanged.
    pub fn sum(samples: &[PodMetrics], last: Option<&Self>) -> Self {
        let mut sum = Self {
            ring_members: samples
                .iter()
                .filter_map(|sample| sample.ring_members)
                .min(),
            ..Self::default()
        };
        for sample in samples {
            sum.reads += sample.reads;
            sum.hits += sample.hits;
            sum.used_bytes += sample.used_bytes;
            sum.capacity_bytes += sample.capacity_bytes;
            for (code, count) in &sample.origin {
                *sum.origin_requests.entry(code.clone()).or_default() += count;
            }
        }
        sum.origin = match origin_health(
            &sum.origin_requests,
            last.map(|metrics| &metrics.origin_requests),
        ) {
            OriginHealth::NotContacted => last
                .map(|metrics| metrics.origin.clone())
                .unwrap_or_default(),
            current => current,
        };
        sum
    }

    /// Percentage of reads served without S3; none if nothing was read.
    pub fn hit_ratio(&self) -> Option<String> {
        let tenths = (self.hits * 1000).checked_div(self.reads)?;
        Some(format!("{}.{}", tenths / 10, tenths % 10))
    }
}

fn origin_health(
    now: &BTreeMap<String, i64>,
    last: Option<&BTreeMap<String, i64>>,
) -> OriginHealth {
    let since = |(code, count): (&String, &i64)| {
        let before = last
            .and_then(|last| last.get(code))
            .copied()
            .unwrap_or_default();
        // The counters of a replaced pod start at zero.
        (
            code.clone(),
            if before > *count {
                *count
            } else {
                count - before
            },
        )
    };
    let new_requests: Vec<(String, i64)> = now
        .iter()
        .map(since)
        .filter(|(_, count)| *count > 0)
        .collect();
    if new_requests
        .iter()
        .any(|(code, _)| RESPONSE_CODES.contains(&code.as_str()))
    {
        return OriginHealth::Responding;
    }
    new_requests
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map_or(OriginHealth::NotContacted, |(code, _)| {
            OriginHealth::Failing(code)
        })
}

/// Parses metrics in Prometheus' text format; other lines are ignored.
pub fn parse(page: &str) -> PodMetrics {
    let mut sample = PodMetrics::default();
    for (name, labels, value) in page.lines().filter_map(line) {
        let label = |wanted: &str| {
            labels
                .iter()
                .find(|(name, _)| *name == wanted)
                .map_or("", |(_, value)| value)
        };
        match name {
            // Requests between peers are part of a client's read, which is counted already.
            "falcon_requests_total" if label("api") != "peer" => match label("source") {
                "memory" | "peer" | "revalidated" | "stale" => {
                    sample.reads += value;
                    sample.hits += value;
                }
                "origin" => sample.reads += value,
                _ => {}
            },
            "falcon_cached_bytes" => sample.used_bytes += value,
            "falcon_memory_budget_bytes" => sample.capacity_bytes += value,
            "falcon_ring_members" if label("state") != "leaving" => {
                *sample.ring_members.get_or_insert(0) += value;
            }
            "falcon_origin_requests_total" => {
                *sample.origin.entry(label("code").to_owned()).or_default() += value;
            }
            _ => {}
        }
    }
    sample
}

type MetricLine<'a> = (&'a str, Vec<(&'a str, &'a str)>, i64);

/// `name{label="value",…} number`. Values of our labels hold no quotes and no commas.
fn line(text: &str) -> Option<MetricLine<'_>> {
    if text.starts_with('#') {
        return None;
    }
    let (series, value) = text.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}')?.split(',').filter_map(|label| {
        let (name, value) = label.split_once('=')?;
        Some((name, value.trim_matches('"')))
    });
    // Counters may be written as 12 or as 12.0.
    let whole = value.split('.').next()?.parse().ok()?;
    Some((name, labels.collect(), whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP falcon_requests_total Requests
falcon_requests_total{api="blob",source="memory",status="200"} 70
falcon_requests_total{api="s3",source="peer",status="206"} 20
falcon_requests_total{api="blob",source="origin",status="200"} 10
falcon_requests_total{api="blob",source="none",status="404"} 5
falcon_requests_total{api="peer",source="memory",status="200"} 900
falcon_cached_bytes{pool="owned"} 1000
falcon_cached_bytes{pool="replica"} 24
falcon_memory_budget_bytes 4096.0
falcon_ring_members{state="serving"} 2
falcon_ring_members{state="unreachable"} 1
falcon_ring_members{state="leaving"} 1
falcon_origin_requests_total{op="get",code="ok"} 9
falcon_origin_requests_total{op="get",code="AccessDenied"} 3
nonsense
"#;

    #[test]
    fn metrics_are_parsed_and_summed_up() {
        let metrics = CacheMetrics::sum(&[parse(PAGE), parse(PAGE)], None);
        assert_eq!((metrics.reads, metrics.hits), (200, 180));
        assert_eq!(
            (
                metrics.used_bytes,
                metrics.capacity_bytes,
                metrics.ring_members
            ),
            (2048, 8192, Some(3))
        );
        assert_eq!(metrics.hit_ratio().as_deref(), Some("90.0"));
        assert_eq!(metrics.origin, OriginHealth::Responding);
        assert_eq!(CacheMetrics::sum(&[parse("")], None).hit_ratio(), None);
    }

    #[test]
    fn only_requests_to_the_origin_since_the_last_reading_count() {
        let page = |ok: u32, denied: u32| {
            parse(&format!(
                "falcon_origin_requests_total{{code=\"ok\"}} {ok}\nfalcon_origin_requests_total{{code=\"AccessDenied\"}} {denied}\n"
            ))
        };
        let first = CacheMetrics::sum(&[page(5, 0)], None);
        let second = CacheMetrics::sum(&[page(5, 2)], Some(&first));
        assert_eq!(
            second.origin,
            OriginHealth::Failing("AccessDenied".to_owned())
        );
        let unchanged = CacheMetrics::sum(&[page(5, 2)], Some(&second));
        assert_eq!(
            unchanged.origin,
            OriginHealth::Failing("AccessDenied".to_owned())
        );
        let healed = CacheMetrics::sum(&[page(6, 3)], Some(&unchanged));
        assert_eq!(healed.origin, OriginHealth::Responding);
        let restarted = CacheMetrics::sum(&[page(0, 1)], Some(&healed));
        assert_eq!(
            restarted.origin,
            OriginHealth::Failing("AccessDenied".to_owned())
        );
    }
}
