//! Configurations that the engine meets: links with few addresses and prefixes, so that they run out, and that
//! another configuration names and numbers otherwise.

use std::{fmt::Write as _, net::Ipv6Addr};

use arbitrary::{Arbitrary, Unstructured};
use dhcp6_common::wire::Duid;
use dhcp6_userspace::{
    config::Config,
    pool::{Prefix, Resource},
};

use crate::message::Rarely;

/// How many places there are that a link can be at: the interfaces `eth0` and `eth1`, and behind relay agents.
pub(crate) const PLACES: u8 = 3;
/// The names of links: of each place, and what it may be renamed to.
const NAMES: [[&str; 2]; PLACES as usize] =
    [["access0", "renamed0"], ["access1", "renamed1"], ["access2", "renamed2"]];
/// What relay agents say of a client, as its reservation has it.
pub(crate) const REMOTE_ID: [u8; 6] = [0, 0, 0, 9, b'r', 0];
pub(crate) const SUBSCRIBER_ID: [u8; 2] = *b"s1";
/// The MAC address of a client with a reservation.
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// One of the few clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Usual,
    /// Differs in the last octet.
    Neighbour,
    /// Longer by one octet, and otherwise the same.
    Longer,
    /// As long as a DUID can be.
    Longest,
    /// As short as it can be.
    Shortest,
}

impl Client {
    pub(crate) fn duid(self) -> Duid {
        let octets: &[u8] = match self {
            Self::Usual => &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1],
            Self::Neighbour => &[0, 3, 0, 1, 2, 0, 0, 0, 0, 2],
            Self::Longer => &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1, 0],
            Self::Longest => &[0xab; Duid::MAX_LEN],
            Self::Shortest => &[7],
        };
        Duid::new(octets).expect("1 to 130 octets")
    }
}

impl<'a> Arbitrary<'a> for Client {
    /// Two of them for the most part, so that they meet.
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        use Client::{Longer, Longest, Neighbour, Shortest, Usual};
        octets.choose(&[Usual, Usual, Usual, Neighbour, Neighbour, Longer, Longest, Shortest]).copied()
    }
}

/// One of the few IAIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Iaid {
    One,
    Zero,
    Greatest,
}

impl Iaid {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Zero => 0,
            Self::Greatest => u32::MAX,
        }
    }
}

impl<'a> Arbitrary<'a> for Iaid {
    /// The same one for the most part.
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        octets.choose(&[Self::One, Self::One, Self::One, Self::One, Self::Zero, Self::Greatest]).copied()
    }
}

/// A configuration.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Setting {
    horizon: Horizon,
    preference: u8,
    /// Which addresses and prefixes each place has.
    shift: Shift,
    /// The links have each other's names.
    names_shift: Shift,
    /// The prefixes of all links contain the addresses of all.
    second_pools: SecondPools,
    relay_supplied: RelaySupplied,
    links: [Link; PLACES as usize],
}

/// By how many places something has moved; not at all for the most part.
#[derive(Clone, Copy, Debug)]
struct Shift(u8);

impl<'a> Arbitrary<'a> for Shift {
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        octets.choose(&[0, 0, 0, 0, 0, 0, 1, 2]).copied().map(Self)
    }
}

impl Shift {
    fn of(self, place: u8) -> u8 {
        (place + self.0) % PLACES
    }
}

