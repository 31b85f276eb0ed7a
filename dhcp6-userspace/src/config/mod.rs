//! What the operator wants: the configuration, validated.
//!
//! The text is decoded into a wire form (`file`, by `decode`), which `validate` turns into the types below, with
//! the lines of the files that the text names. Every mistake on the way goes into one report, so that an operator
//! sees all of them at once.

mod decode;
mod errors;
mod file;
mod link;
mod options;
mod overlaps;
mod pools;
mod reservations;
mod reservations_file;
mod validate;
mod values;
mod vlans;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    net::{Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use dhcp6_common::{
    Origin, Vlan,
    wire::{Duid, OptionCode},
};

use self::errors::Report;
pub use self::errors::{ConfigError, ConfigErrors};
use crate::pool::{AddressRange, Allocation, Prefix};

/// The whole configuration. Only a validated file becomes one.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[store]`
    pub store: StoreKind,
    /// `[control]`: path of the control socket.
    pub control_socket: PathBuf,
    /// `[metrics] listen`: where metrics are served; nowhere where `None`.
    pub metrics: Option<SocketAddr>,
    /// `[fast_path]`
    pub fast_path: FastPathConfig,
    /// `[[link]]`, in the order of the file, at most 65535; names are unique, and no frame belongs to two of them.
    pub links: Vec<LinkConfig>,
}

impl Config {
    /// Reads and validates the file at `path`, and those that it names.
    ///
    /// # Errors
    ///
    /// Every mistake in the files, or the one reason why the first cannot be read.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigErrors::unreadable(path, &error))?;
        Self::parse_with(&text, &path.display().to_string(), &|path| std::fs::read(path))
    }

    /// Validates the text of a configuration file; `file_name` is what the errors call it. No file is read: that
    /// the text names one is a mistake.
    ///
    /// # Errors
    ///
    /// Every mistake in the text.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigErrors> {
        let refuse = |_: &Path| Err(io::Error::other("this configuration is not loaded from a file"));
        Self::parse_with(text, file_name, &refuse)
    }

    fn parse_with(text: &str, file_name: &str, read: ReadFile<'_>) -> Result<Self, ConfigErrors> {
        let mut report = Report::new(file_name, text);
        let config =
            decode::decode(text, &mut report).map(|decoded| validate::validate(decoded, read, &mut report));
        report.finish(config)
    }
}

/// Reads a file that the text names.
type ReadFile<'f> = &'f dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// `[server]`
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Directory of the server's DUID and of the lease database.
    pub state_dir: PathBuf,
    /// The Server Identifier; `None` to generate one and keep it.
    pub duid: Option<Duid>,
    /// Preference in Advertise (RFC 9915, section 21.8); not sent where it is 0.
    pub preference: u8,
    /// What relay agents may supply for the client (RFC 6422); the option codes in ascending order.
    pub relay_supplied_options: Vec<OptionCode>,
    /// UDP port to listen on: 547, or another one for tests without privileges. Replies to clients go to the
    /// port below it.
    pub port: u16,
}

/// `[store] kind`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// A SQLite database in the state directory.
    Sqlite,
    /// Nothing survives a restart: for tests.
    Memory,
}

/// `[fast_path]`
#[derive(Clone, Debug)]
pub struct FastPathConfig {
    /// Whether XDP programs are loaded at all.
    pub enabled: bool,
    /// How they are attached.
    pub mode: XdpModeSetting,
    /// Capacity of each map of bindings.
    pub max_bindings: u32,
    /// Directory in a bpffs that holds the pinned maps.
    pub pin_dir: PathBuf,
    /// How far storage is ahead of what the kernel may promise.
    pub horizon: Duration,
    /// Whether the XDP program logs each answer (`log = true`, for debugging).
    pub log: bool,
    /// `[fast_path.admission]`; `None` where it is off.
    pub admission: Option<AdmissionConfig>,
}

/// `[fast_path.admission]`: what the XDP program lets go up to the daemon, in messages a second. As many may come at
/// once as come in [`AdmissionConfig::BURST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// From one source: a MAC address in a VLAN of an interface. Not of relay agents.
    pub per_source: u32,
    /// Per interface, of all clients together.
    pub strangers: u32,
    /// Per interface, beyond that of clients that have a binding in the kernel's map.
    pub clients: u32,
    /// Per interface, from relay agents.
    pub relayed: u32,
    /// A Solicit that repeats the transaction of the last one from its source within this time is dropped: no client
    /// retransmits as early (RFC 9915, section 7.6: SOL_TIMEOUT is 1 s).
    pub retransmission: Duration,
}

