//! The blob API, the admin port and the routes of peers: one file for each family of routes, all of them in the tables of
//! `routes`.

mod access_log;
mod admin;
pub(crate) mod aftermath;
pub(crate) mod barrier;
mod blob;
pub(crate) mod body_buffer;
mod conditions;
mod delete;
pub(crate) mod dialect;
mod error_document;
pub(crate) mod failure;
mod health;
pub(crate) mod hits;
mod list;
mod metered_body;
pub(crate) mod middleware;
pub mod peer_routes;
mod prewarm;
mod query;
mod range;
pub(crate) mod read;
mod ready;
mod request_id;
pub(crate) mod response_context;
pub(crate) mod response_headers;
pub(crate) mod rights;
mod routes;
pub(crate) mod services;
mod state;
pub(crate) mod status;
mod upload;
pub(crate) mod xml;

pub use aftermath::Aftermath;
pub(crate) use hits::Hits;
pub use ready::Ready;
pub use rights::ServedBuckets;
pub(crate) use routes::hits;
pub use routes::{admin_router, router};
pub use services::{Services, WebSettings};
pub use state::{Api, ApiParts, ApiSettings};
