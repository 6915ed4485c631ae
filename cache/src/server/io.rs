//! The socket as the HTTP library sees it: half a head, a reader that has stopped and a writer that never rests end here.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::deadline::Deadline;
use super::limits::Limits;
use super::scan::{Fault, Scan};

/// The most pieces that are handed to the kernel in one call when a write is shortened.
const PIECES: usize = 32;

/// What a connection's socket and its service tell each other. Both run in one task; the atomics are for `Sync` only.
#[derive(Default)]
pub(super) struct Pulse {
    begun: AtomicU64,
    done: AtomicU64,
    fault: AtomicU8,
}

impl Pulse {
    /// A request has come; it runs until [`Pulse::end`].
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// A request's answer has been handed over whole, or given up.
    pub(super) fn end(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// The fault of the head that has just been read.
    pub(super) fn take_fault(&self) -> Option<Fault> {
        match self.fault.swap(0, Ordering::Relaxed) {
            1 => Some(Fault::TwoLengths),
            2 => Some(Fault::Fragment),
            _ => None,
        }
    }

    fn set_fault(&self, fault: Fault) {
        let code = match fault {
            Fault::TwoLengths => 1,
            Fault::Fragment => 2,
        };
        self.fault.store(code, Ordering::Relaxed);
    }

    /// True when all of the `heads` that were read have become requests and all of these are answered.
    fn rests(&self, heads: u64) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        begun == self.done.load(Ordering::Relaxed) && begun >= heads
    }
}

/// A TCP stream with the limits of [`Limits`].
pub(super) struct Wire {
    stream: TcpStream,
    pulse: Arc<Pulse>,
    scan: Scan,
    heads: u64,
    head: Deadline,
    stall: Deadline,
    slice: usize,
    written: usize,
}

impl Wire {
    /// The time for the first head runs from here.
    pub(super) fn new(stream: TcpStream, pulse: Arc<Pulse>, limits: &Limits) -> Self {
        let mut head = Deadline::new(limits.head);
        head.arm();
        Self {
            stream,
            pulse,
            scan: Scan::default(),
            heads: 0,
            head,
            stall: Deadline::new(limits.stall),
            slice: limits.slice.max(1),
            written: 0,
        }
    }

    fn saw(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.scan.ended() {
            return;
        }
        self.head.arm();
        self.scan.feed(bytes);
        if self.scan.ended() {
            self.head.disarm();
            self.heads += 1;
            if let Some(fault) = self.scan.fault() {
                self.pulse.set_fault(fault);
            }
        }
    }

    /// The socket has been full for too long. Linux calls it writable only when a third of it is free, so a slow reader
    /// that does take bytes looks the same as one that takes none: one direct try tells them apart.
    fn last_try(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stall.disarm();
        match SockRef::from(&self.stream).send_vectored(pieces) {
            Ok(sent) if sent > 0 => Ok(sent),
            _ => {
                // What lies in the kernel goes with the connection.
                SockRef::from(&self.stream)
                    .set_linger(Some(Duration::ZERO))
                    .ok();
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the reader takes no bytes",
                ))
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, pieces) {
            Poll::Ready(result) => {
                self.stall.disarm();
                if let Ok(sent) = &result {
                    self.written += sent;
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                self.written = 0;
                self.stall.arm();
                if self.stall.expired(cx) {
                    return Poll::Ready(self.last_try(pieces));
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.scan.ended() && this.pulse.rests(this.heads) {
            this.scan = Scan::default();
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Pending if this.head.expired(cx) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the request's head did not come in time",
            ))),
            Poll::Ready(Ok(())) => {
                this.saw(&buf.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.written >= this.slice {
            // The others' turn: this task goes to the end of the line.
            this.written = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        if total <= this.slice {
            return this.write(cx, pieces);
        }
        let mut short = [IoSlice::new(&[]); PIECES];
        let mut left = this.slice;
        for (slot, piece) in short.iter_mut().zip(pieces) {
            let length = piece.len().min(left);
            *slot = IoSlice::new(&piece[..length]);
            left -= length;
        }
        this.write(cx, &short[..pieces.len().min(PIECES)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_large_write_is_cut_into_slices_with_the_others_turn_between() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _reader = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let limits = Limits {
            slice: 4096,
            ..Limits::default()
        };
        let mut wire = Wire::new(stream, Arc::default(), &limits);
        let (first, second) = (vec![1; 3000], vec![2; 3000]);
        let pieces = [IoSlice::new(&first), IoSlice::new(&second)];
        for _ in 0..3 {
            let sent = poll_fn(|cx| Pin::new(&mut wire).poll_write_vectored(cx, &pieces)).await;
            assert_eq!(sent.unwrap(), 4096);
            let turn = poll_fn(|cx| {
                Poll::Ready(
                    Pin::new(&mut wire)
                        .poll_write_vectored(cx, &pieces)
                        .is_pending(),
                )
            });
            assert!(turn.await);
        }
    }
}
