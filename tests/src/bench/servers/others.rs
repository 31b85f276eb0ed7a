//! Other DHCPv6 servers, for comparison.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::POOL;
use crate::netns::{Namespace, SERVER_INTERFACE};

/// How long a server may take to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server of Debian's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Other {
    /// Kea with its own lease file and several threads.
    Kea,
    /// ISC dhcpd.
    Dhcpd,
    /// dnsmasq.
    Dnsmasq,
}

impl Other {
    /// All of them.
    pub(in crate::bench) const ALL: [Self; 3] = [Self::Kea, Self::Dhcpd, Self::Dnsmasq];

    /// The name in the results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kea => "Kea",
            Self::Dhcpd => "ISC dhcpd",
            Self::Dnsmasq => "dnsmasq",
        }
    }

    /// Whether it takes some ten new clients a second, and not thousands.
    pub(in crate::bench) fn is_slow(self) -> bool {
        self == Self::Dnsmasq
    }

    fn program(self) -> &'static str {
        match self {
            Self::Kea => "kea-dhcp6",
            Self::Dhcpd => "dhcpd",
            Self::Dnsmasq => "dnsmasq",
        }
    }

    /// What it calls itself, with its version; `None` where it is not installed.
    pub(in crate::bench) fn version(self) -> Option<String> {
        let argument = if self == Self::Kea { "-v" } else { "--version" };
        let output = Command::new(self.program()).arg(argument).output().ok()?;
        // dhcpd tells it on the standard error.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| !line.trim().is_empty())?.trim();
        let version = line.split("  ").next().unwrap_or(line);
        Some(match self {
            Self::Kea => format!("Kea {version}"),
            _ => version.to_owned(),
        })
    }

    /// Starts it on the server's end of a wire, with no leases. It may take a while until it answers.
    ///
    /// # Errors
    ///
    /// Where it cannot be run.
    pub(super) fn start(self, namespace: &Namespace) -> Result<Running> {
        let directory = TempDir::new()?;
        let path = |name: &str| directory.path().join(name).display().to_string();
        let mut command = namespace.command(self.program());
        match self {
            Self::Kea => {
                fs::write(path("config"), kea(directory.path()))?;
                command.args(["-c", &path("config")]);
                command.env("KEA_PIDFILE_DIR", directory.path());
                command.env("KEA_LOCKFILE_DIR", directory.path());
            }
            Self::Dhcpd => {
                fs::write(path("config"), dhcpd())?;
                fs::write(path("leases"), "")?;
                command.args(["-6", "-f", "-q", "-cf", &path("config"), "-lf", &path("leases")]);
                command.args(["-pf", &path("pid"), SERVER_INTERFACE]);
            }
            Self::Dnsmasq => {
                command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0"]);
                command.args(["--quiet-dhcp6", "--dhcp-lease-max=1000000", "--interface", SERVER_INTERFACE]);
                let (first, last) = POOL;
                command.arg(format!("--dhcp-range={first},{last},64,2h"));
                command.arg("--dhcp-option=option6:dns-server,[2001:db8::53]");
                command.arg("--dhcp-option=option6:domain-search,example.net");
                command.arg(format!("--dhcp-leasefile={}", path("leases")));
                command.arg(format!("--pid-file={}", path("pid")));
            }
        }
        let log = fs::File::create(path("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot run {}", self.program()))?;
        Ok(Running { child, directory })
    }
}

/// A server that runs; it is stopped and its files removed with this value.
pub(in crate::bench) struct Running {
    child: Child,
    directory: TempDir,
}

impl Running {
    /// The process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes sure that it has not ended by itself.
    ///
    /// # Errors
    ///
    /// Where it has: with what it said.
    pub(super) fn ensure_running(&mut self) -> Result<()> {
        let status = self.child.try_wait()?;
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        ensure!(status.is_none(), "it has ended: {}", log.trim());
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Kea removes its shared memory when it is asked to stop.
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
        let start = Instant::now();
        while start.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Kea's configuration: leases in a file of its own, several threads.
fn kea(directory: &Path) -> String {
    let (first, last) = POOL;
    let path = |name: &str| directory.join(name).display().to_string();
    json!({ "Dhcp6": {
        "data-directory": directory.display().to_string(),
        "server-id": { "type": "EN", "enterprise-id": 32473, "identifier": "0123456789", "persist": false },
        "interfaces-config": { "interfaces": [SERVER_INTERFACE] },
        "lease-database": {
            "type": "memfile", "persist": true, "name": path("leases"), "lfc-interval": 0,
        },
        "multi-threading": { "enable-multi-threading": true },
        "preferred-lifetime": 3600,
        "valid-lifetime": 7200,
        "option-data": [
            { "name": "dns-servers", "data": "2001:db8::53" },
            { "name": "domain-search", "data": "example.net" },
        ],
        "subnet6": [{
            "id": 1,
            "subnet": "2001:db8:1::/64",
            "interface": SERVER_INTERFACE,
            "rapid-commit": true,
            "pools": [{ "pool": format!("{first}-{last}") }],
        }],
        "loggers": [{
            "name": "kea-dhcp6", "severity": "ERROR", "output_options": [{ "output": "stdout" }],
        }],
    } })
    .to_string()
}

/// The configuration of ISC dhcpd.
fn dhcpd() -> String {
    let (first, last) = POOL;
    format!(
        r#"
authoritative;
default-lease-time 7200;
preferred-lifetime 3600;
option dhcp6.name-servers 2001:db8::53;
option dhcp6.domain-search "example.net";
option dhcp6.rapid-commit;
subnet6 2001:db8:1::/64 {{
    range6 {first} {last};
}}
"#
    )
}
