//! `falcon-cache dev`: a ring to try Falcon with, in one process.
//!
//! The nodes are real, with real listeners and real requests between them; only the S3 server is a library's.

pub mod embedded;
pub mod port;
mod story;

use std::io;
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::Ready;
use crate::config::{self, Config};
use crate::metrics::Metrics;
use crate::node::{self, Listeners, Node};
use crate::object::ObjectId;
use crate::origin::{self, Headers, Origin};
use crate::peer::Contact;
use crate::{config::DevArgs, members::DiscoveredNode};
use embedded::Embedded;
use story::{Place, Story};

/// The bucket that is created.
const BUCKET: &str = "falcon";
/// The object that is put.
const SAMPLE: &str = "sample.txt";
/// The S3 server's port, if it is free.
const S3_PORT: u16 = 9100;
/// The port of the first node's S3 gateway, if it is free; the others take the next ones. S3 servers usually have it.
const GATEWAY_PORT: u16 = 9000;

/// Why the ring did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The S3 server did not start.
    #[error(transparent)]
    Embedded(#[from] embedded::Error),
    /// A port or a file is not available.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The flags of a node, made here, were refused.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A node did not start.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// The S3 server did not store the sample.
    #[error("failed to store the sample object")]
    Sample(#[from] origin::Error),
}

/// A ring and its S3, running.
pub struct Dev {
    nodes: Vec<Node>,
    s3: JoinHandle<()>,
    stop: CancellationToken,
    _keys: TempDir,
}

impl Dev {
    /// Starts it, and prints what to try on the standard output.
    pub async fn start(args: &DevArgs) -> Result<Self, Error> {
        let s3 = Embedded::open(args.data.as_deref())?;
        s3.create_bucket(BUCKET)?;
        let s3_port = port::bind(S3_PORT).await?;
        let endpoint = embedded::endpoint(&s3_port.listener)?;
        let (folder, is_temporary) = (s3.folder().to_owned(), s3.is_temporary());
        let stop = CancellationToken::new();
        let s3 = tokio::spawn(s3.serve(s3_port.listener, stop.clone()));

        let seats = seats(args).await?;
        let keys = keys()?;
        let config = config(&endpoint, keys.path())?;
        put_sample(&config).await?;

        let found: Vec<DiscoveredNode> = seats.iter().map(|seat| listed(&seat.me)).collect();
        let moved = seats.iter().any(|seat| seat.moved);
        let (mut nodes, mut places) = (Vec::new(), Vec::new());
        for seat in seats {
            let discovery = stream::iter([found.clone()]).boxed();
            places.push(Place {
                url: seat.me.url.clone(),
                s3: format!("http://localhost:{}", seat.s3_port),
                metrics: format!("http://localhost:{}/metrics", seat.admin_port),
            });
            let settings = config.node.clone();
            nodes.push(Node::start(settings, seat.me, seat.listeners, discovery).await?);
        }
        for node in &nodes {
            // If a node ends before it is ready, its log says why.
            let mut ready = node.ready();
            let _ready = ready.wait_for(|ready| *ready == Ready::Yes).await;
        }
        let home = nodes.first().and_then(|node| {
            let ring = node.members().ring().borrow().clone();
            Some(ring.owner(&sample(), 0)?.url.clone())
        });
        let story = Story {
            places,
            moved,
            home,
            endpoint,
            bucket: BUCKET,
            sample: SAMPLE,
            folder,
            is_temporary,
        };
        story.tell(&mut io::stdout().lock())?;
        Ok(Self {
            nodes,
            s3,
            stop,
            _keys: keys,
        })
    }

    /// Stops the nodes, then the S3.
    pub async fn leave(self) {
        join_all(self.nodes.into_iter().map(Node::leave)).await;
        self.stop.cancel();
        // A temporary folder is removed with it.
        let _ended = self.s3.await;
    }
}

/// A node's ports and name, before it starts.
struct Seat {
    me: Contact,
    listeners: Listeners,
    admin_port: u16,
    s3_port: u16,
    moved: bool,
}

async fn seats(args: &DevArgs) -> io::Result<Vec<Seat>> {
    let (mut seats, mut wanted) = (Vec::new(), args.port);
    for _ in 0..args.nodes {
        let (main, admin) = (port::bind(wanted).await?, port::bind(0).await?);
        let s3 = port::bind(GATEWAY_PORT).await?;
        wanted = main.port.saturating_add(1);
        let url = format!("http://localhost:{}", main.port);
        seats.push(Seat {
            me: Contact {
                name: url.clone(),
                url,
            },
            listeners: Listeners {
                main: main.listener,
                admin: admin.listener,
                s3: Some(s3.listener),
            },
            admin_port: admin.port,
            s3_port: s3.port,
            moved: main.moved,
        });
    }
    Ok(seats)
}

fn listed(contact: &Contact) -> DiscoveredNode {
    DiscoveredNode {
        name: contact.name.clone(),
        url: contact.url.clone(),
        zone: None,
        serving: true,
        terminating: false,
    }
}

/// The S3 server's keys, in a folder from which the nodes read them.
fn keys() -> io::Result<TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("falcon-dev-keys-")
        .tempdir()?;
    std::fs::write(folder.path().join("access-key-id"), embedded::ACCESS_KEY_ID)?;
    std::fs::write(
        folder.path().join("secret-access-key"),
        embedded::SECRET_ACCESS_KEY,
    )?;
    Ok(folder)
}

fn config(endpoint: &str, keys: &Path) -> Result<Config, config::Error> {
    let flags = [
        "falcon-cache".to_owned(),
        format!("--bucket={BUCKET}"),
        format!("--s3-endpoint={endpoint}"),
        format!("--s3-region={}", embedded::REGION),
        format!("--s3-credentials-dir={}", keys.display()),
        "--max-cache-size=256".to_owned(),
        "--s3-auth=none".to_owned(),
    ];
    Config::from_args(flags)
}

fn sample() -> ObjectId {
    ObjectId::new(BUCKET, SAMPLE).expect("both names are S3's")
}

async fn put_sample(config: &Config) -> Result<(), Error> {
    let origin = Origin::new(config.node.origin.clone(), Metrics::new().into()).await;
    let headers = Headers {
        content_type: Some("text/plain".into()),
        ..Headers::default()
    };
    let text = "Read from S3 once, and served from memory from then on.\n";
    origin
        .put(&sample(), &headers, Bytes::from_static(text.as_bytes()))
        .await?;
    Ok(())
}
