//! `cargo xtask torture`: kills the server under load and cuts its power, for longer than `cargo xtask test` does.

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::command;
use crate::workspace::Workspace;
use crate::{build, setup};

/// Sets up, builds, and runs the crash tests with `args`.
///
/// # Errors
///
/// When something needed is missing, when a build fails, or when a promise was broken, which has been printed.
pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    let tools = setup::run(workspace)?;
    build::all(workspace, &tools)?;
    let mut torture = workspace.cargo();
    torture.args(["run", "--quiet", "--release", "--package", "tests", "--bin", "torture", "--"]).args(args);
    command::run(&mut torture).context("running the crash tests")
}
