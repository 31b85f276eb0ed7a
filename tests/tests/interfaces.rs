//! Interfaces that go, come back, and change while the server runs.

use std::{
    net::Ipv6Addr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use dhcp6_userspace::net::Interface;
use tests::{
    client::BareClient,
    netns::{CLIENT_INTERFACE, SERVER_INTERFACE, SERVER_LINK_LOCAL, Wire, privileged, run},
    server::{Additions, Plane, Server},
    subscriber::{address_in, solicit},
};

/// How long the server may take to notice.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long an answer may take.
const SOON: Duration = Duration::from_secs(2);

/// The planes on which the fast path needs nothing of the client's end, which comes and goes, too.
const PLANES: [Plane; 2] = [Plane::DaemonOnly, Plane::Generic];

/// A link beside the first, on another interface.
const OTHER: &str = r#"
[[link]]
name = "other"
interface = "srv1"
prefix = "2001:db8:2::/64"
rapid_commit = true
[[link.pool]]
range = "2001:db8:2::1000-2001:db8:2::1fff"
"#;

fn ip(wire: &Wire, arguments: &[&str]) -> Result<()> {
    let mut command: Command = wire.server.command("ip");
    run(command.args(arguments)).map(drop)
}

/// Makes another interface of the server's, which nobody is behind.
fn add(wire: &Wire, name: &str) -> Result<()> {
    let peer = format!("{name}-peer");
    ip(wire, &["link", "add", name, "type", "veth", "peer", "name", &peer])?;
    for end in [name, &peer] {
        ip(wire, &["link", "set", end, "up"])?;
    }
    Ok(())
}

/// Waits until something holds.
fn wait_for(server: &Server<'_>, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !holds()? {
        ensure!(started.elapsed() < PATIENCE, "{what}: {}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What the server shows of a link: its interface, whether that is missing, and its address.
fn link(server: &Server<'_>, name: &str) -> Result<(String, bool, Option<String>)> {
    let status = server.ctl_json(&["status"])?;
    let links = status["links"].as_array().context("links")?;
    let link = links.iter().find(|link| link["name"] == name).context("no such link")?;
    let text = |key: &str| link[key].as_str().map(str::to_owned);
    let missing = link["interface_missing"].as_bool().context("interface_missing")?;
    Ok((text("interface").context("interface")?, missing, text("address")))
}

fn wait_until_missing(server: &Server<'_>, is_missing: bool) -> Result<()> {
    wait_for(
        server,
        if is_missing { "gone" } else { "back" },
        || Ok(link(server, "access0")?.1 == is_missing),
    )
}

/// Asks until there is an answer, as a client does, which is to be an address.
fn ask(client: &BareClient, subscriber: u8, transaction: u8) -> Result<Ipv6Addr> {
    for _ in 0..5 {
        client.send(&solicit(subscriber, transaction))?;
        while let Some(reply) = client.receive(SOON)? {
            if reply[1..4] == [0, subscriber, transaction] {
                return address_in(&reply);
            }
        }
    }
    bail!("subscriber {subscriber} gets no answer")
}

fn said(server: &Server<'_>, what: &str) -> usize {
    server.log().matches(what).count()
}

/// Makes sure that the fast path answers on an interface where it is on, and is not shown where it is off.
fn check_fast_path(
    server: &Server<'_>,
    plane: Plane,
    interface: &str,
    known: impl Fn() -> Result<()>,
) -> Result<()> {
    let status = server.ctl_json(&["status"])?;
    let rows = status["fast_path"].as_array().context("fast_path")?;
    if plane == Plane::DaemonOnly {
        ensure!(rows.is_empty(), "{status}");
        return known();
    }
    ensure!(rows.iter().any(|row| row["interface"] == interface), "{status}");
    let before = server.answered()?;
    known()?;
    ensure!(server.answered()? == before + 1, "the kernel does not answer: {}", server.log());
    Ok(())
}

#[test]
fn an_interface_that_is_deleted_is_served_again_when_it_is_back() -> Result<()> {
    if !privileged("an_interface_that_is_deleted_is_served_again_when_it_is_back") {
        return Ok(());
    }
    for plane in PLANES {
        let wire = Wire::new()?;
        add(&wire, "srv1")?;
        let mut server =
            Server::start_with(&wire, plane, &Additions { file: OTHER, ..Additions::default() })?;
        let address = ask(&BareClient::open(&wire.client)?, 1, 1)?;

        // For good, and with the index that it had, so soon that nobody sees that it is missing.
        ip(&wire, &["link", "del", SERVER_INTERFACE])?;
        wait_until_missing(&server, true)?;
        thread::sleep(Duration::from_millis(2500));
        assert_eq!(said(&server, "interface srv0 is gone"), 1, "{plane:?}: {}", server.log());
        assert_eq!(link(&server, "access0")?, (SERVER_INTERFACE.to_owned(), true, None), "{plane:?}");
        assert!(!link(&server, "other")?.1, "{plane:?}: the other goes on");
        let status = server.ctl_json(&["status"])?;
        let rows = status["fast_path"].as_array().context("fast_path")?;
        assert!(rows.iter().all(|row| row["interface"] == "srv1"), "{plane:?}: {status}");
        let table = String::from_utf8(server.ctl(&["status"])?.stdout)?;
        assert!(table.contains("missing"), "{plane:?}: {table}");
        server.ctl_json(&["config", "reload"])?;
        server.ensure_running()?;

        wire.connect_anew()?;
        wait_until_missing(&server, false)?;
        assert_eq!(link(&server, "access0")?.2, Some(SERVER_LINK_LOCAL.to_string()), "{plane:?}");
        let client = BareClient::open(&wire.client)?;
        assert_eq!(ask(&client, 1, 2)?, address, "{plane:?}: the lease is kept");
        check_fast_path(&server, plane, SERVER_INTERFACE, || {
            assert_eq!(ask(&client, 1, 3)?, address, "{plane:?}");
            Ok(())
        })?;

        wire.reconnect()?;
        wait_for(&server, "back again", || Ok(said(&server, "interface srv0 is back") == 2))?;
        assert_eq!(said(&server, "interface srv0 is gone"), 2, "{plane:?}: {}", server.log());
        let client = BareClient::open(&wire.client)?;
        assert_eq!(ask(&client, 1, 4)?, address, "{plane:?}: the lease is kept");
        ask(&client, 2, 1)?;
        check_fast_path(&server, plane, SERVER_INTERFACE, || {
            assert_eq!(ask(&client, 1, 5)?, address, "{plane:?}");
            Ok(())
        })?;
        server.stop()?;
    }
    Ok(())
}

#[test]
fn a_renamed_interface_is_served_until_another_has_its_name() -> Result<()> {
    if !privileged("a_renamed_interface_is_served_until_another_has_its_name") {
        return Ok(());
    }
    for plane in PLANES {
        let wire = Wire::new()?;
        let mut server = Server::start(&wire, plane)?;
        let client = BareClient::open(&wire.client)?;
        let address = ask(&client, 1, 1)?;
        let altname = |name: &str| ip(&wire, &["link", "set", SERVER_INTERFACE, "name", name]);
        altname("renamed0")?;
        wait_for(&server, "renamed", || Ok(link(&server, "access0")?.0 == "renamed0"))?;
        assert_eq!(said(&server, "is called renamed0 now"), 1, "{plane:?}: {}", server.log());
        assert_eq!(ask(&client, 1, 2)?, address, "{plane:?}");
        ask(&client, 2, 1)?;
        check_fast_path(&server, plane, "renamed0", || {
            assert_eq!(ask(&client, 1, 3)?, address, "{plane:?}");
            Ok(())
        })?;
        // The configuration may be read again.
        server.ctl_json(&["config", "reload"])?;
        assert_eq!(ask(&client, 1, 4)?, address, "{plane:?}");

        add(&wire, SERVER_INTERFACE)?;
        wait_for(&server, "another interface", || Ok(link(&server, "access0")?.0 == SERVER_INTERFACE))?;
        assert_eq!(said(&server, "srv0 is another interface now"), 1, "{plane:?}: {}", server.log());
        let other = wire.server.enter(|| Interface::find(SERVER_INTERFACE))?;
        assert_eq!(link(&server, "access0")?.2, Some(other.link_local.to_string()), "{plane:?}");
        client.send(&solicit(3, 1))?;
        assert_eq!(client.receive(Duration::from_millis(300))?, None, "{plane:?}: not served any more");
        server.ensure_running()?;
        server.stop()?;
    }
    Ok(())
}

#[test]
fn an_interface_that_goes_down_and_up_goes_on() -> Result<()> {
    if !privileged("an_interface_that_goes_down_and_up_goes_on") {
        return Ok(());
    }
    for plane in PLANES {
        let wire = Wire::new()?;
        let server = Server::start(&wire, plane)?;
        let address = ask(&BareClient::open(&wire.client)?, 1, 1)?;
        // With duplicate address detection the address is not there at once.
        let sysctl = format!("net.ipv6.conf.{SERVER_INTERFACE}.accept_dad=1");
        run(wire.server.command("sysctl").args(["-q", "-w", &sysctl]))?;
        ip(&wire, &["link", "set", SERVER_INTERFACE, "down"])?;
        thread::sleep(Duration::from_millis(1500));
        assert!(!link(&server, "access0")?.1, "{plane:?}: it is still there");
        ip(&wire, &["link", "set", SERVER_INTERFACE, "up"])?;
        wait_for(&server, "an address", || {
            Ok(wire.server.enter(|| Interface::find(SERVER_INTERFACE)).is_ok())
        })?;
        wait_for(&server, "the client's address", || {
            Ok(wire.client.enter(|| Interface::find(CLIENT_INTERFACE)).is_ok())
        })?;
        let client = BareClient::open(&wire.client)?;
        assert_eq!(ask(&client, 1, 2)?, address, "{plane:?}");
        ask(&client, 2, 1)?;
        check_fast_path(&server, plane, SERVER_INTERFACE, || {
            assert_eq!(ask(&client, 1, 3)?, address, "{plane:?}");
            Ok(())
        })?;
        for word in ["gone", "is back", "another address"] {
            assert_eq!(said(&server, word), 0, "{plane:?}: {}", server.log());
        }
    }
    Ok(())
}

#[test]
fn another_mac_address_is_answered_from_at_once() -> Result<()> {
    if !privileged("another_mac_address_is_answered_from_at_once") {
        return Ok(());
    }
    for plane in PLANES {
        let wire = Wire::new()?;
        let server = Server::start(&wire, plane)?;
        let address = ask(&BareClient::open(&wire.client)?, 1, 1)?;
        ip(&wire, &["link", "set", SERVER_INTERFACE, "down"])?;
        ip(&wire, &["link", "set", SERVER_INTERFACE, "address", "02:00:00:00:00:bb"])?;
        ip(&wire, &["link", "set", SERVER_INTERFACE, "up"])?;
        let expected = Some("fe80::ff:fe00:bb".to_owned());
        wait_for(&server, "the other address", || Ok(link(&server, "access0")?.2 == expected))?;
        let client = BareClient::open(&wire.client)?;
        assert_eq!(ask(&client, 1, 2)?, address, "{plane:?}");
        check_fast_path(&server, plane, SERVER_INTERFACE, || {
            assert_eq!(ask(&client, 1, 3)?, address, "{plane:?}");
            Ok(())
        })?;
        assert_eq!(said(&server, "is served from another address"), 1, "{plane:?}: {}", server.log());
    }
    Ok(())
}
