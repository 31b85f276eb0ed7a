//! Kills a server under load, and cuts its power, over and over; compares what clients were promised with what is
//! left.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use nix::unistd::Uid;
use tests::{
    server::Plane,
    torture::{Crash, Outcome, torture},
};

/// Kills dhcp6d under load, and cuts its power, and looks for promises that do not survive it.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often the process is killed.
    #[arg(long, value_name = "N")]
    kills: Option<u32>,
    /// How often the power is cut: what was not synced is lost.
    #[arg(long, value_name = "N")]
    power_cuts: Option<u32>,
    /// Repeats the choices of an earlier run; another seed each time where there is none.
    #[arg(long)]
    seed: Option<u64>,
}

/// How often, where nothing is said.
const CRASHES: u32 = 100;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !Uid::effective().is_root() {
        eprintln!(
            "torture: this needs root, for network namespaces, BPF and FUSE: sudo -E cargo xtask torture"
        );
        return ExitCode::FAILURE;
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("torture: {failure:?}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every promise was kept.
fn run(arguments: &Arguments) -> Result<bool> {
    let Arguments { kills, power_cuts, seed } = *arguments;
    let (kills, power_cuts) = match (kills, power_cuts) {
        (None, None) => (CRASHES, CRASHES),
        (kills, power_cuts) => (kills.unwrap_or_default(), power_cuts.unwrap_or_default()),
    };
    let seed = seed.unwrap_or_else(rand::random);
    let mut is_clean = true;
    for (crash, name, times) in [(Crash::Kill, "kills", kills), (Crash::PowerCut, "power cuts", power_cuts)] {
        if times > 0 {
            let outcome = one_kind(crash, name, times, seed).with_context(|| format!("seed {seed}"))?;
            println!("{name}: {outcome}");
            is_clean &= outcome.is_clean();
        }
    }
    println!("seed {seed}");
    Ok(is_clean)
}

/// Crashes of one kind, half of them with the XDP program in the driver, the others with it in the network stack.
fn one_kind(crash: Crash, name: &'static str, times: u32, seed: u64) -> Result<Outcome> {
    // Draws nothing where stderr is not a terminal.
    let bar = ProgressBar::new(times.into()).with_message(name);
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}, {eta}");
    bar.set_style(style.expect("the template is valid"));
    let mut outcome = Outcome::default();
    for (plane, times) in [(Plane::Native, times.div_ceil(2)), (Plane::Generic, times / 2)] {
        outcome.add(torture(crash, plane, times, seed, || bar.inc(1))?);
        if !outcome.is_clean() {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(outcome)
}
