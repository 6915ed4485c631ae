//! The access file: a list of principals, in YAML or JSON. What contradicts itself is refused, with its place and the fix.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Principal;

/// Why an access file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("the access file {} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no list of principals.
    #[error("the access file {} is no list of principals", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        #[source]
        source: serde_yaml::Error,
    },
    /// An entry can't be meant so.
    #[error("the access file {}: the principal {name:?} {fault}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry.
        name: String,
        /// What is wrong with it, and what helps.
        fault: &'static str,
    },
}

pub(super) fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Arc<Principal>>, Error> {
    let principals: Vec<Principal> = serde_yaml::from_str(text).map_err(|source| Error::Parse {
        path: path.to_owned(),
        source,
    })?;
    let (mut names, mut keys, mut tokens) = (HashSet::new(), HashSet::new(), HashSet::new());
    for principal in &principals {
        let again = |seen: &mut HashSet<String>, text: &Option<String>| {
            text.as_ref().is_some_and(|text| !seen.insert(text.clone()))
        };
        let fault = if !names.insert(&principal.name) {
            Some("has the name of another: give each its own")
        } else if again(&mut keys, &principal.access_key_id) {
            Some("has an accessKeyId that another has too: give each its own")
        } else if again(&mut tokens, &principal.token) {
            Some("has a token that another has too: give each its own")
        } else {
            fault(principal)
        };
        if let Some(fault) = fault {
            return Err(Error::Entry {
                path: path.to_owned(),
                name: principal.name.clone(),
                fault,
            });
        }
    }
    Ok(principals.into_iter().map(Arc::new).collect())
}

fn fault(principal: &Principal) -> Option<&'static str> {
    let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
    let (id, secret) = (&principal.access_key_id, &principal.secret_access_key);
    if id.is_some() != secret.is_some() {
        return Some("needs both accessKeyId and secretAccessKey, or neither");
    }
    if id.is_none() && principal.token.is_none() {
        return Some("has neither an accessKeyId nor a token: nobody could be it");
    }
    if is_empty(id) || is_empty(secret) || is_empty(&principal.token) {
        return Some("has an empty accessKeyId, secretAccessKey or token");
    }
    let lists = [&principal.buckets, &principal.prefixes];
    if lists.iter().any(|list| list.is_empty()) || principal.verbs.is_empty() {
        return Some(
            "has an empty list of buckets, prefixes or verbs: write ['*'] for all buckets or keys",
        );
    }
    let starred =
        |list: &&Vec<String>| list.len() > 1 && list.iter().any(|entry| entry == super::ALL);
    if lists.iter().any(starred) {
        return Some(
            "has '*' beside other buckets or prefixes: '*' is all of them, and stands alone",
        );
    }
    if lists.iter().any(|list| list.iter().any(String::is_empty)) {
        return Some("has an empty bucket or prefix: write '*' for all");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_entry_and_the_fix() {
        for (text, words) in [
            ("name: x", "no list of principals"),
            (
                "- {name: x, token: t, verb: [read]}",
                "no list of principals",
            ),
            (
                "- {name: x, token: t, verbs: [fly]}",
                "no list of principals",
            ),
            ("- {name: x}", "neither an accessKeyId nor a token"),
            ("- {name: x, accessKeyId: A}", "needs both"),
            ("- {name: x, token: ''}", "empty"),
            ("- {name: x, token: t, buckets: []}", "empty list"),
            ("- {name: x, token: t, prefixes: [a, '*']}", "stands alone"),
            (
                "- {name: x, token: t, prefixes: ['']}",
                "empty bucket or prefix",
            ),
            (
                "- {name: w, token: t}\n- {name: x, token: t}",
                "\"x\" has a token that another",
            ),
            (
                "- {name: x, token: t}\n- {name: x, token: u}",
                "\"x\" has the name of another",
            ),
            (
                "- {name: w, accessKeyId: A, secretAccessKey: s}\n- {name: x, accessKeyId: A, secretAccessKey: u}",
                "\"x\" has an accessKeyId that another",
            ),
        ] {
            let error = parse(Path::new("access.yaml"), &with_all(text))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(words) && error.contains("access.yaml"),
                "{error}"
            );
        }
    }

    /// The same entries, each with the lists that it lacks.
    fn with_all(text: &str) -> String {
        let line = |line: &str| {
            let mut line = line.to_owned();
            for list in ["buckets: ['*']", "prefixes: ['*']", "verbs: [read]"] {
                let name = list.split(':').next().unwrap();
                if !line.contains(name) && line.ends_with('}') {
                    line.insert_str(line.len() - 1, &format!(", {list}"));
                }
            }
            line
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_entry_whose_lists_are_not_there_yet_allows_nothing() {
        let entry = "- name: x\n  token: t\n  buckets: [b]\n  prefixes: [p/]\n  verbs: [read]\n";
        assert!(parse(Path::new("a"), entry).is_ok());
        for lines in 1..5 {
            let half: String = entry.split_inclusive('\n').take(lines).collect();
            assert!(parse(Path::new("a"), &half).is_err(), "{half}");
        }
    }

    #[test]
    fn json_is_as_good_as_yaml() {
        let json = r#"[{"name": "x", "token": "t", "buckets": ["*"], "prefixes": ["*"], "verbs": ["write"]}]"#;
        assert_eq!(parse(Path::new("a"), json).unwrap().len(), 1);
    }
}
