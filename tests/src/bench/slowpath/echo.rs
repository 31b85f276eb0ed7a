//! The least that a server on a plain socket can do: to send back what it receives, 64 datagrams at a time.

use std::{
    io, mem,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nix::libc;

use crate::netns::{CLIENT_INTERFACE, SERVER_LINK_LOCAL, Wire};

/// Datagrams in a batch.
const AT_ONCE: usize = 64;
/// Octets in a datagram: about those of a Reply.
const OCTETS: usize = 128;
/// After so long without an answer, what is outstanding counts as lost.
const PATIENCE: Duration = Duration::from_millis(100);

/// Echoes in a second, with so many outstanding.
///
/// # Errors
///
/// The system's, and where nothing comes back.
pub(super) fn rate(wire: &Wire, window: usize, duration: Duration) -> Result<f64> {
    let server = wire.server.enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)))?;
    let client = wire.client.enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)))?;
    let scope = wire.client.enter(|| nix::net::if_::if_nametoindex(CLIENT_INTERFACE))?;
    client.connect(SocketAddrV6::new(SERVER_LINK_LOCAL, server.local_addr()?.port(), 0, scope))?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let echoing = scope.spawn(|| echo(&server, &stop));
        let rate = ask(&client, window, duration);
        stop.store(true, Ordering::Relaxed);
        echoing.join().expect("no panic")?;
        rate
    })
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) -> Result<()> {
    let mut batch = Batch::new();
    while !stop.load(Ordering::Relaxed) {
        let count = batch.receive(socket)?;
        batch.send(socket, count)?;
    }
    Ok(())
}

fn ask(socket: &UdpSocket, window: usize, duration: Duration) -> Result<f64> {
    let mut batch = Batch::new();
    let (mut echoes, mut outstanding) = (0_u32, 0);
    let start = Instant::now();
    while start.elapsed() < duration {
        while outstanding < window {
            let count = (window - outstanding).min(AT_ONCE);
            batch.send_to(socket, socket.peer_addr()?, count)?;
            outstanding += count;
        }
        let count = batch.receive(socket)?;
        echoes += count as u32;
        // Nothing in time: all is lost.
        outstanding = if count == 0 { 0 } else { outstanding.saturating_sub(count) };
    }
    ensure!(echoes > 0, "no datagram came back");
    Ok(f64::from(echoes) / start.elapsed().as_secs_f64())
}

/// Room for a batch of datagrams, and where they come from or go to.
struct Batch {
    datagrams: Box<[[u8; OCTETS]; AT_ONCE]>,
    lengths: [usize; AT_ONCE],
    peers: [libc::sockaddr_in6; AT_ONCE],
}

impl Batch {
    #[expect(unsafe_code, reason = "an address is plain data")]
    fn new() -> Self {
        // SAFETY: all zeros are a valid address.
        let nobody = unsafe { mem::zeroed() };
        Self {
            datagrams: Box::new([[0; OCTETS]; AT_ONCE]),
            lengths: [OCTETS; AT_ONCE],
            peers: [nobody; AT_ONCE],
        }
    }

    /// Waits for one datagram, and takes those that are there. Returns how many; none where none comes in time.
    #[expect(unsafe_code, reason = "recvmmsg(2)")]
    fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.lengths = [OCTETS; AT_ONCE];
        let mut vectors = self.vectors();
        let mut headers = self.headers(&mut vectors);
        // SAFETY: each header points to an address and to one vector, which points to a datagram; all of them outlive
        // the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                AT_ONCE as u32,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        match usize::try_from(count) {
            Ok(count) => {
                for (length, header) in self.lengths.iter_mut().zip(&headers[..count]) {
                    *length = header.msg_len as usize;
                }
                Ok(count)
            }
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                error => Err(error),
            },
        }
    }

    /// Sends the first `count` datagrams to where they came from.
    #[expect(unsafe_code, reason = "sendmmsg(2)")]
    fn send(&mut self, socket: &UdpSocket, count: usize) -> io::Result<()> {
        let mut vectors = self.vectors();
        let mut headers = self.headers(&mut vectors);
        let mut sent = 0;
        while sent < count {
            let rest = &mut headers[sent..count];
            // SAFETY: as in `receive`; the kernel reads what the headers point to.
            let result =
                unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
            sent += usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
        }
        Ok(())
    }

    /// Sends `count` datagrams to one address.
    fn send_to(&mut self, socket: &UdpSocket, address: SocketAddr, count: usize) -> io::Result<()> {
        let SocketAddr::V6(address) = address else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
        self.lengths = [OCTETS; AT_ONCE];
        self.peers = [libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as u16,
            sin6_port: address.port().to_be(),
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
            sin6_scope_id: address.scope_id(),
        }; AT_ONCE];
        self.send(socket, count)
    }

    fn vectors(&mut self) -> [libc::iovec; AT_ONCE] {
        let lengths = self.lengths;
        let mut datagrams = self.datagrams.iter_mut().zip(lengths);
        std::array::from_fn(|_| {
            let (datagram, length) = datagrams.next().expect("one for each");
            libc::iovec { iov_base: datagram.as_mut_ptr().cast(), iov_len: length }
        })
    }

    #[expect(
        unsafe_code,
        reason = "a header is plain data, with fields of padding that differ by architecture"
    )]
    fn headers(&mut self, vectors: &mut [libc::iovec; AT_ONCE]) -> [libc::mmsghdr; AT_ONCE] {
        let mut parts = self.peers.iter_mut().zip(vectors);
        std::array::from_fn(|_| {
            let (peer, vector) = parts.next().expect("one for each");
            // SAFETY: all zeros are a valid header: no address, no data.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_name = std::ptr::from_mut(peer).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as u32;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, time::Duration};

    use super::{Batch, OCTETS};

    #[test]
    fn a_batch_goes_back_to_its_senders() {
        let server = UdpSocket::bind("[::1]:0").unwrap();
        let clients = [(); 2].map(|()| UdpSocket::bind("[::1]:0").unwrap());
        for socket in clients.iter().chain([&server]) {
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        }
        for (client, text) in clients.iter().zip(["one", "another"]) {
            client.send_to(text.as_bytes(), server.local_addr().unwrap()).unwrap();
        }
        let mut batch = Batch::new();
        assert_eq!(batch.receive(&server).unwrap(), 2);
        batch.send(&server, 2).unwrap();
        for (client, text) in clients.iter().zip(["one", "another"]) {
            let mut buffer = [0; OCTETS];
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], text.as_bytes());
        }
        server.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(batch.receive(&server).unwrap(), 0);
    }
}
