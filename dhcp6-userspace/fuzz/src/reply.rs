//! What an answer has to be, given its question (RFC 9915, sections 16 and 18.3).

use std::collections::HashSet;

use dhcp6_common::wire::{Duid, MessageType, OptionCode, OptionWalker, RawOption};
use dhcp6_userspace::{
    config::{ClientKey, Config, ConfiguredOption, LinkConfig, PrefixPoolConfig, ReservationConfig},
    engine::Answer,
    pool::{AddressRange, IaKind, Resource},
};

use crate::{
    message::SERVER,
    relay,
    wire::{Decoded, Ia, Lease, decode},
};

/// IAs, and addresses and prefixes in them, of a message that is answered at most.
const MOST_IAS_AND_RESOURCES: usize = 900;

/// A checked answer, out of its envelopes.
pub(crate) struct Checked {
    pub(crate) kind: MessageType,
    pub(crate) ias: Vec<Ia>,
}

/// Checks the answer to `question`, whose client is on the link with this index, and came in a frame from `mac`.
pub(crate) fn check(
    question: &[u8],
    answer: &Answer,
    config: &Config,
    link: u32,
    mac: Option<[u8; 6]>,
) -> Checked {
    let (hops, question) = relay::open(question).expect("a malformed envelope was answered");
    let message = relay::check_envelope(&hops, answer.port, &answer.message);
    let question = decode(question).expect("a malformed message was answered");
    let reply = decode(message).expect("the answer is malformed");
    let kind = MessageType::from_code(question.kind).expect("a message of no type was answered");
    let link = &config.links[link as usize];
    let keys = if hops.is_empty() {
        mac.map(ClientKey::Mac).into_iter().collect()
    } else {
        relay::client_keys(&hops)
    };
    let keys = client_keys(&question, keys);

    check_question(kind, &question);
    check_policy(kind, link, &keys);
    let answered = expected_kind(kind, &question, link);
    assert_eq!(reply.kind, answered as u8, "what answers a {}", kind.name());
    assert_eq!(answer.kind, if hops.is_empty() { answered } else { MessageType::RelayReply });
    assert_eq!(reply.transaction_id, question.transaction_id, "matrix row V-25");
    let values = |code| reply.values(code).collect::<Vec<_>>();
    assert_eq!(values(OptionCode::SERVER_ID), [SERVER]);
    assert_eq!(values(OptionCode::CLIENT_ID), question.values(OptionCode::CLIENT_ID).collect::<Vec<_>>());
    let supplied = relay::supplied(&hops, config);
    for option in &reply.options {
        let may_stand = match option.code {
            OptionCode::CLIENT_ID | OptionCode::SERVER_ID | OptionCode::IA_NA | OptionCode::IA_PD => true,
            OptionCode::PREFERENCE => answered == MessageType::Advertise && option.value.len() == 1,
            OptionCode::RAPID_COMMIT => option.value.is_empty(),
            OptionCode::STATUS_CODE => option.value.len() >= 2 && str::from_utf8(&option.value[2..]).is_ok(),
            code => {
                let configured = |set: &ConfiguredOption| set.code == code && set.value == option.value;
                supplied.contains(option)
                    || question.requests(code) && configured_options(link).any(configured)
            }
        };
        assert!(may_stand, "{option:?} in a {}", answered.name());
        let often = [OptionCode::IA_NA, OptionCode::IA_PD, OptionCode::NTP_SERVER];
        assert!(often.contains(&option.code) || values(option.code).len() == 1, "{option:?} twice");
    }
    check_supplied(kind, &supplied, link, &reply);
    let committed = kind == MessageType::Solicit && answered == MessageType::Reply;
    assert_eq!(reply.value(OptionCode::RAPID_COMMIT).is_some(), committed, "matrix rows Q-2, Q-4 and Q-6");

    check_iaids(kind, &question, &reply);
    let ias = reply.ias();
    check_leases(&question, &ias);
    for ia in &ias {
        for lease in ia.leases.iter().filter(|lease| lease.valid > 0) {
            check_assignable(link, &keys, ia.iaid, lease.resource);
        }
    }
    Checked { kind: answered, ias }
}

