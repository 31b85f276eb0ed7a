//! Solicits.

use std::{net::Ipv6Addr, ops::RangeInclusive};

use dhcp6_common::{
    Vlan,
    wire::{MessageType, OptionCode},
};
use dhcp6_userspace::engine::Arrival;
use proptest::{collection::vec, option, prelude::*};
use tests::frame::{C_TAG, MessageBuilder, Route, S_TAG, with_tags};

use super::links;

/// A client that has been bound before.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// Index of the link, which is that of its interface's slot.
    pub(super) link: u32,
    /// Types, priorities and identifiers of its tags.
    pub(super) tags: Vec<(u16, u16)>,
    pub(super) mac: [u8; 6],
    pub(super) duid: Vec<u8>,
    /// The IAIDs of its IA_NA and its IA_PD.
    pub(super) iaids: [u32; 2],
    /// Which of them it has.
    pub(super) has: [bool; 2],
    /// Decides what it was given.
    pub(super) seed: u64,
}

impl Client {
    /// Where it is.
    pub(super) fn arrival(&self) -> Arrival {
        let ids: Vec<_> = self.tags.iter().map(|(_, control)| control & 0xfff).collect();
        let vlan = match ids[..] {
            [outer, inner] => Vlan { outer, inner },
            [outer] => Vlan { outer, inner: 0 },
            _ => Vlan::NONE,
        };
        Arrival { link: Some(self.link), vlan, mac: Some(self.mac), multicast: true }
    }

    /// The Solicit by which it was bound.
    pub(super) fn solicit(&self) -> Vec<u8> {
        let message = MessageBuilder::new(MessageType::Solicit, [0; 3]).client_id(&self.duid).rapid_commit();
        let [has_address, has_prefix] = self.has;
        let message = if has_address { message.ia_na(self.iaids[0], &[]) } else { message };
        let message = if has_prefix { message.ia_pd(self.iaids[1], &[]) } else { message };
        message.build()
    }
}

/// A client, and a frame of it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) client: Client,
    route: Route,
    transaction: [u8; 3],
    options: Vec<(u16, Vec<u8>)>,
}

impl Case {
    fn plain(&self) -> Vec<u8> {
        let message = MessageBuilder::new(MessageType::Solicit, self.transaction);
        let message = self
            .options
            .iter()
            .fold(message, |message, (code, value)| message.option(OptionCode(*code), value));
        self.route.frame(&message.build())
    }

    pub(super) fn frame(&self) -> Vec<u8> {
        with_tags(&self.plain(), &self.client.tags)
    }

    /// The same from somewhere else.
    pub(super) fn frame_from(&self, elsewhere: &Elsewhere) -> Vec<u8> {
        let mut frame = self.plain();
        if let Some(mac) = elsewhere.mac {
            frame[6..12].copy_from_slice(&mac);
        }
        let mut tags = self.client.tags.clone();
        match &elsewhere.tags {
            Tags::Same => {}
            Tags::Other(others) => tags.clone_from(others),
            Tags::OneLess => drop(tags.pop()),
            Tags::OneMore(tag) => tags.insert(0, *tag),
            Tags::Changed(bits) => {
                for (_, control) in &mut tags {
                    *control ^= bits;
                }
            }
        }
        with_tags(&frame, &tags)
    }
}

/// Another place than the client's.
#[derive(Clone, Debug)]
pub(super) struct Elsewhere {
    mac: Option<[u8; 6]>,
    tags: Tags,
}

#[derive(Clone, Debug)]
enum Tags {
    Same,
    Other(Vec<(u16, u16)>),
    OneLess,
    OneMore((u16, u16)),
    Changed(u16),
}

pub(super) fn elsewhere() -> impl Strategy<Value = Elsewhere> {
    let bit = (0..16_u16).prop_map(|bit| 1 << bit);
    let tags = prop_oneof![
        Just(Tags::Same),
        vec(tag(0..=4095), 0..4).prop_map(Tags::Other),
        Just(Tags::OneLess),
        tag(0..=4095).prop_map(Tags::OneMore),
        bit.prop_map(Tags::Changed),
    ];
    (option::weighted(0.3, any::<[u8; 6]>()), tags).prop_map(|(mac, tags)| Elsewhere { mac, tags })
}

