//! Another configuration for a running server.

use std::{
    net::Ipv6Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::{Duid, IA_NA_HEADER_LEN, MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker};
use tests::{
    client::BareClient,
    frame::MessageBuilder,
    netns::{Wire, privileged},
    server::{Additions, Plane, Server},
};

const PLANES: [Plane; 3] = [Plane::DaemonOnly, Plane::Native, Plane::Generic];

fn duid(client: u8) -> Duid {
    Duid::new(&[0, 3, 0, 1, 2, 0, 0, 0, 0, client]).expect("10 octets are a DUID")
}

fn message(kind: MessageType, client: u8) -> MessageBuilder {
    MessageBuilder::new(kind, [0, kind as u8, client]).client_id(duid(client).as_slice())
}

fn solicit(client: u8, hint: &[Ipv6Addr]) -> Vec<u8> {
    message(MessageType::Solicit, client).rapid_commit().ia_na(1, hint).build()
}

fn option(options: &[u8], code: OptionCode) -> Result<&[u8]> {
    let mut options = OptionWalker::new(options).filter_map(Result::ok);
    options.find(|option| option.code == code).map(|option| option.value).context("an option is missing")
}

/// The addresses in the first IA_NA of a message, with their valid lifetimes.
fn addresses(message: &[u8]) -> Result<Vec<(Ipv6Addr, u32)>> {
    let ia = option(&message[MESSAGE_HEADER_LEN..], OptionCode::IA_NA)?;
    let mut found = Vec::new();
    for option in OptionWalker::new(&ia[IA_NA_HEADER_LEN..]).filter_map(Result::ok) {
        if option.code == OptionCode::IA_ADDRESS {
            let address: [u8; 16] = *option.value.first_chunk().context("an address")?;
            let valid: [u8; 4] = *option.value[20..].first_chunk().context("a lifetime")?;
            found.push((address.into(), u32::from_be_bytes(valid)));
        }
    }
    Ok(found)
}

/// The only address that a message gives.
fn address(message: &[u8]) -> Result<Ipv6Addr> {
    let given: Vec<_> = addresses(message)?.into_iter().filter(|(_, valid)| *valid > 0).collect();
    ensure!(given.len() == 1, "not one address: {given:?}");
    Ok(given[0].0)
}

fn reload(server: &Server<'_>) -> Result<()> {
    server.ctl_json(&["config", "reload"]).map(drop)
}

#[test]
fn a_configuration_with_mistakes_changes_nothing() -> Result<()> {
    if !privileged("a_configuration_with_mistakes_changes_nothing") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start(&wire, Plane::Generic)?;
    let client = BareClient::open(&wire.client)?;
    let given = address(&client.exchange(&solicit(1, &[]))?)?;
    assert!(server.ctl_json(&["status"])?["last_reload"].is_null());

    // Three mistakes, the first on line 17.
    server.configure(|text| {
        text.replace("rapid_commit = true", "rapid_comit = true\nt1 = \"2h\"")
            .replace("::1000-2001:db8:1::ffff", "::1000-2001:db8:1::10000")
    })?;
    let refused = server.ctl(&["config", "reload"])?;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr)?;
    for part in ["dhcp6d.toml:", "did you mean `rapid_commit`?", "`t1`", "`2001:db8:1::10000` is not an IPv6"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let status = server.ctl_json(&["status"])?;
    assert_eq!(status["last_reload"]["ok"], false);
    assert!(status["last_reload"]["error"].as_str().is_some_and(|error| said.contains(error)), "{status}");

    let before = server.answered()?;
    assert_eq!(address(&client.exchange(&solicit(1, &[]))?)?, given);
    assert_eq!(server.answered()?, before + 1, "the kernel goes on answering");

    server.configure(|text| {
        text.replace("rapid_comit", "rapid_commit").replace("t1 =", "#").replace(":10000", ":ffff")
    })?;
    server.hang_up()?;
    let asked = Instant::now();
    while server.ctl_json(&["status"])?["last_reload"]["ok"] == false {
        ensure!(asked.elapsed() < Duration::from_secs(5), "no reload on SIGHUP: {}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn what_is_taken_from_a_client_ends_with_its_next_renew() -> Result<()> {
    if !privileged("what_is_taken_from_a_client_ends_with_its_next_renew") {
        return Ok(());
    }
    for plane in PLANES {
        let wire = Wire::new()?;
        let server = Server::start(&wire, plane)?;
        let client = BareClient::open(&wire.client)?;
        let reply = client.exchange(&solicit(1, &[]))?;
        let server_id = option(&reply[MESSAGE_HEADER_LEN..], OptionCode::SERVER_ID)?.to_vec();
        let old = address(&reply)?;
        let kept = client.exchange(&solicit(2, &["2001:db8:1::8000".parse()?]))?;
        let kept = address(&kept)?;

        server.configure(|text| text.replace("::1000-2001:db8:1::ffff", "::8000-2001:db8:1::ffff"))?;
        reload(&server)?;
        let stranger = address(&client.exchange(&solicit(3, &[old]))?)?;
        assert_ne!(stranger, old, "{plane:?}: its client may still use it");
        assert_eq!(address(&client.exchange(&solicit(2, &[]))?)?, kept, "{plane:?}: leases are kept");
        let renew = message(MessageType::Renew, 1).server_id(&server_id).ia_na(1, &[old]).build();
        let renewed = addresses(&client.exchange(&renew)?)?;
        assert!(renewed.contains(&(old, 0)), "{plane:?}, matrix row N-3: {renewed:?}");
        let new = renewed.iter().find(|(_, valid)| *valid > 0).context("a new address")?.0;
        assert_eq!(address(&client.exchange(&solicit(1, &[]))?)?, new, "{plane:?}");
        let lease = server.ctl_json(&["lease", "show", &new.to_string()])?;
        assert_eq!(lease["duid"], duid(1).to_string(), "{plane:?}");
    }
    Ok(())
}

#[test]
fn a_new_reservation_waits_for_the_lease_in_its_way() -> Result<()> {
    if !privileged("a_new_reservation_waits_for_the_lease_in_its_way") {
        return Ok(());
    }
    for plane in PLANES {
        let wire = Wire::new()?;
        let server = Server::start(&wire, plane)?;
        let client = BareClient::open(&wire.client)?;
        let old = address(&client.exchange(&solicit(1, &[]))?)?;
        let owner = duid(2);
        server.configure(|text| {
            format!("{text}\n[[link.reservation]]\nduid = \"{owner}\"\naddress = \"{old}\"\n")
        })?;
        reload(&server)?;
        assert!(server.log().contains("reserved for"), "{plane:?}: {}", server.log());
        // The kernel must not go on granting it to who has to part with it.
        assert_ne!(address(&client.exchange(&solicit(2, &[]))?)?, old, "{plane:?}: it is somebody's");
        let moved = address(&client.exchange(&solicit(1, &[]))?)?;
        assert_ne!(moved, old, "{plane:?}, matrix row S-18");
        assert_ne!(address(&client.exchange(&solicit(2, &[]))?)?, old, "{plane:?}: until all has ended");
    }
    Ok(())
}

#[test]
fn counters_and_grants_go_on_over_a_reload() -> Result<()> {
    if !privileged("counters_and_grants_go_on_over_a_reload") {
        return Ok(());
    }
    for plane in [Plane::Native, Plane::Generic] {
        let wire = Wire::new()?;
        let server = Server::start(&wire, plane)?;
        let client = BareClient::open(&wire.client)?;
        for _ in 0..3 {
            client.exchange(&solicit(1, &[]))?;
        }
        let duid = duid(1).to_string();
        let before = server.ctl_json(&["map", "lookup", &duid])?;
        assert_eq!(before[0]["grants"], 2, "{plane:?}");
        server.configure(|text| format!("{text}\nsntp_servers = [\"2001:db8::123\"]\n"))?;
        reload(&server)?;
        let stats = server.ctl_json(&["stats"])?;
        assert_eq!(stats["fast_path"]["answered"], 2, "{plane:?}: {stats}");
        assert_eq!(stats["fast_path"]["passed"]["unknown_client"], 1, "{plane:?}: {stats}");
        assert_eq!(server.ctl_json(&["map", "lookup", &duid])?, before, "{plane:?}");
        let reply = client.exchange(
            &message(MessageType::Solicit, 1).rapid_commit().ia_na(1, &[]).request(&[31]).build(),
        )?;
        option(&reply[MESSAGE_HEADER_LEN..], OptionCode::SNTP_SERVERS)?;
        assert_eq!(server.answered()?, 3, "{plane:?}: the kernel sends the new option");
    }
    Ok(())
}

#[test]
fn links_come_and_go() -> Result<()> {
    if !privileged("links_come_and_go") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let reserved = "[[link.reservation]]\nmac = \"02:00:00:00:00:77\"\naddress = \"2001:db8:1::77\"\n";
    let server =
        Server::start_with(&wire, Plane::Generic, &Additions { file: reserved, ..Additions::default() })?;
    let client = BareClient::open(&wire.client)?;
    let given = address(&client.exchange(&solicit(1, &[]))?)?;
    // One that only relay agents reach, in front: the other link's index changes.
    server.configure(|text| {
        let pool = "[[link.pool]]\nrange = \"2001:db8:9::1-2001:db8:9::ff\"\n";
        text.replacen(
            "[[link]]",
            &format!("[[link]]\nname = \"relayed\"\nprefix = \"2001:db8:9::/64\"\n{pool}[[link]]"),
            1,
        )
    })?;
    reload(&server)?;
    assert_eq!(server.ctl_json(&["status"])?["links"].as_array().map(Vec::len), Some(2));
    assert_eq!(address(&client.exchange(&solicit(1, &[]))?)?, given);
    server.configure(|text| text.replace(reserved, ""))?;
    reload(&server)?;
    client.exchange(&solicit(1, &[]))?;
    let answered = server.answered()?;
    assert_eq!(address(&client.exchange(&solicit(1, &[]))?)?, given);
    assert_eq!(server.answered()?, answered + 1, "without reservations by MAC address the kernel may answer");

    // An interface that is not there.
    server.configure(|text| {
        text.replace("name = \"relayed\"", "name = \"relayed\"\ninterface = \"missing0\"")
    })?;
    let refused = server.ctl(&["config", "reload"])?;
    assert!(String::from_utf8(refused.stderr)?.contains("there is no interface missing0"));
    assert_eq!(address(&client.exchange(&solicit(1, &[]))?)?, given);
    let restart = server.configure(|text| text.replace("port = 547", "port = 1547"));
    restart?;
    server.configure(|text| text.replace("interface = \"missing0\"", ""))?;
    let refused = server.ctl(&["config", "reload"])?;
    assert!(String::from_utf8(refused.stderr)?.contains("[server] port cannot be changed"));
    Ok(())
}
