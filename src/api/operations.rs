//! Health and numbers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::auth::Caller;
use crate::api::error::{Error, Problems};
use crate::api::{Api, DATABASE_PATIENCE, State};
use crate::domain::call::CallStatus;
use crate::store::installation::{Alarm, Processes};
use crate::store::{calls, installation};
use crate::telemetry;
use crate::telemetry::vitals::Vital;

/// How this process is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`; `degraded`: it works, and `alarms` say what is wrong; `unavailable`: the database is away, or this process is stuck.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// `up` or `down`.
    pub database: &'static str,
    pub provider: String,
    /// The provider's circuit breaker, over all processes: `closed`; `open`, it does not answer and nothing is dialed; `half-open`, one
    /// dial at a time tries it.
    #[schema(example = "closed")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    /// The most live calls the provider is asked for at the moment, where that was learned from its refusals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_ceiling: Option<i32>,
    pub role: String,
    pub version: &'static str,
    /// Running processes by role, and when any of them last did what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Processes>,
    /// What is wrong, and the way out.
    pub alarms: Vec<Alarm>,
}

/// A process that has not taken a turn for so long is stuck.
const STUCK_AFTER_SECS: f64 = 60.0;

/// Health and metrics alone, for processes without the role `api`.
pub fn router() -> Router<Arc<Api>> {
    use axum::routing::get;
    Router::new()
        .route("/health", get(get_health))
        .route("/health/live", get(get_liveness))
        .route("/health/ready", get(get_readiness))
        .route("/metrics", get(get_metrics_negotiated))
        .route("/metrics/prometheus", get(get_prometheus))
}

/// Whether the service works; 503 says which part is down.
#[utoipa::path(get, path = "/health", tag = "operations", security(()),
    responses((status = 200, description = "It works", body = Health), (status = 503, description = "A part is down", body = Health)))]
pub async fn get_health(state: State) -> (StatusCode, axum::Json<Health>) {
    health(&state.0).await
}

/// Whether requests should be sent here.
#[utoipa::path(get, path = "/health/ready", tag = "operations", security(()),
    responses((status = 200, description = "Ready", body = Health), (status = 503, description = "Not ready", body = Health)))]
pub async fn get_readiness(state: State) -> (StatusCode, axum::Json<Health>) {
    health(&state.0).await
}

/// Whether the process lives.
#[utoipa::path(get, path = "/health/live", tag = "operations", security(()),
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain")))]
pub async fn get_liveness() -> &'static str {
    "ok"
}

async fn health(api: &Api) -> (StatusCode, axum::Json<Health>) {
    let pool = &api.db.gate;
    let asking = async {
        let ping = installation::ping(pool).await?;
        Ok::<_, sqlx::Error>((ping, installation::processes(pool).await?, installation::alarms(pool).await?))
    };
    let answers = tokio::time::timeout(DATABASE_PATIENCE.min(Duration::from_secs(2)), asking).await;
    let (ping, processes, alarms) = match answers.ok().and_then(Result::ok) {
        Some((ping, processes, alarms)) => (Some(ping), Some(processes), alarms),
        None => (None, None, Vec::new()),
    };
    let up = ping.as_ref().is_some_and(|ping| ping.writable);
    let stuck = api.vitals.secs_since(Vital::Turn).is_some_and(|secs| secs > STUCK_AFTER_SECS);
    let status = match (up && !stuck, alarms.is_empty()) {
        (false, _) => "unavailable",
        (true, false) => "degraded",
        (true, true) => "ok",
    };
    let health = Health {
        status,
        database: if up { "up" } else { "down" },
        provider: api.about.provider.clone(),
        breaker: ping.as_ref().and_then(|ping| ping.breaker.clone()),
        provider_ceiling: ping.and_then(|ping| ping.provider_ceiling),
        role: api.about.role.clone(),
        version: env!("CARGO_PKG_VERSION"),
        processes,
        alarms,
    };
    (if up && !stuck { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, axum::Json(health))
}

/// Calls by status.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct Counts {
    pub pending: i64,
    pub in_progress: i64,
    pub completed: i64,
    pub failed: i64,
    pub expired: i64,
    pub canceled: i64,
    /// Their sum.
    #[serde(rename = "total")]
    pub total: i64,
}

/// `{"success":true,"data":…,"timestamp":…}`
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Metrics {
    /// Always true.
    pub success: bool,
    pub data: Counts,
    pub timestamp: DateTime<Utc>,
}

/// The caller's own calls by status, exact at this moment.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Counts", body = Metrics), Problems))]
pub async fn get_metrics(state: State, caller: Caller) -> Result<axum::Json<Metrics>, Error> {
    let data = counts(&state.0, caller).await?;
    Ok(axum::Json(Metrics { success: true, data, timestamp: Utc::now() }))
}

async fn counts(api: &Api, caller: Caller) -> Result<Counts, Error> {
    let mut counts = Counts::default();
    for (status, n) in calls::tallies(&api.db.read, caller.scope(), None).await? {
        let slot = match status.as_str() {
            "PENDING" => &mut counts.pending,
            "IN_PROGRESS" => &mut counts.in_progress,
            "COMPLETED" => &mut counts.completed,
            "FAILED" => &mut counts.failed,
            "EXPIRED" => &mut counts.expired,
            "CANCELED" => &mut counts.canceled,
            _ => continue,
        };
        *slot += n;
        counts.total += n;
    }
    Ok(counts)
}

/// `/metrics` at the root: Prometheus text for those who ask for text or OpenMetrics, JSON for everybody else.
///
/// # Errors
/// As the two it stands for.
pub async fn get_metrics_negotiated(state: State, caller: Caller, headers: HeaderMap) -> Result<Response<Body>, Error> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/plain") || accept.contains("openmetrics") {
        get_prometheus(state, caller).await
    } else {
        Ok(get_metrics(state, caller).await?.into_response())
    }
}

/// Everything counted, as Prometheus text; for admins, since it is over all users.
#[utoipa::path(get, path = "/metrics/prometheus", tag = "operations",
    responses((status = 200, description = "Prometheus text", body = String, content_type = "text/plain"), Problems))]
pub async fn get_prometheus(state: State, caller: Caller) -> Result<Response<Body>, Error> {
    caller.require_admin()?;
    let counts = counts(&state.0, caller).await?;
    let by_status = [
        (CallStatus::Pending, counts.pending),
        (CallStatus::InProgress, counts.in_progress),
        (CallStatus::Completed, counts.completed),
        (CallStatus::Failed, counts.failed),
        (CallStatus::Expired, counts.expired),
        (CallStatus::Canceled, counts.canceled),
    ];
    for (status, n) in by_status {
        #[expect(
            clippy::as_conversions,
            clippy::cast_precision_loss,
            reason = "gauges are f64; exact up to 2^53 calls"
        )]
        metrics::gauge!("outdial_calls", "status" => status.as_str()).set(n as f64);
    }
    let handle = telemetry::registry();
    handle.run_upkeep();
    let mut response = handle.render().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    Ok(response)
}
