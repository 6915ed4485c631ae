//! `aws-chunked`: the encoding in which SDKs stream an upload, and its trailers. Decoded here when nobody verifies its
//! signatures; otherwise s3s decodes it.

use async_stream::try_stream;
use axum::body::{Body, BodyDataStream};
use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::origin::Incoming;
use crate::store::Charge;

/// The longest line between two chunks: a length and a signature, or a trailer.
const LINE_BYTES: usize = 4096;

/// A signed chunk of at most this size is covered by the connection's own share. SDKs send 64 KiB.
const SMALL_CHUNK: u64 = 128 * 1024;

/// The most bytes of a signed chunk.
const LARGEST_SIGNED_CHUNK: u64 = 8 * 1024 * 1024;

/// A trailer that is about the encoding and not about the object.
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// Why a body can't be decoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error(transparent)]
    Body(#[from] axum::Error),
    #[error(
        "a signed chunk of {length} bytes is too large: its signature can only be verified when all of it is held; \
         send chunks of up to {LARGEST_SIGNED_CHUNK} bytes"
    )]
    TooLarge { length: u64 },
    #[error(
        "there is no memory for a signed chunk of {length} bytes now: send smaller ones, or try again"
    )]
    NoMemory { length: u64 },
    #[error("the aws-chunked body ended in the middle of a chunk")]
    Short,
    #[error("the aws-chunked body has no length where a chunk begins")]
    Length,
    #[error("the aws-chunked body has a chunk that does not end where it should")]
    End,
    #[error("the aws-chunked body has a trailer that is no header")]
    Trailer,
    #[error("the aws-chunked body holds {came} bytes; x-amz-decoded-content-length says {said}")]
    Total { came: u64, said: u64 },
}

/// Decodes the `length` bytes of a body, and its trailers.
pub(super) fn decode(body: Body, length: u64) -> Incoming {
    let body = StreamBody::new(frames(body.into_data_stream(), length));
    body.map_err(Into::into).boxed_unsync()
}

/// The same body in pieces that its verifier can hold, since it keeps each chunk until all of it has come.
///
/// Unsigned chunks are made smaller. Signed ones can't be: a large one is charged to the budget, and one that is too
/// large is refused.
pub(super) fn limit_chunks(
    body: Body,
    signed: bool,
    reserve: impl Fn(u64) -> BoxFuture<'static, Option<Charge>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Malformed>> + Send + 'static {
    try_stream! {
        let mut reader = ChunkReader { body: body.into_data_stream(), buffer: BytesMut::new() };
        loop {
            let line = reader.line().await?;
            let length = chunk_length(&line)?;
            let mut left = length;
            let mut charge = None;
            if length > SMALL_CHUNK && signed {
                if length > LARGEST_SIGNED_CHUNK {
                    Err(Malformed::TooLarge { length })?;
                }
                charge = reserve(length).await;
                if charge.is_none() {
                    Err(Malformed::NoMemory { length })?;
                }
            }
            if signed || length == 0 {
                yield line.freeze();
                yield Bytes::from_static(b"\r\n");
            }
            while left > 0 {
                let piece = reader.piece(left).await?;
                left -= piece.len() as u64;
                if signed {
                    yield piece;
                } else if !piece.is_empty() {
                    yield Bytes::from(format!("{:x}\r\n", piece.len()));
                    yield piece;
                    yield Bytes::from_static(b"\r\n");
                }
            }
            if length == 0 {
                break;
            }
            if !reader.line().await?.is_empty() {
                Err(Malformed::End)?;
            }
            if signed {
                yield Bytes::from_static(b"\r\n");
            }
            drop(charge);
        }
        // Trailers, which the verifier limits.
        if !reader.buffer.is_empty() {
            yield reader.buffer.split().freeze();
        }
        while let Some(bytes) = reader.body.next().await {
            yield bytes?;
        }
    }
}

fn frames(
    body: BodyDataStream,
    said: u64,
) -> impl Stream<Item = Result<Frame<Bytes>, Malformed>> + Send + 'static {
    try_stream! {
        let mut reader = ChunkReader { body, buffer: BytesMut::new() };
        let mut came = 0;
        loop {
            let mut left = chunk_length(&reader.line().await?)?;
            if left == 0 {
                break;
            }
            came += left;
            if came > said {
                Err(Malformed::Total { came, said })?;
            }
            while left > 0 {
                let piece = reader.piece(left).await?;
                left -= piece.len() as u64;
                yield Frame::data(piece);
            }
            if !reader.line().await?.is_empty() {
                Err(Malformed::End)?;
            }
        }
        if came != said {
            Err(Malformed::Total { came, said })?;
        }
        let mut trailers = HeaderMap::new();
        // The last chunk has come: a body that lacks only the final empty line is complete.
        while let Ok(line) = reader.line().await && !line.is_empty() {
            let (name, value) = trailer(&line).ok_or(Malformed::Trailer)?;
            if name != TRAILER_SIGNATURE {
                trailers.append(name, value);
            }
        }
        if !trailers.is_empty() {
            yield Frame::trailers(trailers);
        }
    }
}

