//! A dhcp6d of the tests' own.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use dhcp6_common::wire::SERVER_PORT;
use dhcp6_userspace::{
    config::{FastPathConfig, XdpModeSetting},
    control::{Query, Status, ask},
    fastpath::{FastPath, Rendering},
    net::Interface,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    netns::{CLIENT_INTERFACE, Namespace, SERVER_INTERFACE, Wire, run, unique_name},
    service_manager::ServiceManager,
};

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

const CANNOT_START: &str = "cannot start dhcp6d";
/// Where a process says that it serves (sd_notify).
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// The directory of the programs under test: where `cargo xtask` says, or target/release.
pub fn binary(name: &str) -> PathBuf {
    let directory = std::env::var_os("DHCP6_BIN_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release"), PathBuf::from);
    directory.join(name)
}

/// Whether, and how, the XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// No XDP program.
    DaemonOnly,
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

impl Plane {
    fn config(self) -> &'static str {
        match self {
            Self::DaemonOnly => "enabled = false",
            Self::Native => "mode = \"native\"",
            Self::Generic => "mode = \"generic\"",
        }
    }
}

/// What a test adds to a server's configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Additions<'a> {
    /// Further keys of the server, one a line.
    pub server: &'a str,
    /// Further keys of the fast path, one a line.
    pub fast_path: &'a str,
    /// Further keys of the link, one a line.
    pub link: &'a str,
    /// Further keys of the pool of addresses, one a line.
    pub pool: &'a str,
    /// What follows at the end of the file.
    pub file: &'a str,
}

/// Who a server runs as, and where it listens.
#[derive(Clone, Copy, Debug)]
struct Account {
    port: u16,
    /// A user without privileges; root where `None`.
    user: Option<u32>,
}

/// A server on the server's end of a wire. Its files, pins and process vanish with it.
pub struct Server<'a> {
    namespace: &'a Namespace,
    account: Account,
    directory: TempDir,
    pin_dir: PathBuf,
    /// Of the process, from the next start on.
    environment: Vec<(&'static str, OsString)>,
    /// `None` before the first start.
    child: Option<Child>,
    /// Native XDP_TX over veth is delivered only where the peer runs a native program: one that passes all.
    _peer: Option<Peer>,
}

/// A program on a client's interface.
pub struct Peer {
    _program: FastPath,
    pin_dir: PathBuf,
}

impl Drop for Peer {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.pin_dir).ok();
    }
}

impl<'a> Server<'a> {
    /// Starts a server with the two-message exchange, a pool of 61,440 addresses and two options, and waits
    /// until it serves.
    ///
    /// # Errors
    ///
    /// Where it does not start: with its log.
    pub fn start(wire: &'a Wire, plane: Plane) -> Result<Self> {
        Self::start_with(wire, plane, &Additions::default())
    }

