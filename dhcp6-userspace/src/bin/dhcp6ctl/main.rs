//! The operator's view of both planes.
//!
//! `status`, `pool` and `lease` ask the daemon; `map` and `stats` read the pinned BPF maps, and so work while the
//! daemon is down; `top` shows whatever can be reached.

mod maps;
mod render;
mod top;
mod verify;

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum};
use dhcp6_common::wire::Duid;
use dhcp6_userspace::{
    control::{
        Cleared, ControlError, LeaseRow, PoolDetail, PoolRow, Query, Released, Reloaded, Status, Text, ask,
    },
    engine::ResourceState,
    fastpath::MapError,
    pool::Resource,
};

use self::render::{Export, Output};

/// Where the pinned maps are unless somebody says otherwise.
const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/dhcp6";

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
    /// The pools of addresses and prefixes.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// The leases.
    #[command(subcommand)]
    Lease(LeaseCommand),
    /// The addresses that clients found in use, and what may still be in use by clients that lost it.
    #[command(subcommand)]
    Conflict(ConflictCommand),
    /// The daemon's configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The BPF maps.
    #[command(subcommand)]
    Map(MapCommand),
    /// Every counter by its reason.
    Stats {
        /// Show them anew each second, until interrupted.
        #[arg(long)]
        watch: bool,
    },
    /// Rates, drops and pools on the whole screen, anew each second; q closes it.
    Top,
}

#[derive(Debug, Subcommand)]
enum PoolCommand {
    /// How many addresses and prefixes of each link are idle, used, in conflict and excluded.
    List,
    /// The addresses and prefixes of a link.
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
    /// Who has which address or prefix until when.
    List {
        /// Only those of this link.
        #[arg(long)]
        link: Option<String>,
        /// Only those of this client.
        #[arg(long)]
        duid: Option<Duid>,
    },
    /// One lease.
    Show {
        /// Its address or prefix.
        #[arg(value_name = "ADDRESS|PREFIX")]
        resource: Resource,
    },
    /// Ends a lease whose client is gone: the address or prefix may be assigned again at once.
    Release {
        /// Its address or prefix.
        #[arg(value_name = "ADDRESS|PREFIX")]
        resource: Resource,
    },
    /// All leases as comma-separated values.
    Export,
}

#[derive(Debug, Subcommand)]
enum ConflictCommand {
    /// Makes an address or prefix assignable again, before its hold ends.
    Clear {
        /// The address or prefix.
        #[arg(value_name = "ADDRESS")]
        resource: Resource,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Has the daemon read its file again: all of it is in force afterwards, or none of it.
    Reload,
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
    /// Compares the bindings with the lease database: exit status 0 where they agree, 1 with each difference.
    Verify {
        /// The database; by default the running daemon's, or /var/lib/dhcp6d/leases.sqlite.
        #[arg(long, value_name = "FILE")]
        database: Option<PathBuf>,
    },
}

/// Why a command ends with a status other than 0.
#[derive(Debug)]
enum Failure {
    /// Status 1.
    NotFound(String),
    /// Status 2.
    Usage(String),
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
        let (Self::NotFound(reason) | Self::Usage(reason) | Self::Unreachable(reason)) = self;
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
                Failure::Usage(_) => 2,
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
                StateArgument::Idle => ResourceState::Idle,
                StateArgument::Used => ResourceState::Used,
                StateArgument::Conflict => ResourceState::Conflict,
                StateArgument::Excluded => ResourceState::Excluded,
            });
            let query = Query::PoolShow { link: link.clone(), state, limit: *limit };
            output.show(&ask::<PoolDetail>(socket, &query)?);
        }
        Command::Lease(LeaseCommand::List { link, duid }) => {
            let query = Query::LeaseList { link: link.clone(), duid: duid.as_ref().map(ToString::to_string) };
            output.show(&ask::<Vec<LeaseRow>>(socket, &query)?);
        }
        Command::Lease(LeaseCommand::Show { resource }) => {
            let query = Query::LeaseShow { resource: Text(*resource) };
            output.show(&ask::<LeaseRow>(socket, &query)?);
        }
        Command::Lease(LeaseCommand::Release { resource }) => {
            let query = Query::LeaseRelease { resource: Text(*resource) };
            output.show(&ask::<Released>(socket, &query)?);
        }
        Command::Lease(LeaseCommand::Export) => {
            let query = Query::LeaseList { link: None, duid: None };
            output.show(&Export(ask(socket, &query)?));
        }
        Command::Conflict(ConflictCommand::Clear { resource }) => {
            let query = Query::ConflictClear { resource: Text(*resource) };
            output.show(&ask::<Cleared>(socket, &query)?);
        }
        Command::Config(ConfigCommand::Reload) => {
            output.show(&ask::<Reloaded>(socket, &Query::ConfigReload)?);
        }
        Command::Map(command) => {
            let maps = maps::open(&pin_dir_of(pin_dir.as_deref(), socket))?;
            match command {
                MapCommand::List => output.show(&maps.describe()?),
                MapCommand::Show { link, limit } => {
                    output.show(&maps::entries(&maps, link.as_deref(), limit.unwrap_or(usize::MAX))?);
                }
                MapCommand::Verify { database } => {
                    let database = database.clone().unwrap_or_else(|| database_of(socket));
                    let verification =
                        verify::verify(&pin_dir_of(pin_dir.as_deref(), socket), &database, socket)?;
                    output.show(&verification);
                    let count = verification.differences.len();
                    if count > 0 {
                        return Err(Failure::NotFound(format!("{count} differences")));
                    }
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
        Command::Top if *json => {
            let reason = "top is for people and has no JSON; `--json stats` has the counters";
            return Err(Failure::Usage(reason.to_owned()));
        }
        Command::Top => top::run(socket, pin_dir.clone())?,
    }
    Ok(())
}

/// The daemon's lease database, or the default one.
fn database_of(socket: &Path) -> PathBuf {
    let of_daemon = || ask::<Status>(socket, &Query::Status).ok()?.store.path;
    of_daemon().unwrap_or_else(|| PathBuf::from("/var/lib/dhcp6d/leases.sqlite"))
}

/// The directory that was given, or that of the daemon, or the default one.
fn pin_dir_of(given: Option<&Path>, socket: &Path) -> PathBuf {
    let of_daemon = || {
        let status: Status = ask(socket, &Query::Status).ok()?;
        Some(status.fast_path_maps?.pin_dir)
    };
    given.map(Path::to_owned).or_else(of_daemon).unwrap_or_else(|| PathBuf::from(DEFAULT_PIN_DIR))
}
