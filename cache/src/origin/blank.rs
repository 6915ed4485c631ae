//! Keys that are all blanks, which S3 accepts and the SDK refuses to send. They pass through the SDK under another
//! name, and get their own back before the request is signed.

use std::borrow::Cow;
use std::error::Error as StdError;

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The prefix of such a key.
const MARK: &str = "falcon-a-key-of-blanks-follows:";

/// The key as it is given to the SDK.
pub(super) fn sendable(key: &str) -> Cow<'_, str> {
    if key.trim().is_empty() {
        Cow::Owned(format!("{MARK}{key}"))
    } else {
        Cow::Borrowed(key)
    }
}

/// Restores the keys.
#[derive(Debug)]
pub(super) struct BlankKeys;

impl Intercept for BlankKeys {
    fn name(&self) -> &'static str {
        "BlankKeys"
    }

    fn modify_before_retry_loop(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let request = context.request_mut();
        if let Some(uri) = restored(request.uri()) {
            request.set_uri(uri)?;
        }
        Ok(())
    }
}

/// The request's target without the mark, where a key of blanks follows it.
fn restored(uri: &str) -> Option<String> {
    let (path, query) = uri
        .split_once('?')
        .map_or((uri, None), |(path, query)| (path, Some(query)));
    let (before, name) = path.rsplit_once('/')?;
    let decoded = percent_decode_str(name).decode_utf8().ok()?;
    let key = decoded.strip_prefix(MARK)?;
    let encoded = utf8_percent_encode(key, NON_ALPHANUMERIC);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    key.trim()
        .is_empty()
        .then(|| format!("{before}/{encoded}{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_blanks_comes_out_as_it_went_in_and_others_are_left_alone() {
        for (key, path) in [(" ", "%20"), ("\t", "%09"), ("\u{a0} ", "%C2%A0%20")] {
            let sent = sendable(key);
            let encoded = utf8_percent_encode(&sent, NON_ALPHANUMERIC);
            assert_eq!(
                restored(&format!("/b/{encoded}?x-id=1")),
                Some(format!("/b/{path}?x-id=1"))
            );
        }
        assert_eq!(sendable(" a"), " a");
        assert_eq!(restored("/b/key?versionId=1"), None);
        assert_eq!(restored(&format!("/b/{MARK}a")), None);
    }
}
