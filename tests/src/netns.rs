//! Network namespaces of the tests' own.

use std::{
    fs,
    net::Ipv6Addr,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_userspace::net::{Interface, InterfaceError};
use nix::{
    sched::{CloneFlags, setns},
    unistd::Uid,
};

use crate::describe::hex;

/// Interface of the server in its namespace.
pub const SERVER_INTERFACE: &str = "srv0";
/// Interface of the client in its namespace.
pub const CLIENT_INTERFACE: &str = "cli0";
/// MAC address of the server's interface on a [`Wire`], from which its link-local address follows.
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
/// Link-local address of the server's interface on a [`Wire`].
pub const SERVER_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xaa);

/// Whether this process may make namespaces and load BPF programs. Where it may not, says so; in CI (where the
/// variable CI is set) that is a failure.
pub fn privileged(test: &str) -> bool {
    if Uid::effective().is_root() {
        return true;
    }
    crate::skip(&format!("{test} needs root: it makes network namespaces and loads BPF programs"));
    false
}

/// A name that no other test, in this process or another, has.
pub fn unique_name(label: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("dhcp6-{}-{}-{label}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a command to its end.
///
/// # Errors
///
/// Where it cannot be run, or fails: with what it wrote.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed ({}): {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A network namespace. It vanishes with this value, and what runs in it is killed.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes an empty namespace in which addresses can be used at once (no duplicate address detection).
    ///
    /// # Errors
    ///
    /// What iproute2 says.
    pub fn new(label: &str) -> Result<Self> {
        let namespace = Self { name: unique_name(label) };
        run(Command::new("ip").args(["netns", "add", &namespace.name]))?;
        namespace.enter(|| fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0"))?;
        run(Command::new("ip").args(["-n", &namespace.name, "link", "set", "lo", "up"]))?;
        Ok(namespace)
    }

    /// A command that will run in the namespace. Not by way of `ip netns exec`, which hides the bpffs.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program);
        command
    }

    /// Runs `task` in the namespace, on a thread of its own. Sockets that it opens stay there.
    pub fn enter<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                let namespace = fs::File::open(self.path()).expect("the namespace is there");
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
                task()
            });
            entered.join().expect("the task does not panic")
        })
    }

    /// Kills every process in the namespace, and does not wait for their ends.
    pub fn kill_all(&self) {
        // Nothing more can be done where one of these fails.
        if let Ok(pids) = run(Command::new("ip").args(["netns", "pids", &self.name])) {
            for pid in pids.split_whitespace() {
                run(Command::new("kill").args(["-9", pid])).ok();
            }
        }
    }

    /// Waits until an interface has a link-local address.
    ///
    /// # Errors
    ///
    /// Where there is no such interface, or it gets none.
    pub fn wait_for_link_local(&self, interface: &str) -> Result<()> {
        self.enter(|| {
            let started = Instant::now();
            loop {
                match Interface::find(interface) {
                    Ok(_) => return Ok(()),
                    Err(InterfaceError::NoLinkLocal(_)) if started.elapsed() < Duration::from_secs(10) => {
                        thread::sleep(Duration::from_millis(10));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        })
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.kill_all();
        run(Command::new("ip").args(["netns", "del", &self.name])).ok();
    }
}

/// A server's and a client's namespace, with a veth pair between them.
#[derive(Debug)]
pub struct Wire {
    /// Where the server runs.
    pub server: Namespace,
    /// Where clients run.
    pub client: Namespace,
}

impl Wire {
    /// Makes both namespaces and connects them.
    ///
    /// # Errors
    ///
    /// What iproute2 says.
    pub fn new() -> Result<Self> {
        let wire = Self { server: Namespace::new("s")?, client: Namespace::new("c")? };
        wire.connect(&[])?;
        Ok(wire)
    }

    /// Takes both interfaces away and makes them anew, the server's with the index that it had.
    ///
    /// # Errors
    ///
    /// What iproute2 says.
    pub fn reconnect(&self) -> Result<()> {
        let index = self.server.enter(|| Interface::find(SERVER_INTERFACE))?.index;
        run(self.server.command("ip").args(["link", "del", SERVER_INTERFACE]))?;
        self.connect(&["index", &index.to_string()])
    }

    /// Makes both interfaces anew where they were taken away; the server's gets another index.
    ///
    /// # Errors
    ///
    /// What iproute2 says.
    pub fn connect_anew(&self) -> Result<()> {
        self.connect(&[])
    }

    /// Makes another namespace for clients, behind an interface of the server's own.
    ///
    /// # Errors
    ///
    /// What iproute2 says.
    pub fn add_client(&self, server_interface: &str) -> Result<Namespace> {
        let client = Namespace::new("d")?;
        let mut command = Command::new("ip");
        command.args(["link", "add", server_interface, "netns", &self.server.name, "type", "veth"]);
        run(command.args(["peer", "name", CLIENT_INTERFACE, "netns", &client.name]))?;
        for (namespace, interface) in [(&self.server, server_interface), (&client, CLIENT_INTERFACE)] {
            run(Command::new("ip").args(["-n", &namespace.name, "link", "set", interface, "up"]))?;
        }
        self.server.wait_for_link_local(server_interface)?;
        client.wait_for_link_local(CLIENT_INTERFACE)?;
        Ok(client)
    }

    fn connect(&self, server_end: &[&str]) -> Result<()> {
        let Self { server, client } = self;
        run(Command::new("ip")
            .args(["link", "add", SERVER_INTERFACE, "address", &hex(&SERVER_MAC, ":")])
            .args(server_end)
            .args(["netns", &server.name, "type", "veth"])
            .args(["peer", "name", CLIENT_INTERFACE, "netns", &client.name]))?;
        run(Command::new("ip").args(["-n", &server.name, "link", "set", SERVER_INTERFACE, "up"]))?;
        run(Command::new("ip").args(["-n", &client.name, "link", "set", CLIENT_INTERFACE, "up"]))?;
        server.wait_for_link_local(SERVER_INTERFACE)?;
        client.wait_for_link_local(CLIENT_INTERFACE)
    }
}

/// A server and clients with relay agents in between, each in a namespace of its own.
#[derive(Debug)]
pub struct RelayedWire {
    /// Server and clients, at the two ends.
    pub ends: Wire,
    /// The relay agents, from the server's neighbour to the clients'.
    relays: Vec<Namespace>,
}

impl RelayedWire {
    /// Connects server, relay agents and clients in a row. The segment behind the server is 2001:db8:9:0::/64,
    /// the next one 2001:db8:9:1::/64, and so on; the last, the clients', is 2001:db8:2::/64. On each, the
    /// server's side is ::1 and the other ::2.
    ///
    /// # Errors
    ///
    /// What iproute2 says.
    pub fn new(relays: usize) -> Result<Self> {
        let server = Namespace::new("s")?;
        let client = Namespace::new("c")?;
        let relays: Vec<_> =
            (0..relays).map(|index| Namespace::new(&format!("r{index}"))).collect::<Result<_>>()?;
        let mut upper = (&server, SERVER_INTERFACE);
        for (segment, relay) in relays.iter().enumerate() {
            let prefix = format!("2001:db8:9:{segment}::");
            connect(upper, (relay, RELAY_UPPER), &prefix)?;
            upper = (relay, RELAY_LOWER);
        }
        connect(upper, (&client, CLIENT_INTERFACE), "2001:db8:2::")?;
        // Clients get their address from the server.
        run(Command::new("ip")
            .args(["-n", &client.name, "addr", "del", "2001:db8:2::2/64"])
            .args(["dev", CLIENT_INTERFACE]))?;
        Ok(Self { ends: Wire { server, client }, relays })
    }

    /// Starts ISC dhcrelay on each relay agent.
    ///
    /// # Errors
    ///
    /// Where it cannot be run.
    pub fn start_relays(&self) -> Result<()> {
        for (segment, relay) in self.relays.iter().enumerate() {
            relay
                .command("dhcrelay")
                .args(["-6", "-d", "-I", "--no-pid", "-l", RELAY_LOWER, "-u"])
                .arg(format!("2001:db8:9:{segment}::1%{RELAY_UPPER}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("cannot start dhcrelay")?;
        }
        Ok(())
    }
}

/// Interface of a relay agent towards the server.
const RELAY_UPPER: &str = "up0";
/// Interface of a relay agent towards the clients.
const RELAY_LOWER: &str = "down0";

/// Connects two interfaces, with the addresses ::1 and ::2 of a prefix.
fn connect(upper: (&Namespace, &str), lower: (&Namespace, &str), prefix: &str) -> Result<()> {
    run(Command::new("ip").args(["link", "add", upper.1, "netns", &upper.0.name, "type", "veth"]).args([
        "peer",
        "name",
        lower.1,
        "netns",
        &lower.0.name,
    ]))?;
    for (host, (namespace, interface)) in [(1, upper), (2, lower)] {
        let ip = |arguments: &[&str]| run(Command::new("ip").args(["-n", &namespace.name]).args(arguments));
        ip(&["link", "set", interface, "up"])?;
        ip(&["addr", "add", &format!("{prefix}{host}/64"), "dev", interface])?;
    }
    upper.0.wait_for_link_local(upper.1)?;
    lower.0.wait_for_link_local(lower.1)
}
