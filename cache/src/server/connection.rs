//! The socket as the HTTP library sees it. The time limits on silence, half a head and stalled readers, and the fair
//! share of writers, are applied here; what the fast path answers does not reach the library.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::conn_state::ConnState;
use super::deadline::Deadline;
use super::fast::{self, FastPath, FastResponse};
use super::head_scanner::HeadScanner;
use super::limits::Limits;
use super::write_scheduler::WriteTurn;

/// The most pieces that are handed to the kernel in one call when a write is cut short.
const PIECES: usize = 32;

/// How long a client that was answered before it had sent everything may take to notice.
const LINGER: Duration = Duration::from_secs(1);

/// A TCP stream with the limits of [`Limits`].
pub(super) struct Connection {
    stream: TcpStream,
    state: Arc<ConnState>,
    scanner: HeadScanner,
    /// The bytes that come belong to a body; only the HTTP library knows where it ends.
    in_body: bool,
    fast: Option<Arc<dyn FastPath>>,
    /// An answer of the fast path that is not completely sent.
    response: Option<FastResponse>,
    /// The HTTP library has nothing more to send.
    flushed: bool,
    /// Requests that were done when the library had nothing more to send: answers to later ones may still be in its
    /// buffer.
    sent: u64,
    head: Deadline,
    idle: Deadline,
    stall: Deadline,
    /// After the last byte of an answer that came before the end of its request.
    linger: Deadline,
    turn: WriteTurn,
}

impl Connection {
    /// The time for the first head runs from here.
    pub(super) fn new(
        stream: TcpStream,
        state: Arc<ConnState>,
        fast: Option<Arc<dyn FastPath>>,
        turn: WriteTurn,
        limits: &Limits,
    ) -> Self {
        let mut head = Deadline::new(limits.head);
        head.arm();
        Self {
            stream,
            state,
            scanner: HeadScanner::default(),
            in_body: false,
            fast,
            response: None,
            flushed: true,
            sent: 0,
            head,
            idle: Deadline::new(limits.idle),
            stall: Deadline::new(limits.stall),
            linger: Deadline::new(LINGER),
            turn,
        }
    }

    /// Follows the bytes that the HTTP library gets.
    fn saw(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.in_body || !self.state.is_idle() {
            // A body, or a head that was sent ahead: from here on no head is known to be the only one.
            self.fast = None;
        }
        let mut rest = bytes;
        while !self.in_body
            && let Some((head, after)) = self.scanner.feed(rest)
        {
            self.head.disarm();
            self.state.head_ended(head.fault);
            self.in_body = head.has_body;
            if head.has_body || !after.is_empty() {
                self.fast = None;
            }
            rest = after;
        }
    }

    /// Hands bytes to the kernel: as many as it takes, and no more than this connection's quantum.
    fn send(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let Some(most) = self.turn.grant(total) else {
            // Other tasks run before this one continues.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        if total == most {
            return self.write(cx, pieces);
        }
        let mut short = [IoSlice::new(&[]); PIECES];
        let mut left = most;
        for (slot, piece) in short.iter_mut().zip(pieces) {
            let length = piece.len().min(left);
            *slot = IoSlice::new(&piece[..length]);
            left -= length;
        }
        self.write(cx, &short[..pieces.len().min(PIECES)])
    }

    /// The fast path's answer to these bytes, if they are a request that it can answer.
    fn fast_answer(&mut self, bytes: &[u8]) -> Option<FastResponse> {
        // The library holds no part of a request or of an answer, so this answer overtakes none.
        let is_clear = self.is_idle() && self.sent == self.state.done();
        if !is_clear {
            return None;
        }
        let path = self.fast.as_deref()?;
        let now = Instant::now();
        let answer = fast::answer(path, bytes, now);
        if let Some(answer) = &answer {
            self.turn.note_response(answer.len(), now);
        }
        // The time limit of the next request starts here instead of at the answer's end: that saves a look at the
        // clock.
        self.idle.arm_at(now);
        answer
    }

    /// Sends what is left of a fast answer.
    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(mut answer) = self.response.take() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let mut used = 0;
            for (slot, piece) in pieces.iter_mut().zip(answer.pieces()) {
                *slot = IoSlice::new(piece);
                used += 1;
            }
            let sent = self.send(cx, &pieces[..used]);
            let over = match &sent {
                Poll::Ready(Ok(sent)) => answer.advance(*sent),
                _ => false,
            };
            if !over {
                self.response = Some(answer);
                self.idle.disarm();
            }
            ready!(sent)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Looks for a new head when everything that came is answered and the library has read it to its end.
    fn settle(&mut self) {
        if self.in_body && self.state.is_idle() {
            self.in_body = false;
        }
    }

