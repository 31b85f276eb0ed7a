//! What the kernel may grant to a client: an address, a prefix, or both in one Reply.

use dhcp6_common::wire::MessageType;

use super::{
    message::{Message, duid, on_link},
    server::{SMALL, Server, owner},
};
use crate::{
    engine::KernelBinding,
    lease::LeaseState,
    pool::{IaKind, Prefix},
    time::Time,
};

/// A pool of four prefixes of 56 bits.
const PREFIXES: &str = "[[link.prefix_pool]]\nprefix = \"2001:db8:8000::/54\"\ndelegated_length = 56\n";
const NA: (IaKind, u32) = (IaKind::Na, 1);
const PD: (IaKind, u32) = (IaKind::Pd, 2);

fn config() -> String {
    format!("{SMALL}{PREFIXES}")
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

/// A Solicit with Rapid Commit for an address and a prefix.
fn both(client: u8) -> Message {
    Message::rapid(client).ia_pd(PD.1, &[])
}

/// What the kernel grants client 1 that solicits these.
fn granted(server: &mut Server, ias: &[(IaKind, u32)]) -> Option<KernelBinding> {
    server.ask_kernel_for(&duid(1), &Message::bare(1), ias)
}

fn prefix_of(kind: MessageType, prefixes: &[Prefix]) -> Message {
    Message::of(kind, &duid(1)).ia_pd(PD.1, prefixes)
}

#[test]
fn an_address_and_a_prefix_are_one_entry() {
    let mut server = Server::start(&config());
    server.ask(&both(1));
    let entry = KernelBinding {
        owner: owner(1),
        address: Some((1, on_link(0x1000))),
        prefix: Some((2, prefix("2001:db8:8000::/56"))),
        serve_until: server.now.after_lifetime(1000),
    };
    for _ in 0..2 {
        assert_eq!(server.kernel.values().collect::<Vec<_>>(), [&entry], "one of both");
        for ias in [&[NA, PD][..], &[NA], &[PD]] {
            assert_eq!(granted(&mut server, ias), Some(entry));
        }
        for ias in [[NA, (IaKind::Pd, 1)], [(IaKind::Na, 2), PD]] {
            assert_eq!(granted(&mut server, &ias), None, "another IA is the daemon's");
        }
        server.restart();
    }
    // One after the other.
    server.ask(&Message::rapid(2));
    assert_eq!(server.kernel[&owner(2)].prefix, None);
    server.ask(&Message::of(MessageType::Request, &duid(2)).ia_pd(7, &[]));
    let entry = server.kernel[&owner(2)];
    assert_eq!(entry.address, Some((1, on_link(0x1001))));
    assert_eq!(entry.prefix, Some((7, prefix("2001:db8:8000:100::/56"))));
    server.ask(&prefix_of(MessageType::Release, &[prefix("2001:db8:8000::/56")]));
    assert_eq!(server.kernel[&owner(2)], entry, "that of another client stays");
}

#[test]
fn what_is_left_of_a_client_is_served_on() {
    let delegated = prefix("2001:db8:8000::/56");
    for fails in [0, 1] {
        for (release, left) in [
            (prefix_of(MessageType::Release, &[delegated]), NA),
            (Message::with_ia(MessageType::Release, 1, &[on_link(0x1000)]), PD),
            (Message::with_ia(MessageType::Decline, 1, &[on_link(0x1000)]), PD),
        ] {
            let mut server = Server::start(&config());
            server.ask(&both(1));
            server.store.fail_next(fails);
            assert_eq!(server.send(&release).is_err(), fails == 1);
            assert!(server.forgotten.contains(&owner(1)), "the kernel forgets first: {release:?}");
            let entry = granted(&mut server, &[left]).expect("the other part is served on");
            assert_eq!((entry.address.is_some(), entry.prefix.is_some()), (left == NA, left == PD));
            assert_eq!(granted(&mut server, &[NA, PD]), None);
            // And both once the client has both again.
            server.ask(&both(1));
            assert!(granted(&mut server, &[NA, PD]).is_some(), "{release:?}");
        }
    }
}

#[test]
fn a_prefix_that_ends_is_forgotten() {
    let mut server = Server::start(&config());
    server.ask(&prefix_of(MessageType::Request, &[]));
    assert!(granted(&mut server, &[PD]).is_some());
    server.advance(2999);
    assert!(server.kernel.contains_key(&owner(1)));
    server.advance(1);
    assert!(server.kernel.is_empty());
    assert_eq!(server.engine.leases()[0].state, LeaseState::Remembered);
}

#[test]
fn a_part_that_the_client_lets_lapse_does_not_keep_the_other_from_being_served() {
    for (renewed, lapsed) in [(NA, PD), (PD, NA)] {
        let mut server = Server::start(&config());
        server.ask(&both(1));
        // Storage is 1000 s ahead: the part that is not renewed is served up to then.
        for pass in [600, 600] {
            server.advance(pass);
            let renew = Message::of(MessageType::Renew, &duid(1)).ia(renewed.0, renewed.1, &[]);
            server.ask(&renew);
        }
        let entry = granted(&mut server, &[renewed]).expect("what is renewed is served");
        assert_eq!(entry.serve_until, server.now.after_lifetime(1000));
        assert_eq!(granted(&mut server, &[lapsed]), None);
        assert_eq!(granted(&mut server, &[renewed, lapsed]), None, "and nothing is left out of a Reply");
        server.restart();
        assert_eq!(server.kernel[&owner(1)], entry, "the same after a restart");
        // The earlier of both where both are covered.
        server.ask(&both(1));
        assert_eq!(
            granted(&mut server, &[renewed, lapsed]).map(|entry| entry.serve_until),
            Some(entry.serve_until)
        );
        server.advance(1001);
        server.restart();
        let entry = server.kernel[&owner(1)];
        assert!(entry.address.is_some() && entry.prefix.is_some(), "both have lapsed");
        assert_eq!(granted(&mut server, &[NA, PD]), None);
    }
}

#[test]
fn grants_of_both_are_paid_for() {
    let mut server = Server::start(&config());
    server.ask(&both(1));
    for _ in 0..20 {
        server.advance(400);
        granted(&mut server, &[NA, PD]).expect("the kernel goes on");
        server.sweep();
        for lease in server.store.contents().leases {
            assert!(lease.expires_at >= server.now.after_lifetime(2000), "storage covers {}", lease.resource);
        }
    }
}

#[test]
fn the_kernel_serves_no_prefix_that_the_engine_would_not_give() {
    let reservation = |fields: &str| format!("[[link.reservation]]\nduid = \"{}\"\n{fields}", duid(1));
    let long = PREFIXES.replace("= 56", "= 65").replace("/54", "/63");
    let own_options = format!("{PREFIXES}[link.prefix_pool.options]\ndns_servers = [\"2001:db8::53\"]\n");
    let excluded = format!("{PREFIXES}pd_exclude = \"0:0:0:ff::/64\"\n");
    let addressed = reservation("address = \"2001:db8:1::1002\"\n");
    let delegated = reservation("prefix = \"2001:db8:8000:300::/56\"\n");
    let elsewhere = reservation("iaid = 9\nprefix = \"2001:db8:8000:300::/56\"\n");
    let optional = format!(
        "{}[link.reservation.options]\ndns_servers = [\"2001:db8::53\"]\n",
        reservation("iaid = 2\n")
    );
    for (case, further, address, is_served) in [
        ("nothing special", PREFIXES.to_owned(), 0x1000, (true, true)),
        ("it does not fit the kernel's maps", long, 0x1000, (true, false)),
        ("an option of the prefix pool", own_options, 0x1000, (true, false)),
        ("a part that is excluded", excluded, 0x1000, (true, true)),
        ("a reserved address", format!("{PREFIXES}{addressed}"), 0x1002, (true, true)),
        ("a reserved prefix", format!("{PREFIXES}{delegated}"), 0x1000, (true, true)),
        ("a prefix for another IA", format!("{PREFIXES}{elsewhere}"), 0x1000, (true, true)),
        ("an option for that IA", format!("{PREFIXES}{optional}"), 0x1000, (true, false)),
    ] {
        let mut server = Server::start(&format!("{SMALL}{further}"));
        server.ask(&both(1));
        let entry = server.kernel[&owner(1)];
        assert_eq!(entry.address, Some((1, on_link(address))), "{case}");
        assert_eq!((entry.address.is_some(), entry.prefix.is_some()), is_served, "{case}");
        // When the prefix is reserved later, the client has to move first.
        let mut server = Server::start(&config());
        server.ask(&both(1));
        server.restart_with(&format!("{}{delegated}", config()));
        assert_eq!(server.kernel[&owner(1)].prefix, None, "{case}");
        assert!(server.kernel[&owner(1)].address.is_some(), "{case}");
    }
}

#[test]
fn of_several_ias_the_one_that_was_stored_last_is_served() {
    let mut server = Server::start(&config());
    let two = Message::with_ia(MessageType::Request, 1, &[]).ia_na(2, &[]).ia_pd(3, &[]);
    server.ask(&two);
    assert_eq!(server.kernel.len(), 1);
    assert_eq!(server.kernel[&owner(1)].address, Some((2, on_link(0x1001))));
    assert_eq!(server.kernel[&owner(1)].prefix.map(|(iaid, _)| iaid), Some(3));
    server.advance(600);
    server.ask(&Message::with_ia(MessageType::Renew, 1, &[on_link(0x1000)]));
    assert_eq!(server.kernel[&owner(1)].address, Some((1, on_link(0x1000))));
    server.restart();
    assert_eq!(server.kernel[&owner(1)].address, Some((1, on_link(0x1000))), "the same after a restart");
    // What is not served any more makes room for the other one at its next Reply.
    server.ask(&Message::with_ia(MessageType::Release, 1, &[on_link(0x1000)]));
    assert_eq!(server.kernel[&owner(1)].address, None);
    let renew = Message::of(MessageType::Renew, &duid(1)).ia_na(2, &[on_link(0x1001)]);
    server.ask(&renew);
    assert_eq!(server.kernel[&owner(1)].address, Some((2, on_link(0x1001))));
    for client in 1..=3 {
        for iaid in [5, 6, 7] {
            server.ask(&Message::of(MessageType::Release, &duid(client)).ia_na(iaid, &[]));
            server.ask(&Message::of(MessageType::Request, &duid(client)).ia_na(iaid, &[]));
        }
    }
    assert_eq!(server.engine.kernel_bindings(Time::EPOCH).count(), server.kernel.len());
}
