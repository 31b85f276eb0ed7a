//! How many exchanges a second servers in user space have, and what plain sockets could have.

mod echo;
mod servers;

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use dhcp6_common::wire::MessageType;
use serde_json::Value;

use self::servers::{Other, Running};
use super::{Effort, neighbors::Room, report::Results};
use crate::{
    client::BareClient,
    frame::MessageBuilder,
    netns::{CLIENT_INTERFACE, SERVER_INTERFACE, Wire, run},
    server::{Additions, Plane, Server, binary},
};

/// How many clients there are, where the kernel's neighbour table has room.
const CLIENTS: u32 = 5000;
/// And where it has not.
const FEW_CLIENTS: u32 = 400;
/// Of these, so many come again and again.
const AGAIN: u32 = 1000;
/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// The rate of new clients, and latencies, are measured with this many outstanding.
const USUAL_WINDOW: u32 = 64;

const NOTES: [&str; 6] = [
    "exchanges a second between two network namespaces on a veth pair, by dhcp6flood in a closed loop: so many \
     exchanges (the window) are outstanding all the time; server and load share the processors",
    "new clients: each has one exchange, with a server that has no leases; the kernel resolves their addresses \
     meanwhile; known clients: they come again and again",
    "dhcp6d: SQLite, what it promises is on the disk (fsync) before; a client that comes again soon needs no write, \
     since the disk already covers it (horizon)",
    "Kea: memfile with persistence and multi-threading; ISC dhcpd: its lease file; dnsmasq: its lease file; each from \
     the system's packages, with the same pool, lifetimes and options; dnsmasq takes some ten new clients a second, \
     so it has fewer clients",
    "with the fast path, it is the kernel that answers known clients in the exchange of two messages, and the daemon \
     answers everything else",
    "UDP echo: the limit of plain sockets: recvmmsg and sendmmsg with 64 datagrams of 128 octets, and a generator \
     that does the same",
];

/// A server that is measured.
enum Subject<'a> {
    Ours(Box<Server<'a>>),
    Other(Running),
}

/// How the load is.
#[derive(Clone, Copy)]
struct Load {
    clients: u32,
    again: u32,
    seconds: u32,
    windows: &'static [u32],
}

/// Measures each server.
///
/// # Errors
///
/// Where dhcp6d does not work as it should.
pub(super) fn measure(effort: Effort, progress: &dyn Fn(&str)) -> Result<Results> {
    let mut results = Results::new("slowpath");
    for note in NOTES {
        results.note(note);
    }
    let room = Room::make();
    let most = if room.is_some() { CLIENTS } else { FEW_CLIENTS };
    if room.is_none() {
        results.note(format!(
            "the kernel's neighbour table could not be made larger here, so there are only {FEW_CLIENTS} clients"
        ));
    }
    let load = if effort.quick {
        Load { clients: 50, again: 50, seconds: 1, windows: &[16] }
    } else {
        Load { clients: most, again: AGAIN.min(most), seconds: 2, windows: &[1, USUAL_WINDOW, 256] }
    };
    let mut others = Vec::new();
    for other in Other::ALL {
        match other.version() {
            Some(version) => {
                results.note(format!("{}: {version}", other.name()));
                others.push(other);
            }
            None => results.note(format!("{} is not installed", other.name())),
        }
    }
    for run in 1..=effort.runs {
        let say = |name: &str| progress(&format!("run {run} of {}: {name}", effort.runs));
        for (name, plane) in [("dhcp6d", Plane::DaemonOnly), ("dhcp6d + fast path", Plane::Native)] {
            say(name);
            let wire = wire()?;
            let server = Server::prepare(&wire, plane, &Additions::default())?;
            server.configure(|config| config.replace("max_bindings = 1024", "max_bindings = 65536"))?;
            let mut server = Subject::Ours(Box::new(server));
            load.measure(&wire, &mut server, name, &mut results).with_context(|| name.to_owned())?;
        }
        // What another server does not do is not held against this one.
        others.retain(|other| {
            say(other.name());
            let measured = measure_other(*other, load, &mut results);
            if let Err(failure) = &measured {
                results.note(format!("{} was given up: {failure:#}", other.name()));
            }
            measured.is_ok()
        });
        say("UDP echo");
        let wire = wire()?;
        for window in load.windows {
            let rate = echo::rate(&wire, *window as usize, Duration::from_secs(load.seconds.into()))?;
            results.add(&format!("echoes, window {window}"), "1/s", "UDP echo", rate);
        }
    }
    Ok(results)
}