fn tag(ids: RangeInclusive<u16>) -> impl Strategy<Value = (u16, u16)> {
    let kind = prop_oneof![Just(C_TAG), Just(S_TAG)];
    (kind, 0..16_u16, ids).prop_map(|(kind, priority, id)| (kind, priority << 12 | id))
}

/// What a client sends that wants an answer in two messages.
pub(super) fn ordinary() -> impl Strategy<Value = Case> {
    let request = option::weighted(0.8, vec(requested(), 0..12));
    (origin(), wants(), [hint().boxed(), prefix_hint().boxed()], request, vec(ignored(), 0..5)).prop_flat_map(
        |((client, route, transaction), wants, hints, request, ignored)| {
            // Rarely for what it has not.
            let wanted = [0, 1].map(|kind| wants[kind] && (client.has[kind] || wants[2]));
            let wanted = if wanted == [false; 2] { client.has } else { wanted };
            let mut options = essential(&client, wanted, &hints);
            options
                .extend(request.map(|codes| (6, codes.iter().flat_map(|code| code.to_be_bytes()).collect())));
            options.extend(ignored);
            shuffled(client, route, transaction, options)
        },
    )
}

/// Whether a client asks for an address and a prefix, and whether for what it has not, too.
fn wants() -> impl Strategy<Value = [bool; 3]> {
    (any::<[bool; 2]>(), prop::bool::weighted(0.05))
        .prop_map(|([address, prefix], more)| [address, prefix, more])
}

/// What only a strange client sends: options missing, repeated, unknown or badly filled, and too many.
pub(super) fn strange() -> impl Strategy<Value = Case> {
    let kept = prop_oneof![3 => Just([true; 4]), 1 => any::<[bool; 4]>()];
    let others = prop_oneof![8 => vec(strange_option(), 0..4), 1 => vec(strange_option(), 0..80)];
    let hints = [strange_hint(false).boxed(), strange_hint(true).boxed()];
    (origin(), hints, kept, others, vec(ignored(), 0..4), option::weighted(0.1, any::<[u32; 2]>()))
        .prop_flat_map(|((client, route, transaction), hints, kept, others, ignored, iaids)| {
            let iaids = iaids.unwrap_or(client.iaids);
            let essential = essential(&Client { iaids, ..client.clone() }, client.has, &hints);
            let mut options: Vec<_> =
                essential.into_iter().zip(kept).filter_map(|(option, kept)| kept.then_some(option)).collect();
            options.extend(others);
            options.extend(ignored);
            shuffled(client, route, transaction, options)
        })
}

fn shuffled(
    client: Client,
    route: Route,
    transaction: [u8; 3],
    options: Vec<(u16, Vec<u8>)>,
) -> impl Strategy<Value = Case> {
    Just(options).prop_shuffle().prop_map(move |options| Case {
        client: client.clone(),
        route,
        transaction,
        options,
    })
}

/// The options without which there is no answer in two messages.
fn essential(client: &Client, wanted: [bool; 2], hints: &[Vec<u8>; 2]) -> Vec<(u16, Vec<u8>)> {
    let mut options = vec![(1, client.duid.clone()), (14, Vec::new())];
    for (kind, code) in [3, 25].into_iter().enumerate() {
        if wanted[kind] {
            options.push((code, [&client.iaids[kind].to_be_bytes()[..], &hints[kind]].concat()));
        }
    }
    options
}

fn origin() -> impl Strategy<Value = (Client, Route, [u8; 3])> {
    let duid = prop_oneof![vec(any::<u8>(), 1..=18), vec(any::<u8>(), 1..=130)];
    let iaid = || prop_oneof![Just(0), Just(u32::MAX), any::<u32>()];
    let iaids = prop_oneof![1 => iaid().prop_map(|iaid| [iaid; 2]), 2 => [iaid(), iaid()]];
    let has = prop_oneof![2 => Just([true, true]), 2 => Just([true, false]), 1 => Just([false, true])];
    let place = (0..links::COUNT).prop_flat_map(|link| {
        let tags: Vec<_> = links::vlans(link)
            .into_iter()
            .enumerate()
            .map(|(depth, ids)| {
                // The inner one is a customer's.
                tag(ids).prop_map(move |(kind, control)| (if depth == 0 { kind } else { C_TAG }, control))
            })
            .collect();
        (Just(link), tags)
    });
    let client = (place, any::<[u8; 6]>(), duid, iaids, has, any::<u64>()).prop_map(
        |((link, tags), mut mac, duid, iaids, has, seed)| {
            // Neither a group's nor a manufacturer's.
            mac[0] = 2;
            Client { link, tags, mac, duid, iaids, has, seed }
        },
    );
    let route = (any::<u64>(), prop_oneof![3 => Just(546), 1 => any::<u16>()]);
    (client, route, any::<[u8; 3]>()).prop_map(|(client, (interface, source_port), transaction)| {
        let route = Route {
            source_mac: client.mac,
            source: Ipv6Addr::from(0xfe80 << 112 | u128::from(interface)),
            source_port,
            ..Route::default()
        };
        (client, route, transaction)
    })
}

