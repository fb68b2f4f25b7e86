//! The REST API: JSON in and out, webhooks in, OpenAPI from the same registration as the routes.
//!
//! A handler parses, makes one call into a lower floor, and shapes the answer. **Invariant:** no SQL here, and no database text
//! reaches a client. Writes run to their end even if the client hangs up ([`Api::detached`]).

pub mod answers;
pub mod auth;
pub mod body;
pub mod calls;
pub mod campaigns;
pub mod endpoints;
pub mod envelope;
pub mod error;
pub mod extract;
pub mod faults;
pub mod idempotent;
pub mod keyless;
pub mod keys;
pub mod legal_hours;
pub mod numbers;
pub mod operations;
pub mod owner;
pub mod paging;
pub mod plans;
pub mod prospects;
pub mod rates;
pub mod rows;
pub mod schedules;
pub mod scopes;
pub mod scripts;
pub mod settings;
pub mod shares;
pub mod test_numbers;
pub mod uploads;
pub mod usage;
pub mod users;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::FromRequestParts;
use axum::http::{Method, Request, Response, header};
use axum::response::IntoResponse;
use axum::{Extension, Router};
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::api::answers::Answers;
use crate::api::auth::{Caller, SecuritySchemes};
use crate::api::body::{Budget, BytesMax, Keeping};
use crate::api::error::Error;
use crate::api::shares::Shares;
use crate::db::Db;
use crate::db::doorbell::Doorbell;
use crate::outcome::inbox::Inbox;
use crate::planner;
use crate::queue::Enqueuer;
use crate::telemetry::vitals::Vitals;

/// What handlers share.
#[derive(Debug)]
pub struct Api {
    pub db: Db,
    pub enqueuer: Enqueuer,
    pub inbox: Inbox,
    pub doorbell: Doorbell,
    /// What this process last did.
    pub vitals: Arc<Vitals>,
    pub who: auth::Rules,
    pub webhooks: webhooks::Rules,
    pub limits: Limits,
    /// Reads of each tenant under way.
    pub reads: Shares,
    /// Room for bodies.
    pub bodies: Budget,
    /// Room for what was read.
    pub answers: Answers,
    /// What tenants have waiting and stored.
    pub known: usage::Known,
    pub about: About,
    /// Writes under way; shutdown waits for them.
    pub writes: TaskTracker,
}

/// Sizes and defaults.
#[derive(Clone, Debug)]
pub struct Limits {
    pub body_bytes_max: usize,
    pub list_body_bytes_max: usize,
    pub upload_bytes_max: usize,
    pub batch_rows_max: usize,
    pub max_attempts: i16,
    /// A request that the database has not answered for so long is told 503.
    pub patience: Duration,
    /// A claim older than this is looked at again before it is sent: what forbids calls answers only after it.
    pub look_again_after: Duration,
    /// Users may register endpoints on this machine and its network.
    pub allow_internal_endpoints: bool,
    /// The operator's single calls go into the lanes of their zones.
    pub sorts_operator: bool,
    /// Phones may ring: numbers that no network takes are refused.
    pub refuses_impossible: bool,
    /// Of a planning batch.
    pub planner: planner::Limits,
}

/// What the health page says of this process.
#[derive(Clone, Debug)]
pub struct About {
    pub role: String,
    pub provider: String,
}

/// The handlers' state: cheap to clone.
pub type State = axum::extract::State<Arc<Api>>;

