//! Benchmarks: what is measured, on which machine, and how it is shown.

mod fastpath;
mod figure;
mod load;
pub mod machine;
mod neighbors;
mod peers;
mod plot;
mod profile;
mod rates;
pub mod report;
pub mod scale;
mod servers;
pub mod slowpath;
pub mod stats;
mod storm;

use anyhow::Result;

use self::report::Results;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How often each thing is measured.
    pub runs: u32,
    /// Only so much as shows that everything works; the numbers mean little.
    pub quick: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Replies a second that the XDP program sends, and frames that reflectors do.
    FastPath,
    /// What many leases cost: start, memory, answers, reload, expiry.
    Scale,
    /// Exchanges a second in user space: this server's, others', and what plain sockets could have.
    SlowPath,
    /// Until when everybody is served when all clients power up at once.
    Storm,
    /// This server beside others, on one page.
    Peers,
    /// Where the daemon's time goes.
    Profile,
}

impl Subject {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 6] =
        [Self::FastPath, Self::SlowPath, Self::Storm, Self::Peers, Self::Profile, Self::Scale];

    /// The name on the command line and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::FastPath => "fastpath",
            Self::Scale => "scale",
            Self::SlowPath => "slowpath",
            Self::Storm => "storm",
            Self::Peers => "peers",
            Self::Profile => "profile",
        }
    }

    /// Measures. `progress` is told what is being done.
    ///
    /// # Errors
    ///
    /// Where something does not work as it should, however fast.
    pub fn measure(self, effort: Effort, progress: &dyn Fn(&str)) -> Result<Results> {
        match self {
            Self::FastPath => fastpath::measure(effort, progress),
            Self::Scale => scale::measure(effort, progress),
            Self::SlowPath => slowpath::measure(effort, progress),
            Self::Storm => storm::measure(effort, progress),
            Self::Peers => peers::measure(effort, progress),
            Self::Profile => profile::measure(effort, progress),
        }
    }
}
