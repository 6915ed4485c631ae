//! stub
use crate::peer::*;
use crate::ring::Ring;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
pub mod heartbeat {
    pub async fn run(_: std::sync::Arc<super::Members>, _: crate::peer::Peers) {}
    pub async fn farewell(_: &std::sync::Arc<super::Members>) {}
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    pub url: String,
    pub zone: Option<String>,
    pub serving: bool,
    pub terminating: bool,
}
#[derive(Debug)]
pub struct Members;
impl Members {
    pub fn new(_me: Contact, _z: Option<String>) -> Arc<Self> {
        unreachable!()
    }
    pub fn ring(&self) -> watch::Receiver<Arc<Ring>> {
        unreachable!()
    }
    pub fn suspect(&self, _n: &str) {}
    pub fn discovered(&self, _f: Vec<Found>) {}
    pub fn heard(&self, _h: &Hello) -> Welcome {
        unreachable!()
    }
    pub async fn wait_hello(&self, _d: Duration) {}
    pub fn set_ready(&self) {}
    pub fn leave(&self) {}
}
