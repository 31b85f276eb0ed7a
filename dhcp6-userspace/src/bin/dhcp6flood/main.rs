//! Load for a DHCPv6 server, from simulated clients.

mod report;

use std::{
    net::Ipv6Addr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum, error::ErrorKind};
use dhcp6_userspace::flood::{
    Ask, Capture, Engine, Mix, Mode, Pace, Plan, Progress, Relays, Replay, ReplaySummary, RunError, Step,
    Summary, Volley, VolleyProgress, VolleySummary, fire, replay, run,
};
use indicatif::{ProgressBar, ProgressStyle};
use report::{ForPeople, ReplayForPeople, VolleyForPeople};
use serde::Serialize;

/// How long a run with one exchange for each client may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Loads a DHCPv6 server with simulated clients and judges its replies. For test networks: the clients take
/// addresses from the server's pools, and the interface receives frames for every MAC address meanwhile.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Clients that each get an address, one exchange after the other. Exit status: 0 if at least one exchange was
    /// completed and no reply was wrong, 1 if not, 2 for wrong usage.
    Exchange(Exchange),
    /// Clients that all power up at once and repeat themselves as RFC 9915 says until they have an address. Exit
    /// status as of exchange.
    Storm(StormArguments),
    /// Solicits as fast as they can be sent, each from another client, and nothing else. Exit status: 0 if there were
    /// replies and none was wrong, 1 if not, 2 for wrong usage.
    Flood(FloodArguments),
}

/// What every command takes.
#[derive(Debug, Args)]
struct Common {
    /// The interface that leads to the server, in a test network.
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// Print the summary as one JSON document.
    #[arg(long)]
    json: bool,
}

/// What simulated clients say.
#[derive(Debug, Args)]
struct Conversation {
    /// How many clients. They are the same in every run, so a server may know them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    clients: u32,
    /// Solicit, Advertise, Request, Reply. The default.
    #[arg(long, conflicts_with = "rapid_commit")]
    four_message: bool,
    /// Solicit and Reply.
    #[arg(long)]
    rapid_commit: bool,
    /// Send no more messages than this.
    #[arg(long, value_name = "N", default_value_t = 100_000_000)]
    messages: u64,
    /// How many threads play the clients, each its part of them. One is enough unless it uses a whole processor.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
    /// Have clients look whether somebody else on the link uses the address that they are given (duplicate address
    /// detection, RFC 4862), and decline it where somebody answers within this time; 1000 where no number is given.
    #[arg(long, value_name = "MILLISECONDS", num_args = 0..=1, default_missing_value = "1000", value_parser = clap::value_parser!(u64).range(1..=60_000), conflicts_with = "relay")]
    dad: Option<u64>,
}

impl Conversation {
    fn mode(&self) -> Mode {
        if self.rapid_commit { Mode::RapidCommit } else { Mode::FourMessage }
    }
}

/// What simulated clients ask for.
#[derive(Debug, Args)]
struct Wishes {
    /// Ask for a delegated prefix (IA_PD) instead of an address (IA_NA).
    #[arg(long, conflicts_with = "na_and_pd")]
    pd: bool,
    /// Ask for an address and a delegated prefix.
    #[arg(long)]
    na_and_pd: bool,
    /// Wait for all offers, about a second, and take that of the server with the highest preference.
    #[arg(long, conflicts_with = "rapid_commit")]
    by_preference: bool,
    /// Send everything through this many simulated relay agents, one behind the other; 1 where no number is given. They
    /// add Interface-Id and Remote-ID, and the answers go to the last one's link-local address.
    #[arg(long, value_name = "DEPTH", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u8).range(1..=i64::from(Relays::MAX_DEPTH)))]
    relay: Option<u8>,
    /// The link-address of the relay agent next to the clients.
    #[arg(long, value_name = "ADDRESS", default_value = "::", requires = "relay")]
    link_address: Ipv6Addr,
}

impl Wishes {
    fn ask(&self) -> Ask {
        match self {
            Self { pd: true, .. } => Ask::Prefix,
            Self { na_and_pd: true, .. } => Ask::Both,
            _ => Ask::Address,
        }
    }

    fn relays(&self) -> Option<Relays> {
        self.relay.map(|depth| Relays { depth, link_address: self.link_address, chain: 0 })
    }
}

/// What a client does with its lease.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum StepChoice {
    Renew,
    Rebind,
    Release,
    Decline,
    InformationRequest,
}

impl From<StepChoice> for Step {
    fn from(choice: StepChoice) -> Self {
        match choice {
            StepChoice::Renew => Self::Renew,
            StepChoice::Rebind => Self::Rebind,
            StepChoice::Release => Self::Release,
            StepChoice::Decline => Self::Decline,
            StepChoice::InformationRequest => Self::InformationRequest,
        }
    }
}

