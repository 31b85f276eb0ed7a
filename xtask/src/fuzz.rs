//! `cargo xtask fuzz`: looks for inputs that break the server's promises.

mod output;

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, bail};

use self::output::Output;
use crate::command;
use crate::setup::{Fuzzer, Host, NIGHTLY, nightly};
use crate::workspace::Workspace;

/// The fuzz targets' own workspace, in the checkout.
pub(crate) const DIRECTORY: &str = "dhcp6-userspace/fuzz";

/// A fuzz target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// Any octets, to the option walker
    Walker,
    /// Any text, as a configuration
    Config,
    /// Any octets, as a datagram of relay agents
    Relay,
    /// Messages, time, failing commits and restarts, to the engine
    Engine,
}

impl Target {
    /// Every target, the quickest to come to an end of its discoveries first.
    pub(crate) const ALL: [Self; 4] = [Self::Walker, Self::Config, Self::Relay, Self::Engine];

    fn name(self) -> &'static str {
        match self {
            Self::Walker => "walker",
            Self::Config => "config",
            Self::Relay => "relay",
            Self::Engine => "engine",
        }
    }
}

/// Runs one target or all for `seconds` each, and prints what came out. A finding is a failure.
///
/// # Errors
///
/// When something needed is missing or cannot be built.
pub(crate) fn run(workspace: &Workspace, target: Option<Target>, seconds: u32) -> Result<ExitCode> {
    let targets = target.map_or(Target::ALL.to_vec(), |target| vec![target]);
    let results = fuzz(workspace, &targets, seconds)?;
    print!("{results}");
    Ok(if results.findings() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why this machine cannot fuzz, where it is no mistake: a stable toolchain is all that the server needs.
pub(crate) fn skipped(workspace: &Workspace) -> Option<String> {
    match nightly(&Host::new(&workspace.root)) {
        Some(_) => None,
        None => Some(format!("SKIPPED, there is no nightly toolchain to fuzz with; to have one, {NIGHTLY}")),
    }
}

/// Builds the targets and runs one after the other for `seconds` each.
///
/// # Errors
///
/// When something needed is missing or cannot be built.
pub(crate) fn fuzz(workspace: &Workspace, targets: &[Target], seconds: u32) -> Result<Results> {
    let mut host = Host::new(&workspace.root);
    let fuzzer = Fuzzer::provide(&mut host).map_err(|how| anyhow!("fuzzing needs {how}"))?;
    for target in targets {
        let mut build = cargo_fuzz(workspace, &fuzzer, "build");
        command::run(build.arg(target.name())).context("building the fuzz targets")?;
    }
    let mut results = Vec::new();
    for target in targets {
        println!("fuzz: {} for {seconds} s", target.name());
        results.push((*target, run_target(workspace, &fuzzer, *target, seconds)?));
    }
    Ok(Results(results))
}

fn run_target(workspace: &Workspace, fuzzer: &Fuzzer, target: Target, seconds: u32) -> Result<Output> {
    let directory = workspace.root.join(DIRECTORY);
    let own = directory.join("corpus").join(target.name());
    std::fs::create_dir_all(&own).with_context(|| format!("creating {}", own.display()))?;
    let mut command = cargo_fuzz(workspace, fuzzer, "run");
    // What the fuzzer learns goes into the first directory.
    command.arg(target.name()).arg(own).args(existing(directory.join("seeds").join(target.name())));
    // Long inputs from the start: what the engine remembers takes several messages to show.
    command.args(["--", "-print_final_stats=1", "-timeout=20", "-len_control=0"]);
    command.arg(format!("-max_total_time={seconds}"));
    if let Some(dictionary) = existing(directory.join(format!("{}.dict", target.name()))) {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let mut output = Output::default();
    let succeeded = command::watch_errors(&mut command, |line| output.read(line))?;
    if !succeeded {
        eprintln!("{}", output.tail());
        if output.findings.is_empty() {
            bail!("the fuzz target {} failed without a finding; its output above says why", target.name());
        }
    }
    Ok(output)
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    Some(path).filter(|path| path.exists())
}

/// A cargo-fuzz command on the targets of this checkout.
fn cargo_fuzz(workspace: &Workspace, fuzzer: &Fuzzer, what: &str) -> Command {
    let target = workspace.target.join("fuzz");
    let mut command = Command::new("rustup");
    command.current_dir(&workspace.root).args(["run", &fuzzer.nightly]).arg(&fuzzer.program);
    // What the targets run is safe Rust, which panics where a sanitizer would have something to say.
    command.arg(what).args(["--sanitizer", "none", "--fuzz-dir", DIRECTORY, "--target-dir"]).arg(&target);
    // Targets have no use for the XDP program, and need not be built again after each build of it.
    command.env("DHCP6_XDP_OBJECT", target.join("no-xdp-program")).env_remove("CARGO").env_remove("RUSTC");
    command
}

/// What came out of each target.
pub(crate) struct Results(Vec<(Target, Output)>);

impl Results {
    /// How many inputs were found that break a promise.
    pub(crate) fn findings(&self) -> usize {
        self.0.iter().map(|(_, output)| output.findings.len()).sum()
    }

    /// How many targets found nothing.
    pub(crate) fn clean(&self) -> usize {
        self.0.iter().filter(|(_, output)| output.findings.is_empty()).count()
    }
}

impl fmt::Display for Results {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "\ntarget  executions  a second  coverage  findings")?;
        for (target, Output { executions, per_second, coverage, findings, .. }) in &self.0 {
            let name = target.name();
            let count = findings.len();
            writeln!(formatter, "{name:<7} {executions:>10} {per_second:>9} {coverage:>9} {count:>9}")?;
        }
        for (target, output) in &self.0 {
            for finding in &output.findings {
                let name = target.name();
                writeln!(
                    formatter,
                    "{name}: {finding}\n  again: cargo +nightly fuzz run -s none --fuzz-dir {DIRECTORY} {name} {finding}"
                )?;
            }
        }
        Ok(())
    }
}
