//! Bindings and the durable store.

mod checkpoint;
mod durable;
mod journal;
mod log_check;
mod log_room;
mod memory;
mod open_files;
mod rebuild;
mod server_duid;
mod sqlite;
mod store;
mod tables;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use dhcp6_common::{Origin, wire::Duid};
use serde::{Deserialize, Serialize};

pub use memory::MemoryStore;
pub use server_duid::{ServerDuidError, create_state_dir, server_duid};
pub use sqlite::{SqliteStore, read_database};
pub use store::{Contents, Row, Store, StoreError};

use crate::{pool::Resource, time::Time};

/// What a client has been given, as the store keeps it. Its key is the resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The leased address or delegated prefix.
    pub resource: Resource,
    /// Name of the link.
    pub link: Arc<str>,
    /// Where the client is on the link, as far as the link looked at that when this was written.
    pub origin: Origin,
    /// The client.
    pub duid: Duid,
    /// The client's IA, of the kind that holds such a resource.
    pub iaid: u32,
    /// Whether the client holds the resource or only held it.
    pub state: LeaseState,
    /// End of the preferred lifetime that the daemon promised last.
    pub preferred_until: Time,
    /// End of the valid lifetime that the daemon promised last.
    pub valid_until: Time,
    /// No promise by either plane reaches beyond this time. Never before `valid_until`.
    pub expires_at: Time,
}

/// Whether a lease holds its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseState {
    /// The resource is the client's until [`Lease::expires_at`].
    Bound,
    /// Released or expired: anybody may get it, but this client gets it back where it is still free.
    Remembered,
}

/// An address or prefix that is out of use for some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The address or prefix.
    pub resource: Resource,
    /// Name of the link.
    pub link: Arc<str>,
    /// The client that had it.
    pub duid: Duid,
    /// Why it is out of use.
    pub cause: ConflictCause,
    /// When it may be assigned again.
    pub until: Time,
}

/// Why a [`Conflict`] is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConflictCause {
    /// The client found the address in use by somebody else (RFC 9915, section 18.3.8).
    Declined,
    /// The client was told to part with it, but what it was promised has not ended yet.
    Withdrawn,
}

/// What a server's clock was like. Times in the store are by that clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Which boot of the machine this was: `/proc/sys/kernel/random/boot_id`.
    pub boot_id: [u8; 16],
    /// What the server took for the time at which CLOCK_BOOTTIME was zero.
    pub booted_at: Time,
    /// The time when this was written.
    pub seen: Time,
}

/// One change of the durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Inserts the lease, or replaces the one of the same resource.
    PutLease(Lease),
    /// Forgets the lease of a resource.
    RemoveLease(Resource),
    /// Inserts or replaces a conflict.
    PutConflict(Conflict),
    /// Makes a resource assignable again.
    RemoveConflict(Resource),
    /// Replaces the reading of the clock.
    PutClock(ClockReading),
    /// Replaces the server's own DUID.
    PutServerDuid(Duid),
}

impl Change {
    /// The resource whose lease it changes.
    pub fn lease(&self) -> Option<Resource> {
        match self {
            Self::PutLease(Lease { resource, .. }) | Self::RemoveLease(resource) => Some(*resource),
            Self::PutConflict(_) | Self::RemoveConflict(_) | Self::PutClock(_) | Self::PutServerDuid(_) => {
                None
            }
        }
    }
}
