//! Whether S3 may have carried out any attempt of a write.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};

use super::Error;
use super::connector::NotSent;
use super::error::find;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Watches every attempt of one call. A clone watches the same call.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// An attempt has gone out, and nothing has come back yet. It stays set when the call is given up.
    under_way: AtomicBool,
    /// An attempt went out, and its end does not prove that S3 did nothing.
    uncertain: AtomicBool,
}

impl Attempts {
    /// False only if S3 was not reached, or refused each attempt.
    pub(super) fn may_have_happened(&self) -> bool {
        self.0.under_way.load(Ordering::Relaxed) || self.0.uncertain.load(Ordering::Relaxed)
    }

    /// The error of the last attempt, judged with those before it in mind.
    pub(super) fn judged(&self, error: Error) -> Error {
        if self.may_have_happened() {
            Error::Unknown(Box::new(error))
        } else {
            error
        }
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.under_way.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if !self.0.under_way.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let did_nothing = if let Some(answer) = context.response() {
            // With a 5xx, from S3 or from a proxy in front of it, the write may have begun.
            matches!(answer.status().as_u16(), 300..=499)
        } else {
            let failed = context.output_or_error().and_then(Result::err);
            let connector = failed.and_then(|error| error.as_connector_error());
            connector.is_some_and(|error| find::<NotSent>(error).is_some())
        };
        if !did_nothing {
            self.0.uncertain.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}
