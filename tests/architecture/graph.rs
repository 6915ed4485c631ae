//! The files of a crate, and which of them names an item that another one defines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::source::Source;

/// A crate's files by the paths of their modules: `store/heads` is `store/heads.rs`, and "" is the root.
pub(super) struct Crate {
    pub(super) files: BTreeMap<String, Source>,
    /// The text of each file.
    pub(super) texts: BTreeMap<String, String>,
}

/// For each file the files that it names, and a path by which it does.
pub(super) type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// Where an item is defined.
struct Definition<'a> {
    file: &'a str,
    is_type: bool,
}

impl Crate {
    /// Reads `lib.rs`, `main.rs` and every module below them that is not only for tests.
    pub(super) fn read(folder: &Path) -> Self {
        Self::load(&["", "main"], |module| {
            let name = if module.is_empty() { "lib" } else { module };
            let file = folder.join(name).with_extension("rs");
            fs::read_to_string(&file)
                .unwrap_or_else(|error| panic!("failed to read {}: {error}", file.display()))
        })
    }

    fn load(roots: &[&str], text_of: impl Fn(&str) -> String) -> Self {
        let (mut files, mut texts) = (BTreeMap::new(), BTreeMap::new());
        let mut waiting: Vec<String> = roots.iter().map(|&root| root.to_owned()).collect();
        while let Some(module) = waiting.pop() {
            let text = text_of(&module);
            let source = Source::parse(&text)
                .unwrap_or_else(|error| panic!("failed to parse {module}: {error}"));
            waiting.extend(source.children.iter().map(|child| below(&module, child)));
            texts.insert(module.clone(), text);
            files.insert(module, source);
        }
        Self { files, texts }
    }

    /// Who names whom, file by file. A type that a module defines belongs to the files below it, too: that they name it
    /// is no edge.
    pub(super) fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        for (module, source) in &self.files {
            let named = graph.entry(module.clone()).or_default();
            for path in &source.paths {
                let Some(found) = self.find(module, path) else {
                    continue;
                };
                if found.file != module && !(found.is_type && is_above(found.file, module)) {
                    named
                        .entry(found.file.to_owned())
                        .or_insert_with(|| path.clone());
                }
            }
        }
        graph
    }

    /// `file: Type of home` for methods in another file than the one that defines their type.
    pub(super) fn methods_elsewhere(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (module, source) in &self.files {
            for of in &source.method_types {
                let home = self.find(module, of).map(|definition| definition.file);
                if let Some(home) = home.filter(|home| home != module) {
                    found.insert(format!("{module}: {of} of {home}"));
                }
            }
        }
        found
    }

    /// Where what `path` means is defined, seen from `module`; none for a module, a local name or another crate's.
    fn find<'a>(&'a self, module: &'a str, path: &str) -> Option<Definition<'a>> {
        match split_first(path) {
            ("crate", rest) => self.find_below("", rest),
            ("self", rest) => self.find_below(module, rest),
            ("super", mut rest) => {
                let mut above = parent(module);
                while let Some(further) = rest.strip_prefix("super::") {
                    (above, rest) = (parent(above), further);
                }
                self.find_below(above, rest)
            }
            _ => self.find_in_scope(module, path),
        }
    }

    /// The same for a path that begins with what is in `module`: a child, an item or something re-exported.
    fn find_below<'a>(&'a self, module: &'a str, path: &str) -> Option<Definition<'a>> {
        if path.is_empty() {
            return None; // A module: it defines nothing itself.
        }
        let (first, rest) = split_first(path);
        match self.files.get_key_value(&below(module, first)) {
            Some((child, _)) => self.find_below(child, rest),
            None => self.find_in_scope(module, path),
        }
    }

    /// The same for a path that begins with a name in the scope of `module`.
    fn find_in_scope<'a>(&'a self, module: &'a str, path: &str) -> Option<Definition<'a>> {
        let (first, rest) = split_first(path);
        let source = self.files.get(module)?;
        if let Some(&is_type) = source.items.get(first) {
            return Some(Definition {
                file: module,
                is_type,
            });
        }
        let import = source
            .imports
            .get(first)
            .or_else(|| source.re_exports.get(first));
        let whole = match import {
            Some(import) if rest.is_empty() => import.clone(),
            Some(import) => format!("{import}::{rest}"),
            None => path.to_owned(),
        };
        // `use child::…` begins with a child, not with what it imports.
        let (start, rest) = split_first(&whole);
        if start != first {
            return self.find(module, &whole);
        }
        let (child, _) = self.files.get_key_value(&below(module, first))?;
        self.find_below(child, rest)
    }
}

/// `store` for `store` and `store/heads`.
pub(super) fn room(module: &str) -> &str {
    module.split('/').next().unwrap_or_default()
}

