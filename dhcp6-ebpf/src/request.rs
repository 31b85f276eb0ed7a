//! Is this frame a message to a DHCPv6 server, and a Solicit that the fast path may judge?

use core::{ffi::c_void, hint::black_box};

use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_loop, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use dhcp6_common::{
    Reason,
    contract::{
        GRANTED_ADDRESS, GRANTED_PREFIX, IA_ADDRESS_HEADER, IA_PREFIX_HEADER, LINK_RAPID_COMMIT, Link,
        REQUEST_PASSED, address_words,
    },
    wire::{
        ALL_RELAY_AGENTS_AND_SERVERS, IA_ADDRESS_HEADER_LEN, IA_NA_HEADER_LEN, IA_PREFIX_HEADER_LEN,
        MESSAGE_HEADER_LEN, MessageType, OPTION_HEADER_LEN, OptionCode, SERVER_PORT, option_at,
    },
};

use crate::{
    LINKS,
    link::Ethernet,
    packet::{ETHERNET_LEN, IPV6_LEN, MAX_OFFSET, MESSAGE_OFFSET, Packet, UDP_LEN, UDP_OFFSET},
};

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

/// More options than any client sends.
const MAX_OPTIONS: u32 = 64;
/// More requested options than any client sends.
const MAX_REQUESTED: u32 = 64;
/// Options, and requested options, that are read without a loop of the kernel's, each of whose steps is a call: as many
/// as most clients send, and the end.
const FIRST_STEPS: u32 = 8;
/// More addresses or prefixes in an IA than any client sends.
const MAX_HINTS: usize = 4;

/// Whether the frame is for DHCPv6 servers on the link. Everything else that crosses the interface ends here, after a
/// handful of instructions.
#[inline(always)]
pub(crate) fn is_for_servers(packet: &Packet) -> Result<(), Reason> {
    // The network stack discards any other, and so the daemon would not answer it.
    if packet.read::<u8>(IPV6_VERSION).map(|octet| octet >> 4) != Some(6) {
        return Err(Reason::NotIpv6);
    }
    if packet.read::<u8>(IPV6_NEXT_HEADER) != Some(UDP)
        || packet.u16_at(UDP_DESTINATION_PORT) != Some(SERVER_PORT)
    {
        return Err(Reason::NotDhcpv6);
    }
    if packet.read::<[u64; 2]>(IPV6_DESTINATION) != Some(address_words(ALL_RELAY_AGENTS_AND_SERVERS)) {
        return Err(Reason::NotMulticast);
    }
    Ok(())
}

/// A message to servers that is whole, as far as its lengths tell.
#[repr(C)]
pub(crate) struct Message {
    /// Its type.
    pub(crate) kind: u32,
    /// Type and transaction identifier, as they lie in the frame.
    pub(crate) header: u32,
    /// Offset of its end.
    end: u32,
}

impl Message {
    /// Reads the beginning of a message, which only relay agents send from other than link-local addresses.
    #[inline(always)]
    pub(crate) fn read(ctx: &XdpContext, ethernet: &Ethernet) -> Result<Self, Reason> {
        let packet = ethernet.packet(ctx);
        let (Some(payload), Some(udp)) = (packet.u16_at(IPV6_PAYLOAD_LENGTH), packet.u16_at(UDP_LENGTH))
        else {
            return Err(Reason::BadLength);
        };
        // Octets behind the IPv6 payload are padding and not looked at.
        let end = ETHERNET_LEN + IPV6_LEN + usize::from(payload);
        if udp != payload || usize::from(udp) < UDP_LEN + MESSAGE_HEADER_LEN {
            return Err(Reason::BadLength);
        }
        let in_frame = ethernet.tags_len() + end;
        // SAFETY: the context is that of this run. Of a jumbo frame there may be more than lies in one piece.
        if end > packet.len() && in_frame > unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as usize {
            return Err(Reason::BadLength);
        }
        let header = packet.read::<u32>(MESSAGE_OFFSET).ok_or(Reason::BadLength)?;
        let kind = u32::from_be(header) >> 24;
        if kind == MessageType::RelayForward as u32 {
            return Ok(Self { kind, header, end: end as u32 });
        }
        // fe80::/10
        if packet.u16_at(IPV6_SOURCE).map(|prefix| prefix & 0xffc0) != Some(0xfe80) {
            return Err(Reason::SourceNotLinkLocal);
        }
        if !is_from_clients(kind) {
            return Err(Reason::NotForServers);
        }
        Ok(Self { kind, header, end: end as u32 })
    }

