//! What a connection's socket and its service share: which heads have come, and whether all of them are answered.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::body::Incoming;

use super::head_scanner::Fault;

/// The shared state of a connection's socket and its service. Both run in one task; the atomics are for `Sync` only.
#[derive(Default)]
pub(super) struct ConnState {
    /// Heads that the socket has seen to their end.
    heads: AtomicU64,
    begun: AtomicU64,
    done: AtomicU64,
    /// The body of the request that began last has not come to its end.
    body_open: AtomicBool,
    /// The rest of it, when the service has dropped it.
    left: Mutex<Option<Incoming>>,
    /// The first head that is to be refused: its number times [`FAULTS`], and why.
    fault: AtomicU64,
}

/// Room for all faults beside a head's number.
const FAULTS: u64 = 4;

impl ConnState {
    /// Begins a request; it runs until [`ConnState::end`]. Returns the fault of its head, if it has one.
    pub(super) fn begin(&self, has_body: bool) -> Option<Fault> {
        self.body_open.store(has_body, Ordering::Relaxed);
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        if number > self.heads.load(Ordering::Relaxed) {
            return Some(Fault::BehindBody);
        }
        let fault = self.fault.load(Ordering::Relaxed);
        if fault / FAULTS != number {
            return None;
        }
        Some(match fault % FAULTS {
            0 => Fault::TwoLengths,
            1 => Fault::Fragment,
            _ => Fault::BareNewline,
        })
    }

    /// Ends a request: its answer has been handed over whole, or given up.
    pub(super) fn end(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// The HTTP library has read the request's body to its end.
    pub(super) fn body_ended(&self) {
        self.body_open.store(false, Ordering::Relaxed);
    }

    /// Leaves the rest of the request's body to the connection.
    pub(super) fn leave_body(&self, body: Incoming) {
        *self.left() = Some(body);
    }

    /// Takes the rest of the request's body, if the service has dropped it.
    pub(super) fn take_body(&self) -> Option<Incoming> {
        self.left().take()
    }

    /// True while bytes of the request's body may follow.
    pub(super) fn has_open_body(&self) -> bool {
        self.body_open.load(Ordering::Relaxed)
    }

    fn left(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that another head has come, and what is wrong with it. Only the first fault counts: the connection is
    /// closed after its answer.
    pub(super) fn head_ended(&self, fault: Option<Fault>) {
        let number = self.heads.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(fault) = fault else { return };
        let code = match fault {
            Fault::TwoLengths => 0,
            Fault::Fragment => 1,
            Fault::BareNewline => 2,
            // Never found in a head's lines.
            Fault::BehindBody | Fault::Host => return,
        };
        if self.fault.load(Ordering::Relaxed) == 0 {
            self.fault.store(number * FAULTS + code, Ordering::Relaxed);
        }
    }

    /// Requests that are done.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// True when every head that was read has become a request, and every request is answered and read to its end.
    pub(super) fn is_idle(&self) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        begun == self.done() && begun == self.heads.load(Ordering::Relaxed) && !self.has_open_body()
    }
}
