//! The blob API, the admin port and the routes of peers: one file for each family of routes, all of them in the tables
//! of `routes`.

mod admin;
mod blob;
mod delete;
mod health;
mod list;
pub mod peer_routes;
mod prewarm;
mod query;
mod ready;
mod routes;
mod state;
mod upload;

pub use ready::Ready;
pub(crate) use routes::hits;
pub use routes::{admin_router, router};
pub use state::{Api, ApiParts, ApiSettings};
