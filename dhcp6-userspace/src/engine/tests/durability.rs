//! Durable before promised, one owner, and the kernel forgets first: the design's invariants, one by one.

use dhcp6_common::wire::MessageType;

use super::{
    message::{Message, duid, on_link},
    server::{Crash, SMALL, Server, owner, with_reservations},
};
use crate::{
    engine::{DropReason, ResourceState},
    lease::{Change, LeaseState},
    pool::IaKind,
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
    for (kind, state) in [(MessageType::Release, None), (MessageType::Decline, Some(ResourceState::Conflict))]
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
        let conflicts = server.engine.resources(0, IaKind::Na, Some(ResourceState::Conflict), 9);
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

#[test]
fn only_what_storage_does_not_cover_waits_for_the_commit() {
    // Lifetimes of 2000 s, and storage 1000 s ahead: half of that is used up after 500 s.
    for kind in [MessageType::Solicit, MessageType::Request, MessageType::Renew, MessageType::Rebind] {
        let mut message = Message::with_ia(kind, 1, &[]);
        if kind == MessageType::Solicit {
            message = Message::rapid(1);
        }
        let mut server = Server::start(SMALL);
        for (pass, needs_commit, writes, when) in [
            (0, true, true, "a first Reply"),
            (0, false, false, "the same again"),
            (500, false, false, "half of the horizon is left"),
            (1, false, true, "less than half is left"),
            (500, false, false, "half is left again"),
            (501, true, true, "nothing is left"),
        ] {
            server.advance(pass);
            server.ask(&message);
            assert_eq!(server.needed_commit, needs_commit, "{kind:?}: {when}");
            assert_eq!(!server.changes.is_empty(), writes, "{kind:?}: {when}");
            let lease = &server.store.contents().leases[0];
            assert!(lease.expires_at >= seconds_from(server.now, 2000), "{kind:?}: {when}");
        }
    }
}

#[test]
fn a_failed_commit_withholds_the_reply_and_the_next_message_asks_again() {
    let mut server = Server::start(SMALL);
    for message in [Message::rapid(1), Message::with_ia(MessageType::Request, 1, &[])] {
        server.store.fail_next(1);
        assert_eq!(server.send(&message), Err(DropReason::StoreFailed));
        assert!(server.store.contents().leases.is_empty() && server.kernel.is_empty());
        assert_eq!(server.engine.kernel_bindings(server.now).count(), 0, "nor is it missed in the kernel");
    }
    let address = server.ask(&Message::rapid(1)).address();
    assert!(server.needed_commit);
    assert_eq!(server.store.contents().leases[0].resource, address.into());
    // What storage covers is promised even while it fails.
    server.advance(600);
    server.store.fail_next(1);
    assert_eq!(server.ask(&Message::rapid(1)).address(), address);
    // And an Advertise promises nothing.
    server.store.fail_next(1);
    server.ask(&Message::with_ia(MessageType::Solicit, 2, &[]));
}

#[test]
fn a_round_with_a_failed_commit_still_answers_what_needs_none() {
    let mut server = Server::start(SMALL);
    let address = server.ask(&Message::rapid(1)).address();
    server.store.fail_next(1);
    let outcomes = server.round(&[Message::rapid(2), Message::rapid(1)], None).expect("no crash");
    assert_eq!(outcomes[0], Err(DropReason::StoreFailed));
    assert_eq!(outcomes[1].as_ref().map(super::message::Reply::address), Ok(address));
}

#[test]
fn the_kernel_forgets_who_gives_back_a_lease() {
    for kind in [MessageType::Release, MessageType::Decline] {
        for fails in [0, 1] {
            let mut server = Server::start(SMALL);
            let address = server.ask(&Message::rapid(1)).address();
            server.ask(&Message::rapid(2));
            assert!(server.ask_kernel(&duid(1), 1).is_some());
            server.store.fail_next(fails);
            let outcome = server.send(&Message::with_ia(kind, 1, &[address]));
            assert_eq!(outcome.is_err(), fails == 1, "{kind:?}: the Reply waits for the commit");
            assert!(server.needed_commit, "{kind:?}");
            assert_eq!(server.forgotten, [owner(1)], "{kind:?}");
            assert!(server.ask_kernel(&duid(1), 1).is_none(), "{kind:?}");
            assert!(server.ask_kernel(&duid(2), 1).is_some(), "{kind:?}: the others are served");
        }
    }
}

#[test]
fn the_kernel_forgets_leases_that_end() {
    let mut server = Server::start(SMALL);
    server.ask(&Message::rapid(1));
    server.advance(2999);
    assert!(server.kernel.contains_key(&owner(1)));
    server.advance(1);
    assert!(server.kernel.is_empty());
    assert!(server.changes.is_empty(), "the row in the store says when it ends");
    assert_eq!(server.engine.leases()[0].state, LeaseState::Remembered);
}

#[test]
fn the_kernel_serves_up_to_what_storage_covers() {
    let mut server = Server::start(SMALL);
    let address = server.ask(&Message::rapid(1)).address();
    let stored = server.store.contents().leases[0].expires_at;
    let entry = server.kernel[&owner(1)];
    assert_eq!((entry.address, entry.prefix), (Some((1, address)), None));
    assert_eq!(stored, seconds_from(server.now, 3000), "valid lifetime and horizon");
    assert_eq!(entry.serve_until, seconds_from(server.now, 1000), "stored expiry less the valid lifetime");
    server.restart();
    assert_eq!(server.kernel[&owner(1)], entry, "the same after a restart");
    server.advance(1000);
    assert!(server.ask_kernel(&duid(1), 1).is_some());
    assert!(server.ask_kernel(&duid(1), 2).is_none(), "another IAID is for the daemon");
    server.advance(1);
    assert!(server.ask_kernel(&duid(1), 1).is_none());
    server.ask(&Message::rapid(1));
    assert!(server.ask_kernel(&duid(1), 1).is_some(), "and again after an answer of the daemon");
}

#[test]
fn the_kernel_serves_nobody_who_has_to_move() {
    let mut server = Server::start(SMALL);
    server.ask(&Message::rapid(1));
    server.ask(&Message::rapid(3));
    assert_eq!(server.engine.kernel_bindings(server.now).count(), 2);
    // When client 1 has a reservation elsewhere, and the address of client 3 is reserved for client 1.
    server.restart_with(&with_reservations());
    assert!(server.kernel.is_empty());
    // Then the daemon moves client 3 first, since the other one's address is taken.
    let taken = Message::with_ia(MessageType::Renew, 1, &[on_link(0x1000)]);
    assert_eq!(server.ask(&taken).address(), on_link(0x1000));
    let moved = server.ask(&Message::with_ia(MessageType::Renew, 3, &[on_link(0x1001)])).address();
    assert_eq!(server.ask_kernel(&duid(3), 1), Some(moved));
    assert!(server.ask_kernel(&duid(1), 1).is_none());
    let later = 3001;
    server.advance(later);
    assert_eq!(server.ask(&Message::rapid(1)).address(), on_link(0x1001), "matrix row S-16");
    assert!(server.ask_kernel(&duid(1), 1).is_some());
}

#[test]
fn infinite_leases_never_end() {
    let mut server = Server::start(&SMALL.replace("\"2000s\"", "\"infinity\""));
    let address = server.ask(&Message::rapid(1)).address();
    assert_eq!(server.store.contents().leases[0].expires_at, Time::NEVER, "matrix row R-15");
    assert_eq!(server.kernel[&owner(1)].serve_until, Time::NEVER, "matrix row R-15");
    server.advance(u64::from(u32::MAX) * 2);
    assert!(server.ask_kernel(&duid(1), 1).is_some());
    assert_eq!(server.ask(&Message::with_ia(MessageType::Renew, 1, &[address])).address(), address);
    assert!(server.changes.is_empty() && server.forgotten.is_empty(), "one write is for ever");
    // And when lifetimes become finite, the promise that was made still stands.
    server.restart_with(SMALL);
    server.ask(&Message::rapid(1));
    server.advance(10_000);
    assert_eq!(server.engine.leases()[0].state, LeaseState::Bound);
    assert_eq!(server.store.contents().leases[0].expires_at, Time::NEVER);
}

#[test]
fn an_answer_that_gives_back_and_takes_in_one_round_is_stored_in_order() {
    let mut server = Server::start(SMALL);
    let address = server.ask(&Message::rapid(1)).address();
    let release = Message::with_ia(MessageType::Release, 1, &[address]);
    let request = Message::with_ia(MessageType::Request, 2, &[address]);
    let outcomes = server.round(&[release, request], None).expect("no crash");
    assert!(outcomes.iter().all(Result::is_ok));
    let put = |change: &Change| matches!(change, Change::PutLease(lease) if lease.duid == duid(2));
    assert!(server.changes.last().is_some_and(put));
    assert_eq!(server.store.contents().leases[0].duid, duid(2));
    assert!(server.ask_kernel(&duid(1), 1).is_none());
    assert_eq!(server.ask_kernel(&duid(2), 1), Some(address));
}

#[test]
fn what_the_kernel_grants_is_paid_for_before_the_horizon_passes() {
    let mut server = Server::start(SMALL);
    let address = server.ask(&Message::rapid(1)).address();
    // T1, T2 and both lifetimes pass many times over, and the daemon hears nothing of the client.
    for _ in 0..100 {
        server.advance(400);
        assert_eq!(server.ask_kernel(&duid(1), 1), Some(address), "the kernel goes on");
        server.sweep();
        let lease = &server.store.contents().leases[0];
        assert!(lease.expires_at >= server.now.after_lifetime(2000), "and storage covers it");
        let view = &server.engine.leases()[0];
        assert_eq!(view.valid_until, server.now.after_lifetime(2000), "operators see the kernel's promise");
    }
    // A grant that was stamped before the client gave the address back is no news.
    server.ask_kernel(&duid(1), 1).expect("the kernel goes on");
    server.ask(&Message::with_ia(MessageType::Release, 1, &[address]));
    server.sweep();
    assert_eq!(server.ask_kernel(&duid(1), 1), None);
    assert_eq!(server.engine.leases()[0].state, LeaseState::Remembered);
    // Nobody sweeps: the horizon ends it.
    let address = server.ask(&Message::rapid(1)).address();
    server.advance(1000);
    assert!(server.ask_kernel(&duid(1), 1).is_some());
    server.advance(1);
    assert_eq!(server.ask_kernel(&duid(1), 1), None, "{address}");
}

#[test]
fn grants_are_paid_for_some_at_a_time_in_the_order_of_addresses() {
    let mut server = Server::start(SMALL);
    for client in [4, 2, 1, 3] {
        server.ask(&Message::rapid(client));
    }
    server.advance(600);
    for client in [3, 1, 4, 2] {
        server.ask_kernel(&duid(client), 1).expect("the kernel knows it");
    }
    for grant in std::mem::take(&mut server.grants) {
        server.engine.granted(&grant);
        server.engine.granted(&grant);
    }
    let mut paid = Vec::new();
    for (most, is_done) in [(3, false), (3, true), (3, true)] {
        assert_eq!(server.engine.pay(most), is_done);
        server.round(&[], None).expect("no crash");
        assert!(server.changes.len() <= most);
        for change in &server.changes {
            let Change::PutLease(lease) = change else { panic!("{change:?}") };
            assert!(lease.expires_at >= server.now.after_lifetime(2000));
            paid.push(lease.resource);
        }
    }
    assert_eq!(paid.len(), 4, "each once");
    assert!(paid.is_sorted());
}

#[test]
fn what_waits_for_the_store_without_an_answer_is_counted_too() {
    // Given a lease that storage covers for less than half of the horizon.
    let mut server = Server::start(SMALL);
    let address = server.ask(&Message::rapid(1)).address();
    server.advance(501);
    assert_eq!(server.engine.changes(), 0);
    // When its client renews while a commit is under way, then the daemon can see what gathers.
    let renew = Message::with_ia(MessageType::Renew, 1, &[address]);
    for changes in 1..=3 {
        assert_eq!(server.handle(renew.octets(), true).map(|reply| reply.address()), Ok(address));
        assert_eq!(server.engine.changes(), changes);
    }
    server.round(&[], None);
    assert_eq!(server.engine.changes(), 0);
}
