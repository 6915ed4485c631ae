//! S3's answers as they came: status, header fields as bytes, body. The SDK signs, connects and retries; its reading of
//! an answer is not used, since its types are stricter about headers than necessary, and drop those that they don't
//! know.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::primitives::SdkBody;
use http::{HeaderMap, StatusCode};

use super::Error;
use super::head::headers_of;

/// A successful answer.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: SdkBody,
}

/// Takes a successful answer before the SDK reads it. A clone takes into the same place.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken(Arc<Mutex<Option<HttpResponse>>>);

impl Taken {
    /// The answer that came last.
    pub(super) fn answer(&self) -> Result<Raw, Error> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = taken
            .take()
            .ok_or_else(|| Error::Broken("it was not seen".to_owned()))?;
        Ok(Raw {
            status: status_of(&answer)?,
            headers: headers_of(&answer),
            body: answer.into_body(),
        })
    }
}

impl Intercept for Taken {
    fn name(&self) -> &'static str {
        "Taken"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let response = context.response_mut();
        if response.status().is_success() {
            let nothing = HttpResponse::new(response.status(), SdkBody::empty());
            let taken = std::mem::replace(response, nothing);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        }
        Ok(())
    }
}

pub(super) fn status_of(answer: &HttpResponse) -> Result<StatusCode, Error> {
    StatusCode::from_u16(answer.status().as_u16())
        .map_err(|_| Error::Broken("its status is not an HTTP status".to_owned()))
}
