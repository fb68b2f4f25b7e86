//! The fake Ultravox: calls, their lists, messages and callbacks. A call with an outgoing medium rings a phone by itself; another waits
//! to be joined until its `joinTimeout`.

use std::collections::HashMap;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fake_providers::delivery::{Signer, Webhook};
use crate::fake_providers::telnyx::{Leg, hung_up_within};
use crate::fake_providers::{Asked, Ending, KEY, Rung, World, answer, cut_off};

/// Rows of a page, so that lists have several.
const PAGE: usize = 2;
/// What a request for a call may hold; what for a call by an agent. Anything else is refused, as an unknown field of theirs is.
const CALL_FIELDS: &[&str] = &[
    "systemPrompt",
    "model",
    "voice",
    "languageHint",
    "temperature",
    "joinTimeout",
    "maxDuration",
    "timeExceededMessage",
    "inactivityMessages",
    "firstSpeakerSettings",
    "initialMessages",
    "initialOutputMedium",
    "selectedTools",
    "medium",
    "recordingEnabled",
    "metadata",
    "callbacks",
    "vadSettings",
    "retentionPolicy",
    "initialState",
    "dataConnection",
];
const AGENT_CALL_FIELDS: &[&str] = &[
    "templateContext",
    "initialMessages",
    "metadata",
    "medium",
    "joinTimeout",
    "maxDuration",
    "recordingEnabled",
    "initialOutputMedium",
    "firstSpeakerSettings",
    "dataConnection",
    "callbacks",
    "voice",
    "toolOverrides",
    "retentionPolicy",
];

/// What a tool made with the call may hold.
const TOOL_FIELDS: &[&str] = &[
    "modelToolName",
    "description",
    "dynamicParameters",
    "staticParameters",
    "automaticParameters",
    "requirements",
    "timeout",
    "precomputable",
    "http",
    "client",
    "dataConnection",
    "defaultReaction",
    "staticResponse",
];
/// What may be handed on to the TeXML call; the status callback in either spelling.
const TEXML_PARAMS: &[&str] = &[
    "Timeout",
    "TimeLimit",
    "MachineDetection",
    "DetectionMode",
    "AsyncAmd",
    "AsyncAmdStatusCallback",
    "Record",
    "StatusCallback",
    "StatusCallbackEvent",
    "StatusCallbackMethod",
    "status_callback",
    "status_callback_event",
    "status_callback_method",
    "statusCallback",
    "statusCallbackEvent",
    "statusCallbackMethod",
];
/// A voice nobody has: a call that asks for it is refused.
const NO_VOICE: &str = "no-such-voice";

/// A call as the fake keeps it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub id: String,
    pub request: Value,
    pub created: DateTime<Utc>,
    pub joined: Option<DateTime<Utc>>,
    pub ended: Option<DateTime<Utc>>,
    pub end_reason: Option<&'static str>,
    pub billed_secs: Option<u32>,
    pub summary: Option<String>,
    /// What the agent told the tool.
    pub told: Option<Value>,
    /// Somebody asked for an end.
    pub hang_up: bool,
}

pub(super) fn router() -> Router<World> {
    Router::new()
        .route("/api/calls", post(create_call).get(list_calls))
        .route("/api/agents/{agent}/calls", post(create_agent_call))
        .route("/api/calls/{id}", get(get_call).delete(erase_call))
        .route("/api/calls/{id}/messages", get(list_messages))
        .route("/api/calls/{id}/send_data_message", post(send_data_message))
        .route("/api/accounts/me", get(get_account))
}

fn is_allowed(headers: &HeaderMap) -> bool {
    headers.get("x-api-key").is_some_and(|key| key == KEY)
}

async fn create_call(State(world): State<World>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    create(world, "/api/calls".to_owned(), CALL_FIELDS, &headers, &body).await
}

async fn create_agent_call(
    State(world): State<World>,
    Path(agent): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    create(world, format!("/api/agents/{agent}/calls"), AGENT_CALL_FIELDS, &headers, &body).await
}

