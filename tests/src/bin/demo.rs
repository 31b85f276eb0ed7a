//! Server and client on one machine: the client gets its address twice, first from the daemon, then from the
//! kernel.

use std::{net::Ipv6Addr, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use dhcp6_common::wire::{MessageType, OptionCode, OptionWalker};
use nix::unistd::Uid;
use tests::{
    capture::{Capture, Captured},
    client::{BareClient, Program, Subscriber},
    describe::describe,
    frame::MessageBuilder,
    netns::{CLIENT_INTERFACE, SERVER_INTERFACE, Wire},
    server::{Plane, Server},
};

/// Runs dhcp6d and a client in two network namespaces, and shows who answers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run the XDP program in the network stack instead of the driver.
    #[arg(long)]
    generic: bool,
}

fn main() -> ExitCode {
    let Arguments { generic } = Arguments::parse();
    if !Uid::effective().is_root() {
        eprintln!("demo: this needs root, for network namespaces and BPF: sudo -E cargo xtask demo");
        return ExitCode::FAILURE;
    }
    match run(if generic { Plane::Generic } else { Plane::Native }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("demo: {failure:?}");
            ExitCode::FAILURE
        }
    }
}

/// Who is to get an address.
enum Client {
    /// A program that people use.
    Real(Subscriber),
    /// A Solicit from this program, where no other client is installed.
    Bare(BareClient),
}

impl Client {
    fn power_up(&self, wire: &Wire) -> Result<()> {
        match self {
            Self::Real(subscriber) => subscriber.power_up(&wire.client).map(drop),
            Self::Bare(client) => {
                let solicit = MessageBuilder::new(MessageType::Solicit, rand::random())
                    .client_id(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 0x0a])
                    .rapid_commit()
                    .elapsed_time()
                    .ia_na(1, &[])
                    .request(&[23, 24])
                    .build();
                client.exchange(&solicit).map(drop)
            }
        }
    }
}

fn run(plane: Plane) -> Result<()> {
    let wire = Wire::new()?;
    let server = Server::start(&wire, plane)?;
    let (client, name) = if Program::Dhclient.is_there() {
        (Client::Real(Subscriber::new(Program::Dhclient)?), "ISC dhclient")
    } else {
        (Client::Bare(BareClient::open(&wire.client)?), "a bare client (ISC dhclient is not installed)")
    };
    let mode = server.ctl_json(&["status"])?["fast_path"][0]["mode"].as_str().unwrap_or("no").to_owned();
    println!("\ndhcp6d on {SERVER_INTERFACE} (XDP in {mode} mode) -- veth -- {name} on {CLIENT_INTERFACE}");

    let first = exchange(&wire, &server, &client, "First: the server does not know this client")?;
    ensure!(first.by_daemon == 1 && first.by_kernel == 0, "the daemon should have answered");
    println!("What the kernel knows now (dhcp6ctl map lookup {}):\n", first.duid);
    print_ctl(&server, &["map", "lookup", &first.duid])?;

    let second =
        exchange(&wire, &server, &client, "Second: it powers up again, with no memory of its lease")?;
    ensure!(second.by_kernel == 1 && second.by_daemon == 0, "the kernel should have answered");
    ensure!(first.address == second.address, "the address should be the same");
    println!("What was counted (dhcp6ctl stats):\n");
    print_ctl(&server, &["stats"])?;

    println!(
        "{} twice: from the daemon after {}, from the kernel after {}.",
        first.address.map_or_else(|| "an address".to_owned(), |address| address.to_string()),
        micros(first.latency),
        micros(second.latency)
    );
    Ok(())
}

/// What came of a Solicit.
struct Outcome {
    duid: String,
    address: Option<Ipv6Addr>,
    by_daemon: u64,
    by_kernel: u64,
    latency: Duration,
}

fn exchange(wire: &Wire, server: &Server<'_>, client: &Client, title: &str) -> Result<Outcome> {
    println!("\n{title}\n{}\n", "-".repeat(title.len()));
    let capture = Capture::start(&wire.client)?;
    let (daemon_before, kernel_before) = (server.replies()?, server.answered()?);
    let outcome = client.power_up(wire);
    let (daemon_after, kernel_after) = (server.replies()?, server.answered()?);
    let seen = capture.stop();
    outcome?;
    let (solicit, reply) = solicit_and_reply(&seen).context("no Solicit with a Reply was seen")?;
    let latency = reply.at.saturating_sub(solicit.at);
    print!("client > server   {}", describe(&solicit.message));
    print!("server > client   {} later: {}", micros(latency), describe(&reply.message));
    println!();
    println!("Replies sent by the daemon       {daemon_before} -> {daemon_after}");
    println!("Solicits answered by the kernel  {kernel_before} -> {kernel_after}\n");
    let option = |wanted| {
        OptionWalker::new(&reply.message[4..]).filter_map(Result::ok).find(|option| option.code == wanted)
    };
    let duid = option(OptionCode::CLIENT_ID).context("the Reply has no Client Identifier")?;
    let address = option(OptionCode::IA_NA)
        .and_then(|ia| Some(Ipv6Addr::from(*ia.value.get(16..)?.first_chunk::<16>()?)));
    Ok(Outcome {
        duid: dhcp6_common::wire::Duid::new(duid.value)?.to_string(),
        address,
        by_daemon: daemon_after - daemon_before,
        by_kernel: kernel_after - kernel_before,
        latency,
    })
}

/// The Reply and the Solicit that it answers, by the transaction identifier.
fn solicit_and_reply(seen: &[Captured]) -> Option<(&Captured, &Captured)> {
    let reply = seen.iter().find(|captured| captured.from_server)?;
    let solicit = seen.iter().rev().find(|captured| {
        !captured.from_server
            && captured.at <= reply.at
            && captured.message.get(1..4) == reply.message.get(1..4)
    })?;
    Some((solicit, reply))
}

fn print_ctl(server: &Server<'_>, arguments: &[&str]) -> Result<()> {
    let output = server.ctl(arguments)?;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn micros(duration: Duration) -> String {
    format!("{} µs", duration.as_micros())
}
