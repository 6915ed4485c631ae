//! Which rooms there are and what each may name: the tables of files in ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::fs;

use super::root;

/// The table of one crate.
pub(super) struct Plan {
    /// Each file or room, and what it may name.
    rows: Vec<(String, MayName)>,
}

pub(super) enum MayName {
    Only(BTreeSet<String>),
    AllBut(BTreeSet<String>),
}

impl Plan {
    /// Reads the table in the section of `cache/src` or `operator/src`.
    pub(super) fn read(folder: &str) -> Self {
        let text = fs::read_to_string(root().join("ARCHITECTURE.md"))
            .expect("ARCHITECTURE.md can be read");
        let heading = format!("\n## {folder}\n");
        let (_, section) = text.split_once(&heading).expect("each crate has a section");
        let section = section.split("\n## ").next().unwrap_or_default();
        let table = section
            .lines()
            .skip_while(|line| !line.starts_with("| file |"));
        Self::parse(table.take_while(|line| line.starts_with('|')))
    }

    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut rows = Vec::new();
        for line in lines.skip(2) {
            let cells: Vec<_> = line.split('|').collect();
            for file in in_backticks(cells[1]) {
                rows.push((
                    file.trim_end_matches(".rs").to_owned(),
                    MayName::parse(cells[3]),
                ));
            }
        }
        assert!(!rows.is_empty(), "a crate has a table of its files");
        for (file, may) in &rows {
            let unknown = may
                .names()
                .iter()
                .find(|name| rows.iter().all(|(row, _)| row != *name));
            assert!(
                unknown.is_none(),
                "the row of {file} names {unknown:?}, which has none"
            );
        }
        Self { rows }
    }

    /// The row of a file: its own, or that of the nearest module above it that has one.
    pub(super) fn row(&self, module: &str) -> Option<&MayName> {
        let above = self.rows.iter().filter(|(file, _)| {
            let rest = module.strip_prefix(file.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        above.max_by_key(|(file, _)| file.len()).map(|(_, may)| may)
    }
}

impl MayName {
    /// Reads a cell: names in backticks, or `all`, or `all but` some.
    fn parse(cell: &str) -> Self {
        let names = in_backticks(cell).map(str::to_owned).collect();
        if cell.trim_start().starts_with("all") {
            Self::AllBut(names)
        } else {
            Self::Only(names)
        }
    }

    fn names(&self) -> &BTreeSet<String> {
        match self {
            Self::Only(names) | Self::AllBut(names) => names,
        }
    }

    pub(super) fn includes(&self, room: &str) -> bool {
        match self {
            Self::Only(names) => names.contains(room),
            Self::AllBut(names) => !names.contains(room),
        }
    }
}

fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn a_row_of_the_plan_covers_what_is_below_it_unless_that_has_its_own() {
    let table = "| file | |\n|---|\n| `a.rs` | | `b` `c` | |\n| `a/x.rs` | | | |\n| `b.rs` `c.rs` `d.rs` | | all but `f` | |\n| `f.rs` | | | |";
    let plan = Plan::parse(table.lines());
    let may = |file, room| plan.row(file).is_some_and(|row| row.includes(room));
    assert!(may("a", "b") && may("a/y", "c") && !may("a", "d"));
    assert!(!may("a/x", "b") && may("c/z", "a") && !may("d", "f"));
    assert!(plan.row("ab").is_none());
}