    /// No request is being answered, and none has begun to come.
    fn is_idle(&self) -> bool {
        self.scanner.is_fresh() && self.flushed && self.response.is_none() && self.state.is_idle()
    }

    /// Waits for bytes: for the rest of a head, or for a new one.
    fn waits(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let late = |what| Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)));
        if !self.scanner.is_fresh() {
            // The time limit of a head that was sent ahead starts when its turn comes.
            if self.state.is_idle() {
                self.head.arm();
            } else {
                self.head.disarm();
            }
        }
        if self.head.expired(cx) {
            return late("the request's head did not come in time");
        }
        if self.is_idle() {
            self.turn.end();
            self.idle.arm();
            if self.idle.expired(cx) {
                return late("no request came");
            }
        }
        Poll::Pending
    }

    /// The socket has been full for too long. Linux calls it writable only when a third of it is free, so a slow reader
    /// that does take bytes looks the same as one that takes none: one direct try tells them apart.
    fn last_try(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stall.disarm();
        match SockRef::from(&self.stream).send_vectored(pieces) {
            Ok(sent) if sent > 0 => Ok(sent),
            _ => {
                // What the kernel still holds is dropped with the connection.
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

    /// Reads what a client still sends after its answer has left: closing a socket with unread bytes would discard the
    /// answer.
    fn read_away(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sink = [0; 4096];
        self.linger.arm();
        while !self.linger.expired(cx) {
            let mut buf = ReadBuf::new(&mut sink);
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut buf);
            if ready!(read).is_err() || buf.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(())
    }

    fn write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, pieces) {
            Poll::Ready(result) => {
                self.stall.disarm();
                if let Ok(sent) = &result {
                    self.turn.note_written(*sent);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                self.turn.end();
                self.stall.arm();
                if self.stall.expired(cx) {
                    return Poll::Ready(self.last_try(pieces));
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.finish(cx))?;
            this.settle();
            let before = buf.filled().len();
            match Pin::new(&mut this.stream).poll_read(cx, buf) {
                Poll::Pending => return this.waits(cx),
                Poll::Ready(Ok(())) => {}
                failed @ Poll::Ready(Err(_)) => return failed,
            }
            let bytes = &buf.filled()[before..];
            this.response = this.fast_answer(bytes);
            if this.response.is_none() {
                this.idle.disarm();
                this.saw(bytes);
                return Poll::Ready(Ok(()));
            }
            this.head.disarm();
            buf.set_filled(before);
        }
    }
}

impl AsyncWrite for Connection {
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
        this.flushed = false;
        this.send(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.flushed = true;
        this.sent = this.state.done();
        this.settle();
        if this.is_idle() && !this.idle.is_armed() {
            // The library is already waiting for bytes and does not ask again: the wake-up has to be registered here.
            this.idle.arm();
            this.idle.expired(cx);
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.finish(cx))?;
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        if this.state.has_open_body() {
            ready!(this.read_away(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
            quantum: 4096,
            long_quantum: 4096,
            ..Limits::default()
        };
        let turn = WriteTurn::new(&Arc::default(), &limits);
        let mut wire = Connection::new(stream, Arc::default(), None, turn, &limits);
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

    /// Would answer anything.
    struct Always;

    impl FastPath for Always {
        fn answer(&self, _: &fast::PlainRequest<'_>, _now: Instant) -> Option<FastResponse> {
            panic!("no request has come")
        }
    }

    #[tokio::test]
    async fn after_a_head_with_a_body_no_bytes_are_taken_for_a_head() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let state = Arc::new(ConnState::default());
        let path: Arc<dyn FastPath> = Arc::new(Always);
        let limits = Limits::default();
        let turn = WriteTurn::new(&Arc::default(), &limits);
        let mut wire = Connection::new(stream, state.clone(), Some(path), turn, &limits);
        let mut buffer = [0; 100];
        for text in [
            "POST / HTTP/1.1\r\ncontent-length: 26\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: h\r\n\r\n",
        ] {
            client.write_all(text.as_bytes()).await.unwrap();
            let read = wire.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..read], text.as_bytes());
            // Answered, and its body not asked for yet.
            state.begin(true);
            state.end();
        }
    }
}