async fn create(world: World, path: String, fields: &[&str], headers: &HeaderMap, body: &[u8]) -> Response<Body> {
    if !is_allowed(headers) {
        return answer(401, &json!({"detail": "Invalid API key."}));
    }
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(fault) = fault_of(&request, fields) {
        return answer(400, &json!({"detail": fault}));
    }
    let attempt = request["metadata"]["attempt_id"].as_str().unwrap_or_default().to_owned();
    let luck = format!("{attempt} {}", world.nth_try(&attempt));
    let roll = world.dice(&luck, 20);
    if roll < world.manners.refused {
        let (status, retry_after) = match world.dice(&luck, 23) % 5 {
            0 => (429, Some("1".to_owned())),
            1 => (429, None),
            2 => (503, Some((Utc::now() + TimeDelta::seconds(1)).to_rfc2822())),
            3 => (402, None),
            // Nothing was made, and nothing says so.
            _ => (503, None),
        };
        let mut response = answer(status, &json!({"detail": "Not now."}));
        if let Some(value) = retry_after.and_then(|text| text.parse().ok()) {
            response.headers_mut().insert("retry-after", value);
        }
        return response;
    }
    let outgoing = request["medium"]["telnyx"]["outgoing"].clone();
    let call = Call {
        id: Uuid::new_v4().to_string(),
        request: request.clone(),
        created: Utc::now(),
        joined: None,
        ended: None,
        end_reason: None,
        billed_secs: None,
        summary: None,
        told: None,
        hang_up: false,
    };
    let shown = call.shown(&world);
    {
        let mut account = world.account();
        if account.calls.values().filter(|call| call.ended.is_none()).count() >= world.manners.concurrent_max {
            return answer(429, &json!({"detail": "Concurrency limit reached."}));
        }
        account.asked.push(Asked { path, body: request });
        account.calls.insert(call.id.clone(), call.clone());
    }
    if outgoing.is_object() {
        let rung = world.ring(&attempt, outgoing["to"].as_str().unwrap_or_default(), false);
        tokio::spawn(carry_out(world.clone(), call, rung));
    } else {
        tokio::spawn(wait_to_be_joined(world.clone(), call));
    }
    if world.dice(&luck, 21) < world.manners.answers_lost {
        return lose_answer(&world, &luck).await;
    }
    answer(201, &shown)
}

/// It was accepted, and nobody hears of it: an error, a body that breaks off, or silence.
pub(super) async fn lose_answer(world: &World, luck: &str) -> Response<Body> {
    match world.dice(luck, 22) % 3 {
        0 => answer(502, &json!({})),
        1 => cut_off(),
        _ => {
            tokio::time::sleep(std::time::Duration::from_secs(20)).await;
            answer(201, &json!({}))
        }
    }
}

/// What their schema refuses.
fn fault_of(request: &Value, fields: &[&str]) -> Option<String> {
    let given = request.as_object()?;
    if let Some(unknown) = given.keys().find(|name| !fields.contains(&name.as_str())) {
        return Some(format!("{unknown}: unknown field"));
    }
    let strings = |value: &Value| value.as_object().is_none_or(|map| map.values().all(Value::is_string));
    if !strings(&request["metadata"]) {
        return Some("metadata: all values must be strings".to_owned());
    }
    if request["voice"] == NO_VOICE {
        return Some(format!("voice: there is no voice {NO_VOICE}"));
    }
    for name in ["joinTimeout", "maxDuration"] {
        if secs_of(&request[name]).is_none() {
            return Some(format!("{name}: must be a duration"));
        }
    }
    let telnyx = &request["medium"]["telnyx"];
    if !telnyx.is_object() {
        return Some("medium: telnyx is needed here".to_owned());
    }
    let to = &telnyx["outgoing"];
    if let Some(unknown) = names_of(&to["additionalParams"]).find(|name| !TEXML_PARAMS.contains(name)) {
        return Some(format!("medium.telnyx.outgoing.additionalParams.{unknown}: unknown parameter"));
    }
    if to.is_object() && !to["to"].as_str().is_some_and(|to| to.starts_with('+')) {
        return Some("medium.telnyx.outgoing.to: must be E.164".to_owned());
    }
    let tools = request["selectedTools"].as_array().or(request["toolOverrides"]["add"].as_array());
    let is_tool = |tool: &Value| {
        ["toolId", "toolName", "temporaryTool"].iter().filter(|name| !tool[**name].is_null()).count() == 1
    };
    if !tools.is_none_or(|tools| tools.iter().all(is_tool)) {
        return Some("selectedTools: exactly one kind".to_owned());
    }
    let made = tools.into_iter().flatten().map(|tool| &tool["temporaryTool"]).filter(|tool| tool.is_object());
    made.flat_map(names_of)
        .find(|name| !TOOL_FIELDS.contains(name))
        .map(|unknown| format!("temporaryTool.{unknown}: unknown field"))
}

fn names_of(value: &Value) -> impl Iterator<Item = &str> {
    value.as_object().into_iter().flat_map(|map| map.keys().map(String::as_str))
}

