//! Is this frame a Solicit that the fast path may judge?

use core::ffi::c_void;

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_loop, programs::XdpContext};
use dhcp6_common::{
    Reason,
    contract::{IA_ADDRESS_HEADER, OPTION_IGNORED, REQUEST_PASSED, address_words},
    wire::{
        ALL_RELAY_AGENTS_AND_SERVERS, IA_ADDRESS_HEADER_LEN, IA_NA_HEADER_LEN, MESSAGE_HEADER_LEN,
        MessageType, OPTION_HEADER_LEN, OptionCode, SERVER_PORT, option_at,
    },
};

use crate::{
    LINKS,
    packet::{ETHERNET_LEN, IPV6_LEN, MAX_OFFSET, MESSAGE_OFFSET, Packet, UDP_LEN, UDP_OFFSET},
};

const ETHERTYPE: usize = 12;
const IPV6_VERSION: usize = ETHERNET_LEN;
const IPV6_PAYLOAD_LENGTH: usize = ETHERNET_LEN + 4;
const IPV6_NEXT_HEADER: usize = ETHERNET_LEN + 6;
/// Offset of the IPv6 source address.
pub(crate) const IPV6_SOURCE: usize = ETHERNET_LEN + 8;
const IPV6_DESTINATION: usize = ETHERNET_LEN + 24;
const UDP_DESTINATION_PORT: usize = UDP_OFFSET + 2;
/// Offset of the UDP length.
pub(crate) const UDP_LENGTH: usize = UDP_OFFSET + 4;

/// The protocol number of UDP.
pub(crate) const UDP: u8 = 17;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// More options than any client sends.
const MAX_OPTIONS: u32 = 64;
/// More requested options than any client sends.
const MAX_REQUESTED: u32 = 64;

/// Whether the frame goes to a DHCPv6 server or relay agent at all. Everything else that crosses the interface
/// ends here, after a handful of instructions.
#[inline(always)]
pub(crate) fn is_dhcpv6(ctx: &XdpContext) -> Result<(), Reason> {
    let packet = Packet::new(ctx);
    if packet.u16_at(ETHERTYPE) != Some(ETHERTYPE_IPV6) {
        return Err(Reason::NotIpv6);
    }
    // The network stack discards such a frame, and so the daemon would not answer it.
    if packet.read::<u8>(IPV6_VERSION).map(|octet| octet >> 4) != Some(6) {
        return Err(Reason::NotIpv6);
    }
    if packet.read::<u8>(IPV6_NEXT_HEADER) != Some(UDP)
        || packet.u16_at(UDP_DESTINATION_PORT) != Some(SERVER_PORT)
    {
        return Err(Reason::NotDhcpv6);
    }
    Ok(())
}

/// What the Reply depends on. Offsets are those of the frame.
pub(crate) struct Solicit {
    /// Offset and length of the DUID.
    pub(crate) duid_offset: u16,
    pub(crate) duid_len: u16,
    /// The IAID, in network byte order.
    pub(crate) iaid: [u8; 4],
    /// The rendered options that the client requests, one bit each.
    pub(crate) requested: u8,
}

