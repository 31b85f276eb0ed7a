//! Which link is the frame from?

use aya_ebpf::programs::XdpContext;
use dhcp6_common::{
    Reason, Vlan,
    contract::{Interface, Link, VlanTable, mac_word},
};

use crate::{
    INNER_VLANS, LINKS,
    packet::{ETHERTYPE, Packet, TAG_LEN},
};

const ETHERNET_SOURCE: usize = 6;
/// IPv6, as it lies in the frame.
const IPV6: u16 = 0x86dd_u16.to_be();
/// The tag of a customer's VLAN (IEEE 802.1Q), as it lies in the frame.
const C_TAG: u16 = 0x8100_u16.to_be();
/// The tag of a provider's VLAN (IEEE 802.1ad), as it lies in the frame.
const S_TAG: u16 = 0x88a8_u16.to_be();
const IDENTIFIER: u16 = 0x0fff;

/// The Ethernet header of an IPv6 packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ethernet {
    /// The client's MAC address.
    pub(crate) source: [u16; 3],
    /// Octets of tags.
    tags_len: u32,
    /// The tags, as they lie in the frame, as far as there are any.
    pub(crate) tags: [u32; 2],
    /// Their identifiers.
    pub(crate) vlan: Vlan,
}

impl Ethernet {
    /// Reads the header of an IPv6 packet with up to two tags.
    #[inline(always)]
    pub(crate) fn read(ctx: &XdpContext) -> Result<Self, Reason> {
        let packet = Packet::new(ctx, 0);
        let kind_at = |offset| packet.read::<u16>(offset).ok_or(Reason::NotIpv6);
        let source = packet.read(ETHERNET_SOURCE).ok_or(Reason::NotIpv6)?;
        let kind = kind_at(ETHERTYPE)?;
        if kind == IPV6 {
            return Ok(Self { source, tags_len: 0, tags: [0; 2], vlan: Vlan::NONE });
        }
        if kind != C_TAG && kind != S_TAG {
            return Err(Reason::NotIpv6);
        }
        let outer_tag = packet.read(ETHERTYPE).ok_or(Reason::NotIpv6)?;
        let outer = packet.u16_at(ETHERTYPE + 2).ok_or(Reason::NotIpv6)? & IDENTIFIER;
        let kind = kind_at(ETHERTYPE + TAG_LEN)?;
        if kind == IPV6 {
            return Ok(Self {
                source,
                tags_len: TAG_LEN as u32,
                tags: [outer_tag, 0],
                vlan: Vlan { outer, inner: 0 },
            });
        }
        if kind != C_TAG || kind_at(ETHERTYPE + 2 * TAG_LEN)? != IPV6 {
            return Err(Reason::NotIpv6);
        }
        let inner_tag = packet.read(ETHERTYPE + TAG_LEN).ok_or(Reason::NotIpv6)?;
        let inner = packet.u16_at(ETHERTYPE + TAG_LEN + 2).ok_or(Reason::NotIpv6)? & IDENTIFIER;
        Ok(Self {
            source,
            tags_len: 2 * TAG_LEN as u32,
            tags: [outer_tag, inner_tag],
            vlan: Vlan { outer, inner },
        })
    }

    /// Octets of tags.
    #[inline(always)]
    pub(crate) fn tags_len(&self) -> usize {
        self.tags_len as usize
    }

    /// The frame behind them.
    #[inline(always)]
    pub(crate) fn packet(&self, ctx: &XdpContext) -> Packet {
        Packet::new(ctx, self.tags_len())
    }

    /// The source as [`mac_word`] gives it.
    #[inline(always)]
    pub(crate) fn source_word(&self) -> u64 {
        let [a, b, c] = self.source.map(u16::to_ne_bytes);
        mac_word([a[0], a[1], b[0], b[1], c[0], c[1]])
    }

    /// The link of the frame, and its index.
    #[inline(always)]
    pub(crate) fn link(&self, interface: &Interface) -> Option<(u32, &'static Link)> {
        let of = |table: &VlanTable, id: u16| u32::from(table[usize::from(id & IDENTIFIER)]);
        let Vlan { outer, inner } = self.vlan;
        let number = match self.tags_len() {
            0 => u32::from(interface.untagged),
            TAG_LEN => of(&interface.single, outer),
            _ => of(INNER_VLANS.get(of(&interface.double, outer).checked_sub(1)?)?, inner),
        };
        let index = number.checked_sub(1)?;
        Some((index, LINKS.get(index)?))
    }
}
