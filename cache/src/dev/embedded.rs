//! The S3 of `falcon-cache dev`: a folder, served over S3's own protocol on loopback.
//!
//! Requests are signed and verified as on AWS, with public keys. Not here: users, policies, versions, and conditions on
//! reads, which this S3 ignores; the cache must be correct without them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The access key ID that this S3 accepts.
pub const ACCESS_KEY_ID: &str = "falcon-dev";
/// Its secret key. It only guards a folder on loopback.
pub const SECRET_ACCESS_KEY: &str = "falcon-dev-secret";
/// The region that requests are signed for; any is accepted.
pub const REGION: &str = "us-east-1";

/// A client that sends no header for this long is gone.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests still running after the stop signal get this long; then they are cut off.
const DRAIN: Duration = Duration::from_secs(2);

/// Why the folder can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder can't be created, read or written.
    #[error("failed to use the folder {}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// S3 does not allow the bucket's name.
    #[error(
        "a bucket's name must be 3 to 63 lower-case letters, digits, dots and hyphens; got {0:?}"
    )]
    Bucket(String),
}

/// An S3 over a folder, not yet listening.
pub struct Embedded {
    service: S3Service,
    folder: PathBuf,
    temporary: Option<TempDir>,
}

impl Embedded {
    /// Opens `folder`, which is created if necessary and kept afterwards; without one, a temporary folder that is
    /// removed with the server.
    pub fn open(folder: Option<&Path>) -> Result<Self, Error> {
        let (folder, temporary) = if let Some(folder) = folder {
            (folder.to_owned(), None)
        } else {
            let temporary = tempfile::Builder::new()
                .prefix("falcon-dev-")
                .tempdir()
                .map_err(failed(&std::env::temp_dir()))?;
            (temporary.path().to_owned(), Some(temporary))
        };
        std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let folder = folder.canonicalize().map_err(failed(&folder))?;
        let files = FileSystem::new(&folder)
            .map_err(|error| failed(&folder)(io::Error::other(format!("{error:?}"))))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        Ok(Self {
            service: service.build(),
            folder,
            temporary,
        })
    }

    /// Where the objects are: one folder for each bucket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// True if the folder is removed with the S3.
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Creates a bucket; an existing one stays as it is.
    pub fn create_bucket(&self, name: &str) -> Result<(), Error> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let allowed = |c: u8| plain(c) || c == b'-' || c == b'.';
        let bytes = name.as_bytes();
        let good = (3..=63).contains(&bytes.len())
            && bytes.iter().all(|&c| allowed(c))
            && bytes.first().is_some_and(|&c| plain(c))
            && bytes.last().is_some_and(|&c| plain(c))
            && !name.contains("..");
        if !good {
            return Err(Error::Bucket(name.to_owned()));
        }
        let path = self.folder.join(name);
        std::fs::create_dir_all(&path).map_err(failed(&path))
    }

    /// Serves `listener` until `stop`, then finishes what is running, for two seconds at most. A temporary folder is
    /// gone when this returns.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let accepting = async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        connections.spawn(answer(stream, self.service.clone(), stop.clone()));
                    }
                    Err(error) => {
                        // Out of files or memory: both pass, and a loop without a pause would hold them up.
                        tracing::warn!(%error, "the embedded S3 can't accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(accepting).await;
        drop(listener);
        connections.close();
        if tokio::time::timeout(DRAIN, connections.wait())
            .await
            .is_err()
        {
            tracing::debug!(
                left = connections.len(),
                "the embedded S3 cut connections that went on"
            );
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("folder", &self.folder)
            .field("temporary", &self.is_temporary())
            .finish_non_exhaustive()
    }
}

/// The URL that clients of an S3 on `listener` are given.
pub fn endpoint(listener: &TcpListener) -> io::Result<String> {
    Ok(format!("http://{}", listener.local_addr()?))
}

/// One connection, to its end; after `stop`, to the end of the request that is running, and no longer than the drain.
async fn answer(stream: TcpStream, service: S3Service, stop: CancellationToken) {
    // Heads and bodies leave in separate writes; waiting to join them costs 40 ms a request.
    let _ = stream.set_nodelay(true);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the embedded S3 broke");
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Folder { path, source }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::Client;
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
    use tokio::task::JoinHandle;

    use super::*;

    async fn started(s3: Embedded) -> (String, CancellationToken, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = endpoint(&listener).unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(s3.serve(listener, stop.clone()));
        (endpoint, stop, running)
    }

    fn client(endpoint: &str, secret: &str) -> Client {
        Client::from_conf(
            aws_sdk_s3::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new(REGION))
                .endpoint_url(endpoint)
                .force_path_style(true)
                .credentials_provider(Credentials::new(ACCESS_KEY_ID, secret, None, None, "test"))
                .build(),
        )
    }

    #[tokio::test]
    async fn a_client_of_s3_finds_one_and_the_folder_goes_with_it() {
        let s3 = Embedded::open(None).unwrap();
        let folder = s3.folder().to_owned();
        s3.create_bucket("demo").unwrap();
        let (endpoint, stop, running) = started(s3).await;
        let client = client(&endpoint, SECRET_ACCESS_KEY);

        let put = client
            .put_object()
            .bucket("demo")
            .key("a/hello.txt")
            .body(b"hello".to_vec().into());
        let put = put.send().await.unwrap();
        let get = client.get_object().bucket("demo").key("a/hello.txt");
        let got = get.clone().range("bytes=1-3").send().await.unwrap();
        assert_eq!(got.e_tag(), put.e_tag(), "a version has one tag");
        assert_eq!(got.content_range(), Some("bytes 1-3/5"));
        assert_eq!(got.body.collect().await.unwrap().to_vec(), b"ell");

        let absent = client
            .get_object()
            .bucket("demo")
            .key("absent")
            .send()
            .await;
        assert_eq!(
            absent
                .unwrap_err()
                .raw_response()
                .unwrap()
                .status()
                .as_u16(),
            404
        );

        stop.cancel();
        running.await.unwrap();
        assert!(!folder.exists(), "a temporary folder is gone");
        assert!(get.send().await.is_err(), "nothing listens there now");
    }

    #[tokio::test]
    async fn a_wrong_key_is_refused() {
        let s3 = Embedded::open(None).unwrap();
        s3.create_bucket("demo").unwrap();
        let (endpoint, _stop, _running) = started(s3).await;
        let client = client(&endpoint, "wrong");
        let refused = client.list_objects_v2().bucket("demo").send().await;
        assert_eq!(
            refused
                .unwrap_err()
                .raw_response()
                .unwrap()
                .status()
                .as_u16(),
            403
        );
    }

    #[test]
    fn a_given_folder_is_kept_and_opened_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new/data");
        Embedded::open(Some(&folder))
            .unwrap()
            .create_bucket("demo")
            .unwrap();
        let again = Embedded::open(Some(&folder)).unwrap();
        assert!(!again.is_temporary());
        again.create_bucket("demo").unwrap();
        assert!(folder.join("demo").is_dir());
    }

    #[test]
    fn a_bucket_stays_in_the_folder() {
        let s3 = Embedded::open(None).unwrap();
        for name in [
            "", "ab", "..", "a/b", "../up", "Demo", "-demo", "demo.", "a..b", ".hidden",
        ] {
            assert!(
                matches!(s3.create_bucket(name), Err(Error::Bucket(_))),
                "{name}"
            );
        }
    }
}