/// Reads the message and checks everything about it that does not depend on the client.
#[inline(always)]
pub(crate) fn solicit(ctx: &XdpContext, slot: u32, scan: &mut Scan) -> Result<Solicit, Reason> {
    let packet = Packet::new(ctx);
    if packet.read::<[u64; 2]>(IPV6_DESTINATION) != Some(address_words(ALL_RELAY_AGENTS_AND_SERVERS)) {
        return Err(Reason::NotMulticast);
    }
    // fe80::/10
    if packet.u16_at(IPV6_SOURCE).map(|prefix| prefix & 0xffc0) != Some(0xfe80) {
        return Err(Reason::SourceNotLinkLocal);
    }
    let (Some(payload), Some(udp)) = (packet.u16_at(IPV6_PAYLOAD_LENGTH), packet.u16_at(UDP_LENGTH)) else {
        return Err(Reason::BadLength);
    };
    // Octets behind the IPv6 payload are padding and not looked at.
    let end = ETHERNET_LEN + IPV6_LEN + usize::from(payload);
    if udp != payload || usize::from(udp) < UDP_LEN + MESSAGE_HEADER_LEN || end > packet.len() {
        return Err(Reason::BadLength);
    }
    if end > MAX_OFFSET {
        return Err(Reason::TooLong);
    }
    if packet.read::<u8>(MESSAGE_OFFSET) != Some(MessageType::Solicit as u8) {
        return Err(Reason::NotSolicit);
    }

    *scan = Scan {
        slot,
        seen: 0,
        refusal: Reason::TooLong as u32,
        requested: 0,
        offset: (MESSAGE_OFFSET + MESSAGE_HEADER_LEN) as u16,
        end: end as u16,
        duid_offset: 0,
        duid_len: 0,
        ia_offset: 0,
        ia_len: 0,
        request_offset: 0,
        request_len: 0,
    };
    scan.repeat(ctx, MAX_OPTIONS + 1, scan_option);
    scan.outcome()?;
    if scan.seen & SEEN_CLIENT_ID == 0 {
        return Err(Reason::NoClientId);
    }
    if scan.seen & SEEN_RAPID_COMMIT == 0 {
        return Err(Reason::NoRapidCommit);
    }
    if scan.seen & SEEN_IA_NA == 0 {
        return Err(Reason::NoIaNa);
    }
    let iaid = judge_ia(&packet, usize::from(scan.ia_offset), scan.ia_len)?;
    if scan.seen & SEEN_OPTION_REQUEST != 0 {
        scan.refusal = Reason::TooLong as u32;
        scan.end = scan.request_offset + scan.request_len;
        scan.offset = scan.request_offset;
        scan.repeat(ctx, MAX_REQUESTED + 1, scan_requested);
        scan.outcome()?;
    }
    Ok(Solicit {
        duid_offset: scan.duid_offset,
        duid_len: scan.duid_len,
        iaid,
        requested: scan.requested as u8,
    })
}

/// Accepts an IA_NA that is empty or holds one plain IA Address. That is a hint, which does not change the
/// answer to a client with a binding.
#[inline(always)]
fn judge_ia(packet: &Packet, offset: usize, len: u16) -> Result<[u8; 4], Reason> {
    const WITH_HINT: usize = IA_NA_HEADER_LEN + OPTION_HEADER_LEN + IA_ADDRESS_HEADER_LEN;
    let len = usize::from(len);
    if len == WITH_HINT {
        let hint = offset + IA_NA_HEADER_LEN;
        if packet.read(hint) != Some(u32::from_ne_bytes(IA_ADDRESS_HEADER)) {
            return Err(Reason::UnhandledValue);
        }
    } else if len != IA_NA_HEADER_LEN {
        return Err(Reason::UnhandledValue);
    }
    packet.read(offset).ok_or(Reason::UnhandledValue)
}

const SEEN_CLIENT_ID: u32 = 1;
const SEEN_IA_NA: u32 = 1 << 1;
const SEEN_OPTION_REQUEST: u32 = 1 << 2;
const SEEN_RAPID_COMMIT: u32 = 1 << 3;
const SEEN_ELAPSED_TIME: u32 = 1 << 4;

/// `Scan::refusal` where nothing was refused.
const ACCEPTED: u32 = u32::MAX;

/// The state of a loop over options or over requested codes.
///
/// The loops run under bpf_loop (Linux 5.17, commit e6f2dd0f8067): the verifier walks through a step a few
/// times instead of once per option.
#[repr(C)]
pub(crate) struct Scan {
    slot: u32,
    seen: u32,
    /// Why the message is not for the fast path: a [`Reason`], or [`ACCEPTED`] when the end was reached.
    refusal: u32,
    requested: u32,
    /// Of what is read next.
    offset: u16,
    /// Of the first octet that is not read.
    end: u16,
    duid_offset: u16,
    duid_len: u16,
    ia_offset: u16,
    ia_len: u16,
    request_offset: u16,
    request_len: u16,
}

/// What bpf_loop hands to each step. On the stack, since a map cannot hold pointers.
#[repr(C)]
struct Loop {
    ctx: *mut xdp_md,
    scan: *mut Scan,
}

/// One step of a loop; returns `CONTINUE` or `BREAK`.
type Step = unsafe extern "C" fn(index: u32, state: *mut Loop) -> i64;
const CONTINUE: i64 = 0;
const BREAK: i64 = 1;

impl Scan {
    #[inline(always)]
    fn repeat(&mut self, ctx: &XdpContext, times: u32, step: Step) {
        let mut state = Loop { ctx: ctx.ctx, scan: self };
        // SAFETY: the step gets the pointer that is given here, and nothing else holds it meanwhile.
        unsafe { bpf_loop(times, step as *mut c_void, (&raw mut state).cast(), 0) };
    }

    #[inline(always)]
    fn outcome(&self) -> Result<(), Reason> {
        match self.refusal {
            ACCEPTED => Ok(()),
            refusal => Err(known_reason(refusal)),
        }
    }

