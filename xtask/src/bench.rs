//! `cargo xtask bench`: measures, and leaves tables, JSON and plots in target/bench/.

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::setup::Need;
use crate::workspace::Workspace;
use crate::{build, clients, command, setup};

/// The server of the Kea project.
pub(crate) const KEA: Need = Need {
    programs: &["kea-dhcp6"],
    reason: "Kea, a server that this one is compared with, and that the load generator is tested against",
    debian: &["kea-dhcp6-server"],
    fedora: &["kea"],
    arch: &["kea"],
};

/// ISC dhcpd.
const DHCPD: Need = Need {
    programs: &["dhcpd"],
    reason: "ISC dhcpd, a server that this one is compared with",
    debian: &["isc-dhcp-server"],
    fedora: &["dhcp-server"],
    arch: &["dhcp"],
};

/// dnsmasq.
const DNSMASQ: Need = Need {
    programs: &["dnsmasq"],
    reason: "dnsmasq, a server that this one is compared with",
    debian: &["dnsmasq-base"],
    fedora: &["dnsmasq"],
    arch: &["dnsmasq"],
};

/// perf, which samples what a process does.
const PERF: Need = Need {
    programs: &["perf"],
    reason: "perf, which tells where the daemon's time goes",
    debian: &["linux-perf"],
    fedora: &["perf"],
    arch: &["perf"],
};

/// The subjects that need other programs, and which.
const NEEDS: [(&str, &[Need]); 4] =
    [("slowpath", &[KEA]), ("storm", &[KEA]), ("peers", &[KEA, DHCPD, DNSMASQ]), ("profile", &[PERF])];

/// Sets up, builds, and runs the benchmarks with `args`. What these need besides is installed: servers to be compared
/// with, perf.
///
/// # Errors
///
/// When something needed is missing, when a build fails, or when what is measured does not work.
pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    let tools = setup::run(workspace)?;
    for (_, needs) in needs(args) {
        clients::provide(workspace, needs);
    }
    build::all(workspace, &tools)?;
    measure(workspace, args)
}

/// Runs each benchmark for a moment, to see that it works, with the release binaries that are there.
///
/// # Errors
///
/// When something does not work, however fast.
pub(crate) fn quick(workspace: &Workspace) -> Result<()> {
    let output = workspace.target.join("bench").join("quick");
    measure(workspace, &["--quick".into(), "--output".into(), output.into()])
}

fn measure(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    let mut bench = workspace.cargo();
    bench.args(["run", "--quiet", "--release", "--package", "tests", "--bin", "bench", "--"]).args(args);
    command::run(&mut bench).context("running the benchmarks")
}

/// The subjects among `args` that need other programs, and which; all of them where none is named.
fn needs(args: &[OsString]) -> Vec<(&'static str, &'static [Need])> {
    let has = |name: &str| args.iter().any(|arg| arg == name);
    if has("--quick") || has("--help") {
        return Vec::new();
    }
    // What follows an option is its value, unless the option has none.
    let is_value =
        |index: usize| index > 0 && ["--runs", "--output"].iter().any(|name| args[index - 1] == *name);
    let is_option = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.starts_with('-'));
    let any_named = args.iter().enumerate().any(|(index, arg)| !is_option(arg) && !is_value(index));
    NEEDS.into_iter().filter(|(subject, _)| !any_named || has(subject)).collect()
}

#[cfg(test)]
mod tests {
    use super::needs;

    #[test]
    fn programs_are_installed_only_to_be_used() {
        let all: &[&str] = &["slowpath", "storm", "peers", "profile"];
        for (args, expected) in [
            (&[][..], all),
            (&["--runs", "7"], all),
            (&["--output", "elsewhere"], all),
            (&["--json", "slowpath"], &["slowpath"]),
            (&["scale", "storm", "--output", "elsewhere"], &["storm"]),
            (&["scale"], &[]),
            (&["--quick"], &[]),
            (&["slowpath", "--quick"], &[]),
            (&["--help"], &[]),
        ] {
            let words: Vec<_> = args.iter().map(Into::into).collect();
            let subjects: Vec<_> = needs(&words).into_iter().map(|(subject, _)| subject).collect();
            assert_eq!(subjects, expected, "{args:?}");
        }
    }
}
