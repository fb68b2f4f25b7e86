//! The request for a call, field by field. tests/it/ultravox.rs compares it with the contract, both ways.

use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::domain::raw_json::Fields;
use crate::domain::script::Script;
use crate::provider::Dial;
use crate::provider::ultravox::{Ultravox, tool};

/// Where calls without an agent are asked for.
pub(super) const CALLS: &str = "/api/calls";
/// What the agent is asked to say to somebody silent, where no first message is set.
const GREETING: &str = "Greet the person and say why you are calling.";

/// A longer hint is refused with the whole call.
const LANGUAGE_BYTES_MAX: usize = 16;

/// The path and body that ask for a call. An agent kept there has its own prompt and tools; ours is added to them.
pub(super) fn create(to: &Ultravox, dial: &Dial) -> (String, Fields) {
    let settings = &to.settings;
    let script = dial.script.clone().unwrap_or_default();
    let of_user = dial.agent.clone().unwrap_or_default();
    let voice = script.voice.as_deref().or(of_user.voice.as_deref());
    let language = script.language.as_deref().or(of_user.language.as_deref());
    let first_message = script.first_message.as_deref().or(of_user.first_message.as_deref());
    let report = tool::definition(&dial.report_to, dial.claimed_at);
    let mut body = Fields::new();
    let path = match &script.agent_id {
        Some(agent) => {
            put(&mut body, "templateContext", &dial.variables);
            put(&mut body, "toolOverrides", &json!({"add": [report]}));
            format!("/api/agents/{agent}/calls")
        }
        None => {
            put(&mut body, "systemPrompt", &script.prompt.as_deref().unwrap_or(&dial.script_id));
            put(&mut body, "selectedTools", &tools(&script, &report));
            if let Some(language) = language.filter(|language| language.len() <= LANGUAGE_BYTES_MAX) {
                put(&mut body, "languageHint", &language);
            }
            CALLS.to_owned()
        }
    };
    if let Some(voice) = voice {
        put(&mut body, "voice", &voice);
    }
    put(
        &mut body,
        "metadata",
        &json!({
            "attempt_id": dial.attempt_id.to_string(),
            "call_id": dial.call_id.to_string(),
            "dials": if to.we_dial() { "telnyx" } else { "ultravox" },
        }),
    );
    put(&mut body, "joinTimeout", &format!("{}s", settings.join_timeout_secs));
    put(&mut body, "maxDuration", &format!("{}s", secs_max(to, dial)));
    put(&mut body, "recordingEnabled", &settings.recording);
    put(&mut body, "firstSpeakerSettings", &first_speaker(first_message, settings.first_message_delay_secs));
    let medium = if to.we_dial() { json!({}) } else { json!({"outgoing": outgoing(to, dial)}) };
    put(&mut body, "medium", &json!({"telnyx": medium}));
    put(&mut body, "callbacks", &callbacks(to, dial));
    (path, body)
}

/// Adds a field; what tenants wrote goes out as they wrote it.
fn put(body: &mut Fields, name: &str, value: &impl Serialize) {
    if let Ok(raw) = to_raw_value(value) {
        body.insert(name.to_owned(), raw);
    }
}

/// The script's own tools, or the one that hangs up; and ours, which reports the outcome.
fn tools(script: &Script, report: &Value) -> Vec<Box<RawValue>> {
    let own = script.tools.read::<Vec<Box<RawValue>>>().unwrap_or_default();
    let ours = [json!({"toolName": "hangUp"}), report.clone()];
    let ours = ours.iter().skip(usize::from(!own.is_empty())).filter_map(|tool| to_raw_value(tool).ok());
    own.iter().cloned().chain(ours).collect()
}

/// The longest it may last: what the user's minutes allow, and the script, or else the setting; and never past `calls.max_call_secs`.
pub(super) fn secs_max(to: &Ultravox, dial: &Dial) -> i32 {
    let of_script = dial.script.as_ref().and_then(|script| script.max_duration_secs);
    let wanted = of_script.unwrap_or(to.settings.max_duration_secs);
    dial.secs_max.map_or(wanted, |reserved| wanted.min(reserved)).min(to.secs_max)
}

/// Whoever is called speaks first, as people do; a greeting of ours would be clipped. Who stays silent hears it.
fn first_speaker(first_message: Option<&str>, delay_secs: f64) -> Value {
    match first_message {
        Some(text) => json!({"user": {"fallback": {"delay": format!("{delay_secs}s"), "text": text}}}),
        None => json!({"user": {"fallback": {"delay": format!("{delay_secs}s"), "prompt": GREETING}}}),
    }
}

/// The call Ultravox dials. How it goes, Telnyx reports to us, where it takes the address in this way.
fn outgoing(to: &Ultravox, dial: &Dial) -> Value {
    let mut params = Map::new();
    let key = &to.settings.status_callback_key;
    let mut put = |name: &str, value: Value| drop(params.insert(name.to_owned(), value));
    put("Timeout", json!(to.settings.ring_secs));
    if !key.is_empty() {
        let snake = key.contains('_');
        put(key, json!(dial.report_to.url("/webhooks/telnyx")));
        put(&format!("{key}{}", if snake { "_event" } else { "Event" }), json!("initiated ringing answered completed"));
        put(&format!("{key}{}", if snake { "_method" } else { "Method" }), json!("POST"));
    }
    json!({"to": dial.to.as_str(), "from": to.from_number, "additionalParams": params})
}

/// Each call says where its events go and what they are signed with: nothing has to be set up there.
fn callbacks(to: &Ultravox, dial: &Dial) -> Value {
    let secrets: Vec<&str> = to.secrets.iter().map(ExposeSecret::expose_secret).collect();
    let callback = json!({"url": format!("{}/webhooks/ultravox", dial.report_to.base), "secrets": secrets});
    json!({"joined": callback, "ended": callback, "billed": callback})
}
