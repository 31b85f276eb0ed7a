//! Renders what the XDP program needs to know of interfaces and links, out of what the engine would answer.

use std::{collections::HashMap, time::Duration};

use bytemuck::Zeroable as _;
use dhcp6_common::{
    contract::{
        self, LINK_BINDS_TO_MAC, LINK_IN_USE, LINK_RAPID_COMMIT, LINK_SPANS_VLANS, Limits, Link,
        RENDERED_OPTIONS, REQUEST_PASSED, ReplyBlock, VlanTable,
    },
    wire::OptionCode,
};

use crate::{
    config::{AdmissionConfig, Config, LinkConfig, VlanSet},
    engine::Engine,
    net::Interface,
};

/// What the maps hold besides bindings and counters.
#[derive(Clone, Debug, Default)]
pub struct Rendering {
    /// By slot.
    pub(super) interfaces: Vec<contract::Interface>,
    /// What [`contract::Interface::double`] refers to.
    pub(super) inner_vlans: Vec<VlanTable>,
    /// By the link's index in the configuration; not in use where a link has no interface.
    pub(super) links: Vec<Link>,
    /// What [`Link::first_block`] refers to.
    pub(super) blocks: Vec<ReplyBlock>,
}

impl Rendering {
    /// Renders the links that have an interface, given with it by their indexes in the configuration. Each interface gets
    /// the slot in whose order it occurs first. `seed` is a random number.
    pub fn new(config: &Config, engine: &Engine, served: &[(u32, Interface)], seed: u64) -> Self {
        let links = vec![Link::zeroed(); config.links.len()];
        let mut rendering = Self { links, ..Self::default() };
        // The links of the frames with two tags, by slot and outer identifier.
        let mut double: HashMap<(usize, u16), Vec<u32>> = HashMap::new();
        for (index, interface) in served {
            let slot = rendering.slot(interface).unwrap_or_else(|| {
                rendering.interfaces.push(rendered(interface, config.fast_path.admission, seed));
                rendering.interfaces.len() - 1
            });
            let link = &config.links[*index as usize];
            rendering.put_link(engine, *index, link, slot);
            let tables = &mut rendering.interfaces[slot];
            let entry = *index as u16 + 1;
            match &link.vlans {
                None => {
                    tables.untagged = entry;
                    // A tag that has a priority only.
                    tables.single[0] = entry;
                }
                Some(VlanSet { outer, inner }) if inner.is_empty() => {
                    for id in outer.iter().cloned().flatten() {
                        tables.single[usize::from(id)] = entry;
                    }
                }
                Some(VlanSet { outer, .. }) => {
                    for id in outer.iter().cloned().flatten() {
                        double.entry((slot, id)).or_default().push(*index);
                    }
                }
            }
        }
        rendering.put_inner_vlans(config, double);
        rendering
    }

    /// One interface whose frames are all passed on.
    pub fn silent() -> Self {
        Self { interfaces: vec![contract::Interface::zeroed()], ..Self::default() }
    }

    /// Of the interfaces that it was made of, each once, with its slot.
    pub fn slots(&self, served: &[(u32, Interface)]) -> Vec<(u32, Interface)> {
        let of = |rendered: &contract::Interface| {
            let (_, interface) = served.iter().find(|(_, served)| served.index == rendered.ifindex)?;
            Some(interface.clone())
        };
        (0..).zip(&self.interfaces).filter_map(|(slot, rendered)| Some((slot, of(rendered)?))).collect()
    }

    fn slot(&self, interface: &Interface) -> Option<usize> {
        self.interfaces.iter().position(|rendered| rendered.ifindex == interface.index)
    }

    fn put_link(&mut self, engine: &Engine, index: u32, config: &LinkConfig, slot: usize) {
        let codes = rendered_codes(config);
        let requested = |code: OptionCode, set: usize| {
            codes.iter().position(|rendered| *rendered == code).is_some_and(|bit| set >> bit & 1 == 1)
        };
        let first_block = self.blocks.len() as u32;
        self.blocks.extend(
            (0..1 << codes.len())
                .map(|set| ReplyBlock::new(&engine.rapid_commit_block(index, |code| requested(code, set)))),
        );
        self.links[index as usize] = rendered_link(config, &codes, slot as u16, first_block);
    }

