//! Metrics for Prometheus: what both planes have done, over HTTP.
//!
//! Each scrape asks the daemon for a [`Snapshot`], so that nothing is shared with it and all numbers of a scrape are
//! of the same moment.

mod render;
mod server;

use dhcp6_common::Reason;

pub use self::{
    render::render,
    server::{MetricsServer, Scrape},
};
use crate::{
    control::{PoolRow, SlowPathCounters, Status},
    time::Time,
};

/// What one scrape shows.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Since when the daemon serves.
    pub since: Time,
    /// As in `dhcp6ctl status`.
    pub status: Status,
    /// As in `dhcp6ctl pool list`.
    pub pools: Vec<PoolRow>,
    /// The slow path's counters.
    pub slow_path: SlowPathCounters,
    /// The fast path's counters; empty where it is off.
    pub fast_path: Vec<InterfaceCounters>,
}

/// What became of the frames on one interface with the XDP program.
#[derive(Clone, Debug)]
pub struct InterfaceCounters {
    /// The interface.
    pub interface: String,
    /// Frames by the reason that they are counted under.
    pub frames: Vec<(Reason, u64)>,
}
