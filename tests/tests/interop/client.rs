//! What the tests know of a client, and how they run one.

use std::{
    env, fs,
    net::Ipv6Addr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use dhcp6_userspace::pool::{AddressRange, IaKind, Resource};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tests::netns::{CLIENT_INTERFACE, Namespace, run};

use crate::table::Feature;

/// What a client can do, or why it cannot.
pub(crate) type Ability<T = ()> = std::result::Result<T, &'static str>;

/// What a client is told to ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// The two-message exchange.
    pub(crate) rapid_commit: bool,
    /// An identity association of each of these kinds.
    pub(crate) ias: &'static [IaKind],
}

impl Wish {
    /// The text of a configuration, or of one of its parts, where the client is to ask for addresses.
    pub(crate) fn with_address(self, text: &str) -> &str {
        if self.ias.contains(&IaKind::Na) { text } else { "" }
    }

    /// The text where it is to ask for prefixes.
    pub(crate) fn with_prefix(self, text: &str) -> &str {
        if self.ias.contains(&IaKind::Pd) { text } else { "" }
    }

    /// The text where it is to ask for the two-message exchange.
    pub(crate) fn with_rapid_commit(self, text: &str) -> &str {
        if self.rapid_commit { text } else { "" }
    }
}

/// A client.
///
/// Its commands are for `sh`, in a mount namespace with a private `/etc` and `/run`. They find the client's files
/// in the working directory, which is also `$HOME`. A host that is to get a prefix has an interface of its own,
/// `lan0`, that it may put addresses of the prefix on.
pub(crate) struct Client {
    /// What it is called.
    pub(crate) name: &'static str,
    /// The program, and Debian's package with it.
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    /// Its configuration.
    pub(crate) config: fn(Wish) -> String,
    /// The arguments with which it asks for that, which its commands find as `$ARGUMENTS`; empty where the
    /// configuration says it.
    pub(crate) arguments: fn(Wish) -> &'static str,
    /// A script that the client is to run when something happens, where it has no script of its own.
    pub(crate) script: &'static str,
    /// Starts it in the foreground.
    pub(crate) start: &'static str,
    /// Prints the options that it has received.
    pub(crate) options: &'static str,
    /// How it shows its prefix.
    pub(crate) delegation: Delegation,
    /// What it does not always do for all IAs in one message.
    pub(crate) one_by_one: OneByOne,
    /// Forgets its leases but not its DUID.
    pub(crate) forget: &'static str,
    /// Timers with which it renews soon.
    pub(crate) renewal: Timers,
    /// How it is stopped so that it releases its lease.
    pub(crate) release: Ability<Release>,
    /// Timers with which it sends a Rebind soon.
    pub(crate) rebind: Ability<Outage>,
    /// Whether it declines an address that is in use.
    pub(crate) decline: Ability,
    /// Whether it has to be started again then.
    pub(crate) crashes_after_decline: bool,
    /// Whether the XDP program answers it when it comes back without a lease.
    pub(crate) fast_path: Ability,
}

/// How a client shows the prefix that is delegated to it.
pub(crate) enum Delegation {
    /// It assigns an address of the prefix to `lan0`.
    Assigned,
    /// This prints the prefix.
    Printed(&'static str),
}

/// What a client sends a message with just one of its IAs for, at least at times.
pub(crate) struct OneByOne {
    pub(crate) features: &'static [Feature],
    pub(crate) why: &'static str,
}

impl OneByOne {
    /// All IAs are in every message.
    pub(crate) const NEVER: Self = Self { features: &[], why: "" };
}

/// T1 and T2 in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Timers {
    pub(crate) t1: u32,
    pub(crate) t2: u32,
}

impl Timers {
    /// As keys of a link, with lifetimes to match.
    pub(crate) fn settings(self) -> String {
        let Self { t1, t2 } = self;
        let preferred = t2 + 3;
        let valid = 2 * preferred;
        format!("t1 = {t1}\nt2 = {t2}\npreferred_lifetime = {preferred}\nvalid_lifetime = {valid}")
    }
}

/// How long the server is away, such that a Renew goes unanswered and the Rebind does not.
pub(crate) struct Outage {
    pub(crate) timers: Timers,
    pub(crate) lasts: Duration,
}

/// An orderly stop.
pub(crate) enum Release {
    Signal(Signal),
    Command(&'static str),
}

impl Client {
    /// Whether it is installed. Where it is not, says so; in CI that is a failure.
    pub(crate) fn is_installed(&self) -> bool {
        let path = env::var_os("PATH").unwrap_or_default();
        // A path that is absolute stays what it is.
        if env::split_paths(&path).any(|directory| directory.join(self.program).exists()) {
            return true;
        }
        tests::skip(&tests::not_installed(self.name));
        false
    }