/// Seconds of a duration such as `75s`.
fn secs_of(value: &Value) -> Option<f64> {
    value.as_str()?.strip_suffix('s')?.parse().ok()
}

fn time(at: Option<DateTime<Utc>>) -> Value {
    at.map_or(Value::Null, |at| json!(at.to_rfc3339_opts(SecondsFormat::Micros, true)))
}

impl Call {
    fn shown(&self, world: &World) -> Value {
        let outgoing = self.request["medium"]["telnyx"]["outgoing"].is_object();
        let join_url = format!("ws://{}/calls/{}/telnyx", world.address, self.id);
        json!({
            "callId": self.id, "clientVersion": null, "created": time(Some(self.created)), "joined": time(self.joined),
            "ended": time(self.ended), "endReason": self.end_reason,
            "billedDuration": self.billed_secs.map(|secs| format!("{secs}s")),
            "billingStatus": match self.billed_secs {
                None => "BILLING_STATUS_PENDING",
                Some(0) => "BILLING_STATUS_FREE_ZERO_EFFECTIVE_DURATION",
                Some(_) => "BILLING_STATUS_BILLED",
            },
            "joinUrl": if outgoing { Value::Null } else { json!(join_url) },
            "joinTimeout": self.request["joinTimeout"], "maxDuration": self.request["maxDuration"],
            "medium": {"telnyx": {}}, "metadata": self.request["metadata"], "summary": self.summary, "shortSummary": self.summary,
            "sipDetails": null, "agent": null, "experimentalSettings": null, "requestContext": null,
        })
    }

    fn callback(&self, world: &World, event: &str) {
        let name = event.trim_start_matches("call.");
        let callback = &self.request["callbacks"][name];
        let Some(url) = callback["url"].as_str() else { return };
        let secrets = callback["secrets"].as_array().into_iter().flatten();
        world.send(Webhook {
            url: url.to_owned(),
            key: format!("{} {event}", self.request["metadata"]["attempt_id"]),
            content_type: "application/json",
            body: json!({"event": event, "call": self.shown(world)}).to_string().into_bytes(),
            signer: Signer::Ultravox(secrets.filter_map(Value::as_str).map(str::to_owned).collect()),
        });
    }
}

impl World {
    fn change(&self, id: &str, change: impl FnOnce(&mut Call)) -> Option<Call> {
        let mut account = self.account();
        let call = account.calls.get_mut(id)?;
        change(call);
        let changed = call.clone();
        drop(account);
        self.changed.notify_waiters();
        Some(changed)
    }

    /// The agent and the callee talk, until one of them hangs up. False: the agent does not wait any more.
    pub(super) async fn talk(&self, id: &str, rung: &Rung) -> bool {
        let joined = self.change(id, |call| call.joined = Some(Utc::now()).filter(|_| call.ended.is_none()));
        let Some(call) = joined.filter(|call| call.joined.is_some()) else { return false };
        call.callback(self, "call.joined");
        let told = rung.outcome.filter(|outcome| *outcome != "COMPLETED").map(|outcome| {
            let mut told = json!({"type": outcome});
            if outcome == "APPOINTMENT_SET" {
                told["appointmentTime"] = json!("2030-01-01T10:00:00Z");
            }
            told
        });
        let talked = f64::from(rung.billed_secs);
        self.talk_on(id, talked / 2.0).await;
        if let Some(told) = &told {
            self.change(id, |call| call.told = Some(told.clone()));
            let tools = call.request["selectedTools"].as_array().or(call.request["toolOverrides"]["add"].as_array());
            let ours =
                tools.into_iter().flatten().find_map(|tool| tool["temporaryTool"]["http"]["baseUrlPattern"].as_str());
            let heard = self.dice(&rung.attempt, 30) >= self.manners.tools_unheard;
            if let Some(url) = ours.filter(|_| heard) {
                // Nobody repeats a tool; what was not heard stands in the transcript.
                let _ = self.client.post(url).json(told).send().await;
            }
        }
        self.talk_on(id, talked / 2.0).await;
        let talk = TimeDelta::seconds(i64::from(rung.billed_secs.saturating_sub(2)));
        let ended = self.change(id, |call| {
            call.ended = call.joined.map(|joined| joined + talk);
            call.end_reason = Some(if rung.outcome.is_some() { "agent_hangup" } else { "hangup" });
        });
        if let Some(call) = ended {
            call.callback(self, "call.ended");
        }
        let (world, id, rung) = (self.clone(), id.to_owned(), rung.clone());
        tokio::spawn(async move { world.bill(&id, &rung).await });
        true
    }

