//! The frames that come in on the server's interface, and what the XDP program counts of them.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    netns::{Namespace, SERVER_INTERFACE, Wire, run},
    server::{Plane, Server},
};

/// How long the interface may take to be quiet.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is looked at for that.
const QUIET: Duration = Duration::from_millis(50);

/// Watches that each frame ends in one counter (invariant 5).
pub(crate) struct Frames<'a> {
    namespace: &'a Namespace,
    /// Those that came in before the program was there.
    before: u64,
}

/// Both counts at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    /// By the interface.
    received: u64,
    /// By the XDP program, whatever became of them.
    counted: u64,
}

impl<'a> Frames<'a> {
    /// Begins to watch a server that has just started; `None` where it has no XDP program.
    pub(crate) fn watch(wire: &'a Wire, server: &Server<'_>, plane: Plane) -> Result<Option<Self>> {
        if plane == Plane::DaemonOnly {
            return Ok(None);
        }
        let mut frames = Self { namespace: &wire.server, before: 0 };
        let Counts { received, counted } = frames.quiet_counts(server)?;
        frames.before = received.checked_sub(counted).context("more frames are counted than came in")?;
        Ok(Some(frames))
    }

    /// Makes sure that all frames since then were counted, each once.
    pub(crate) fn check(&self, server: &Server<'_>) -> Result<()> {
        let Counts { received, counted } = self.quiet_counts(server)?;
        let seen = received - self.before;
        ensure!(
            seen == counted && counted > 0,
            "{seen} frames came in and {counted} were counted: {}",
            server.ctl_json(&["stats"])?["fast_path"]
        );
        Ok(())
    }

    /// The counts while no frame is on its way.
    fn quiet_counts(&self, server: &Server<'_>) -> Result<Counts> {
        let started = Instant::now();
        let mut earlier = self.counts(server)?;
        while started.elapsed() < PATIENCE {
            thread::sleep(QUIET);
            let now = self.counts(server)?;
            if now == earlier {
                return Ok(now);
            }
            earlier = now;
        }
        Ok(earlier)
    }

    fn counts(&self, server: &Server<'_>) -> Result<Counts> {
        let mut list = self.namespace.command("ip");
        let interfaces: Value = serde_json::from_str(&run(list.args([
            "-statistics",
            "-json",
            "link",
            "show",
            "dev",
            SERVER_INTERFACE,
        ]))?)?;
        let received = interfaces[0]["stats64"]["rx"]["packets"].as_u64();
        let received = received.context("no count of the frames that came in")?;
        let stats = server.ctl_json(&["stats"])?;
        Ok(Counts { received, counted: total(&stats["fast_path"]) })
    }
}

/// The sum of all counters: those of a verdict are in a table by their reasons.
fn total(counters: &Value) -> u64 {
    match counters {
        Value::Object(counters) => counters.values().map(total).sum(),
        counter => counter.as_u64().unwrap_or_default(),
    }
}
