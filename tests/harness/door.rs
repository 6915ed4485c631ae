//! A door before a node: while it is shut, connections are taken and nothing answers, as before a process that is stopped.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on to an address while it is open.
pub(crate) struct Door {
    pub(crate) url: String,
    open: watch::Sender<bool>,
}

impl Door {
    /// An open one, on a port of its own.
    pub(crate) async fn before(inner: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (open, is_open) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((outside, _)) = listener.accept().await {
                tokio::spawn(pass(outside, inner, is_open.clone()));
            }
        });
        Self { url, open }
    }

    /// Cuts what runs; what comes is not answered.
    pub(crate) fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Passes on what waits, and what comes.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn pass(mut outside: TcpStream, inner: SocketAddr, mut open: watch::Receiver<bool>) {
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
    }
}