impl Api {
    /// Runs a write to its end, whether or not the client stays.
    ///
    /// # Errors
    /// The work's own error; 500 when it panicked.
    pub async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        // A connection that swallows what is sent must not keep the write, and its connection, for ever.
        let patience = self.limits.patience * 2;
        let bounded = async move {
            tokio::time::timeout(patience, work).await.unwrap_or_else(|late| Err(Error::unavailable(late.into())))
        };
        self.writes.spawn(bounded).await.map_err(|panic| Error::internal(anyhow::Error::new(panic)))?
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "outdial",
        description = "Outbound AI phone calls: create, schedule, watch and steer them. Errors are application/problem+json (RFC 9457).",
        license(name = "MIT", identifier = "MIT")
    ),
    servers((url = "/", description = "this service")),
    modifiers(&SecuritySchemes),
    tags(
        (name = "calls", description = "The job: reach this number with this script"),
        (name = "campaigns", description = "Lists of calls, their schedules and numbers, and whom nobody may call"),
        (name = "users", description = "Tenants: whose calls these are, how they are made, and what they may use"),
        (name = "prospects", description = "People to be called, planned by the users' settings, and what came of it"),
        (name = "webhooks", description = "What the provider says, and what users are told"),
        (name = "operations", description = "Health and numbers")
    )
)]
struct Document;

fn documented(limits: &Limits) -> OpenApiRouter<Arc<Api>> {
    let lists = OpenApiRouter::new()
        .routes(routes!(calls::create::create_calls))
        .routes(routes!(campaigns::numbers::add_numbers))
        .routes(routes!(prospects::create_prospect))
        .layer(Extension(BytesMax(limits.list_body_bytes_max)));
    let versioned = OpenApiRouter::new()
        .routes(routes!(calls::create::create_call, calls::read::list_calls))
        .routes(routes!(calls::create::schedule_call))
        .routes(routes!(calls::read::get_call, calls::steer::update_call))
        .routes(routes!(calls::steer::cancel_call))
        .routes(routes!(calls::steer::retry_call))
        .routes(routes!(calls::steer::end_call))
        .routes(routes!(users::create_user, users::list_users))
        .routes(routes!(usage::get_usage))
        .routes(routes!(users::get_user, users::update_user, users::delete_user))
        .routes(routes!(settings::put_settings, settings::get_settings))
        .routes(routes!(plans::put_subscription, plans::get_subscription))
        .routes(routes!(plans::create_plan, plans::list_plans))
        .routes(routes!(plans::get_plan, plans::update_plan, plans::delete_plan))
        .routes(routes!(keys::create_key, keys::list_keys))
        .routes(routes!(keys::delete_key))
        .routes(routes!(keys::create_admin_key, keys::list_admin_keys))
        .routes(routes!(keys::delete_admin_key))
        .routes(routes!(endpoints::create_endpoint, endpoints::list_endpoints))
        .routes(routes!(endpoints::get_endpoint, endpoints::update_endpoint, endpoints::delete_endpoint))
        .routes(routes!(endpoints::list_deliveries))
        .routes(routes!(endpoints::rotate_secret))
        .routes(routes!(endpoints::replay_delivery))
        .routes(routes!(prospects::list_prospects))
        .routes(routes!(prospects::get_prospect, prospects::update_prospect, prospects::delete_prospect))
        .routes(routes!(prospects::get_planning))
        .routes(routes!(prospects::plan_now))
        .routes(routes!(prospects::list_appointments))
        .routes(routes!(prospects::get_conversation))
        .routes(routes!(numbers::suppress_for_user, numbers::list_suppressions_of_user))
        .routes(routes!(numbers::unsuppress_for_user))
        .routes(routes!(schedules::create_schedule, schedules::list_schedules))
        .routes(routes!(schedules::get_schedule, schedules::update_schedule, schedules::delete_schedule))
        .routes(routes!(scripts::create_script, scripts::list_scripts))
        .routes(routes!(scripts::get_script, scripts::update_script, scripts::delete_script))
        .routes(routes!(campaigns::create_campaign, campaigns::list_campaigns))
        .routes(routes!(campaigns::get_campaign, campaigns::update_campaign, campaigns::delete_campaign))
        .routes(routes!(campaigns::pause_campaign))
        .routes(routes!(campaigns::resume_campaign))
        .routes(routes!(campaigns::start_campaign))
        .routes(routes!(campaigns::cancel_campaign))
        .routes(routes!(campaigns::get_campaign_stats))
        .routes(routes!(campaigns::explain_campaign))
        .routes(routes!(campaigns::list_campaign_calls))
        .routes(routes!(uploads::get_upload))
        .routes(routes!(numbers::create_phone_number, numbers::list_phone_numbers))
        .routes(routes!(numbers::get_phone_number, numbers::update_phone_number, numbers::delete_phone_number))
        .routes(routes!(numbers::suppress_for_all, numbers::list_suppressions))
        .routes(routes!(numbers::unsuppress_for_all))
        .routes(routes!(legal_hours::list_legal_hours, legal_hours::put_legal_hours))
        .routes(routes!(legal_hours::delete_legal_hours))
        .routes(routes!(rates::list_rates, rates::put_rates))
        .routes(routes!(test_numbers::list_test_numbers, test_numbers::add_test_number))
        .routes(routes!(test_numbers::remove_test_number))
        .routes(routes!(operations::get_metrics))
        .routes(routes!(webhooks::receive_call_status))
        .layer(Extension(BytesMax(limits.body_bytes_max)))
        .merge(lists);
    OpenApiRouter::with_openapi(Document::openapi())
        .nest("/api/v1", versioned)
        .routes(routes!(webhooks::receive_outcome))
        .routes(routes!(webhooks::receive_ultravox))
        .routes(routes!(webhooks::receive_reported_outcome))
        .routes(routes!(webhooks::receive_telnyx))
        .routes(routes!(operations::get_health))
        .routes(routes!(operations::get_liveness))
        .routes(routes!(operations::get_readiness))
        .routes(routes!(operations::get_prometheus))
        .layer(Extension(BytesMax(limits.body_bytes_max)))
}