fn split_first(path: &str) -> (&str, &str) {
    path.split_once("::").unwrap_or((path, ""))
}

fn below(module: &str, child: &str) -> String {
    if module.is_empty() {
        child.to_owned()
    } else {
        format!("{module}/{child}")
    }
}

/// The root is above all, but it defines nothing.
fn is_above(module: &str, child: &str) -> bool {
    child
        .strip_prefix(module)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn parent(module: &str) -> &str {
    module.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The rooms of a crate, and which names which.
pub(super) fn rooms(graph: &Graph) -> Graph {
    let mut rooms = Graph::new();
    for (module, named) in graph {
        let others = named
            .iter()
            .filter(|(other, _)| room(other) != room(module));
        let others = others.map(|(other, path)| (room(other).to_owned(), path.clone()));
        rooms
            .entry(room(module).to_owned())
            .or_default()
            .extend(others);
    }
    rooms
}

/// The sets of files that name each other, directly or over others.
pub(super) fn cycles(graph: &Graph) -> Vec<BTreeSet<&str>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = graph
        .keys()
        .map(|file| (file.as_str(), reachable(graph, file)))
        .collect();
    let mut found: BTreeSet<BTreeSet<&str>> = BTreeSet::new();
    for (file, others) in &reach {
        let mutual = others
            .iter()
            .filter(|other| reach.get(*other).is_some_and(|back| back.contains(file)));
        found.insert(mutual.copied().collect());
    }
    found.into_iter().filter(|files| files.len() > 1).collect()
}

fn reachable<'a>(graph: &'a Graph, from: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(file) = waiting.pop() {
        for next in graph.get(file).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(next.as_str()) {
                waiting.push(next);
            }
        }
    }
    found
}

/// A crate of these modules, each with its text.
fn made_up(modules: &[(&str, &str)]) -> Crate {
    let text_of = |name: &str| {
        modules
            .iter()
            .find(|(module, _)| *module == name)
            .map(|(_, text)| (*text).to_owned())
    };
    Crate::load(&[""], |name| {
        text_of(name).unwrap_or_else(|| panic!("no module {name}"))
    })
}

#[test]
fn a_cycle_is_found_through_re_exports_macros_and_children() {
    let sources = made_up(&[
        ("", "mod a; mod b; mod c;"),
        (
            "a",
            "mod part; pub use part::Part; use crate::b::Whole; struct Own;",
        ),
        (
            "a/part",
            "pub struct Part; fn f() { log!(\"{}\", crate::c::deep()) }",
        ),
        (
            "b",
            "use crate::{a::{self, Other as _}, c}; pub struct Whole(a::Part, c::Deep);",
        ),
        (
            "c",
            "pub use self::x::deep; mod x; pub struct Deep; pub struct Two(super::b::Whole); const ONE: u8 = 1;",
        ),
        ("c/x", "mod y; pub fn deep() { y::deeper() }"),
        (
            "c/x/y",
            "use super::deep; use super::super::Two; pub fn deeper(_: Two) { deep() }",
        ),
    ]);
    let graph = sources.graph();
    let named = |file: &str| graph[file].keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(named("a"), ["b"]);
    assert_eq!(named("a/part"), ["c/x"]);
    assert_eq!(named("b"), ["a/part", "c"]);
    assert_eq!(named("c/x/y"), ["c/x"]);
    assert_eq!(
        cycles(&graph),
        [BTreeSet::from(["b", "c"]), BTreeSet::from(["c/x", "c/x/y"])]
    );
    assert_eq!(cycles(&rooms(&graph)), [BTreeSet::from(["a", "b", "c"])]);
}

#[test]
fn methods_in_another_file_than_their_type_are_found() {
    let sources = made_up(&[
        ("", "mod a;"),
        (
            "a",
            "mod part; pub struct Big; impl Big {} pub struct Plain;",
        ),
        (
            "a/part",
            "use super::Big; impl Big { fn act(&self) {} } impl Clone for super::Plain {}",
        ),
    ]);
    let found = sources.methods_elsewhere();
    assert_eq!(Vec::from_iter(found), ["a/part: Big of a"]);
}

#[test]
fn what_only_tests_name_is_left_out() {
    let sources = made_up(&[
        ("", "pub mod a; pub mod b; #[cfg(test)] mod gone;"),
        (
            "a",
            "#[cfg(test)] use crate::b::B; #[cfg(test)] mod tests { use crate::b::B; } pub struct A;",
        ),
        (
            "b",
            "pub struct B; impl B { #[cfg(test)] fn f() { crate::a::A; } pub(super) fn g() { let a = 1; a; } }",
        ),
    ]);
    assert!(sources.graph().values().all(BTreeMap::is_empty));
}
