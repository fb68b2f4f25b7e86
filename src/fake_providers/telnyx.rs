//! The fake Telnyx: Call Control. A leg rings a phone; who answers is connected to the Ultravox call whose `joinUrl` is the leg's
//! `stream_url`. The leg stays up until somebody hangs up. A number that ends in `99NN` is refused with the code `DNN`, and one that
//! ends in `98NN` is taken, and its leg ended with that code.

use std::collections::HashMap;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::fake_providers::delivery::{Signer, Webhook};
use crate::fake_providers::ultravox::lose_answer;
use crate::fake_providers::{Asked, CONNECTION, Ending, KEY, Paging, Rung, World, answer};

/// What a dial may hold here.
const FIELDS: &[&str] = &[
    "connection_id",
    "to",
    "from",
    "command_id",
    "client_state",
    "webhook_url",
    "webhook_url_method",
    "timeout_secs",
    "time_limit_secs",
    "answering_machine_detection",
    "stream_url",
    "stream_track",
    "stream_codec",
    "stream_bidirectional_mode",
    "stream_bidirectional_codec",
    "stream_bidirectional_sampling_rate",
    "stream_bidirectional_target_legs",
];
/// Commands with a known `command_id` are left alone for so long.
const DEDUPE_SECS: f64 = 60.0;

/// A leg as the fake keeps it.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    pub id: String,
    pub request: Value,
    pub asked: DateTime<Utc>,
    pub alive: bool,
    pub hung_up: bool,
    /// The phone it rings.
    pub rung: Option<Rung>,
    /// The Ultravox call it is connected to.
    pub agent: String,
}

impl Leg {
    pub(super) fn new(id: String, request: Value, agent: String) -> Self {
        Self { id, request, asked: Utc::now(), alive: true, hung_up: false, rung: None, agent }
    }
}

pub(super) fn router() -> Router<World> {
    Router::new()
        .route("/v2/calls", post(dial))
        .route("/v2/calls/{id}", get(get_leg))
        .route("/v2/calls/{id}/actions/hangup", post(hang_up))
        .route("/v2/texml/Accounts/{account}/Calls/{sid}", post(end_texml))
        .route("/v2/connections/{id}/active_calls", get(list_active))
}

fn fault(status: u16, code: &str, detail: &str) -> Response<Body> {
    answer(status, &json!({"errors": [{"code": code, "title": "Error", "detail": detail}]}))
}

/// A refusal as the real one was seen to write it: the reason is no error code but a code of the carrier's, beside the errors, within
/// them, or in the text alone.
fn refusal(code: &str, text: &str, shape: u64) -> Response<Body> {
    let mut error =
        json!({"code": "10010", "title": "Authorization failed", "detail": format!("{text} {code}. {text}.")});
    let why = json!({"error_code": code});
    match shape % 3 {
        0 => answer(403, &json!({"errors": [error], "telnyx_error": why})),
        1 => {
            error["telnyx_error"] = why;
            answer(403, &json!({"errors": [error]}))
        }
        _ => {
            error["detail"] = json!(format!("{text} {code}"));
            answer(403, &json!({"errors": [error]}))
        }
    }
}

/// The code a number stands for, after these two digits, and what is said with it.
fn code_of(to: &str, after: &str) -> Option<(String, &'static str)> {
    let digits = to.get(to.len().checked_sub(4)?..)?.strip_prefix(after)?;
    let code = format!("D{}", digits.trim_start_matches('0'));
    let text = match code.as_str() {
        "D1" => "User channel limit exceeded",
        "D13" => "Dialed number is not included in whitelisted countries: US, CA",
        "D38" => "Connection has no Outbound Profile assigned",
        _ => "Forbidden",
    };
    (code.len() > 1).then_some((code, text))
}

fn is_allowed(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|key| key.as_bytes() == format!("Bearer {KEY}").as_bytes())
}

