//! Who may: keys, and the local operator.
//!
//! On a loopback bind, requests without a key act as the local operator, an admin, where nothing tells that they come from elsewhere
//! ([`crate::api::keyless`]). On any other bind a key is needed, unless the service was told to run open by name. A key that is given is
//! always checked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sqlx::PgPool;
use tokio::sync::{Mutex, Semaphore};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};

use crate::api::Api;
use crate::api::error::Error;
use crate::api::keyless::Keyless;
use crate::api::scopes::{self, Grant, Scope};
use crate::db::fault::within;
use crate::domain::ids::{OPERATOR, UserId};
use crate::store::keys::{self, Owner};

/// Requests of each key (by its hash), user or address: so many a second, twice as many at once. Of this process alone.
#[derive(Debug)]
pub struct Rates {
    buckets: Option<DefaultKeyedRateLimiter<Vec<u8>>>,
}

const KEYS_KNOWN_MAX: usize = 10_000;

impl Rates {
    /// 0: any number.
    #[must_use]
    pub fn per_second(requests: u32) -> Self {
        let quota = NonZeroU32::new(requests)
            .map(|rate| Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(1))));
        Self { buckets: quota.map(RateLimiter::keyed) }
    }

    /// One more by this key, user or address.
    fn admit(&self, key: &[u8]) -> Result<(), Error> {
        let Some(buckets) = &self.buckets else { return Ok(()) };
        if buckets.len() > KEYS_KNOWN_MAX {
            // Those that have been quiet, guesses among them, are forgotten.
            buckets.retain_recent();
        }
        buckets.check_key(&key.to_vec()).map_err(|not_until| {
            Error::too_many_requests(
                not_until.wait_time_from(DefaultClock::default().now()).as_secs().try_into().unwrap_or(u32::MAX),
            )
        })
    }
}

/// The keys there are, so that guesses cost no query each. A hint: whether a known one is still good is asked every time.
#[derive(Debug)]
pub struct Known {
    /// By the first bytes of their hashes: two keys that share them cost a guess its query, no more.
    owners: RwLock<HashMap<[u8; 8], Owner>>,
    /// When the last look began. Who finds nothing waits here for one look, which answers all who wait.
    looked: Mutex<Option<Instant>>,
    /// So many wait at once: guesses must not hold connections.
    waiting: Semaphore,
}

/// What is not known is looked for again so long after the last look at the earliest.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const WAITING_MAX: usize = 16;

impl Default for Known {
    fn default() -> Self {
        Self { owners: RwLock::default(), looked: Mutex::default(), waiting: Semaphore::new(WAITING_MAX) }
    }
}

impl Known {
    /// Knows what there is from the start: clients that come all at once are no guesses.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn now(pool: &PgPool) -> sqlx::Result<Self> {
        let known = Self::default();
        known.look(pool).await?;
        Ok(known)
    }

    async fn look(&self, pool: &PgPool) -> sqlx::Result<()> {
        let hashes = keys::hashes(pool).await?;
        let owners = hashes.into_iter().filter_map(|(hash, owner)| Some((*hash.first_chunk::<8>()?, owner)));
        *self.owners.write().unwrap_or_else(PoisonError::into_inner) = owners.collect();
        Ok(())
    }

    /// Whether a key of this hash was there at the last look.
    fn has(&self, hash: &[u8]) -> bool {
        hash.first_chunk::<8>().is_some_and(|start| self.get(*start).is_some())
    }

    /// Whose key of this hash it may be; none: nobody's. A new one is found by a look that began after it was asked for, unless too many
    /// wait for that look already.
    async fn of(&self, pool: &PgPool, patience: Duration, hash: &[u8]) -> sqlx::Result<Option<Owner>> {
        let Some(start) = hash.first_chunk::<8>() else { return Ok(None) };
        if let Some(owner) = self.get(*start) {
            return Ok(Some(owner));
        }
        let Ok(_waiting) = self.waiting.try_acquire() else { return Ok(None) };
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if looked.is_none_or(|at| at < asked) {
            let wait = looked.map_or(Duration::ZERO, |at| (at + LOOK_AGAIN).saturating_duration_since(Instant::now()));
            tokio::time::sleep(wait).await;
            *looked = Some(Instant::now());
            within(patience, self.look(pool)).await?;
        }
        Ok(self.get(*start))
    }

    /// A key that was made here is known at once.
    pub fn add(&self, key: &str, owner: Owner) {
        if let Some(start) = keys::hash(key).first_chunk::<8>() {
            self.owners.write().unwrap_or_else(PoisonError::into_inner).insert(*start, owner);
        }
    }

    /// It opens nothing any more.
    fn forget(&self, hash: &[u8]) {
        if let Some(start) = hash.first_chunk::<8>() {
            self.owners.write().unwrap_or_else(PoisonError::into_inner).remove(start);
        }
    }

    fn get(&self, start: [u8; 8]) -> Option<Owner> {
        self.owners.read().unwrap_or_else(PoisonError::into_inner).get(&start).copied()
    }
}

