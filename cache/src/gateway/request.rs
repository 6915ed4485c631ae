//! An admitted request: its caller, its operation, and what it is about.

use http::request::Parts as Head;

use super::address::Parameters;
use super::operation::Operation;
use crate::access::Caller;
use crate::origin::Incoming;

/// An admitted request.
pub(super) struct GatewayRequest {
    pub(super) who: Caller,
    pub(super) operation: &'static Operation,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) parameters: Parameters,
    pub(super) head: Head,
    pub(super) body: Incoming,
}
