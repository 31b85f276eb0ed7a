//! Bindings and the durable store.

mod durable;
mod memory;
mod server_duid;
mod sqlite;
mod store;

use std::net::Ipv6Addr;

use dhcp6_common::wire::Duid;

pub use memory::MemoryStore;
pub use server_duid::{ServerDuidError, server_duid};
pub use sqlite::SqliteStore;
pub use store::{Contents, Store, StoreError};

use crate::time::Time;

/// What a client has been given, as the store keeps it. Its key is the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The leased address.
    pub address: Ipv6Addr,
    /// Name of the link.
    pub link: String,
    /// The client.
    pub duid: Duid,
    /// The client's IA_NA.
    pub iaid: u32,
    /// Whether the client holds the address or only held it.
    pub state: LeaseState,
    /// End of the preferred lifetime that the daemon promised last.
    pub preferred_until: Time,
    /// End of the valid lifetime that the daemon promised last.
    pub valid_until: Time,
    /// No promise by either plane reaches beyond this time. Never before `valid_until`.
    pub expires_at: Time,
}

/// Whether a lease holds its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// The address is the client's until [`Lease::expires_at`].
    Bound,
    /// Released or expired: anybody may get the address, but this client gets it back where it is still free.
    Remembered,
}

/// An address that a client found in use by somebody else (RFC 9915, section 18.3.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The address.
    pub address: Ipv6Addr,
    /// Name of the link.
    pub link: String,
    /// The client that declined it.
    pub duid: Duid,
    /// When it may be assigned again.
    pub until: Time,
}

/// One change of the durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Inserts the lease, or replaces the one with the same address.
    PutLease(Lease),
    /// Forgets the lease of an address.
    RemoveLease(Ipv6Addr),
    /// Inserts or replaces a conflict.
    PutConflict(Conflict),
    /// Makes an address assignable again.
    RemoveConflict(Ipv6Addr),
}
