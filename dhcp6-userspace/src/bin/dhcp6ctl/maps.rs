//! What the pinned maps say.

use std::{collections::BTreeMap, net::Ipv6Addr, path::Path};

use dhcp6_common::{
    Reason, Verdict,
    contract::{Binding, Link},
    wire::Duid,
};
use dhcp6_userspace::{
    clock::Clock,
    control::{Query, SlowPathCounters, ask},
    fastpath::{BindingEntry, MapError, PinnedMaps},
};
use serde::Serialize;

use crate::Failure;

/// An entry of the bindings map, decoded.
#[derive(Debug, Serialize)]
pub(crate) struct EntryRow {
    /// Name of the link.
    pub(crate) link: String,
    /// The client.
    pub(crate) duid: String,
    /// What it is granted.
    pub(crate) ia_na: Option<IaNaRow>,
    /// This version delegates no prefixes.
    pub(crate) ia_pd: Option<()>,
    /// Up to when the kernel may grant it, RFC 3339 in UTC, or `never` where that has no end.
    pub(crate) serve_until: String,
    /// When the kernel granted it last.
    pub(crate) last_grant: Option<String>,
    /// How often the kernel has granted it.
    pub(crate) grants: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct IaNaRow {
    pub(crate) iaid: u32,
    pub(crate) address: Ipv6Addr,
}

/// `dhcp6ctl stats`
#[derive(Debug, Serialize)]
pub(crate) struct Stats {
    /// Over all interfaces; absent where no maps are pinned.
    pub(crate) fast_path: Option<FastPathCounters>,
    /// Of each interface.
    pub(crate) interfaces: BTreeMap<String, FastPathCounters>,
    /// Absent while the daemon is down.
    pub(crate) slow_path: Option<SlowPathCounters>,
    /// Absent while the daemon is down.
    pub(crate) socket_drops: Option<u64>,
}

/// Frames by what became of them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct FastPathCounters {
    pub(crate) answered: u64,
    pub(crate) passed: BTreeMap<&'static str, u64>,
    pub(crate) dropped: BTreeMap<&'static str, u64>,
}

pub(crate) fn open(pin_dir: &Path) -> Result<PinnedMaps, Failure> {
    Ok(PinnedMaps::open(pin_dir)?)
}

/// The entries, of one link or of all, at most `limit`.
pub(crate) fn entries(maps: &PinnedMaps, link: Option<&str>, limit: usize) -> Result<Vec<EntryRow>, Failure> {
    let links = slots(maps, link)?;
    let (clock, _) = Clock::start(None);
    let mut rows = Vec::new();
    for entry in maps.bindings.iter() {
        let BindingEntry { slot, duid, binding } = entry?;
        if let Some(link) = links.get(&slot) {
            rows.push(row(link, &duid, &binding, clock));
            if rows.len() == limit {
                break;
            }
        }
    }
    rows.sort_by(|a, b| (&a.link, &a.duid).cmp(&(&b.link, &b.duid)));
    Ok(rows)
}

/// One client's entries.
pub(crate) fn look_up(maps: &PinnedMaps, duid: &Duid, link: Option<&str>) -> Result<Vec<EntryRow>, Failure> {
    let (clock, _) = Clock::start(None);
    let mut rows = Vec::new();
    for (slot, link) in slots(maps, link)? {
        if let Some(binding) = maps.bindings.get(slot, duid)? {
            rows.push(row(&link, duid, &binding, clock));
        }
    }
    Ok(rows)
}

/// The counters of both planes: of whichever can be reached.
pub(crate) fn stats(pin_dir: &Path, socket: &Path) -> Result<Stats, Failure> {
    let slow_path = ask::<SlowPathCounters>(socket, &Query::Stats);
    let interfaces = PinnedMaps::open(pin_dir).and_then(|maps| interface_counters(&maps));
    match (interfaces, slow_path) {
        (Err(MapError::Open { .. }), Err(failure)) => Err(failure.into()),
        (Err(failure @ (MapError::Layout { .. } | MapError::Access { .. })), _) => Err(failure.into()),
        (interfaces, slow_path) => {
            let interfaces = interfaces.ok();
            let slow_path = slow_path.ok();
            Ok(Stats {
                fast_path: interfaces.as_ref().map(|interfaces| total(interfaces.values())),
                interfaces: interfaces.unwrap_or_default(),
                socket_drops: slow_path.as_ref().map(|counters| counters.socket_drops),
                slow_path,
            })
        }
    }
}

/// The counters of each interface.
pub(crate) fn interface_counters(maps: &PinnedMaps) -> Result<BTreeMap<String, FastPathCounters>, MapError> {
    let mut interfaces = BTreeMap::new();
    for slot in 0..maps.links.slots() {
        let Some(link) = maps.links.link(slot)? else { continue };
        let mut counters = FastPathCounters::default();
        for reason in Reason::ALL {
            counters.add(*reason, maps.counters.get(slot, *reason)?);
        }
        interfaces.insert(text(&link.interface), counters);
    }
    Ok(interfaces)
}

impl FastPathCounters {
    fn add(&mut self, reason: Reason, count: u64) {
        match reason.verdict() {
            Verdict::Answered => self.answered += count,
            Verdict::Passed => *self.passed.entry(reason.name()).or_default() += count,
            Verdict::Dropped => *self.dropped.entry(reason.name()).or_default() += count,
        }
    }
}

fn total<'a>(interfaces: impl Iterator<Item = &'a FastPathCounters>) -> FastPathCounters {
    interfaces.fold(FastPathCounters::default(), |mut total, counters| {
        let FastPathCounters { answered, passed, dropped } = counters;
        total.answered += answered;
        for (into, from) in [(&mut total.passed, passed), (&mut total.dropped, dropped)] {
            for (reason, count) in from {
                *into.entry(reason).or_default() += count;
            }
        }
        total
    })
}

/// The slots in use and the names of their links: of one link or of all.
fn slots(maps: &PinnedMaps, link: Option<&str>) -> Result<BTreeMap<u32, String>, Failure> {
    let mut slots = BTreeMap::new();
    for slot in 0..maps.links.slots() {
        if let Some(Link { name, .. }) = maps.links.link(slot)? {
            slots.insert(slot, text(&name));
        }
    }
    if let Some(link) = link {
        slots.retain(|_, name| name == link);
        if slots.is_empty() {
            return Err(Failure::NotFound(format!("there is no link named {link} in the maps")));
        }
    }
    Ok(slots)
}

fn row(link: &str, duid: &Duid, binding: &Binding, clock: Clock) -> EntryRow {
    let Binding { seal: _, serve_until, address, iaid, grants, last_grant } = *binding;
    EntryRow {
        link: link.to_owned(),
        duid: duid.to_string(),
        ia_na: Some(IaNaRow { iaid: u32::from_be_bytes(iaid), address: address.into() }),
        ia_pd: None,
        serve_until: clock.time_of(serve_until).to_string(),
        last_grant: (last_grant != 0).then(|| clock.time_of(last_grant).to_string()),
        grants,
    }
}

/// A name with zeros behind it.
pub(crate) fn text(octets: &[u8]) -> String {
    let end = octets.iter().position(|octet| *octet == 0).unwrap_or(octets.len());
    String::from_utf8_lossy(&octets[..end]).into_owned()
}
