//! The load generator against the real server.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    netns::{CLIENT_INTERFACE, Wire, privileged},
    server::{Plane, Server, binary},
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
