//! The SDK's request as an envelope: its content is replaced before it is signed.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::primitives::SdkBody;
use http::{HeaderMap, Method};

use super::connector::RawHeaders;

type BoxError = Box<dyn StdError + Send + Sync>;

/// What replaces the content of the SDK's request.
pub(super) struct Envelope {
    content: Mutex<Option<Content>>,
    /// Headers whose values are not text.
    raw: HeaderMap,
    expects: bool,
}

pub(super) struct Content {
    pub(super) method: Method,
    /// The request is for the bucket itself.
    pub(super) whole_bucket: bool,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: SdkBody,
    /// Trailers follow the body.
    pub(super) trailing: bool,
    /// S3 looks at the head before it gets the body.
    pub(super) expects: bool,
}

impl Envelope {
    pub(super) fn new(content: Content) -> Self {
        let headers = content.headers.iter();
        let raw = headers.filter(|(_, value)| std::str::from_utf8(value.as_bytes()).is_err());
        let raw = raw.map(|(name, value)| (name.clone(), value.clone()));
        Self {
            raw: raw.collect(),
            expects: content.expects,
            content: Mutex::new(Some(content)),
        }
    }
}

/// Replaces it.
pub(super) struct Carrier(pub(super) Arc<Envelope>);

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrier")
    }
}

impl Intercept for Carrier {
    fn name(&self) -> &'static str {
        "Carrier"
    }

    /// Once, before the first try: later tries are copies of the result.
    fn modify_before_retry_loop(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let inside = self
            .0
            .content
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let inside = inside.ok_or("an envelope is sent once")?;
        let request = context.request_mut();
        let path = match request.uri().split_once('?') {
            _ if inside.whole_bucket => "/",
            Some((path, _)) => path,
            None => request.uri(),
        };
        let uri = if inside.query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", inside.query)
        };
        request.set_uri(uri)?;
        request.set_method(inside.method.as_str())?;
        for (name, value) in &inside.headers {
            // A value that is not text goes out unsigned, with each attempt.
            if let Ok(value) = std::str::from_utf8(value.as_bytes()) {
                let name = name.as_str().to_owned();
                request.headers_mut().try_append(name, value.to_owned())?;
            }
        }
        *request.body_mut() = inside.body;
        if inside.trailing {
            let unsigned = PayloadSigningOverride::StreamingUnsignedPayloadTrailer;
            config.interceptor_state().store_put(unsigned);
        }
        Ok(())
    }

    /// Adds what is not signed.
    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        if self.0.expects {
            request.headers_mut().insert("expect", "100-continue");
        }
        if !self.0.raw.is_empty() {
            request.add_extension(RawHeaders(self.0.raw.clone()));
        }
        Ok(())
    }
}
