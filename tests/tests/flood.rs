//! The load generator against the real server.

use std::{
    fs,
    net::Ipv6Addr,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use dhcp6_common::wire::MessageType;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    frame::{MessageBuilder, Route},
    netns::{CLIENT_INTERFACE, SERVER_INTERFACE, Wire, privileged, run},
    not_installed,
    server::{Additions, Plane, Server, binary},
    skip,
};

/// Runs dhcp6flood at the clients' end. Returns its summary and whether it found everything fine.
fn flood(wire: &Wire, arguments: &str) -> Result<(Value, bool)> {
    let (command, options) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let output = wire
        .client
        .command(binary("dhcp6flood"))
        .args([command, "--json", "--interface", CLIENT_INTERFACE])
        .args(options.split_whitespace())
        .output()?;
    let summary = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("dhcp6flood {arguments}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr))
    })?;
    Ok((summary, output.status.success()))
}

#[test]
fn everybody_is_served_after_a_power_cut() -> Result<()> {
    if !privileged("everybody_is_served_after_a_power_cut") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let _server = Server::start(&wire, Plane::DaemonOnly)?;
    for arguments in [
        "storm --clients 200 --seconds 30",
        "storm --clients 200 --seconds 30 --rapid-commit --initial-delay",
    ] {
        let (summary, fine) = flood(&wire, arguments)?;
        ensure!(fine && summary["answered"] == 200, "{arguments}: {summary}");
        let [half, most, all] = ["to_50", "to_99", "to_100"].map(|part| summary["storm"][part].as_f64());
        ensure!(half.is_some() && half <= most && most <= all && all < Some(30.0), "{arguments}: {summary}");
        let counted: u64 = summary["histogram"].as_array().into_iter().flatten().map(count).sum();
        ensure!(counted == 200, "{arguments}: {summary}");
    }
    Ok(())
}

fn count(class: &Value) -> u64 {
    class["count"].as_u64().unwrap_or_default()
}

#[test]
fn the_kernel_answers_a_flood_of_live_frames() -> Result<()> {
    if !privileged("the_kernel_answers_a_flood_of_live_frames") {
        return Ok(());
    }
    let wire = Wire::new()?;
    // In the driver, and without the program that passes everything at the other end: dhcp6flood has one of its own.
    let mut server = Server::prepare(&wire, Plane::Generic, &Additions::default())?;
    server.configure(|text| text.replace("mode = \"generic\"", "mode = \"native\""))?;
    server.restart()?;
    let (summary, fine) = flood(&wire, "exchange --clients 50 --rapid-commit")?;
    ensure!(fine && summary["answered"] == 50, "{summary}");

    let before = server.answered()?;
    let (summary, fine) = flood(&wire, "flood --clients 50 --packets 20000 --engine live-frames")?;
    ensure!(fine && summary["sent"] == 20000, "{summary}");
    ensure!(summary["sent_by_kind"] == json!({"known": 20000, "unknown": 0, "malformed": 0}), "{summary}");
    ensure!(summary["receiver"] == "xdp_native", "{summary}");
    let received = summary["received"].as_u64().unwrap_or_default();
    ensure!(received > 10_000 && summary["checked"].as_u64() > Some(0), "{summary}");
    ensure!(server.answered()? - before == received, "each answer of the kernel's is counted: {summary}");

    let (summary, fine) = flood(&wire, "flood --clients 50 --packets 5000 --malformed 40 --unknown 1")?;
    ensure!(fine && summary["engine"] == "live_frames", "{summary}");
    for kind in ["known", "unknown", "malformed"] {
        ensure!(summary["sent_by_kind"][kind].as_u64() > Some(0), "{summary}");
    }
    let (summary, fine) = flood(&wire, "flood --clients 50 --packets 5000 --malformed 100")?;
    ensure!(fine && summary["received"] == 0 && summary["sent"] == 5000, "{summary}");
    Ok(())
}

#[test]
fn a_packet_socket_floods_where_live_frames_cannot() -> Result<()> {
    if !privileged("a_packet_socket_floods_where_live_frames_cannot") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start(&wire, Plane::DaemonOnly)?;
    // Nothing at the server's end takes frames that are no socket buffers.
    let (summary, _) = flood(&wire, "flood --clients 20 --packets 500 --four-message")?;
    ensure!(summary["engine"] == "packet_socket" && summary["engine_reason"].is_string(), "{summary}");
    ensure!(summary["sent"] == 500 && summary["wrong_replies"] == 0, "{summary}");
    let advertised = summary["received_by_type"]["advertise"].as_u64().unwrap_or_default();
    ensure!(advertised > 0 && summary["received_by_type"]["reply"] == 0, "{summary}");
    let stats = server.ctl_json(&["stats"])?;
    ensure!(stats["slow_path"]["sent"]["advertise"].as_u64() >= Some(advertised), "{stats} {summary}");
    Ok(())
}

