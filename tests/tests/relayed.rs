//! Clients behind ISC dhcrelay, once and twice nested.

use std::{net::Ipv6Addr, process::Command};

use anyhow::{Context as _, Result};
use tests::{
    client::{Program, Subscriber},
    netns::{RelayedWire, privileged},
    server::{Additions, Plane, Server},
};

/// The clients' link, which only the relay agents reach.
const LINK: &str = r#"
[[link]]
name = "relayed"
prefix = "2001:db8:2::/64"
rapid_commit = true

[[link.pool]]
range = "2001:db8:2::1000-2001:db8:2::1fff"
"#;

fn a_client_behind(relays: usize) -> Result<()> {
    let wire = RelayedWire::new(relays)?;
    let server =
        Server::start_with(&wire.ends, Plane::Generic, &Additions { file: LINK, ..Additions::default() })?;
    wire.start_relays()?;
    let subscriber = Subscriber::new(Program::Dhclient)?;
    let address = subscriber.power_up(&wire.ends.client)?;
    assert_eq!(address, "2001:db8:2::1000".parse::<Ipv6Addr>()?, "the link of the link-address");
    assert_eq!(subscriber.power_up(&wire.ends.client)?, address, "matrix row S-17");

    let leases = server.ctl_json(&["lease", "list"])?;
    assert_eq!((&leases[0]["link"], &leases[0]["state"]), (&"relayed".into(), &"bound".into()), "{leases}");
    let stats = server.ctl_json(&["stats"])?;
    assert_eq!(stats["slow_path"]["received"]["relay_forward"], 2, "matrix row Y-12: {stats}");
    assert_eq!(stats["slow_path"]["sent"]["relay_reply"], 2, "matrix row Y-11: {stats}");
    Ok(())
}

#[test]
fn clients_behind_relay_agents_get_an_address() -> Result<()> {
    if !privileged("clients_behind_relay_agents_get_an_address") {
        return Ok(());
    }
    if Command::new("dhcrelay").arg("--version").output().is_err() {
        tests::skip(&tests::not_installed("dhcrelay"));
        return Ok(());
    }
    for relays in [1, 2] {
        a_client_behind(relays).with_context(|| format!("{relays} relay agents"))?;
    }
    Ok(())
}
