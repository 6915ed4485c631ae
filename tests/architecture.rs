//! The ground plan of both crates, held by a plain search: who may name whom, and who owns which library.
//!
//! It sees text, not resolved names; one `use crate::module::…` per module is what makes that enough.
//! To change the plan, change the tables here and the picture in ARCHITECTURE.md in the same commit.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Module: the siblings it may name, each of them on a row above, so that there are no circles. `*`: all.
const CACHE: &str = "
    metrics:
    access:
    object:
    ring:       object
    store:      object
    origin:     object metrics
    fill:       object store origin
    peer:       object
    members:    object ring peer
    proxy:      object ring store fill origin peer members metrics
    invalidate: object store peer members metrics
    discovery:  members peer
    server:     metrics
    web:        metrics access object store origin proxy invalidate server
    api:        metrics access object ring store origin peer members proxy invalidate server web
    gateway:    metrics access object store origin proxy server web
    node:       metrics access object ring store origin peer members proxy invalidate server web api gateway
    config:     object origin proxy discovery server web api gateway node
    dev:        *
    main:       *
    lib:        *
";

/// Library: the files that may name it. `origin*` is `origin.rs` and all in `origin/`.
const CACHE_OWNERS: &str = "
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

const OPERATOR: &str = "
    config:
    crd:
    plan:       crd
    resources:  crd plan
    observe:    plan resources
    apply:      crd plan resources
    metrics:    apply
    health:     metrics
    leader:     metrics
    status:     crd plan resources observe apply
    events:     crd plan apply status
    controller: metrics crd plan resources observe apply status events
    main:       *
    lib:        *
";

const OPERATOR_OWNERS: &str = "
    anyhow             = main
    axum               = health*
    clap               = config* main
    kube::Api          = apply* controller* leader*
    kube::Client       = apply* controller* leader* main
    kube::runtime      = controller* events*
    prometheus_client  = metrics*
    schemars           = crd*
";

/// Longer files hold two things. Tests are not counted.
const MAX_LINES: usize = 400;

/// No clock, no waiting, no I/O: what goes in decides what comes out.
const PURE: &[&str] = &[
    "cache/src/object",
    "cache/src/ring.rs",
    "operator/src/plan.rs",
    "operator/src/resources",
    "operator/src/status.rs",
];

/// One file, as the search sees it.
struct Source {
    /// From the workspace on: `cache/src/store/heads.rs`.
    path: String,
    /// From `src/` on, without `.rs`: `store/heads`.
    name: String,
    text: String,
    /// The text without comments and tests.
    code: String,
}

impl Source {
    /// `store` for `store.rs` and for all in `store/`.
    fn module(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    fn is_one_of(&self, patterns: &[&str]) -> bool {
        patterns
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(module) => self.module() == module,
                None => self.name == *pattern,
            })
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
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

/// Every file of a crate, modules that only tests declare left out.
fn sources(krate: &str) -> Vec<Source> {
    let folder = root().join(krate);
    let mut files = Vec::new();
    files_under(&folder, &mut files);
    files.sort();
    let texts: Vec<_> = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("a source is UTF-8"))
        .collect();
    let mut of_tests = BTreeSet::new();
    for (file, text) in files.iter().zip(&texts) {
        for declared in text.split("#[cfg(test)]\nmod ").skip(1) {
            let name = declared.split([';', ' ']).next().unwrap_or_default();
            of_tests.insert(file.with_extension("").join(name));
        }
    }
    let shown = |file: &Path| {
        let below = file.strip_prefix(&folder).expect("found below it");
        below.with_extension("").to_string_lossy().into_owned()
    };
    files
        .iter()
        .zip(texts)
        .filter(|(file, _)| {
            !file
                .ancestors()
                .any(|part| of_tests.contains(&part.with_extension("")))
        })
        .map(|(file, text)| Source {
            path: format!("{krate}/{}.rs", shown(file)),
            name: shown(file),
            code: code_of(&text),
            text,
        })
        .collect()
}

/// The text up to its inline tests.
fn without_tests(text: &str) -> &str {
    let mut from = 0;
    while let Some(found) = text[from..].find("#[cfg(test)]\nmod ") {
        let at = from + found;
        let rest = &text[at..];
        if rest
            .find(['{', ';'])
            .is_some_and(|end| rest[end..].starts_with('{'))
        {
            return &text[..at];
        }
        from = at + 1;
    }
    text
}

fn code_of(text: &str) -> String {
    let lines = without_tests(text).lines();
    let code = lines.map(|line| line.split("// ").next().unwrap_or_default());
    code.filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every path that the code names, `a::{b, c::d}` written out as `a::b` and `a::c::d`.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = code;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
        rest = read_path("", &rest[start..], &mut found);
    }
    found
}

/// Reads one path, which begins at the start of `text`, and says where the text goes on.
fn read_path<'a>(prefix: &str, text: &'a str, found: &mut BTreeSet<String>) -> &'a str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let path = format!("{prefix}{}", &text[..end]);
    let rest = &text[end..];
    let Some(deeper) = rest.strip_prefix("::") else {
        found.insert(path);
        return rest;
    };
    let prefix = format!("{path}::");
    let Some(mut group) = deeper.strip_prefix('{') else {
        return read_path(&prefix, deeper, found);
    };
    loop {
        group = group.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        match group.chars().next() {
            Some(c) if c.is_alphabetic() || c == '_' => group = read_path(&prefix, group, found),
            Some('}') | None => return group.get(1..).unwrap_or_default(),
            // ` as name`, `*`: nothing that matters here.
            Some(c) => group = &group[c.len_utf8()..],
        }
    }
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

