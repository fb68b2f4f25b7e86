//! CSV files: kept whole before they are answered, then read in the background; progress and verdicts to look at.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, Response};
use axum::response::IntoResponse;
use futures::StreamExt;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::auth::Caller;
use crate::api::body;
use crate::api::envelope::Data;
use crate::api::error::{Error, Problems};
use crate::api::extract::Id;
use crate::api::{Api, State, usage};
use crate::db::fault::within;
use crate::domain::ids::{CampaignId, UploadId, UserId, new_id};
use crate::store::uploads::{self, Row};

/// Bytes of a stored piece.
const PART_BYTES: usize = 1 << 20;

/// A received file.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UploadReceipt)]
pub struct Receipt {
    /// To look at under `/uploads/{id}`.
    pub upload_id: Uuid,
}

/// Whether a request brings a CSV file.
#[must_use]
pub fn is_csv(headers: &HeaderMap) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/csv")
}

/// Keeps the body as it comes, in pieces, and lets it be read once it is whole. What breaks off or is too large is dropped.
///
/// # Errors
/// 413 when it is too large, 400 when it breaks off, 408 when it stalls, 429 and 503 when there is no room for its pieces.
pub async fn receive(
    api: &Api,
    user: UserId,
    campaign: Option<CampaignId>,
    request: Request,
) -> Result<Receipt, Error> {
    let _room = body::room_for_pieces(api, body::tenant_of(&request), 2 * PART_BYTES).await?;
    let body = request.into_body();
    let id = UploadId(new_id());
    within(api.limits.patience, uploads::create(&api.db.work, id, user, campaign)).await?;
    let kept = keep(api, id, user, body).await;
    if kept.is_err() {
        // Should this fail too, the scheduler drops it within a day.
        let _ = within(api.limits.patience, uploads::discard(&api.db.work, id)).await;
    }
    kept
}

async fn keep(api: &Api, id: UploadId, user: UserId, body: Body) -> Result<Receipt, Error> {
    let pool = &api.db.work;
    let mut stream = body.into_data_stream();
    let (mut piece, mut nth, mut bytes) = (Vec::with_capacity(PART_BYTES), 0, 0);
    while let Some(chunk) = stream.next().await {
        let chunk: Bytes = chunk.map_err(|error| body::broken(&error))?;
        bytes += chunk.len();
        if bytes > api.limits.upload_bytes_max {
            return Err(Error::too_large(api.limits.upload_bytes_max));
        }
        piece.extend_from_slice(&chunk);
        if piece.len() >= PART_BYTES {
            usage::admit_bytes(api, user, piece.len()).await?;
            within(api.limits.patience, uploads::keep_part(pool, id, nth, &piece)).await?;
            nth += 1;
            piece.clear();
        }
    }
    if !piece.is_empty() {
        usage::admit_bytes(api, user, piece.len()).await?;
        within(api.limits.patience, uploads::keep_part(pool, id, nth, &piece)).await?;
    }
    let received = uploads::received(pool, id, i64::try_from(bytes).unwrap_or(i64::MAX));
    within(api.limits.patience, received).await?;
    Ok(Receipt { upload_id: id.0 })
}

/// How far an upload is; with `Accept: text/csv`, the verdict of each row read so far.
#[utoipa::path(get, path = "/uploads/{id}", tag = "campaigns", params(("id" = String, Path, description = "The upload's id")),
    responses((status = 200, description = "Progress, or the verdicts", content((Data<Row> = "application/json"), (String = "text/csv"))), Problems))]
pub async fn get_upload(state: State, caller: Caller, Id(id): Id, headers: HeaderMap) -> Result<Response<Body>, Error> {
    let id: UploadId = id.parse().map_err(|_| Error::not_found("upload"))?;
    let api = state.0;
    let row = uploads::get(&api.db.read, id, caller.scope()).await?.ok_or_else(|| Error::not_found("upload"))?;
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accepts.contains("text/csv") {
        return Ok(axum::Json(Data::of(row)).into_response());
    }
    let (pool, patience) = (api.db.read.clone(), api.limits.patience);
    let pieces = futures::stream::try_unfold(0, move |from_row| {
        let pool = pool.clone();
        async move { within(patience, uploads::verdicts(&pool, id, from_row)).await }
    });
    let header = futures::stream::once(async { Ok("row,number,status,callId,reason\n".to_owned()) });
    Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8")], Body::from_stream(header.chain(pieces))).into_response())
}
