//! The access file: a list of principals, in YAML or JSON. An invalid one is refused, with the place and the way out.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Principal;

/// Why an access file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("failed to read the access file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not a list of principals.
    #[error("the access file {} must be a list of principals", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        #[source]
        source: serde_yaml::Error,
    },
    /// An entry is invalid.
    #[error("the access file {}: the principal {name:?} {fault}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry.
        name: String,
        /// What is wrong with it, with the way out.
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
            Some("has the same name as another: give each its own")
        } else if again(&mut keys, &principal.access_key_id) {
            Some("has the same accessKeyId as another: give each its own")
        } else if again(&mut tokens, &principal.token) {
            Some("has the same token as another: give each its own")
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
        return Some("must have both accessKeyId and secretAccessKey, or neither");
    }
    if id.is_none() && principal.token.is_none() {
        return Some("must have an accessKeyId or a token");
    }
    if is_empty(id) || is_empty(secret) || is_empty(&principal.token) {
        return Some("must not have an empty accessKeyId, secretAccessKey or token");
    }
    let lists = [&principal.buckets, &principal.prefixes];
    if lists.iter().any(|list| list.is_empty()) || principal.verbs.is_empty() {
        return Some(
            "must not have an empty list of buckets, prefixes or verbs: write ['*'] for all buckets or keys",
        );
    }
    let starred =
        |list: &&Vec<String>| list.len() > 1 && list.iter().any(|entry| entry == Principal::ALL);
    if lists.iter().any(starred) {
        return Some("must have '*' alone in a list of buckets or prefixes: it means all of them");
    }
    if lists.iter().any(|list| list.iter().any(String::is_empty)) {
        return Some("must not have an empty bucket or prefix: write '*' for all");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_file_is_refused_with_the_entry_and_the_way_out() {
        for (text, words) in [
            ("name: x", "must be a list of principals"),
            (
                "- {name: x, token: t, verb: [read]}",
                "must be a list of principals",
            ),
            (
                "- {name: x, token: t, verbs: [fly]}",
                "must be a list of principals",
            ),
            ("- {name: x}", "must have an accessKeyId or a token"),
            ("- {name: x, accessKeyId: A}", "must have both"),
            ("- {name: x, token: ''}", "empty"),
            ("- {name: x, token: t, buckets: []}", "empty list"),
            (
                "- {name: x, token: t, prefixes: [a, '*']}",
                "must have '*' alone",
            ),
            (
                "- {name: x, token: t, prefixes: ['']}",
                "empty bucket or prefix",
            ),
            (
                "- {name: w, token: t}\n- {name: x, token: t}",
                "\"x\" has the same token as another",
            ),
            (
                "- {name: x, token: t}\n- {name: x, token: u}",
                "\"x\" has the same name as another",
            ),
            (
                "- {name: w, accessKeyId: A, secretAccessKey: s}\n- {name: x, accessKeyId: A, secretAccessKey: u}",
                "\"x\" has the same accessKeyId as another",
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