    /// So many seconds more, unless somebody hangs up.
    async fn talk_on(&self, id: &str, secs: f64) {
        let over = tokio::time::sleep(self.secs(secs));
        tokio::pin!(over);
        loop {
            let changed = self.changed.notified();
            if self.account().calls.get(id).is_none_or(|call| call.hang_up) {
                return;
            }
            tokio::select! {
                () = &mut over => return,
                () = changed => {}
            }
        }
    }

    /// Somebody hangs up.
    pub(super) fn hang_up(&self, id: &str) {
        let _ = self.change(id, |call| call.hang_up = true);
    }

    /// The bill and the summary come later.
    async fn bill(&self, id: &str, rung: &Rung) {
        self.pause(10.0).await;
        let summary = match rung.outcome {
            Some("NOT_INTERESTED") => "The person was not interested.",
            Some("DO_NOT_CALL") => "The person asked us to stop calling.",
            _ => "They talked.",
        };
        let billed = self.change(id, |call| {
            call.billed_secs = Some(rung.billed_secs);
            call.summary = Some(summary.to_owned());
        });
        if let Some(call) = billed {
            call.callback(self, "call.billed");
        }
    }

    /// Nobody joined.
    async fn unjoined(&self, id: &str) {
        let ended = self.change(id, |call| {
            if call.joined.is_none() {
                call.ended = Some(Utc::now());
                call.end_reason = Some("unjoined");
                call.billed_secs = Some(0);
            }
        });
        if let Some(call) = ended.filter(|call| call.joined.is_none()) {
            call.callback(self, "call.ended");
            call.callback(self, "call.billed");
        }
    }
}

/// A call Ultravox dials: its carrier tells how the phone fares, where it was told whom, in either spelling.
async fn carry_out(world: World, call: Call, rung: Rung) {
    let params = call.request["medium"]["telnyx"]["outgoing"]["additionalParams"].clone();
    let sid = format!("v3:{}", Uuid::new_v4());
    let mut leg = Leg::new(sid.clone(), json!({"client_state": null}), call.id.clone());
    leg.rung = Some(rung.clone());
    world.account().legs.insert(sid.clone(), leg);
    let join_timeout = secs_of(&call.request["joinTimeout"]).unwrap_or(30.0);
    let tell = |status: &str, number: u32, more: &[(&str, &str)]| {
        let names = ["StatusCallback", "statusCallback", "status_callback"];
        let Some(url) = names.iter().find_map(|name| params[*name].as_str()) else { return };
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("AccountSid", "f5586561-8ff0-4291-a51b-c7dfe4139ff9");
        form.append_pair("CallSid", &sid).append_pair("CallStatus", status);
        form.append_pair("SequenceNumber", &number.to_string()).append_pair("To", &rung.to);
        form.extend_pairs(more);
        world.send(Webhook {
            url: url.to_owned(),
            key: format!("{} {status}", rung.attempt),
            content_type: "application/x-www-form-urlencoded",
            body: form.finish().into_bytes(),
            signer: Signer::Telnyx,
        });
    };
    tell("initiated", 0, &[]);
    let mut canceled = hung_up_within(&world, &sid, 1.0).await;
    tell("ringing", 1, &[]);
    canceled = canceled || hung_up_within(&world, &sid, 4.0).await;
    match rung.ending {
        _ if canceled => {}
        // Who answers is not told: machine detection was not asked for.
        Ending::Person | Ending::Machine | Ending::Deaf => {
            tell("in-progress", 2, &[]);
            world.talk(&call.id, &rung).await;
            tell("completed", 3, &[("HangupCause", "normal_clearing")]);
        }
        Ending::Busy => tell("busy", 2, &[("HangupCause", "user_busy"), ("SipHangupCause", "486")]),
        Ending::NotFound => tell("failed", 2, &[("HangupCause", "not_found"), ("SipHangupCause", "404")]),
        Ending::NoAnswer | Ending::Canceled => {
            canceled = hung_up_within(&world, &sid, 20.0).await;
            if !canceled {
                tell("no-answer", 2, &[("HangupCause", "no_answer"), ("SipHangupCause", "480")]);
            }
        }
    }
    if canceled {
        tell("canceled", 4, &[("HangupCause", "originator_cancel"), ("SipHangupCause", "487")]);
    }
    world.leg_over(&sid, &rung, canceled);
    if canceled || !matches!(rung.ending, Ending::Person | Ending::Machine) {
        world.pause(join_timeout - 25.0).await;
        world.unjoined(&call.id).await;
    }
}

/// A call that somebody else connects a phone to.
async fn wait_to_be_joined(world: World, call: Call) {
    world.pause(secs_of(&call.request["joinTimeout"]).unwrap_or(30.0)).await;
    world.unjoined(&call.id).await;
}

