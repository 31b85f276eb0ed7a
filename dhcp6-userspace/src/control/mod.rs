//! The control socket: what operators ask the daemon.
//!
//! One JSON document a line, a [`Query`] from the client and a [`Response`] from the daemon, on a Unix stream
//! socket. `dhcp6ctl` is the client.

mod client;
mod protocol;
mod server;

pub use client::{ControlError, ask};
pub use protocol::{
    AddressRow, Cleared, Count, Counts, FastPathRow, FastPathStatus, LeaseRow, LinkStatus, PoolDetail,
    PoolRow, PrefixRow, Query, Queued, ReceiveBuffer, Released, ReloadStatus, Reloaded, Response,
    SlowPathCounters, Status, StoreStatus, Text,
};
pub use server::{ControlServer, Question};