async fn dial(State(world): State<World>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    if !is_allowed(&headers) {
        return fault(401, "10009", "Authentication failed");
    }
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
    if request.as_object().is_none_or(|given| given.keys().any(|name| !FIELDS.contains(&name.as_str()))) {
        return fault(422, "10015", "unknown parameter");
    }
    if !text("to").starts_with('+') {
        return fault(422, "10016", "Phone number must be in +E164 format");
    }
    if text("connection_id") != CONNECTION || request["stream_codec"] != request["stream_bidirectional_codec"] {
        return fault(422, "10015", "Bad Request");
    }
    let attempt = STANDARD.decode(text("client_state")).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(attempt) = attempt else {
        return fault(422, "90017", "client_state must be base64");
    };
    let luck = format!("{attempt} {} leg", world.nth_try(&attempt));
    let roll = world.dice(&luck, 20);
    if roll < world.manners.refused {
        return fault(429, if roll % 2 == 0 { "90103" } else { "10011" }, "Dials per second limit exceeded");
    }
    if let Some((code, text)) = code_of(&text("to"), "99") {
        return refusal(&code, text, world.dice(&luck, 24));
    }
    let agent = text("stream_url").split('/').nth(4).unwrap_or_default().to_owned();
    let leg = Leg::new(format!("v3:{}", Uuid::new_v4()), request.clone(), agent);
    let known = {
        let mut account = world.account();
        if account.legs.values().filter(|leg| leg.alive).count() >= world.manners.concurrent_max {
            // Under either code, in either shape.
            return match world.dice(&luck, 24) {
                shape @ 0..50 => refusal("D1", "User channel limit exceeded", shape),
                _ => fault(403, "90041", "User channel limit exceeded D1"),
            };
        }
        let window = world.secs(DEDUPE_SECS);
        let is_known = |other: &&Leg| {
            other.request["command_id"] == request["command_id"]
                && (leg.asked - other.asked).to_std().is_ok_and(|age| age < window)
        };
        let known = account.legs.values().find(is_known).cloned();
        if known.is_none() {
            account.asked.push(Asked { path: "/v2/calls".to_owned(), body: request });
            account.legs.insert(leg.id.clone(), leg.clone());
        }
        known
    };
    let shown = known.as_ref().unwrap_or(&leg).shown();
    if known.is_none() {
        tokio::spawn(carry_out(world.clone(), leg, attempt));
    }
    if world.dice(&luck, 21) < world.manners.answers_lost {
        return lose_answer(&world, &luck).await;
    }
    answer(200, &json!({"data": shown}))
}

impl Leg {
    fn shown(&self) -> Value {
        json!({"record_type": "call", "call_control_id": self.id, "call_leg_id": self.id, "call_session_id": self.id,
               "is_alive": false, "client_state": self.request["client_state"]})
    }

    fn event(&self, world: &World, kind: &str, more: &[(&str, &str)]) {
        let mut payload: HashMap<&str, Value> = more.iter().map(|(name, value)| (*name, json!(value))).collect();
        payload.insert("call_control_id", json!(self.id));
        // It may be null; then the URL has to tell whose it is.
        let state = if world.dice(&self.id, 41) < 10 { Value::Null } else { self.request["client_state"].clone() };
        payload.insert("client_state", state);
        payload.insert("connection_id", json!(CONNECTION));
        payload.insert("to", self.request["to"].clone());
        // Some events were seen with underscores.
        let name = if world.dice(&self.id, 40) < 10 { kind.replace('.', "_") } else { kind.to_owned() };
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let id = Uuid::new_v4();
        let body = if world.dice(&format!("{} {kind}", self.id), 43) < world.manners.flat {
            json!({"event_type": name, "webhook_id": id, "created_at": at, "payload": payload})
        } else {
            json!({
                "data": {"record_type": "event", "event_type": name, "id": id, "occurred_at": at, "payload": payload},
                "meta": {"attempt": 1, "delivered_to": self.request["webhook_url"]},
            })
        };
        world.send(Webhook {
            url: self.request["webhook_url"].as_str().unwrap_or_default().to_owned(),
            key: format!("{} {kind}", self.request["command_id"]),
            content_type: "application/json",
            body: body.to_string().into_bytes(),
            signer: Signer::Telnyx,
        });
    }
}

