//! Authorisation: the principals of the access file, and the one function that decides, for both APIs, before every
//! lookup, warm or cold.
//!
//! A refusal is the same whether or not the object exists, so callers can't learn which objects they may not read
//! exist. Nothing is allowed by default: an entry lists its buckets, prefixes and verbs. The file is reloaded when it
//! changes; one that can't be read, or is still being written, changes nothing.

mod file;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::Deserialize;
use subtle::ConstantTimeEq;

pub use file::Error;

/// What a principal may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Get, head and list; prewarm.
    Read,
    /// Put, delete, copy to; uploads.
    Write,
    /// Invalidate.
    Invalidate,
}

/// What an operation acts on, in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The bucket itself, and none of its objects.
    Bucket,
    /// One key.
    Key(&'a str),
    /// All keys with this prefix.
    Prefix(&'a str),
}

/// One entry of the access file.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Principal {
    /// Its name in logs; no other entry has the same.
    pub name: String,
    /// Its access key at the S3 gateway.
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    /// Its token at the blob API, for `Authorization: Bearer`.
    token: Option<String>,
    /// The buckets that it may use; `*`: all that the cache serves.
    buckets: Vec<String>,
    /// The prefixes of the keys that it may use; `*`: any key.
    prefixes: Vec<String>,
    /// What it may do.
    verbs: Vec<Verb>,
}

impl std::fmt::Debug for Principal {
    /// Without its secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Principal({})", self.name)
    }
}

impl Principal {
    /// Alone in a list of buckets or prefixes: all of them.
    const ALL: &str = "*";

    /// The secret that it signs with; set exactly if its access key is.
    pub fn secret(&self) -> Option<&str> {
        self.secret_access_key.as_deref()
    }

    /// The decision.
    fn may(&self, verb: Verb, bucket: &str, target: Target<'_>) -> bool {
        let (any_bucket, any_key) = (is_all(&self.buckets), is_all(&self.prefixes));
        let within = |name: &str| {
            let begins = |prefix: &String| name.starts_with(prefix.as_str());
            (any_key || self.prefixes.iter().any(begins))
                // An S3 that treats keys as paths would leave the prefix, or the bucket.
                && ((any_bucket && any_key) || !has_dot_segment(name))
        };
        self.verbs.contains(&verb)
            && (any_bucket || self.buckets.iter().any(|name| name == bucket))
            && match target {
                Target::Bucket => true,
                Target::Key(name) | Target::Prefix(name) => within(name),
            }
    }
}

fn is_all(list: &[String]) -> bool {
    list == [Principal::ALL]
}

/// True if the name, read as a path, has a segment `.` or `..`, also percent-encoded.
fn has_dot_segment(name: &str) -> bool {
    name.split(['/', '\\']).any(|segment| {
        // `%2e%2e` is the longest spelling of two dots.
        segment.len() <= 6
            && matches!(
                segment.to_ascii_lowercase().replace("%2e", ".").as_str(),
                "." | ".."
            )
    })
}

/// The sender of a request.
#[derive(Debug, Clone)]
pub enum Caller {
    /// There is no access file.
    Anybody,
    /// A principal, known by key or token.
    Known(Arc<Principal>),
}

impl Caller {
    /// True if the caller may do this.
    pub fn may(&self, verb: Verb, bucket: &str, target: Target<'_>) -> bool {
        match self {
            Self::Anybody => true,
            Self::Known(principal) => principal.may(verb, bucket, target),
        }
    }

    /// True if the caller may do this with every object of every bucket.
    pub fn may_everywhere(&self, verb: Verb) -> bool {
        match self {
            Self::Anybody => true,
            Self::Known(it) => is_all(&it.buckets) && it.may(verb, "", Target::Prefix("")),
        }
    }

    /// True if both are the same principal, or there is no access file.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anybody, Self::Anybody) => true,
            (Self::Known(one), Self::Known(other)) => one.name == other.name,
            _ => false,
        }
    }
}

