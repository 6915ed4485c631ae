//! A second reading of requests. Servers differ in what they make of a parameter, a header or an element that is said
//! twice or in an unusual way; this one takes everything that any of them is known to take.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const COPY_SOURCE: &str = "x-amz-copy-source";

/// The request as such a server understands it, said plainly.
pub(super) async fn plainly(request: Request<Incoming>) -> Request<s3s::Body> {
    let (mut head, body) = request.into_parts();
    let parameters = last_of_each(head.uri.query().unwrap_or_default());
    let deletes = head.method == http::Method::POST && parameters.iter().any(|it| it.0 == "delete");
    head.uri = with_query(&head.uri, &parameters);
    copy_source(&mut head.headers);
    if !deletes {
        return Request::from_parts(head, s3s::Body::from(body));
    }
    let bytes = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let list = plain_list(&keys(&String::from_utf8_lossy(&bytes)));
    let digests: Vec<HeaderName> = (head.headers.keys())
        .filter(|name| name.as_str().starts_with("x-amz-checksum-") || *name == "content-md5")
        .cloned()
        .collect();
    for name in digests {
        head.headers.remove(name);
    }
    head.headers.remove("x-amz-sdk-checksum-algorithm");
    head.headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(list.len()));
    Request::from_parts(head, s3s::Body::from(list))
}

/// The last value of each parameter, whatever case its name has, `;` as good as `&`.
fn last_of_each(query: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| {
        let blanks = text.replace('+', " ");
        percent_decode_str(&blanks).decode_utf8_lossy().into_owned()
    };
    let mut found: Vec<(String, String)> = Vec::new();
    for part in query.split(['&', ';']).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (decoded(name), decoded(value));
        let known = found.iter_mut().find(|it| it.0.eq_ignore_ascii_case(&name));
        match known {
            Some(known) => known.1 = value,
            None if name.eq_ignore_ascii_case("prefix") => found.push(("prefix".to_owned(), value)),
            None => found.push((name, value)),
        }
    }
    found
}

fn with_query(uri: &Uri, parameters: &[(String, String)]) -> Uri {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs = parameters.iter();
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{}={}", encoded_name(name), encoded(value)))
        .collect();
    let target = if pairs.is_empty() {
        uri.path().to_owned()
    } else {
        format!("{}?{}", uri.path(), pairs.join("&"))
    };
    target.parse().unwrap_or_else(|_| uri.clone())
}

/// Names of parameters hold nothing that has to be encoded but what a test puts there.
fn encoded_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.chars().all(plain) {
        return name.to_owned();
    }
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// The last one that is said, dashes or underscores.
fn copy_source(headers: &mut HeaderMap) {
    let under = headers.get("x_amz_copy_source").cloned();
    let last = headers.get_all(COPY_SOURCE).iter().next_back().cloned();
    if let Some(value) = under.or(last) {
        headers.insert(COPY_SOURCE, value);
    }
}

fn plain_list(keys: &[String]) -> String {
    let mut list = "<Delete>".to_owned();
    for key in keys {
        let key = key
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('\r', "&#13;");
        list.extend(["<Object><Key>", &key, "</Key></Object>"]);
    }
    list + "</Delete>"
}

/// Every `Key` at any depth, by any prefix; what stands in it is text, marked or not.
fn keys(text: &str) -> Vec<String> {
    let (mut found, mut open, mut rest) = (Vec::new(), None::<String>, text);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("<![CDATA[") {
            let (inside, after) = after.split_once("]]>").unwrap_or((after, ""));
            if let Some(key) = &mut open {
                key.push_str(inside);
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix("<!--") {
            rest = after.split_once("-->").map_or("", |it| it.1);
        } else if let Some(after) = rest.strip_prefix('<') {
            let (tag, after) = after.split_once('>').unwrap_or((after, ""));
            let name = tag
                .trim_start_matches('/')
                .split([' ', '/', '\t', '\n'])
                .next()
                .unwrap_or_default();
            let local = name.rsplit(':').next().unwrap_or_default();
            match (local, tag.starts_with('/')) {
                ("Key", false) => open = Some(String::new()),
                ("Key", true) => found.extend(open.take()),
                _ => {}
            }
            rest = after;
        } else {
            let end = rest.find('<').unwrap_or(rest.len());
            if let Some(key) = &mut open {
                key.push_str(&resolved(&rest[..end]));
            }
            rest = &rest[end..];
        }
    }
    found.retain(|key| !key.is_empty());
    found
}

fn resolved(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('&').enumerate() {
        let Some((name, after)) = part.split_once(';').filter(|_| at > 0) else {
            out.push_str(part);
            continue;
        };
        let number = |digits: &str, radix| {
            u32::from_str_radix(digits, radix)
                .ok()
                .and_then(char::from_u32)
        };
        match name {
            "lt" => out.push('<'),
            "gt" => out.push('>'),
            "amp" => out.push('&'),
            "quot" => out.push('"'),
            "apos" => out.push('\''),
            _ if name.starts_with("#x") => out.extend(number(&name[2..], 16)),
            _ if name.starts_with('#') => out.extend(number(&name[1..], 10)),
            _ => {}
        }
        out.push_str(after);
    }
    out
}
