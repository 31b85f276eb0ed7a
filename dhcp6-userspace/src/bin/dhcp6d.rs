//! The DHCPv6 server.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Error, Result};
use clap::Parser;
use dhcp6_userspace::{
    config::Config,
    daemon::{Daemon, ServiceManager, detach},
};
use tracing_subscriber::EnvFilter;

/// DHCPv6 server for access routers: answers known clients in the network driver.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/dhcp6d/dhcp6d.toml")]
    config: PathBuf,
    /// Validate the configuration and exit: 0 where it is fine, 1 with every error where not.
    #[arg(long)]
    check: bool,
    /// Take the XDP program that an earlier run has left off its interfaces, remove the pinned maps, and exit.
    #[arg(long, conflicts_with = "check")]
    detach: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    let outcome = if arguments.detach {
        detach(&config)
    } else {
        serve(config, arguments.config, ServiceManager::take_over())
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{}", in_full(&failure));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(config: Config, path: PathBuf, manager: ServiceManager) -> Result<()> {
    Daemon::start(config, path, manager)?.run().await
}

/// An error and its causes, without those that it names itself.
fn in_full(failure: &Error) -> String {
    let mut text = String::new();
    for cause in failure.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}