    /// Whether there is more of it than this program reads.
    #[inline(always)]
    pub(crate) fn is_too_long(&self, packet: &Packet) -> bool {
        self.end as usize > packet.len() || self.end > MAX_OFFSET as u32
    }
}

/// Whether clients send messages of this type to servers (RFC 9915, section 7.3).
#[inline(always)]
fn is_from_clients(kind: u32) -> bool {
    const FROM_CLIENTS: u32 = 1 << MessageType::Solicit as u32
        | 1 << MessageType::Request as u32
        | 1 << MessageType::Confirm as u32
        | 1 << MessageType::Renew as u32
        | 1 << MessageType::Rebind as u32
        | 1 << MessageType::Release as u32
        | 1 << MessageType::Decline as u32
        | 1 << MessageType::InformationRequest as u32;
    kind < 32 && FROM_CLIENTS >> (kind & 31) & 1 == 1
}

/// What the Reply depends on.
#[repr(C)]
pub(crate) struct Solicit {
    /// [`GRANTED_ADDRESS`] where it has an IA_NA, [`GRANTED_PREFIX`] where it has an IA_PD.
    wants: u32,
    /// The IAID of the IA_NA, in network byte order.
    address_iaid: u32,
    /// That of the IA_PD.
    prefix_iaid: u32,
    /// The rendered options that the client requests, one bit each.
    pub(crate) requested: u32,
}

impl Solicit {
    /// The IAID of the IA_NA, if there is one, in network byte order.
    #[inline(always)]
    pub(crate) fn address_iaid(&self) -> Option<u32> {
        (self.wants & u32::from(GRANTED_ADDRESS) != 0).then_some(self.address_iaid)
    }

    /// That of the IA_PD.
    #[inline(always)]
    pub(crate) fn prefix_iaid(&self) -> Option<u32> {
        (self.wants & u32::from(GRANTED_PREFIX) != 0).then_some(self.prefix_iaid)
    }

    /// Which of the two there are.
    #[inline(always)]
    pub(crate) fn wants(&self) -> u8 {
        self.wants as u8
    }
}

/// Reads the options of a Solicit.
#[inline(always)]
pub(crate) fn scan(
    ctx: &XdpContext,
    ethernet: &Ethernet,
    message: &Message,
    link: u32,
    scan: &mut Scan,
) -> Result<(), Reason> {
    scan.begin(link, ethernet, message);
    scan.walk(ctx, Scan::option, (MAX_OPTIONS, scan_option))?;
    scan.client_id()
}

/// Reads the options of any message: of a Solicit all, else only the client's identifier.
#[inline(always)]
pub(crate) fn scan_any(
    ctx: &XdpContext,
    ethernet: &Ethernet,
    message: &Message,
    link: u32,
    scan: &mut Scan,
) -> Result<(), Reason> {
    scan.begin(link, ethernet, message);
    scan.refusal = Reason::TooLong as u32;
    scan.repeat(ctx, (MAX_OPTIONS + 1, scan_option))?;
    scan.client_id()
}

