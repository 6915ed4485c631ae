//! `GET /list`: keys as S3 lists them, one page as JSON, or all pages as JSON lines. Nothing of it is cached.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_stream::try_stream;
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;

use super::query::Query;
use super::state::Api;
use crate::access::{Target, Verb};
use crate::object::ETag;
use crate::origin::{self, ListPage, ListedObject, Origin, Pages};
use crate::web::failure::Failure;
use crate::web::rights::permit;

/// The most keys that S3 returns in one page.
const PAGE: u32 = 1000;

const LINES: &str = "application/x-ndjson";

#[derive(Serialize)]
struct ListedKey<'a> {
    key: &'a str,
    size: u64,
    etag: Option<&'a str>,
    last_modified: Option<String>,
}

#[derive(Serialize)]
struct ListBody<'a> {
    objects: Vec<ListedKey<'a>>,
    cursor: Option<&'a str>,
}

/// `GET /list?prefix=P[&limit=N][&cursor=C][&bucket=B]`. With `Accept: application/x-ndjson` the answer is one object a
/// line, over all pages from the cursor on; `limit` is then the size of the pages asked of S3.
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Failure> {
    let who = api.caller(request.headers())?;
    let mut query = Query::parse(
        request.uri().query(),
        &["prefix", "limit", "cursor", "bucket"],
    )?;
    let bucket = api.bucket(&who, Verb::Read, query.take("bucket"))?;
    let prefix = query.take("prefix").unwrap_or_default();
    permit(&who, Verb::Read, &bucket, Target::Prefix(&prefix))?;
    let limit = limit(query.take("limit").as_deref())?;
    let cursor = query.take("cursor").filter(|cursor| !cursor.is_empty());
    let as_lines = wants_lines(request.headers());
    drop(request);
    // The first page is read before the answer begins, so that a refusal by S3 still gets a status.
    let first = api
        .services
        .origin
        .list(&bucket, &prefix, limit, cursor.as_deref())
        .await;
    let first = first.map_err(|error| Failure::from(error).about(&bucket, None))?;
    if as_lines {
        let lines = lines(api.services.origin.clone(), bucket, prefix, limit, first);
        let mut response = Body::from_stream(lines).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
        return Ok(response);
    }
    let page = ListBody {
        objects: first.objects.iter().map(line).collect(),
        cursor: first.cursor.as_deref(),
    };
    Ok(Json(page).into_response())
}

/// One page at a time; an error ends the connection, so that half a list does not look like a whole one.
fn lines(
    origin: Origin,
    bucket: String,
    prefix: String,
    limit: u32,
    first: ListPage,
) -> impl Stream<Item = Result<Bytes, origin::Error>> + Send + 'static {
    try_stream! {
        let mut pages = Pages::new(origin, &bucket, &prefix, limit).after(&first);
        let mut page = Some(first.objects);
        while let Some(objects) = page {
            if !objects.is_empty() {
                yield text(&objects);
            }
            page = pages.next().await?;
        }
    }
}

fn text(objects: &[ListedObject]) -> Bytes {
    let mut text = Vec::with_capacity(objects.len() * 128);
    for object in objects {
        serde_json::to_writer(&mut text, &line(object)).expect("strings and numbers become JSON");
        text.push(b'\n');
    }
    text.into()
}

fn line(entry: &ListedObject) -> ListedKey<'_> {
    ListedKey {
        key: &entry.key,
        size: entry.size,
        etag: entry.etag.as_ref().map(ETag::as_str),
        last_modified: entry.last_modified.map(timestamp),
    }
}

fn limit(given: Option<&str>) -> Result<u32, Failure> {
    let Some(given) = given else { return Ok(PAGE) };
    given
        .parse()
        .ok()
        .filter(|limit| (1..=PAGE).contains(limit))
        .ok_or_else(|| {
            Failure::bad(
                "InvalidParameter",
                format_args!("limit= is a number from 1 to {PAGE}"),
            )
        })
}

fn wants_lines(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|kind| {
            kind.split(';')
                .next()
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(LINES))
        })
}

/// RFC 3339 in UTC and whole seconds, as S3 writes it.
fn timestamp(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days, in eras of 400 years that begin on 1 March (Howard Hinnant's chrono algorithms).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_s3_writes_them() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), want);
        }
    }

    #[test]
    fn a_page_has_1_to_1000_keys() {
        assert_eq!(limit(None).unwrap(), 1000);
        assert_eq!(limit(Some("1")).unwrap(), 1);
        for wrong in ["0", "1001", "-1", "", "x"] {
            assert_eq!(limit(Some(wrong)).unwrap_err().code(), "InvalidParameter");
        }
    }

    #[test]
    fn lines_are_json_for_any_key() {
        let entry = ListedObject {
            key: "a\"\n".into(),
            size: 3,
            etag: Some("\"e\"".into()),
            last_modified: None,
        };
        let text = text(&[entry.clone(), entry]);
        let text = std::str::from_utf8(&text).unwrap();
        assert_eq!(text.lines().count(), 2);
        for line in text.lines() {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(json["key"], "a\"\n");
        }
    }

    #[test]
    fn json_lines_are_asked_for_by_accept() {
        let mut headers = HeaderMap::new();
        assert!(!wants_lines(&headers));
        headers.insert(
            header::ACCEPT,
            "text/html, Application/X-NDJSON;q=0.5".parse().unwrap(),
        );
        assert!(wants_lines(&headers));
    }
}
