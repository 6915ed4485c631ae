//! ListBuckets: those of S3's buckets that the cache serves and the caller may read.

use axum::response::{IntoResponse, Response};
use http::header;

use super::address::Parameters;
use crate::access::{Caller, Target, Verb};
use crate::web::failure::Failure;
use crate::web::services::Services;
use crate::web::xml::push_element;

const BEGIN: &str = r#"<?xml version="1.0" encoding="UTF-8"?><ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">"#;

/// The most buckets in one answer, and the default, as at S3.
const MOST_BUCKETS: usize = 10_000;

/// The page that is asked for.
struct BucketPage<'a> {
    prefix: &'a str,
    most: usize,
    /// The last name of the previous page.
    after: &'a str,
}

impl<'a> BucketPage<'a> {
    fn parse(parameters: &'a Parameters) -> Result<Self, Failure> {
        let said = |name: &str| parameters.get(name);
        let most = match said("max-buckets") {
            None => MOST_BUCKETS,
            Some(text) => text
                .parse()
                .ok()
                .filter(|most| (1..=MOST_BUCKETS).contains(most))
                .ok_or_else(|| {
                    Failure::bad(
                        "InvalidArgument",
                        format_args!(
                            "max-buckets must be a number from 1 to {MOST_BUCKETS}; got {text:?}"
                        ),
                    )
                })?,
        };
        Ok(Self {
            prefix: said("prefix").unwrap_or_default(),
            most,
            after: said("continuation-token").unwrap_or_default(),
        })
    }
}

/// The answer to ListBuckets.
pub(super) async fn list(
    services: &Services,
    who: &Caller,
    parameters: &Parameters,
) -> Result<Response, Failure> {
    let page = BucketPage::parse(parameters)?;
    let mut listed = services.origin.buckets().await?;
    let mut xml = BEGIN.to_owned();
    xml.push_str("<Owner>");
    for (tag, value) in [
        ("ID", &listed.owner_id),
        ("DisplayName", &listed.owner_name),
    ] {
        if let Some(value) = value {
            push_element(&mut xml, tag, value);
        }
    }
    xml.push_str("</Owner><Buckets>");
    let may = |name: &str| {
        services.settings.buckets.contains(name) && who.may(Verb::Read, name, Target::Bucket)
    };
    listed.buckets.sort();
    listed.buckets.retain(|(name, _)| {
        name.starts_with(page.prefix) && name.as_str() > page.after && may(name)
    });
    for (name, created) in listed.buckets.iter().take(page.most) {
        xml.push_str("<Bucket>");
        push_element(&mut xml, "Name", name);
        push_element(&mut xml, "CreationDate", created);
        xml.push_str("</Bucket>");
    }
    xml.push_str("</Buckets>");
    if let Some((last, _)) = listed.buckets.get(page.most - 1)
        && listed.buckets.len() > page.most
    {
        push_element(&mut xml, "ContinuationToken", last);
    }
    if !page.prefix.is_empty() {
        push_element(&mut xml, "Prefix", page.prefix);
    }
    xml.push_str("</ListAllMyBucketsResult>");
    Ok(([(header::CONTENT_TYPE, "application/xml")], xml).into_response())
}
