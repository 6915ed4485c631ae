//! S3's messages for what the verifier refuses: its own answers have neither message nor request id, and its errors in
//! a body have no code.

use std::error::Error as StdError;

use axum::body::to_bytes;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use quick_xml::escape::unescape;

use crate::web::failure::{BodyRefused, Failure};

type BoxError = Box<dyn StdError + Send + Sync>;

/// The most bytes of the verifier's answer.
const ANSWER_BYTES: usize = 64 * 1024;

const SIGNATURE: &str = "The request signature we calculated does not match the signature you provided. Check your key and signing method.";

/// Marks an answer of the gateway or S3, as opposed to the verifier's.
#[derive(Debug, Clone, Copy)]
pub(super) struct FromGateway;

/// The verifier's answer, in S3's form.
pub(super) async fn translate(response: Response) -> Response {
    if response.extensions().get::<FromGateway>().is_some() {
        return response;
    }
    let status = response.status();
    let body = to_bytes(response.into_body(), ANSWER_BYTES).await;
    let text = body.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let said = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        let (value, _) = rest.split_once("</")?;
        Some(unescape(value).ok()?.into_owned())
    };
    let code = said("Code").unwrap_or_else(|| "InternalError".to_owned());
    let message = said("Message").unwrap_or_else(|| message_of(&code));
    Failure::new(status, &code, message).into_response()
}

fn message_of(code: &str) -> String {
    match code {
        "SignatureDoesNotMatch" => SIGNATURE.to_owned(),
        "AccessDenied" => "Access Denied".to_owned(),
        "RequestTimeTooSkewed" => {
            "The difference between the request time and the current time is too large.".to_owned()
        }
        _ => format!("the request's signature was refused: {code}"),
    }
}

/// The verifier's error in a body. Its types are private: only the names of their variants can be seen.
pub(super) fn translate_body_error(error: BoxError) -> BoxError {
    let text = error.to_string();
    let failure = if text.ends_with(": Sha256Mismatch") {
        Failure::bad(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )
    } else if text.ends_with(": SignatureMismatch") {
        Failure::new(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", SIGNATURE)
    } else {
        return error;
    };
    Box::new(BodyRefused(failure))
}
