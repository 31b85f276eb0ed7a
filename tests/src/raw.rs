//! Frames in and out of the client's interface, with any MAC address.

use std::{
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    ifaddrs::getifaddrs,
    libc,
    sys::socket::{LinkAddr, bind},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::{CLIENT_INTERFACE, Namespace};

/// A socket for the IPv6 frames of the client's interface: what goes out, it does not see.
#[derive(Debug)]
pub struct RawClient(Socket);

impl RawClient {
    /// Opens the socket.
    ///
    /// # Errors
    ///
    /// The system's, for one without CAP_NET_RAW.
    pub fn open(namespace: &Namespace) -> Result<Self> {
        namespace.enter(|| {
            let protocol = Protocol::from(i32::from((libc::ETH_P_IPV6 as u16).to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            let interface: LinkAddr = getifaddrs()?
                .filter(|entry| entry.interface_name == CLIENT_INTERFACE)
                .find_map(|entry| entry.address?.as_link_addr().copied())
                .context("the client's interface is gone")?;
            bind(socket.as_raw_fd(), &interface)?;
            Ok(Self(socket))
        })
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.0.send(frame)?;
        Ok(())
    }

    /// The next frame that arrives until `deadline`; `None` where none does.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn receive(&self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 65535];
        // A timeout of zero would mean none.
        let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.0.set_read_timeout(Some(patience))?;
        match nix::sys::socket::recv(self.0.as_raw_fd(), &mut buffer, nix::sys::socket::MsgFlags::empty()) {
            Ok(len) => {
                buffer.truncate(len);
                Ok(Some(buffer))
            }
            Err(nix::Error::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
