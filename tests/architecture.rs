//! The ground plan of both crates, held by their syntax trees: which room may name which, no cycles among files, and
//! who owns which library. Rooms and what they may name are read from the tables in ARCHITECTURE.md.
//!
//! Paths are resolved through imports and re-exports to the file that defines the item. Methods are not: an `impl` of a
//! type elsewhere is seen by the path of that type.

mod graph;
mod plan;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use graph::{Crate, Graph, cycles, room, rooms};
use plan::Plan;

/// Library: the files that may name it. `origin*` is `origin.rs` and all in `origin/`.
const CACHE_LIBRARIES: &str = "
    anyhow             = main
    aws_config         = origin*
    aws_sdk_s3         = origin*
    aws_runtime        = origin*
    axum               = api* gateway* server* web*
    clap               = config*
    httparse           = server*
    hyper_util::client = peer* origin*
    k8s_openapi        = discovery*
    kube               = discovery*
    moka               = gateway/cors proxy/fetch/read_ahead
    prometheus_client  = metrics*
    quick_xml          = gateway/deletion gateway/refusal
    s3s                = gateway* dev*
    s3s_fs             = dev*
    serde_yaml         = access*
    xxhash_rust        = object ring store*
";

const OPERATOR_LIBRARIES: &str = "
    anyhow             = main
    axum               = health*
    clap               = config* main
    kube::Api          = apply* controller* leader*
    kube::Client       = apply* controller* leader* main
    kube::runtime      = controller* events*
    prometheus_client  = metrics*
    schemars           = crd*
";

/// No clock, no waiting, no I/O: what goes in decides what comes out.
const PURE: &[&str] = &[
    "cache/src/object",
    "cache/src/ring",
    "operator/src/plan",
    "operator/src/resources",
    "operator/src/status",
];

/// Longer files hold two things. Tests are not counted.
const MAX_LINES: usize = 400;

/// A longer name is no sentence to remember.
const MAX_TEST_NAME: usize = 75;

/// Methods that stand in another file than their type, where they reach into fields that are not their file's. One that
/// is gone has to leave this list, too.
const KNOWN_METHODS_ELSEWHERE: &[&str] = &[
    "config: Args of config/args",
    "config: Config of config/resolved",
    "fill/follower: Fill of fill",
    "origin/forward: Origin of origin",
    "origin/list: Origin of origin",
    "origin/read: Origin of origin",
    "origin/upload: Origin of origin",
    "origin/write: Origin of origin",
    "store/block_lease: Budget of store/budget",
    "store/block_lease: Charge of store/budget",
];

/// The crates with a plan: their sources, and who owns their libraries.
const CRATES: [(&str, &str); 2] = [
    ("cache/src", CACHE_LIBRARIES),
    ("operator/src", OPERATOR_LIBRARIES),
];

fn read(folder: &str) -> Crate {
    Crate::read(&root().join(folder))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn matches(module: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(of_room) => room(module) == of_room,
        None => module == pattern,
    }
}

fn wrong_edges(folder: &str) -> Vec<String> {
    let (sources, plan) = (read(folder), Plan::read(folder));
    let graph = sources.graph();
    let mut mistakes = Vec::new();
    for (module, source) in sources
        .files
        .iter()
        .filter(|(module, _)| !module.is_empty())
    {
        let Some(may) = plan.row(module) else {
            mistakes.push(format!(
                "{folder}/{module}.rs has no row in ARCHITECTURE.md"
            ));
            continue;
        };
        // Both the room that is written, and the one to which a re-export leads.
        let written = source
            .all_paths()
            .filter_map(|path| Some((path.strip_prefix("crate::")?, path)));
        let written =
            written.map(|(below, path)| (below.split("::").next().unwrap_or_default(), path));
        let resolved = graph[module]
            .iter()
            .map(|(file, path)| (room(file), path.as_str()));
        for (named, path) in written.chain(resolved) {
            if named != room(module) && !may.includes(named) {
                mistakes.push(format!(
                    "{folder}/{module}.rs may not name `{named}`, but names {path}"
                ));
            }
        }
    }
    mistakes
}

/// Says which files of a cycle name which, and by which path.
fn describe(folder: &str, graph: &Graph, cycle: &BTreeSet<&str>) -> String {
    let mut lines = vec![format!("cycle in {folder}: {}", joined(cycle))];
    for file in cycle {
        let others = graph[*file]
            .iter()
            .filter(|(other, _)| cycle.contains(other.as_str()));
        lines.extend(others.map(|(other, path)| format!("    {file} names {other} as {path}")));
    }
    lines.join("\n")
}

fn joined(files: &BTreeSet<&str>) -> String {
    files.iter().copied().collect::<Vec<_>>().join(" ")
}

/// True for `kube::Api` and `kube::Api::all` below `kube::Api`; a lone word is a variable, not a library.
fn is_below(path: &str, library: &str) -> bool {
    let rest = path.strip_prefix(library);
    rest.is_some_and(|rest| rest.starts_with("::") || (rest.is_empty() && path.contains("::")))
}

