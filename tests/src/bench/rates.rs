//! How many exchanges a second a server has with new clients and with those that it knows.

use anyhow::{Context as _, Result};

use super::{
    Effort,
    load::{Clients, Exchange, Pace, Seen, exchanges},
    neighbors::Room,
    report::Results,
    servers::{Contender, Running},
};
use crate::netns::Wire;

/// Most rates, and latencies, are measured with this many outstanding.
pub(super) const USUAL_WINDOW: u32 = 64;
/// New clients for each measurement, more than any server can take meanwhile.
pub(super) const FRESH: u32 = 400_000;
/// How many clients come again and again.
const AGAIN: u32 = 1000;
/// How many clients a slow server has, new or known.
const SLOW: u32 = 100;
/// Clients where the kernel's neighbour table has no room for more.
const FEW: u32 = 400;
/// Clients where only the working is looked at.
const QUICK: u32 = 200;

/// How rates are measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    /// How many exchanges are outstanding.
    pub(super) windows: &'static [u32],
    /// How long a measurement takes.
    pub(super) seconds: u32,
    /// What precedes the names of rates, to have them in one figure; there are no latencies then.
    title: &'static str,
    fresh: Clients,
    again: u32,
}

/// What a server has shown in one run: rates by their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown(Vec<(String, f64)>);

impl Shown {
    /// A rate, where it was measured.
    pub(super) fn rate(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, rate)| *rate)
    }

    /// All of them.
    pub(super) fn rates(&self) -> &[(String, f64)] {
        &self.0
    }
}

/// The name of a rate of new clients.
pub(super) fn new_clients(exchange: Exchange, window: u32) -> String {
    format!("{}, new clients, window {window}", exchange.name())
}

/// The name of a rate of known clients.
fn known_clients(exchange: Exchange, window: u32) -> String {
    format!("{}, known clients, window {window}", exchange.name())
}

impl Rates {
    /// Puts the rates into one figure, without latencies.
    pub(super) fn titled(self, title: &'static str) -> Self {
        Self { title, ..self }
    }

    /// With those windows, or a small one where the effort is; says in the results where there are few clients.
    pub(super) fn new(
        effort: Effort,
        windows: &'static [u32],
        room: Option<&Room>,
        results: &mut Results,
    ) -> Self {
        if effort.quick {
            return Self { windows: &[16], seconds: 1, title: "", fresh: Clients::Once(QUICK), again: QUICK };
        }
        let seconds = 2;
        if room.is_none() {
            results.note(format!(
                "the kernel's neighbour table could not be made larger here, so there are only {FEW} new clients"
            ));
            return Self { windows, seconds, title: "", fresh: Clients::Once(FEW), again: FEW };
        }
        Self { windows, seconds, title: "", fresh: Clients::Fresh(FRESH, seconds), again: AGAIN }
    }

    /// New and known clients with each window. Each measurement of new ones has a server that knows nobody yet. A slow
    /// server has one measurement of new clients for each kind of exchange, and it may take a minute.
    ///
    /// # Errors
    ///
    /// Where the server does not work as it should.
    pub(super) fn measure(self, contender: Contender, results: &mut Results) -> Result<Shown> {
        let case = contender.name();
        let mut shown = Shown::default();
        for exchange in Exchange::ALL {
            for window in
                self.windows.iter().filter(|window| !contender.is_slow() || **window == USUAL_WINDOW)
            {
                let pace = Pace::Window(*window);
                let fresh = if contender.is_slow() { Clients::Once(SLOW) } else { self.fresh };
                let seen = contender.run(|wire, server| exchanges(wire, server, exchange, pace, fresh))?;
                let name = self.title.to_owned() + &new_clients(exchange, *window);
                self.add(results, &name, case, &seen, *window);
                shown.0.push((name, seen.rate));
            }
        }
        contender.run(|wire, server| self.measure_known(wire, server, contender, results, &mut shown))?;
        Ok(shown)
    }

    fn measure_known(
        self,
        wire: &Wire,
        server: &mut Running<'_>,
        contender: Contender,
        results: &mut Results,
        shown: &mut Shown,
    ) -> Result<()> {
        let count = if contender.is_slow() { SLOW.min(self.again) } else { self.again };
        let (usual, once) = (Pace::Window(USUAL_WINDOW), Clients::Once(count));
        exchanges(wire, server, Exchange::TwoMessages, usual, once)
            .context("clients make themselves known")?;
        for exchange in Exchange::ALL {
            for window in self.windows {
                let again = Clients::Again(count, self.seconds);
                let seen = exchanges(wire, server, exchange, Pace::Window(*window), again)?;
                let name = self.title.to_owned() + &known_clients(exchange, *window);
                self.add(results, &name, contender.name(), &seen, *window);
                shown.0.push((name, seen.rate));
            }
        }
        Ok(())
    }

    /// Latencies at half of the best rate: new clients with the exchange of four messages come at equal distances,
    /// whether others were answered or not.
    ///
    /// # Errors
    ///
    /// Where the server does not work as it should.
    pub(super) fn at_half_load(self, contender: Contender, shown: &Shown) -> Result<Seen> {
        let exchange = Exchange::FourMessages;
        let rates = self.windows.iter().filter_map(|window| shown.rate(&new_clients(exchange, *window)));
        let pace = Pace::Rate(rates.fold(0.0, f64::max) / 2.0);
        contender.run(|wire, server| exchanges(wire, server, exchange, pace, self.fresh))
    }

    fn add(self, results: &mut Results, name: &str, case: &str, seen: &Seen, window: u32) {
        results.add(name, "1/s", case, seen.rate);
        if window == USUAL_WINDOW && self.title.is_empty() {
            results.add(&format!("{name}: p50"), "ms", case, seen.median);
            results.add(&format!("{name}: p99"), "ms", case, seen.p99);
        }
    }
}
