//! `cargo xtask test`: every check and every test, those without privileges first.

mod report;

use std::num::NonZero;
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Result, bail};

use self::report::{Report, Tally};
use crate::clients::{self, DHCLIENT, DHCP6C, DHCPCD, DHCRELAY, DIBBLER, ETHTOOL, FAKETIME, NETWORKD};
use crate::setup;
use crate::workspace::Workspace;
use crate::{bench, build, command, fuzz, matrix};

/// The crates of the host whose tests need no privileges.
const HOST_CRATES: [&str; 3] = ["dhcp6-common", "dhcp6-userspace", "xtask"];

/// More end-to-end tests than this at once disturb each other's timers on a small machine.
const MOST_END_TO_END_TESTS_AT_ONCE: usize = 4;

/// For how long each fuzz target runs: to see that it still works and that old findings do not come back.
const FUZZ_SECONDS: u32 = 15;

/// Runs the steps up to the first that fails, and prints what came out. The last line is the number of tests
/// that passed and failed, and of those skipped if any were.
pub(crate) fn run(workspace: &Workspace) -> ExitCode {
    let mut report = Report::default();
    // `None` is a failure that the report already holds.
    let _all_passed = steps(workspace, &mut report);
    report.note(matrix::summary(workspace).unwrap_or_else(|error| format!("{error:#}")));
    print!("{report}");
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn steps(workspace: &Workspace, report: &mut Report) -> Option<()> {
    let check = |command: &mut Command| command::run(command);

    let tools = report.step("setup", |_| {
        let tools = setup::run(workspace)?;
        clients::provide(
            workspace,
            &[DHCRELAY, DHCLIENT, DHCPCD, DHCP6C, DIBBLER, NETWORKD, FAKETIME, ETHTOOL, bench::KEA],
        );
        Ok(tools)
    })?;
    report.step("format", |_| {
        check(workspace.cargo().args(["fmt", "--all", "--check"]))?;
        // A workspace of its own.
        let manifest = format!("{}/Cargo.toml", fuzz::DIRECTORY);
        check(workspace.cargo().args(["fmt", "--check", "--manifest-path", &manifest]))
    })?;
    report.step("requirement matrix", |_| matrix::check(workspace))?;
    report.step("clippy", |_| {
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        check(workspace.cargo().args(clippy))
    })?;
    report.step("documentation", |_| {
        let doc = ["doc", "--workspace", "--no-deps", "--document-private-items"];
        check(workspace.cargo().args(doc).env("RUSTDOCFLAGS", "-Dwarnings"))
    })?;
    report.step("unit tests", |tally| {
        let mut tests = workspace.cargo();
        tests.args(["test", "--no-fail-fast", "--lib", "--bins", "--tests"]).args(packages(&HOST_CRATES));
        counted(&mut tests, tally)
    })?;
    report.step("documentation tests", |tally| {
        // Of the libraries; a program has none.
        let mut tests = workspace.cargo();
        tests.args(["test", "--no-fail-fast", "--doc"]).args(packages(&HOST_CRATES[..2]));
        counted(&mut tests, tally)
    })?;
    report.step("build", |_| build::all(workspace, &tools))?;
    report.step("end-to-end tests", |tally| {
        let at_once =
            thread::available_parallelism().map_or(1, NonZero::get).min(MOST_END_TO_END_TESTS_AT_ONCE);
        let mut tests = workspace.cargo();
        tests.args(["test", "--no-fail-fast", "--package", "tests", "--"]);
        tests.arg(format!("--test-threads={at_once}"));
        counted(&mut tests, tally)
    })?;
    report.step("benchmarks, whether they work", |_| bench::quick(workspace))?;
    // The last, since what it finds differs from run to run.
    report.step("fuzz targets", |tally| fuzz_targets(workspace, tally))
}

/// Runs each fuzz target for a short time, where this machine can. A target counts as a test.
fn fuzz_targets(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    if let Some(why) = fuzz::skipped(workspace) {
        println!("fuzz: {why}");
        tally.ignored = fuzz::Target::ALL.len();
        return Ok(());
    }
    let results = fuzz::fuzz(workspace, &fuzz::Target::ALL, FUZZ_SECONDS)?;
    print!("{results}");
    tally.passed = results.clean();
    tally.failed = fuzz::Target::ALL.len() - results.clean();
    if tally.failed > 0 {
        bail!("a fuzz target has found an input that breaks a promise; it is named above");
    }
    Ok(())
}

fn packages<'a>(names: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    names.iter().flat_map(|name| ["--package", name])
}

/// Runs a `cargo test` and adds up its results.
fn counted(tests: &mut Command, tally: &mut Tally) -> Result<()> {
    command::run_reading(tests, |line| {
        if let Some(results) = Tally::read(line) {
            *tally += results;
        }
    })
}
