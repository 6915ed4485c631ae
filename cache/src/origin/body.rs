//! The bytes of an answer: exactly as many as were promised.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use tokio::time::timeout;

use super::Error;
use crate::metrics::Metrics;

/// A body on its way. Read it to its `None`: only that proves the length.
#[derive(Debug)]
pub struct OriginBody {
    stream: ByteStream,
    /// How many of the first bytes are dropped.
    skip: u64,
    /// `None`: everything until the answer ends, as its framing says.
    promised: Option<u64>,
    came: u64,
    idle: Duration,
    endpoint: Arc<str>,
    metrics: Arc<Metrics>,
    ended: bool,
}

impl OriginBody {
    pub(super) fn new(
        stream: ByteStream,
        skip: u64,
        promised: Option<u64>,
        idle: Duration,
        endpoint: Arc<str>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            stream,
            skip,
            promised,
            came: 0,
            idle,
            endpoint,
            metrics,
            ended: false,
        }
    }

    /// The next piece; `None` after the last byte that was promised. After an error nothing more comes.
    ///
    /// A body that is too short or too long, or stalls, is an error. The bytes are S3's own: nothing is decoded.
    pub async fn next(&mut self) -> Option<Result<Bytes, Arc<Error>>> {
        if self.ended {
            return None;
        }
        let piece = self.piece().await;
        self.ended = !matches!(piece, Some(Ok(_)));
        piece.map(|piece| piece.map_err(Arc::new))
    }

    async fn piece(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            let Ok(piece) = timeout(self.idle, self.stream.next()).await else {
                return Some(Err(Error::Timeout {
                    endpoint: Arc::clone(&self.endpoint),
                    waited: self.idle,
                }));
            };
            let mut bytes = match piece {
                Some(Ok(bytes)) if bytes.is_empty() => continue,
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => {
                    return Some(Err(self.broken(&format!("it broke off: {error}"))));
                }
                None if self.promised.is_none_or(|bytes| bytes == self.came) => return None,
                None => return Some(Err(self.broken("it ended"))),
            };
            self.metrics.origin_bytes(bytes.len() as u64);
            if self.left().is_some_and(|left| bytes.len() as u64 > left) {
                return Some(Err(self.broken("it goes on")));
            }
            self.came += bytes.len() as u64;
            let skipped = bytes
                .len()
                .min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= bytes.split_to(skipped).len() as u64;
            if !bytes.is_empty() {
                return Some(Ok(bytes));
            }
        }
    }

    /// How many bytes are still to come, if that is known.
    fn left(&self) -> Option<u64> {
        self.promised.map(|promised| promised - self.came)
    }

    fn broken(&self, how: &str) -> Error {
        let promised = self
            .promised
            .map_or_else(|| "unknown number of".to_owned(), |bytes| bytes.to_string());
        Error::Broken(format!(
            "{how} after {} of the {promised} bytes that {} promised",
            self.came, self.endpoint
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(stream: &'static [u8], promised: u64) -> OriginBody {
        OriginBody::new(
            ByteStream::from_static(stream),
            0,
            Some(promised),
            Duration::from_secs(1),
            "test".into(),
            Arc::default(),
        )
    }

    #[tokio::test]
    async fn a_body_of_the_promised_length_ends_well() {
        let mut exact = body(b"abc", 3);
        assert_eq!(exact.next().await.unwrap().unwrap(), "abc");
        assert!(exact.next().await.is_none());
    }

    #[tokio::test]
    async fn bytes_that_were_not_asked_for_are_passed_over_and_counted() {
        let mut later = body(b"abcdef", 6);
        later.skip = 4;
        assert_eq!(later.next().await.unwrap().unwrap(), "ef");
        assert!(later.next().await.is_none());
    }

    #[tokio::test]
    async fn a_short_body_is_an_error_and_then_nothing() {
        let mut short = body(b"abc", 4);
        assert!(short.next().await.unwrap().is_ok());
        let error = short.next().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("3 of the 4 bytes"), "{error}");
        assert!(short.next().await.is_none());
    }

    #[tokio::test]
    async fn a_long_body_is_an_error_at_once() {
        let mut long = body(b"abc", 2);
        assert!(matches!(
            &*long.next().await.unwrap().unwrap_err(),
            Error::Broken(_)
        ));
    }
}
