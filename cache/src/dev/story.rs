//! What `falcon-cache dev` prints: where everything is, and commands to paste that show what a cache does.

use std::io::{self, Write};
use std::path::PathBuf;

/// A node.
pub(super) struct Place {
    pub(super) url: String,
    /// Its S3 gateway.
    pub(super) s3: String,
    pub(super) metrics: String,
}

/// Everything to print.
pub(super) struct Story {
    pub(super) places: Vec<Place>,
    /// A wanted port was taken.
    pub(super) moved: bool,
    /// The node that owns the sample.
    pub(super) home: Option<String>,
    pub(super) endpoint: String,
    pub(super) bucket: &'static str,
    pub(super) sample: &'static str,
    pub(super) folder: PathBuf,
    pub(super) is_temporary: bool,
}

impl Story {
    /// Prints it.
    pub(super) fn tell(&self, out: &mut impl Write) -> io::Result<()> {
        let count = self.places.len();
        writeln!(
            out,
            "\nFalcon is up: {count} node{} and an S3 server.\n",
            if count == 1 { "" } else { "s" }
        )?;
        for place in &self.places {
            writeln!(
                out,
                "  node  {}  (S3 API: {}, metrics: {})",
                place.url, place.s3, place.metrics
            )?;
        }
        if self.moved {
            writeln!(
                out,
                "        (other ports than requested, which were in use)"
            )?;
        }
        let fate = if self.is_temporary {
            "removed at the end"
        } else {
            "kept"
        };
        writeln!(
            out,
            "  S3    {}  (bucket {}, in {}, {fate})\n",
            self.endpoint,
            self.bucket,
            self.folder.display()
        )?;
        writeln!(
            out,
            "Try these, one after the other; x-falcon-cache says where each response came from:\n"
        )?;
        for (says, line) in self.lines() {
            writeln!(out, "  # {says}\n  {line}\n")?;
        }
        writeln!(out, "Ctrl-C stops it.")?;
        out.flush()
    }

    fn lines(&self) -> Vec<(String, String)> {
        let Some(first) = self.places.first() else {
            return Vec::new();
        };
        let (s3, bucket) = (&first.s3, self.bucket);
        let (first, sample) = (&first.url, self.sample);
        let get = |url: &str| format!("curl -si '{url}/get?key={sample}'");
        let mut lines = vec![
            (
                "upload a file through a node".to_owned(),
                format!("echo hello | curl -s -F 'files=@-;filename=hello.txt' '{first}/upload'"),
            ),
            (
                "get an object, cold: origin, S3 is read".to_owned(),
                get(first),
            ),
            (
                "again, warm: memory, S3 is not asked".to_owned(),
                get(first),
            ),
        ];
        // A node that does not own it has to ask another, so the output there does not depend on the ports.
        let other = self
            .places
            .iter()
            .skip(1)
            .find(|place| self.home.as_deref() != Some(&place.url));
        if let Some(other) = other {
            lines.push((
                "at another node: peer, it has it from the owner's memory".to_owned(),
                get(&other.url),
            ));
            lines.push((
                "and again there: memory, it kept a copy".to_owned(),
                get(&other.url),
            ));
        }
        lines.push((
            "forget it everywhere, proved node by node".to_owned(),
            format!("curl -s -X POST '{first}/invalidate?key={sample}'"),
        ));
        lines.push(("so S3 is read again: origin".to_owned(), get(first)));
        lines.push((
            "a part of it".to_owned(),
            format!("curl -s -r 0-11 '{first}/get?key={sample}'; echo"),
        ));
        lines.push((
            format!("as S3's clients do with AWS_ENDPOINT_URL={s3}: memory, the same cache"),
            format!("curl -si '{s3}/{bucket}/{sample}'"),
        ));
        lines.push((
            "who owns it".to_owned(),
            format!("curl -s '{first}/ring?key={sample}'"),
        ));
        lines
    }
}
