//! Solicits.

use std::net::Ipv6Addr;

use dhcp6_common::wire::{MessageType, OptionCode};
use proptest::{collection::vec, option, prelude::*};
use tests::frame::{MessageBuilder, Route};

/// A client that has been bound before.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) slot: u32,
    pub(super) duid: Vec<u8>,
    pub(super) iaid: u32,
    /// Decides which address it was given.
    pub(super) seed: u64,
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
    pub(super) fn frame(&self) -> Vec<u8> {
        let message = MessageBuilder::new(MessageType::Solicit, self.transaction);
        let message = self
            .options
            .iter()
            .fold(message, |message, (code, value)| message.option(OptionCode(*code), value));
        self.route.frame(&message.build())
    }
}

/// What a client sends that wants an answer in two messages.
pub(super) fn ordinary() -> impl Strategy<Value = Case> {
    let elapsed = option::of(any::<[u8; 2]>());
    let request = option::weighted(0.8, vec(requested(), 0..12));
    (origin(), hint(), elapsed, request, vec(ignored(), 0..5)).prop_flat_map(
        |((client, route, transaction), hint, elapsed, request, ignored)| {
            let mut options = essential(&client, &hint);
            options.extend(elapsed.map(|elapsed| (8, elapsed.to_vec())));
            options
                .extend(request.map(|codes| (6, codes.iter().flat_map(|code| code.to_be_bytes()).collect())));
            options.extend(ignored);
            shuffled(client, route, transaction, options)
        },
    )
}

/// What only a strange client sends: options missing, repeated, unknown or badly filled, and too many.
pub(super) fn strange() -> impl Strategy<Value = Case> {
    let kept = prop_oneof![3 => Just([true; 3]), 1 => any::<[bool; 3]>()];
    let others = prop_oneof![8 => vec(strange_option(), 0..4), 1 => vec(strange_option(), 0..80)];
    (origin(), strange_hint(), kept, others, vec(ignored(), 0..4), option::weighted(0.1, any::<u32>()))
        .prop_flat_map(|((client, route, transaction), hint, kept, others, ignored, iaid)| {
            let iaid = iaid.unwrap_or(client.iaid);
            let essential = essential(&Client { iaid, ..client.clone() }, &hint);
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
fn essential(client: &Client, hint: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let ia = [&client.iaid.to_be_bytes()[..], hint].concat();
    vec![(1, client.duid.clone()), (3, ia), (14, Vec::new())]
}

fn origin() -> impl Strategy<Value = (Client, Route, [u8; 3])> {
    let duid = prop_oneof![vec(any::<u8>(), 1..=18), vec(any::<u8>(), 1..=130)];
    let iaid = prop_oneof![Just(0), Just(u32::MAX), any::<u32>()];
    let client = (0..9_u32, duid, iaid, any::<u64>()).prop_map(|(slot, duid, iaid, seed)| Client {
        slot,
        duid,
        iaid,
        seed,
    });
    let route = (any::<[u8; 6]>(), any::<u64>(), prop_oneof![3 => Just(546), 1 => any::<u16>()]).prop_map(
        |(mut mac, interface, source_port)| {
            // Neither a group's nor a manufacturer's.
            mac[0] = 2;
            Route {
                source_mac: mac,
                source: Ipv6Addr::from(0xfe80 << 112 | u128::from(interface)),
                source_port,
                ..Route::default()
            }
        },
    );
    (client, route, any::<[u8; 3]>())
}

/// T1 and T2 of an IA_NA, and an address or none.
fn hint() -> impl Strategy<Value = Vec<u8>> {
    let address = option::of((any::<[u8; 16]>(), any::<u64>()));
    (any::<u64>(), address).prop_map(|(times, address)| {
        let mut octets = times.to_be_bytes().to_vec();
        if let Some((address, lifetimes)) = address {
            octets.extend([0, 5, 0, 24]);
            octets.extend(address);
            octets.extend(lifetimes.to_be_bytes());
        }
        octets
    })
}

/// As [`hint`], with several addresses, options within, or less than there must be.
fn strange_hint() -> impl Strategy<Value = Vec<u8>> {
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
        4 => prop::sample::select(vec![0_u16, 1, 2, 3, 12, 14, 21, 22, 39, 59, 82, 83]),
        1 => any::<u16>(),
    ]
}

/// Options that have no meaning to this server.
fn ignored() -> impl Strategy<Value = (u16, Vec<u8>)> {
    (prop::sample::select(vec![15_u16, 16, 17, 20, 39]), vec(any::<u8>(), 0..40))
}

fn strange_option() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let code = prop_oneof![
        4 => prop::sample::select(vec![15_u16, 16, 17, 20, 39]),
        2 => Just(6),
        2 => Just(8),
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
