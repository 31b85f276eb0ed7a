//! `cargo xtask bench`: measures, and leaves tables, JSON and plots in target/bench/.

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::command;
use crate::workspace::Workspace;
use crate::{build, setup};

/// Sets up, builds, and runs the benchmarks with `args`.
///
/// # Errors
///
/// When something needed is missing, when a build fails, or when what is measured does not work.
pub(crate) fn run(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    let tools = setup::run(workspace)?;
    build::all(workspace, &tools)?;
    let mut bench = workspace.cargo();
    bench.args(["run", "--quiet", "--release", "--package", "tests", "--bin", "bench", "--"]);
    bench.arg("--output").arg(workspace.target.join("bench")).args(args);
    command::run(&mut bench).context("running the benchmarks")
}