#[test]
fn clients_keep_their_leases_and_give_them_back() -> Result<()> {
    if !privileged("clients_keep_their_leases_and_give_them_back") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let prefixes = "[[link.prefix_pool]]\nprefix = \"2001:db8:8000::/48\"\ndelegated_length = 56\n";
    let server =
        Server::start_with(&wire, Plane::DaemonOnly, &Additions { file: prefixes, ..Additions::default() })?;
    let run = "exchange --clients 100 --window 16 --then renew,rebind,information-request,release";
    for (asks, messages) in [
        ("--pd", 6),
        ("--na-and-pd", 6),
        ("--rapid-commit", 5),
        ("--relay --na-and-pd", 6),
        ("--relay 2 --link-address 2001:db8:1::1", 6),
    ] {
        let (summary, fine) = flood(&wire, &format!("{run} {asks}"))?;
        ensure!(fine && summary["answered"] == 100, "{asks}: {summary}");
        for step in ["renew", "rebind", "information_request", "release"] {
            ensure!(summary["steps"][step]["answered"] == 100, "{step} of {asks}: {summary}");
        }
        ensure!(summary["sent"].as_u64() >= Some(100 * messages), "{asks}: {summary}");
        let leases = server.ctl_json(&["lease", "list"])?;
        let held = leases.as_array().into_iter().flatten().filter(|lease| lease["state"] == "bound").count();
        ensure!(held == 0, "everything was given back: {leases}");
    }
    Ok(())
}

#[test]
fn clients_do_different_things_in_their_turns() -> Result<()> {
    if !privileged("clients_do_different_things_in_their_turns") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let _server = Server::start(&wire, Plane::DaemonOnly)?;
    for extra in
        ["--rapid-commit", "--threads 2 --window 16", "--threads 3 --relay 2 --link-address 2001:db8:1::1"]
    {
        let mix = "renew=40,rebind=10,release=10,decline=2,information-request=20";
        let arguments = format!("exchange --clients 60 --seconds 2 --mix {mix} {extra}");
        let (summary, fine) = flood(&wire, &arguments)?;
        ensure!(fine && summary["answered"].as_u64() > Some(60), "{arguments}: {summary}");
        let answered = |step: &str| summary["steps"][step]["answered"].as_u64().unwrap_or_default();
        let [renew, rebind] = ["renew", "rebind"].map(answered);
        ensure!(renew > rebind && rebind > 0, "{arguments}: {summary}");
        for step in ["release", "decline", "information_request"] {
            ensure!(answered(step) > 0, "{step} of {arguments}: {summary}");
        }
    }
    Ok(())
}

#[test]
fn several_threads_serve_every_client_once() -> Result<()> {
    if !privileged("several_threads_serve_every_client_once") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start(&wire, Plane::DaemonOnly)?;
    for (arguments, threads) in [
        ("exchange --clients 100 --threads 4", 4),
        ("storm --clients 100 --threads 3 --seconds 30", 3),
        ("exchange --clients 2 --threads 8", 2),
    ] {
        let (summary, fine) = flood(&wire, arguments)?;
        ensure!(fine && summary["answered"] == summary["clients"], "{arguments}: {summary}");
        ensure!(summary["threads"] == threads && summary["foreign"] == 0, "{arguments}: {summary}");
        let by_transmission = summary["by_transmissions"].as_object().into_iter().flatten();
        let total: u64 = by_transmission.filter_map(|(_, count)| count.as_u64()).sum();
        ensure!(Some(total) == summary["clients"].as_u64(), "{arguments}: {summary}");
    }
    let leases = server.ctl_json(&["lease", "list"])?;
    ensure!(leases.as_array().is_some_and(|leases| leases.len() == 100), "the same clients: {leases}");
    Ok(())
}

#[test]
fn addresses_in_use_on_the_link_are_found_and_declined() -> Result<()> {
    if !privileged("addresses_in_use_on_the_link_are_found_and_declined") {
        return Ok(());
    }
    let wire = Wire::new()?;
    // A host with an address out of the pool, which is the first to be assigned.
    let address = "2001:db8:1::1000/64";
    run(wire.server.command("ip").args(["addr", "add", address, "dev", SERVER_INTERFACE, "nodad"]))?;
    let additions = Additions { link: "allocation = \"cyclic\"", ..Additions::default() };
    let server = Server::start_with(&wire, Plane::DaemonOnly, &additions)?;
    let (summary, fine) = flood(&wire, "exchange --clients 10 --window 1 --dad 300")?;
    ensure!(fine && summary["dad"] == json!({"checked": 11, "conflicts": 1}), "{summary}");
    ensure!(summary["steps"]["decline"]["answered"] == 1, "{summary}");
    let pool = server.ctl_json(&["pool", "show", "access0", "--state", "conflict"])?;
    ensure!(pool.to_string().contains("2001:db8:1::1000\""), "{pool}");
    Ok(())
}

