//! What the pods' pages of metrics add up to. Pure.

use std::collections::BTreeMap;

/// Codes under which S3 has answered, even if it said no to this one request.
const ANSWERS: [&str; 7] = [
    "ok",
    "NoSuchKey",
    "NotFound",
    "NotModified",
    "PreconditionFailed",
    "InvalidRange",
    "VersionChanged",
];

/// One pod's page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    reads: i64,
    hits: i64,
    used_bytes: i64,
    capacity_bytes: i64,
    ring_members: Option<i64>,
    origin: BTreeMap<String, i64>,
}

/// A cache's figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Reads answered with an object.
    pub reads: i64,
    /// Those whose bytes did not come from S3.
    pub hits: i64,
    /// Memory of cached blocks.
    pub used_bytes: i64,
    /// Memory that the caches may use.
    pub capacity_bytes: i64,
    /// Members of the ring: the smallest number that a pod knows.
    pub ring_members: Option<i64>,
    /// How S3 answers.
    pub origin: Origin,
    counted: BTreeMap<String, i64>,
}

/// How S3 answers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Origin {
    /// It was not asked yet.
    #[default]
    NotAsked,
    /// It answers.
    Answers,
    /// Every request since the last look failed, most of them with this code.
    Fails(String),
}

impl Figures {
    /// Adds up the pods' pages. What S3 answered since the last look counts; where it was not asked since, it is as it was.
    pub fn of(samples: &[Sample], last: Option<&Self>) -> Self {
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
                *sum.counted.entry(code.clone()).or_default() += count;
            }
        }
        sum.origin = match origin(&sum.counted, last.map(|figures| &figures.counted)) {
            Origin::NotAsked => last
                .map(|figures| figures.origin.clone())
                .unwrap_or_default(),
            asked => asked,
        };
        sum
    }

    /// Share of reads whose bytes did not come from S3, in percent; none if nothing was read.
    pub fn hit_ratio(&self) -> Option<String> {
        let tenths = (self.hits * 1000).checked_div(self.reads)?;
        Some(format!("{}.{}", tenths / 10, tenths % 10))
    }
}

fn origin(now: &BTreeMap<String, i64>, last: Option<&BTreeMap<String, i64>>) -> Origin {
    let since = |(code, count): (&String, &i64)| {
        let before = last
            .and_then(|last| last.get(code))
            .copied()
            .unwrap_or_default();
        // A pod that was replaced counts from nought again.
        (
            code.clone(),
            if before > *count {
                *count
            } else {
                count - before
            },
        )
    };
    let news: Vec<(String, i64)> = now
        .iter()
        .map(since)
        .filter(|(_, count)| *count > 0)
        .collect();
    if news
        .iter()
        .any(|(code, _)| ANSWERS.contains(&code.as_str()))
    {
        return Origin::Answers;
    }
    news.into_iter()
        .max_by_key(|(_, count)| *count)
        .map_or(Origin::NotAsked, |(code, _)| Origin::Fails(code))
}

/// Reads a page in Prometheus' text format; lines of no interest are passed over.
pub fn sample(page: &str) -> Sample {
    let mut sample = Sample::default();
    for (name, labels, value) in page.lines().filter_map(line) {
        let label = |wanted: &str| {
            labels
                .iter()
                .find(|(name, _)| *name == wanted)
                .map_or("", |(_, value)| value)
        };
        match name {
            // What peers ask each other is part of somebody's read already.
            "falcon_requests_total" if label("door") != "peer" => match label("source") {
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

type Line<'a> = (&'a str, Vec<(&'a str, &'a str)>, i64);

/// `name{label="value",…} number`. Values of our labels hold no quotes and no commas.
fn line(text: &str) -> Option<Line<'_>> {
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
falcon_requests_total{door="blob",source="memory",status="200"} 70
falcon_requests_total{door="s3",source="peer",status="206"} 20
falcon_requests_total{door="blob",source="origin",status="200"} 10
falcon_requests_total{door="blob",source="none",status="404"} 5
falcon_requests_total{door="peer",source="memory",status="200"} 900
falcon_cached_bytes{pool="owned"} 1000
falcon_cached_bytes{pool="hot"} 24
falcon_memory_budget_bytes 4096.0
falcon_ring_members{state="serving"} 2
falcon_ring_members{state="silent"} 1
falcon_ring_members{state="leaving"} 1
falcon_origin_requests_total{op="get",code="ok"} 9
falcon_origin_requests_total{op="get",code="AccessDenied"} 3
nonsense
"#;

    #[test]
    fn a_page_is_read_for_what_matters() {
        let figures = Figures::of(&[sample(PAGE), sample(PAGE)], None);
        assert_eq!((figures.reads, figures.hits), (200, 180));
        assert_eq!(
            (
                figures.used_bytes,
                figures.capacity_bytes,
                figures.ring_members
            ),
            (2048, 8192, Some(3))
        );
        assert_eq!(figures.hit_ratio().as_deref(), Some("90.0"));
        assert_eq!(figures.origin, Origin::Answers);
        assert_eq!(Figures::of(&[sample("")], None).hit_ratio(), None);
    }

    #[test]
    fn only_what_the_origin_said_since_the_last_look_counts() {
        let page = |ok: u32, denied: u32| {
            sample(&format!(
                "falcon_origin_requests_total{{code=\"ok\"}} {ok}\nfalcon_origin_requests_total{{code=\"AccessDenied\"}} {denied}\n"
            ))
        };
        let first = Figures::of(&[page(5, 0)], None);
        let second = Figures::of(&[page(5, 2)], Some(&first));
        assert_eq!(second.origin, Origin::Fails("AccessDenied".to_owned()));
        let quiet = Figures::of(&[page(5, 2)], Some(&second));
        assert_eq!(quiet.origin, Origin::Fails("AccessDenied".to_owned()));
        let healed = Figures::of(&[page(6, 3)], Some(&quiet));
        assert_eq!(healed.origin, Origin::Answers);
        let restarted = Figures::of(&[page(0, 1)], Some(&healed));
        assert_eq!(restarted.origin, Origin::Fails("AccessDenied".to_owned()));
    }
}
