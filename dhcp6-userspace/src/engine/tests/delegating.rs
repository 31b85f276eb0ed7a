//! Prefix delegation: IA_PD in RFC 9915, prefix length hints (RFC 8168), excluded prefixes (RFC 6603), both kinds of
//! IA in one exchange (RFC 7550, RFC 7084).

use std::collections::BTreeSet;

use dhcp6_common::wire::{MessageType, OptionCode, StatusCode};

use super::{
    message::{Ia, Message, duid, off_link, on_link},
    server::{SMALL, Server},
};
use crate::{
    engine::DropReason,
    pool::{IaKind, Prefix, Resource},
};

/// [`SMALL`] with four prefixes of 56 bits.
fn config() -> String {
    format!("{SMALL}{}", pool("2001:db8:8000::/54", 56))
}

fn pool(prefix: &str, length: u8) -> String {
    format!("[[link.prefix_pool]]\nprefix = \"{prefix}\"\ndelegated_length = {length}\n")
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// A message of client 1 with one IA_PD of IAID 1.
fn of(kind: MessageType, named: &[&str]) -> Message {
    from(1, kind, named)
}

fn from(client: u8, kind: MessageType, named: &[&str]) -> Message {
    let named: Vec<_> = named.iter().map(|text| prefix(text)).collect();
    Message::of(kind, &duid(client)).ia_pd(1, &named)
}

#[test]
fn a_prefix_is_offered_delegated_renewed_and_released() {
    let mut server = Server::start(&config());
    let offered = server.ask(&of(MessageType::Solicit, &[]));
    assert_eq!((offered.kind, offered.prefix()), (MessageType::Advertise, prefix("2001:db8:8000::/56")));
    let delegated = server.ask(&of(MessageType::Request, &["2001:db8:8000::/56"]));
    let expected = Ia {
        code: OptionCode::IA_PD,
        iaid: 1,
        t1: 500,
        t2: 800,
        addresses: vec![],
        prefixes: vec![(prefix("2001:db8:8000::/56"), 1000, 2000)],
        excluded: vec![],
        status: vec![],
        others: 0,
    };
    assert_eq!(delegated.ia(), expected, "matrix rows S-11, R-16, R-17, O-14");
    let lease = &server.store.contents().leases[0];
    assert_eq!(lease.resource, prefix("2001:db8:8000::/56").into());

    server.restart();
    server.advance(600);
    for kind in [MessageType::Renew, MessageType::Rebind] {
        let renewed = server.ask(&of(kind, &["2001:db8:8000::/56"]));
        assert_eq!(renewed.ia(), expected, "matrix rows N-1, N-9, E-20: {kind:?}");
    }
    let released = server.ask(&of(MessageType::Release, &["2001:db8:8000::/56"]));
    assert_eq!((released.status(), released.ias()), (Some(StatusCode::Success), vec![]), "matrix row L-1");
    let again = server.ask(&of(MessageType::Release, &["2001:db8:8000::/56"]));
    assert!(again.ia().is_only(StatusCode::NoBinding), "matrix rows L-2, L-6");
    let other = server.ask(&from(2, MessageType::Request, &["2001:db8:8000::/56"]));
    assert_eq!(other.prefix(), prefix("2001:db8:8000::/56"), "matrix row L-5: as asked for");
}

#[test]
fn a_router_gets_its_address_and_its_prefix_in_one_exchange() {
    // RFC 7084: IA_NA and IA_PD with one IAID, the usual options, Rapid Commit and Reconfigure Accept.
    let mut server = Server::start(&config());
    let solicit = Message::rapid(1)
        .ia_pd(1, &[prefix("::/56")])
        .requests(&[23, 24, 64, 67, 82])
        .option(OptionCode::RECONFIGURE_ACCEPT, &[]);
    let reply = server.ask(&solicit);
    assert_eq!(reply.kind, MessageType::Reply, "matrix row E-30");
    let [na, pd] = &reply.ias()[..] else { panic!("two IAs: {reply:?}") };
    assert_eq!((na.kind(), pd.kind()), (IaKind::Na, IaKind::Pd), "matrix rows U-10, E-29, E-30");
    assert_eq!((na.t1, na.t2), (pd.t1, pd.t2), "matrix rows R-6, R-7, E-29");
    assert_eq!(na.addresses, [(on_link(0x1000), 1000, 2000)]);
    assert_eq!(pd.prefixes, [(prefix("2001:db8:8000::/56"), 1000, 2000)]);
    assert!(!reply.has(OptionCode::RECONFIGURE_ACCEPT), "matrix row O-11");

    // Power is cut, and the router begins anew.
    assert_eq!(server.ask(&solicit).ias(), reply.ias(), "matrix rows E-31, S-17, Q-8");
    let both = Message::of(MessageType::Release, &duid(1)).ia_na(1, &[on_link(0x1000)]);
    let released = server.ask(&both.ia_pd(1, &[prefix("2001:db8:8000::/56")]));
    assert_eq!((released.status(), released.ias()), (Some(StatusCode::Success), vec![]), "matrix row L-7");
    let counts = server.engine.links().next().unwrap();
    assert_eq!((counts.addresses.used, counts.prefixes.used), (0, 0), "matrix row L-7");
}

#[test]
fn where_one_kind_has_run_out_the_other_is_given() {
    let exhausted = SMALL.replace("::1000-2001:db8:1::1003", "::1000") + &pool("2001:db8:8000::/56", 56);
    for kind in [IaKind::Na, IaKind::Pd] {
        let mut server = Server::start(&exhausted);
        server.ask(&Message::of(MessageType::Request, &duid(2)).ia(kind, 1, &[]));
        let request = Message::of(MessageType::Request, &duid(1)).ia_pd(1, &[]).ia_na(1, &[]);
        for reply in [server.ask(&request), server.ask(&of(MessageType::Renew, &[]).ia_na(1, &[]))] {
            for ia in reply.ias() {
                if ia.kind() == kind {
                    let status = [StatusCode::NoAddrsAvail, StatusCode::NoPrefixAvail]
                        [usize::from(kind == IaKind::Pd)];
                    assert!(ia.is_only(status), "matrix rows R-3, R-4, N-5: {ia:?}");
                } else {
                    assert_eq!(ia.leases().len(), 1, "matrix row N-6: {ia:?}");
                }
                assert_eq!((ia.t1, ia.t2), (500, 800), "matrix row N-8");
            }
        }
    }
}

#[test]
fn a_server_without_prefixes_says_so() {
    for (kind, status) in [
        (MessageType::Solicit, StatusCode::NoPrefixAvail),
        (MessageType::Request, StatusCode::NoPrefixAvail),
        (MessageType::Renew, StatusCode::NoPrefixAvail),
        (MessageType::Rebind, StatusCode::NoPrefixAvail),
        (MessageType::Release, StatusCode::NoBinding),
        (MessageType::Decline, StatusCode::NoBinding),
    ] {
        let ia = Server::start(SMALL).ask(&of(kind, &[])).ia();
        assert!(ia.code == OptionCode::IA_PD && ia.is_only(status), "matrix rows S-5, R-4: {kind:?}: {ia:?}");
    }
}

#[test]
fn a_length_that_is_asked_for_is_given_or_the_next_best() {
    let config = [
        SMALL.to_owned(),
        pool("2001:db8:8000::/59", 60),
        pool("2001:db8:9000::/48", 48),
        pool("2001:db8:a000::/56", 56),
        pool("2001:db8:b000::/63", 64),
    ]
    .concat();
    let leased =
        |named: &str| Server::start(&config).ask(&of(MessageType::Request, &[named])).prefix().length();
    for (asked, given) in [
        ("::/60", 60),
        ("::/56", 56),
        ("::/48", 48),
        ("::/64", 64),
        // None is that long: shorter ones come first, the nearest before others.
        ("::/61", 60),
        ("::/128", 64),
        ("::/57", 56),
        ("::/50", 48),
        // None is shorter: then longer ones.
        ("::/47", 48),
        ("::/1", 48),
        // Nothing is asked for.
        ("::/0", 60),
        // A prefix that this server does not delegate asks for its length at least.
        ("2001:db8:ffff::/56", 56),
    ] {
        assert_eq!(leased(asked), given, "matrix rows O-13, E-13: {asked}");
    }
    // Those of 56 bits have run out: a shorter one before a longer one.
    let mut server = Server::start(&config);
    server.ask(&from(2, MessageType::Request, &["::/56"]));
    assert_eq!(server.ask(&of(MessageType::Request, &["::/56"])).prefix().length(), 48, "matrix row E-13");
    assert_eq!(
        server.ask(&from(3, MessageType::Request, &["::/56"])).prefix().length(),
        60,
        "matrix row E-13"
    );
}

#[test]
fn a_changed_wish_does_not_take_a_prefix_away() {
    let config = [SMALL, &pool("2001:db8:8000::/59", 60), &pool("2001:db8:9000::/48", 56)].concat();
    let mut server = Server::start(&config);
    let given = server.ask(&of(MessageType::Request, &["::/60"])).prefix().to_string();
    for kind in [MessageType::Renew, MessageType::Rebind] {
        let renewed = server.ask(&of(kind, &["::/56", &given]));
        assert_eq!(renewed.ia().prefixes, [(prefix(&given), 1000, 2000)], "matrix row E-14: {kind:?}");
    }
}

#[test]
fn a_prefix_hint_is_honoured_where_it_is_free() {
    let mut server = Server::start(&config());
    let hint = "2001:db8:8000:200::/56";
    assert_eq!(server.ask(&of(MessageType::Solicit, &[hint])).prefix(), prefix(hint), "matrix row S-7");
    assert_eq!(server.ask(&of(MessageType::Request, &[hint])).prefix(), prefix(hint), "matrix row S-11");
    for other in [hint, "2001:db8:8000:200::/57", "2001:db8:8000::/54", "2001:db8:ffff::/56"] {
        let reply = server.ask(&from(2, MessageType::Solicit, &[other]));
        assert_eq!(reply.ia().prefixes.len(), 1, "matrix row S-6");
        assert_ne!(reply.prefix(), prefix(other), "matrix rows S-6, R-11");
    }
}

#[test]
fn prefixes_that_are_not_the_clients_end() {
    for (kind, rapid_commit, expected) in [
        (MessageType::Renew, true, true),
        (MessageType::Renew, false, true),
        (MessageType::Rebind, true, true),
        (MessageType::Rebind, false, false),
    ] {
        let config = config().replace("rapid_commit = true", &format!("rapid_commit = {rapid_commit}"));
        let mut server = Server::start(&config);
        // Of another server, or from before this one's pools changed.
        let ia = server.ask(&of(kind, &["2001:db8:ffff::/56"])).ia();
        let (gone, got): (Vec<_>, Vec<_>) =
            ia.prefixes.iter().copied().partition(|(_, _, valid)| *valid == 0);
        assert_eq!(gone, [(prefix("2001:db8:ffff::/56"), 0, 0)], "matrix rows N-4, N-10, N-11: {kind:?}");
        assert_eq!(!got.is_empty(), expected, "matrix rows N-5, N-12: {kind:?}, {ia:?}");

        // Somebody else's.
        let mut server = Server::start(&config);
        let owned = server.ask(&from(2, MessageType::Request, &[])).prefix();
        let reply = server.ask(&of(kind, &[&owned.to_string()]));
        let mine = reply.ia().prefixes.into_iter().filter(|(_, _, valid)| *valid > 0);
        assert!(mine.map(|(prefix, _, _)| prefix).all(|prefix| prefix != owned), "matrix rows N-13, N-14");
        if !expected {
            assert!(reply.ia().is_only(StatusCode::NoBinding), "matrix row N-12: {reply:?}");
        }
        let renewed = server.ask(&from(2, MessageType::Renew, &[&owned.to_string()]));
        assert_eq!(renewed.prefix(), owned, "matrix row N-14");
    }
}

#[test]
fn a_prefix_cannot_be_declined() {
    let mut server = Server::start(&config());
    let given = server.ask(&of(MessageType::Request, &[])).prefix().to_string();
    let reply = server.ask(&of(MessageType::Decline, &[&given]));
    assert_eq!(reply.status(), Some(StatusCode::Success));
    assert!(server.changes.is_empty() && !server.needed_commit, "no commit comes that it could wait for");
    assert_eq!(server.ask(&of(MessageType::Renew, &[&given])).prefix(), prefix(&given));
}

#[test]
fn a_confirm_judges_addresses_alone() {
    let mut server = Server::start(&config());
    let only_prefix = of(MessageType::Confirm, &["2001:db8:8000::/56"]);
    assert_eq!(server.send(&only_prefix), Err(DropReason::NothingToConfirm), "matrix row C-3");
    for (address, status) in [(on_link(1), StatusCode::Success), (off_link(), StatusCode::NotOnLink)] {
        let reply = server.ask(&only_prefix.clone().ia_na(1, &[address]));
        assert_eq!(reply.status(), Some(status), "matrix rows C-1, C-2");
    }
}

#[test]
fn the_excluded_prefix_is_told_to_who_asks() {
    for (delegated, exclude, expected) in [
        (56, "0:0:0:ff::/64", &[64, 0xff][..]),
        (56, "::/64", &[64, 0]),
        (56, "0:0:0:80::/57", &[57, 0x80]),
        (57, "0:0:0:7f::/64", &[64, 0xfe]),
        (60, "0:0:0:8::/61", &[61, 0x80]),
        (48, "0:0:0:1::/64", &[64, 0, 1]),
        (56, "0:0:0:1:2::/80", &[80, 1, 0, 2]),
        (56, "::1/128", &[128, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    ] {
        let config = format!("{SMALL}{}pd_exclude = \"{exclude}\"\n", pool("2001:db8:8000::/48", delegated));
        for kind in [MessageType::Solicit, MessageType::Request, MessageType::Renew, MessageType::Rebind] {
            let mut server = Server::start(&config);
            let silent = server.ask(&of(kind, &[]).requests(&[23])).ia();
            assert_eq!(
                (silent.prefixes.len(), silent.excluded.len()),
                (1, 0),
                "matrix row E-12: not asked for"
            );
            let told = server.ask(&of(kind, &[]).requests(&[67])).ia();
            assert_eq!(told.excluded, [expected], "matrix row E-12: {exclude} of a /{delegated}");
        }
    }
}

#[test]
fn any_number_of_ias_is_served_each_by_its_own() {
    let mut server = Server::start(&config());
    let iaids = [0, 1, u32::MAX];
    let request = iaids.iter().fold(Message::of(MessageType::Request, &duid(1)), |message, iaid| {
        message.ia_pd(*iaid, &[]).ia_na(*iaid, &[])
    });
    let ias = server.ask(&request).ias();
    let names: Vec<_> = ias.iter().map(|ia| (ia.kind(), ia.iaid)).collect();
    let expected: Vec<_> = IaKind::ALL.iter().flat_map(|kind| iaids.map(|iaid| (*kind, iaid))).collect();
    assert_eq!(names, expected, "matrix rows U-10, U-12, U-13, O-7");
    let given: BTreeSet<Resource> = ias.iter().flat_map(Ia::leases).map(|(lease, _, _)| lease).collect();
    assert_eq!(given.len(), 6, "matrix rows U-13, R-5: {ias:?}");
    assert_eq!(server.ask(&request).ias(), ias, "matrix rows R-8, R-9");
}

#[test]
fn a_message_with_more_than_an_answer_holds_is_dropped() {
    let mut server = Server::start(&config());
    let with = |count: u32| {
        (0..count).fold(Message::of(MessageType::Request, &duid(1)), |message, iaid| message.ia_pd(iaid, &[]))
    };
    let reply = server.ask(&with(900));
    assert_eq!(reply.ias().len(), 900);
    let octets = reply.options.iter().map(|(_, value)| 4 + value.len()).sum::<usize>();
    assert!(octets < 65_000, "{octets} octets fit a datagram");
    assert_eq!(server.send(&with(901)), Err(DropReason::TooManyIas));
    let named = vec![prefix("2001:db8:ffff::/56"); 900];
    let message = Message::of(MessageType::Renew, &duid(1)).ia_pd(1, &named);
    assert_eq!(server.send(&message), Err(DropReason::TooManyIas));
}

#[test]
fn a_prefix_of_an_impossible_length_is_malformed() {
    let mut option = [7777u32, 8888].map(u32::to_be_bytes).concat();
    option.push(129);
    option.extend(on_link(1).octets());
    let mut value = [1u32, 0, 0].map(u32::to_be_bytes).concat();
    super::message::put(&mut value, OptionCode::IA_PREFIX, &option);
    let message = Message::of(MessageType::Solicit, &duid(1)).option(OptionCode::IA_PD, &value);
    assert_eq!(Server::start(&config()).send(&message), Err(DropReason::Malformed));
}

#[test]
fn offers_of_prefixes_do_not_drain_a_pool() {
    let mut server = Server::start(&config());
    for client in 1..=20 {
        assert_eq!(
            server.ask(&from(client, MessageType::Solicit, &[])).ia().prefixes.len(),
            1,
            "matrix row S-22"
        );
    }
    for client in 21..=24 {
        server.ask(&from(client, MessageType::Request, &[])).prefix();
    }
    let ia = server.ask(&from(25, MessageType::Solicit, &[])).ia();
    assert!(ia.is_only(StatusCode::NoPrefixAvail), "matrix row S-5");
}
