//! An S3 in memory: exact keys, real conditions and ranges, everything counted, faults on demand.
//!
//! The operations are `api`'s, on s3s. In front of it stands `front`, which counts, and does wrong what a test asks
//! for.

mod api;
mod fault;
mod front;
mod list;
mod log;
mod loose;
mod rules;
pub(crate) mod synthetic;
mod world;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) use fault::{Fault, Gate};
pub(crate) use front::Call;
pub(crate) use log::Read;
pub(crate) use world::{Commit, Content, Stored, StoredHeaders, Unfinished};

use api::Api;
use fault::Faults;
use log::Log;
use world::World;

/// Keys that an S3 which lets everybody in takes too where the signature must be right, as in streamed uploads.
pub(crate) const KEY_ID: &str = "anybody";
pub(crate) const SECRET: &str = "secret";

/// The server. A clone is the same server; it stops with the runtime of the test.
#[derive(Clone)]
pub(crate) struct S3(Arc<Inner>);

type Hook = Arc<dyn Fn(&S3, &Call) + Send + Sync>;

struct Inner {
    address: SocketAddr,
    world: Arc<World>,
    log: Log,
    faults: Faults,
    at_get: Mutex<Option<Hook>>,
    /// Requests that are being carried out.
    running: Arc<()>,
    service: S3Service,
    loose: AtomicBool,
    /// The page whose scripts may read.
    page: Mutex<Option<&'static str>>,
    serving: Mutex<Option<JoinHandle<()>>>,
}

