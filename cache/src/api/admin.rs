//! For the operators of a cache: invalidation by hand, the ring, the metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::query::Query;
use super::state::Api;
use crate::access::{Caller, Target, Verb};
use crate::object::{EXTENT_BLOCKS, ObjectId, Scope};
use crate::ring::Ring;
use crate::web::barrier;
use crate::web::failure::Failure;
use crate::web::response_context::ResponseContext;
use crate::web::rights::{denied, permit};

/// Extents of an object whose owners `/ring` shows.
const EXTENTS: u32 = 4;

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `POST /invalidate?key=K`, `?prefix=P` or `?all=true`, `[&bucket=B]`
pub(super) async fn invalidate(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Failure> {
    let who = api.caller(request.headers())?;
    let mut query = Query::parse(request.uri().query(), &["key", "prefix", "all", "bucket"])?;
    drop(request);
    let scope = scope(&api, &who, &mut query)?;
    let about = match &scope {
        Scope::Key { key, .. } => key.clone(),
        Scope::Prefix { prefix, .. } => prefix.clone(),
        Scope::Keys { .. } | Scope::All => String::new(),
    };
    // Runs to its end even when the client hangs up: half a barrier is of no use.
    let report =
        barrier::to_the_end(async move { api.invalidator.invalidate(scope).await }).await?;
    let (status, body) = barrier::table(&report);
    let response = (status, Json(body)).into_response();
    Ok(ResponseContext::default().about(about).attach(response))
}

fn scope(api: &Api, who: &Caller, query: &mut Query) -> Result<Scope, Failure> {
    let named = Named::parse(query)?;
    let Some(given) = query.take("bucket").map(Some).or_else(|| {
        // Without a bucket, `all` means every bucket, not only the default one.
        (named != Named::All).then_some(None)
    }) else {
        return if who.may_everywhere(Verb::Invalidate) {
            Ok(Scope::All)
        } else {
            Err(denied("every bucket"))
        };
    };
    let bucket = api.bucket(who, Verb::Invalidate, given)?;
    let target = match &named {
        Named::Key(key) => Target::Key(key),
        Named::Prefix(prefix) => Target::Prefix(prefix),
        Named::All => Target::Prefix(""),
    };
    permit(who, Verb::Invalidate, &bucket, target)?;
    Ok(match named {
        Named::Key(key) => Scope::from(&ObjectId::new(&bucket, &key)?),
        Named::Prefix(prefix) => Scope::Prefix { bucket, prefix },
        Named::All => Scope::Prefix {
            bucket,
            prefix: String::new(),
        },
    })
}

/// What an invalidation names.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Key(String),
    Prefix(String),
    All,
}

impl Named {
    fn parse(query: &mut Query) -> Result<Self, Failure> {
        match (
            query.take("key"),
            query.take("prefix"),
            query.take("all").as_deref(),
        ) {
            (Some(key), None, None) => Ok(Self::Key(key)),
            (None, Some(prefix), None) if prefix.is_empty() => Err(Failure::bad(
                "EmptyPrefix",
                "prefix= must not be empty: use all=true for everything",
            )),
            (None, Some(prefix), None) => Ok(Self::Prefix(prefix)),
            (None, None, Some("true")) => Ok(Self::All),
            (None, None, Some(_)) => Err(Failure::bad("InvalidParameter", "all= must be true")),
            _ => Err(Failure::bad(
                "MissingParameter",
                "exactly one of key=, prefix= and all=true is required",
            )),
        }
    }
}

/// `GET /ring[?key=K[&bucket=B]]`: the members for every known caller, a key's owners for those who may read it.
pub(super) async fn ring(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Failure> {
    let who = api.caller(request.headers())?;
    let mut query = Query::parse(request.uri().query(), &["key", "bucket"])?;
    let object = match query.take("key") {
        Some(key) => {
            let bucket = api.bucket(&who, Verb::Read, query.take("bucket"))?;
            permit(&who, Verb::Read, &bucket, Target::Key(&key))?;
            Some(ObjectId::new(&bucket, &key)?)
        }
        None => None,
    };
    let ring = Arc::clone(&api.members.ring().borrow());
    Ok(Json(shown(&ring, object.as_ref())).into_response())
}

fn shown(ring: &Ring, object: Option<&ObjectId>) -> Value {
    let sidecar = ring.member(ring.me()).is_none();
    let mut shown = json!({
        "me": ring.me(), "sidecar": sidecar, "version": ring.version(), "members": ring.members(),
    });
    if let Some(object) = object {
        let owners = |extent: u32| -> Vec<&str> {
            ring.owners(object, extent)
                .iter()
                .map(|member| member.name.as_str())
                .collect()
        };
        let extents: Vec<Value> = (0..EXTENTS)
            .map(|extent| json!({"extent": extent, "first_block": extent * EXTENT_BLOCKS, "owners": owners(extent)}))
            .collect();
        shown["object"] = json!({
            "key": object.key(), "bucket": object.bucket(), "home": owners(0).first(), "extents": extents,
        });
    }
    shown
}

/// `GET /metrics`
pub(super) async fn metrics(State(api): State<Arc<Api>>, request: Request) -> Response {
    let metrics = &api.services.metrics;
    let (kind, text) = if wants_open_metrics(request.headers()) {
        (OPEN_METRICS, metrics.open_metrics())
    } else {
        (PROMETHEUS, metrics.prometheus())
    };
    (StatusCode::OK, [(CONTENT_TYPE, kind)], text).into_response()
}

fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("application/openmetrics-text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Member, MemberState};

    #[test]
    fn an_invalidation_names_exactly_one_thing() {
        let named = |raw: &str| {
            let mut query = Query::parse(Some(raw), &["key", "prefix", "all"]).unwrap();
            Named::parse(&mut query).map_err(|failure| failure.code().to_owned())
        };
        assert_eq!(named("key=a"), Ok(Named::Key("a".into())));
        assert_eq!(named("prefix=a"), Ok(Named::Prefix("a".into())));
        assert_eq!(named("all=true"), Ok(Named::All));
        for (raw, code) in [
            ("", "MissingParameter"),
            ("key=a&prefix=b", "MissingParameter"),
            ("key=a&all=true", "MissingParameter"),
            ("prefix=", "EmptyPrefix"),
            ("all=yes", "InvalidParameter"),
        ] {
            assert_eq!(named(raw), Err(code.to_owned()), "{raw}");
        }
    }

    #[test]
    fn the_ring_tells_who_owns_a_key() {
        let member = |name: &str, state| Member {
            name: name.into(),
            url: format!("http://{name}"),
            zone: None,
            state,
        };
        let members = vec![
            member("a", MemberState::Serving),
            member("b", MemberState::Unreachable),
        ];
        let beside = Ring::new("c", members.clone(), 7);
        assert_eq!(shown(&beside, None)["sidecar"], true);
        let ring = Ring::new("a", members, 7);
        let json = shown(&ring, Some(&ObjectId::new("bucket", "k").unwrap()));
        assert_eq!(
            (&json["version"], &json["sidecar"]),
            (&json!(7), &json!(false))
        );
        assert_eq!(json["members"][1]["state"], "unreachable");
        assert_eq!(json["object"]["home"], "a");
        assert_eq!(json["object"]["extents"][3]["owners"], json!(["a"]));
    }
}
