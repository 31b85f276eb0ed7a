//! Room in the kernel's neighbour table, which is one for all network namespaces.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// The limits, from the least to the greatest, and what they are raised to.
const LIMITS: [(&str, u64); 3] = [("gc_thresh1", 393_216), ("gc_thresh2", 458_752), ("gc_thresh3", 524_288)];

/// How many neighbours there are, in all namespaces together: the first column, hexadecimal, of every line but the first.
const STATISTICS: &str = "/proc/net/stat/ndisc_cache";
/// How long the kernel may take to forget the neighbours of namespaces that are gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Limits that were raised; they are put back with this value.
#[derive(Debug)]
pub(super) struct Room {
    /// What was there before.
    before: Vec<(&'static str, String)>,
}

impl Room {
    /// Makes room for 524,288 neighbours; `None` where this process may not.
    pub(super) fn make() -> Option<Self> {
        let mut room = Self { before: Vec::new() };
        // The greatest first, so that none is above the next.
        for (name, wanted) in LIMITS.into_iter().rev() {
            let before = fs::read_to_string(path(name)).ok()?;
            if before.trim().parse::<u64>().ok()? < wanted {
                fs::write(path(name), wanted.to_string()).ok()?;
                room.before.push((name, before));
            }
        }
        Some(room)
    }
}

impl Room {
    /// Waits until the table is half empty by the limits of before. With more in it than these allow, the kernel
    /// would refuse to send to new neighbours, in every namespace.
    fn wait_until_fewer(&self) {
        let greatest = self.before.first().and_then(|(_, value)| value.trim().parse::<u64>().ok());
        let start = Instant::now();
        while let Some((limit, entries)) = greatest.zip(entries())
            && entries > limit / 2
            && start.elapsed() < PATIENCE
        {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn entries() -> Option<u64> {
    let statistics = fs::read_to_string(STATISTICS).ok()?;
    u64::from_str_radix(statistics.lines().nth(1)?.split_whitespace().next()?, 16).ok()
}

impl Drop for Room {
    fn drop(&mut self) {
        self.wait_until_fewer();
        while let Some((name, value)) = self.before.pop() {
            // Somebody else may have changed it meanwhile.
            if !is_raised(name) {
                continue;
            }
            if let Err(error) = fs::write(path(name), value.trim()) {
                eprintln!("{} stays raised: {error}", path(name));
            }
        }
    }
}

/// Whether a limit is what [`Room::make`] makes of it.
fn is_raised(name: &str) -> bool {
    let wanted = LIMITS.iter().find(|(limit, _)| *limit == name).map(|(_, wanted)| *wanted);
    fs::read_to_string(path(name)).ok().and_then(|value| value.trim().parse().ok()) == wanted
}

fn path(name: &str) -> String {
    format!("/proc/sys/net/ipv6/neigh/default/{name}")
}