/// Checks everything about a Solicit that was scanned that does not depend on the client.
#[inline(always)]
pub(crate) fn solicit(
    ctx: &XdpContext,
    ethernet: &Ethernet,
    link: &Link,
    scan: &mut Scan,
    solicit: &mut Solicit,
) -> Result<(), Reason> {
    let packet = ethernet.packet(ctx);
    if !link.is(LINK_RAPID_COMMIT) {
        return Err(Reason::RapidCommitOff);
    }
    if scan.seen & SEEN_RAPID_COMMIT == 0 {
        return Err(Reason::NoRapidCommit);
    }
    solicit.wants = 0;
    if scan.seen & SEEN_IA_NA != 0 {
        const LEN: usize = OPTION_HEADER_LEN + IA_ADDRESS_HEADER_LEN;
        let (offset, len) = (usize::from(scan.address_offset), usize::from(scan.address_len));
        solicit.address_iaid = judge_ia::<LEN>(&packet, offset, len, IA_ADDRESS_HEADER)?;
        solicit.wants = GRANTED_ADDRESS.into();
    }
    if scan.seen & SEEN_IA_PD != 0 {
        const LEN: usize = OPTION_HEADER_LEN + IA_PREFIX_HEADER_LEN;
        let (offset, len) = (usize::from(scan.prefix_offset), usize::from(scan.prefix_len));
        solicit.prefix_iaid = judge_ia::<LEN>(&packet, offset, len, IA_PREFIX_HEADER)?;
        solicit.wants |= u32::from(GRANTED_PREFIX);
    }
    if solicit.wants == 0 {
        return Err(Reason::NoIa);
    }
    if scan.seen & SEEN_OPTION_REQUEST != 0 {
        scan.end = scan.request_offset + scan.request_len;
        scan.offset = scan.request_offset;
        scan.walk(ctx, Scan::requested, (MAX_REQUESTED, scan_requested))?;
    }
    solicit.requested = scan.requested & 0xff;
    Ok(())
}

/// Accepts an IA that is empty or holds some plain addresses or prefixes, each an option of `HINT_LEN` octets. These
/// are hints, which do not change the answer to a client with a binding. Returns the IAID.
#[inline(always)]
fn judge_ia<const HINT_LEN: usize>(
    packet: &Packet,
    offset: usize,
    len: usize,
    header: [u8; OPTION_HEADER_LEN],
) -> Result<u32, Reason> {
    /// Offset of the length in an IA Prefix option, behind two lifetimes.
    const PREFIX_LENGTH: usize = OPTION_HEADER_LEN + 8;
    let mut end = IA_NA_HEADER_LEN;
    for _ in 0..MAX_HINTS {
        if len == end {
            break;
        }
        if packet.read(offset + end) != Some(u32::from_ne_bytes(header)) {
            return Err(Reason::UnhandledValue);
        }
        // The daemon takes a longer one for damage.
        let is_prefix = header[1] == IA_PREFIX_HEADER[1];
        if is_prefix && packet.read::<u8>(offset + end + PREFIX_LENGTH).is_none_or(|length| length > 128) {
            return Err(Reason::UnhandledValue);
        }
        end += HINT_LEN;
    }
    if len != end {
        return Err(Reason::UnhandledValue);
    }
    packet.read(offset).ok_or(Reason::UnhandledValue)
}

const SEEN_CLIENT_ID: u32 = 1;
const SEEN_IA_NA: u32 = 1 << 1;
const SEEN_OPTION_REQUEST: u32 = 1 << 2;
const SEEN_RAPID_COMMIT: u32 = 1 << 3;
const SEEN_IA_PD: u32 = 1 << 4;

/// `Scan::refusal` where nothing was refused.
const ACCEPTED: u32 = u32::MAX;

/// The state of a loop over options or over requested codes.
///
/// Behind the first steps the loops run under bpf_loop (Linux 5.17, commit e6f2dd0f8067): the verifier walks through a
/// step a few times instead of once per option.
#[repr(C)]
pub(crate) struct Scan {
    link: u32,
    tags_len: u32,
    is_solicit: u32,
    seen: u32,
    /// Why the message is not for the fast path: a [`Reason`], or [`ACCEPTED`] when the end was reached.
    refusal: u32,
    requested: u32,
    /// Of what is read next.
    offset: u16,
    /// Of the first octet that is not read.
    end: u16,
    /// Of the DUID.
    pub(crate) duid_offset: u16,
    pub(crate) duid_len: u16,
    address_offset: u16,
    address_len: u16,
    prefix_offset: u16,
    prefix_len: u16,
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
    /// Prepares to read the options of a message.
    #[inline(always)]
    fn begin(&mut self, link: u32, ethernet: &Ethernet, message: &Message) {
        self.link = link;
        self.tags_len = ethernet.tags_len() as u32;
        self.is_solicit = u32::from(message.kind == MessageType::Solicit as u32);
        self.seen = 0;
        self.requested = 0;
        self.offset = (MESSAGE_OFFSET + MESSAGE_HEADER_LEN) as u16;
        self.end = message.end as u16;
    }