/// The frame of a Solicit with Rapid Commit.
fn solicit(client: u8) -> Vec<u8> {
    let mac = [2, 0, 0, 0, 7, client];
    let message = MessageBuilder::new(MessageType::Solicit, [1, 2, client])
        .client_id(&[&[0, 3, 0, 1], &mac[..]].concat())
        .elapsed_time()
        .rapid_commit()
        .ia_na(1, &[])
        .build();
    let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x0700 | u16::from(client));
    Route { source_mac: mac, source, ..Route::default() }.frame(&message)
}

/// A file in the format pcap, in little-endian order: version 2.4, Ethernet.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1]);
    for frame in frames {
        let len = frame.len() as u32;
        file.extend(words(&[0, 0, len, len]));
        file.extend(frame);
    }
    file
}

#[test]
fn captures_are_sent_again() -> Result<()> {
    if !privileged("captures_are_sent_again") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start(&wire, Plane::DaemonOnly)?;
    let directory = TempDir::new()?;
    let path = directory.path().join("solicits.pcap");
    fs::write(&path, pcap(&(1..=5).map(solicit).collect::<Vec<_>>()))?;

    let replies = server.replies()?;
    let (summary, fine) = flood(&wire, &format!("flood --pcap {}", path.display()))?;
    ensure!(fine && summary["sent_by_type"] == json!({"solicit": 5}), "{summary}");
    ensure!(summary["received_by_type"] == json!({"reply": 5}) && summary["answered"] == 5, "{summary}");
    ensure!(server.replies()? == replies + 5, "{summary}");
    let arguments = format!("flood --packets 20 --rate 40 --pcap {}", path.display());
    let (summary, fine) = flood(&wire, &arguments)?;
    ensure!(fine && summary["sent"] == 20 && summary["received"] == 20, "{summary}");
    let seconds = summary["seconds"].as_f64().unwrap_or_default();
    ensure!((0.4..0.7).contains(&seconds), "at 40 a second: {summary}");
    Ok(())
}

/// Kea, which is stopped with this value.
struct Kea(Child);

impl Drop for Kea {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts Kea at the server's end; `None` where it is not installed.
fn start_kea(wire: &Wire, directory: &TempDir) -> Result<Option<Kea>> {
    let path = directory.path().display();
    let config = json!({ "Dhcp6": {
        "server-id": { "type": "EN", "enterprise-id": 32473, "identifier": "0123456789", "persist": false },
        "interfaces-config": { "interfaces": [SERVER_INTERFACE] },
        "lease-database": { "type": "memfile", "name": format!("{path}/leases"), "lfc-interval": 0 },
        "multi-threading": { "enable-multi-threading": true },
        "subnet6": [{
            "id": 1, "subnet": "2001:db8:1::/64", "interface": SERVER_INTERFACE, "rapid-commit": true,
            "pools": [{ "pool": "2001:db8:1::1000-2001:db8:1::ffff" }],
            "pd-pools": [{ "prefix": "2001:db8:8000::", "prefix-len": 40, "delegated-len": 56 }],
        }],
        "loggers": [{ "name": "kea-dhcp6", "severity": "ERROR", "output_options": [{ "output": "stdout" }] }],
    } });
    let file = directory.path().join("config");
    fs::write(&file, config.to_string())?;
    let log = fs::File::create(directory.path().join("log"))?;
    let mut command = wire.server.command("kea-dhcp6");
    command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    for variable in ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR"] {
        command.env(variable, directory.path());
    }
    Ok(command.spawn().ok().map(Kea))
}

#[test]
fn kea_sends_nothing_wrong() -> Result<()> {
    if !privileged("kea_sends_nothing_wrong") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let address = "2001:db8:1::1/64";
    run(wire.server.command("ip").args(["addr", "add", address, "dev", SERVER_INTERFACE, "nodad"]))?;
    let directory = TempDir::new()?;
    let Some(mut kea) = start_kea(&wire, &directory)? else {
        skip(&not_installed("kea-dhcp6"));
        return Ok(());
    };
    let start = Instant::now();
    while flood(&wire, "exchange --clients 1 --seconds 1").map_or(true, |(_, fine)| !fine) {
        if kea.0.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(20) {
            bail!("Kea does not serve: {}", fs::read_to_string(directory.path().join("log"))?);
        }
    }
    for arguments in [
        "exchange --clients 200",
        "exchange --clients 200 --rapid-commit",
        "exchange --clients 100 --pd",
        "exchange --clients 100 --na-and-pd --rapid-commit --then renew,rebind,information-request,release",
        "exchange --clients 100 --relay 2 --link-address 2001:db8:1::1 --na-and-pd --then renew,release",
        "exchange --clients 100 --seconds 2 --mix renew=60,rebind=5,release=5,decline=1,information-request=10",
        "storm --clients 300 --seconds 30",
        "storm --clients 300 --seconds 30 --rapid-commit",
    ] {
        let (summary, fine) = flood(&wire, arguments)?;
        ensure!(fine && summary["wrong_replies"] == 0, "{arguments}: {summary}");
        ensure!(summary["answered"].as_u64() >= summary["clients"].as_u64(), "{arguments}: {summary}");
        ensure!(summary["refused"] == json!({}), "{arguments}: {summary}");
    }
    Ok(())
}