/// Where each link has a second pool, of one address, and a second prefix pool.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum SecondPools {
    None,
    Own,
    /// Among the addresses of the next link.
    Foreign,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum RelaySupplied {
    Default,
    None,
    Servers,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Horizon {
    Second,
    Minutes,
    HalfAnHour,
}

#[derive(Arbitrary, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches of the configuration")]
struct Link {
    removed: Rarely<()>,
    renamed: Rarely<()>,
    no_rapid_commit: bool,
    random: bool,
    lifetimes: Lifetimes,
    long_decline_hold: bool,
    decline_limit: DeclineLimit,
    reserved_only: Rarely<()>,
    interface_id: bool,
    pool: PoolSize,
    exclude: Option<u8>,
    prefix_pool: Option<PrefixPool>,
    reservations: [Option<Reservation>; 3],
    options: bool,
    pool_options: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Lifetimes {
    Short,
    Default,
    Longest,
    Infinite,
    /// Finite preferred lifetime, infinite valid one.
    HalfInfinite,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum DeclineLimit {
    One,
    Default,
}

/// Addresses in the first pool; few for the most part.
#[derive(Clone, Copy, Debug)]
struct PoolSize(u8);

impl<'a> Arbitrary<'a> for PoolSize {
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        octets.choose(&[1, 1, 1, 2, 2, 2, 3, 4, 8]).copied().map(Self)
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct PrefixPool {
    length: PrefixLength,
    /// By how many bits a delegated prefix is longer than the pool's.
    bits: DelegatedBits,
    exclude: Option<DelegatedPrefix>,
    pd_exclude: bool,
}

/// Of all prefixes that are delegated from.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum PrefixLength {
    Whole,
    Half,
}

/// The logarithm of the number of prefixes in a pool.
#[derive(Clone, Copy, Debug)]
struct DelegatedBits(u8);

impl<'a> Arbitrary<'a> for DelegatedBits {
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        octets.choose(&[1, 1, 2, 0, 2, 3]).copied().map(Self)
    }
}

/// A prefix in or around the pools of a link.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct DelegatedPrefix {
    bits: u8,
    length: u8,
}

impl DelegatedPrefix {
    /// The prefix, of the prefixes with this number.
    pub(crate) fn of(self, net: u8) -> Prefix {
        let address = u128::from(delegated(net)) | u128::from(self.bits) << (128 - 58);
        Prefix::around(address.into(), WHOLE + self.length % 6).expect("a length of a prefix")
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Reservation {
    key: Key,
    iaid: Option<Iaid>,
    address: Option<u8>,
    prefix: Option<DelegatedPrefix>,
    pd_exclude: bool,
    options: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Duid(Client),
    Mac,
    RemoteId,
    SubscriberId,
    InterfaceId,
}

/// Where everything that is delegated from the prefixes with a number begins: `/54`, of which the first half of the
/// addresses is that of the first pool.
fn delegated(net: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x8000 + u16::from(net), 0, 0, 0, 0, 0)
}

/// The length of the first prefix pool at most.
const WHOLE: u8 = 54;

/// One of the addresses around the pools of a link; some are in none of them, and one in that of another link.
pub(crate) fn address(net: u8, index: u8) -> Ipv6Addr {
    let host = 0x1000 + u16::from(index % 14);
    Ipv6Addr::new(0x2001, 0xdb8, net.into(), 0, 0, 0, 0, host)
}

/// The Interface-Id that selects the link at a place, where one does.
pub(crate) fn interface_id(place: u8) -> [u8; 3] {
    [b'i', b'f', place]
}

/// The interface at a place; `None` where only relay agents are.
pub(crate) fn interface(place: u8) -> Option<String> {
    (place + 1 < PLACES).then(|| format!("eth{place}"))
}

/// The name of a link, for as long as the program runs.
pub(crate) fn name(name: &str) -> &'static str {
    NAMES.iter().flatten().find(|known| **known == name).expect("a name of a link")
}

impl Setting {
    /// The configuration. Whatever the values, it is a valid one.
    pub(crate) fn config(&self) -> Config {
        let text = self.text();
        Config::parse(&text, "fuzz.toml").unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    }

    fn text(&self) -> String {
        let horizon = match self.horizon {
            Horizon::Second => 1,
            Horizon::Minutes => 100,
            Horizon::HalfAnHour => 1800,
        };
        let relay_supplied = match self.relay_supplied {
            RelaySupplied::Default => "[65]",
            RelaySupplied::None => "[]",
            RelaySupplied::Servers => "[23, 65, 65000]",
        };
        let preference = self.preference;
        let mut text = format!(
            "[server]\npreference = {preference}\nrelay_supplied_options = {relay_supplied}\n\
             [fast_path]\nhorizon = {horizon}\n"
        );
        for (place, link) in (0..).zip(&self.links) {
            // There is at least one.
            if link.removed.0.is_none() || place == 0 {
                self.write(place, link, &mut text).expect("a String takes any text");
            }
        }
        text
    }

    fn write(&self, place: u8, link: &Link, text: &mut String) -> std::fmt::Result {
        let net = self.shift.of(place);
        let [usual, renamed] = NAMES[usize::from(self.names_shift.of(place))];
        let name = if link.renamed.0.is_some() { renamed } else { usual };
        writeln!(text, "[[link]]\nname = \"{name}\"")?;
        if let Some(interface) = interface(place) {
            writeln!(text, "interface = \"{interface}\"")?;
        }
        if self.second_pools == SecondPools::Foreign {
            writeln!(text, "prefix = \"2001:db8::/46\"")?;
        } else {
            writeln!(text, "prefix = \"{}/64\"", Ipv6Addr::new(0x2001, 0xdb8, net.into(), 0, 0, 0, 0, 0))?;
        }
        if link.interface_id {
            writeln!(text, "interface_ids = [{}]", hex(&interface_id(place)))?;
        }
        link.write(net, text)?;
        let second = match self.second_pools {
            SecondPools::None => None,
            SecondPools::Own => Some(net),
            SecondPools::Foreign => Some((net + 1) % PLACES),
        };
        if let Some(net) = second {
            writeln!(text, "[[link.pool]]\nrange = \"{}\"", address(net, 12))?;
            let prefix = u128::from(delegated(net)) | 1 << (127 - 50);
            let prefix = Prefix::new(prefix.into(), 56).expect("a prefix");
            writeln!(text, "[[link.prefix_pool]]\nprefix = \"{prefix}\"\ndelegated_length = 57")?;
        }
        let pool = link.prefix_pool.map(|pool| pool.prefix(net));
        for reservation in link.reservations(net, pool) {
            reservation.write(net, text)?;
        }
        if link.options {
            writeln!(text, "[link.options]\ndns_servers = [\"2001:db8::53\"]")?;
            writeln!(text, "ntp_servers = [\"2001:db8::123\", \"ntp.example.net\"]")?;
        }
        Ok(())
    }
}

impl Link {
    /// What does not depend on the place, up to the first pools.
    fn write(&self, net: u8, text: &mut String) -> std::fmt::Result {
        let (preferred, valid) = match self.lifetimes {
            Lifetimes::Short => ("1", "2"),
            Lifetimes::Default => ("3600", "7200"),
            Lifetimes::Longest => ("4294967294", "4294967294"),
            Lifetimes::Infinite => ("\"infinity\"", "\"infinity\""),
            Lifetimes::HalfInfinite => ("60", "\"infinity\""),
        };
        writeln!(text, "rapid_commit = {}", !self.no_rapid_commit)?;
        writeln!(text, "preferred_lifetime = {preferred}\nvalid_lifetime = {valid}")?;
        writeln!(text, "allocation = \"{}\"", if self.random { "random" } else { "cyclic" })?;
        writeln!(text, "decline_hold = {}", if self.long_decline_hold { 86400 } else { 30 })?;
        if matches!(self.decline_limit, DeclineLimit::One) {
            writeln!(text, "decline_limit = 1")?;
        }
        let pool = self.prefix_pool.map(|pool| pool.prefix(net));
        if self.reserved_only.0.is_some() && self.reservations(net, pool).next().is_some() {
            writeln!(text, "reserved_only = true")?;
        }
        let (first, last) = (address(net, 0), address(net, self.pool.0 - 1));
        writeln!(text, "[[link.pool]]\nrange = \"{first}-{last}\"")?;
        if let Some(excluded) = self.exclude.map(|excluded| excluded % self.pool.0) {
            writeln!(text, "exclude = [\"{}\"]", address(net, excluded))?;
        }
        if self.pool_options {
            writeln!(text, "[link.pool.options]\nsol_max_rt = 600\ndns_servers = [\"2001:db8::54\"]")?;
        }
        if let Some(pool) = self.prefix_pool {
            pool.write(net, self.pool_options, text)?;
        }
        Ok(())
    }

    /// The reservations, without one that an earlier one or the pool of prefixes does not go with.
    fn reservations(&self, net: u8, pool: Option<Prefix>) -> impl Iterator<Item = Reservation> {
        let mut valid: Vec<Reservation> = Vec::new();
        for reservation in self.reservations.into_iter().flatten() {
            let resources: Vec<_> = reservation.resources(net).collect();
            let contains_pool = |resource: &Resource| {
                pool.is_some_and(|pool| {
                    pool.range() != resource.range() && resource.range().covers(&pool.range())
                })
            };
            let clashes = |other: &Reservation| {
                let any = other.iaid.is_none() || reservation.iaid.is_none();
                other.key == reservation.key && (any || other.iaid == reservation.iaid)
                    || other.resources(net).any(|other| {
                        resources.iter().any(|resource| resource.range().overlaps(&other.range()))
                    })
            };
            let something = !resources.is_empty() || reservation.options;
            if something && !resources.iter().any(contains_pool) && !valid.iter().any(clashes) {
                valid.push(reservation);
            }
        }
        valid.into_iter()
    }
}

impl PrefixPool {
    fn prefix(self, net: u8) -> Prefix {
        let length = match self.length {
            PrefixLength::Whole => WHOLE,
            PrefixLength::Half => WHOLE + 1,
        };
        Prefix::new(delegated(net), length).expect("a prefix")
    }

    fn write(self, net: u8, options: bool, text: &mut String) -> std::fmt::Result {
        let prefix = self.prefix(net);
        writeln!(text, "[[link.prefix_pool]]\nprefix = \"{prefix}\"")?;
        writeln!(text, "delegated_length = {}", prefix.length() + self.bits.0)?;
        let excluded = self.exclude.map(|exclude| exclude.of(net));
        if let Some(excluded) = excluded.filter(|excluded| excluded.range().overlaps(&prefix.range())) {
            writeln!(text, "exclude = [\"{excluded}\"]")?;
        }
        if self.pd_exclude {
            writeln!(text, "pd_exclude = \"0:0:0:1::/64\"")?;
        }
        if options {
            writeln!(text, "[link.prefix_pool.options]\ninf_max_rt = 600\nsol_max_rt = 900")?;
        }
        Ok(())
    }
}

impl Reservation {
    fn resources(self, net: u8) -> impl Iterator<Item = Resource> {
        // Not what may be in the pools of other links.
        let address = self.address.map(|index| Resource::from(address(net, index % 12)));
        let prefix = self.prefix.map(|prefix| DelegatedPrefix { bits: prefix.bits % 128, ..prefix });
        address.into_iter().chain(prefix.map(|prefix| prefix.of(net).into()))
    }

    fn write(self, net: u8, text: &mut String) -> std::fmt::Result {
        writeln!(text, "[[link.reservation]]")?;
        match self.key {
            Key::Duid(client) => writeln!(text, "duid = \"{}\"", client.duid())?,
            Key::Mac => writeln!(text, "mac = \"02:00:00:00:00:01\"")?,
            Key::RemoteId => writeln!(text, "remote_id = {{ enterprise = 9, hex = \"7200\" }}")?,
            Key::SubscriberId => writeln!(text, "subscriber_id = \"s1\"")?,
            Key::InterfaceId => writeln!(text, "interface_id = {}", hex(&interface_id(0)))?,
        }
        if let Some(iaid) = self.iaid {
            writeln!(text, "iaid = {}", iaid.number())?;
        }
        for resource in self.resources(net) {
            match resource {
                Resource::Address(address) => writeln!(text, "address = \"{address}\"")?,
                Resource::Prefix(prefix) => writeln!(text, "prefix = \"{prefix}\"")?,
            }
        }
        if self.pd_exclude && self.prefix.is_some() {
            writeln!(text, "pd_exclude = \"0:0:0:2::/64\"")?;
        }
        if self.options {
            writeln!(text, "[link.reservation.options]\ndns_servers = [\"2001:db8::55\"]")?;
        }
        Ok(())
    }
}

fn hex(octets: &[u8]) -> String {
    let digits: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{{ hex = \"{}\" }}", digits.concat())
}
