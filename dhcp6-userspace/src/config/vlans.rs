//! The VLANs of links: no frame that comes in on an interface belongs to two of them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    ops::{Range, RangeInclusive},
};

use dhcp6_common::Vlan;

use super::{
    VlanSet,
    file::{List, Tag},
    validate::Checker,
    values,
};

/// Identifiers of VLANs (IEEE 802.1Q, table 9-2): 0 is a tag without a VLAN, and 4095 is reserved.
const IDENTIFIERS: RangeInclusive<u16> = 1..=4094;

/// The frames that a link takes of its interface.
pub(super) struct Taken {
    pub(super) vlans: Option<VlanSet>,
    /// Where `vlan` is written, or else `interface`.
    pub(super) place: Range<usize>,
}

/// Frames by the identifiers of their tags, 0 for a tag that is not there.
#[derive(Clone)]
struct Frames {
    outer: RangeInclusive<u16>,
    inner: RangeInclusive<u16>,
    /// The link's index among those on the interface, in the order of the file.
    link: usize,
}

impl Checker<'_, '_> {
    /// `vlan` of the link at `link`. `Err` where it is wrong, which is reported.
    pub(super) fn vlans(
        &mut self,
        link: &Range<usize>,
        has_interface: bool,
        vlan: List<Tag>,
    ) -> Result<Option<VlanSet>, ()> {
        const KEY: &str = "vlan";
        // A part that was removed is a mistake, but the rest is none because of that.
        let removed = self.removed.contains(link, KEY);
        let Some(vlan) = vlan else { return if removed { Err(()) } else { Ok(None) } };
        let before = self.report.mistakes();
        let span = vlan.span();
        if !has_interface && !self.removed.contains(link, "interface") {
            let message =
                "`vlan` needs an `interface`: a link without one is reached through relay agents only";
            self.report.add(&span, message);
        }
        let tags = vlan.into_inner();
        if !removed && !matches!(tags.len(), 1..=2) {
            let message =
                format!("`{KEY}` has one element, or two for an outer and an inner tag, not {}", tags.len());
            self.report.add(&span, message);
        }
        let sets: Vec<_> =
            tags.into_iter().map(|tag| self.parse(KEY, tag, |tag| identifiers(&tag))).collect();
        if removed || self.report.mistakes() > before {
            return Err(());
        }
        let mut sets = sets.into_iter().flatten();
        let outer = sets.next().unwrap_or_default();
        Ok(Some(VlanSet { outer, inner: sets.next().unwrap_or_default() }))
    }

    /// Reports links that take the same frames of an interface.
    pub(super) fn frames_have_one_link(&mut self) {
        let interfaces: HashMap<String, Vec<Taken>> = std::mem::take(&mut self.seen.interfaces);
        for (name, links) in interfaces {
            for (earlier, later, vlan) in overlaps(&links) {
                let place = &links[later].place;
                let line = self.report.refer(place, &links[earlier].place);
                let message = if vlan == Vlan::NONE {
                    format!(
                        "`interface`: \"{name}\" already has the link of {line}; tell them apart by `vlan`"
                    )
                } else {
                    format!(
                        "`vlan`: frames of \"{name}\" with VLAN {vlan} already belong to the link of {line}"
                    )
                };
                self.report.add(place, message);
            }
        }
    }
}

/// Pairs of links that take the same frames, by their indexes, the lower one first; and the first VLAN that they
/// have in common. However many others it overlaps, a link is the second of one pair; what overlaps nothing but links
/// that are in a pair already may not be found.
fn overlaps(links: &[Taken]) -> Vec<(usize, usize, Vlan)> {
    let frames = links.iter().enumerate().flat_map(|(link, taken)| taken.frames(link));
    let mut frames: Vec<Frames> = frames.collect();
    frames.sort_by_key(|frames| (*frames.outer.start(), frames.link));

    // Of the frames whose outer tag is the one that the loop has come to: by the first of their inner tags. They are
    // disjoint, since what overlaps is not put there.
    let mut open: BTreeMap<u16, Frames> = BTreeMap::new();
    let mut ends = BinaryHeap::new();
    let mut found: BTreeMap<usize, (usize, Vlan)> = BTreeMap::new();
    for frames in frames {
        let outer = *frames.outer.start();
        while let Some(Reverse((end, inner))) = ends.peek().copied()
            && end < outer
        {
            ends.pop();
            open.remove(&inner);
        }
        let before = open.range(..=*frames.inner.end()).next_back().map(|(_, other)| other);
        if let Some(other) = before.filter(|other| other.inner.end() >= frames.inner.start()) {
            let inner = *frames.inner.start().max(other.inner.start());
            let (earlier, later) = (frames.link.min(other.link), frames.link.max(other.link));
            found.entry(later).or_insert((earlier, Vlan { outer, inner }));
            continue;
        }
        ends.push(Reverse((*frames.outer.end(), *frames.inner.start())));
        open.insert(*frames.inner.start(), frames);
    }
    found.into_iter().map(|(later, (earlier, vlan))| (earlier, later, vlan)).collect()
}

impl Taken {
    /// What it takes; `link` is its index.
    fn frames(&self, link: usize) -> impl Iterator<Item = Frames> {
        const ABSENT: &[RangeInclusive<u16>] = &[0..=0];
        let (outer, inner) = match &self.vlans {
            None => (ABSENT, ABSENT),
            Some(VlanSet { outer, inner }) if inner.is_empty() => (&outer[..], ABSENT),
            Some(VlanSet { outer, inner }) => (&outer[..], &inner[..]),
        };
        let pairs = outer.iter().flat_map(|outer| inner.iter().map(move |inner| (outer, inner)));
        pairs.map(move |(outer, inner)| Frames { outer: outer.clone(), inner: inner.clone(), link })
    }
}

/// Identifiers as they are written: `100`, or in a text such as `"10-19,30"`. Ascending, and joined where they touch.
fn identifiers(tag: &Tag) -> Result<Vec<RangeInclusive<u16>>, String> {
    let text = match tag {
        Tag::Identifier(value) => {
            return values::integer(*value, (*IDENTIFIERS.start()).into(), (*IDENTIFIERS.end()).into())
                .map(|id| vec![id..=id]);
        }
        Tag::Text(text) => text,
    };
    let identifier = |part: &str| {
        let number = part.trim().parse().ok().filter(|id| IDENTIFIERS.contains(id));
        number.ok_or_else(|| format!("\"{text}\": `{}` is not an integer between 1 and 4094", part.trim()))
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = identifier(first)?..=identifier(last)?;
        if range.is_empty() {
            return Err(format!("\"{text}\": `{}` begins behind its end", part.trim()));
        }
        Ok(range)
    };
    let mut ranges = text.split(',').map(range).collect::<Result<Vec<_>, String>>()?;
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut joined: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end() >= range.start() => {
                return Err(format!("\"{text}\": {} is in it twice", range.start()));
            }
            Some(last) if last.end() + 1 == *range.start() => *last = *last.start()..=*range.end(),
            _ => joined.push(range),
        }
    }
    Ok(joined)
}
