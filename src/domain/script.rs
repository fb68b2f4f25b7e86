//! What an agent is told, and what of the installation's account at the provider a script may name.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::raw_json::RawJson;

/// Who speaks, as a user's settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// BCP 47
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_message: Option<String>,
}

/// A script as it is kept, and as it is handed to the provider once variables are filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// Either this
    pub prompt: Option<String>,
    /// or an agent kept at the provider.
    pub agent_id: Option<String>,
    pub voice: Option<String>,
    /// BCP 47
    pub language: Option<String>,
    /// Said to somebody who does not speak first.
    pub first_message: Option<String>,
    /// A list, in the provider's own shape.
    pub tools: RawJson,
    /// Seconds.
    pub max_duration_secs: Option<i32>,
}

/// The tool with which agents report how a call went: ours, added to each call.
pub const REPORT_TOOL: &str = "reportOutcome";

/// What of the installation's account at the provider a user's scripts may name; `*` is anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowances {
    pub agents: Vec<String>,
    /// By name or id.
    pub tools: Vec<String>,
}

/// Why a script must not be used: the field and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    pub path: String,
    pub why: String,
}

impl Script {
    /// What in it is not allowed, or is no tool.
    #[must_use]
    pub fn forbidden(&self, allowed: &Allowances) -> Vec<Forbidden> {
        let mut found = Vec::new();
        if let Some(agent) = self.agent_id.as_ref().filter(|agent| !names(&allowed.agents, agent)) {
            let why = format!("the user may not name the agent {agent}; an admin can allow it (allowedAgents)");
            found.push(Forbidden { path: "agentId".to_owned(), why });
        }
        let tools = self.tools.read::<Vec<Value>>().unwrap_or_default();
        for (nth, tool) in tools.iter().enumerate() {
            if let Err(why) = tool_is_allowed(tool, allowed) {
                found.push(Forbidden { path: format!("tools.{nth}"), why });
            }
        }
        found
    }
}

fn names(list: &[String], name: &str) -> bool {
    list.iter().any(|allowed| allowed == "*" || allowed == name)
}

/// An entry of Ultravox' `selectedTools`: one of `toolName`, `toolId`, `temporaryTool`, and what changes it.
fn tool_is_allowed(tool: &Value, allowed: &Allowances) -> Result<(), String> {
    const KNOWN: [&str; 8] = [
        "toolId",
        "toolName",
        "temporaryTool",
        "nameOverride",
        "descriptionOverride",
        "authTokens",
        "parameterOverrides",
        "transitionId",
    ];
    let tool = tool.as_object().ok_or("must be an object")?;
    if let Some(unknown) = tool.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(format!("{unknown} is no field of a tool: {}", KNOWN.join(", ")));
    }
    let text = |field: &str| -> Result<Option<&str>, String> {
        match tool.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text)),
            Some(_) => Err(format!("{field} must be a text")),
        }
    };
    let (name, id, other_name) = (text("toolName")?, text("toolId")?, text("nameOverride")?);
    let temporary = tool.get("temporaryTool").filter(|temporary| !temporary.is_null());
    let called = match (name, id, temporary) {
        (Some(kept), None, None) | (None, Some(kept), None) => {
            if !names(&allowed.tools, kept) {
                return Err(format!("the user may not name the tool {kept}; an admin can allow it (allowedTools)"));
            }
            kept
        }
        (None, None, Some(temporary)) => temporary_tool(temporary)?,
        _ => return Err("must have one of toolName, toolId and temporaryTool".to_owned()),
    };
    if [Some(called), other_name].into_iter().flatten().any(|name| name.trim().eq_ignore_ascii_case(REPORT_TOOL)) {
        return Err(format!("{REPORT_TOOL} is the name of the tool every call has"));
    }
    Ok(())
}

/// Whether the provider takes it for an id or a name of its own: 1 to 64 letters, digits, _ or -.
#[must_use]
pub fn is_provider_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A tool that is described in place: its name.
fn temporary_tool(tool: &Value) -> Result<&str, String> {
    let tool = tool.as_object().ok_or("temporaryTool must be an object")?;
    let name = tool.get("modelToolName").and_then(Value::as_str).unwrap_or_default();
    if !is_provider_name(name) {
        return Err("temporaryTool.modelToolName must be 1 to 64 letters, digits, _ or -".to_owned());
    }
    let ways: Vec<&str> =
        ["http", "client", "dataConnection"].into_iter().filter(|way| tool.contains_key(*way)).collect();
    if ways.len() != 1 {
        return Err("temporaryTool must have one of http, client and dataConnection".to_owned());
    }
    if let Some(http) = tool.get("http") {
        let url =
            http.as_object().and_then(|http: &Map<String, Value>| http.get("baseUrlPattern")).and_then(Value::as_str);
        if !url.is_some_and(|url| url.starts_with("https://") || url.starts_with("http://")) {
            return Err("temporaryTool.http.baseUrlPattern must be a URL".to_owned());
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scripts_name_what_is_allowed() {
        let allowed = Allowances { agents: vec!["a1".to_owned()], tools: vec!["hangUp".to_owned(), "t-7".to_owned()] };
        let of = |agent: Option<&str>, tools: Value| {
            let script = Script { agent_id: agent.map(str::to_owned), tools: RawJson::of(&tools), ..Script::default() };
            script
                .forbidden(&allowed)
                .into_iter()
                .map(|found| format!("{}: {}", found.path, found.why))
                .collect::<Vec<_>>()
        };
        let own = json!({"modelToolName": "lookUp", "description": "x", "http": {"baseUrlPattern": "https://a.example/x", "httpMethod": "GET"}});
        assert_eq!(
            of(
                Some("a1"),
                json!([{"toolName": "hangUp"}, {"toolId": "t-7", "nameOverride": "book"}, {"temporaryTool": own}])
            ),
            [""; 0]
        );
        assert_eq!(of(None, json!([])), [""; 0]);
        assert!(of(Some("a2"), json!([]))[0].starts_with("agentId: the user may not name the agent a2"));
        for (tool, why) in [
            (json!({"toolName": "queryCorpus"}), "may not name the tool queryCorpus"),
            (json!({"toolId": "t-8"}), "may not name the tool t-8"),
            (json!({"toolName": "hangUp", "nameOverride": "reportOutcome"}), "every call has"),
            (json!({"toolName": "hangUp", "nameOverride": " REPORTOUTCOME"}), "every call has"),
            (json!({"temporaryTool": {"modelToolName": "reportOutcome", "client": {}}}), "every call has"),
            (json!({"toolName": "hangUp", "toolId": "t-7"}), "one of toolName"),
            (json!({"nameOverride": "x"}), "one of toolName"),
            (json!({"toolName": 7}), "must be a text"),
            (json!({"toolname": "hangUp"}), "no field of a tool"),
            (json!({"temporaryTool": "x"}), "must be an object"),
            (json!({"temporaryTool": {"modelToolName": "a b", "client": {}}}), "modelToolName"),
            (json!({"temporaryTool": {"modelToolName": "a"}}), "one of http"),
            (json!({"temporaryTool": {"modelToolName": "a", "http": {}}}), "baseUrlPattern"),
            (json!("hangUp"), "must be an object"),
        ] {
            let found = of(None, json!([tool]));
            assert!(
                found.len() == 1 && found[0].starts_with("tools.0: ") && found[0].contains(why),
                "{tool}: {found:?}"
            );
        }
    }
}
