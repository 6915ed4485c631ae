//! A request's body that is read as a whole: charged as its bytes come, not when they are announced.

use axum::BoxError;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body;
use http_body_util::BodyExt;

use super::failure::Failure;
use super::status;
use crate::store::{Charge, Kind, Store};

/// These are covered by a connection's own share outside the budget, so a heartbeat never waits for memory.
const FREE_BYTES: u64 = 16 * 1024;

/// How long a body waits for memory.
const WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// Reads `body`, of at most `most` bytes. The charge is for more than [`FREE_BYTES`].
pub(crate) async fn buffer_body<B>(
    store: &Store,
    body: B,
    most: u64,
) -> Result<(Bytes, Option<Charge>), Failure>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let too_long = || {
        Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "EntityTooLarge",
            format_args!("the body must have at most {most} bytes"),
        )
    };
    if body.size_hint().lower() > most {
        return Err(too_long());
    }
    let (mut body, mut whole) = (body, BytesMut::new());
    let mut charge: Option<Charge> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let error: BoxError = error.into();
            status::of_body(&*error, StatusCode::BAD_REQUEST)
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = (whole.len() + data.len()) as u64;
        if length > most {
            return Err(too_long());
        }
        while length > FREE_BYTES && charge.as_ref().map_or(0, Charge::bytes) < length {
            // Doubles the charge.
            charge = Some(match charge.take() {
                None => more(store, FREE_BYTES).await?,
                Some(mut charge) => {
                    charge.absorb(more(store, charge.bytes()).await?);
                    charge
                }
            });
        }
        whole.extend_from_slice(&data);
    }
    Ok((whole.freeze(), charge))
}

async fn more(store: &Store, bytes: u64) -> Result<Charge, Failure> {
    let charge = store.reserve(Kind::Uploads, bytes, WAIT).await;
    charge.ok_or_else(|| {
        Failure::later(
            "NoMemory",
            "not enough memory for the request's body at the moment: try again",
        )
    })
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_body_is_charged_as_it_comes_and_no_longer_than_it_is_held() {
        let store = Store::new(1 << 20, 0);
        let pieces = |count: usize| {
            let pieces = (0..count).map(|_| Ok::<_, BoxError>(Bytes::from(vec![1; 10_000])));
            axum::body::Body::from_stream(stream::iter(pieces))
        };
        let (bytes, charge) = buffer_body(&store, pieces(1), 100_000).await.ok().unwrap();
        assert!(bytes.len() == 10_000 && charge.is_none());
        let (bytes, charge) = buffer_body(&store, pieces(7), 100_000).await.ok().unwrap();
        let charge = charge.unwrap();
        assert_eq!((bytes.len(), charge.bytes()), (70_000, 128 * 1024));
        drop(charge);
        assert_eq!(store.budget().used(), 0);
        let refused = buffer_body(&store, pieces(11), 100_000)
            .await
            .err()
            .unwrap();
        assert_eq!(refused.status().as_u16(), 413);
        assert_eq!(store.budget().used(), 0);
    }
}
