//! So much for each tenant at once: reads under way, and bytes of bodies in memory.
//!
//! **Invariant:** a tenant is known here only while it holds or waits for something, so there are never more of them than requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::auth::Caller;
use crate::domain::ids::UserId;

/// Whose share: one of each user, one of all admins, one of those who send no key (webhooks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tenant {
    Keyless,
    Admin,
    User(UserId),
}

impl From<Caller> for Tenant {
    fn from(caller: Caller) -> Self {
        match caller {
            Caller::Admin => Self::Admin,
            Caller::User(user) => Self::User(user),
        }
    }
}

/// A semaphore for each tenant, all of the same size.
#[derive(Debug)]
pub struct Shares {
    each: usize,
    known: Arc<Mutex<HashMap<Tenant, Arc<Semaphore>>>>,
}

/// A part of a tenant's share; given back when dropped.
#[derive(Debug)]
pub struct Share {
    tenant: Tenant,
    semaphore: Arc<Semaphore>,
    known: Arc<Mutex<HashMap<Tenant, Arc<Semaphore>>>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Shares {
    #[must_use]
    pub fn new(each: usize) -> Self {
        Self { each: each.clamp(1, Semaphore::MAX_PERMITS), known: Arc::default() }
    }

    /// So much of the tenant's share, in the order asked; none: it was not to be had within `patience`.
    pub async fn take(&self, tenant: Tenant, amount: u32, patience: Duration) -> Option<Share> {
        // The guard of the entry is there before the wait, so that a client who leaves while it waits leaves nothing behind.
        let mut share = {
            let mut known = lock(&self.known);
            let semaphore = known.entry(tenant).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
            Share { tenant, semaphore: Arc::clone(semaphore), known: Arc::clone(&self.known), permit: None }
        };
        let permit = Arc::clone(&share.semaphore).acquire_many_owned(amount);
        share.permit = Some(tokio::time::timeout(patience, permit).await.ok()?.ok()?);
        Some(share)
    }

    #[cfg(test)]
    fn tenants(&self) -> usize {
        lock(&self.known).len()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut known = lock(&self.known);
        // Back before the entry is looked at.
        self.permit = None;
        // The map, this one, and nobody else.
        if Arc::strong_count(&self.semaphore) <= 2 {
            known.remove(&self.tenant);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is done under the lock that could leave the map half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::new_id;

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(20);

    /// A tenant gets its share and no more, another is not held up, and what is given back can be had again.
    #[tokio::test]
    async fn a_share_for_each_tenant() {
        let shares = Shares::new(2);
        let (busy, other) = (Tenant::User(UserId(new_id())), Tenant::Admin);
        let first = shares.take(busy, 1, SOON).await.expect("free");
        let second = shares.take(busy, 1, SOON).await.expect("free");
        assert!(shares.take(busy, 1, SOON).await.is_none(), "a third of two");
        assert!(shares.take(other, 2, SOON).await.is_some(), "another tenant's");
        drop(first);
        let third = shares.take(busy, 1, SOON).await.expect("given back");
        let (waited, ()) = tokio::join!(shares.take(busy, 1, LATE), async { drop(second) });
        assert!(waited.is_some(), "who waits is served when something is given back");
        drop((third, waited));
        assert_eq!(shares.tenants(), 0);
    }

    /// Who waits in vain, or leaves while waiting, is forgotten like everybody else.
    #[tokio::test]
    async fn nobody_is_remembered() {
        let shares = Shares::new(1);
        for _ in 0..100 {
            let tenant = Tenant::User(UserId(new_id()));
            let held = shares.take(tenant, 1, SOON).await.expect("free");
            assert!(shares.take(tenant, 1, Duration::from_millis(1)).await.is_none());
            let leaves = tokio::time::timeout(Duration::from_millis(1), shares.take(tenant, 1, LATE)).await;
            assert!(leaves.is_err());
            assert_eq!(shares.tenants(), 1);
            drop(held);
            assert_eq!(shares.tenants(), 0);
        }
    }
}