/// The same handlers under the paths other systems used; not in the document twice.
fn aliases(limits: &Limits) -> Router<Arc<Api>> {
    use axum::routing::{get, post, put};
    use calls::{create, read, steer};
    Router::new()
        .route("/calls", post(create::create_call).get(read::list_calls))
        .route("/calls/schedule", post(create::schedule_call))
        .route("/calls/{id}", get(read::get_call).patch(steer::update_call).put(steer::update_call))
        .route("/api/v1/calls/{id}", put(steer::update_call))
        .route("/api/v1/users/{id}", put(users::update_user))
        .route("/api/v1/schedules/{id}", put(schedules::update_schedule))
        .route("/api/v1/scripts/{id}", put(scripts::update_script))
        .route("/api/v1/campaigns/{id}", put(campaigns::update_campaign))
        .route("/api/v1/phone-numbers/{id}", put(numbers::update_phone_number))
        .route("/api/v1/plans/{id}", put(plans::update_plan))
        .route("/api/v1/users/{id}/prospects/{prospect}", put(prospects::update_prospect))
        .route("/calls/{id}/cancel", post(steer::cancel_call))
        .route("/calls/{id}/retry", post(steer::retry_call))
        .route("/metrics", get(operations::get_metrics_negotiated))
        .layer(Extension(BytesMax(limits.body_bytes_max)))
        .merge(
            Router::new()
                .route("/calls/batch", post(create::create_calls))
                .layer(Extension(BytesMax(limits.list_body_bytes_max))),
        )
}

/// The whole API, or with `operations_only` what a process without the role `api` serves: health and numbers.
pub fn router(api: Arc<Api>, operations_only: bool) -> Router {
    let limits = api.limits.clone();
    let router = if operations_only {
        operations::router()
    } else {
        let (router, document) = documented(&limits).split_for_parts();
        router.merge(aliases(&limits)).merge(SwaggerUi::new("/api-docs").url("/api-docs.json", document))
    };
    router
        .fallback(|| async { Error::not_found("page") })
        .method_not_allowed_fallback(|| async { Error::method_not_allowed() })
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&api), take_turns))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            Error::internal(anyhow::anyhow!("a handler panicked")).into_response()
        }))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&api), answer_in_time))
        .layer(axum::middleware::from_fn(log_request))
        .layer(axum::middleware::map_response(for_browsers))
        .with_state(api)
}

/// How long a read waits for its tenant's other reads.
const TURN_PATIENCE: Duration = Duration::from_secs(3);

