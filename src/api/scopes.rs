//! What a key may do: each route needs one scope, whoever owns the key.
//!
//! Pure: a method and a route in, a scope out. That an admin's routes need an admin besides is the handlers' affair.

use axum::http::Method;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A part of what can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See.
    Read,
    /// Change what rings no phone.
    Write,
    /// Whatever may have a phone ring.
    Dial,
    /// Keys, and what admins alone may.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Dial, Self::Admin];
    /// A user's key, unless more or less is asked for: it makes no keys.
    pub const OF_USERS: [Self; 3] = [Self::Read, Self::Write, Self::Dial];

    /// The stable word for it, in SQL and JSON alike.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Dial => "dial",
            Self::Admin => "admin",
        }
    }

    /// What a word means; none: nothing.
    #[must_use]
    pub fn of_str(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// What the key of a request may do, and until when.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    pub scopes: Vec<Scope>,
    pub expires_at: Option<DateTime<Utc>>,
}

impl Grant {
    /// Everything, for ever: the local operator's, and the admin key of the settings.
    #[must_use]
    pub fn whole() -> Self {
        Self { scopes: Scope::ALL.into(), expires_at: None }
    }
}

/// The scope a route needs.
#[must_use]
pub fn needed(method: &Method, route: &str) -> Scope {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Scope::Read;
    }
    let path: Vec<&str> = route.trim_start_matches("/api/v1").split('/').filter(|part| !part.is_empty()).collect();
    let removes = *method == Method::DELETE;
    match path[..] {
        ["users"] | ["users", _] => Scope::Admin,
        ["keys" | "plans" | "legal-hours" | "test-numbers" | "suppressions", ..]
        | ["users", _, "keys" | "subscription", ..]
        | ["calls", _, "end"] => Scope::Admin,
        ["calls", _, "cancel"] | ["campaigns", _, "pause" | "cancel"] => Scope::Write,
        // Whoever leaves a do-not-call list may be called.
        ["users", _, "suppressions", _] | ["phone-numbers", _] => Scope::Dial,
        _ if removes => Scope::Write,
        ["calls", ..]
        // A change of a campaign may end a pause.
        | ["campaigns", _]
        | ["campaigns", _, "phone-numbers" | "start" | "resume"]
        | ["users", _, "prospects", ..]
        | ["scheduler", ..] => Scope::Dial,
        _ => Scope::Write,
    }
}
