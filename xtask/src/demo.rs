//! `cargo xtask demo`: the server, a client and the kernel between them, on one machine.

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::clients::{self, DHCLIENT};
use crate::command;
use crate::workspace::Workspace;
use crate::{build, setup};

/// Sets up, builds, and runs the demonstration with `args`.
///
/// # Errors
///
/// When something needed is missing, when a build fails, or when the demonstration does.
pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    let tools = setup::run(workspace)?;
    clients::provide(workspace, &[DHCLIENT]);
    build::all(workspace, &tools)?;
    let mut demo = workspace.cargo();
    demo.args(["run", "--quiet", "--release", "--package", "tests", "--bin", "demo", "--"]).args(args);
    command::run(&mut demo).context("running the demonstration")
}