async fn carry_out(world: World, leg: Leg, attempt: String) {
    if let Some((code, text)) = code_of(leg.request["to"].as_str().unwrap_or_default(), "98") {
        // No phone rang.
        if let Some(leg) = world.account().legs.get_mut(&leg.id) {
            leg.alive = false;
        }
        let reason = format!("{text} {code}");
        let more = [("hangup_cause", "call_rejected"), ("sip_hangup_cause", "403"), ("hangup_reason", &reason)];
        leg.event(&world, "call.hangup", &more);
        return;
    }
    let rung = world.ring(&attempt, leg.request["to"].as_str().unwrap_or_default(), true);
    if let Some(kept) = world.account().legs.get_mut(&leg.id) {
        kept.rung = Some(rung.clone());
    }
    leg.event(&world, "call.initiated", &[("direction", "outgoing"), ("state", "parked")]);
    let mut canceled = hung_up_within(&world, &leg.id, 5.0).await;
    let mut cause = ("normal_clearing", "200");
    if !canceled {
        match rung.ending {
            Ending::Person | Ending::Machine => {
                leg.event(&world, "call.answered", &[("state", "answered")]);
                match rung.ending {
                    // The beep came before the verdict.
                    Ending::Machine if world.dice(&leg.id, 42) < 30 => {
                        leg.event(&world, "call.machine.premium.greeting.ended", &[("result", "beep_detected")]);
                    }
                    Ending::Machine => leg.event(&world, "call.machine.detection.ended", &[("result", "machine")]),
                    _ => leg.event(&world, "call.machine.detection.ended", &[("result", "human")]),
                }
                if !world.talk(&leg.agent, &rung).await {
                    world.found_deaf(&rung);
                    leg.event(&world, "streaming.failed", &[("failure_reason", "connection_failed")]);
                }
                // The agent has gone; the line stays open until it is hung up.
                let limit = leg.request["time_limit_secs"].as_f64().unwrap_or(14_400.0);
                if !hung_up_within(&world, &leg.id, limit).await {
                    cause = ("time_limit", "200");
                }
            }
            Ending::Deaf => {
                leg.event(&world, "call.answered", &[("state", "answered")]);
                leg.event(&world, "streaming.failed", &[("failure_reason", "connection_failed")]);
                hung_up_within(&world, &leg.id, leg.request["time_limit_secs"].as_f64().unwrap_or(14_400.0)).await;
            }
            Ending::Busy => cause = ("user_busy", "486"),
            Ending::NotFound => cause = ("not_found", "404"),
            Ending::NoAnswer | Ending::Canceled => {
                canceled = hung_up_within(&world, &leg.id, 20.0).await;
                cause = ("timeout", "487");
            }
        }
    }
    if canceled {
        cause = ("originator_cancel", "487");
    }
    world.leg_over(&leg.id, &rung, canceled);
    let more =
        [("hangup_cause", cause.0), ("sip_hangup_cause", cause.1), ("hangup_source", "callee"), ("state", "hangup")];
    leg.event(&world, "call.hangup", &more);
}

/// Whether the leg was hung up within so many seconds.
pub(super) async fn hung_up_within(world: &World, id: &str, secs: f64) -> bool {
    let over = tokio::time::sleep(world.secs(secs));
    tokio::pin!(over);
    loop {
        let changed = world.changed.notified();
        if world.account().legs.get(id).is_some_and(|leg| leg.hung_up) {
            return true;
        }
        tokio::select! {
            () = &mut over => return false,
            () = changed => {}
        }
    }
}

async fn hang_up(
    State(world): State<World>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(_): Json<Value>,
) -> Response<Body> {
    end_leg(&world, &id, &headers)
}

