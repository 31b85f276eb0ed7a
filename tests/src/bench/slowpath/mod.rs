//! How many exchanges a second servers in user space have, and what plain sockets could have.

mod echo;

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{
    Effort,
    load::{Exchange, Seen},
    neighbors::Room,
    rates::{Rates, Shown, USUAL_WINDOW, new_clients},
    report::{Goal, Results},
    servers::{Contender, Other, for_each, installed, wire},
};

const WINDOWS: &[u32] = &[1, USUAL_WINDOW, 256];
/// Exchanges a second, compared with Kea's and with what plain sockets could have.
const OF_KEA: [(Exchange, f64); 2] = [(Exchange::FourMessages, 4.0), (Exchange::TwoMessages, 6.0)];
const OF_SOCKETS: f64 = 0.6;
const HALF_LOAD: &str = "half load, four messages, new clients";
/// The server that others are compared with.
const KEA: Contender = Contender::Other(Other::Kea);

const NOTES: [&str; 8] = [
    "exchanges a second between two network namespaces on a veth pair, by dhcp6flood in a closed loop: so many \
     exchanges (the window) are outstanding all the time, for two seconds; server and load share the processors",
    "new clients: each has one exchange, with a server that had no leases before; the kernel resolves their addresses \
     meanwhile where the server leaves it to the kernel; known clients: 1000 that come again and again",
    "dhcp6d: SQLite, what it promises is on the disk (fsync) before; a client that comes again soon needs no write, \
     since the disk already covers it (horizon)",
    "Kea: memfile with persistence and multi-threading, without fsync, from the system's packages, with the same pool, \
     lifetimes and options; `peers` has other servers, too",
    "with the fast path, it is the kernel that answers known clients in the exchange of two messages, and the daemon \
     answers everything else",
    "UDP echo: the limit of plain sockets: recvmmsg and sendmmsg with 64 datagrams of 128 octets, and a generator \
     that does the same; an exchange of four messages is two echoes",
    "half load: clients come at half of the highest rate that the same server had in the same run, at equal distances \
     (open loop)",
    "times Kea and share of the socket limit: of the same run",
];

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
    let rates = Rates::new(effort, WINDOWS, room.as_ref(), &mut results);
    let mut contenders = vec![Contender::Daemon, Contender::FastPath];
    if !effort.quick {
        contenders.extend(installed(&[Other::Kea], &mut results));
    }
    for run in 1..=effort.runs {
        let say = |name: &str| progress(&format!("run {run} of {}: {name}", effort.runs));
        let mut measured = Vec::new();
        for_each(&mut contenders, &mut results, |contender, results| {
            say(contender.name());
            let shown = rates.measure(contender, results)?;
            let half = rates.at_half_load(contender, &shown).context("half load")?;
            add_half_load(contender, &half, results);
            measured.push((contender, shown, half));
            Ok(())
        })?;
        say("UDP echo");
        let mut echoes = Vec::new();
        for window in rates.windows {
            let duration = Duration::from_secs(rates.seconds.into());
            let rate = echo::rate(&wire()?, *window as usize, duration)?;
            results.add(&format!("echoes, window {window}"), "1/s", "UDP echo", rate);
            echoes.push((*window, rate));
        }
        compare(&measured, &echoes, &mut results);
    }
    if !effort.quick {
        require(&rates, &mut results);
    }
    Ok(results)
}

fn add_half_load(contender: Contender, seen: &Seen, results: &mut Results) {
    let case = contender.name();
    results.add(HALF_LOAD, "1/s", case, seen.rate);
    results.add(&format!("{HALF_LOAD}: p50"), "ms", case, seen.median);
    results.add(&format!("{HALF_LOAD}: p99"), "ms", case, seen.p99);
    if seen.unanswered > 0 {
        let Seen { answered, unanswered, .. } = seen;
        results.note(format!(
            "{case} left {unanswered} of {} exchanges at half load open",
            answered + unanswered
        ));
    }
}

fn times_kea(exchange: Exchange, window: u32) -> String {
    format!("times Kea: {}", new_clients(exchange, window))
}

fn of_sockets(exchange: Exchange, window: u32) -> String {
    format!("share of the socket limit: {}", new_clients(exchange, window))
}

/// The name of our p99 by Kea's median.
fn latencies() -> String {
    format!("{HALF_LOAD}: p99, by Kea's p50")
}

/// Adds what the servers of one run are to each other, and to the echoes.
fn compare(measured: &[(Contender, Shown, Seen)], echoes: &[(u32, f64)], results: &mut Results) {
    let kea = measured.iter().find(|(contender, ..)| *contender == KEA);
    for (contender, shown, half) in measured {
        let case = contender.name();
        for exchange in Exchange::ALL {
            for (window, echoes) in echoes {
                let Some(rate) = shown.rate(&new_clients(exchange, *window)) else { continue };
                let limit = echoes / exchange.round_trips();
                results.add(&of_sockets(exchange, *window), "ratio", case, rate / limit);
                let theirs = kea.and_then(|(_, kea, _)| kea.rate(&new_clients(exchange, *window)));
                if let Some(theirs) = theirs.filter(|_| contender.is_ours()) {
                    results.add(&times_kea(exchange, *window), "ratio", case, rate / theirs);
                }
            }
        }
        if let Some((.., kea)) = kea.filter(|_| contender.is_ours()) {
            results.add(&latencies(), "ratio", case, half.p99 / kea.median);
        }
    }
}

/// Says what the daemon is to reach, where it was measured.
fn require(rates: &Rates, results: &mut Results) {
    let case = Some(Contender::Daemon.name());
    for window in rates.windows.iter().filter(|window| **window >= USUAL_WINDOW) {
        for (exchange, least) in OF_KEA {
            results.require(&times_kea(exchange, *window), "ratio", Goal::AtLeast(least, case));
        }
        let name = of_sockets(Exchange::FourMessages, *window);
        results.require(&name, "ratio", Goal::AtLeast(OF_SOCKETS, case));
    }
    results.require(&latencies(), "ratio", Goal::AtMost(1.0, case));
}