    /// Starts a server as [`Server::start`] does, with additions to its configuration.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn start_with(wire: &'a Wire, plane: Plane, additions: &Additions<'_>) -> Result<Self> {
        Self::start_as(wire, plane, Account { port: SERVER_PORT, user: None }, additions)
    }

    /// Starts a server without privileges and without an XDP program, on another port.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn start_unprivileged(wire: &'a Wire, port: u16) -> Result<Self> {
        const NOBODY: u32 = 65534;
        Self::start_as(wire, Plane::DaemonOnly, Account { port, user: Some(NOBODY) }, &Additions::default())
    }

    fn start_as(wire: &'a Wire, plane: Plane, account: Account, additions: &Additions<'_>) -> Result<Self> {
        let mut server = Self::prepare_as(wire, plane, account, additions)?;
        server.restart()?;
        Ok(server)
    }

    /// Prepares everything for a server as [`Server::start_with`] does, and does not start it.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn prepare(wire: &'a Wire, plane: Plane, additions: &Additions<'_>) -> Result<Self> {
        Self::prepare_as(wire, plane, Account { port: SERVER_PORT, user: None }, additions)
    }

    fn prepare_as(wire: &'a Wire, plane: Plane, account: Account, additions: &Additions<'_>) -> Result<Self> {
        let Additions { server, fast_path, link, pool, file } = additions;
        let directory = TempDir::new()?;
        let pin_dir = Path::new("/sys/fs/bpf").join(unique_name("pins"));
        let state = directory.path().display();
        let config = format!(
            r#"
[server]
state_dir = "{state}/state"
port = {port}
{server}

[control]
socket = "{state}/control.sock"

[fast_path]
{plane}
max_bindings = 1024
pin_dir = "{pins}"
{fast_path}

[[link]]
name = "access0"
interface = "{SERVER_INTERFACE}"
prefix = "2001:db8:1::/64"
rapid_commit = true
{link}

[[link.pool]]
range = "2001:db8:1::1000-2001:db8:1::ffff"
{pool}

[link.options]
dns_servers = ["2001:db8::53"]
domain_search = ["example.net"]

{file}
"#,
            port = account.port,
            plane = plane.config(),
            pins = pin_dir.display(),
        );
        fs::write(directory.path().join("dhcp6d.toml"), config)?;
        let peer = (plane == Plane::Native).then(|| pass_all(&wire.client)).transpose()?;
        if account.user.is_some() {
            chown(directory.path(), account.user, account.user)?;
        }
        let environment = Vec::new();
        Ok(Self {
            namespace: &wire.server,
            account,
            directory,
            pin_dir,
            environment,
            child: None,
            _peer: peer,
        })
    }

    /// Kills the server as a power cut would (SIGKILL).
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("dhcp6d was not started")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Starts the server again on the same state.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_until_ready()
    }

    /// Starts the server, the first time or again, and does not wait until it serves.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn spawn(&mut self) -> Result<()> {
        let mut command = command(self.namespace, self.directory.path(), self.account)?;
        self.child = Some(command.envs(self.environment.clone()).spawn().context(CANNOT_START)?);
        Ok(())
    }

    /// Starts the server as [`Server::spawn`] does; it says on the socket `notify` when it serves (sd_notify).
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn spawn_notifying(&mut self, notify: &Path) -> Result<()> {
        self.environment.push((NOTIFY_SOCKET, notify.into()));
        self.spawn()?;
        self.environment.pop();
        Ok(())
    }

    /// Sets a variable of the process's environment, from the next start on.
    pub fn set_environment(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.push((name, value.into()));
    }

    /// The process, where one was started.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts the server, which is to end by itself with a status other than 0. Returns what it has logged.
    ///
    /// # Errors
    ///
    /// Where it does not end, or with status 0.
    pub fn fail_to_start(&mut self) -> Result<String> {
        let before = self.log().len();
        self.spawn()?;
        let status = self.wait()?;
        let log = self.log().split_off(before);
        ensure!(!status.success(), "dhcp6d ended with {status}: {log}");
        Ok(log)
    }

    /// Waits until the server serves.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        while !self.is_ready()? {
            ensure!(started.elapsed() < PATIENCE, "dhcp6d does not start: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Starts the server, the first time or again, as a service, and waits until it serves.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn restart_under(&mut self, manager: &ServiceManager) -> Result<()> {
        let path = |name| self.directory.path().join(name);
        let config = path("dhcp6d.toml");
        let arguments = ["--config", config.to_str().context("a path")?];
        self.child = Some(manager.start(self.namespace, &binary("dhcp6d"), &arguments, &path("log"))?);
        self.wait_until_ready()
    }

    /// Whether the server serves.
    ///
    /// # Errors
    ///
    /// As [`Server::ensure_running`].
    pub fn is_ready(&mut self) -> Result<bool> {
        self.ensure_running()?;
        Ok(ask::<Status>(&self.socket(), &Query::Status).is_ok())
    }

    /// Makes sure that the server has not ended by itself.
    ///
    /// # Errors
    ///
    /// Where it has: with its log.
    pub fn ensure_running(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("dhcp6d was not started")?;
        if let Some(status) = child.try_wait()? {
            bail!("dhcp6d ended with {status}: {}", self.log());
        }
        Ok(())
    }

    /// Stops the server with SIGTERM, and returns how long it took.
    ///
    /// # Errors
    ///
    /// Where it does not stop, or not with status 0.
    pub fn stop(&mut self) -> Result<Duration> {
        let started = Instant::now();
        self.signal(Signal::SIGTERM)?;
        let status = self.wait()?;
        ensure!(status.success(), "dhcp6d ended with {status}: {}", self.log());
        Ok(started.elapsed())
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let started = Instant::now();
        let child = self.child.as_mut().context("dhcp6d was not started")?;
        while started.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("dhcp6d does not stop: {}", self.log())
    }

    /// Changes the configuration file; the server reads it when it is told to.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn configure(&self, change: impl FnOnce(&str) -> String) -> Result<()> {
        let path = self.directory.path().join("dhcp6d.toml");
        let changed = change(&fs::read_to_string(&path)?);
        Ok(fs::write(path, changed)?)
    }

    /// The lease database.
    pub fn database(&self) -> PathBuf {
        self.directory.path().join("state/leases.sqlite")
    }

    /// Tells the server to read its configuration again (SIGHUP).
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("dhcp6d was not started")?;
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
    }

    /// Takes what the stopped server has left in the kernel away (`--detach`).
    ///
    /// # Errors
    ///
    /// Where dhcp6d refuses: with what it says.
    pub fn detach(&self) -> Result<()> {
        let mut command = self.namespace.command(binary("dhcp6d"));
        command.arg("--config").arg(self.directory.path().join("dhcp6d.toml")).arg("--detach");
        run(&mut command).map(drop)
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Runs `dhcp6ctl`.
    ///
    /// # Errors
    ///
    /// Where it cannot be run.
    pub fn ctl(&self, arguments: &[&str]) -> Result<Output> {
        Command::new(binary("dhcp6ctl"))
            .arg("--socket")
            .arg(self.socket())
            .arg("--pin-dir")
            .arg(&self.pin_dir)
            .args(arguments)
            .output()
            .context("cannot run dhcp6ctl")
    }

    /// Runs `dhcp6ctl --json` and reads its document.
    ///
    /// # Errors
    ///
    /// Where it fails: with what it says.
    pub fn ctl_json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.ctl(&[&["--json"], arguments].concat())?;
        ensure!(
            output.status.success(),
            "dhcp6ctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// How many frames the XDP program has answered.
    ///
    /// # Errors
    ///
    /// As [`Server::ctl_json`].
    pub fn answered(&self) -> Result<u64> {
        let stats = self.ctl_json(&["stats"])?;
        Ok(stats["fast_path"]["answered"].as_u64().unwrap_or_default())
    }

    /// How many Replies the daemon has sent.
    ///
    /// # Errors
    ///
    /// As [`Server::ctl_json`].
    pub fn replies(&self) -> Result<u64> {
        let stats = self.ctl_json(&["stats"])?;
        stats["slow_path"]["sent"]["reply"].as_u64().context("no count of Replies")
    }

    /// The directory that the server keeps its state in, which it makes itself where it is not there.
    pub fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// The directory that the server pins its maps under.
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
        fs::remove_dir_all(&self.pin_dir).ok();
    }
}