async fn get_call(State(world): State<World>, Path(id): Path<String>, headers: HeaderMap) -> Response<Body> {
    if !is_allowed(&headers) {
        return answer(401, &json!({}));
    }
    match world.account().calls.get(&id) {
        Some(call) => answer(200, &call.shown(&world)),
        None => answer(404, &json!({"detail": "Not found."})),
    }
}

/// Calls, oldest first, in pages of two; filtered by `metadata.<key>`.
async fn list_calls(State(world): State<World>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response<Body> {
    if !is_allowed(&headers) {
        return answer(401, &json!({}));
    }
    let query = query.unwrap_or_default();
    let asked: HashMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let wanted: Vec<(&str, &String)> =
        asked.iter().filter_map(|(name, value)| Some((name.strip_prefix("metadata.")?, value))).collect();
    let mut calls: Vec<Call> = world.account().calls.values().cloned().collect();
    calls.sort_by_key(|call| call.created);
    calls.retain(|call| {
        wanted.iter().all(|(name, value)| call.request["metadata"][*name].as_str() == Some(value.as_str()))
    });
    let from: usize = asked.get("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or_default();
    let rows: Vec<Value> = calls.iter().skip(from).take(PAGE).map(|call| call.shown(&world)).collect();
    let next = (calls.len() > from + PAGE).then(|| {
        let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("cursor=")).collect();
        format!("{}/api/calls?{}&cursor={}", world.url(), rest.join("&"), from + PAGE)
    });
    answer(200, &json!({"next": next, "previous": null, "results": rows, "total": calls.len()}))
}

async fn list_messages(
    State(world): State<World>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    if !is_allowed(&headers) {
        return answer(401, &json!({}));
    }
    let Some(call) = world.account().calls.get(&id).cloned() else {
        return answer(404, &json!({}));
    };
    let mut messages = vec![
        json!({"role": "MESSAGE_ROLE_USER", "text": "Hello?"}),
        json!({"role": "MESSAGE_ROLE_AGENT", "text": "Hello, this is about your appointment."}),
    ];
    if let Some(told) = call.told {
        let text = told.to_string();
        messages.push(
            json!({"role": "MESSAGE_ROLE_TOOL_CALL", "toolName": "reportOutcome", "invocationId": "1", "text": text}),
        );
        messages.push(
            json!({"role": "MESSAGE_ROLE_TOOL_RESULT", "toolName": "reportOutcome", "invocationId": "1", "text": "{}"}),
        );
    }
    // The last stage only, unless the whole call is asked for.
    let whole = query.unwrap_or_default().contains("mode=in_call");
    let shown = if whole { messages } else { messages.split_off(1) };
    answer(200, &json!({"next": null, "previous": null, "results": shown, "total": shown.len()}))
}

/// Hangs up a call somebody has joined; 422 for another, which is left as it is.
async fn send_data_message(
    State(world): State<World>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(_): Json<Value>,
) -> Response<Body> {
    if !is_allowed(&headers) {
        return answer(401, &json!({}));
    }
    let live = world.change(&id, |call| call.hang_up |= call.joined.is_some());
    match live {
        Some(Call { joined: Some(_), ended: None, .. }) => answer(204, &json!({})),
        Some(_) => answer(422, &json!({"detail": "Call is not active."})),
        None => answer(404, &json!({})),
    }
}

/// Erases a call; not one that is going on.
async fn erase_call(State(world): State<World>, Path(id): Path<String>, headers: HeaderMap) -> Response<Body> {
    if !is_allowed(&headers) {
        return answer(401, &json!({}));
    }
    let mut account = world.account();
    match account.calls.get(&id) {
        None => answer(404, &json!({"detail": "Not found."})),
        Some(Call { joined: Some(_), ended: None, .. }) => answer(400, &json!({"detail": "The call is ongoing."})),
        Some(call) => {
            account.erased += usize::from(call.ended.is_none());
            account.calls.remove(&id);
            answer(204, &json!({}))
        }
    }
}

async fn get_account(State(world): State<World>, headers: HeaderMap) -> Response<Body> {
    if !is_allowed(&headers) {
        return answer(401, &json!({"detail": "Invalid API key."}));
    }
    let active = world.account().calls.values().filter(|call| call.ended.is_none()).count();
    answer(
        200,
        &json!({"accountId": Uuid::nil(), "name": "fake", "activeCalls": active,
                        "allowedConcurrentCalls": world.manners.concurrent_max}),
    )
}
