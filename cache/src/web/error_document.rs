//! The body of a failed request's answer: JSON at the blob API, XML at the S3 gateway.

use serde::Serialize;

use super::dialect::Dialect;
use super::failure::Failure;
use super::xml::push_element;
use crate::object::Said;
use crate::server::ErrorBody;

#[derive(Serialize)]
struct ErrorJson<'a> {
    code: &'a str,
    message: &'a str,
    key: Option<&'a str>,
    bucket: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_id: &'a str,
    #[serde(flatten)]
    detail: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The media type and the bytes of the body.
pub(crate) fn render(
    failure: &Failure,
    dialect: Dialect,
    request_id: &str,
) -> (&'static str, Vec<u8>) {
    match dialect {
        Dialect::Blob => ("application/json", json(failure, request_id)),
        Dialect::S3 => ("application/xml", xml(failure, request_id)),
    }
}

/// The form of errors that the server answers before any route, at a port of this dialect. They have no request id.
pub(crate) fn of_server(dialect: Dialect) -> ErrorBody {
    match dialect {
        Dialect::Blob => |code, message| render(&Failure::bad(code, message), Dialect::Blob, ""),
        Dialect::S3 => |code, message| render(&Failure::bad(code, message), Dialect::S3, ""),
    }
}

fn json(failure: &Failure, request_id: &str) -> Vec<u8> {
    let detail = failure.detail().cloned();
    let shown = ErrorJson {
        code: failure.code(),
        message: failure.message(),
        key: failure.key(),
        bucket: failure.bucket(),
        request_id,
        detail: detail.map(|(name, value)| serde_json::Map::from_iter([(name.to_owned(), value)])),
    };
    serde_json::to_vec(&shown).expect("strings and JSON values become JSON")
}

/// S3's own document where it gave one, else one of the same form.
fn xml(failure: &Failure, request_id: &str) -> Vec<u8> {
    match failure.said().filter(|said| !said.xml.is_empty()) {
        Some(said) => with_request_id(said, request_id),
        None => own_xml(failure, request_id),
    }
}

/// S3's document with the request ID of this answer's header: S3 may have sent the document long ago.
fn with_request_id(said: &Said, request_id: &str) -> Vec<u8> {
    const ID: [&str; 2] = ["<RequestId>", "</RequestId>"];
    let found = said.xml.split_once(ID[0]);
    let Some((before, (_, after))) =
        found.and_then(|(before, rest)| Some((before, rest.split_once(ID[1])?)))
    else {
        return said.xml.as_bytes().to_vec();
    };
    let mut text = before.to_owned();
    push_element(&mut text, "RequestId", request_id);
    text.push_str(after);
    text.into_bytes()
}

fn own_xml(failure: &Failure, request_id: &str) -> Vec<u8> {
    let mut text = r#"<?xml version="1.0" encoding="UTF-8"?><Error>"#.to_owned();
    let elements = [
        ("Code", Some(failure.code())),
        ("Message", Some(failure.message())),
        ("BucketName", failure.bucket()),
        ("Key", failure.key()),
        ("RequestId", Some(request_id).filter(|id| !id.is_empty())),
    ];
    for (name, value) in elements {
        if let Some(value) = value {
            push_element(&mut text, name, value);
        }
    }
    text.push_str("</Error>");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;

    use super::*;
    use crate::object::{FieldLines, ObjectId};

    #[test]
    fn the_json_names_everything_and_is_json_for_any_key() {
        let object = ObjectId::new("b", "a\"\n#ü").unwrap();
        let failure = Failure::later("SlowDown", "S3 asks for time").at(&object);
        let (media, json) = render(&failure, Dialect::Blob, "id-1");
        assert_eq!(media, "application/json");
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "code": "SlowDown", "message": "S3 asks for time", "key": "a\"\n#ü", "bucket": "b", "request_id": "id-1"
            })
        );
    }

    #[test]
    fn the_xml_is_s3s_and_holds_any_key() {
        let failure = Failure::bad("InvalidArgument", "a < b & \u{1}c").about("b", Some("k\n\"'"));
        let (media, xml) = render(&failure, Dialect::S3, "id-1");
        assert_eq!(media, "application/xml");
        assert_eq!(
            String::from_utf8(xml).unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>InvalidArgument</Code>\
             <Message>a &lt; b &amp; c</Message><BucketName>b</BucketName><Key>k&#10;&quot;&apos;</Key>\
             <RequestId>id-1</RequestId></Error>"
        );
    }

    #[test]
    fn an_error_of_the_server_has_the_form_of_its_port() {
        let (media, json) = of_server(Dialect::Blob)("BadRequest", "no Host");
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            (media, &json["code"]),
            ("application/json", &"BadRequest".into())
        );
        let (media, xml) = of_server(Dialect::S3)("BadRequest", "no Host");
        assert_eq!(media, "application/xml");
        assert_eq!(
            String::from_utf8(xml).unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>BadRequest</Code><Message>no Host</Message></Error>"
        );
    }

    #[test]
    fn s3s_document_gets_the_request_id_of_its_answer() {
        for (theirs, ours) in [
            (
                "<Error><RequestId>9</RequestId><HostId>h</HostId></Error>",
                "<Error><RequestId>id-1</RequestId><HostId>h</HostId></Error>",
            ),
            (
                "<Error><Code>NoSuchKey</Code></Error>",
                "<Error><Code>NoSuchKey</Code></Error>",
            ),
        ] {
            let said = Said::new(FieldLines::default(), theirs).map(Arc::new);
            let failure =
                Failure::new(StatusCode::NOT_FOUND, "NoSuchKey", "").saying(said.as_ref());
            let (_, xml) = render(&failure, Dialect::S3, "id-1");
            assert_eq!(String::from_utf8(xml).unwrap(), ours);
        }
    }
}