/// The length at the beginning of a chunk; its signature, which follows, is not looked at.
fn chunk_length(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = std::str::from_utf8(digits).map_err(|_| Malformed::Length)?;
    // from_str_radix would accept a sign.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Malformed::Length);
    }
    u64::from_str_radix(digits, 16).map_err(|_| Malformed::Length)
}

fn trailer(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    Some((
        HeaderName::from_bytes(name.trim_ascii()).ok()?,
        HeaderValue::from_bytes(value).ok()?,
    ))
}

struct ChunkReader {
    body: BodyDataStream,
    buffer: BytesMut,
}

impl ChunkReader {
    async fn more(&mut self) -> Result<(), Malformed> {
        let bytes = self.body.next().await.ok_or(Malformed::Short)??;
        self.buffer.extend_from_slice(&bytes);
        Ok(())
    }

    /// The bytes up to the next end of a line, without it.
    async fn line(&mut self) -> Result<BytesMut, Malformed> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Ok(line);
            }
            if self.buffer.len() > LINE_BYTES {
                return Err(Malformed::Length);
            }
            self.more().await?;
        }
    }

    /// Some bytes of a chunk, at most `left`.
    async fn piece(&mut self, left: u64) -> Result<Bytes, Malformed> {
        if !self.buffer.is_empty() {
            let length = usize::try_from(left).unwrap_or(usize::MAX);
            let length = length.min(self.buffer.len());
            return Ok(self.buffer.split_to(length).freeze());
        }
        // A chunk's content is passed on without a copy.
        let mut bytes = self.body.next().await.ok_or(Malformed::Short)??;
        let length = usize::try_from(left).unwrap_or(usize::MAX);
        if bytes.len() > length {
            self.buffer.extend_from_slice(&bytes.split_off(length));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    /// What comes out of `encoded` when it arrives in pieces of `size` bytes.
    async fn decode(
        encoded: &[u8],
        length: u64,
        size: usize,
    ) -> Result<(Vec<u8>, HeaderMap), String> {
        let pieces: Vec<_> = encoded
            .chunks(size)
            .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
            .collect();
        let body = super::decode(Body::from_stream(stream::iter(pieces)), length);
        let collected = body.collect().await.map_err(|error| error.to_string())?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Ok((collected.to_bytes().to_vec(), trailers))
    }

    #[tokio::test]
    async fn a_body_is_the_same_in_whatever_pieces_it_arrives() {
        let signed = b"5;chunk-signature=aa\r\nhello\r\n6;chunk-signature=bb\r\n world\r\n0;chunk-signature=cc\r\n\r\n";
        let unsigned = b"b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\nx-amz-trailer-signature:0\r\n\r\n";
        for size in 1..signed.len() {
            let (bytes, trailers) = decode(signed, 11, size).await.unwrap();
            assert_eq!((bytes.as_slice(), trailers.len()), (&b"hello world"[..], 0));
            let (bytes, trailers) = decode(unsigned, 11, size).await.unwrap();
            assert_eq!(bytes, b"hello world");
            assert_eq!(trailers.len(), 1);
            assert_eq!(trailers["x-amz-checksum-crc32"], "DUoRhQ==");
        }
        assert_eq!(decode(b"0\r\n\r\n", 0, 9).await.unwrap().0, b"");
    }

    #[tokio::test]
    async fn a_body_that_is_not_what_it_says_is_an_error() {
        for (encoded, length, words) in [
            (&b"5\r\nhel"[..], 5, "middle of a chunk"),
            (b"5\r\nhello\r\n", 5, "middle of a chunk"),
            (b"5\r\nhelloX\r\n0\r\n\r\n", 5, "should"),
            (b"x\r\nhello\r\n", 5, "no length"),
            (b"+5\r\nhello\r\n0\r\n\r\n", 5, "no length"),
            (b"fffffffffffffffff\r\n", 5, "no length"),
            (b"5\r\nhello\r\n0\r\n\r\n", 6, "holds 5 bytes"),
            (b"5\r\nhello\r\n0\r\n\r\n", 4, "holds 5 bytes"),
            (b"5\r\nhello\r\n0\r\nodd\r\n\r\n", 5, "no header"),
        ] {
            let error = decode(encoded, length, 3).await.unwrap_err();
            assert!(error.contains(words), "{error}: {encoded:?}");
        }
    }

    /// What a verifier gets of `encoded`, with the largest chunk in it, when there is memory for nothing.
    async fn verified(encoded: &[u8], signed: bool, size: usize) -> Result<(Vec<u8>, u64), String> {
        let pieces: Vec<_> = encoded
            .chunks(size)
            .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
            .collect();
        let body = Body::from_stream(stream::iter(pieces));
        let none = |_| -> BoxFuture<'static, Option<Charge>> { Box::pin(async { None }) };
        let pieces: Vec<_> = limit_chunks(body, signed, none).collect().await;
        let mut whole = Vec::new();
        for piece in pieces {
            whole.extend_from_slice(&piece.map_err(|error| error.to_string())?);
        }
        let mut largest = 0;
        let mut rest = &whole[..];
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            let length = chunk_length(&rest[..end]).map_err(|error| error.to_string())?;
            largest = largest.max(length);
            let next = end + 2 + usize::try_from(length).unwrap() + 2;
            if length == 0 || next > rest.len() {
                break;
            }
            rest = &rest[next..];
        }
        Ok((whole, largest))
    }

    #[tokio::test]
    async fn a_verifier_never_has_to_hold_a_large_chunk() {
        let large = vec![b'x'; 1 << 20];
        let mut encoded = format!("{:x}\r\n", large.len()).into_bytes();
        encoded.extend_from_slice(&large);
        encoded.extend_from_slice(b"\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n");
        let (whole, chunk) = verified(&encoded, false, 10_000).await.unwrap();
        assert!(chunk <= 10_000, "{chunk}");
        let (bytes, trailers) = decode(&whole, 1 << 20, 7_000).await.unwrap();
        assert!(bytes == large);
        assert_eq!(trailers["x-amz-checksum-crc32"], "AAAAAA==");

        let small = b"5;chunk-signature=aa\r\nhello\r\n0;chunk-signature=cc\r\n\r\n";
        for size in 1..small.len() {
            assert_eq!(verified(small, true, size).await.unwrap().0, small);
        }
        // Without memory no large one is taken, and the largest ones never are.
        let error = verified(&encoded, true, 10_000).await.unwrap_err();
        assert!(error.contains("no memory"), "{error}");
        let error = verified(b"40000000;chunk-signature=aa\r\n", true, 99).await;
        assert!(error.unwrap_err().contains("too large"));
    }
}