/// Server and client, with an address on the link, which some servers need.
fn wire() -> Result<Wire> {
    let wire = Wire::new()?;
    let mut command = wire.server.command("ip");
    run(command.args(["address", "add", "2001:db8:1::1/64", "dev", SERVER_INTERFACE, "nodad"]))?;
    Ok(wire)
}

fn measure_other(other: Other, load: Load, results: &mut Results) -> Result<()> {
    let wire = wire()?;
    let mut server = Subject::Other(other.start(&wire.server)?);
    let most = other.most_clients();
    let load = Load { clients: load.clients.min(most), again: load.again.min(most), ..load };
    load.measure(&wire, &mut server, other.name(), results)
}

impl Load {
    /// One run with a server that has no leases yet.
    fn measure(self, wire: &Wire, server: &mut Subject<'_>, case: &str, results: &mut Results) -> Result<()> {
        if let Subject::Ours(server) = server {
            server.restart()?;
        }
        wait_for_answer(wire, server)?;
        let usual = USUAL_WINDOW.min(self.clients);
        let summary = self.flood(wire, server, "--four-message", usual, self.clients, false)?;
        results.add("four messages, new clients, window 64", "1/s", case, rate(&summary)?);
        add_latency(results, "four messages, new clients, window 64: p99", case, &summary);
        for (mode, name) in [("--four-message", "four messages"), ("--rapid-commit", "two messages")] {
            for window in self.windows {
                let summary = self.flood(wire, server, mode, *window, self.again, true)?;
                let name = format!("{name}, known clients, window {window}");
                results.add(&name, "1/s", case, rate(&summary)?);
                if *window == USUAL_WINDOW {
                    add_latency(results, &format!("{name}: p99"), case, &summary);
                }
            }
        }
        Ok(())
    }

    /// Runs `dhcp6flood`. Returns its summary.
    fn flood(
        self,
        wire: &Wire,
        server: &mut Subject<'_>,
        mode: &str,
        window: u32,
        clients: u32,
        again: bool,
    ) -> Result<Value> {
        let mut command = wire.client.command(binary("dhcp6flood"));
        command.args(["exchange", "--json", "--interface", CLIENT_INTERFACE, mode]);
        command.args(["--window", &window.to_string(), "--clients", &clients.to_string()]);
        if again {
            command.args(["--seconds", &self.seconds.to_string()]);
        }
        let summary = flood(&mut command)?;
        server.ensure_running()?;
        if matches!(server, Subject::Ours(_)) {
            // An answer to the run before is none of this one's.
            let late = summary["wrong"]["transaction_id"].as_u64();
            ensure!(summary["wrong_replies"].as_u64() == late, "wrong replies: {}", summary["wrong"]);
        }
        Ok(summary)
    }
}

impl Subject<'_> {
    fn ensure_running(&mut self) -> Result<()> {
        match self {
            Self::Ours(server) => server.ensure_running(),
            Self::Other(server) => server.ensure_running(),
        }
    }
}

/// Its exit status tells of wrong replies, which the summary does as well.
fn flood(command: &mut Command) -> Result<Value> {
    let output = command.output().context("cannot run dhcp6flood")?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("dhcp6flood: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn rate(summary: &Value) -> Result<f64> {
    let rate = summary["rate"].as_f64().context("no rate")?;
    ensure!(rate > 0.0, "no exchange was completed: {summary}");
    Ok(rate)
}

fn add_latency(results: &mut Results, name: &str, case: &str, summary: &Value) {
    if let Some(microseconds) = summary["latency_us"]["p99"].as_f64() {
        results.add(name, "ms", case, microseconds / 1e3);
    }
}

/// Asks until the server answers.
fn wait_for_answer(wire: &Wire, server: &mut Subject<'_>) -> Result<()> {
    let client = BareClient::open(&wire.client)?;
    let solicit = MessageBuilder::new(MessageType::Solicit, [0, 0, 1])
        .client_id(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xc1])
        .elapsed_time()
        .ia_na(1, &[])
        .build();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        server.ensure_running()?;
        client.send(&solicit)?;
        if client.receive(Duration::from_millis(200))?.is_some() {
            // Answers to earlier ones.
            thread::sleep(Duration::from_millis(100));
            return Ok(());
        }
    }
    bail!("it does not answer within {PATIENCE:?}")
}
