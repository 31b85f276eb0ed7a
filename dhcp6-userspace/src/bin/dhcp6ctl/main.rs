//! The operator's view of both planes.
//!
//! `status`, `pool` and `lease` ask the daemon; `map` and `stats` read the pinned BPF maps, and so work while the
//! daemon is down.

mod maps;
mod render;

use std::{
    fmt,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum};
use dhcp6_common::wire::Duid;
use dhcp6_userspace::{
    control::{Cleared, ControlError, LeaseRow, PoolDetail, PoolRow, Query, Status, ask},
    engine::AddressState,
    fastpath::MapError,
};

use self::render::Output;

/// Shows what dhcp6d and its XDP program know and count.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The daemon's control socket.
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/dhcp6d/control.sock")]
    socket: PathBuf,
    /// Directory of the pinned maps; by default the running daemon's, or /sys/fs/bpf/dhcp6.
    #[arg(long, global = true, value_name = "PATH")]
    pin_dir: Option<PathBuf>,
    /// One JSON document instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon, its links, the XDP mode of each interface, the store.
    Status,
    /// The pools of addresses.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// The leases.
    #[command(subcommand)]
    Lease(LeaseCommand),
    /// The addresses that clients found in use.
    #[command(subcommand)]
    Conflict(ConflictCommand),
    /// The BPF maps.
    #[command(subcommand)]
    Map(MapCommand),
    /// Every counter by its reason.
    Stats {
        /// Show them anew each second, until interrupted.
        #[arg(long)]
        watch: bool,
    },
}

#[derive(Debug, Subcommand)]
enum PoolCommand {
    /// How many addresses of each link are idle, used, in conflict and excluded.
    List,
    /// The addresses of a link.
    Show {
        /// Name of the link.
        link: String,
        /// Only those in this list; all but the idle ones by default.
        #[arg(long)]
        state: Option<StateArgument>,
        /// At most so many.
        #[arg(long, default_value_t = 10_000)]
        limit: usize,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateArgument {
    Idle,
    Used,
    Conflict,
    Excluded,
}

#[derive(Debug, Subcommand)]
enum LeaseCommand {
    /// Who has which address until when.
    List {
        /// Only those of this link.
        #[arg(long)]
        link: Option<String>,
        /// Only those of this client.
        #[arg(long)]
        duid: Option<Duid>,
    },
}

#[derive(Debug, Subcommand)]
enum ConflictCommand {
    /// Makes an address assignable again, before its hold ends.
    Clear {
        /// The address.
        address: Ipv6Addr,
    },
}

#[derive(Debug, Subcommand)]
enum MapCommand {
    /// The maps: type, sizes, entries.
    List,
    /// The clients that the kernel answers.
    Show {
        /// Only those of this link.
        #[arg(long)]
        link: Option<String>,
        /// At most so many.
        #[arg(long)]
        limit: Option<usize>,
    },
    /// What the kernel answers one client.
    Lookup {
        /// The client.
        duid: Duid,
        /// Only on this link.
        #[arg(long)]
        link: Option<String>,
    },
}

/// Why a command ends with a status other than 0.
#[derive(Debug)]
enum Failure {
    /// Status 1.
    NotFound(String),
    /// Status 3.
    Unreachable(String),
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Refused(_) => Self::NotFound(error.to_string()),
            ControlError::Unreachable { .. } | ControlError::Gibberish { .. } => {
                Self::Unreachable(error.to_string())
            }
        }
    }
}

impl From<MapError> for Failure {
    fn from(error: MapError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotFound(reason) | Self::Unreachable(reason)) = self;
        f.write_str(reason)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("dhcp6ctl: {failure}");
            ExitCode::from(match failure {
                Failure::NotFound(_) => 1,
                Failure::Unreachable(_) => 3,
            })
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { socket, pin_dir, json, command } = arguments;
    let output = Output { json: *json };
    match command {
        Command::Status => output.show(&ask::<Status>(socket, &Query::Status)?),
        Command::Pool(PoolCommand::List) => output.show(&ask::<Vec<PoolRow>>(socket, &Query::PoolList)?),
        Command::Pool(PoolCommand::Show { link, state, limit }) => {
            let state = state.map(|state| match state {
                StateArgument::Idle => AddressState::Idle,
                StateArgument::Used => AddressState::Used,
                StateArgument::Conflict => AddressState::Conflict,
                StateArgument::Excluded => AddressState::Excluded,
            });
            let query = Query::PoolShow { link: link.clone(), state, limit: *limit };
            output.show(&ask::<PoolDetail>(socket, &query)?);
        }
        Command::Lease(LeaseCommand::List { link, duid }) => {
            let query = Query::LeaseList { link: link.clone(), duid: duid.as_ref().map(ToString::to_string) };
            output.show(&ask::<Vec<LeaseRow>>(socket, &query)?);
        }
        Command::Conflict(ConflictCommand::Clear { address }) => {
            output.show(&ask::<Cleared>(socket, &Query::ConflictClear { address: *address })?);
        }
        Command::Map(command) => {
            let maps = maps::open(&pin_dir_of(pin_dir.as_deref(), socket))?;
            match command {
                MapCommand::List => output.show(&maps.describe()?),
                MapCommand::Show { link, limit } => {
                    output.show(&maps::entries(&maps, link.as_deref(), limit.unwrap_or(usize::MAX))?);
                }
                MapCommand::Lookup { duid, link } => {
                    let found = maps::look_up(&maps, duid, link.as_deref())?;
                    if found.is_empty() {
                        return Err(Failure::NotFound(format!("the kernel knows no client {duid}")));
                    }
                    output.show(&found);
                }
            }
        }
        Command::Stats { watch } => loop {
            let pin_dir = pin_dir_of(pin_dir.as_deref(), socket);
            output.show(&maps::stats(&pin_dir, socket)?);
            if !watch {
                break;
            }
            thread::sleep(Duration::from_secs(1));
        },
    }
    Ok(())
}

/// The directory that was given, or that of the daemon, or the default one.
fn pin_dir_of(given: Option<&Path>, socket: &Path) -> PathBuf {
    let of_daemon = || {
        let status: Status = ask(socket, &Query::Status).ok()?;
        Some(status.fast_path_maps?.pin_dir)
    };
    given.map(Path::to_owned).or_else(of_daemon).unwrap_or_else(|| PathBuf::from("/sys/fs/bpf/dhcp6"))
}
