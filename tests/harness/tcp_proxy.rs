//! A TCP proxy before a node: while it is shut, connections are taken and nothing answers, as before a process that is
//! stopped.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on to an address while it is open.
pub(crate) struct TcpProxy {
    pub(crate) url: String,
    open: watch::Sender<bool>,
    cuts: watch::Sender<()>,
}

impl TcpProxy {
    /// An open one, on a port of its own.
    pub(crate) async fn before(inner: SocketAddr) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), inner).await
    }

    /// An open one, at that address.
    pub(crate) async fn at(address: SocketAddr, inner: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (open, is_open) = watch::channel(true);
        let (cuts, cut) = watch::channel(());
        tokio::spawn(async move {
            while let Ok((outside, _)) = listener.accept().await {
                tokio::spawn(pass(outside, inner, is_open.clone(), cut.clone()));
            }
        });
        Self { url, open, cuts }
    }

    /// Cuts what runs; what comes is not answered.
    pub(crate) fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Cuts what runs; what comes is passed on.
    pub(crate) fn cut(&self) {
        self.cuts.send_replace(());
    }

    /// Passes on what waits, and what comes.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn pass(
    mut outside: TcpStream,
    inner: SocketAddr,
    mut open: watch::Receiver<bool>,
    mut cut: watch::Receiver<()>,
) {
    cut.mark_unchanged();
    if open.wait_for(|open| *open).await.is_err() {
        return;
    }
    let Ok(mut inside) = TcpStream::connect(inner).await else {
        return;
    };
    let (_nodelay_outside, _nodelay_inside) = (outside.set_nodelay(true), inside.set_nodelay(true));
    tokio::select! {
        _over = copy_bidirectional(&mut outside, &mut inside) => {}
        _shut = open.wait_for(|open| !*open) => {}
        _cut = cut.changed() => {}
    }
}