impl AdmissionConfig {
    /// The time whose messages may come at once.
    pub const BURST: Duration = Duration::from_secs(1);
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            per_source: 10_000,
            strangers: 100_000,
            clients: 100_000,
            relayed: 100_000,
            retransmission: Duration::from_millis(100),
        }
    }
}

/// `[fast_path] mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpModeSetting {
    /// Native, else generic with a warning.
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the network stack.
    Generic,
}

/// `[[link]]`
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Unique name.
    pub name: String,
    /// The interface that the link is attached to; `None` where it is reached through relay agents only.
    pub interface: Option<String>,
    /// The VLANs of the interface that the link spans; `None` for frames without a tag.
    pub vlans: Option<VlanSet>,
    /// Whether a binding is its client's only together with the MAC address.
    pub bind_to_mac: bool,
    /// The link's prefix: an address is on-link where it lies in this prefix or in one of the pools.
    pub prefix: AddressRange,
    /// Whether the two-message exchange is allowed.
    pub rapid_commit: bool,
    /// Lifetimes and times of every lease on the link.
    pub lifetimes: Lifetimes,
    /// In which order addresses are given out.
    pub allocation: Allocation,
    /// How long a declined address stays out of use.
    pub decline_hold: Duration,
    /// How many addresses a client can have out of use by its Declines at once; with one more, the oldest of them
    /// may be assigned again.
    pub decline_limit: u32,
    /// Whether only clients with a reservation on the link are answered.
    pub reserved_only: bool,
    /// Interface-Ids of relay agents that select this link where no relay agent has a link-address.
    pub interface_ids: Vec<Vec<u8>>,
    /// `[[link.pool]]`; the ranges of all links' pools and prefix pools are disjoint.
    pub pools: Vec<PoolConfig>,
    /// `[[link.prefix_pool]]`
    pub prefix_pools: Vec<PrefixPoolConfig>,
    /// `[[link.reservation]]` and the lines of `reservations_file`; no two for the same client and IAID, or for
    /// overlapping addresses and prefixes.
    pub reservations: Vec<ReservationConfig>,
    /// `[link.options]`, encoded, in the order they are sent in; each code once, but [`OptionCode::NTP_SERVER`]
    /// once for each server, because an instance of it holds exactly one (RFC 5908, section 4). So are the options
    /// of a pool and of a reservation, which go before those of the link.
    pub options: Vec<ConfiguredOption>,
}

impl LinkConfig {
    /// Whether a client may be known by its MAC address.
    pub fn knows_macs(&self) -> bool {
        self.reservations.iter().any(|reservation| matches!(reservation.client, ClientKey::Mac(_)))
    }

    /// Whether of some prefix there is a part that the client must not use (RFC 6603).
    pub fn excludes_prefixes(&self) -> bool {
        let of_pools = self.prefix_pools.iter().map(|pool| pool.pd_exclude);
        of_pools
            .chain(self.reservations.iter().map(|reservation| reservation.pd_exclude))
            .any(|it| it.is_some())
    }

    /// What of a client's origin tells it apart from others with its DUID: its VLAN where the link spans several, its
    /// MAC address with `bind_to_mac`.
    pub fn origin_of(&self, vlan: Vlan, mac: Option<[u8; 6]>) -> Origin {
        let spans_several = self.vlans.as_ref().is_some_and(VlanSet::is_several);
        Origin {
            vlan: if spans_several { vlan } else { Vlan::NONE },
            mac: mac.filter(|_| self.bind_to_mac).unwrap_or_default(),
        }
    }
}

/// `vlan` of a link: identifiers of the only or outer tag, and of the inner one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanSet {
    /// Disjoint ranges of 1 to 4094, ascending.
    pub outer: Vec<RangeInclusive<u16>>,
    /// Likewise; empty where the frames have one tag.
    pub inner: Vec<RangeInclusive<u16>>,
}

