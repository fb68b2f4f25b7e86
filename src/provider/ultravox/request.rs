//! The request for a call, field by field. tests/it/ultravox.rs compares it with the contract, both ways.

use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use crate::provider::Dial;
use crate::provider::ultravox::{Ultravox, tool};

/// Where calls without an agent are asked for.
pub(super) const CALLS: &str = "/api/calls";
/// What the agent is asked to say to somebody silent, where no first message is set.
const GREETING: &str = "Greet the person and say why you are calling.";

/// A longer hint is refused with the whole call.
const LANGUAGE_BYTES_MAX: usize = 16;

/// The path and body that ask for a call. An agent kept there has its own prompt and tools; ours is added to them.
pub(super) fn create(to: &Ultravox, dial: &Dial) -> (String, Value) {
    let settings = &to.settings;
    let script = dial.script.clone().unwrap_or_default();
    let of_user = |name: &str| dial.agent.as_ref().and_then(|agent| agent.get(name)).and_then(Value::as_str);
    let voice = script.voice.as_deref().or_else(|| of_user("voice"));
    let language = script.language.as_deref().or_else(|| of_user("language"));
    let first_message = script.first_message.as_deref().or_else(|| of_user("firstMessage"));
    let report = tool::definition(&dial.report_to, dial.claimed_at);
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    let path = match &script.agent_id {
        Some(agent) => {
            put("templateContext", dial.variables.clone());
            put("toolOverrides", json!({"add": [report]}));
            format!("/api/agents/{agent}/calls")
        }
        None => {
            put("systemPrompt", json!(script.prompt.as_deref().unwrap_or(&dial.script_id)));
            let own = script.tools.as_array().filter(|tools| !tools.is_empty()).cloned();
            let mut tools = own.unwrap_or_else(|| vec![json!({"toolName": "hangUp"})]);
            tools.push(report);
            put("selectedTools", Value::Array(tools));
            if let Some(language) = language.filter(|language| language.len() <= LANGUAGE_BYTES_MAX) {
                put("languageHint", json!(language));
            }
            CALLS.to_owned()
        }
    };
    if let Some(voice) = voice {
        put("voice", json!(voice));
    }
    put(
        "metadata",
        json!({
            "attempt_id": dial.attempt_id.to_string(),
            "call_id": dial.call_id.to_string(),
            "dials": if to.we_dial() { "telnyx" } else { "ultravox" },
        }),
    );
    put("joinTimeout", json!(format!("{}s", settings.join_timeout_secs)));
    put("maxDuration", json!(format!("{}s", secs_max(to, dial))));
    put("recordingEnabled", json!(settings.recording));
    put("firstSpeakerSettings", first_speaker(first_message, settings.first_message_delay_secs));
    put("medium", json!({"telnyx": if to.we_dial() { json!({}) } else { json!({"outgoing": outgoing(to, dial)}) }}));
    put("callbacks", callbacks(to, dial));
    (path, Value::Object(body))
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
