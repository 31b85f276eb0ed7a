//! Clients whose addresses nobody has.

use std::{net::Ipv6Addr, time::Duration};

use anyhow::{Context as _, Result};
use dhcp6_common::wire::MessageType;
use tests::{
    client::BareClient,
    frame::{MessageBuilder, Route},
    netns::{Wire, privileged},
    raw::RawClient,
    server::{Plane, Server},
};

/// Fewer than the kernel's neighbour table has room for.
const STRANGERS: u16 = 800;

fn solicit(client: u16) -> Vec<u8> {
    let [high, low] = client.to_be_bytes();
    let message = MessageBuilder::new(MessageType::Solicit, [1, high, low]);
    message.client_id(&[0, 3, 0, 1, 2, 0, 0, 0, high, low]).rapid_commit().ia_na(1, &[]).build()
}

#[test]
fn who_cannot_be_reached_is_in_nobodys_way() -> Result<()> {
    if !privileged("who_cannot_be_reached_is_in_nobodys_way") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start(&wire, Plane::DaemonOnly)?;
    let client = BareClient::open(&wire.client)?;
    let raw = RawClient::open(&wire.client)?;
    // The answers wait for the MAC addresses of the strangers, for seconds.
    for stranger in 0..STRANGERS {
        let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xbad, stranger);
        raw.send(&Route { source, ..Route::default() }.frame(&solicit(stranger)))?;
    }
    client.send(&solicit(STRANGERS))?;
    client.receive(Duration::from_secs(1))?.with_context(|| server.log())?;
    let stats = server.ctl_json(&["stats"])?;
    assert_eq!(stats["slow_path"]["dropped"]["send_failed"], 0, "{stats}");
    assert_eq!(stats["slow_path"]["sent"]["reply"], STRANGERS + 1, "{stats}");
    Ok(())
}
