//! Any octets, as a datagram that relay agents have forwarded.

use std::sync::LazyLock;

use dhcp6_common::{
    Origin, Vlan,
    wire::{Duid, MessageType, OptionCode},
};
use dhcp6_userspace::{
    config::{ClientKey, Config, LinkConfig},
    engine::{Arrival, DropReason, Engine},
    lease::{Contents, Lease, LeaseState},
    pool::{IaKind, Resource},
    time::Time,
};

use crate::{
    message::SERVER,
    relay, reply,
    wire::{Ia, decode},
};

/// What relay agents may select links, know clients and supply options by.
const CONFIG: &str = r#"
[server]
relay_supplied_options = [23, 65]

[[link]]
name = "access0"
interface = "eth0"
prefix = "2001:db8::/64"
rapid_commit = true
pool = [{ range = "2001:db8::1000-2001:db8::1003" }]
prefix_pool = [
    { prefix = "2001:db8:8000::/54", delegated_length = 56, pd_exclude = "0:0:0:1::/64" },
]
options = { dns_servers = ["2001:db8::53"] }

[[link]]
name = "relayed0"
prefix = "2001:db8:1::/64"
interface_ids = ["if0"]
reserved_only = true
reservation = [
    { mac = "02:00:00:00:00:01", address = "2001:db8:1::1" },
    { remote_id = { enterprise = 9, text = "r" }, address = "2001:db8:1::2" },
    { subscriber_id = "s", prefix = "2001:db8:9000::/48" },
    { interface_id = "if0", options = { sntp_servers = ["2001:db8::123"] } },
]
"#;

/// When messages arrive.
const NOW: Time = Time::EPOCH;

/// Octets of the options that the configuration can put into an answer, and of the identifiers in it.
const MOST_OF_ANSWER: usize = 512;
/// Octets that an IA, or an address or prefix in it, takes in an answer at most.
const MOST_OF_ITEM: usize = 64;

static PARSED: LazyLock<Config> =
    LazyLock::new(|| Config::parse(CONFIG, "relay.toml").unwrap_or_else(|errors| panic!("{errors}")));

/// The engine takes octets that a relay agent has sent.
///
/// # Panics
///
/// Where the answer is not one to the question, or the engine has changed without giving one.
pub fn relayed(octets: &[u8]) {
    let arrival =
        Arrival { link: Some(0), vlan: Vlan::NONE, mac: Some([2, 0, 0, 0, 0, 1]), multicast: false };
    let mut engine = engine();
    let before = format!("{engine:?}");
    match engine.handle(NOW, arrival, octets) {
        Err(reason) => {
            // A client that has chosen another server gives up its offers, of which there are none.
            assert_eq!(format!("{engine:?}"), before, "dropped: {}", reason.name());
            if reason == DropReason::TooManyRelays {
                assert!(relay::open(octets).is_none(), "matrix row Y-6");
            }
        }
        Ok(answer) => {
            let (hops, message) = relay::open(octets).expect("matrix rows Y-2, Y-7 and Y-16: answered");
            assert!(!hops.is_empty(), "what clients unicast was answered");
            let link = relay::link(&hops, arrival.link, &PARSED).expect("matrix rows Y-9 and Y-10: answered");
            let items = decode(message)
                .map_or(0, |message| message.ias().iter().map(|ia| 1 + ia.leases.len()).sum::<usize>());
            let most = octets.len() + items * MOST_OF_ITEM + MOST_OF_ANSWER;
            assert!(answer.message.len() <= most, "{} octets, not {most}", answer.message.len());
            let checked = reply::check(octets, &answer, &PARSED, link, arrival.mac);
            if message.first() == Some(&(MessageType::Solicit as u8)) {
                check_reserved(&PARSED.links[link as usize], &relay::client_keys(&hops), &checked.ias);
            }
            let changes = engine.take_changes();
            assert!(answer.needs_commit || changes.is_empty(), "{changes:?}");
            engine.committed(NOW, &changes);
        }
    }
}

/// A client that solicits gets what is reserved for it, by the first of its keys that anything is reserved by, and
/// which nobody has: into the first IA of each kind.
fn check_reserved(link: &LinkConfig, keys: &[ClientKey], ias: &[Ia]) {
    let by_key = |key: &ClientKey| link.reservations.iter().find(|reservation| reservation.client == *key);
    let Some(reservation) = keys.iter().find_map(by_key) else { return };
    for kind in IaKind::ALL {
        let reserved = match kind {
            IaKind::Na => reservation.address.map(Resource::from),
            IaKind::Pd => reservation.prefix.map(Resource::from),
        };
        if let (Some(reserved), Some(ia)) = (reserved, ias.iter().find(|ia| ia.kind == kind)) {
            let given: Vec<_> = ia.leases.iter().map(|lease| lease.resource).collect();
            assert_eq!(given, [reserved], "matrix rows E-6, E-7 and E-8: {:?}", reservation.client);
        }
    }
}

/// An engine with a lease of either kind.
fn engine() -> Engine {
    let lease = |resource: &str| Lease {
        resource: resource.parse::<Resource>().expect("an address or prefix"),
        link: "access0".into(),
        origin: Origin::ANY,
        duid: Duid::new(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 1]).expect("1 to 130 octets"),
        iaid: 1,
        state: LeaseState::Bound,
        preferred_until: Time::from_millis(3_600_000),
        valid_until: Time::from_millis(7_200_000),
        expires_at: Time::from_millis(9_000_000),
    };
    let leases = ["2001:db8::1000", "2001:db8:8000::/56"].map(lease).to_vec();
    let server = Duid::new(&SERVER).expect("1 to 130 octets");
    Engine::new(&PARSED, server, Contents { leases, conflicts: Vec::new() }, NOW, 1)
}

/// The same octets with the lengths of all options in the Relay-forwards cut down to what is there: chance seldom
/// nests what is well-formed.
pub fn mend(octets: &[u8]) -> Vec<u8> {
    const HEADER_LEN: usize = 34;
    let mut mended = octets.to_vec();
    let (mut start, mut end) = (0, mended.len());
    while start + HEADER_LEN <= end && mended[start] == MessageType::RelayForward as u8 {
        let mut at = start + HEADER_LEN;
        start = end;
        let level = end;
        while at + 4 <= level {
            let code = u16::from_be_bytes([mended[at], mended[at + 1]]);
            let named = usize::from(u16::from_be_bytes([mended[at + 2], mended[at + 3]]));
            let length = named.min(level - at - 4);
            mended[at + 2..at + 4].copy_from_slice(&(length as u16).to_be_bytes());
            if OptionCode(code) == OptionCode::RELAY_MESSAGE {
                (start, end) = (at + 4, at + 4 + length);
            }
            at += 4 + length;
        }
    }
    mended
}