fn check(mistakes: &[String]) {
    let mistakes: BTreeSet<_> = mistakes.iter().map(String::as_str).collect();
    let mistakes: Vec<_> = mistakes.into_iter().collect();
    assert!(mistakes.is_empty(), "\n\n{}\n", mistakes.join("\n"));
}

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources can be listed") {
        let path = entry.expect("its entries too").path();
        if path.is_dir() {
            files_under(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every Rust file, those of tests included: its path from the workspace on, and its text.
fn every_file() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in ["cache/src", "operator/src", "tests"] {
        files_under(&root().join(folder), &mut files);
    }
    let texts = files.iter().map(|file| {
        let shown = file
            .strip_prefix(root())
            .expect("found below it")
            .display()
            .to_string();
        (shown, fs::read_to_string(file).expect("a source is UTF-8"))
    });
    texts.collect()
}

/// How many lines there are before the inline tests.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{'));
    tests.unwrap_or(lines.len())
}

/// The names of all functions with `#[test]` or `#[tokio::test…]`, those inside of macros included.
fn test_names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut lines = text.lines().map(str::trim_start);
    while lines.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test")) {
        let declared = lines.find_map(|line| line.split_once("fn "));
        names.extend(declared.and_then(|(_, rest)| rest.split('(').next()));
    }
    names
}

#[test]
fn rooms_name_only_what_the_plan_allows() {
    check(&CRATES.map(|(folder, _)| wrong_edges(folder)).concat());
}

#[test]
fn no_file_calls_back() {
    let mut mistakes = Vec::new();
    for (folder, _) in CRATES {
        let files = read(folder).graph();
        for graph in [&files, &rooms(&files)] {
            let found = cycles(graph);
            mistakes.extend(found.iter().map(|cycle| describe(folder, graph, cycle)));
        }
    }
    check(&mistakes);
}

#[test]
fn methods_stand_in_the_file_of_their_type() {
    let found = CRATES.map(|(folder, _)| read(folder).methods_elsewhere());
    let found: BTreeSet<_> = found.iter().flatten().map(String::as_str).collect();
    let known: BTreeSet<_> = KNOWN_METHODS_ELSEWHERE.iter().copied().collect();
    let new = found.difference(&known);
    let mut mistakes: Vec<_> = new.map(|found| format!("methods in {found}")).collect();
    let gone = known.difference(&found);
    mistakes.extend(
        gone.map(|gone| {
            format!("KNOWN_METHODS_ELSEWHERE lists `{gone}`, which is gone: remove it")
        }),
    );
    check(&mistakes);
}

#[test]
fn each_library_has_one_owner() {
    let mut mistakes = Vec::new();
    for (folder, libraries) in CRATES {
        for (module, source) in read(folder).files {
            for (library, owners) in libraries.lines().filter_map(|line| line.split_once(" = ")) {
                let is_owner = owners
                    .split_whitespace()
                    .any(|owner| matches(&module, owner));
                let library = library.trim();
                if let Some(path) = source
                    .all_paths()
                    .find(|path| !is_owner && is_below(path, library))
                {
                    mistakes.push(format!(
                        "{folder}/{module}.rs names {path}; {library} belongs to {owners}"
                    ));
                }
            }
        }
    }
    check(&mistakes);
}

#[test]
fn pure_modules_neither_wait_nor_look_at_the_clock() {
    let mut mistakes = Vec::new();
    for (folder, _) in CRATES {
        for (module, source) in read(folder).files {
            let file = format!("{folder}/{module}");
            if !PURE.contains(&format!("{folder}/{}", room(&module)).as_str()) {
                continue;
            }
            let impure = ["Instant::now", "SystemTime::now", "tokio::"];
            let impure = source
                .all_paths()
                .filter(|path| impure.iter().any(|word| path.contains(word)));
            mistakes.extend(
                impure
                    .map(|path| format!("{file}.rs names {path}, but it is one of the pure ones")),
            );
            if source.waits {
                mistakes.push(format!("{file}.rs waits, but it is one of the pure ones"));
            }
        }
    }
    check(&mistakes);
}

#[test]
fn every_file_is_short_says_what_it_holds_and_has_no_loose_ends() {
    let mut mistakes = Vec::new();
    for (folder, _) in CRATES {
        let long = read(folder)
            .texts
            .into_iter()
            .filter(|(_, text)| lines_without_tests(text) > MAX_LINES);
        mistakes.extend(long.map(|(module, _)| {
            format!(
                "{folder}/{module}.rs has more than {MAX_LINES} lines without its tests: split it"
            )
        }));
    }
    // Spelled in two halves, since this file is searched too.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    for (file, text) in every_file() {
        if !text.starts_with("//!") {
            mistakes.push(format!("{file} doesn't open with //! and what lives there"));
        }
        if marks.iter().any(|mark| text.contains(mark)) {
            mistakes.push(format!("{file} has a mark of unfinished work"));
        }
    }
    check(&mistakes);
}

#[test]
fn names_of_tests_are_short_sentences() {
    let mut mistakes = Vec::new();
    for (file, text) in every_file() {
        let long = test_names(&text)
            .into_iter()
            .filter(|name| name.len() > MAX_TEST_NAME);
        mistakes.extend(long.map(|name| format!("{file}: {name} has {} characters", name.len())));
    }
    check(&mistakes);
}

#[test]
fn names_of_tests_are_read_from_functions_and_macros() {
    let text = "#[test]\nfn one() {}\nfn no() {}\n proptest! {\n #[test]\n fn two(a in 1..2) {} }\n\
                #[tokio::test(start_paused = true)]\n#[expect(x)]\nasync fn three() {}";
    assert_eq!(test_names(text), ["one", "two", "three"]);
}
