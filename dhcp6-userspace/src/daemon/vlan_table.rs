//! From a frame's VLAN to the link that it belongs to.

use std::{iter, ops::RangeInclusive};

use dhcp6_common::Vlan;

use crate::config::VlanSet;

/// Values that an outer identifier can have.
const IDENTIFIERS: u16 = 1 << 12;

/// The links in VLANs of one interface. Which one a frame belongs to is known after one look at a table and a binary
/// search among those that share its outer identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VlanTable {
    /// For each outer identifier, which of the groups its links are.
    group_of: Vec<u16>,
    /// Disjoint ranges of inner identifiers, ascending, and their links. The range 0 is for frames with one tag.
    groups: Vec<Vec<(RangeInclusive<u16>, u32)>>,
}

impl VlanTable {
    /// A table of links, each with its index, no two of which have a VLAN in common.
    pub(super) fn new<'a>(links: impl IntoIterator<Item = (u32, &'a VlanSet)>) -> Self {
        let links: Vec<_> = links.into_iter().collect();
        // Between two ends of ranges nothing changes.
        let mut is_first = vec![false; usize::from(IDENTIFIERS) + 1];
        is_first[0] = true;
        for range in links.iter().flat_map(|(_, vlans)| &vlans.outer) {
            is_first[usize::from(*range.start())] = true;
            is_first[usize::from(*range.end()) + 1] = true;
        }
        let mut group_of = Vec::with_capacity(IDENTIFIERS.into());
        let mut groups = Vec::new();
        for (outer, is_first) in (0..IDENTIFIERS).zip(is_first) {
            if is_first {
                groups.push(group(&links, outer));
            }
            // There are at most as many groups as identifiers.
            group_of.push((groups.len() - 1) as u16);
        }
        Self { group_of, groups }
    }

    /// The index of the link that a frame belongs to.
    pub(super) fn link_of(&self, Vlan { outer, inner }: Vlan) -> Option<u32> {
        let group = &self.groups[usize::from(*self.group_of.get(usize::from(outer))?)];
        let after = group.partition_point(|(range, _)| *range.start() <= inner);
        let (range, link) = &group[after.checked_sub(1)?];
        range.contains(&inner).then_some(*link)
    }
}

/// The inner identifiers of the links that have an outer one.
fn group(links: &[(u32, &VlanSet)], outer: u16) -> Vec<(RangeInclusive<u16>, u32)> {
    let mut group = Vec::new();
    for (link, vlans) in links {
        if vlans.outer.iter().any(|range| range.contains(&outer)) {
            if vlans.inner.is_empty() {
                group.push((0..=0, *link));
            }
            group.extend(vlans.inner.iter().cloned().zip(iter::repeat(*link)));
        }
    }
    group.sort_unstable_by_key(|(range, _)| *range.start());
    group
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use dhcp6_common::Vlan;

    use super::VlanTable;
    use crate::config::VlanSet;

    fn set(outer: &[RangeInclusive<u16>], inner: &[RangeInclusive<u16>]) -> VlanSet {
        VlanSet { outer: outer.to_vec(), inner: inner.to_vec() }
    }

    #[test]
    fn it_agrees_with_the_sets() {
        let sets = [
            set(&[100..=100], &[]),
            set(&[100..=100], &[1..=10, 12..=12]),
            set(&[100..=100, 200..=299], &[11..=11, 4094..=4094]),
            set(&[1..=99, 4094..=4094], &[1..=4094]),
            set(&[200..=250], &[]),
        ];
        let table = VlanTable::new((7..).zip(&sets));
        for outer in 0..4096 {
            for inner in [0, 1, 2, 9, 10, 11, 12, 13, 4093, 4094, 4095] {
                let vlan = Vlan { outer, inner };
                let link = (7..).zip(&sets).find(|(_, set)| set.contains(vlan)).map(|(link, _)| link);
                assert_eq!(table.link_of(vlan), link, "{vlan}");
            }
        }
        assert_eq!(VlanTable::new([]).link_of(Vlan { outer: 1, inner: 0 }), None);
    }

    #[test]
    fn it_has_room_for_every_subscriber() {
        let each: Vec<_> = (1..=4094).map(|id| set(&[id..=id], &[])).collect();
        let nested: Vec<_> = (1..=4094).map(|id| set(&[1..=4094], &[id..=id])).collect();
        let (by_outer, by_inner) = (VlanTable::new((0..).zip(&each)), VlanTable::new((0..).zip(&nested)));
        for id in 1..=4094 {
            assert_eq!(by_outer.link_of(Vlan { outer: id, inner: 0 }), Some(u32::from(id) - 1));
            assert_eq!(by_inner.link_of(Vlan { outer: 4095 - id, inner: id }), Some(u32::from(id) - 1));
        }
    }
}