impl VlanSet {
    /// Whether frames with these tags belong to it.
    pub fn contains(&self, vlan: Vlan) -> bool {
        let is_in = |ranges: &[RangeInclusive<u16>], id| ranges.iter().any(|range| range.contains(&id));
        is_in(&self.outer, vlan.outer)
            && if self.inner.is_empty() { vlan.inner == 0 } else { is_in(&self.inner, vlan.inner) }
    }

    /// Whether it has more than one VLAN, so that a client's is to be told apart.
    pub fn is_several(&self) -> bool {
        let is_one =
            |ranges: &[RangeInclusive<u16>]| matches!(ranges, [range] if range.start() == range.end());
        !is_one(&self.outer) || !(self.inner.is_empty() || is_one(&self.inner))
    }
}

/// Lifetimes and times of a lease in seconds, 0xffffffff for infinity. `t1 <= t2 <= preferred <= valid`, and
/// `preferred` is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Preferred lifetime.
    pub preferred: u32,
    /// Valid lifetime.
    pub valid: u32,
    /// When the client renews with this server.
    pub t1: u32,
    /// When the client rebinds with any server.
    pub t2: u32,
}

/// `[[link.pool]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// The addresses of the pool.
    pub range: AddressRange,
    /// Those of them that are never assigned.
    pub exclude: Vec<AddressRange>,
    /// For clients with an address of the pool.
    pub options: Vec<ConfiguredOption>,
}

/// `[[link.prefix_pool]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixPoolConfig {
    /// What is delegated from.
    pub prefix: Prefix,
    /// Length in bits of each delegated prefix: not below that of `prefix`, and at most 127.
    pub delegated_length: u8,
    /// A delegated prefix that shares an address with one of these is never assigned.
    pub exclude: Vec<AddressRange>,
    /// What each delegating router keeps of a delegated prefix for its own link to the client (RFC 6603).
    pub pd_exclude: Option<PdExclude>,
    /// For clients with a prefix of the pool.
    pub options: Vec<ConfiguredOption>,
}

/// The part of a delegated prefix that the client must not use behind itself (RFC 6603).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PdExclude {
    /// Prefix length in bits, above that of the delegated prefix.
    pub length: u8,
    /// The bits between the two lengths, at their place in an address; all others are zero.
    pub subnet: u128,
}

/// `[[link.reservation]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationConfig {
    /// The client.
    pub client: ClientKey,
    /// Its IA; any where `None`.
    pub iaid: Option<u32>,
    /// The address that belongs to it, within the link's prefix.
    pub address: Option<Ipv6Addr>,
    /// The prefix that belongs to it, of 1 to 127 bits.
    pub prefix: Option<Prefix>,
    /// See [`PrefixPoolConfig::pd_exclude`].
    pub pd_exclude: Option<PdExclude>,
    /// For this client only.
    pub options: Vec<ConfiguredOption>,
}

/// By what a reservation knows its client. Where several match, the first in this order counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClientKey {
    /// Its Client Identifier.
    Duid(Duid),
    /// Its link-layer address: that of the frame, or what the relay agent next to it reports (RFC 6939).
    Mac([u8; 6]),
    /// What the relay agent next to it reports (RFC 4649): the enterprise number and the rest.
    RemoteId(u32, Vec<u8>),
    /// What the relay agent next to it reports (RFC 4580).
    SubscriberId(Vec<u8>),
    /// What the relay agent next to it reports (RFC 9915, section 21.18).
    InterfaceId(Vec<u8>),
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duid(duid) => duid.fmt(f),
            Self::Mac(mac) => f.write_str(&mac.map(|octet| format!("{octet:02x}")).join(":")),
            Self::RemoteId(enterprise, id) => write!(f, "Remote-Id {enterprise} \"{}\"", id.escape_ascii()),
            Self::SubscriberId(id) => write!(f, "Subscriber-Id \"{}\"", id.escape_ascii()),
            Self::InterfaceId(id) => write!(f, "Interface-Id \"{}\"", id.escape_ascii()),
        }
    }
}

/// An option sent to clients that request its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredOption {
    /// The option code.
    pub code: OptionCode,
    /// The value as it goes on the wire, without code and length; at most 65535 octets.
    pub value: Vec<u8>,
}
