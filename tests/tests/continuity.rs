//! The fast path while the daemon is down, and how the next daemon takes over.

use std::{
    fs,
    net::Ipv6Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::{IA_NA_HEADER_LEN, MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker};
use dhcp6_userspace::{
    lease::{Change, SqliteStore, Store as _},
    net::Interface,
};
use tests::{
    client::BareClient,
    frame::MessageBuilder,
    netns::{SERVER_INTERFACE, Wire, privileged, run},
    server::{Plane, Server},
};

const PLANES: [Plane; 2] = [Plane::Native, Plane::Generic];
const DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 0x0a];
const DUID_TEXT: &str = "00:03:00:01:02:00:00:00:00:0a";

/// The last three octets are the transaction identifier.
fn solicit(duid: &[u8], transaction: u32) -> Vec<u8> {
    let [_, a, b, c] = transaction.to_be_bytes();
    let message = MessageBuilder::new(MessageType::Solicit, [a, b, c]).client_id(duid);
    message.rapid_commit().ia_na(1, &[]).build()
}

/// The only address in a Reply.
fn address(message: &[u8]) -> Result<Ipv6Addr> {
    ensure!(message[0] == MessageType::Reply as u8, "not a Reply");
    let find = |options, code| {
        let mut options = OptionWalker::new(options).filter_map(Result::ok);
        options.find(|option| option.code == code).map(|option| option.value).context("an option is missing")
    };
    let ia = find(&message[MESSAGE_HEADER_LEN..], OptionCode::IA_NA)?;
    let address: [u8; 16] =
        *find(&ia[IA_NA_HEADER_LEN..], OptionCode::IA_ADDRESS)?.first_chunk().context("an address")?;
    Ok(address.into())
}

#[test]
fn known_clients_are_answered_while_the_daemon_is_down() -> Result<()> {
    if !privileged("known_clients_are_answered_while_the_daemon_is_down") {
        return Ok(());
    }
    for plane in PLANES {
        for orderly in [true, false] {
            let wire = Wire::new()?;
            let mut server = Server::start(&wire, plane)?;
            let client = BareClient::open(&wire.client)?;
            let given = address(&client.exchange(&solicit(&DUID, 1))?)?;
            if orderly {
                server.stop()?;
            } else {
                server.kill()?;
            }
            for transaction in 2..5 {
                let reply = client.exchange(&solicit(&DUID, transaction))?;
                assert_eq!(address(&reply)?, given, "{plane:?}: the kernel goes on");
            }
            client.send(&solicit(&[0, 1, 2], 9))?;
            assert!(client.receive(Duration::from_millis(100))?.is_none(), "{plane:?}: a stranger waits");
            let groups = run(wire.server.command("ip").args(["maddress", "show", "dev", "srv0"]))?;
            assert!(groups.contains("33:33:00:01:00:02"), "{plane:?}: a card would let it in: {groups}");

            let duid = server.database().with_file_name("duid");
            let known = fs::read(&duid)?;
            fs::remove_file(&duid)?;
            server.restart()?;
            assert_eq!(fs::read(&duid)?, known, "matrix row U-8: the store has it, too");
            assert_eq!(server.answered()?, 3, "{plane:?}: counters go on");
            let entry = server.ctl_json(&["map", "lookup", DUID_TEXT])?;
            assert_eq!(entry[0]["grants"], 3, "{plane:?}: and so do grants");
            assert_eq!(address(&client.exchange(&solicit(&DUID, 6))?)?, given);
            assert_eq!(server.answered()?, 4, "{plane:?}");
        }
    }
    Ok(())
}

