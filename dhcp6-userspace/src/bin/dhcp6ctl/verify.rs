//! `dhcp6ctl map verify`: whether the kernel's bindings are what the store says.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    thread,
    time::Duration,
};

use dhcp6_common::{
    Origin, Vlan,
    contract::{LINK_BINDS_TO_MAC, LINK_SPANS_VLANS, Link},
};
use dhcp6_userspace::{
    clock::Clock,
    control::{LeaseRow, Query, Text, ask},
    engine::Owner,
    fastpath::PinnedMaps,
    lease::{Lease, LeaseState, Row, read_database},
    pool::Resource,
};
use serde::Serialize;

use crate::{Failure, maps};

/// How long the daemon may take to bring both up to date after a change.
const SETTLING: Duration = Duration::from_millis(500);

/// Something that the maps and the store do not say alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Difference {
    /// Name of the link.
    pub(crate) link: String,
    /// The client.
    pub(crate) duid: String,
    /// The address or prefix.
    pub(crate) address: String,
    /// What differs.
    pub(crate) problem: String,
}

/// `dhcp6ctl map verify`
#[derive(Debug, Serialize)]
pub(crate) struct Verification {
    /// How many entries the maps have.
    pub(crate) entries: usize,
    /// Whether the daemon could say what else the maps should have.
    pub(crate) both_ways: bool,
    /// None where the maps and the store agree.
    pub(crate) differences: Vec<Difference>,
}

/// Compares maps and store entry by entry. What changes meanwhile is looked at again.
pub(crate) fn verify(pin_dir: &Path, database: &Path, socket: &Path) -> Result<Verification, Failure> {
    let first = compare(pin_dir, database, socket)?;
    if first.differences.is_empty() {
        return Ok(first);
    }
    thread::sleep(SETTLING);
    let second = compare(pin_dir, database, socket)?;
    let lasting: BTreeSet<_> = first.differences.into_iter().collect();
    let differences = second.differences.into_iter().filter(|it| lasting.contains(it)).collect();
    Ok(Verification { differences, ..second })
}

fn compare(pin_dir: &Path, database: &Path, socket: &Path) -> Result<Verification, Failure> {
    // The daemon's word first, then the maps, then the store: each is behind the one before it when leases begin.
    let query = Query::LeaseList { link: None, duid: None };
    let leases = ask::<Vec<LeaseRow>>(socket, &query).ok();
    let maps = PinnedMaps::open(pin_dir)?;
    let entries: Vec<_> = maps.bindings.iter().collect::<Result<_, _>>()?;
    let mut stored: HashMap<Resource, Lease> = HashMap::new();
    let reading = read_database(database, &mut |row| {
        if let Row::Lease(lease) = row {
            stored.insert(lease.resource, lease);
        }
    })
    .map_err(|failure| Failure::Unreachable(failure.to_string()))?;
    let (clock, _) = Clock::start(reading.as_ref());

    let mut differences = Vec::new();
    let mut found = BTreeSet::new();
    let links = maps.tables.links().collect::<Result<HashMap<_, _>, _>>()?;
    for entry in &entries {
        let Owner { link, origin, duid } = entry.owner;
        let Some(link) = links.get(&link) else { continue };
        let name = maps::text(&link.name);
        let valid = u32::from_be_bytes(link.valid_lifetime);
        let reach = clock.time_of(entry.binding.serve_until()).after_lifetime(valid);
        for (iaid, resource) in entry.resources() {
            let lease = stored.get(&resource).filter(|lease| {
                *lease.link == *name
                    && looked_at(link, lease.origin) == origin
                    && lease.duid == duid
                    && lease.iaid == iaid
                    && lease.state == LeaseState::Bound
            });
            let problem = match lease {
                None => Some("the store has no such lease".to_owned()),
                // Conversion to CLOCK_BOOTTIME rounds to a millisecond.
                Some(lease) if reach > lease.expires_at.after(Duration::from_millis(1)) => Some(format!(
                    "the kernel may promise it until {reach}, the store has it until {}",
                    lease.expires_at
                )),
                Some(_) => None,
            };
            found.insert((name.clone(), duid.to_string(), resource));
            differences.extend(problem.map(|problem| Difference {
                link: name.clone(),
                duid: duid.to_string(),
                address: resource.to_string(),
                problem,
            }));
        }
    }
    for lease in leases.iter().flatten().filter(|lease| lease.in_kernel) {
        let LeaseRow { link, duid, address, prefix, .. } = lease;
        let prefix = prefix.as_ref().map(|Text(prefix)| Resource::from(*prefix));
        for resource in address.map(Resource::from).into_iter().chain(prefix) {
            if !found.contains(&(link.clone(), duid.clone(), resource)) {
                differences.push(Difference {
                    link: link.clone(),
                    duid: duid.clone(),
                    address: resource.to_string(),
                    problem: "the maps lack it".to_owned(),
                });
            }
        }
    }
    differences.sort();
    Ok(Verification { entries: entries.len(), both_ways: leases.is_some(), differences })
}

/// What a link looks at of a client's origin. The store may know more, of the time when the link looked at that.
fn looked_at(link: &Link, Origin { vlan, mac }: Origin) -> Origin {
    Origin {
        vlan: if link.is(LINK_SPANS_VLANS) { vlan } else { Vlan::NONE },
        mac: if link.is(LINK_BINDS_TO_MAC) { mac } else { Origin::ANY.mac },
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use dhcp6_common::{
        Origin, Vlan,
        contract::{LINK_BINDS_TO_MAC, LINK_SPANS_VLANS, Link},
    };

    use super::looked_at;

    #[test]
    fn what_a_link_does_not_look_at_any_more_tells_no_leases_apart() {
        let origin = Origin { vlan: Vlan { outer: 100, inner: 7 }, mac: [2, 0, 0, 0, 0, 1] };
        let of = |flags| looked_at(&Link { flags, ..Link::zeroed() }, origin);
        assert_eq!(of(0), Origin::ANY);
        assert_eq!(of(LINK_SPANS_VLANS), Origin { vlan: origin.vlan, ..Origin::ANY });
        assert_eq!(of(LINK_BINDS_TO_MAC), Origin { mac: origin.mac, ..Origin::ANY });
        assert_eq!(of(LINK_SPANS_VLANS | LINK_BINDS_TO_MAC), origin);
    }
}