    /// A table for each set of links that share an outer identifier.
    fn put_inner_vlans(&mut self, config: &Config, double: HashMap<(usize, u16), Vec<u32>>) {
        let mut tables: HashMap<Vec<u32>, u16> = HashMap::new();
        for ((slot, outer), links) in double {
            let number = *tables.entry(links).or_insert_with_key(|links| {
                let mut table = [0; 4096];
                for (index, set) in links
                    .iter()
                    .filter_map(|index| Some((index, config.links[*index as usize].vlans.as_ref()?)))
                {
                    for id in set.inner.iter().cloned().flatten() {
                        table[usize::from(id)] = *index as u16 + 1;
                    }
                }
                self.inner_vlans.push(table);
                self.inner_vlans.len() as u16
            });
            self.interfaces[slot].double[usize::from(outer)] = number;
        }
    }
}

fn rendered(interface: &Interface, admission: Option<AdmissionConfig>, seed: u64) -> contract::Interface {
    let mut rendered = contract::Interface {
        ifindex: interface.index,
        polices: admission.is_some().into(),
        server_address: interface.link_local.octets(),
        server_mac: interface.mac,
        name: padded(&interface.name),
        limits: admission.map_or_else(Limits::zeroed, |admission| limits(&admission, seed)),
        ..contract::Interface::zeroed()
    };
    rendered.sum = rendered.compute_sum().fold();
    rendered
}

fn limits(admission: &AdmissionConfig, seed: u64) -> Limits {
    let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let interval = |rate: u32| 1_000_000_000 / rate.max(1);
    let AdmissionConfig { per_source, strangers, clients, relayed, retransmission } = *admission;
    Limits {
        burst: nanoseconds(AdmissionConfig::BURST),
        retransmission: nanoseconds(retransmission),
        seed,
        per_source: interval(per_source),
        strangers: interval(strangers),
        clients: interval(clients),
        relayed: interval(relayed),
    }
}

fn rendered_link(config: &LinkConfig, codes: &[OptionCode], interface: u16, first_block: u32) -> Link {
    let mut request_bits = [0; 256];
    let mut request_high = 0;
    for option in &config.options {
        let bit = codes.iter().position(|code| *code == option.code);
        match request_bits.get_mut(usize::from(option.code.0)) {
            Some(bits) => *bits = bit.map_or(REQUEST_PASSED, |bit| 1 << bit),
            None => request_high = u16::from(REQUEST_PASSED),
        }
    }
    // It stands in the IA_PD.
    if config.excludes_prefixes() {
        request_bits[usize::from(OptionCode::PD_EXCLUDE.0)] = REQUEST_PASSED;
    }
    let mut ignored = [0; 4];
    for code in (0..256).filter(|code| Engine::ignores(OptionCode(*code))) {
        ignored[usize::from(code) / 64] |= 1 << (code % 64);
    }
    let flag = |is_set: bool, flag: u16| if is_set { flag } else { 0 };
    let spans_vlans = config.vlans.as_ref().is_some_and(VlanSet::is_several);
    let lifetimes = config.lifetimes;
    Link {
        flags: LINK_IN_USE
            | flag(config.rapid_commit, LINK_RAPID_COMMIT)
            | flag(config.bind_to_mac, LINK_BINDS_TO_MAC)
            | flag(spans_vlans, LINK_SPANS_VLANS),
        interface,
        first_block,
        t1: lifetimes.t1.to_be_bytes(),
        t2: lifetimes.t2.to_be_bytes(),
        preferred_lifetime: lifetimes.preferred.to_be_bytes(),
        valid_lifetime: lifetimes.valid.to_be_bytes(),
        address_sum: 0,
        prefix_sum: 0,
        request_high,
        ignores_high: (256..=u16::MAX).all(|code| Engine::ignores(OptionCode(code))).into(),
        ignored,
        request_bits,
        name: padded(&config.name),
    }
    .summed()
}

/// The codes that get a bit each: the first ones of the configuration that the program's table covers.
fn rendered_codes(config: &LinkConfig) -> Vec<OptionCode> {
    let mut codes = Vec::new();
    for option in &config.options {
        if option.code.0 < 256 && !codes.contains(&option.code) && codes.len() < RENDERED_OPTIONS {
            codes.push(option.code);
        }
    }
    codes
}

/// A name with zeros behind it, cut where it does not fit.
fn padded<const N: usize>(name: &str) -> [u8; N] {
    let mut octets = [0; N];
    let len = name.floor_char_boundary(N);
    octets[..len].copy_from_slice(&name.as_bytes()[..len]);
    octets
}