#[derive(Debug, Args)]
struct Exchange {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    conversation: Conversation,
    #[command(flatten)]
    wishes: Wishes,
    /// Begin this many exchanges in a second, whether earlier ones are answered or not.
    #[arg(long, value_name = "R", value_parser = rate, conflicts_with = "window")]
    rate: Option<f64>,
    /// Begin anew when every client has had its turn, for this many seconds, 1 to 3600. Without it each client has
    /// one exchange, and the run ends after 60 seconds at the latest.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// What clients that have a lease do when it is their turn again, in hundredths of their turns, for example
    /// renew=60,rebind=5,release=5. Otherwise they begin with a Solicit.
    #[arg(long, value_name = "SHARES", value_parser = mix, requires = "seconds", conflicts_with = "then")]
    mix: Option<Mix>,
    /// What each client does when it has its lease, in this order, for example renew,rebind,release.
    #[arg(long, value_name = "STEPS", value_delimiter = ',')]
    then: Vec<StepChoice>,
    /// How many exchanges are outstanding at a time.
    #[arg(long, value_name = "W", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
}

#[derive(Debug, Args)]
struct StormArguments {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    conversation: Conversation,
    #[command(flatten)]
    wishes: Wishes,
    /// End the run after this many seconds, served or not, 1 to 3600.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Let each client wait for a random time of up to a second first, as RFC 9915, section 18.2.1 has it.
    #[arg(long)]
    initial_delay: bool,
}

#[derive(Debug, Args)]
struct FloodArguments {
    #[command(flatten)]
    common: Common,
    /// How many clients. They are the same in every run, so a server may know them.
    #[arg(long, value_name = "N", required_unless_present = "pcap", value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    clients: Option<u32>,
    /// How many frames; of a capture: each once where this is not given.
    #[arg(long, value_name = "N", required_unless_present = "pcap", value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    packets: Option<u64>,
    /// Send the Ethernet frames of a capture (pcap or pcapng) as they are, and count what comes back.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["clients", "unknown", "malformed", "four_message", "engine"])]
    pcap: Option<PathBuf>,
    /// Send so many frames of the capture in a second.
    #[arg(long, value_name = "R", value_parser = rate, requires = "pcap")]
    rate: Option<f64>,
    /// Hundredths of the frames that are from clients that the server has never heard of; each gets an address.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100))]
    unknown: u8,
    /// Hundredths of the frames that are malformed, in four ways.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100))]
    malformed: u8,
    /// Without Rapid Commit, so that servers answer with Advertise messages.
    #[arg(long)]
    four_message: bool,
    /// What sends: an XDP program in the kernel, a packet socket, or the former where it works.
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    engine: EngineChoice,
    /// End after this many seconds, whether all frames are sent or not, 1 to 3600.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EngineChoice {
    Auto,
    LiveFrames,
    PacketSocket,
}

impl FloodArguments {
    fn run(&self) -> ExitCode {
        let Self { common, clients, packets, pcap, rate, unknown, malformed, four_message, engine, seconds } =
            self;
        let patience = Duration::from_secs(*seconds);
        if let Some(path) = pcap {
            return send_capture(common, path, (*packets, *rate), patience);
        }
        let (clients, packets) = (clients.unwrap_or_default(), packets.unwrap_or_default());
        if unknown + malformed > 100 {
            let message = "--unknown and --malformed are more than 100 together";
            Arguments::command().error(ErrorKind::ValueValidation, message).exit();
        }
        let volley = Volley {
            clients,
            packets,
            unknown: *unknown,
            malformed: *malformed,
            mode: if *four_message { Mode::FourMessage } else { Mode::RapidCommit },
            engine: match engine {
                EngineChoice::Auto => None,
                EngineChoice::LiveFrames => Some(Engine::LiveFrames),
                EngineChoice::PacketSocket => Some(Engine::PacketSocket),
            },
            patience,
        };
        let bar = progress_bar(packets);
        let result = fire(&common.interface, &volley, |VolleyProgress { sent, received, wrong }| {
            bar.set_position(sent);
            bar.set_message(format!("{received} replies, {wrong} wrong"));
        });
        bar.finish_and_clear();
        finish(&result, common.json, VolleySummary::is_fine, |summary| VolleyForPeople(summary).to_string())
    }
}

