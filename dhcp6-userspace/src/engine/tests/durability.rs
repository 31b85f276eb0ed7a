//! Durable before promised, one owner, and the kernel forgets first: the design's invariants, one by one.

use dhcp6_common::wire::MessageType;

use super::{
    message::{Message, duid, on_link},
    server::{Crash, SMALL, Server, with_reservations},
};
use crate::{
    engine::{AddressState, DropReason},
    lease::{Change, LeaseState},
    time::Time,
};

fn seconds_from(now: Time, seconds: u64) -> Time {
    now.after(std::time::Duration::from_secs(seconds))
}

#[test]
fn who_has_to_move_keeps_its_address_from_others_until_its_promise_ends() {
    for (name, fails, crash) in [
        ("the answer leaves", false, None),
        ("the commit fails", true, None),
        ("the daemon dies before the commit", false, Some(Crash::BeforeCommit)),
        ("the daemon dies before the answer", false, Some(Crash::AfterCommit)),
    ] {
        // Given a client with an address of the pool, when another one is reserved for it and it renews.
        let mut server = Server::start(SMALL);
        assert_eq!(server.ask(&Message::rapid(1)).address(), on_link(0x1000));
        server.restart_with(&with_reservations());
        server.store.fail_next(u32::from(fails));
        let renew = Message::with_ia(MessageType::Renew, 1, &[on_link(0x1000)]);
        let outcomes = server.round(std::slice::from_ref(&renew), crash);
        if crash.is_some() {
            server.restart();
        } else if let [Ok(reply)] = &outcomes.expect("no crash")[..] {
            assert_eq!(reply.address(), on_link(0x1001), "matrix row S-16");
            assert!(reply.ia().addresses.contains(&(on_link(0x1000), 0, 0)), "matrix row N-7");
        }
        // Then nobody else gets what it had, even if it never hears of the move.
        for client in 3..=6 {
            let hint = Message::with_ia(MessageType::Request, client, &[on_link(0x1000)]);
            let addresses = server.ask(&hint).ia().addresses;
            assert!(addresses.iter().all(|(other, _, _)| *other != on_link(0x1000)), "{name}");
        }
        assert_eq!(server.ask(&renew).address(), on_link(0x1001), "{name}: and the client moves");
        server.advance(3001);
        assert_eq!(server.ask(&Message::rapid(7)).address(), on_link(0x1000), "{name}: free in the end");
    }
}

#[test]
fn an_end_that_was_not_stored_is_stored_with_the_next_batch() {
    for (kind, state) in [(MessageType::Release, None), (MessageType::Decline, Some(AddressState::Conflict))]
    {
        // Given a client whose Release or Decline is not committed.
        let mut server = Server::start(&SMALL.replace("= \"2000s\"", "= \"infinity\""));
        server.ask(&Message::rapid(2));
        let address = server.ask(&Message::rapid(1)).address();
        server.store.fail_next(2);
        let end = Message::with_ia(kind, 1, &[address]);
        assert_eq!(server.send(&end), Err(DropReason::StoreFailed), "{kind:?}");
        // When another round fails, and then one succeeds in which the client takes another address.
        server.round(&[], None);
        let hint = Message::with_ia(MessageType::Request, 1, &[on_link(0x1002)]);
        assert_eq!(server.ask(&hint).address(), on_link(0x1002), "{kind:?}");
        // Then the store knows, and after a restart nothing comes back.
        server.restart();
        let bound = |lease: &&crate::lease::Lease| lease.state == LeaseState::Bound && lease.duid == duid(1);
        let leases = server.store.contents().leases;
        assert_eq!(leases.iter().filter(bound).count(), 1, "{kind:?}");
        assert_eq!(server.ask(&Message::rapid(1)).address(), on_link(0x1002), "{kind:?}");
        let conflicts = server.engine.addresses(0, Some(AddressState::Conflict), 9);
        assert_eq!(conflicts.first().map(|view| view.state), state, "matrix row X-6");
    }
}

#[test]
fn a_lease_that_was_ended_and_made_again_without_a_commit_is_not_stored() {
    // Given a client that releases its lease and gets it again in a round whose commit fails.
    let mut server = Server::start(SMALL);
    let address = server.ask(&Message::rapid(1)).address();
    let release = Message::with_ia(MessageType::Release, 1, &[address]);
    server.store.fail_next(1);
    server.round(&[release, Message::rapid(1)], None);
    // When only the end of the lease is stored, then neither plane promises the lease.
    server.round(&[], None);
    assert_eq!(server.store.contents().leases[0].state, LeaseState::Remembered);
    assert!(server.kernel.is_empty());
    server.store.fail_next(1);
    assert_eq!(server.send(&Message::rapid(1)), Err(DropReason::StoreFailed));
}
