//! What kind of interface it is (rtnetlink(7)).

use std::{ffi::CStr, io, os::fd::AsRawFd as _, time::Duration};

use nix::{
    libc,
    net::if_::if_indextoname,
    sys::socket::{MsgFlags, recv},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::Interface;

/// Octets of a `struct nlmsghdr`, and of a `struct ifinfomsg`.
const HEADER: usize = 16;
/// More than the kernel says of an interface.
const LONGEST: usize = 1 << 16;
/// Attributes of `IFLA_LINKINFO` in linux/if_link.h.
const IFLA_INFO_SLAVE_KIND: u16 = 4;
/// The kind of an interface to which others belong that get their frames all the same.
const VRF: &[u8] = b"vrf";

/// What the kernel says of an interface that the server has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceKind {
    /// Whether its frames have Ethernet headers. Those of tunnels and PPP have none.
    pub has_ethernet: bool,
    /// The interface that takes the frames of this one, a bridge or a bond for instance, by its name and kind.
    pub taken_by: Option<(String, String)>,
}

impl InterfaceKind {
    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn of(interface: &Interface) -> io::Result<Self> {
        let route = Protocol::from(libc::NETLINK_ROUTE);
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW.cloexec(), Some(route))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.send(&request(interface.index))?;
        let mut answer = vec![0; LONGEST];
        let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let of_link = Answer::read(&answer[..len]).ok_or(io::ErrorKind::InvalidData)?;
        let name = |index: u32| if_indextoname(index).ok()?.into_string().ok();
        let taken_by = of_link.taken_by.and_then(|(index, kind)| Some((name(index)?, kind)));
        Ok(Self { has_ethernet: of_link.has_ethernet, taken_by })
    }
}

/// RTM_GETLINK for an interface.
fn request(index: u32) -> [u8; 2 * HEADER] {
    let mut message = [0; 2 * HEADER];
    message[..4].copy_from_slice(&(2 * HEADER as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message[HEADER + 4..HEADER + 8].copy_from_slice(&index.to_ne_bytes());
    message
}

/// What is in the answer, with the index of the other interface.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    has_ethernet: bool,
    taken_by: Option<(u32, String)>,
}

impl Answer {
    fn read(message: &[u8]) -> Option<Self> {
        let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
        let hardware = u16::from_ne_bytes(*message.get(HEADER + 2..)?.first_chunk()?);
        if kind != libc::RTM_NEWLINK {
            return None;
        }
        let of_link = message.get(2 * HEADER..)?;
        let find =
            |within, wanted| Attributes(within).find_map(|(kind, value)| (kind == wanted).then_some(value));
        let master = || Some(u32::from_ne_bytes(*find(of_link, libc::IFLA_MASTER)?.first_chunk()?));
        let taken_by = || {
            let kind = find(find(of_link, libc::IFLA_LINKINFO)?, IFLA_INFO_SLAVE_KIND)?;
            let kind = CStr::from_bytes_until_nul(kind).ok()?;
            (kind.to_bytes() != VRF).then_some((master()?, kind.to_string_lossy().into_owned()))
        };
        // A loopback's have one, too: zeros.
        let has_ethernet = [libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&hardware);
        Some(Self { has_ethernet, taken_by: taken_by() })
    }
}

/// Attributes, each with length and type in front and padded to four octets.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        const HEADER: usize = 4;
        let len = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?);
        let value = self.0.get(HEADER..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        // The highest bits are flags.
        Some((kind & 0x3fff, value))
    }
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::{Answer, HEADER};

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = (4 + value.len()) as u16;
        let mut attribute = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    fn answer(hardware: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut message = vec![0; 2 * HEADER];
        message[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
        message[HEADER + 2..HEADER + 4].copy_from_slice(&hardware.to_ne_bytes());
        message.extend(attributes.concat());
        message
    }

    #[test]
    fn a_port_is_told_from_other_interfaces() {
        let name = attribute(3, b"eth1\0");
        let belongs = |index: u32, kind: &[u8]| {
            let info = [attribute(1, b"veth\0"), attribute(4, kind)].concat();
            let nested = libc::IFLA_LINKINFO | 0x8000;
            [name.clone(), attribute(libc::IFLA_MASTER, &index.to_ne_bytes()), attribute(nested, &info)]
        };
        for (hardware, attributes, has_ethernet, taken_by) in [
            (libc::ARPHRD_ETHER, &[name.clone()][..], true, None),
            (libc::ARPHRD_LOOPBACK, &[], true, None),
            (libc::ARPHRD_NONE, &[], false, None),
            (libc::ARPHRD_PPP, &[], false, None),
            (libc::ARPHRD_ETHER, &belongs(7, b"bridge\0"), true, Some((7, "bridge".to_owned()))),
            (libc::ARPHRD_ETHER, &belongs(7, b"vrf\0"), true, None),
        ] {
            let expected = Answer { has_ethernet, taken_by };
            assert_eq!(Answer::read(&answer(hardware, attributes)), Some(expected));
        }
        let whole = answer(libc::ARPHRD_ETHER, &belongs(7, b"bridge\0"));
        for end in 0..whole.len() {
            Answer::read(&whole[..end]);
        }
        assert_eq!(Answer::read(&whole[..2 * HEADER - 1]), None);
    }
}
