//! One operator at a time, by a Lease.
//!
//! Nobody's clock is compared with another's: a candidate takes over when it has seen the lease unchanged for the lease's whole duration by its own clock.
//! Every write of the lease names the version that it replaces, so two candidates can't both win. The holder publishes until when it may write, and
//! `apply` looks at that before each write.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::client::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// Without a sign of life for this long, a lease is free.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for this long stops; the rest of `DURATION` is the margin between it and the next one.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two tries.
const PERIOD: Duration = Duration::from_secs(2);

/// Why a lease can't be held.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else has it, or the API server could not be asked for too long.
    #[error("the lease is lost")]
    Lost,
    /// A right is missing: trying again is no use before somebody grants it.
    #[error("the lease can't be had")]
    Api(#[source] kube::Error),
}

/// A candidate, and later the holder.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    until: watch::Sender<Option<Instant>>,
    seen: Option<(String, Instant)>,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate")
            .field("name", &self.name)
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

impl Candidate {
    /// A candidate for the lease `name` in `namespace`, known as `me`, which must be unique.
    pub fn new(client: Client, namespace: &str, name: &str, me: &str) -> Self {
        let (until, _) = watch::channel(None);
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me: me.to_owned(),
            until,
            seen: None,
        }
    }

    /// Until when the holder may write.
    pub fn until(&self) -> watch::Receiver<Option<Instant>> {
        self.until.subscribe()
    }

    /// Returns when the lease is held.
    pub async fn acquire(&mut self) -> Result<(), Error> {
        loop {
            // With a bound: a connection that died in silence would be waited for for ever.
            let Ok(tried) = timeout(DEADLINE, self.step()).await else {
                continue;
            };
            match tried {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(kube::Error::Api(status)) if status.is_forbidden() => {
                    return Err(Error::Api(kube::Error::Api(status)));
                }
                Err(error) => {
                    tracing::warn!(%error, lease = self.name, "the lease can't be asked for");
                }
            }
            sleep(PERIOD).await;
        }
    }

    /// Renews until that fails for too long. Returns only when the lease is lost.
    pub async fn hold(&mut self) -> Error {
        loop {
            sleep(PERIOD).await;
            let left = self
                .until
                .borrow()
                .map(|until| until.saturating_duration_since(Instant::now()))
                .unwrap_or_default();
            match timeout(left, self.step()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => {
                    self.until.send_replace(None);
                    return Error::Lost;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = self.name, "the lease is not renewed");
                }
            }
        }
    }

    /// Gives the lease up, so that the next one need not wait for it.
    pub async fn release(&mut self) {
        self.until.send_replace(None);
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else {
            return;
        };
        if holder(&lease) == self.me {
            lease.spec.get_or_insert_default().holder_identity = None;
            if let Err(error) = self
                .api
                .replace(&self.name, &PostParams::default(), &lease)
                .await
            {
                tracing::warn!(%error, lease = self.name, "the lease is not given up");
            }
        }
    }

    /// One try. True: the lease is held, from before the request was sent.
    async fn step(&mut self) -> Result<bool, kube::Error> {
        let begin = Instant::now();
        let answer = match self.api.get_opt(&self.name).await? {
            None => {
                self.api
                    .create(&PostParams::default(), &self.claim(None))
                    .await
            }
            Some(lease)
                if holder(&lease) == self.me
                    || holder(&lease).is_empty()
                    || self.is_silent(&lease) =>
            {
                self.api
                    .replace(&self.name, &PostParams::default(), &self.claim(Some(lease)))
                    .await
            }
            Some(_) => return Ok(false),
        };
        match answer {
            Ok(_) => {
                self.until.send_replace(Some(begin + DEADLINE));
                Ok(true)
            }
            // Somebody was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the lease has not changed for its whole duration, by our own clock.
    fn is_silent(&mut self, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed() >= DURATION,
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    fn claim(&self, lease: Option<Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = lease.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        });
        let taken_over = holder(&lease) != self.me;
        let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
        if taken_over {
            spec.holder_identity = Some(self.me.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(-1) + 1);
        }
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }
}

