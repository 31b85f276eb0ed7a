//! Questions and answers of the control socket, which are also the JSON of `dhcp6ctl`.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    net::Ipv6Addr,
    path::PathBuf,
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    engine::ResourceState,
    pool::{PoolCounts, Prefix, Resource},
};

/// What an operator asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Query {
    /// [`Status`]
    Status,
    /// A list of [`PoolRow`]
    PoolList,
    /// [`PoolDetail`]
    PoolShow {
        /// Name of the link.
        link: String,
        /// Only what is in this list; all but the idle ones where absent.
        state: Option<ResourceState>,
        /// At most so many addresses, and as many prefixes.
        limit: usize,
    },
    /// A list of [`LeaseRow`]
    LeaseList {
        /// Only those of this link.
        link: Option<String>,
        /// Only those of this client.
        duid: Option<String>,
    },
    /// [`LeaseRow`]
    LeaseShow {
        /// The address or prefix.
        resource: Text<Resource>,
    },
    /// [`Released`]
    LeaseRelease {
        /// The address or prefix.
        resource: Text<Resource>,
    },
    /// [`Cleared`]
    ConflictClear {
        /// The address or prefix.
        resource: Text<Resource>,
    },
    /// [`Reloaded`]
    ConfigReload,
    /// [`SlowPathCounters`]
    Stats,
}

/// What the daemon says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The document that was asked for.
    Ok(serde_json::Value),
    /// Why there is none.
    Refused(String),
}

/// `dhcp6ctl status`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it serves, RFC 3339 in UTC.
    pub since: String,
    /// The Server Identifier.
    pub server_duid: String,
    /// The links.
    pub links: Vec<LinkStatus>,
    /// Where the XDP program runs; empty where the fast path is off.
    pub fast_path: Vec<FastPathRow>,
    /// What the fast path is like; absent where it is off.
    pub fast_path_maps: Option<FastPathStatus>,
    /// Where datagrams wait for the daemon.
    pub receive_buffer: ReceiveBuffer,
    /// The store.
    pub store: StoreStatus,
    /// How the configuration was last read again; absent where it never was.
    pub last_reload: Option<ReloadStatus>,
}

/// The receive buffers of the sockets in [`Status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveBuffer {
    /// Octets of the smallest.
    pub octets: usize,
    /// Octets that the kernel was asked for.
    pub asked_for: usize,
}

/// A reload of the configuration in [`Status`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Whether the new configuration is in force; if not, the one before still is.
    pub ok: bool,
    /// What is wrong with the new one.
    pub error: Option<String>,
}

/// `dhcp6ctl config reload`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// When, RFC 3339 in UTC.
    pub reloaded: String,
    /// How many links there are now.
    pub links: usize,
}

/// A link in [`Status`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Its name.
    pub name: String,
    /// Its interface; none where it is reached through relay agents only.
    pub interface: Option<String>,
    /// Whether the interface is gone. It is served again when it is back.
    #[serde(default)]
    pub interface_missing: bool,
    /// The source of all replies on the interface.
    pub address: Option<Ipv6Addr>,
}

/// An interface with the XDP program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FastPathRow {
    /// The interface.
    pub interface: String,
    /// `native` or `generic`.
    pub mode: String,
    /// What an operator should know of it, such as that it is slower than it could be.
    pub warning: Option<String>,
}

/// The fast path in [`Status`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FastPathStatus {
    /// The configured directory of the pinned maps.
    pub pin_dir: PathBuf,
    /// Bindings that did not get into the maps, for one because these were full.
    pub refused_bindings: u64,
}

/// The store in [`Status`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreStatus {
    /// `sqlite` or `memory`.
    pub kind: String,
    /// The database; none in memory.
    pub path: Option<PathBuf>,
    /// Whether the last commit succeeded: if not, nothing new is promised.
    pub ok: bool,
    /// What the store said when it last failed.
    pub last_error: Option<String>,
    /// Commits that succeeded.
    pub commits: u64,
    /// Commits that failed.
    pub failed_commits: u64,
    /// Seconds that the commit which is under way has taken so far, if one is: more than one or two where the disk hangs.
    pub commit_takes: Option<u64>,
}

/// A line of `dhcp6ctl pool list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolRow {
    /// Name of the link.
    pub link: String,
    /// Its interface; none where it is reached through relay agents only.
    pub interface: Option<String>,
    /// Addresses in each of the four lists.
    pub counts: Counts,
    /// Prefixes in each of the four lists.
    pub prefix_counts: Counts,
}