/// The other address, for legs that were dialed by TeXML.
async fn end_texml(
    State(world): State<World>,
    Path((_, sid)): Path<(String, String)>,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    if body != "Status=completed" {
        return fault(422, "10015", "Status is needed");
    }
    end_leg(&world, &sid, &headers)
}

fn end_leg(world: &World, id: &str, headers: &HeaderMap) -> Response<Body> {
    if !is_allowed(headers) {
        return fault(401, "10009", "Authentication failed");
    }
    let (alive, agent) = match world.account().legs.get_mut(id) {
        None => return fault(404, "10005", "Resource not found"),
        Some(leg) => {
            leg.hung_up = true;
            (leg.alive, leg.agent.clone())
        }
    };
    world.hang_up(&agent);
    world.silence(id);
    world.changed.notify_waiters();
    if alive { answer(200, &json!({"data": {"result": "ok"}})) } else { fault(422, "90018", "Call has already ended") }
}

impl World {
    /// A leg has ended. Its phone is silent before that can be seen: who sees it may ring it again.
    pub(super) fn leg_over(&self, leg: &str, rung: &Rung, canceled: bool) {
        self.rung_out(rung, canceled.then_some(Ending::Canceled));
        if let Some(leg) = self.account().legs.get_mut(leg) {
            leg.alive = false;
        }
    }

    /// The phone of a leg is silent from the moment on that its hang-up was answered.
    fn silence(&self, leg: &str) {
        let rung = self.account().legs.get(leg).and_then(|leg| leg.rung.clone());
        if let Some(rung) = rung {
            self.rung_out(&rung, None);
        }
    }
}

async fn get_leg(State(world): State<World>, Path(id): Path<String>) -> Response<Body> {
    match world.account().legs.get(&id) {
        Some(leg) => answer(200, &json!({"data": {"call_control_id": leg.id, "is_alive": leg.alive}})),
        None => fault(404, "10005", "Resource not found"),
    }
}

/// Live legs, a page of them.
async fn list_active(
    State(world): State<World>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    if !is_allowed(&headers) {
        return fault(401, "10009", "Authentication failed");
    }
    if id != CONNECTION {
        return fault(404, "10005", "Resource not found");
    }
    let query = query.unwrap_or_default();
    let asked: HashMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let number = |name: &str| asked.get(name).and_then(|text| text.parse::<usize>().ok()).filter(|number| *number > 0);
    let mut live: Vec<Leg> = world.account().legs.values().filter(|leg| leg.alive).cloned().collect();
    live.sort_by_key(|leg| (leg.asked, leg.id.clone()));
    let total = live.len();
    let by_cursor = match world.manners.paging {
        Paging::Cursor => true,
        Paging::Number | Paging::Broken => false,
        Paging::Both => asked.contains_key("page[after]"),
    };
    let size = number(if by_cursor { "page[limit]" } else { "page[size]" }).unwrap_or(20);
    let size = size.min(world.manners.page_rows_max);
    let page = number("page[number]").unwrap_or(1);
    let from = if by_cursor {
        let after = asked.get("page[after]");
        after.map_or(0, |after| live.iter().position(|leg| leg.id == *after).map_or(total, |nth| nth + 1))
    } else if world.manners.paging == Paging::Broken && page > 1 {
        total
    } else {
        (page - 1) * size
    };
    let rows: Vec<&Leg> = live.iter().skip(from).take(size).collect();
    let after = rows.last().filter(|_| from + size < total).map(|leg| leg.id.clone());
    let by_number =
        json!({"page_number": page, "page_size": size, "total_pages": total.div_ceil(size), "total_results": total});
    let cursors = json!({"after": after, "before": null});
    let meta = match world.manners.paging {
        Paging::Number | Paging::Broken => by_number,
        Paging::Cursor => json!({"cursors": cursors, "total_items": total}),
        Paging::Both => {
            let mut both = by_number;
            both["cursors"] = cursors;
            both
        }
    };
    let rows: Vec<Value> = rows.into_iter().map(Leg::shown).collect();
    answer(200, &json!({"data": rows, "meta": meta}))
}
