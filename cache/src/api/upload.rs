//! `POST /upload`: the files of a multipart form, streamed to S3 through one buffer, each followed by its barrier.

mod disposition;
mod file;
mod form_limit;
mod resources;
pub(super) mod slots;

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::query::Query;
use super::state::Api;
use crate::access::{Target, Verb};
use crate::object::ObjectId;
use crate::origin::Headers;
use crate::web::barrier::Barriers;
use crate::web::failure::Failure;
use crate::web::response_context::ResponseContext;
use crate::web::rights::permit;
use crate::web::status;
use file::{FileOutcome, FileWriter};
use form_limit::Allowance;
use resources::UploadResources;

/// The form's field that holds the files.
const FIELD: &str = "files";

/// A part of a multipart upload, and the largest file that is put in one request.
const PART: u64 = 8 * 1024 * 1024;

/// The most parts of a file. S3 takes 10,000; the rest is a reserve for forms whose length is unknown.
const PARTS: u64 = 9_000;

/// `POST /upload[?path=P/][&bucket=B]`
pub(super) async fn post(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Failure> {
    let who = api.caller(request.headers())?;
    api.writable()?;
    let mut query = Query::parse(request.uri().query(), &["path", "bucket"])?;
    let bucket = api.bucket(&who, Verb::Write, query.take("bucket"))?;
    let path = query.take("path").unwrap_or_default();
    permit(&who, Verb::Write, &bucket, Target::Prefix(&path))?;
    let size = buffer_size(&request);
    let allowance = Allowance::default();
    let request = request.map(|body| form_limit::limit(body, &allowance));
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| {
            Failure::bad(
                "MalformedBody",
                format_args!(
                    "{}: send a multipart form with the field {FIELD}",
                    error.body_text()
                ),
            )
        })?;
    let mut resources = UploadResources::new(&api, who, size);
    let (mut outcomes, mut barriers) = (Vec::new(), Barriers::default());
    loop {
        allowance.head();
        let field = match form.next_field().await {
            Ok(None) => break,
            Ok(Some(field)) => field,
            Err(error) => {
                outcomes.push(FileOutcome::Failed(status::of_body(
                    &error,
                    StatusCode::BAD_REQUEST,
                )));
                break;
            }
        };
        allowance.content();
        let disposition = field.headers().get(header::CONTENT_DISPOSITION);
        let given = |name| disposition::parameter(disposition?.as_bytes(), name);
        let (named, file) = (given("name"), given("filename"));
        let object = match name(&bucket, &path, named.as_deref(), file.as_deref()) {
            Ok(object) => object,
            Err(failure) => {
                // The form means something else: nothing more of it is read.
                outcomes.push(FileOutcome::Failed(failure));
                break;
            }
        };
        let headers = Headers {
            content_type: field.content_type().map(str::to_owned),
            ..Headers::default()
        };
        let writer = FileWriter::new(&api, object, headers, &mut resources);
        let (outcome, readable) = writer.take(field, &mut barriers).await;
        outcomes.push(outcome);
        if !readable {
            break;
        }
    }
    let response = answer(outcomes, &barriers)?;
    Ok(ResponseContext::default().about(path).attach(response))
}

/// The size of the buffer: a part; less for a small form, more for one that would need too many parts.
fn buffer_size(request: &Request) -> u64 {
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    part_size(length)
}

fn part_size(form: Option<u64>) -> u64 {
    match form {
        None => PART,
        Some(length) if length <= PART => length.max(1),
        Some(length) => length.div_ceil(PARTS).max(PART),
    }
}

/// The object that a field stands for: `path` and the file's name, exactly as they were given.
fn name(
    bucket: &str,
    path: &str,
    field: Option<&str>,
    file: Option<&str>,
) -> Result<ObjectId, Failure> {
    if field != Some(FIELD) {
        let given = field.unwrap_or_default();
        return Err(Failure::bad(
            "UnknownField",
            format_args!("the form's field must be {FIELD:?}; got {given:?}"),
        ));
    }
    let Some(file) = file.filter(|file| !file.is_empty()) else {
        return Err(Failure::bad(
            "MissingFileName",
            format_args!(
                "each file of {FIELD:?} must have a file name: it is the end of the object's key"
            ),
        ));
    };
    let key = format!("{path}{file}");
    ObjectId::new(bucket, &key).map_err(|error| Failure::from(error).about(bucket, Some(&key)))
}

