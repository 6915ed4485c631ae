//! Leader election by a Lease: one active operator at a time.
//!
//! Clocks are not compared: a candidate takes over when it has seen the lease unchanged for the lease's whole duration
//! by its own clock. Every update of the lease names the resource version that it replaces, so two candidates can't
//! both win. The holder publishes the deadline for its writes, and `apply` checks it before each write.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::client::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// A lease that was not renewed for this long is free.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for this long stops; the rest of `LEASE_DURATION` is the safety margin before its
/// successor starts.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two attempts.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Why the lease is not held.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process holds it, or the API server was unreachable for too long.
    #[error("the lease is lost")]
    Lost,
    /// A permission is missing: retrying is useless until it is granted.
    #[error("failed to acquire the lease")]
    Api(#[source] kube::Error),
}

/// A candidate for the lease, and later its holder.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    deadline: watch::Sender<Option<Instant>>,
    observed: Option<(String, Instant)>,
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
        let (deadline, _) = watch::channel(None);
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me: me.to_owned(),
            deadline,
            observed: None,
        }
    }

    /// Until when the holder may write.
    pub fn deadline(&self) -> watch::Receiver<Option<Instant>> {
        self.deadline.subscribe()
    }

    /// Returns when the lease is held.
    pub async fn acquire(&mut self) -> Result<(), Error> {
        loop {
            // With a timeout: a connection that died without notice would block for ever.
            let Ok(tried) = timeout(RENEW_DEADLINE, self.try_acquire_or_renew()).await else {
                continue;
            };
            match tried {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(kube::Error::Api(status)) if status.is_forbidden() => {
                    return Err(Error::Api(kube::Error::Api(status)));
                }
                Err(error) => {
                    tracing::warn!(%error, lease = self.name, "failed to read or write the lease");
                }
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    /// Renews the lease until that fails for too long. Returns only when the lease is lost.
    pub async fn renew(&mut self) -> Error {
        loop {
            sleep(RETRY_PERIOD).await;
            let left = self
                .deadline
                .borrow()
                .map(|until| until.saturating_duration_since(Instant::now()))
                .unwrap_or_default();
            match timeout(left, self.try_acquire_or_renew()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => {
                    self.deadline.send_replace(None);
                    return Error::Lost;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = self.name, "failed to renew the lease");
                }
            }
        }
    }

    /// Releases the lease, so that the successor need not wait for it to expire.
    pub async fn release(&mut self) {
        self.deadline.send_replace(None);
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
                tracing::warn!(%error, lease = self.name, "failed to release the lease");
            }
        }
    }

    /// One attempt. True: the lease is held, counted from before the request was sent.
    async fn try_acquire_or_renew(&mut self) -> Result<bool, kube::Error> {
        let begin = Instant::now();
        let answer = match self.api.get_opt(&self.name).await? {
            None => {
                self.api
                    .create(&PostParams::default(), &self.record(None))
                    .await
            }
            Some(lease)
                if holder(&lease) == self.me
                    || holder(&lease).is_empty()
                    || self.observe_expiry(&lease) =>
            {
                self.api
                    .replace(
                        &self.name,
                        &PostParams::default(),
                        &self.record(Some(lease)),
                    )
                    .await
            }
            Some(_) => return Ok(false),
        };
        match answer {
            Ok(_) => {
                self.deadline.send_replace(Some(begin + RENEW_DEADLINE));
                Ok(true)
            }
            // Another candidate was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Notes the lease's version; whether it has not changed for the lease's whole duration, by our own clock.
    fn observe_expiry(&mut self, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.observed {
            Some((observed, since)) if *observed == version => since.elapsed() >= LEASE_DURATION,
            _ => {
                self.observed = Some((version, Instant::now()));
                false
            }
        }
    }

    fn record(&self, lease: Option<Lease>) -> Lease {
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
        spec.lease_duration_seconds = i32::try_from(LEASE_DURATION.as_secs()).ok();
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
            .deadline()
            .borrow()
            .is_some_and(|until| Instant::now() < until)
    }

    #[tokio::test]
    async fn one_of_two_leads_and_the_other_follows_when_it_leaves() {
        let (client, _) = server();
        let (mut first, mut second) = (candidate(&client, "first"), candidate(&client, "second"));
        assert!(first.try_acquire_or_renew().await.unwrap() && may_write(&first));
        assert!(!second.try_acquire_or_renew().await.unwrap() && !may_write(&second));
        assert!(first.try_acquire_or_renew().await.unwrap(), "a renewal");
        first.release().await;
        assert!(!may_write(&first));
        assert!(second.try_acquire_or_renew().await.unwrap() && may_write(&second));
        assert!(!first.try_acquire_or_renew().await.unwrap());
    }

    #[tokio::test]
    async fn a_holder_is_dead_only_when_its_lease_was_unchanged_for_its_duration() {
        let (client, _) = server();
        let (mut first, mut second) = (candidate(&client, "first"), candidate(&client, "second"));
        assert!(first.try_acquire_or_renew().await.unwrap());
        assert!(!second.try_acquire_or_renew().await.unwrap());
        let long_ago = Instant::now().checked_sub(LEASE_DURATION).unwrap();
        second.observed = second.observed.map(|(version, _)| (version, long_ago));
        assert!(first.try_acquire_or_renew().await.unwrap(), "a renewal");
        assert!(
            !second.try_acquire_or_renew().await.unwrap(),
            "a lease that was renewed is a new one"
        );
        second.observed = second.observed.map(|(version, _)| (version, long_ago));
        assert!(
            second.try_acquire_or_renew().await.unwrap(),
            "nobody renewed it"
        );
        assert!(matches!(first.renew().await, Error::Lost));
        assert!(!may_write(&first));
    }

    #[tokio::test]
    async fn two_that_see_a_free_lease_do_not_both_win() {
        let (client, lease) = server();
        let mut slow = candidate(&client, "slow");
        candidate(&client, "dead")
            .try_acquire_or_renew()
            .await
            .unwrap();
        slow.try_acquire_or_renew().await.unwrap();
        let observed: Lease =
            serde_json::from_value(lease.lock().unwrap().clone().unwrap()).unwrap();
        let mut fast = candidate(&client, "fast");
        let long_ago = Instant::now().checked_sub(LEASE_DURATION).unwrap();
        fast.observed = slow
            .observed
            .clone()
            .map(|(version, _)| (version, long_ago));
        assert!(fast.try_acquire_or_renew().await.unwrap());
        let late = slow
            .api
            .replace(
                "falcon-operator",
                &PostParams::default(),
                &slow.record(Some(observed)),
            )
            .await;
        assert!(matches!(late, Err(kube::Error::Api(status)) if status.is_conflict()));
    }
}
