//! Keys from files that change while the process runs.
//!
//! Kubernetes swaps all files of a mounted Secret at once, by a symbolic link; edited by hand, they change one by one.
//! Either way, the key id of one generation is never used with the secret of another while the old pair still works.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result as Provided, future};
use tokio::time::{Instant, sleep};

/// How long keys are used before the next request looks again. Reading three small files a second costs nothing, and
/// after S3 has refused keys they are looked for at once.
const FRESH: Duration = Duration::from_secs(1);

/// How often, and how far apart, one look reads the files while a rotation is under way.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

const KEY_ID: &str = "access-key-id";
const SECRET: &str = "secret-access-key";
const TOKEN: &str = "session-token";

/// The keys in a folder.
#[derive(Clone)]
pub(super) struct Files(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    state: Mutex<KeyState>,
    /// One look at a time; those who waited for it use what it found.
    look: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct KeyState {
    good: Option<Pair>,
    generation: u64,
    looked: Option<Instant>,
}

#[derive(Clone, PartialEq, Eq)]
struct Pair {
    key_id: String,
    secret: String,
    token: Option<String>,
}

impl Pair {
    /// One of the two is new and the other is not: the files are still being written.
    fn half_of(&self, old: &Self) -> bool {
        (self.key_id == old.key_id) != (self.secret == old.secret)
    }
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error(
        "failed to read {}: the folder must hold the files {KEY_ID} and {SECRET}, \
         as a mounted Secret with these two keys does", path.display()
    )]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    #[error("the keys in {} keep changing", .0.display())]
    Restless(PathBuf),
}

impl Files {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(Arc::new(Inner {
            folder,
            state: Mutex::default(),
            look: tokio::sync::Mutex::default(),
        }))
    }

    /// How many pairs have been seen so far.
    pub(super) fn generation(&self) -> u64 {
        self.state().generation
    }

    /// Looks again because S3 refused the keys; true if there are others than in `generation`.
    pub(super) async fn changed_since(&self, generation: u64) -> bool {
        let _turn = self.0.look.lock().await;
        if self.generation() != generation {
            return true;
        }
        match self.look(true).await {
            Ok(()) => self.generation() != generation,
            Err(error) => {
                tracing::warn!(%error, "S3 refuses the keys, and failed to read others");
                false
            }
        }
    }

    async fn load(&self) -> Provided {
        if let Some(pair) = self.fresh() {
            return Ok(pair.into());
        }
        let _turn = self.0.look.lock().await;
        if let Some(pair) = self.fresh() {
            return Ok(pair.into());
        }
        let looked = self.look(false).await;
        match (looked, self.state().good.clone()) {
            (Err(error), None) => Err(CredentialsError::provider_error(error)),
            (Err(error), Some(good)) => {
                tracing::warn!(%error, "failed to read the S3 keys again; the last ones stay in use");
                Ok(good.into())
            }
            (Ok(()), Some(good)) => Ok(good.into()),
            (Ok(()), None) => unreachable!("a look without an error found a pair"),
        }
    }

    fn fresh(&self) -> Option<Pair> {
        let state = self.state();
        let looked = state.looked?;
        (looked.elapsed() < FRESH)
            .then(|| state.good.clone())
            .flatten()
    }

    /// Reads until it finds a whole pair. A pair with one old half is used only if the old pair was `refused` and no
    /// better one comes.
    async fn look(&self, refused: bool) -> Result<(), Missing> {
        let old = self.state().good.clone();
        let mut found = self.read_twice();
        for _ in 1..LOOKS {
            if settled(&found, old.as_ref(), refused) {
                break;
            }
            sleep(BETWEEN_LOOKS).await;
            found = self.read_twice();
        }
        let mut state = self.state();
        state.looked = Some(Instant::now());
        let new = found?;
        let half = old.is_some_and(|old| new.half_of(&old));
        if state.good.as_ref() != Some(&new) && (refused || !half) {
            state.good = Some(new);
            state.generation += 1;
        }
        Ok(())
    }

    /// Reads all files twice; only files that did not change in between are a pair.
    fn read_twice(&self) -> Result<Pair, Missing> {
        let (first, second) = (self.read()?, self.read()?);
        if first != second {
            return Err(Missing::Restless(self.0.folder.clone()));
        }
        Ok(first)
    }

    fn read(&self) -> Result<Pair, Missing> {
        Ok(Pair {
            key_id: required(&self.0.folder.join(KEY_ID))?,
            secret: required(&self.0.folder.join(SECRET))?,
            token: optional(&self.0.folder.join(TOKEN))?,
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, KeyState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True if another look would not help, or can wait for the next request.
fn settled(found: &Result<Pair, Missing>, old: Option<&Pair>, refused: bool) -> bool {
    match (found, old) {
        (_, Some(_)) if !refused => true,
        (Ok(new), Some(old)) => !new.half_of(old),
        (Ok(_) | Err(Missing::Unreadable { .. }), None) => true,
        (Err(_), _) => false,
    }
}

fn required(path: &Path) -> Result<String, Missing> {
    optional(path)?.ok_or_else(|| match std::fs::metadata(path) {
        Ok(_) => Missing::Empty(path.to_owned()),
        Err(source) => Missing::Unreadable {
            path: path.to_owned(),
            source,
        },
    })
}

/// The file's text without the newline that an editor leaves; `None` if there is no text or no file.
fn optional(path: &Path) -> Result<Option<String>, Missing> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Missing::Unreadable {
            path: path.to_owned(),
            source,
        }),
    }
}