    /// Reads from `offset` to `end`: the first steps by `read`, the others, up to a number, by the same under bpf_loop.
    #[inline(always)]
    fn walk(
        &mut self,
        ctx: &XdpContext,
        read: impl Fn(&mut Self, &Packet) -> Result<(), Reason>,
        (times, step): (u32, Step),
    ) -> Result<(), Reason> {
        self.refusal = Reason::TooLong as u32;
        let mut scan = self;
        let packet = Packet::new(ctx, scan.tags_len as usize);
        for _ in 0..FIRST_STEPS {
            // Of memory in a map the verifier remembers nothing, so that it does not tell the ways apart by which it gets
            // from one option to the next.
            scan = black_box(scan);
            if scan.step(&packet, &read) == BREAK {
                return scan.outcome();
            }
        }
        scan.repeat(ctx, (times + 1 - FIRST_STEPS, step))
    }

    /// Reads on under bpf_loop.
    #[inline(always)]
    fn repeat(&mut self, ctx: &XdpContext, (times, step): (u32, Step)) -> Result<(), Reason> {
        let mut state = Loop { ctx: ctx.ctx, scan: &raw mut *self };
        // SAFETY: the step gets the pointer that is given here, and nothing else holds it meanwhile.
        unsafe { bpf_loop(times, step as *mut c_void, (&raw mut state).cast(), 0) };
        black_box(self).outcome()
    }

    /// There must be one.
    #[inline(always)]
    fn client_id(&self) -> Result<(), Reason> {
        if self.seen & SEEN_CLIENT_ID == 0 { Err(Reason::NoClientId) } else { Ok(()) }
    }

    /// One step of [`Scan::walk`].
    #[inline(always)]
    fn step(&mut self, packet: &Packet, read: impl Fn(&mut Self, &Packet) -> Result<(), Reason>) -> i64 {
        if self.offset >= self.end {
            self.refusal = ACCEPTED;
            return BREAK;
        }
        match read(self, packet) {
            Ok(()) => CONTINUE,
            Err(reason) => {
                self.refusal = reason as u32;
                BREAK
            }
        }
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
            code if self.is_solicit == 0 && code != OptionCode::CLIENT_ID => {}
            OptionCode::CLIENT_ID => {
                self.once(SEEN_CLIENT_ID)?;
                (self.duid_offset, self.duid_len) = (start, len);
            }
            OptionCode::IA_NA => {
                self.once(SEEN_IA_NA)?;
                (self.address_offset, self.address_len) = (start, len);
            }
            OptionCode::IA_PD => {
                self.once(SEEN_IA_PD)?;
                (self.prefix_offset, self.prefix_len) = (start, len);
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
            OptionCode(code) => {
                let link = LINKS.get(self.link).ok_or(Reason::NoLink)?;
                let is_ignored = if code > 0xff {
                    link.ignores_high != 0
                } else {
                    let code = table_index(code);
                    link.ignored[code / 64] >> (code % 64) & 1 != 0
                };
                if !is_ignored {
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
        let link = LINKS.get(self.link).ok_or(Reason::NoLink)?;
        let bits = if code > 0xff {
            u32::from(link.request_high)
        } else {
            u32::from(link.request_bits[table_index(code)])
        };
        if bits == u32::from(REQUEST_PASSED) {
            return Err(Reason::UnhandledRequest);
        }
        self.requested |= bits;
        self.offset += 2;
        Ok(())
    }
}

/// One step under bpf_loop.
#[inline(always)]
fn step(state: &Loop, read: impl Fn(&mut Scan, &Packet) -> Result<(), Reason>) -> i64 {
    // SAFETY: `Scan::walk` has put it there, and holds no other reference meanwhile.
    let scan = unsafe { &mut *state.scan };
    let packet = Packet::new(&XdpContext::new(state.ctx), scan.tags_len as usize);
    scan.step(&packet, read)
}

#[inline(never)]
unsafe extern "C" fn scan_option(_index: u32, state: *mut Loop) -> i64 {
    // SAFETY: bpf_loop hands over the pointer that `Scan::walk` gave it.
    step(unsafe { &*state }, Scan::option)
}

#[inline(never)]
unsafe extern "C" fn scan_requested(_index: u32, state: *mut Loop) -> i64 {
    // SAFETY: bpf_loop hands over the pointer that `Scan::walk` gave it.
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
