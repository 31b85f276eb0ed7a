//! What the daemon says to the service manager (sd_notify(3)), and the sockets that this keeps for the next daemon.
//!
//! The service manager holds a copy of each socket (systemd: the file descriptor store). While no daemon runs, datagrams
//! wait in the sockets' receive buffers, which bound what the next daemon finds; it takes the sockets over and
//! answers. A client that has repeated itself meanwhile gets as many answers as it has asked, which are all the same to
//! it; a client that has gone holds a lease until it expires, as any that goes. Only a Release may have become
//! wrong while it waited: see [`Kernel::granted_since`](super::kernel::Kernel::granted_since).

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::pipe2,
};
use sd_notify::{NotifyState, listen_fds_with_names, notify, notify_with_fds};
use socket2::SockRef;
use tracing::{debug, info, warn};

use super::listeners::Listener;
use crate::net::{InheritedSocket, Interface};

/// Milliseconds that the service manager may take to let go of sockets.
const PATIENCE: u16 = 5000;

/// The program that has started this one, if it is one that asks to be told.
#[derive(Debug, Default)]
pub struct ServiceManager {
    /// What it has handed over, until that is looked at.
    inherited: Vec<InheritedSocket>,
    /// What it keeps.
    kept: BTreeSet<Kept>,
}

/// A descriptor that the service manager keeps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    name: String,
    /// The kernel's number of the socket, which no other has; `None` for what is none.
    cookie: Option<u64>,
}

impl ServiceManager {
    /// Takes over what the service manager has kept of an earlier daemon. To be called before anything is opened that
    /// stays open; a second call finds nothing. No other program inherits the descriptors.
    #[expect(unsafe_code, reason = "the numbers of the descriptors come in the environment")]
    pub fn take_over() -> Self {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let mut manager = Self::default();
        if TAKEN.swap(true, Ordering::Relaxed) {
            return manager;
        }
        let descriptors = match listen_fds_with_names() {
            Ok(descriptors) => descriptors,
            Err(failure) => {
                warn!("cannot take the service manager's sockets over (LISTEN_FDS): {failure}");
                return manager;
            }
        };
        for (number, name) in descriptors {
            // SAFETY: the descriptor is open, since CLOEXEC could be set on it; it was opened for this process, whose
            // number the environment holds; and nothing else owns it, since this happens once and first.
            let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
            manager.kept.insert(Kept { name, cookie: cookie_of(descriptor.as_fd()) });
            manager.inherited.push(InheritedSocket::new(descriptor));
        }
        manager
    }

    /// What was taken over and not asked for yet.
    pub(super) fn inherited(&mut self) -> Vec<InheritedSocket> {
        std::mem::take(&mut self.inherited)
    }

    /// Has the service manager close what it keeps, but for the sockets of these listeners. When this returns, others
    /// can listen in place of those.
    pub(super) fn close_others(&mut self, listeners: &[Listener]) {
        let cookies: BTreeSet<_> = listeners
            .iter()
            .flat_map(Listener::descriptors)
            .map(|(_, descriptor)| cookie_of(descriptor))
            .collect();
        let unused: Vec<_> = { self.kept.iter() }
            .filter(|kept| !cookies.contains(&kept.cookie))
            .map(|kept| kept.name.as_str())
            .collect();
        if unused.is_empty() {
            return;
        }
        info!("what an earlier daemon has left does not fit and is closed: {}", unused.join(", "));
        self.remove_others(listeners);
        if let Err(failure) = wait_until_heard() {
            warn!("cannot wait for the service manager to close sockets: {failure}");
        }
    }

    /// Has the service manager keep the sockets of these listeners for the next daemon, and no others.
    pub(super) fn keep(&mut self, listeners: &[Listener]) {
        self.remove_others(listeners);
        for (name, descriptor) in listeners.iter().flat_map(Listener::descriptors) {
            let kept = Kept { name, cookie: cookie_of(descriptor) };
            if self.kept.contains(&kept) {
                continue;
            }
            // What becomes of a socket is for the daemon to see: systemd would drop one on an interface that goes down.
            let state =
                [NotifyState::FdStore, NotifyState::FdName(&kept.name), NotifyState::Custom("FDPOLL=0")];
            match notify_with_fds(&state, &[descriptor]) {
                Ok(()) => drop(self.kept.insert(kept)),
                Err(failure) => {
                    let name = &kept.name;
                    warn!(
                        "{name} is not kept for the next daemon, which will miss what arrives before: {failure}"
                    );
                }
            }
        }
    }

    /// Removes what the listeners do not have any more.
    fn remove_others(&mut self, listeners: &[Listener]) {
        let wanted: BTreeSet<_> = listeners
            .iter()
            .flat_map(Listener::descriptors)
            .map(|(name, descriptor)| Kept { name, cookie: cookie_of(descriptor) })
            .collect();
        let outdated: BTreeSet<_> = self.kept.difference(&wanted).map(|kept| kept.name.clone()).collect();
        for name in &outdated {
            // All that have the name go; what is wanted of them comes again under its own.
            match notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]) {
                Ok(()) => self.kept.retain(|kept| kept.name != *name),
                Err(failure) => warn!("the service manager cannot be told to close {name}: {failure}"),
            }
        }
    }
}

/// Says that the daemon serves.
pub(super) fn say_ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the daemon reads its configuration again. It is to be ready after that.
pub(super) fn say_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(failure) => debug!("CLOCK_MONOTONIC: {failure}"),
    }
}

/// Says that the daemon stops.
pub(super) fn say_stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The name of a socket on an interface, or on all, for people and for the service manager, which takes printable
/// ASCII without colons.
pub(super) fn socket_name(kind: &str, interface: Option<&Interface>) -> String {
    let Some(Interface { name, index, .. }) = interface else { return format!("{kind}-all") };
    let printable = |c: char| if c.is_ascii_graphic() && c != ':' { c } else { '_' };
    // The index tells those apart that look the same then.
    format!("{kind}-{index}-{}", name.chars().map(printable).collect::<String>())
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(failure) = notify(state) {
        warn!("cannot tell the service manager ({state:?}): {failure}");
    }
}

/// Waits until the service manager has read what it was told: it closes a pipe then (sd_notify_barrier(3)).
fn wait_until_heard() -> io::Result<()> {
    let (closed, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
    drop(theirs);
    let mut hung_up = [PollFd::new(closed.as_fd(), PollFlags::empty())];
    match poll(&mut hung_up, PollTimeout::from(PATIENCE))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

fn cookie_of(descriptor: BorrowedFd<'_>) -> Option<u64> {
    SockRef::from(&descriptor).cookie().ok()
}

#[cfg(test)]
mod tests {
    use super::socket_name;
    use crate::net::Interface;

    #[test]
    fn names_are_what_systemd_takes() {
        let interface = |name: &str| Interface {
            name: name.to_owned(),
            index: 7,
            mac: [0; 6],
            link_local: std::net::Ipv6Addr::LOCALHOST,
        };
        for (name, expected) in [("eth1.100", "udp-7-eth1.100"), ("ü\u{1b}:", "udp-7-___")] {
            assert_eq!(socket_name("udp", Some(&interface(name))), expected);
        }
        assert_eq!(socket_name("udp", None), "udp-all");
    }
}