    /// Notes an option that may occur once.
    #[inline(always)]
    fn once(&mut self, flag: u32) -> Result<(), Reason> {
        if self.seen & flag != 0 {
            return Err(Reason::RepeatedOption);
        }
        self.seen |= flag;
        Ok(())
    }

    /// Reads the option at `offset` and moves behind it.
    #[inline(always)]
    fn option(&mut self, packet: &Packet) -> Result<(), Reason> {
        let option = option_at(packet, usize::from(self.offset), usize::from(self.end))
            .map_err(|_| Reason::Malformed)?;
        let (start, len) = (option.start as u16, option.len as u16);
        match option.code {
            OptionCode::CLIENT_ID => {
                self.once(SEEN_CLIENT_ID)?;
                (self.duid_offset, self.duid_len) = (start, len);
            }
            OptionCode::IA_NA => {
                self.once(SEEN_IA_NA)?;
                (self.ia_offset, self.ia_len) = (start, len);
            }
            OptionCode::OPTION_REQUEST => {
                self.once(SEEN_OPTION_REQUEST)?;
                (self.request_offset, self.request_len) = (start, len);
                if len % 2 != 0 {
                    return Err(Reason::UnhandledValue);
                }
            }
            OptionCode::RAPID_COMMIT => {
                self.once(SEEN_RAPID_COMMIT)?;
                if len != 0 {
                    return Err(Reason::UnhandledValue);
                }
            }
            OptionCode::ELAPSED_TIME => {
                self.once(SEEN_ELAPSED_TIME)?;
                if len != 2 {
                    return Err(Reason::UnhandledValue);
                }
            }
            OptionCode(code) => {
                let link = LINKS.get(self.slot).ok_or(Reason::NoLink)?;
                if code > 0xff || link.option_policy[table_index(code)] != OPTION_IGNORED {
                    return Err(Reason::UnhandledOption);
                }
            }
        }
        self.offset = option.end() as u16;
        Ok(())
    }

    /// Reads the requested code at `offset` and moves behind it.
    #[inline(always)]
    fn requested(&mut self, packet: &Packet) -> Result<(), Reason> {
        let code = packet.u16_at(usize::from(self.offset)).ok_or(Reason::Malformed)?;
        let link = LINKS.get(self.slot).ok_or(Reason::NoLink)?;
        let bits =
            if code > 0xff { link.request_high } else { u32::from(link.request_bits[table_index(code)]) };
        if bits == u32::from(REQUEST_PASSED) {
            return Err(Reason::UnhandledRequest);
        }
        self.requested |= bits;
        self.offset += 2;
        Ok(())
    }
}

#[inline(always)]
fn step(state: &Loop, read: impl FnOnce(&mut Scan, &Packet) -> Result<(), Reason>) -> i64 {
    // SAFETY: `Scan::repeat` has put it there, and holds no other reference meanwhile.
    let scan = unsafe { &mut *state.scan };
    if scan.offset >= scan.end {
        scan.refusal = ACCEPTED;
        return BREAK;
    }
    let packet = Packet::new(&XdpContext::new(state.ctx));
    match read(scan, &packet) {
        Ok(()) => CONTINUE,
        Err(reason) => {
            scan.refusal = reason as u32;
            BREAK
        }
    }
}

#[inline(never)]
unsafe extern "C" fn scan_option(_index: u32, state: *mut Loop) -> i64 {
    // SAFETY: bpf_loop hands over the pointer that `Scan::repeat` gave it.
    step(unsafe { &*state }, Scan::option)
}

#[inline(never)]
unsafe extern "C" fn scan_requested(_index: u32, state: *mut Loop) -> i64 {
    // SAFETY: bpf_loop hands over the pointer that `Scan::repeat` gave it.
    step(unsafe { &*state }, Scan::requested)
}

/// The low octet of an option code as an index. The compiler must not derive its bound from the comparison
/// before: it would compare the code before the octets were swapped, and the verifier does not see that far.
#[inline(always)]
fn table_index(code: u16) -> usize {
    usize::from(core::hint::black_box(code as u8))
}

/// The reason with this number; only those that a scan can end with.
#[inline(always)]
fn known_reason(number: u32) -> Reason {
    for reason in [
        Reason::NoLink,
        Reason::Malformed,
        Reason::TooLong,
        Reason::RepeatedOption,
        Reason::UnhandledOption,
        Reason::UnhandledValue,
    ] {
        if number == reason as u32 {
            return reason;
        }
    }
    Reason::UnhandledRequest
}
