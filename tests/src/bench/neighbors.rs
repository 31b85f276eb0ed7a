//! Room in the kernel's neighbour table, which is one for all network namespaces.

use std::fs;

/// The limits, from the least to the greatest, and what they are raised to.
const LIMITS: [(&str, u64); 3] = [("gc_thresh1", 32_768), ("gc_thresh2", 49_152), ("gc_thresh3", 65_536)];

/// Limits that were raised; they are put back with this value.
#[derive(Debug)]
pub(super) struct Room {
    /// What was there before.
    before: Vec<(&'static str, String)>,
}

impl Room {
    /// Makes room for 65,536 neighbours; `None` where this process may not.
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

impl Drop for Room {
    fn drop(&mut self) {
        while let Some((name, value)) = self.before.pop() {
            if let Err(error) = fs::write(path(name), value.trim()) {
                eprintln!("{} stays raised: {error}", path(name));
            }
        }
    }
}

fn path(name: &str) -> String {
    format!("/proc/sys/net/ipv6/neigh/default/{name}")
}
