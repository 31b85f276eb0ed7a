//! How long it takes until everybody is served when all clients power up at once.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Effort,
    load::{Clients, Exchange, Pace, Storm, exchanges, storm},
    neighbors::Room,
    report::{Goal, Results},
    servers::{Contender, Other, Running, for_each, installed},
};
use crate::netns::Wire;

/// How many clients power up at once.
const CLIENTS: u32 = 100_000;
/// And where only the working is looked at, or the kernel's neighbour table has no room for more.
const FEW: u32 = 400;
/// How long a storm may last, in seconds.
const LONGEST: u32 = 60;
/// How many exchanges are outstanding while clients make themselves known.
const WINDOW: u32 = 256;
/// How long the daemon may take to bring what it has promised into the kernel's map.
const PATIENCE: Duration = Duration::from_secs(10);

const KNOWN: &str = "known clients, two messages";
/// The share of Kea's time that the server may take for new clients.
const OF_KEA: f64 = 0.25;
/// Messages that a client may have to send again.
const MOST_REPEATED: f64 = 2.0;
/// Until when known clients are to be served, in seconds.
const UNTIL_KNOWN_SERVED: f64 = 1.0;
/// The parts of the clients whose service is timed.
const PARTS: [&str; 3] = ["50 %", "99 %", "100 %"];

const NOTES: [&str; 5] = [
    "all clients send their first Solicit at the same moment, without the initial delay of RFC 9915, section 18.2.1, \
     and repeat themselves as its section 15 says; by dhcp6flood, which shares the processors with the server",
    "known clients: they had a lease before, and the kernel (native XDP on a veth pair) answers them; new clients: the \
     server had no lease before, and the daemon or Kea answers them",
    "sent again: the most messages that one client repeated until it was served; two are a second retransmission",
    "processor time of the daemon: utime and stime in /proc/PID/stat from the start of the storm to its end",
    "ISC dhcpd and dnsmasq would take minutes for so many new clients: `peers` has a smaller storm",
];

/// Measures storms of known and of new clients.
///
/// # Errors
///
/// Where dhcp6d does not work as it should, or does not serve everybody in time.
pub(super) fn measure(effort: Effort, progress: &dyn Fn(&str)) -> Result<Results> {
    let mut results = Results::new("storm");
    for note in NOTES {
        results.note(note);
    }
    let room = Room::make();
    let clients = if effort.quick || room.is_none() { FEW } else { CLIENTS };
    results.note(format!("{clients} clients; a storm is given up after {LONGEST} s"));
    let mut contenders = vec![Contender::FastPath];
    if !effort.quick {
        contenders.extend(installed(&[Other::Kea], &mut results));
    }
    for run in 1..=effort.runs {
        let say = |what: &str| progress(&format!("run {run} of {}: {what}", effort.runs));
        say("known clients");
        Contender::FastPath
            .run(|wire, server| measure_known(wire, server, clients, &mut results))
            .context("known clients")?;
        for exchange in Exchange::ALL {
            let mut ours = None;
            for_each(&mut contenders, &mut results, |contender, results| {
                say(&format!("new clients, {}, {}", exchange.name(), contender.name()));
                let name = format!("new clients, {}", exchange.name());
                let seen = contender.run(|wire, server| storm(wire, server, exchange, clients, LONGEST))?;
                add(results, &name, contender, clients, &seen)?;
                // A storm that was given up has lasted longer.
                let all = seen.until[2].unwrap_or(LONGEST.into());
                if contender.is_ours() {
                    ours = Some(all);
                } else if let Some(ours) = ours {
                    results.add(&by_kea(exchange), "ratio", Contender::FastPath.name(), ours / all);
                }
                Ok(())
            })?;
        }
    }
    if !effort.quick {
        require(&mut results);
    }
    Ok(results)
}

/// A storm of clients that the kernel knows.
fn measure_known(wire: &Wire, server: &mut Running<'_>, clients: u32, results: &mut Results) -> Result<()> {
    let exchange = Exchange::TwoMessages;
    let (pace, once) = (Pace::Window(WINDOW.min(clients)), Clients::Once(clients));
    exchanges(wire, server, exchange, pace, once).context("clients make themselves known")?;
    wait_until_idle(server)?;
    let answered = |server: &Running<'_>| match server {
        Running::Ours(server) => server.answered(),
        Running::Other(_) => bail!("it has no fast path"),
    };
    let (busy, before) = (server.processor_time()?, answered(server)?);
    let seen = storm(wire, server, exchange, clients, LONGEST)?;
    let busy = server.processor_time()?.saturating_sub(busy);
    let by_kernel = answered(server)? - before;
    ensure!(
        by_kernel * 100 >= u64::from(clients) * 99,
        "the kernel has answered {by_kernel} of {clients} known clients"
    );
    let case = Contender::FastPath.name();
    add(results, KNOWN, Contender::FastPath, clients, &seen)?;
    results.add(&format!("{KNOWN}: processor time of the daemon"), "ms", case, busy.as_secs_f64() * 1e3);
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    results.add(&format!("{KNOWN}: answered by the kernel"), "1", case, by_kernel as f64);
    Ok(())
}

/// Waits until the daemon has nothing to do any more: its map is complete then.
fn wait_until_idle(server: &Running<'_>) -> Result<()> {
    let start = Instant::now();
    let mut busy = server.processor_time()?;
    while start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(300));
        let now = server.processor_time()?;
        if now == busy {
            return Ok(());
        }
        busy = now;
    }
    bail!("dhcp6d is still busy {PATIENCE:?} after the last exchange")
}

/// Adds what was seen of a storm. One of ours has to serve everybody.
fn add(results: &mut Results, name: &str, contender: Contender, clients: u32, seen: &Storm) -> Result<()> {
    let case = contender.name();
    let Storm { until, served, most_repeated, repeated } = *seen;
    for (part, seconds) in PARTS.iter().zip(until) {
        if let Some(seconds) = seconds {
            results.add(&format!("{name}: {part} served"), "s", case, seconds);
        }
    }
    if served < clients.into() {
        let complaint = format!("{name}: {case} has served {served} of {clients} within {LONGEST} s");
        ensure!(!contender.is_ours(), complaint);
        results.note(complaint);
    }
    results.add(&repetitions(name), "messages", case, most_repeated.into());
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let each = repeated as f64 / f64::from(clients);
    results.add(&format!("{name}: sent again, on average"), "messages", case, each);
    Ok(())
}

fn by_kea(exchange: Exchange) -> String {
    format!("new clients, {}: time by Kea's", exchange.name())
}

fn repetitions(name: &str) -> String {
    format!("{name}: sent again, at most")
}

fn require(results: &mut Results) {
    let case = Some(Contender::FastPath.name());
    results.require(&format!("{KNOWN}: {} served", PARTS[2]), "s", Goal::AtMost(UNTIL_KNOWN_SERVED, case));
    for exchange in Exchange::ALL {
        results.require(&by_kea(exchange), "ratio", Goal::AtMost(OF_KEA, case));
        let name = repetitions(&format!("new clients, {}", exchange.name()));
        results.require(&name, "messages", Goal::AtMost(MOST_REPEATED, case));
    }
}