/// How callers are told apart.
#[derive(Debug)]
pub struct Rules {
    pub rates: Rates,
    pub known: Known,
    /// Keys that nobody has, of each address.
    pub guesses: Rates,
    /// Requests without a key are the local operator's: a loopback bind, or open by name.
    pub keyless_is_operator: bool,
    /// What tells that they come from elsewhere.
    pub keyless: Keyless,
    /// The hash of the admin key of the settings, if there is one.
    pub admin_key: Option<Vec<u8>>,
}

/// Who makes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    Admin,
    User(UserId),
}

impl Caller {
    /// Whose rows it may see; none: everybody's.
    #[must_use]
    pub fn scope(self) -> Option<UserId> {
        match self {
            Self::Admin => None,
            Self::User(user) => Some(user),
        }
    }

    /// Who it is when nobody else is named.
    #[must_use]
    pub fn itself(self) -> UserId {
        match self {
            Self::Admin => OPERATOR,
            Self::User(user) => user,
        }
    }

    /// # Errors
    /// 403 for anybody but an admin.
    pub fn require_admin(self) -> Result<(), Error> {
        match self {
            Self::Admin => Ok(()),
            Self::User(_) => Err(Error::forbidden("this needs an admin key")),
        }
    }
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Error> {
        // Asked once for each request, and kept with it.
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(*known);
        }
        let (caller, grant) = Self::of(parts, api).await?;
        let route = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
        let needed = scopes::needed(&parts.method, route);
        if !grant.scopes.contains(&needed) {
            let may: Vec<&str> = grant.scopes.iter().map(|scope| scope.as_str()).collect();
            return Err(Error::forbidden(&format!(
                "this needs a key with the scope {}; this one may {}",
                needed.as_str(),
                may.join(", ")
            )));
        }
        parts.extensions.insert(caller);
        parts.extensions.insert(grant);
        Ok(caller)
    }
}

impl FromRequestParts<Arc<Api>> for Grant {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Error> {
        Caller::from_request_parts(parts, api).await?;
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

impl Caller {
    async fn of(parts: &Parts, api: &Api) -> Result<(Self, Grant), Error> {
        let Some(key) = key_in(&parts.headers)? else {
            return if api.who.keyless_is_operator {
                api.who.keyless.admit(parts).map(|()| (Self::Admin, Grant::whole()))
            } else {
                Err(Error::unauthorized("send a key: Authorization: Bearer <key>"))
            };
        };
        let hash = keys::hash(key);
        api.who.rates.admit(&hash)?;
        // Hashes are compared, so that time tells nothing of the key.
        if api.who.admin_key.as_ref() == Some(&hash) {
            return Ok((Self::Admin, Grant::whole()));
        }
        let from = parts.extensions.get::<Peer>().map(|peer| peer.0);
        // Before anything is looked for. A good key is not held up by guesses that come from the same address, a proxy's perhaps.
        if !api.who.known.has(&hash) {
            api.who.guesses.admit(&network_of(from))?;
        }
        let unknown = || Error::unauthorized("this key is unknown, or its time is over");
        let patience = api.limits.patience;
        let maybe = api.who.known.of(&api.db.gate, patience, &hash).await?.ok_or_else(unknown)?;
        if let Owner(Some(user)) = maybe {
            // However many keys it has; before anything is asked.
            api.who.rates.admit(user.0.as_bytes())?;
        }
        let Some(good) = within(patience, keys::owner(&api.db.gate, &hash, from)).await? else {
            api.who.known.forget(&hash);
            return Err(unknown());
        };
        let scopes = good.scopes.iter().filter_map(|word| Scope::of_str(word)).collect();
        let caller = good.owner.0.map_or(Self::Admin, Self::User);
        Ok((caller, Grant { scopes, expires_at: good.expires_at }))
    }
}

/// What one sender has at least: an address of IPv4, 64 bits of IPv6.
fn network_of(address: Option<IpAddr>) -> Vec<u8> {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(v4)) => v4.octets().to_vec(),
        Some(IpAddr::V6(v6)) => v6.octets().into_iter().take(8).collect(),
        None => Vec::new(),
    }
}

fn key_in(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str());
    let given = match (text(AUTHORIZATION.as_str()), text("x-api-key")) {
        (Some(value), _) => value.ok().and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        }),
        (None, Some(value)) => value.ok().map(str::trim),
        (None, None) => return Ok(None),
    };
    let key = given.filter(|key| !key.is_empty());
    key.map(Some)
        .ok_or_else(|| Error::unauthorized("the key must come as Authorization: Bearer <key> or X-API-Key: <key>"))
}

/// The two ways to send a key, for the document.
pub struct SecuritySchemes;

impl utoipa::Modify for SecuritySchemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))));
    }
}
