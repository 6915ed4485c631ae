//! ListBuckets: of the origin's buckets those that the cache serves and the caller may read.

use axum::response::{IntoResponse, Response};
use http::header;

use super::Door;
use crate::access::{Caller, Target, Verb};
use crate::api::error::{Failure, element};

const BEGIN: &str = r#"<?xml version="1.0" encoding="UTF-8"?><ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">"#;

impl Door {
    pub(super) async fn buckets(&self, who: &Caller) -> Result<Response, Failure> {
        let listed = self.parts().origin.buckets().await?;
        let mut xml = BEGIN.to_owned();
        xml.push_str("<Owner>");
        for (tag, value) in [
            ("ID", &listed.owner_id),
            ("DisplayName", &listed.owner_name),
        ] {
            if let Some(value) = value {
                element(&mut xml, tag, value);
            }
        }
        xml.push_str("</Owner><Buckets>");
        let may = |name: &str| {
            self.parts().settings.allows(name) && who.may(Verb::Read, name, Target::Bucket)
        };
        for (name, created) in listed.buckets.iter().filter(|(name, _)| may(name)) {
            xml.push_str("<Bucket>");
            element(&mut xml, "Name", name);
            element(&mut xml, "CreationDate", created);
            xml.push_str("</Bucket>");
        }
        xml.push_str("</Buckets></ListAllMyBucketsResult>");
        Ok(([(header::CONTENT_TYPE, "application/xml")], xml).into_response())
    }
}