impl S3 {
    /// Serves on a port of its own, with an empty bucket `bucket`.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let world = Arc::new(World::default());
        let api = Api(Arc::clone(&world));
        let mut builder = S3ServiceBuilder::new(api.clone());
        builder.set_auth(api.clone());
        builder.set_access(api);
        let s3 = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap(),
            world,
            log: Log::default(),
            faults: Faults::default(),
            at_get: Mutex::default(),
            running: Arc::default(),
            service: builder.build(),
            loose: AtomicBool::new(false),
            page: Mutex::default(),
            serving: Mutex::default(),
        }));
        s3.create_bucket("bucket");
        s3.serve(listener);
        s3
    }

    fn serve(&self, listener: TcpListener) {
        let weak = Arc::downgrade(&self.0);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let Some(inner) = weak.upgrade() else {
                    return;
                };
                let s3 = Self(inner);
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let s3 = s3.clone();
                        async move { front::serve(s3, request).await }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    // A connection that a fault cuts ends with an error; that is what was wanted.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        *self.0.serving.lock().unwrap() = Some(serving);
    }

    /// Stops listening and cuts all connections.
    pub(crate) async fn stop(&self) {
        let serving = self.0.serving.lock().unwrap().take();
        if let Some(serving) = serving {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Listens again where it did before.
    pub(crate) async fn start_again(&self) {
        let listener = TcpListener::bind(self.0.address).await.unwrap();
        self.serve(listener);
    }

    /// Where it is, as clients want it.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// From now on only these pairs of key id and secret are let in.
    pub(crate) fn demand(&self, keys: &[(&str, &str)]) {
        let keys = keys
            .iter()
            .map(|(id, secret)| ((*id).to_owned(), (*secret).to_owned()));
        self.0.world.lock().keys = Some(keys.collect());
    }

    pub(crate) fn create_bucket(&self, bucket: &str) {
        self.0.world.lock().buckets.insert(bucket.to_owned());
    }

    /// Stores bytes; gives the tag with its quotes.
    pub(crate) fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) -> String {
        self.put_with(
            bucket,
            key,
            Content::Bytes(bytes.into()),
            StoredHeaders::default(),
        )
    }

    /// Stores an object of any size that takes no memory; see [`synthetic`].
    pub(crate) fn put_synthetic(&self, bucket: &str, key: &str, seed: u64, size: u64) -> String {
        self.put_with(
            bucket,
            key,
            Content::Synthetic { seed, size },
            StoredHeaders::default(),
        )
    }

    /// The tag of such an object, with its quotes.
    pub(crate) fn synthetic_tag(seed: u64, size: u64) -> String {
        let content = Content::Synthetic { seed, size };
        format!(
            "\"{}\"",
            Stored::new(content, StoredHeaders::default()).etag
        )
    }

    pub(crate) fn put_with(
        &self,
        bucket: &str,
        key: &str,
        content: Content,
        headers: StoredHeaders,
    ) -> String {
        let stored = Stored::new(content, headers);
        let etag = format!("\"{}\"", stored.etag);
        let name = (bucket.to_owned(), key.to_owned());
        self.0.world.lock().store(name, Arc::new(stored));
        etag
    }

    /// Changes what is held of an object besides its bytes.
    pub(crate) fn change(&self, bucket: &str, key: &str, change: impl FnOnce(&mut Stored)) {
        let name = (bucket.to_owned(), key.to_owned());
        let mut world = self.0.world.lock();
        let stored = world.objects.get_mut(&name).expect("the object is there");
        change(Arc::make_mut(stored));
    }

    pub(crate) fn remove(&self, bucket: &str, key: &str) {
        let name = (bucket.to_owned(), key.to_owned());
        self.0.world.lock().remove(&name, true);
    }

    /// What is held under a key.
    pub(crate) fn stored(&self, bucket: &str, key: &str) -> Option<Arc<Stored>> {
        let name = (bucket.to_owned(), key.to_owned());
        self.0.world.lock().objects.get(&name).cloned()
    }

    /// The bytes under a key.
    pub(crate) fn get(&self, bucket: &str, key: &str) -> Option<Bytes> {
        let stored = self.stored(bucket, key)?;
        Some(stored.content.slice(0..stored.content.len()))
    }

    /// Every change of an object of that bucket so far, in order.
    pub(crate) fn commits(&self, bucket: &str) -> Vec<Commit> {
        let world = self.0.world.lock();
        let all = world.commits.iter();
        all.filter(|commit| commit.bucket == bucket)
            .cloned()
            .collect()
    }

    /// True when no request is being carried out, late ones of clients that have left included.
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0.running) == 1
    }

    /// Uploads that were neither completed nor aborted.
    pub(crate) fn unfinished(&self) -> Vec<Unfinished> {
        self.0.world.lock().uploads.values().cloned().collect()
    }

    /// Does something wrong from now on.
    pub(crate) fn fault(&self, fault: Fault) {
        self.0.faults.add(fault);
    }

    /// From now on requests are read as a lenient server reads them; see [`loose`].
    pub(crate) fn read_loosely(&self) {
        self.0.loose.store(true, Ordering::Relaxed);
    }

    /// From now on each bucket has a rule that lets this page read.
    pub(crate) fn let_read(&self, page: &'static str) {
        *self.0.page.lock().unwrap() = Some(page);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        self.0.faults.clear();
    }

    /// Calls `hook` at each GET of an object, before it is answered.
    pub(crate) fn at_get(&self, hook: impl Fn(&Self, &Call) + Send + Sync + 'static) {
        *self.0.at_get.lock().unwrap() = Some(Arc::new(hook));
    }

    /// Requests by operation, by S3's names.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.log.counts()
    }

    /// Requests of one operation.
    pub(crate) fn count(&self, op: &str) -> u64 {
        self.counts().get(op).copied().unwrap_or_default()
    }

    /// GETs that were answered with bytes, in order.
    pub(crate) fn reads(&self) -> Vec<Read> {
        self.0.log.reads()
    }

    /// Bytes of objects that have left.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.reads().iter().map(|read| read.sent).sum()
    }

    /// Panics unless each byte of the object was asked for exactly once.
    pub(crate) fn assert_read_once(&self, bucket: &str, key: &str) {
        let stored = self.stored(bucket, key).expect("the object is there");
        let reads = self.reads();
        let mut ranges: Vec<_> = reads
            .iter()
            .filter(|read| read.bucket == bucket && read.key == key)
            .map(|read| read.range.clone())
            .collect();
        ranges.sort_by_key(|range| range.start);
        let mut end = 0;
        for range in &ranges {
            assert_eq!(range.start, end, "{bucket}/{key} was read in {ranges:?}");
            end = range.end;
        }
        assert_eq!(
            end,
            stored.content.len(),
            "{bucket}/{key} was read in {ranges:?}"
        );
    }

    /// Counts from nothing again.
    pub(crate) fn forget_requests(&self) {
        self.0.log.forget();
    }
}
