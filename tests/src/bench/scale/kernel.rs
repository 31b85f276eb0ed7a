//! The bindings in the kernel, and what they cost there.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use dhcp6_common::{
    Origin,
    contract::{BINDINGS, LONG_BINDINGS},
};
use dhcp6_userspace::engine::Owner;
use dhcp6_userspace::fastpath::{PinnedMaps, Sweep};

use super::leases::Leases;

/// The index of the only link.
const LINK: u32 = 0;
/// Kinds of memory in which the kernel may keep the maps.
const KERNEL_MEMORY: [&str; 3] = ["SUnreclaim", "Percpu", "VmallocUsed"];

/// Watches bindings come or go, by a sample of them, which costs the machine little.
pub(super) struct Watch {
    sample: Vec<u32>,
    /// How many of the sample are as they are to be.
    done: usize,
}

impl Watch {
    pub(super) fn new(sample: Vec<u32>) -> Self {
        Self { sample, done: 0 }
    }

    /// Whether all of the sample are there, or all are gone.
    pub(super) fn is_done(&mut self, maps: &PinnedMaps, there: bool) -> Result<bool> {
        while let Some(number) = self.sample.get(self.done) {
            let owner = Owner { link: LINK, origin: Origin::ANY, duid: Leases::duid(*number) };
            if maps.bindings.get(&owner)?.is_some() != there {
                return Ok(false);
            }
            self.done += 1;
        }
        Ok(true)
    }
}

/// Counts all bindings.
pub(in crate::bench) fn count(pin_dir: &Path) -> Result<u32> {
    let mut sweep = Sweep::open(pin_dir)?;
    let mut count = 0;
    loop {
        let (entries, is_last) = sweep.next_batch()?;
        count += u32::try_from(entries.len())?;
        if is_last {
            return Ok(count);
        }
    }
}

/// What the kernel accounts to the maps of bindings, in octets.
pub(in crate::bench) fn accounted(pin_dir: &Path) -> Result<u64> {
    let maps = PinnedMaps::open(pin_dir)?.describe()?;
    Ok(maps
        .iter()
        .filter(|map| [BINDINGS, LONG_BINDINGS].contains(&map.name.as_str()))
        .map(|map| map.bytes)
        .sum())
}

/// Memory of the whole machine, of the kinds in which the kernel may keep the maps, in octets.
pub(super) fn in_use() -> Result<u64> {
    let meminfo = fields("/proc/meminfo")?;
    KERNEL_MEMORY.iter().map(|kind| meminfo.get(*kind).copied().with_context(|| format!("no {kind}"))).sum()
}

/// Memory of a process, in octets: what is resident, its own anonymous memory, and the most that was resident.
pub(in crate::bench) fn of_process(pid: u32) -> Result<(u64, u64, u64)> {
    let rollup = fields(&format!("/proc/{pid}/smaps_rollup"))?;
    let status = fields(&format!("/proc/{pid}/status"))?;
    let field = |fields: &BTreeMap<String, u64>, name| {
        fields.get(name).copied().with_context(|| format!("no {name}"))
    };
    Ok((field(&rollup, "Rss")?, field(&rollup, "Pss_Anon")?, field(&status, "VmHWM")?))
}

/// The sizes in a file of /proc, in octets.
fn fields(path: &str) -> Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some((name.to_owned(), kibibytes * 1024))
    };
    Ok(text.lines().filter_map(field).collect())
}
