//! This server beside those that an operator would otherwise use.

use anyhow::{Context as _, Result};

use super::{
    Effort,
    load::{Exchange, storm},
    neighbors::Room,
    rates::{Rates, Shown, USUAL_WINDOW},
    report::Results,
    scale::kernel,
    servers::{Contender, Other, Running, for_each, installed},
};
use crate::netns::Wire;

/// Clients that power up at once: so many that ISC dhcpd serves them within a minute, too.
const CLIENTS: u32 = 10_000;
/// And where only the working is looked at, or the kernel's neighbour table has no room for more.
const FEW: u32 = 400;
/// How long a storm may last, in seconds.
const LONGEST: u32 = 60;

/// What the names of rates begin with.
const RATES: &str = "exchanges a second: ";
const STORMS: [&str; 2] = ["storm: new clients", "storm: known clients"];

const NOTES: [&str; 4] = [
    "dhcp6d is this server as it is configured by default, with its fast path (native XDP on a veth pair) and its \
     database on the disk; the others are from the system's packages, with the same pool, lifetimes and options",
    "exchanges a second: dhcp6flood in a closed loop with 64 outstanding, for two seconds; new clients meet a server \
     without leases, 1000 known ones come again and again; dnsmasq, which takes some ten new clients a second, has 100 \
     clients, new and known; `slowpath` has more windows",
    "storm: all clients send their first Solicit (two messages) at the same moment and repeat themselves as RFC 9915 \
     says; the time is that until the last one is served, or missing where that took more than a minute; first the \
     server knows nobody, then everybody",
    "memory: what is resident of the process after the storms, with a lease for each client; dhcp6d's map in the kernel \
     has room for 524,288 clients",
];

/// Measures each server.
///
/// # Errors
///
/// Where dhcp6d does not work as it should.
pub(super) fn measure(effort: Effort, progress: &dyn Fn(&str)) -> Result<Results> {
    let mut results = Results::new("peers");
    for note in NOTES {
        results.note(note);
    }
    let room = Room::make();
    let rates = Rates::new(effort, &[USUAL_WINDOW], room.as_ref(), &mut results).titled(RATES);
    let clients = if effort.quick || room.is_none() { FEW } else { CLIENTS };
    results
        .note(format!("{clients} clients in a storm; none of dnsmasq, which takes ten new clients a second"));
    let mut contenders = vec![Contender::FastPath];
    if !effort.quick {
        contenders.extend(installed(&Other::ALL, &mut results));
    }
    for run in 1..=effort.runs {
        let mut ours = Measured::default();
        for_each(&mut contenders, &mut results, |contender, results| {
            progress(&format!("run {run} of {}: {}", effort.runs, contender.name()));
            let mut measured = Measured { shown: rates.measure(contender, results)?, storms: [None; 2] };
            if !contender.is_slow() {
                let storms =
                    |wire: &Wire, server: &mut Running<'_>| storms(wire, server, contender, clients, results);
                measured.storms = contender.run(storms).context("storm")?;
            }
            if contender.is_ours() {
                ours = measured;
            } else {
                ours.compare(&measured, contender, results);
            }
            Ok(())
        })?;
    }
    Ok(results)
}

/// What a server has shown in one run.
#[derive(Default)]
struct Measured {
    shown: Shown,
    /// How long they took, where everybody was served.
    storms: [Option<f64>; 2],
}

impl Measured {
    /// How many times as fast this is as another one.
    fn compare(&self, other: &Self, contender: Contender, results: &mut Results) {
        let mut add = |name: &str, times| {
            results.add(&format!("dhcp6d is faster by: {name}"), "times", contender.name(), times);
        };
        for (name, theirs) in other.shown.rates() {
            if let Some(ours) = self.shown.rate(name) {
                add(name, ours / theirs);
            }
        }
        for ((name, ours), theirs) in STORMS.iter().zip(self.storms).zip(other.storms) {
            if let Some((ours, theirs)) = ours.zip(theirs) {
                add(name, theirs / ours);
            }
        }
    }
}

/// A storm of new clients, another one of the same, and what it takes to keep them in mind. Returns how long the storms
/// took, where everybody was served.
fn storms(
    wire: &Wire,
    server: &mut Running<'_>,
    contender: Contender,
    clients: u32,
    results: &mut Results,
) -> Result<[Option<f64>; 2]> {
    let case = contender.name();
    let mut storms = [None; 2];
    for (name, took) in STORMS.into_iter().zip(&mut storms) {
        let seen = storm(wire, server, Exchange::TwoMessages, clients, LONGEST)?;
        *took = seen.until[2];
        if let Some(seconds) = *took {
            results.add(name, "s", case, seconds);
        } else {
            results.note(format!("{name}: {case} has served {} of {clients}", seen.served));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "sizes of memory, for people")]
    let mut mebibytes =
        |name: &str, octets: u64| results.add(name, "MiB", case, octets as f64 / f64::from(1 << 20));
    let (resident, ..) = kernel::of_process(server.pid()?)?;
    mebibytes("memory: process", resident);
    if let Running::Ours(server) = server {
        mebibytes("memory: map in the kernel", kernel::accounted(server.pin_dir())?);
    }
    Ok(storms)
}
