//! Bodies of requests: each read into one buffer that has its place in a budget.
//!
//! **Invariant:** what bodies and what is made of them take in memory follows the budget: a body counts by its bytes, or by what it
//! weighs once it is parsed where that is more than four times as much; no tenant takes the whole budget.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use futures::StreamExt;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::Api;
use crate::api::auth::Caller;
use crate::api::error::Error;
use crate::api::shares::{Share, Shares, Tenant};

/// How long a request waits for room for its body.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
/// The unit room is counted in.
const KIB: usize = 1024;
/// A body up to this is read without asking for room: the limit of connections bounds those. Webhooks are not held up by lists.
const FREE_BYTES: usize = 64 * KIB;
/// Parsed, a body may take so many times its own bytes before the rest counts too.
const TIMES: usize = 4;
/// From this size on, a body that weighs more than [`TIMES`] its bytes, and this on top, is refused: nothing that is
/// valid consists of so many small values.
const DENSE_FROM: usize = 128 * KIB;
const DENSE_MORE: usize = 1 << 20;

/// The most bytes the bodies of a route may have: put on the route as an `Extension`.
#[derive(Clone, Copy, Debug)]
pub struct BytesMax(pub usize);

/// Nothing, or too little, came of a body for too long.
#[derive(Clone, Copy, Debug)]
pub struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body stalled")
    }
}

impl StdError for Stalled {}

/// Room for the bodies of all requests.
#[derive(Debug)]
pub struct Budget {
    all: Arc<Semaphore>,
    each: Shares,
    patience: Duration,
}

/// Room taken; given back when dropped.
#[derive(Debug, Default)]
pub struct Room {
    bytes: usize,
    taken: Vec<(Share, OwnedSemaphorePermit)>,
}

impl Budget {
    /// Room for so many bytes. A tenant gets at most half of it, or one body of the largest size.
    #[must_use]
    pub fn new(bytes: usize, largest_body: usize) -> Self {
        let all = (bytes / KIB).clamp(1, Semaphore::MAX_PERMITS);
        let each = (all / 2).max(largest_body.div_ceil(KIB)).min(all);
        Self { all: Arc::new(Semaphore::new(all)), each: Shares::new(each), patience: ROOM_PATIENCE }
    }

    /// Makes `room` at least so large.
    ///
    /// # Errors
    /// 429 when the tenant's other bodies take what it may have, 503 when all bodies together do.
    pub async fn grow(&self, room: &mut Room, tenant: Tenant, bytes: usize) -> Result<(), Error> {
        if bytes <= room.bytes || bytes <= FREE_BYTES {
            return Ok(());
        }
        let more = u32::try_from((bytes - room.bytes).div_ceil(KIB)).unwrap_or(u32::MAX);
        let share = self.each.take(tenant, more, self.patience).await.ok_or_else(Error::too_much_at_once)?;
        let place = tokio::time::timeout(self.patience, Arc::clone(&self.all).acquire_many_owned(more)).await;
        let place = place.ok().and_then(Result::ok).ok_or_else(Error::overloaded)?;
        room.taken.push((share, place));
        room.bytes = bytes;
        Ok(())
    }
}

/// A whole body, and its room.
#[derive(Debug)]
pub struct Whole {
    bytes: Vec<u8>,
    room: Room,
    tenant: Tenant,
}

