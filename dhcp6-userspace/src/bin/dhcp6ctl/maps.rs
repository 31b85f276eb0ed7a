//! What the pinned maps say.

use std::{collections::BTreeMap, net::Ipv6Addr, path::Path};

use dhcp6_common::{
    Origin, Reason, Verdict, Vlan,
    contract::{LINK_BINDS_TO_MAC, LINK_SPANS_VLANS, Link, Stamp},
    wire::Duid,
};
use dhcp6_userspace::{
    clock::Clock,
    config::ClientKey,
    control::{Query, SlowPathCounters, ask},
    engine::Owner,
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
    /// The VLAN that it has to be in, on a link that spans several.
    pub(crate) vlan: Option<String>,
    /// The MAC address that it has to have, on a link with `bind_to_mac`.
    pub(crate) mac: Option<String>,
    /// What address it is granted.
    pub(crate) ia_na: Option<IaNaRow>,
    /// What prefix it is granted.
    pub(crate) ia_pd: Option<IaPdRow>,
    /// Up to when the kernel may grant it, RFC 3339 in UTC, or `never` where that has no end.
    pub(crate) serve_until: String,
    /// When the kernel granted it last.
    pub(crate) last_grant: Option<String>,
    /// How often the kernel has granted it, up to 65535.
    pub(crate) grants: u16,
}

#[derive(Debug, Serialize)]
pub(crate) struct IaNaRow {
    pub(crate) iaid: u32,
    pub(crate) address: Ipv6Addr,
}

#[derive(Debug, Serialize)]
pub(crate) struct IaPdRow {
    pub(crate) iaid: u32,
    pub(crate) prefix: String,
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
    let links = links(maps, link)?;
    rows(maps.bindings.iter(), &links, limit)
}

/// One client's entries.
pub(crate) fn look_up(maps: &PinnedMaps, duid: &Duid, link: Option<&str>) -> Result<Vec<EntryRow>, Failure> {
    let links = links(maps, link)?;
    // What tells clients with the same DUID apart is in the keys: there all have to be looked at.
    if links.values().any(|(_, link)| link.flags & (LINK_SPANS_VLANS | LINK_BINDS_TO_MAC) != 0) {
        let is_it = |entry: &Result<BindingEntry, MapError>| {
            entry.as_ref().map_or(true, |entry| entry.owner.duid == *duid)
        };
        return rows(maps.bindings.iter().filter(is_it), &links, usize::MAX);
    }
    let owners = links.keys().map(|link| Owner { link: *link, origin: Origin::ANY, duid: *duid });
    let entries = owners.filter_map(|owner| {
        let found = maps.bindings.get(&owner).transpose()?;
        Some(found.map(|binding| BindingEntry { owner, binding }))
    });
    rows(entries, &links, usize::MAX)
}

fn rows(
    entries: impl Iterator<Item = Result<BindingEntry, MapError>>,
    links: &BTreeMap<u32, (String, Link)>,
    limit: usize,
) -> Result<Vec<EntryRow>, Failure> {
    let (clock, _) = Clock::start(None);
    let mut rows = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some((link, _)) = links.get(&entry.owner.link) {
            rows.push(row(link, &entry, clock));
            if rows.len() == limit {
                break;
            }
        }
    }
    rows.sort_by(|a, b| (&a.link, &a.duid, &a.vlan, &a.mac).cmp(&(&b.link, &b.duid, &b.vlan, &b.mac)));
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
    for interface in maps.tables.interfaces() {
        let (slot, interface) = interface?;
        let mut counters = FastPathCounters::default();
        for reason in Reason::ALL {
            counters.add(*reason, maps.counters.get(slot, *reason)?);
        }
        interfaces.insert(text(&interface.name), counters);
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

/// The links in the maps with their names, by their indexes: one link or all.
fn links(maps: &PinnedMaps, link: Option<&str>) -> Result<BTreeMap<u32, (String, Link)>, Failure> {
    let named = |found: Result<(u32, Link), MapError>| found.map(|(index, it)| (index, (text(&it.name), it)));
    let mut links = maps.tables.links().map(named).collect::<Result<BTreeMap<_, _>, _>>()?;
    if let Some(link) = link {
        links.retain(|_, (name, _)| name == link);
        if links.is_empty() {
            return Err(Failure::NotFound(format!("there is no link named {link} in the maps")));
        }
    }
    Ok(links)
}

fn row(link: &str, entry: &BindingEntry, clock: Clock) -> EntryRow {
    let Owner { link: _, origin: Origin { vlan, mac }, duid } = entry.owner;
    let stamp = entry.binding.stamp;
    EntryRow {
        link: link.to_owned(),
        duid: duid.to_string(),
        vlan: (vlan != Vlan::NONE).then(|| vlan.to_string()),
        mac: (mac != Origin::ANY.mac).then(|| ClientKey::Mac(mac).to_string()),
        ia_na: entry.address().map(|(iaid, address)| IaNaRow { iaid, address }),
        ia_pd: entry.prefix().map(|(iaid, prefix)| IaPdRow { iaid, prefix: prefix.to_string() }),
        serve_until: clock.time_of(entry.binding.serve_until()).to_string(),
        last_grant: (stamp != Stamp::NONE).then(|| clock.time_of(stamp.last_grant()).to_string()),
        grants: stamp.grants(),
    }
}

/// A name with zeros behind it.
pub(crate) fn text(octets: &[u8]) -> String {
    let end = octets.iter().position(|octet| *octet == 0).unwrap_or(octets.len());
    String::from_utf8_lossy(&octets[..end]).into_owned()
}