#[test]
fn no_reply_is_lost_while_daemons_come_and_go() -> Result<()> {
    if !privileged("no_reply_is_lost_while_daemons_come_and_go") {
        return Ok(());
    }
    for plane in PLANES {
        let wire = Wire::new()?;
        let mut server = Server::start(&wire, plane)?;
        let client = BareClient::open(&wire.client)?;
        client.exchange(&solicit(&DUID, 0))?;
        let done = AtomicBool::new(false);
        let sent = thread::scope(|scope| -> Result<u32> {
            let flood = scope.spawn(|| -> Result<u32> {
                let mut sent = 0_u32;
                while !done.load(Ordering::Relaxed) {
                    sent += 1;
                    client.send(&solicit(&DUID, sent))?;
                    let reply = client.receive(Duration::from_millis(500))?;
                    let reply = reply.with_context(|| format!("{plane:?}: no Reply to Solicit {sent}"))?;
                    ensure!(reply[1..4] == sent.to_be_bytes()[1..], "out of order");
                }
                Ok(sent)
            });
            let mut come_and_go = || -> Result<()> {
                for _ in 0..3 {
                    server.kill()?;
                    server.restart()?;
                    server.ctl_json(&["config", "reload"])?;
                    server.stop()?;
                    server.restart()?;
                }
                Ok(())
            };
            let outcome = come_and_go();
            done.store(true, Ordering::Relaxed);
            let sent = flood.join().expect("the client does not panic")?;
            outcome.map(|()| sent)
        })?;
        assert!(sent > 100, "{plane:?}: {sent} Solicits are no flood");
        assert_eq!(server.answered()?, u64::from(sent), "{plane:?}: no count is lost");
        assert_eq!(server.ctl_json(&["map", "lookup", DUID_TEXT])?[0]["link"], "access0");
    }
    Ok(())
}

#[test]
fn what_changes_while_the_daemon_is_down_holds_when_it_is_back() -> Result<()> {
    if !privileged("what_changes_while_the_daemon_is_down_holds_when_it_is_back") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::start(&wire, Plane::Generic)?;
    let client = BareClient::open(&wire.client)?;
    let given = address(&client.exchange(&solicit(&DUID, 1))?)?;
    server.stop()?;
    let reservation = format!("[[link.reservation]]\nduid = \"00:01\"\naddress = \"{given}\"\n");
    server.configure(|text| format!("{text}\n{reservation}"))?;
    server.restart()?;
    let moved = address(&client.exchange(&solicit(&DUID, 2))?)?;
    assert_ne!(moved, given, "the kernel does not grant what is somebody else's now");

    server.stop()?;
    server.configure(|text| text.replace("mode = \"generic\"", "enabled = false"))?;
    server.restart()?;
    let attached = run(wire.server.command("ip").args(["link", "show", "srv0"]))?;
    assert!(!attached.contains("xdp"), "what is switched off does not go on: {attached}");
    Ok(())
}

#[test]
fn the_kernel_goes_on_beyond_the_horizon_while_the_daemon_runs() -> Result<()> {
    if !privileged("the_kernel_goes_on_beyond_the_horizon_while_the_daemon_runs") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::start(&wire, Plane::Generic)?;
    server.stop()?;
    server.configure(|text| text.replace("[fast_path]", "[fast_path]\nhorizon = \"3s\""))?;
    server.restart()?;
    let client = BareClient::open(&wire.client)?;
    let long = &[7; 40][..];
    for duid in [&DUID[..], long] {
        client.exchange(&solicit(duid, 1))?;
    }
    for round in 2..14 {
        thread::sleep(Duration::from_millis(500));
        for duid in [&DUID[..], long] {
            client.exchange(&solicit(duid, round))?;
        }
    }
    assert_eq!(server.answered()?, 24, "the daemon was asked once for each client");
    server.stop()?;
    thread::sleep(Duration::from_millis(3500));
    client.send(&solicit(&DUID, 20))?;
    assert!(client.receive(Duration::from_millis(200))?.is_none(), "without it the horizon passes");
    Ok(())
}

