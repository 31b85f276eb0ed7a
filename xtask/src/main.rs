//! Sets up, builds, demonstrates and tests the server: `cargo xtask COMMAND`.
//!
//! One file per command. Each command that needs a toolchain calls [`setup`] first, which costs a fraction of a
//! second where everything is there.

mod bench;
mod build;
mod clients;
mod command;
mod demo;
mod fuzz;
mod matrix;
mod model;
mod setup;
mod test;
mod torture;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::workspace::Workspace;

/// Sets up, builds, demonstrates and tests the server.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Find the toolchain and the system packages, and install what is missing
    Setup,
    /// Set up, then build the release binaries, the XDP program inside, in target/release/
    Build,
    /// Set up and build, then let a client get its address twice: first from the daemon, then from the kernel
    Demo {
        /// Arguments for the demonstration itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, then run every check and every test, those without privileges first
    Test,
    /// Look for octets and configurations that break the server's promises
    Fuzz {
        /// The fuzz target; all of them, one after the other, where none is named
        target: Option<fuzz::Target>,
        /// For how long each target runs
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
    },
    /// Take the engine and a simple model of it through random messages, failures and restarts, and compare them
    Model {
        /// About how many steps
        #[arg(long, value_name = "N", default_value_t = 1_000_000)]
        steps: u32,
    },
    /// Set up and build, then kill the server under load and cut its power, and look for promises that do not
    /// survive it
    Torture {
        /// Arguments for the crash tests themselves: --kills N, --power-cuts N, --seed SEED
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up and build, then measure; tables, JSON and plots are left in target/bench/
    Bench {
        /// Arguments for the benchmarks themselves: SUBJECT..., --runs N, --quick, --json
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// List the requirements that no test names, and why
    Matrix {
        /// Fail where a requirement has neither a test nor, if it does not bind the server, a reason
        #[arg(long)]
        strict: bool,
    },
}

fn main() -> ExitCode {
    match run(&Command::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match command {
        Command::Setup => setup::run(&workspace).map(|_tools| ExitCode::SUCCESS),
        Command::Build => build::run(&workspace).map(|()| ExitCode::SUCCESS),
        Command::Demo { args } => demo::run(&workspace, args).map(|()| ExitCode::SUCCESS),
        Command::Test => Ok(test::run(&workspace)),
        Command::Fuzz { target, seconds } => fuzz::run(&workspace, *target, *seconds),
        Command::Model { steps } => model::run(&workspace, *steps).map(|()| ExitCode::SUCCESS),
        Command::Torture { args } => torture::run(&workspace, args).map(|()| ExitCode::SUCCESS),
        Command::Bench { args } => bench::run(&workspace, args).map(|()| ExitCode::SUCCESS),
        Command::Matrix { strict } => matrix::run(&workspace, *strict),
    }
}