impl Deref for Whole {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Whole {
    /// Reads a body, up to what its route allows.
    ///
    /// # Errors
    /// 413 when it is too large, 400 when it breaks off, 408 when it stalls, 429 and 503 when there is no room for it.
    pub async fn read(request: Request, api: &Api) -> Result<Self, Error> {
        let bytes_max = request.extensions().get::<BytesMax>().map_or(api.limits.body_bytes_max, |most| most.0);
        let tenant = tenant_of(&request);
        let body = request.into_body();
        let mut whole = Self { bytes: Vec::new(), room: Room::default(), tenant };
        let hint = body.size_hint();
        let declared = usize::try_from(hint.lower()).unwrap_or(usize::MAX);
        if declared > bytes_max {
            return Err(Error::too_large(bytes_max));
        }
        // What says its length gets its room at once, so that no two bodies wait for each other half-read.
        api.bodies.grow(&mut whole.room, tenant, declared).await?;
        whole.bytes.reserve_exact(declared);
        let mut frames = body.into_data_stream();
        while let Some(piece) = frames.next().await {
            let piece = piece.map_err(|error| broken(&error))?;
            let bytes = whole.bytes.len() + piece.len();
            if bytes > bytes_max {
                return Err(Error::too_large(bytes_max));
            }
            if bytes > whole.bytes.capacity() {
                let next = bytes.max(FREE_BYTES).next_power_of_two().min(bytes_max);
                api.bodies.grow(&mut whole.room, tenant, next).await?;
                whole.bytes.reserve_exact(next - whole.bytes.len());
            }
            whole.bytes.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    /// Takes room for what the body becomes when it is parsed.
    ///
    /// # Errors
    /// 400 when that is out of all proportion; 429 and 503 when there is no room.
    pub async fn charge_parsed(&mut self, api: &Api) -> Result<(), Error> {
        let weight = weight_of(&self.bytes);
        check_density(self.bytes.len(), weight)?;
        api.bodies.grow(&mut self.room, self.tenant, self.bytes.len().max(weight / TIMES)).await
    }

    /// The room alone, for what was made of the body.
    #[must_use]
    pub fn into_room(self) -> Room {
        self.room
    }
}

/// Room for a file that is kept piece by piece.
///
/// # Errors
/// 429 and 503 when there is none.
pub async fn room_for_pieces(api: &Api, tenant: Tenant, bytes: usize) -> Result<Room, Error> {
    let mut room = Room::default();
    api.bodies.grow(&mut room, tenant, bytes).await?;
    Ok(room)
}

/// Whose body it is.
#[must_use]
pub fn tenant_of(request: &axum::http::Request<Body>) -> Tenant {
    request.extensions().get::<Caller>().map_or(Tenant::Keyless, |caller| (*caller).into())
}

/// Why a body did not come whole.
#[must_use]
pub fn broken(error: &axum::Error) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(at) = cause {
        if at.is::<Stalled>() {
            return Error::request_timeout();
        }
        cause = at.source();
    }
    Error::invalid_field("body", "broke off")
}

/// # Errors
/// 400 for a large text of nothing but small values.
pub fn check_density(bytes: usize, weight: usize) -> Result<(), Error> {
    if bytes > DENSE_FROM && weight > bytes * TIMES + DENSE_MORE {
        return Err(Error::invalid_field("body", "has too many small values for its size"));
    }
    Ok(())
}

/// An answer's body that keeps something until it is sent, or given up: it is handed on in pieces, the next when there is room for it
/// on the way to the client, so that the last is handed on late.
#[derive(Debug)]
pub struct Keeping<T> {
    body: Body,
    /// What was taken from the body and not handed on.
    rest: Bytes,
    _kept: T,
}

const PIECE_BYTES: usize = 64 * KIB;

impl<T: Send + Unpin + 'static> Keeping<T> {
    pub fn body(body: Body, kept: T) -> Body {
        Body::new(Self { body, rest: Bytes::new(), _kept: kept })
    }
}

impl<T: Unpin> HttpBody for Keeping<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or_default();
        match self.body.size_hint().exact() {
            Some(exact) => SizeHint::with_exact(exact + rest),
            None => SizeHint::new(),
        }
    }
}

/// About what a text of JSON takes in memory as a tree of values, without making one.
#[must_use]
pub fn weight_of(json: &[u8]) -> usize {
    /// A value in its list, which grows by doubling.
    const VALUE: usize = 64;
    /// A map's node has room for eleven entries.
    const MAP: usize = 650;
    let (mut weight, mut in_text, mut escaped) = (json.len(), false, false);
    for byte in json {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
        } else {
            weight += match byte {
                b'"' => {
                    in_text = true;
                    VALUE / 2
                }
                b',' | b'[' => VALUE,
                b'{' => MAP,
                _ => 0,
            };
        }
    }
    weight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{UserId, new_id};

    const MIB: usize = 1 << 20;

    /// What is dense weighs many times its bytes, a long text hardly more than itself.
    #[test]
    fn weight_follows_what_is_made_of_it() {
        let dense = format!("[{}0]", r#"{"":0},"#.repeat(100_000));
        assert!(weight_of(dense.as_bytes()) > 60 * dense.len());
        assert!(check_density(dense.len(), weight_of(dense.as_bytes())).is_err());
        let text = format!(r#"{{"scriptId":"{}"}}"#, r#"a,[{\""#.repeat(100_000));
        assert!(weight_of(text.as_bytes()) < text.len() + 2000);
        assert!(check_density(text.len(), weight_of(text.as_bytes())).is_ok());
    }

    /// One tenant never takes all the room, what is small needs none, and what is given back can be had again.
    #[tokio::test]
    async fn room_is_shared() {
        let budget = Budget { patience: Duration::from_millis(20), ..Budget::new(8 * MIB, MIB) };
        let (one, other) = (Tenant::User(UserId(new_id())), Tenant::User(UserId(new_id())));
        let (mut full, mut more, mut small, mut others) =
            (Room::default(), Room::default(), Room::default(), Room::default());
        budget.grow(&mut full, one, 4 * MIB).await.expect("half of it");
        let refused = budget.grow(&mut more, one, MIB).await.expect_err("more than half");
        assert_eq!(refused.status(), 429);
        budget.grow(&mut small, one, 1000).await.expect("small ones are free");
        budget.grow(&mut others, other, 4 * MIB).await.expect("the other half");
        let mut third = Room::default();
        let refused = budget.grow(&mut third, Tenant::Keyless, MIB).await.expect_err("none left");
        assert_eq!(refused.status(), 503);
        drop(full);
        budget.grow(&mut third, Tenant::Keyless, MIB).await.expect("given back");
        // The largest body always fits, were it more than half.
        let budget = Budget::new(8 * MIB, 6 * MIB);
        budget.grow(&mut Room::default(), one, 6 * MIB).await.expect("one of the largest");
    }
}
