//! Clients: real ones, and a bare socket.

use std::{
    fs,
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use dhcp6_common::wire::{CLIENT_PORT, SERVER_PORT};
use nix::sys::socket::{MsgFlags, recv};
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;

use crate::{
    frame::MULTICAST,
    netns::{CLIENT_INTERFACE, Namespace},
};

/// A DHCPv6 client of Debian's, with the two-message exchange asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// ISC dhclient.
    Dhclient,
    /// dhcpcd.
    Dhcpcd,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Dhclient, Self::Dhcpcd];

    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dhclient => "dhclient",
            Self::Dhcpcd => "dhcpcd",
        }
    }

    /// Whether it is installed.
    pub fn is_there(self) -> bool {
        let mut command = Command::new(self.name());
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    }

    /// Whether it is installed. Where it is not, says so; in CI that is a failure.
    pub fn is_installed(self) -> bool {
        if self.is_there() {
            return true;
        }
        crate::skip(&crate::not_installed(self.name()));
        false
    }
}

/// A subscriber that runs one of the programs. Its DUID is kept from one run to the next, but not its lease: as
/// after a power cut.
#[derive(Debug)]
pub struct Subscriber {
    program: Program,
    directory: TempDir,
}

impl Subscriber {
    /// A subscriber with a DUID of its own.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn new(program: Program) -> Result<Self> {
        let directory = TempDir::new()?;
        let path = |name| directory.path().join(name);
        let (config, script) = match program {
            Program::Dhclient => {
                ("send dhcp6.rapid-commit;\n".to_owned(), "echo \"$reason $new_ip6_address\"")
            }
            Program::Dhcpcd => (
                format!(
                    "duid\nnoipv4\nnoipv6rs\nnoarp\noption dhcp6_rapid_commit\n\
                     option dhcp6_name_servers, dhcp6_domain_search\nscript {}\n\
                     interface {CLIENT_INTERFACE}\nia_na 7\n",
                    path("script").display()
                ),
                "echo \"$reason $new_dhcp6_ia_na1_ia_addr1\"",
            ),
        };
        fs::write(path("config"), config)?;
        fs::write(path("script"), format!("#!/bin/sh\n{script} >> {}\n", path("events").display()))?;
        fs::set_permissions(path("script"), fs::Permissions::from_mode(0o755))?;
        fs::create_dir(path("state"))?;
        fs::write(path("leases"), "")?;
        Ok(Self { program, directory })
    }

    /// Powers up: gets an address with the DUID of the last time, if any, and no memory of a lease.
    ///
    /// # Errors
    ///
    /// Where it gets none within 20 s: with what the program says.
    pub fn power_up(&self, namespace: &Namespace) -> Result<Ipv6Addr> {
        let path = |name: &str| self.directory.path().join(name);
        fs::write(path("events"), "")?;
        let output = match self.program {
            Program::Dhclient => {
                forget_leases(&path("leases"))?;
                namespace
                    .command("timeout")
                    .args(["20", "dhclient", "-6", "-1", "-v", "-d", "-cf"])
                    .arg(path("config"))
                    .arg("-lf")
                    .arg(path("leases"))
                    .arg("-pf")
                    .arg(path("pid"))
                    .arg("-sf")
                    .arg(path("script"))
                    .arg(CLIENT_INTERFACE)
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .and_then(|client| {
                        // It stays to renew its lease; once bound it has served its purpose.
                        wait_for_event(&path("events"), "BOUND6");
                        fs::read_to_string(path("pid"))
                            .map(|pid| Command::new("kill").arg(pid.trim()).status())
                            .ok();
                        client.wait_with_output()
                    })
            }
            Program::Dhcpcd => namespace
                .command("timeout")
                .args(["20", "unshare", "--mount", "sh", "-c"])
                .arg(format!(
                    "mkdir -p /run/dhcpcd && mount --bind {state} /var/lib/dhcpcd && mount -t tmpfs tmpfs \
                     /run/dhcpcd && rm -f /var/lib/dhcpcd/*.lease6 && \
                     exec dhcpcd -6 -1 -d -B -f {config} {CLIENT_INTERFACE}",
                    state = path("state").display(),
                    config = path("config").display(),
                ))
                .stdin(Stdio::null())
                .output(),
        }
        .with_context(|| format!("cannot run {}", self.program.name()))?;
        let events = fs::read_to_string(path("events"))?;
        let bound = events.lines().find_map(|line| line.strip_prefix("BOUND6 "));
        match bound {
            Some(address) => Ok(address.trim().parse()?),
            None => bail!(
                "{} got no address: {}{}",
                self.program.name(),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    }
}

/// Leaves only the DUID in a lease file of dhclient's.
fn forget_leases(file: &Path) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let duid: Vec<_> = text.lines().filter(|line| line.starts_with("default-duid")).collect();
    fs::write(
        file,
        duid.join(
            "
",
        ),
    )?;
    Ok(())
}

fn wait_for_event(events: &Path, event: &str) {
    for _ in 0..400 {
        if fs::read_to_string(events).is_ok_and(|events| events.contains(event)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A socket on a client's port, for messages that no real client sends.
#[derive(Debug)]
pub struct BareClient {
    socket: UdpSocket,
    scope: u32,
    server_port: u16,
}

impl BareClient {
    /// Opens the socket in a namespace, on the client's port of the RFC.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn open(namespace: &Namespace) -> Result<Self> {
        Self::open_on(namespace, CLIENT_PORT, SERVER_PORT)
    }

    /// Opens the socket on other ports.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn open_on(namespace: &Namespace, client_port: u16, server_port: u16) -> Result<Self> {
        namespace.enter(|| {
            let scope = nix::net::if_::if_nametoindex(CLIENT_INTERFACE)?;
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_reuse_address(true)?;
            socket.set_multicast_if_v6(scope)?;
            socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, client_port, 0, 0).into())?;
            let socket = UdpSocket::from(socket);
            socket.set_read_timeout(Some(Duration::from_secs(3)))?;
            Ok(Self { socket, scope, server_port })
        })
    }

    /// Sends a message to ff02::1:2.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn send(&self, message: &[u8]) -> Result<()> {
        self.send_to(MULTICAST, message)
    }

    /// Sends a message to an address on the client's interface.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn send_to(&self, address: Ipv6Addr, message: &[u8]) -> Result<()> {
        self.socket.send_to(message, SocketAddrV6::new(address, self.server_port, 0, self.scope))?;
        Ok(())
    }

    /// The next message that comes within `patience`; `None` where none does.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn receive(&self, patience: Duration) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 65535];
        self.socket.set_read_timeout(Some(patience))?;
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(len) => {
                    buffer.truncate(len);
                    return Ok(Some(buffer));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                // A process that is stopped for a moment, or moved to another machine, is interrupted by that.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next message, where one is there already.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn poll(&self) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 65535];
        match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(len) => {
                buffer.truncate(len);
                Ok(Some(buffer))
            }
            Err(nix::Error::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a message and returns the answer.
    ///
    /// # Errors
    ///
    /// Where none comes within three seconds.
    pub fn exchange(&self, message: &[u8]) -> Result<Vec<u8>> {
        self.send(message)?;
        self.receive(Duration::from_secs(3))?.context("no answer")
    }
}