/// 200 when all is well, 207 when some of it is, the first failure's status when nothing is.
fn answer(outcomes: Vec<FileOutcome>, barriers: &Barriers) -> Result<Response, Failure> {
    let first = outcomes.iter().find_map(|outcome| match outcome {
        FileOutcome::Failed(failure) => Some(failure.clone()),
        FileOutcome::Stored(_) => None,
    });
    let stored = outcomes
        .iter()
        .any(|outcome| matches!(outcome, FileOutcome::Stored(_)));
    let several = outcomes.len() > 1;
    let files: Vec<Value> = outcomes.into_iter().map(FileOutcome::json).collect();
    let status = match first {
        None if files.is_empty() => {
            return Err(Failure::bad(
                "MissingFile",
                format_args!("the form must have the field {FIELD:?}"),
            ));
        }
        Some(first) if !stored => {
            return Err(if several {
                first.detailed("files", json!(files))
            } else {
                first
            });
        }
        None if barriers.complete() => StatusCode::OK,
        _ => StatusCode::MULTI_STATUS,
    };
    let body = Json(json!({"files": files, "invalidation": barriers.json()}));
    Ok((status, body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invalidate::{NodeReport, Report};
    use crate::web::dialect::Dialect;
    use crate::web::error_document;

    fn stored() -> FileOutcome {
        FileOutcome::Stored(json!({"key": "a", "bucket": "b", "size": 1, "etag": "\"e\""}))
    }

    fn failed() -> FileOutcome {
        FileOutcome::Failed(Failure::later("SlowDown", "not now").about("b", Some("c")))
    }

    #[test]
    fn a_key_is_path_and_file_name_and_nothing_else() {
        let key = |path, file| {
            name("b", path, Some("files"), Some(file))
                .unwrap()
                .key()
                .to_owned()
        };
        assert_eq!(key("", "a#b"), "a#b");
        assert_eq!(key("p", "/a"), "p/a");
        assert_eq!(key("p//", "../x "), "p//../x ");
    }

    #[test]
    fn a_form_that_is_not_understood_is_told_what_is_wrong() {
        let code = |field, file| name("b", "", field, file).unwrap_err().code().to_owned();
        assert_eq!(code(Some("file"), Some("a")), "UnknownField");
        assert_eq!(code(None, Some("a")), "UnknownField");
        assert_eq!(code(Some("files"), None), "MissingFileName");
        assert_eq!(
            code(Some("files"), Some(&"k".repeat(1025))),
            "KeyTooLongError"
        );
        assert_eq!(
            answer(vec![], &Barriers::default()).unwrap_err().code(),
            "MissingFile"
        );
    }

    #[test]
    fn the_status_tells_all_some_or_none() {
        let status = |outcomes| {
            answer(outcomes, &Barriers::default()).map(|response| response.status().as_u16())
        };
        assert_eq!(status(vec![stored(), stored()]).unwrap(), 200);
        assert_eq!(status(vec![stored(), failed()]).unwrap(), 207);
        let none = status(vec![failed(), failed()]).unwrap_err();
        assert_eq!(none.status().as_u16(), 503);
        let (_, body) = error_document::render(&none, Dialect::Blob, "r");
        let json: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["files"][1]["code"], "SlowDown");
    }

    #[test]
    fn a_node_that_did_not_answer_makes_a_good_upload_207() {
        let mut barriers = Barriers::default();
        barriers.add(Report {
            complete: false,
            nodes: vec![NodeReport {
                name: "n".into(),
                answered: false,
                dropped_heads: 0,
                dropped_blocks: 0,
                error: None,
            }],
        });
        assert_eq!(answer(vec![stored()], &barriers).unwrap().status(), 207);
    }

    #[test]
    fn parts_fit_into_what_s3_takes() {
        const TIB: u64 = 1 << 40;
        assert_eq!(part_size(None), PART);
        assert_eq!(part_size(Some(100)), 100);
        assert_eq!(part_size(Some(PART + 1)), PART);
        assert!(TIB.div_ceil(part_size(Some(TIB))) <= PARTS);
    }
}
