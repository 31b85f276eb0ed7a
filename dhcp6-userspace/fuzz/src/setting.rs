//! Configurations that the engine meets: two links with few addresses, so that they run out.

use std::{fmt::Write as _, net::Ipv6Addr};

use arbitrary::{Arbitrary, Unstructured};
use dhcp6_common::wire::Duid;
use dhcp6_userspace::config::Config;

/// How many links there are.
pub(crate) const LINKS: u32 = 2;

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
    links: [Link; LINKS as usize],
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
    no_rapid_commit: bool,
    random: bool,
    lifetimes: Lifetimes,
    long_decline_hold: bool,
    pool: PoolSize,
    /// Whether there is a second pool, of one address.
    second_pool: bool,
    exclude: Option<u8>,
    reservations: [Option<Reservation>; 2],
    options: bool,
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

/// Addresses in the first pool; few for the most part.
#[derive(Clone, Copy, Debug)]
struct PoolSize(u8);

impl<'a> Arbitrary<'a> for PoolSize {
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        octets.choose(&[1, 1, 1, 2, 2, 2, 3, 4, 8]).copied().map(Self)
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Reservation {
    client: Client,
    iaid: Option<Iaid>,
    address: u8,
}

/// One of the addresses around the pools of a link; some are in none of them.
pub(crate) fn address(link: u32, index: u8) -> Ipv6Addr {
    let host = 0x1000 + u16::from(index % 12);
    Ipv6Addr::new(0x2001, 0xdb8, link as u16, 0, 0, 0, 0, host)
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
        let mut text =
            format!("[server]\npreference = {}\n[fast_path]\nhorizon = {horizon}\n", self.preference);
        for (index, link) in (0..).zip(&self.links) {
            link.write(index, &mut text).expect("a String takes any text");
        }
        text
    }
}

impl Link {
    fn write(&self, index: u32, text: &mut String) -> std::fmt::Result {
        let (preferred, valid) = match self.lifetimes {
            Lifetimes::Short => ("1", "2"),
            Lifetimes::Default => ("3600", "7200"),
            Lifetimes::Longest => ("4294967294", "4294967294"),
            Lifetimes::Infinite => ("\"infinity\"", "\"infinity\""),
            Lifetimes::HalfInfinite => ("60", "\"infinity\""),
        };
        let prefix = Ipv6Addr::new(0x2001, 0xdb8, index as u16, 0, 0, 0, 0, 0);
        writeln!(text, "[[link]]\nname = \"access{index}\"\ninterface = \"eth{index}\"")?;
        writeln!(text, "prefix = \"{prefix}/64\"\nrapid_commit = {}", !self.no_rapid_commit)?;
        writeln!(text, "preferred_lifetime = {preferred}\nvalid_lifetime = {valid}")?;
        writeln!(text, "allocation = \"{}\"", if self.random { "random" } else { "cyclic" })?;
        writeln!(text, "decline_hold = {}", if self.long_decline_hold { 86400 } else { 30 })?;
        let (first, last) = (address(index, 0), address(index, self.pool.0 - 1));
        writeln!(text, "[[link.pool]]\nrange = \"{first}-{last}\"")?;
        if let Some(excluded) = self.exclude.map(|excluded| excluded % self.pool.0) {
            writeln!(text, "exclude = [\"{}\"]", address(index, excluded))?;
        }
        if self.second_pool {
            writeln!(text, "[[link.pool]]\nrange = \"{}\"", address(index, 9))?;
        }
        for Reservation { client, iaid, address: reserved } in self.reservations() {
            writeln!(text, "[[link.reservation]]\nduid = \"{}\"", client.duid())?;
            if let Some(iaid) = iaid {
                writeln!(text, "iaid = {}", iaid.number())?;
            }
            writeln!(text, "address = \"{}\"", address(index, reserved))?;
        }
        if self.options {
            writeln!(text, "[link.options]\ndns_servers = [\"2001:db8::53\"]")?;
            writeln!(text, "ntp_servers = [\"2001:db8::123\", \"ntp.example.net\"]")?;
        }
        Ok(())
    }

    /// The reservations, without a second one for the same client or the same address.
    fn reservations(&self) -> impl Iterator<Item = Reservation> {
        let [first, second] = self.reservations;
        let second = second.filter(|second| {
            first.is_none_or(|first| {
                let any = first.iaid.is_none() || second.iaid.is_none();
                let same_client = first.client == second.client && (any || first.iaid == second.iaid);
                first.address % 12 != second.address % 12 && !same_client
            })
        });
        [first, second].into_iter().flatten()
    }
}
