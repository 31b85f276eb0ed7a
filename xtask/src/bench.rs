//! `cargo xtask bench`: measures, and leaves tables, JSON and plots in target/bench/.

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::setup::Need;
use crate::workspace::Workspace;
use crate::{build, clients, command, setup};

/// The server of the Kea project.
const KEA: Need = Need {
    programs: &["kea-dhcp6"],
    reason: "Kea, a server that this one is compared with",
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

/// The one subject that other servers are measured in.
const COMPARISON: &str = "slowpath";

/// Sets up, builds, and runs the benchmarks with `args`. Other servers are installed where they are to be compared
/// with.
///
/// # Errors
///
/// When something needed is missing, when a build fails, or when what is measured does not work.
pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    let tools = setup::run(workspace)?;
    if compares(args) {
        clients::provide(workspace, &[KEA, DHCPD, DNSMASQ]);
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

/// Whether other servers are measured as well.
fn compares(args: &[OsString]) -> bool {
    let names = |name: &str| args.iter().any(|arg| arg == name);
    // Options come with a value or have none of their own that is a word.
    let any_named =
        args.iter().any(|arg| arg.to_str().is_some_and(|arg| arg.starts_with(char::is_alphabetic)));
    !names("--quick") && !names("--help") && (names(COMPARISON) || !any_named)
}

#[cfg(test)]
mod tests {
    use super::compares;

    #[test]
    fn other_servers_are_installed_only_to_be_measured() {
        for (args, expected) in [
            (&[][..], true),
            (&["--runs", "7"], true),
            (&["slowpath"], true),
            (&["scale", "slowpath"], true),
            (&["scale"], false),
            (&["--quick"], false),
            (&["slowpath", "--quick"], false),
            (&["--help"], false),
        ] {
            let args: Vec<_> = args.iter().map(Into::into).collect();
            assert_eq!(compares(&args), expected, "{args:?}");
        }
    }
}
