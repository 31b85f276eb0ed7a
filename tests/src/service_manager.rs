//! A service manager of the tests' own: it hears what a daemon says (sd_notify(3)), keeps its descriptors, and hands them
//! to the next.

use std::{
    fs::File,
    io::{ErrorKind, IoSliceMut},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{net::UnixDatagram, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    cmsg_space,
    fcntl::{FcntlArg, fcntl},
    libc,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use socket2::SockRef;
use tempfile::TempDir;

use crate::netns::Namespace;

/// How long a daemon may take to say something.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the daemons have said, and left.
#[derive(Debug, Default)]
struct Heard {
    /// By their names; a descriptor is there once.
    store: Vec<(String, OwnedFd)>,
    /// All else, such as `READY=1`, in order.
    said: Vec<String>,
}

/// Hears and keeps until it is dropped.
#[derive(Debug)]
pub struct ServiceManager {
    directory: TempDir,
    heard: Arc<Mutex<Heard>>,
}

impl ServiceManager {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn new() -> Result<Self> {
        let manager = Self { directory: TempDir::new()?, heard: Arc::default() };
        let socket = UnixDatagram::bind(manager.socket())?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let heard = Arc::downgrade(&manager.heard);
        thread::spawn(move || {
            while let Some(heard) = heard.upgrade() {
                if let Some((message, descriptors)) = receive(&socket) {
                    // It has others to hear as well.
                    thread::sleep(Duration::from_millis(20));
                    lock(&heard).take(&message, descriptors);
                }
            }
        });
        Ok(manager)
    }

    /// Puts a descriptor into the store, as if a daemon had left it.
    pub fn put(&self, name: &str, descriptor: OwnedFd) {
        lock(&self.heard).store.push((name.to_owned(), descriptor));
    }

    /// Closes all that is in the store.
    pub fn forget(&self) {
        lock(&self.heard).store.clear();
    }

    /// Makes sure that descriptors of these names are in the store, and no others, as soon as the daemon has said so.
    ///
    /// # Errors
    ///
    /// Where there are others after five seconds.
    pub fn keeps(&self, names: &[&str]) -> Result<()> {
        self.wait_for(|heard| {
            let mut kept: Vec<_> = heard.store.iter().map(|(name, _)| name.as_str()).collect();
            kept.sort_unstable();
            kept == names
        })
        .with_context(|| format!("not {names:?}"))
    }

    /// Makes sure that the daemons have said so much, one after the other. Of what has a changing value, only what is
    /// before the value counts.
    ///
    /// # Errors
    ///
    /// Where they have said otherwise after five seconds.
    pub fn has_heard(&self, expected: &[&str]) -> Result<()> {
        self.wait_for(|heard| {
            heard.said.len() == expected.len()
                && heard.said.iter().zip(expected).all(|(said, expected)| said.starts_with(expected))
        })
        .with_context(|| format!("not {expected:?}"))
    }

    fn wait_for(&self, mut is_fine: impl FnMut(&Heard) -> bool) -> Result<()> {
        let started = Instant::now();
        while !is_fine(&lock(&self.heard)) {
            ensure!(started.elapsed() < PATIENCE, "{:?}", lock(&self.heard));
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts a program with all descriptors of the store, from number 3 on.
    ///
    /// # Errors
    ///
    /// The system's.
    #[expect(unsafe_code, reason = "only the new process can give its descriptors numbers")]
    pub(crate) fn start(
        &self,
        namespace: &Namespace,
        program: &Path,
        arguments: &[&str],
        log: &Path,
    ) -> Result<Child> {
        const FIRST: i32 = 3;
        // Only the shell knows the number of the process.
        const SCRIPT: &str = "LISTEN_PID=$$ exec \"$@\"";
        let heard = lock(&self.heard);
        let names: Vec<_> = heard.store.iter().map(|(name, _)| name.as_str()).collect();
        let mut command: Command = namespace.command("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(program).args(arguments);
        command.env("NOTIFY_SOCKET", self.socket());
        command.env("LISTEN_FDS", names.len().to_string());
        if !names.is_empty() {
            command.env("LISTEN_FDNAMES", names.join(":"));
        }
        // Above all numbers that they are to get.
        let above = FIRST + i32::try_from(heard.store.len())?;
        let descriptors: Vec<OwnedFd> = { heard.store.iter() }
            .map(|(_, descriptor)| {
                let copy = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(above))?;
                // SAFETY: it has just been opened, and nothing else owns it.
                Ok(unsafe { OwnedFd::from_raw_fd(copy) })
            })
            .collect::<Result<_>>()?;
        let renumber = move || {
            for (number, descriptor) in (FIRST..).zip(&descriptors) {
                // SAFETY: this is the new process, which has nothing at these numbers but copies of what is its parent's,
                // and dup2 may be called in it.
                nix::Error::result(unsafe { libc::dup2(descriptor.as_raw_fd(), number) })?;
            }
            Ok(())
        };
        let log = File::options().append(true).create(true).open(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // SAFETY: the closure allocates nothing and takes no lock.
        unsafe { command.pre_exec(renumber) };
        command.spawn().with_context(|| format!("cannot start {}", program.display()))
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("notify")
    }
}

impl Heard {
    fn take(&mut self, message: &str, descriptors: Vec<OwnedFd>) {
        let value = |key| message.lines().find_map(|line| line.strip_prefix(key));
        let name = value("FDNAME=").unwrap_or("stored").to_owned();
        if value("FDSTORE=") == Some("1") {
            for descriptor in descriptors {
                let is_known = self.store.iter().any(|(_, known)| cookie_of(known) == cookie_of(&descriptor));
                if !is_known {
                    self.store.push((name.clone(), descriptor));
                }
            }
        } else if value("FDSTOREREMOVE=") == Some("1") {
            self.store.retain(|(kept, _)| *kept != name);
        } else if value("BARRIER=").is_none() {
            self.said.extend(message.lines().map(str::to_owned));
        }
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cookie_of(descriptor: &OwnedFd) -> Option<u64> {
    SockRef::from(descriptor).cookie().ok()
}

/// Receives a message with its descriptors, if one comes soon.
#[expect(unsafe_code, reason = "nix tells the numbers of received descriptors only")]
fn receive(socket: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let mut buffer = vec![0; 4096];
    let mut control = cmsg_space!([i32; 8]);
    let (len, numbers) = {
        let mut octets = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(socket.as_raw_fd(), &mut octets, Some(&mut control), flags);
        let received = match received.map_err(std::io::Error::from) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return None;
            }
            Err(error) => panic!("the daemon cannot be heard: {error}"),
        };
        let mut numbers = Vec::new();
        for message in received.cmsgs().expect("room for all descriptors") {
            if let ControlMessageOwned::ScmRights(rights) = message {
                numbers.extend(rights);
            }
        }
        (received.bytes, numbers)
    };
    buffer.truncate(len);
    // SAFETY: the kernel has just opened these, for this message.
    let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
    Some((String::from_utf8_lossy(&buffer).into_owned(), numbers.into_iter().map(own).collect()))
}