/// A tenant's reads take turns, a few at once, so that one who asks for much leaves the connections to Postgres to others; and what may
/// be answered at length begins while there is room for answers. Short writes and pages without a key (health, documentation) wait for
/// nobody.
async fn take_turns(
    state: State,
    request: Request<axum::body::Body>,
    next: axum::middleware::Next,
) -> Response<axum::body::Body> {
    let api = state.0;
    let open = |path: &str| path.starts_with("/health") || path.starts_with("/api-docs");
    let route = request.extensions().get::<axum::extract::MatchedPath>();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_open = route.is_none_or(|route| open(route.as_str()));
    if is_open || !is_read && is_short(&api.limits, &request) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let turn = if is_read {
        let caller = match Caller::from_request_parts(&mut parts, &api).await {
            Ok(caller) => caller,
            Err(error) => return error.into_response(),
        };
        let turn = api.reads.take(caller.into(), 1, TURN_PATIENCE).await;
        if turn.is_none() {
            return Error::too_much_at_once().into_response();
        }
        turn
    } else {
        None
    };
    let Some(mut room) = api.answers.room(TURN_PATIENCE).await else {
        return Error::overloaded().into_response();
    };
    let response = next.run(Request::from_parts(parts, body)).await;
    if let Some(bytes) = response.body().size_hint().exact() {
        room.weighs(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    // What is answered is in memory until the client has it: the turn and the room last as long.
    response.map(|body| Keeping::body(body, (turn, room)))
}

/// Whether a request, and what is answered, is small.
fn is_short(limits: &Limits, request: &Request<axum::body::Body>) -> bool {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match length.and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => length <= limits.body_bytes_max,
        None => matches!(*request.method(), Method::GET | Method::DELETE),
    }
}

/// Tells 503 when the database has not answered in time, where the request itself cannot take long: a connection that swallows what is
/// sent keeps nobody waiting for ever.
async fn answer_in_time(
    state: State,
    request: Request<axum::body::Body>,
    next: axum::middleware::Next,
) -> Response<axum::body::Body> {
    let api = state.0;
    if !is_short(&api.limits, &request) {
        return next.run(request).await;
    }
    match tokio::time::timeout(api.limits.patience * 3, next.run(request)).await {
        Ok(response) => response,
        Err(late) => Error::unavailable(late.into()).into_response(),
    }
}

/// What a browser may make of any answer: nothing but what it says it is, in no frame of anybody's, and of a document only what comes from
/// here. The page of the API document has its styles within.
async fn for_browsers(mut response: Response<axum::body::Body>) -> Response<axum::body::Body> {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// One line a request: what, how it went, how long; never a body or a number.
async fn log_request(request: Request<axum::body::Body>, next: axum::middleware::Next) -> Response<axum::body::Body> {
    let began = std::time::Instant::now();
    let method = request.method().clone();
    // The pattern, not the path: ids are fine, but an external id may be anything.
    let route = request.extensions().get::<axum::extract::MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let route = route.unwrap_or_else(|| "unmatched".to_owned());
    if status >= 500 {
        tracing::warn!(%method, route, status, duration_ms, "request failed");
    } else {
        tracing::debug!(%method, route, status, duration_ms, "request");
    }
    response
}

/// The OpenAPI document, as `outdial openapi` prints it and `/api-docs.json` serves it.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let limits = Limits {
        body_bytes_max: 0,
        list_body_bytes_max: 0,
        upload_bytes_max: 0,
        batch_rows_max: 0,
        max_attempts: 0,
        patience: Duration::ZERO,
        look_again_after: Duration::ZERO,
        allow_internal_endpoints: false,
        sorts_operator: false,
        refuses_impossible: false,
        planner: planner::Limits { users: 0, calls_per_user: 0, interval_secs: 0.0 },
    };
    documented(&limits).split_for_parts().1
}

/// A request must not wait longer for Postgres than this before it is told 503.
pub const DATABASE_PATIENCE: Duration = Duration::from_secs(3);