fn command(namespace: &Namespace, directory: &Path, account: Account) -> Result<Command> {
    let log = fs::OpenOptions::new().create(true).append(true).open(directory.join("log"))?;
    let program = binary("dhcp6d");
    let mut command = match account.user {
        None => namespace.command(program),
        Some(user) => {
            let mut command = namespace.command("setpriv");
            command.args([format!("--reuid={user}"), format!("--regid={user}")]);
            command.args(["--clear-groups", "--inh-caps=-all", "--"]).arg(program);
            command
        }
    };
    command.arg("--config").arg(directory.join("dhcp6d.toml")).stdin(Stdio::null()).stderr(log);
    Ok(command)
}

/// Attaches the project's own XDP program, without a link to serve, to the client's interface.
///
/// # Errors
///
/// Where the kernel refuses it.
pub fn pass_all(client: &Namespace) -> Result<Peer> {
    let pin_dir = Path::new("/sys/fs/bpf").join(unique_name("peer"));
    let config = FastPathConfig {
        enabled: true,
        mode: XdpModeSetting::Native,
        max_bindings: 1,
        pin_dir: pin_dir.clone(),
        horizon: Duration::ZERO,
        log: false,
        admission: None,
    };
    let mut program = FastPath::load(&config, &Rendering::silent())?;
    let attach = || {
        let interface = Interface::find(CLIENT_INTERFACE)?;
        anyhow::Ok(program.attach(0, &interface, XdpModeSetting::Native).map(drop)?)
    };
    client.enter(attach)?;
    Ok(Peer { _program: program, pin_dir })
}
