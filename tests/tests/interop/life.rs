//! The chapters of a client's life.

use std::{
    fs,
    net::Ipv6Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests::{
    capture::Capture,
    describe::describe,
    netns::{CLIENT_INTERFACE, SERVER_INTERFACE, Wire, run},
    server::{Additions, Plane, Server},
};

use crate::{
    client::{Client, Home},
    table::Feature,
};

/// How long a client may take for a step.
const PATIENCE: Duration = Duration::from_secs(15);

/// The address that the server leases first.
const FIRST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x1000);

/// A part of a client's life. Each is the first time that the client meets the server.
pub(crate) struct Chapter {
    pub(crate) name: &'static str,
    /// Whether the client asks for the two-message exchange.
    rapid_commit: bool,
    plot: Plot,
}

type Plot = fn(&Client, &Wire, &mut Home<'_>, &mut Vec<Feature>) -> Result<()>;

pub(crate) const CHAPTERS: [Chapter; 4] = [
    Chapter { name: "binding, renewal and release", rapid_commit: false, plot: renewal },
    Chapter { name: "power-up", rapid_commit: true, plot: power_up },
    Chapter { name: "restart of the server", rapid_commit: true, plot: restart },
    Chapter { name: "an address in use", rapid_commit: true, plot: decline },
];

impl Chapter {
    /// Plays the chapter. Returns what the client has done up to the end or to what went wrong.
    pub(crate) fn play(&self, client: &Client) -> (Vec<Feature>, Result<()>) {
        let mut done = Vec::new();
        let outcome = self.try_to_play(client, &mut done);
        (done, outcome)
    }

    fn try_to_play(&self, client: &Client, done: &mut Vec<Feature>) -> Result<()> {
        let wire = Wire::new()?;
        let capture = Capture::start(&wire.client)?;
        let mut home = Home::new(client, &wire.client, self.rapid_commit)?;
        let outcome = (self.plot)(client, &wire, &mut home, done);
        let exchange = capture.stop();
        outcome.with_context(|| {
            let start = exchange.first().map_or(Duration::ZERO, |first| first.at);
            let line = |seen: &tests::capture::Captured| {
                format!("{:6.2} s {}", seen.at.saturating_sub(start).as_secs_f64(), describe(&seen.message))
            };
            let exchange: String = exchange.iter().map(line).collect();
            format!("the exchange:\n{exchange}the client says:\n{}", home.log())
        })
    }
}

fn renewal(client: &Client, wire: &Wire, home: &mut Home<'_>, done: &mut Vec<Feature>) -> Result<()> {
    let server = Server::start_with(wire, Plane::Generic, &link_keys(&client.renewal.settings()))?;
    home.start()?;
    let lease = bound(&server, home)?;
    ensure!(count(&server, "received", "request")? == 1, "four messages");
    done.push(Feature::FourMessages);

    until("the options", || {
        let options = home.options().unwrap_or_default();
        Ok(["2001:db8::53", "example.net"].iter().all(|option| options.contains(option)).then_some(()))
    })?;
    done.push(Feature::Options);

    until("a Renew", || Ok((count(&server, "received", "renew")? > 0).then_some(())))?;
    let replies = count(&server, "sent", "reply")?;
    ensure!(replies > count(&server, "received", "request")?, "the Renew is answered");
    let renewed = bound(&server, home)?;
    ensure!(renewed.address == lease.address, "the address stays: {renewed:?} after {lease:?}");
    ensure!(renewed.valid_until > lease.valid_until, "the lease lasts longer: {renewed:?} after {lease:?}");
    done.push(Feature::Renew);

    let Ok(release) = &client.release else { return Ok(()) };
    home.release(release)?;
    until("a Release", || Ok(leases(&server)?.into_iter().find(|lease| lease.state == "remembered")))?;
    let pool = server.ctl_json(&["pool", "show", "access0"])?;
    ensure!(pool["counts"]["used"] == 0, "the address is idle: {pool}");
    done.push(Feature::Release);
    Ok(())
}

fn power_up(client: &Client, wire: &Wire, home: &mut Home<'_>, done: &mut Vec<Feature>) -> Result<()> {
    let server = Server::start(wire, Plane::Generic)?;
    home.start()?;
    let first = bound(&server, home)?;
    ensure!(count(&server, "received", "request")? == 0, "two messages");
    done.push(Feature::TwoMessages);

    home.cut_power()?;
    home.start()?;
    let address = until("an address after the power cut", || Ok(home.addresses()?.first().copied()))?;
    ensure!(address == first.address, "{address} after {}", first.address);
    match client.fast_path {
        Ok(()) => {
            ensure!((server.replies()?, server.answered()?) == (1, 1), "the kernel answers");
            done.push(Feature::FastPath);
        }
        Err(_) => ensure!(server.replies()? == 2, "the daemon answers"),
    }
    Ok(())
}

fn restart(client: &Client, wire: &Wire, home: &mut Home<'_>, done: &mut Vec<Feature>) -> Result<()> {
    let Ok(outage) = &client.rebind else { return Ok(()) };
    let mut server = Server::start_with(wire, Plane::Generic, &link_keys(&outage.timers.settings()))?;
    home.start()?;
    let first = bound(&server, home)?;

    server.kill()?;
    thread::sleep(outage.lasts);
    server.restart()?;
    let patience = PATIENCE + Duration::from_secs(outage.timers.t2.into());
    within(patience, "a Rebind", || Ok((count(&server, "received", "rebind")? > 0).then_some(())))?;
    let again = bound(&server, home)?;
    ensure!(again.address == first.address, "the client keeps its address: {again:?} after {first:?}");
    ensure!(again.valid_until > first.valid_until, "the lease lasts longer: {again:?} after {first:?}");
    done.push(Feature::Rebind);
    Ok(())
}

fn decline(client: &Client, wire: &Wire, home: &mut Home<'_>, done: &mut Vec<Feature>) -> Result<()> {
    if client.decline.is_err() {
        return Ok(());
    }
    wire.client.enter(|| fs::write(format!("/proc/sys/net/ipv6/conf/{CLIENT_INTERFACE}/accept_dad"), "1"))?;
    let host = format!("{FIRST}/64");
    run(wire.server.command("ip").args(["address", "add", &host, "dev", SERVER_INTERFACE, "nodad"]))?;
    // The kernel removes a duplicate address whose lifetime ends before the client can see what it is.
    let infinite = "preferred_lifetime = \"infinity\"\nvalid_lifetime = \"infinity\"";
    let server = Server::start_with(wire, Plane::Generic, &link_keys(infinite))?;
    home.start()?;
    until("a Decline", || Ok((count(&server, "received", "decline")? > 0).then_some(())))?;
    if client.crashes_after_decline {
        // With its record of the lease it would have the address confirmed that it has just declined.
        home.cut_power()?;
        home.start()?;
    }
    let lease = bound(&server, home)?;
    ensure!(lease.address != FIRST, "another address");
    let pool = server.ctl_json(&["pool", "show", "access0", "--state", "conflict"])?;
    ensure!(pool["addresses"][0]["address"] == FIRST.to_string(), "in conflict: {pool}");
    done.push(Feature::Decline);
    Ok(())
}

/// A line of `dhcp6ctl lease list`.
#[derive(Debug)]
struct Lease {
    address: Ipv6Addr,
    valid_until: String,
    state: String,
}

fn leases(server: &Server<'_>) -> Result<Vec<Lease>> {
    let lease = |lease: &Value| -> Option<Lease> {
        Some(Lease {
            address: lease["address"].as_str()?.parse().ok()?,
            valid_until: lease["valid_until"].as_str()?.to_owned(),
            state: lease["state"].as_str()?.to_owned(),
        })
    };
    let list = server.ctl_json(&["lease", "list"])?;
    list.as_array().into_iter().flatten().map(|row| lease(row).context("not a lease")).collect()
}

/// The client's lease, once server and client agree: its address is on the client's interface.
fn bound(server: &Server<'_>, home: &Home<'_>) -> Result<Lease> {
    until("a lease that both sides know", || {
        let addresses = home.addresses()?;
        let is_shared = |lease: &Lease| lease.state == "bound" && addresses.contains(&lease.address);
        Ok(leases(server)?.into_iter().find(is_shared))
    })
}

/// A counter of the daemon's.
fn count(server: &Server<'_>, direction: &str, kind: &str) -> Result<u64> {
    let stats = server.ctl_json(&["stats"])?;
    stats["slow_path"][direction][kind].as_u64().with_context(|| format!("no count {direction}.{kind}"))
}

fn until<T>(what: &str, check: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    within(PATIENCE, what, check)
}

fn within<T>(patience: Duration, what: &str, mut check: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    while started.elapsed() < patience {
        if let Some(value) = check()? {
            return Ok(value);
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("waited {patience:?} for {what}")
}

fn link_keys(link: &str) -> Additions<'_> {
    Additions { link, ..Additions::default() }
}