/// All that the client is known by.
fn client_keys(question: &Decoded<'_>, others: Vec<ClientKey>) -> Vec<ClientKey> {
    let duid = question.value(OptionCode::CLIENT_ID).and_then(|duid| Duid::new(duid).ok());
    duid.map(ClientKey::Duid).into_iter().chain(others).collect()
}

/// What may not be answered at all.
fn check_question(kind: MessageType, question: &Decoded<'_>) {
    let clients: Vec<_> = question.values(OptionCode::CLIENT_ID).collect();
    let servers: Vec<_> = question.values(OptionCode::SERVER_ID).collect();
    assert!(clients.len() <= 1 && servers.len() <= 1, "{question:?}");
    assert!(clients.iter().all(|duid| (1..=130).contains(&duid.len())), "matrix rows U-3 and U-4");
    let items: usize = question.ias().iter().map(|ia| 1 + ia.leases.len()).sum();
    assert!(items <= MOST_IAS_AND_RESOURCES, "{items} IAs, addresses and prefixes");
    let valid = match kind {
        MessageType::Solicit | MessageType::Confirm | MessageType::Rebind => {
            clients.len() == 1 && servers.is_empty()
        }
        MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline => {
            clients.len() == 1 && servers == [SERVER]
        }
        MessageType::InformationRequest => {
            let ias = [OptionCode::IA_NA, OptionCode::IA_PD].map(|code| question.value(code));
            ias == [None, None] && servers.iter().all(|server| *server == SERVER)
        }
        _ => false,
    };
    assert!(valid, "answered against section 16: {question:?}");
}

/// A link may be for clients with a reservation only; others can but give up what they had.
fn check_policy(kind: MessageType, link: &LinkConfig, keys: &[ClientKey]) {
    let begins = matches!(
        kind,
        MessageType::Solicit | MessageType::Request | MessageType::Confirm | MessageType::InformationRequest
    );
    let known = link.reservations.iter().any(|reservation| keys.contains(&reservation.client));
    assert!(!link.reserved_only || known || !begins, "a {} was answered: {keys:?}", kind.name());
}

fn expected_kind(kind: MessageType, question: &Decoded<'_>, link: &LinkConfig) -> MessageType {
    let rapid = link.rapid_commit && question.value(OptionCode::RAPID_COMMIT).is_some();
    if kind == MessageType::Solicit && !rapid { MessageType::Advertise } else { MessageType::Reply }
}

/// Everything that a link's configuration sets for anybody.
fn configured_options(link: &LinkConfig) -> impl Iterator<Item = &ConfiguredOption> {
    let pools = link.pools.iter().map(|pool| &pool.options);
    let prefix_pools = link.prefix_pools.iter().map(|pool| &pool.options);
    let reservations = link.reservations.iter().map(|reservation| &reservation.options);
    [&link.options].into_iter().chain(pools).chain(prefix_pools).chain(reservations).flatten()
}