/// The lines of a table, each cut at `separator` into its head and its words.
fn rows(table: &'static str, separator: &str) -> Vec<(&'static str, Vec<&'static str>)> {
    let lines = table.lines().filter_map(|line| line.split_once(separator));
    lines
        .map(|(head, words)| (head.trim(), words.split_whitespace().collect()))
        .collect()
}

fn wrong_edges(krate: &str, table: &'static str) -> Vec<String> {
    let rows = rows(table, ":");
    let mut mistakes = Vec::new();
    for source in sources(krate) {
        let (path, module) = (&source.path, source.module());
        let Some((_, may)) = rows.iter().find(|row| row.0 == module) else {
            mistakes.push(format!("{path} has no row in tests/architecture.rs"));
            continue;
        };
        for named in paths(&source.code) {
            if named.starts_with("super::") && !source.name.contains('/') {
                mistakes.push(format!(
                    "{path} names {named}: write crate::, which a search finds"
                ));
            }
            let below_root = named.strip_prefix("crate::").unwrap_or_default();
            let sibling = below_root.split("::").next().unwrap_or_default();
            let known = rows.iter().any(|row| row.0 == sibling);
            if known && sibling != module && !may.contains(&"*") && !may.contains(&sibling) {
                let may = may.join(", ");
                mistakes.push(format!(
                    "{path} names crate::{sibling}; {module} may name [{may}]"
                ));
            }
        }
    }
    mistakes
}

fn open_fences(krate: &str, table: &'static str) -> Vec<String> {
    let mut mistakes = Vec::new();
    for source in sources(krate) {
        let named = paths(&source.code);
        for (library, owners) in rows(table, " = ") {
            let found = named.iter().find(|path| is_below(path, library));
            if let Some(found) = found.filter(|_| !source.is_one_of(&owners)) {
                let (path, owners) = (&source.path, owners.join(", "));
                mistakes.push(format!(
                    "{path} names {found}; {library} belongs to [{owners}]"
                ));
            }
        }
    }
    mistakes
}

#[test]
fn the_tables_have_no_circles() {
    for table in [CACHE, OPERATOR] {
        let mut above = vec!["*"];
        for (module, may) in rows(table, ":") {
            for sibling in may {
                assert!(
                    above.contains(&sibling),
                    "{sibling} must stand above {module}, which names it"
                );
            }
            above.push(module);
        }
    }
}

#[test]
fn modules_of_the_cache_name_only_what_the_plan_allows() {
    check(&wrong_edges("cache/src", CACHE));
}

#[test]
fn modules_of_the_operator_name_only_what_the_plan_allows() {
    check(&wrong_edges("operator/src", OPERATOR));
}

#[test]
fn each_library_has_one_owner() {
    let mut mistakes = open_fences("cache/src", CACHE_OWNERS);
    mistakes.extend(open_fences("operator/src", OPERATOR_OWNERS));
    check(&mistakes);
}

#[test]
fn pure_modules_neither_wait_nor_look_at_the_clock() {
    let mut mistakes = Vec::new();
    for source in sources("cache/src")
        .into_iter()
        .chain(sources("operator/src"))
    {
        let pure = PURE.iter().any(|prefix| source.path.starts_with(prefix));
        for word in [
            "async fn",
            "async move",
            ".await",
            "Instant::now",
            "SystemTime::now",
            "tokio::",
        ] {
            if pure && source.code.contains(word) {
                mistakes.push(format!(
                    "{} holds `{word}`, but it is one of the pure ones",
                    source.path
                ));
            }
        }
    }
    check(&mistakes);
}

#[test]
fn every_file_is_short_says_what_lives_in_it_and_has_no_loose_ends() {
    let mut mistakes = Vec::new();
    for source in ["cache/src", "operator/src", "tests"]
        .into_iter()
        .flat_map(sources)
    {
        let production = !source.path.starts_with("tests/");
        let lines = without_tests(&source.text).lines().count();
        // Spelled in two halves, since this file is searched too.
        let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
        let complaints = [
            (
                !source.text.starts_with("//!"),
                "doesn't open with //! and what lives there",
            ),
            (
                marks.iter().any(|mark| source.text.contains(mark)),
                "has a mark of unfinished work",
            ),
            (
                production && lines > MAX_LINES,
                "has more than 400 lines without its tests: split it",
            ),
            (
                production && source.code.contains(".unwrap()"),
                "calls unwrap() outside its tests",
            ),
        ];
        for (_, complaint) in complaints.iter().filter(|(holds, _)| *holds) {
            mistakes.push(format!("{} {complaint}", source.path));
        }
    }
    check(&mistakes);
}

#[test]
fn the_search_reads_nested_imports_and_stops_at_the_tests() {
    let text = "use crate::{object::{self, Head}, ring::Ring as R};\nlet x = kube::api::Api::all(c);\n\
                #[cfg(test)]\nmod model;\n// use crate::api::A;\n#[cfg(test)]\nmod tests {\n use crate::proxy::P;\n}";
    let found = paths(&code_of(text));
    for path in [
        "crate::object::self",
        "crate::object::Head",
        "crate::ring::Ring",
        "kube::api::Api::all",
    ] {
        assert!(found.contains(path), "{path} is missing from {found:?}");
    }
    assert!(
        !found
            .iter()
            .any(|path| path.contains("proxy") || path.contains("crate::api")),
        "{found:?}"
    );
}
