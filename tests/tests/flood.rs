//! The load generator against the real server.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{
    netns::{CLIENT_INTERFACE, Wire, privileged},
    server::{Additions, Plane, Server, binary},
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