/// `dhcp6ctl pool show`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolDetail {
    /// Name of the link.
    pub link: String,
    /// Addresses in each of the four lists.
    pub counts: Counts,
    /// Prefixes in each of the four lists.
    pub prefix_counts: Counts,
    /// The addresses that were asked for, ascending.
    pub addresses: Vec<AddressRow>,
    /// The prefixes that were asked for, ascending.
    pub prefixes: Vec<PrefixRow>,
}

/// How many addresses or prefixes are in each of the four lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Assignable.
    pub idle: Count,
    /// Leased.
    pub used: Count,
    /// Declined by a client, or taken from one that may still use it.
    pub conflict: Count,
    /// Not assignable.
    pub excluded: Count,
}

impl Counts {
    /// Whether there is nothing in any of the lists.
    pub fn are_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl From<PoolCounts> for Counts {
    fn from(counts: PoolCounts) -> Self {
        let PoolCounts { idle, used, conflict, excluded } = counts;
        Self {
            idle: Count(idle),
            used: Count(used.into()),
            conflict: Count(conflict.into()),
            excluded: Count(excluded),
        }
    }
}

/// A number that is a string in JSON where it exceeds 2^53, which is all that some readers can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub u128);

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match u64::try_from(self.0) {
            Ok(count) if count <= 1 << 53 => serializer.serialize_u64(count),
            _ => serializer.collect_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(count) => Ok(Self(count.into())),
            Form::Text(text) => text.parse().map(Self).map_err(D::Error::custom),
        }
    }
}

/// An address in [`PoolDetail`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddressRow {
    /// The address.
    pub address: Ipv6Addr,
    /// Its list.
    pub state: ResourceState,
    /// Who has it, declined it, or is to have it.
    pub duid: Option<String>,
}

/// A prefix in [`PoolDetail`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PrefixRow {
    /// The prefix.
    pub prefix: Text<Prefix>,
    /// Its list.
    pub state: ResourceState,
    /// Who has it, had it, or is to have it.
    pub duid: Option<String>,
}

/// A line of `dhcp6ctl lease list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseRow {
    /// Name of the link.
    pub link: String,
    /// The client.
    pub duid: String,
    /// Its VLAN, `100` or `100.200`, on a link that spans several.
    pub vlan: Option<String>,
    /// Its MAC address, on a link with `bind_to_mac`.
    pub mac: Option<String>,
    /// Its IA.
    pub iaid: u32,
    /// `na` or `pd`
    pub kind: String,
    /// The address of an IA_NA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv6Addr>,
    /// The prefix of an IA_PD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Text<Prefix>>,
    /// What either plane has promised last, RFC 3339 in UTC, or `never`.
    pub preferred_until: String,
    /// What either plane has promised last, RFC 3339 in UTC, or `never`.
    pub valid_until: String,
    /// `bound`, or `remembered` where the client has it no more.
    pub state: String,
    /// Whether the kernel answers the client.
    pub in_kernel: bool,
}

/// `dhcp6ctl lease release`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Released {
    /// What may be assigned again.
    pub released: Text<Resource>,
}

/// `dhcp6ctl conflict clear`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cleared {
    /// What may be assigned again.
    pub cleared: Text<Resource>,
}

/// A value that is text in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

/// The daemon's part of `dhcp6ctl stats`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SlowPathCounters {
    /// Messages received, by type; `unknown` for others than those of RFC 9915.
    pub received: BTreeMap<String, u64>,
    /// Messages sent, by type.
    pub sent: BTreeMap<String, u64>,
    /// Messages that were not answered, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Datagrams that the kernel dropped because the sockets were full.
    pub socket_drops: u64,
    /// Attempts to receive that failed.
    pub receive_errors: u64,
    /// Messages that wait to be handled now.
    pub queued: Queued,
}

/// Messages that wait, in the order in which they are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Of clients that have something, or are about to get it: Request, Confirm, Renew, Rebind, Release, Decline.
    pub clients: u64,
    /// Solicits of clients that the server knows.
    pub known: u64,
    /// All others.
    pub strangers: u64,
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn large_counts_are_strings() {
        for (count, json) in
            [(0, "0"), (1 << 53, "9007199254740992"), ((1 << 53) + 1, "\"9007199254740993\"")]
        {
            assert_eq!(serde_json::to_string(&Count(count)).unwrap(), json);
            assert_eq!(serde_json::from_str::<Count>(json).unwrap(), Count(count));
        }
        assert_eq!(serde_json::to_string(&Count(u128::MAX)).unwrap(), format!("\"{}\"", u128::MAX));
    }
}