/// What relay agents supply is passed on where the server sets nothing of that kind.
fn check_supplied(kind: MessageType, supplied: &[RawOption<'_>], link: &LinkConfig, reply: &Decoded<'_>) {
    if matches!(kind, MessageType::Confirm | MessageType::Release | MessageType::Decline) {
        return;
    }
    for option in supplied {
        let set = configured_options(link).any(|set| set.code == option.code);
        assert!(set || reply.options.contains(option), "matrix row E-11: {option:?} is missing");
    }
}

/// Only IAs that were asked for, and each once; all of them where they are asked for.
fn check_iaids(kind: MessageType, question: &Decoded<'_>, reply: &Decoded<'_>) {
    let asked: HashSet<_> = question.ias().iter().map(|ia| (ia.kind, ia.iaid)).collect();
    let mut answered = HashSet::new();
    for ia in reply.ias() {
        let name = (ia.kind, ia.iaid);
        assert!(asked.contains(&name) && answered.insert(name), "matrix row O-7: {ia:?}");
        assert!(ia.others.is_empty(), "matrix row O-8: {ia:?}");
    }
    let asks = [MessageType::Solicit, MessageType::Request, MessageType::Renew, MessageType::Rebind];
    assert!(!asks.contains(&kind) || answered == asked, "matrix row U-10: {asked:?}, not {answered:?}");
}

fn check_leases(question: &Decoded<'_>, ias: &[Ia]) {
    let mut times = HashSet::new();
    let mut given: Vec<AddressRange> = Vec::new();
    for ia in ias {
        assert!(ia.t1 <= ia.t2, "matrix row R-13: {ia:?}");
        let mut named = HashSet::new();
        for lease in &ia.leases {
            let Lease { resource, has_host_bits, preferred, valid, .. } = lease;
            assert!(!has_host_bits, "matrix row O-14: {ia:?}");
            assert!(preferred <= valid, "matrix row R-14: {ia:?}");
            assert!(named.insert(*resource), "{resource} is there twice, given or withdrawn: {ia:?}");
            check_nested(question, lease);
            if *valid > 0 {
                assert!(matches!(ia.status, None | Some(0)), "matrix row O-6: {ia:?}");
                let range = resource.range();
                assert!(given.iter().all(|other| !other.overlaps(&range)), "{resource} is given twice");
                given.push(range);
                times.insert((ia.t1, ia.t2));
            }
        }
    }
    assert!(times.len() <= 1, "matrix rows R-6 and N-8: {ias:?}");
}

/// Nothing is in a lease but the excluded prefix, for a client that asks for it (RFC 6603).
fn check_nested(question: &Decoded<'_>, lease: &Lease) {
    let mut options = OptionWalker::new(&lease.rest);
    let Some(option) = options.next() else { return };
    let option = option.expect("the answer is malformed");
    assert!(options.next().is_none() && lease.valid > 0, "{lease:?}");
    assert!(option.code == OptionCode::PD_EXCLUDE && question.requests(option.code), "{lease:?}");
    assert_eq!(lease.resource.kind(), IaKind::Pd, "{lease:?}");
    let [length, subnet @ ..] = option.value else { panic!("matrix row E-12: {lease:?}") };
    let bits = length.checked_sub(lease.resource.length()).filter(|bits| *bits > 0 && *length <= 128);
    let bits = usize::from(bits.expect("matrix row E-12: a length behind that of the prefix"));
    assert_eq!(subnet.len(), bits.div_ceil(8), "matrix row E-12: {lease:?}");
}

/// The configuration lets the client have what it gets: its own reservation, or else of a pool what is neither
/// excluded nor anybody's reservation.
pub(crate) fn check_assignable(link: &LinkConfig, keys: &[ClientKey], iaid: u32, resource: Resource) {
    let holds = |reservation: &&ReservationConfig| {
        let prefix = reservation.prefix.map(Resource::from);
        [reservation.address.map(Resource::from), prefix].contains(&Some(resource))
    };
    if let Some(ReservationConfig { client, iaid: of, .. }) = link.reservations.iter().find(holds) {
        assert!(keys.contains(client) && of.is_none_or(|of| of == iaid), "{resource} is {client:?}'s");
        return;
    }
    assert!(!link.reserved_only, "{resource} on a link with reservations only");
    let range = resource.range();
    let reserved = { link.reservations.iter() }.filter_map(|reservation| reservation.prefix);
    let of_reserved = reserved.map(|prefix| prefix.range()).any(|other| other.overlaps(&range));
    let in_pool = |pool: &AddressRange, exclude: &[AddressRange]| {
        pool.covers(&range) && exclude.iter().all(|excluded| !excluded.overlaps(&range))
    };
    let assignable = match resource {
        Resource::Address(_) => link.pools.iter().any(|pool| in_pool(&pool.range, &pool.exclude)),
        Resource::Prefix(prefix) => link.prefix_pools.iter().any(|pool: &PrefixPoolConfig| {
            pool.delegated_length == prefix.length() && in_pool(&pool.prefix.range(), &pool.exclude)
        }),
    };
    assert!(assignable && !of_reserved, "{resource} is not to be assigned");
}