#[test]
fn the_maps_are_verified_against_the_store() -> Result<()> {
    if !privileged("the_maps_are_verified_against_the_store") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::start(&wire, Plane::Generic)?;
    let client = BareClient::open(&wire.client)?;
    let given: Vec<_> = [&DUID[..], &[7; 40]]
        .into_iter()
        .map(|duid| address(&client.exchange(&solicit(duid, 1))?))
        .collect::<Result<_>>()?;
    let database = server.database();
    let verify = ["map", "verify", "--database", database.to_str().context("a path")?];
    for both_ways in [true, false] {
        let verified = server.ctl_json(&verify)?;
        assert_eq!(verified["entries"], 2);
        assert_eq!(verified["both_ways"], both_ways);
        assert_eq!(verified["differences"].as_array().map(Vec::len), Some(0), "{verified}");
        if both_ways {
            server.ctl_json(&["map", "verify"])?;
            server.stop()?;
        }
    }
    let mut store = SqliteStore::open(&database)?;
    let mut shorter = store.load()?.leases.into_iter().find(|lease| lease.resource == given[1].into());
    let shorter = shorter.as_mut().context("a lease")?;
    shorter.expires_at = shorter.valid_until;
    store.commit(&[Change::RemoveLease(given[0].into()), Change::PutLease(shorter.clone())])?;
    drop(store);
    let differs = server.ctl(&[&["--json"], &verify[..]].concat())?;
    assert_eq!(differs.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&differs.stdout)?;
    let problems: Vec<_> =
        found["differences"].as_array().into_iter().flatten().map(|it| it["problem"].to_string()).collect();
    assert!(problems.iter().any(|problem| problem.contains("has no such lease")), "{found}");
    assert!(problems.iter().any(|problem| problem.contains("the kernel may promise it until")), "{found}");
    Ok(())
}

#[test]
fn an_interface_that_comes_again_is_served_again() -> Result<()> {
    if !privileged("an_interface_that_comes_again_is_served_again") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::start(&wire, Plane::Generic)?;
    let index = wire.server.enter(|| Interface::find(SERVER_INTERFACE))?.index;
    server.stop()?;
    // With the same index, as in a container that is made anew.
    run(wire.server.command("ip").args(["link", "del", SERVER_INTERFACE]))?;
    let ip = |arguments: &[&str]| run(wire.server.command("ip").args(arguments)).map(drop);
    ip(&["link", "add", SERVER_INTERFACE, "index", &index.to_string(), "type", "bridge"])?;
    ip(&["link", "set", SERVER_INTERFACE, "up"])?;
    server.restart()?;
    let status = server.ctl_json(&["status"])?;
    assert_eq!(status["fast_path"][0]["interface"], SERVER_INTERFACE, "{status}: {}", server.log());
    assert!(status["fast_path"][0]["warning"].is_null(), "generic mode is what was asked for: {status}");
    // A bridge has no native XDP. That `auto` has come to generic mode is no reason to begin anew with each reload.
    server.configure(|text| text.replace("mode = \"generic\"", "mode = \"auto\""))?;
    server.stop()?;
    server.restart()?;
    server.ctl_json(&["config", "reload"])?;
    let status = server.ctl_json(&["status"])?;
    assert_eq!(status["fast_path"][0]["mode"], "generic");
    let warning = status["fast_path"][0]["warning"].as_str().context("a warning")?;
    assert!(warning.starts_with("srv0 has no native XDP"), "{warning}");
    let table = String::from_utf8(server.ctl(&["status"])?.stdout)?;
    assert!(table.contains(&format!("\nwarning      {warning}\n")), "{table}");
    Ok(())
}

#[test]
fn a_program_under_another_pin_dir_is_named_or_taken_away() -> Result<()> {
    if !privileged("a_program_under_another_pin_dir_is_named_or_taken_away") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut first = Server::start(&wire, Plane::Generic)?;
    first.stop()?;
    // Another server: it cannot know where the first has its pins.
    let refused = Server::start(&wire, Plane::Generic).err().context("a second program on one interface")?;
    assert!(format!("{refused:#}").contains("has another XDP program"), "{refused:#}");
    // The same server can.
    let moved = first.pin_dir().join("below");
    let old = format!("pin_dir = \"{}\"", first.pin_dir().display());
    first.configure(|text| text.replace(&old, &format!("pin_dir = \"{}\"", moved.display())))?;
    first.restart()?;
    let status = first.ctl_json(&["status"])?;
    assert_eq!(status["fast_path"][0]["mode"], "generic", "{}", first.log());
    Ok(())
}
