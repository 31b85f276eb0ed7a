//! A store for tests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dhcp6_common::wire::Duid;

use super::{Change, ClockReading, Conflict, Contents, Lease, Row, Store, StoreError, store};
use crate::pool::Resource;

/// A [`Store`] that forgets everything at the end of the process and fails where a test wants it to.
///
/// Clones share their contents: a test keeps one and gives another to each server that it starts, as a restart
/// would find the same database.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    leases: BTreeMap<Resource, Lease>,
    conflicts: BTreeMap<Resource, Conflict>,
    clock: Option<ClockReading>,
    server_duid: Option<Duid>,
    /// How many commits from now on fail.
    failures: u32,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next `commits` commits fail with [`StoreError::Injected`], of this handle and its clones; 0
    /// ends the failures of an earlier call.
    pub fn fail_next(&self, commits: u32) {
        self.shared().failures = commits;
    }

    /// What the store holds now.
    pub fn contents(&self) -> Contents {
        let shared = self.shared();
        Contents {
            leases: shared.leases.values().cloned().collect(),
            conflicts: shared.conflicts.values().cloned().collect(),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // No code that holds the lock leaves the contents half changed.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn read(&mut self, take: &mut dyn FnMut(Row)) -> Result<(), StoreError> {
        // Whoever takes a row may use the store.
        self.contents().into_iter().for_each(take);
        Ok(())
    }

    fn clock(&mut self) -> Result<Option<ClockReading>, StoreError> {
        Ok(self.shared().clock)
    }

    fn server_duid(&mut self) -> Result<Option<Duid>, StoreError> {
        Ok(self.shared().server_duid)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        store::check(changes)?;
        let mut shared = self.shared();
        if shared.failures > 0 {
            shared.failures -= 1;
            return Err(StoreError::Injected);
        }
        for change in changes {
            match change {
                Change::PutLease(lease) => {
                    shared.leases.insert(lease.resource, lease.clone());
                }
                Change::RemoveLease(resource) => {
                    shared.leases.remove(resource);
                }
                Change::PutConflict(conflict) => {
                    shared.conflicts.insert(conflict.resource, conflict.clone());
                }
                Change::RemoveConflict(resource) => {
                    shared.conflicts.remove(resource);
                }
                Change::PutClock(reading) => shared.clock = Some(*reading),
                Change::PutServerDuid(duid) => shared.server_duid = Some(*duid),
            }
        }
        Ok(())
    }
}