    /// The version of Debian's package; "unknown" elsewhere.
    pub(crate) fn version(&self) -> String {
        run(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", self.package]))
            .unwrap_or_else(|_| "unknown".to_owned())
    }
}

/// The interface that a client may put addresses of its prefix on.
const LAN_INTERFACE: &str = "lan0";

/// A host with a client: its files, its interface and, while it is powered, the client itself.
pub(crate) struct Home<'a> {
    client: &'a Client,
    wish: Wish,
    namespace: &'a Namespace,
    directory: TempDir,
    child: Option<Child>,
}

impl<'a> Home<'a> {
    /// A host that has never run the client.
    pub(crate) fn new(client: &'a Client, wish: Wish, namespace: &'a Namespace) -> Result<Self> {
        let directory = TempDir::new()?;
        let path = |name| directory.path().join(name);
        fs::write(path("config"), (client.config)(wish))?;
        fs::write(
            path("script"),
            format!("#!/bin/sh\ncd '{}'\n{}", directory.path().display(), client.script),
        )?;
        fs::set_permissions(path("script"), fs::Permissions::from_mode(0o755))?;
        fs::create_dir(path("state"))?;
        if wish.ias.contains(&IaKind::Pd) {
            run(namespace.command("ip").args([
                "link",
                "add",
                LAN_INTERFACE,
                "type",
                "veth",
                "peer",
                "lan1",
            ]))?;
            for interface in [LAN_INTERFACE, "lan1"] {
                run(namespace.command("ip").args(["link", "set", interface, "up"]))?;
            }
        }
        Ok(Self { client, wish, namespace, directory, child: None })
    }

    /// Starts the client.
    pub(crate) fn start(&mut self) -> Result<()> {
        let script = format!(
            "mount -t tmpfs tmpfs /run
            mkdir -p /run/etc/upper /run/etc/work
            mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
            {}",
            self.client.start
        );
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.path().join("log"))?;
        let child = self
            .namespace
            .command("unshare")
            .args(["--mount", "--", "sh", "-ec", &script])
            .current_dir(self.directory.path())
            .env("HOME", self.directory.path())
            .env("ARGUMENTS", (self.client.arguments)(self.wish))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the client")?;
        self.child = Some(child);
        Ok(())
    }

    /// Stops the client in its own way of releasing the lease.
    pub(crate) fn release(&self, how: &Release) -> Result<()> {
        match how {
            Release::Signal(signal) => {
                let child = self.child.as_ref().context("the client does not run")?;
                Ok(kill(Pid::from_raw(child.id().cast_signed()), *signal)?)
            }
            Release::Command(command) => self.run(command).map(drop),
        }
    }

    /// Cuts the power: no process, no address and no lease is left, but the DUID.
    pub(crate) fn cut_power(&mut self) -> Result<()> {
        self.namespace.kill_all();
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        let ip = |arguments: &[&str]| run(self.namespace.command("ip").args(arguments));
        ip(&["address", "flush", "dev", CLIENT_INTERFACE, "scope", "global"])?;
        if self.wish.ias.contains(&IaKind::Pd) {
            // Without its routes, too.
            ip(&["link", "set", LAN_INTERFACE, "down"])?;
            ip(&["link", "set", LAN_INTERFACE, "up"])?;
        }
        self.run("rm -f events")?;
        self.run(self.client.forget).map(drop)
    }

    /// Whether the client has an address and may use it, or shows that it has a prefix.
    pub(crate) fn has(&self, resource: Resource) -> Result<bool> {
        match (resource, &self.client.delegation) {
            (Resource::Address(_), _) => self.has_address(CLIENT_INTERFACE, resource.range()),
            (Resource::Prefix(_), Delegation::Assigned) => self.has_address(LAN_INTERFACE, resource.range()),
            (Resource::Prefix(prefix), Delegation::Printed(command)) => {
                let text = self.run(command).unwrap_or_default();
                Ok(text.split_whitespace().any(|word| word == prefix.to_string()))
            }
        }
    }

    /// Whether an interface has an address of a range, and may use it.
    fn has_address(&self, interface: &str, range: AddressRange) -> Result<bool> {
        let mut list = self.namespace.command("ip");
        list.args(["-6", "-oneline", "address", "show", "dev", interface, "scope", "global", "-tentative"]);
        let text = run(&mut list)?;
        let address =
            |line: &str| line.split_whitespace().nth(3)?.split('/').next()?.parse::<Ipv6Addr>().ok();
        Ok(text.lines().filter_map(address).any(|address| range.contains(address)))
    }

    /// The options that the client has received, in words of its own.
    pub(crate) fn options(&self) -> Result<String> {
        self.run(self.client.options)
    }

    /// What the client has written.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn run(&self, command: &str) -> Result<String> {
        let directory: &Path = self.directory.path();
        let mut shell = self.namespace.command("sh");
        shell.args(["-c", command]).current_dir(directory).env("HOME", directory);
        run(shell.env("ARGUMENTS", (self.client.arguments)(self.wish)))
    }
}

impl Drop for Home<'_> {
    fn drop(&mut self) {
        self.namespace.kill_all();
        if let Some(child) = &mut self.child {
            child.wait().ok();
        }
    }
}