impl From<Pair> for Credentials {
    fn from(pair: Pair) -> Self {
        Self::new(pair.key_id, pair.secret, pair.token, None, "files")
    }
}

impl ProvideCredentials for Files {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}

impl fmt::Debug for Files {
    /// The folder only, never the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({})", self.0.folder.display())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(key_id: &str, secret: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(KEY_ID), key_id).unwrap();
        fs::write(folder.path().join(SECRET), secret).unwrap();
        folder
    }

    async fn keys(files: &Files) -> (String, String) {
        let found = files.load().await.unwrap();
        let (id, secret) = (found.access_key_id(), found.secret_access_key());
        (id.to_owned(), secret.to_owned())
    }

    fn pair(key_id: &str, secret: &str) -> (String, String) {
        (key_id.to_owned(), secret.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn new_keys_are_found_within_a_second() {
        let folder = folder("a", "1\n");
        let files = Files::new(folder.path().to_owned());
        assert_eq!(keys(&files).await, pair("a", "1"));
        fs::write(folder.path().join(KEY_ID), "b").unwrap();
        fs::write(folder.path().join(SECRET), "2").unwrap();
        assert_eq!(keys(&files).await, pair("a", "1"));
        tokio::time::advance(FRESH).await;
        assert_eq!(keys(&files).await, pair("b", "2"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotation_that_is_half_done_leaves_the_old_pair_in_use() {
        let folder = folder("a", "1");
        let files = Files::new(folder.path().to_owned());
        assert_eq!(keys(&files).await, pair("a", "1"));
        for half in ["b", ""] {
            fs::write(folder.path().join(KEY_ID), half).unwrap();
            tokio::time::advance(FRESH).await;
            assert_eq!(keys(&files).await, pair("a", "1"));
        }
        fs::remove_file(folder.path().join(SECRET)).unwrap();
        tokio::time::advance(FRESH).await;
        assert_eq!(keys(&files).await, pair("a", "1"));
        fs::write(folder.path().join(KEY_ID), "b").unwrap();
        fs::write(folder.path().join(SECRET), "2").unwrap();
        tokio::time::advance(FRESH).await;
        assert_eq!(keys(&files).await, pair("b", "2"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_corrected_secret_is_taken_once_the_wrong_one_is_refused() {
        let folder = folder("a", "typo");
        let files = Files::new(folder.path().to_owned());
        assert_eq!(keys(&files).await, pair("a", "typo"));
        fs::write(folder.path().join(SECRET), "1").unwrap();
        let before = files.generation();
        assert!(files.changed_since(before).await);
        assert_eq!(keys(&files).await, pair("a", "1"));
        assert!(!files.changed_since(files.generation()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mounted_secret_is_followed_through_its_link() {
        let mount = tempfile::tempdir().unwrap();
        for (version, key_id, secret) in [("v1", "a", "1"), ("v2", "b", "2")] {
            let folder = mount.path().join(version);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(KEY_ID), key_id).unwrap();
            fs::write(folder.join(SECRET), secret).unwrap();
        }
        symlink("v1", mount.path().join("..data")).unwrap();
        for name in [KEY_ID, SECRET] {
            symlink(Path::new("..data").join(name), mount.path().join(name)).unwrap();
        }
        let files = Files::new(mount.path().to_owned());
        assert_eq!(keys(&files).await, pair("a", "1"));
        symlink("v2", mount.path().join("..next")).unwrap();
        fs::rename(mount.path().join("..next"), mount.path().join("..data")).unwrap();
        tokio::time::advance(FRESH).await;
        assert_eq!(keys(&files).await, pair("b", "2"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_file_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path().to_owned());
        let error = files.load().await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            cause.contains(KEY_ID) && cause.contains("Secret"),
            "{cause}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn debug_output_holds_no_key() {
        let folder = folder("the-key-id", "the-secret");
        let files = Files::new(folder.path().to_owned());
        let found = files.load().await.unwrap();
        let shown = format!("{files:?} {found:?}");
        assert!(!shown.contains("the-secret"), "{shown}");
    }
}
