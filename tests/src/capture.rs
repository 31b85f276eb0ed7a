//! A look at the client's interface.

use std::{
    io::IoSliceMut,
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use dhcp6_common::wire::{CLIENT_PORT, SERVER_PORT};
use nix::{
    cmsg_space, libc,
    sys::{
        socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns},
        time::TimeSpec,
    },
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Namespace;

/// A DHCPv6 message that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When the kernel saw it; only differences mean anything.
    pub at: Duration,
    /// Whether the server sent it.
    pub from_server: bool,
    /// The message.
    pub message: Vec<u8>,
}

/// Records the DHCPv6 messages on the interfaces of a namespace until it is stopped.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Captured>>>,
    thread: JoinHandle<()>,
}

impl Capture {
    /// Starts recording.
    ///
    /// # Errors
    ///
    /// The system's, for one without CAP_NET_RAW.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let socket = namespace.enter(|| -> Result<Socket> {
            // Only a socket for all protocols sees what is sent, too.
            let protocol = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            setsockopt(&socket, ReceiveTimestampns, &true)?;
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            Ok(socket)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let thread = thread::spawn({
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let message = receive(&socket);
                    seen.lock().unwrap_or_else(PoisonError::into_inner).extend(message);
                }
            }
        });
        Ok(Self { stop, seen, thread })
    }

    /// What was seen so far.
    pub fn seen(&self) -> Vec<Captured> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops recording; returns what was seen.
    pub fn stop(self) -> Vec<Captured> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("recording does not panic");
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn receive(socket: &Socket) -> Option<Captured> {
    let mut buffer = [0; 2048];
    let mut control = cmsg_space!(TimeSpec);
    let mut octets = [IoSliceMut::new(&mut buffer)];
    let received =
        recvmsg::<()>(socket.as_raw_fd(), &mut octets, Some(&mut control), MsgFlags::empty()).ok()?;
    let at = received.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
        _ => None,
    })?;
    let len = received.bytes;
    let (from_server, message) = message(buffer.get(..len)?)?;
    Some(Captured { at, from_server, message: message.to_vec() })
}

/// The DHCPv6 message in a frame, and whether it is on its way to a client.
fn message(frame: &[u8]) -> Option<(bool, &[u8])> {
    let sliced = etherparse::SlicedPacket::from_ethernet(frame).ok()?;
    let Some(etherparse::TransportSlice::Udp(udp)) = sliced.transport else { return None };
    let from_server = match udp.destination_port() {
        CLIENT_PORT => true,
        SERVER_PORT => false,
        _ => return None,
    };
    Some((from_server, frame.get(frame.len() - udp.payload().len()..)?))
}
