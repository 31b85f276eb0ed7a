//! The DHCPv6 server.

use std::{io, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use dhcp6_userspace::{config::Config, daemon::Daemon};
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
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false).init();
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{failure:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(config: Config) -> Result<()> {
    Daemon::start(config)?.run().await
}