fn holder(lease: &Lease) -> &str {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower_test::mock;

    use super::*;

    /// An API server that knows one lease and minds its version.
    fn server() -> (Client, Arc<Mutex<Option<Value>>>) {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let lease: Arc<Mutex<Option<Value>>> = Arc::default();
        let held = Arc::clone(&lease);
        tokio::spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                let (code, answer) =
                    answer(&mut held.lock().unwrap(), parts.method.as_str(), &bytes);
                let body = Body::from(answer.to_string().into_bytes());
                send.send_response(Response::builder().status(code).body(body).unwrap());
            }
        });
        (Client::new(service, "ops"), lease)
    }

    fn answer(held: &mut Option<Value>, method: &str, body: &[u8]) -> (u16, Value) {
        let refusal = |code: u16, reason: &str| {
            (
                code,
                json!({"status": "Failure", "message": reason, "reason": reason, "code": code}),
            )
        };
        let version = |lease: &Value| {
            lease["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or("0")
                .parse::<u64>()
                .unwrap()
        };
        match (method, held.as_ref()) {
            ("GET", None) => refusal(404, "NotFound"),
            ("GET", Some(lease)) => (200, lease.clone()),
            ("POST", Some(_)) => refusal(409, "AlreadyExists"),
            (_, before) => {
                let mut lease: Value = serde_json::from_slice(body).unwrap();
                let now = before.map_or(0, version);
                if method == "PUT" && version(&lease) != now {
                    return refusal(409, "Conflict");
                }
                lease["metadata"]["resourceVersion"] = json!((now + 1).to_string());
                *held = Some(lease.clone());
                (200, lease)
            }
        }
    }

    fn candidate(client: &Client, me: &str) -> Candidate {
        Candidate::new(client.clone(), "ops", "falcon-operator", me)
    }

    fn may_write(candidate: &Candidate) -> bool {
        candidate
            .until()
            .borrow()
            .is_some_and(|until| Instant::now() < until)
    }

    #[tokio::test]
    async fn one_of_two_leads_and_the_other_follows_when_it_leaves() {
        let (client, _) = server();
        let (mut first, mut second) = (candidate(&client, "first"), candidate(&client, "second"));
        assert!(first.step().await.unwrap() && may_write(&first));
        assert!(!second.step().await.unwrap() && !may_write(&second));
        assert!(first.step().await.unwrap(), "a renewal");
        first.release().await;
        assert!(!may_write(&first));
        assert!(second.step().await.unwrap() && may_write(&second));
        assert!(!first.step().await.unwrap());
    }

    #[tokio::test]
    async fn a_holder_is_dead_only_when_its_lease_did_not_change_for_its_whole_duration() {
        let (client, _) = server();
        let (mut first, mut second) = (candidate(&client, "first"), candidate(&client, "second"));
        assert!(first.step().await.unwrap());
        assert!(!second.step().await.unwrap());
        let long_ago = Instant::now().checked_sub(DURATION).unwrap();
        second.seen = second.seen.map(|(version, _)| (version, long_ago));
        assert!(first.step().await.unwrap(), "a renewal");
        assert!(
            !second.step().await.unwrap(),
            "a lease that was renewed is a new one"
        );
        second.seen = second.seen.map(|(version, _)| (version, long_ago));
        assert!(second.step().await.unwrap(), "nobody renewed it");
        assert!(matches!(first.hold().await, Error::Lost));
        assert!(!may_write(&first));
    }

    #[tokio::test]
    async fn two_that_see_a_free_lease_do_not_both_win() {
        let (client, lease) = server();
        let mut slow = candidate(&client, "slow");
        candidate(&client, "dead").step().await.unwrap();
        slow.step().await.unwrap();
        let seen: Lease = serde_json::from_value(lease.lock().unwrap().clone().unwrap()).unwrap();
        let mut fast = candidate(&client, "fast");
        let long_ago = Instant::now().checked_sub(DURATION).unwrap();
        fast.seen = slow.seen.clone().map(|(version, _)| (version, long_ago));
        assert!(fast.step().await.unwrap());
        let late = slow
            .api
            .replace(
                "falcon-operator",
                &PostParams::default(),
                &slow.claim(Some(seen)),
            )
            .await;
        assert!(matches!(late, Err(kube::Error::Api(status)) if status.is_conflict()));
    }
}