/// T1 and T2 of an IA_NA, and addresses.
fn hint() -> impl Strategy<Value = Vec<u8>> {
    let addresses = vec((any::<[u8; 16]>(), any::<u64>()), 0..5);
    (any::<u64>(), addresses).prop_map(|(times, addresses)| {
        let mut octets = times.to_be_bytes().to_vec();
        for (address, lifetimes) in addresses {
            octets.extend([0, 5, 0, 24]);
            octets.extend(address);
            octets.extend(lifetimes.to_be_bytes());
        }
        octets
    })
}

/// T1 and T2 of an IA_PD, and prefixes.
fn prefix_hint() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![4 => Just(56), 4 => 0..=128_u8, 1 => any::<u8>()];
    let prefixes = vec((any::<[u8; 16]>(), length, any::<u64>()), 0..5);
    (any::<u64>(), prefixes).prop_map(|(times, prefixes)| {
        let mut octets = times.to_be_bytes().to_vec();
        for (prefix, length, lifetimes) in prefixes {
            octets.extend([0, 26, 0, 25]);
            octets.extend(lifetimes.to_be_bytes());
            octets.push(length);
            octets.extend(prefix);
        }
        octets
    })
}

/// As [`hint`] or [`prefix_hint`], with more addresses, options within, or less than there must be.
fn strange_hint(of_prefix: bool) -> impl Strategy<Value = Vec<u8>> {
    let hint = move || if of_prefix { prefix_hint().boxed() } else { hint().boxed() };
    prop_oneof![
        4 => hint(),
        1 => (hint(), vec(any::<u8>(), 0..50)).prop_map(|(hint, more)| [hint, more].concat()),
        1 => (hint(), hint()).prop_map(|(hint, other)| [&hint[..], &other[8..]].concat()),
        1 => hint().prop_map(|hint| [&hint[..], &[0, 13, 0, 2, 0, 0]].concat()),
        1 => vec(any::<u8>(), 0..60),
    ]
}

/// Codes that are configured somewhere, and others.
fn requested() -> impl Strategy<Value = u16> {
    prop_oneof![
        8 => prop::sample::select(vec![23_u16, 24, 56, 31, 32, 255]),
        1 => prop::sample::select(vec![33_u16, 65000]),
        4 => prop::sample::select(vec![0_u16, 1, 2, 3, 12, 14, 21, 22, 39, 59, 67, 82, 83]),
        1 => any::<u16>(),
    ]
}

/// Options that have no meaning to this server: any but six.
fn ignored() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let code = prop_oneof![
        2 => prop::sample::select(vec![4_u16, 8, 15, 16, 17, 20, 39]),
        1 => 0..300_u16,
        1 => any::<u16>(),
    ];
    let code = code.prop_filter("it counts", |code| ![1, 2, 3, 6, 14, 25].contains(code));
    (code, vec(any::<u8>(), 0..40))
}

fn strange_option() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let code = prop_oneof![
        4 => prop::sample::select(vec![15_u16, 16, 17, 20, 39]),
        2 => Just(6),
        1 => prop::sample::select(vec![3_u16, 25]),
        2 => 0..60_u16,
        1 => any::<u16>(),
    ];
    let value = prop_oneof![
        2 => Just(Vec::new()),
        2 => Just(vec![0, 23]),
        2 => vec(any::<u8>(), 0..8),
        1 => vec(any::<u8>(), 0..60),
    ];
    (code, value)
}
