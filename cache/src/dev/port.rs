//! A port for each listener: the wanted one, else the next free one.

use std::io;
use std::net::Ipv4Addr;

use tokio::net::TcpListener;

/// How far from the wanted port to look. A machine with a hundred taken in a row has another problem.
const TRIES: u16 = 100;

/// A listener on loopback.
#[derive(Debug)]
pub struct Bound {
    /// Bound already, so that no other process can take the port.
    pub listener: TcpListener,
    /// The port that it listens on.
    pub port: u16,
    /// True if the wanted port was taken; the output says so.
    pub moved: bool,
}

/// Binds `wanted` on 127.0.0.1, or the first free port of the hundred after it.
///
/// It moves on only if a port is in use; any other failure is returned. For 0, any free port is used.
pub async fn bind(wanted: u16) -> io::Result<Bound> {
    let last = wanted.saturating_add(TRIES);
    let mut port = wanted;
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => {
                let port = listener.local_addr()?.port();
                return Ok(Bound {
                    listener,
                    port,
                    moved: wanted != 0 && port != wanted,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && port < last => port += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_moves_to_the_next_free_one() {
        let first = bind(0).await.unwrap();
        assert!(!first.moved, "any port was asked for");
        let second = bind(first.port).await.unwrap();
        assert!(second.moved);
        assert!(second.port > first.port);
        assert_eq!(second.listener.local_addr().unwrap().port(), second.port);
    }
}
