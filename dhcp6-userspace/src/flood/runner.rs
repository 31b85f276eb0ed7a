//! A population on a network interface.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use nix::{
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

use super::{Plan, Population, Summary, socket::PacketSocket};

/// Frames sent before anything is received again.
const BURST: usize = 64;
/// Frames received before anything is sent again. More than are sent, so that what waits becomes less even while all
/// clients send at once.
const RECEIVE_BURST: usize = 4 * BURST;
/// How often the watcher is told.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Why a run cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No such interface.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// The kernel refuses.
    #[error(
        "cannot {what} on interface {interface}: {source}; it takes CAP_NET_RAW, and an interface that is up"
    )]
    Socket {
        /// What was being done.
        what: &'static str,
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's engine was asked for, or has failed.
    #[error("cannot send live frames: {0}; `--engine packet-socket` needs none")]
    LiveFrames(String),
}

/// Lets a population run on an interface. `watch` is called ten times a second.
///
/// # Errors
///
/// [`RunError`].
pub fn run(
    interface: &str,
    plan: Plan,
    mut watch: impl FnMut(&Population, Instant),
) -> Result<Summary, RunError> {
    let error = |(what, source)| RunError::Socket { what, interface: interface.to_owned(), source };
    let index = if_nametoindex(interface).map_err(|_| RunError::NoInterface(interface.to_owned()))?;
    let mut socket = PacketSocket::open(index).map_err(error)?;
    let mut population = Population::new(plan, Instant::now(), rand::random());
    let mut unsent: VecDeque<Vec<u8>> = VecDeque::new();
    let mut next_watch = Instant::now();
    loop {
        let mut now = Instant::now();
        if now >= next_watch {
            watch(&population, now);
            next_watch = now + WATCH_INTERVAL;
        }
        if population.is_finished(now) {
            break;
        }
        while unsent.len() < BURST
            && let Some(frame) = population.poll_transmit(now)
        {
            unsent.push_back(frame);
        }
        let more_to_send = unsent.len() == BURST;
        let mut no_room = false;
        while let Some(frame) = unsent.pop_front() {
            match socket.send(&frame) {
                Ok(()) => {}
                Err(failure) if is_no_room(&failure) => {
                    unsent.push_front(frame);
                    no_room = true;
                    break;
                }
                Err(failure) => return Err(error(("send", failure))),
            }
        }
        now = Instant::now();
        let mut received = 0;
        while received < RECEIVE_BURST
            && let Some(frame) = socket.receive().map_err(|failure| error(("receive", failure)))?
        {
            population.handle(now, frame);
            received += 1;
        }
        if received == 0 && (no_room || !more_to_send) {
            let until = population.next_timeout().map_or(next_watch, |timeout| timeout.min(next_watch));
            wait(&socket, no_room, until.saturating_duration_since(now))
                .map_err(|failure| error(("wait for frames", failure)))?;
        }
    }
    let mut summary = population.summary(Instant::now());
    summary.socket_drops = socket.drops().map_err(|failure| error(("read the statistics", failure)))?;
    Ok(summary)
}

/// Waits for a frame, or for room to send one.
pub(super) fn wait(socket: &PacketSocket, no_room: bool, timeout: Duration) -> io::Result<()> {
    // A full transmit queue of the interface does not show as a socket that cannot be written to.
    let timeout = if no_room { timeout.min(Duration::from_millis(1)) } else { timeout };
    let mut descriptors = [PollFd::new(std::os::fd::AsFd::as_fd(socket), PollFlags::POLLIN)];
    match ppoll(&mut descriptors, Some(TimeSpec::from(timeout)), None) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

pub(super) fn is_no_room(failure: &io::Error) -> bool {
    failure.kind() == io::ErrorKind::WouldBlock || failure.raw_os_error() == Some(nix::libc::ENOBUFS)
}