/// Sends a capture, under a progress bar, and prints what came back. Returns the exit status.
fn send_capture(
    common: &Common,
    path: &Path,
    (packets, rate): (Option<u64>, Option<f64>),
    patience: Duration,
) -> ExitCode {
    let capture = match Capture::read(path) {
        Ok(capture) => capture,
        Err(failure) => {
            eprintln!("dhcp6flood: cannot send the frames of {}: {failure}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let packets = packets.unwrap_or(capture.len());
    let bar = progress_bar(packets);
    let plan = Replay { packets, rate, patience };
    let result = replay(&common.interface, &capture, &plan, |VolleyProgress { sent, received, wrong }| {
        bar.set_position(sent);
        bar.set_message(format!("{received} messages came back, {wrong} wrong"));
    });
    bar.finish_and_clear();
    finish(&result, common.json, ReplaySummary::is_fine, |summary| ReplayForPeople(summary).to_string())
}

fn mix(text: &str) -> Result<Mix, String> {
    let share = |part: &str| {
        let (name, share) = part.split_once('=').ok_or_else(|| format!("`{part}` is not like renew=60"))?;
        let step = StepChoice::from_str(name, false).map_err(|_| {
            let names = StepChoice::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let names: Vec<_> = names.map(|name| name.get_name().to_owned()).collect();
            format!("`{name}` is none of {}", names.join(", "))
        })?;
        let share = share.parse().map_err(|_| format!("`{share}` is not a number from 0 to 100"))?;
        Ok((step.into(), share))
    };
    let shares: Result<_, String> = text.split(',').map(share).collect();
    Mix::new(shares?).map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=10_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("not from 0.001 to 10000000".to_owned())
    }
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Exchange(arguments) => {
            simulate(&arguments.common, &arguments.plan(), arguments.conversation.threads)
        }
        Command::Storm(arguments) => {
            simulate(&arguments.common, &arguments.plan(), arguments.conversation.threads)
        }
        Command::Flood(arguments) => arguments.run(),
    }
}

impl Exchange {
    fn plan(&self) -> Plan {
        let pace = self.rate.map_or(Pace::Window(self.window), Pace::Rate);
        Plan {
            then: self.then.iter().map(|step| (*step).into()).collect(),
            mix: self.mix.clone().unwrap_or_default(),
            duration: self.seconds.map(Duration::from_secs),
            ..one_exchange_each(&self.conversation, &self.wishes, pace, PATIENCE)
        }
    }
}

impl StormArguments {
    fn plan(&self) -> Plan {
        let pace = Pace::Storm { initial_delay: self.initial_delay };
        let patience = Duration::from_secs(self.seconds);
        one_exchange_each(&self.conversation, &self.wishes, pace, patience)
    }
}

fn one_exchange_each(conversation: &Conversation, wishes: &Wishes, pace: Pace, patience: Duration) -> Plan {
    Plan {
        clients: conversation.clients,
        mode: conversation.mode(),
        ask: wishes.ask(),
        by_preference: wishes.by_preference,
        relays: wishes.relays(),
        then: Vec::new(),
        mix: Mix::default(),
        dad: conversation.dad.map(Duration::from_millis),
        pace,
        duration: None,
        patience,
        messages: conversation.messages,
    }
}

/// Runs simulated clients, under a progress bar, and prints what was found. Returns the exit status.
fn simulate(common: &Common, plan: &Plan, threads: u8) -> ExitCode {
    let bar = progress_bar(1000);
    let result = run(&common.interface, plan, threads, |progress| show_progress(&bar, progress));
    bar.finish_and_clear();
    finish(&result, common.json, Summary::is_fine, |summary| ForPeople(summary).to_string())
}

/// A bar that draws nothing where stderr is not a terminal.
fn progress_bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3} % {msg}");
    bar.set_style(style.expect("the template is valid"));
    bar
}

fn show_progress(bar: &ProgressBar, Progress { part, answered, wrong }: Progress) {
    #[expect(clippy::cast_sign_loss, reason = "progress is not negative")]
    bar.set_position((part * 1000.0) as u64);
    bar.set_message(format!("{answered} answered, {wrong} wrong"));
}

/// Prints the summary of a run. Returns the exit status.
fn finish<T: Serialize>(
    result: &Result<T, RunError>,
    json: bool,
    is_fine: fn(&T) -> bool,
    for_people: fn(&T) -> String,
) -> ExitCode {
    let summary = match result {
        Ok(summary) => summary,
        Err(failure) => {
            eprintln!("dhcp6flood: {failure}");
            return ExitCode::FAILURE;
        }
    };
    if json {
        println!("{}", serde_json::to_string(summary).expect("the document has string keys"));
    } else {
        println!("{}", for_people(summary));
    }
    if is_fine(summary) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