/// The rules in force. A clone is another handle to the same.
#[derive(Debug, Clone)]
pub struct Access(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    rules: RwLock<AccessRules>,
    /// The file's text when it was last read, if it is not in force yet.
    unsettled: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct AccessRules {
    text: String,
    principals: Vec<Arc<Principal>>,
}

impl Access {
    /// Every caller may do everything.
    fn open() -> Self {
        Self(None)
    }

    /// The rules of a file, which [`Access::reload`] reads again; without one, every caller may do everything.
    pub fn load(file: Option<PathBuf>) -> Result<Self, Error> {
        file.map_or_else(|| Ok(Self::open()), Self::of_file)
    }

    fn of_file(path: PathBuf) -> Result<Self, Error> {
        let text = file::read(&path)?;
        let principals = file::parse(&path, &text)?;
        let rules = RwLock::new(AccessRules { text, principals });
        Ok(Self(Some(Arc::new(Inner {
            path,
            rules,
            unsettled: Mutex::default(),
        }))))
    }

    /// True if callers must authenticate.
    pub fn is_guarded(&self) -> bool {
        self.0.is_some()
    }

    /// The principal with this access key.
    pub fn by_key(&self, id: &str) -> Option<Arc<Principal>> {
        self.find(|principal| principal.access_key_id.as_deref() == Some(id))
    }

    /// The caller with this token; `None` if no principal has it. Without an access file, any caller.
    pub fn by_token(&self, shown: Option<&[u8]>) -> Option<Caller> {
        if self.0.is_none() {
            return Some(Caller::Anybody);
        }
        let shown = shown?;
        self.find(|principal| {
            let token = principal.token.as_deref().map(str::as_bytes);
            token.is_some_and(|token| token.ct_eq(shown).into())
        })
        .map(Caller::Known)
    }

    /// Applies the file once it has read the same twice: a file that is being written may hold only half of the rules.
    /// True if the rules changed.
    pub fn reload(&self) -> Result<bool, Error> {
        let Some(inner) = &self.0 else {
            return Ok(false);
        };
        let text = file::read(&inner.path)?;
        let mut unsettled = (inner.unsettled.lock()).unwrap_or_else(PoisonError::into_inner);
        if inner.rules().text == text {
            *unsettled = None;
            return Ok(false);
        }
        if unsettled.as_ref() != Some(&text) {
            *unsettled = Some(text);
            return Ok(false);
        }
        drop(unsettled);
        let principals = file::parse(&inner.path, &text)?;
        *inner.rules.write().unwrap_or_else(PoisonError::into_inner) =
            AccessRules { text, principals };
        Ok(true)
    }

    fn find(&self, is_it: impl Fn(&Principal) -> bool) -> Option<Arc<Principal>> {
        let rules = self.0.as_ref()?.rules();
        rules.principals.iter().find(|it| is_it(it)).cloned()
    }
}

impl Inner {
    fn rules(&self) -> std::sync::RwLockReadGuard<'_, AccessRules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "
- name: trainers
  accessKeyId: TRAIN
  secretAccessKey: t-secret
  token: t-token
  buckets: [models]
  prefixes: [llm/, vision/]
  verbs: [read]
- name: admin
  accessKeyId: ADMIN
  secretAccessKey: a-secret
  buckets: ['*']
  prefixes: ['*']
  verbs: [read, write, invalidate]
";

    fn rules(text: &str) -> (tempfile::NamedTempFile, Access) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let access = Access::of_file(file.path().to_owned()).unwrap();
        (file, access)
    }

    #[test]
    fn a_principal_may_what_its_entry_says_and_nothing_else() {
        let (_file, access) = rules(RULES);
        let trainers = Caller::Known(access.by_key("TRAIN").unwrap());
        for (verb, bucket, target, may) in [
            (Verb::Read, "models", Target::Key("llm/a"), true),
            (Verb::Read, "models", Target::Prefix("vision/b"), true),
            (Verb::Read, "models", Target::Bucket, true),
            (Verb::Read, "models", Target::Key("llm"), false),
            (Verb::Read, "models", Target::Prefix(""), false),
            (Verb::Read, "other", Target::Key("llm/a"), false),
            (Verb::Write, "models", Target::Key("llm/a"), false),
            (Verb::Invalidate, "models", Target::Key("llm/a"), false),
            (Verb::Read, "models", Target::Key("llm/../private"), false),
            (Verb::Read, "models", Target::Key("llm/.."), false),
            (Verb::Read, "models", Target::Key("llm/./a"), false),
            (
                Verb::Read,
                "models",
                Target::Key("llm/%2e%2E/private"),
                false,
            ),
            (
                Verb::Read,
                "models",
                Target::Key("llm/..\\..\\private"),
                false,
            ),
            (Verb::Read, "models", Target::Prefix("llm/../"), false),
            (Verb::Read, "models", Target::Key("llm/a..b/.c/..."), true),
        ] {
            assert_eq!(
                trainers.may(verb, bucket, target),
                may,
                "{verb:?} {bucket} {target:?}"
            );
        }
        let admin = Caller::Known(access.by_key("ADMIN").unwrap());
        assert!(admin.may(Verb::Invalidate, "any", Target::Prefix("")));
        assert!(admin.may(Verb::Read, "any", Target::Key("a/../b")));
        assert!(admin.may_everywhere(Verb::Write) && !trainers.may_everywhere(Verb::Read));
        assert!(admin.is_same(&admin) && !admin.is_same(&trainers));
    }

    #[test]
    fn a_token_names_its_principal_and_a_wrong_one_nobody() {
        let (_file, access) = rules(RULES);
        let named = |token: &str| match access.by_token(Some(token.as_bytes())) {
            Some(Caller::Known(principal)) => Some(principal.name.clone()),
            _ => None,
        };
        assert_eq!(named("t-token").as_deref(), Some("trainers"));
        assert_eq!(named("t-toke"), None);
        assert_eq!(named(""), None);
        assert!(access.by_token(None).is_none());
        assert!(matches!(
            Access::open().by_token(None),
            Some(Caller::Anybody)
        ));
    }

    #[test]
    fn a_key_that_is_taken_out_is_unknown_and_a_broken_file_changes_nothing() {
        let (file, access) = rules(RULES);
        std::fs::write(file.path(), "- name: [").unwrap();
        assert!(!access.reload().unwrap());
        assert!(access.reload().is_err());
        assert_eq!(access.by_key("TRAIN").unwrap().secret(), Some("t-secret"));
        std::fs::write(file.path(), "[]").unwrap();
        assert!(!access.reload().unwrap());
        assert!(access.reload().unwrap());
        assert!(access.by_key("TRAIN").is_none());
        assert!(!access.reload().unwrap());
    }

    #[test]
    fn a_file_that_is_being_written_changes_nothing_until_it_is_still() {
        let (file, access) = rules(RULES);
        let (half, whole) = (
            "- {name: x, token: t, buckets: ['*'], prefixes: ['*'], verbs: [read]}\n",
            "- {name: x, token: t, buckets: [b], prefixes: [p], verbs: [read]}\n",
        );
        for text in [half, whole, half] {
            std::fs::write(file.path(), text).unwrap();
            assert!(!access.reload().unwrap());
            assert!(access.by_key("TRAIN").is_some());
        }
        std::fs::write(file.path(), whole).unwrap();
        assert!(!access.reload().unwrap());
        assert!(access.reload().unwrap());
        let x = access.by_token(Some(b"t")).unwrap();
        assert!(!x.may(Verb::Read, "b", Target::Key("other")));
    }
}
