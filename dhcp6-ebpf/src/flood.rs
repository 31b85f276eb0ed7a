//! The load generator's programs: one writes Solicits from millions of clients, the other counts the replies.
//!
//! [`generate`] is run by BPF_PROG_TEST_RUN with live frames: the kernel hands it a frame, and sends it out of the
//! interface that the program redirects it to. A frame comes back as the receiver has left it, so the whole of it is
//! written anew each time. [`receive`] is attached to that interface.

// On a host, where it is only checked, it shares its dependencies with programs that have std.
#![cfg_attr(target_arch = "bpf", no_std)]
#![no_main]
#![expect(unsafe_code, reason = "packet memory, map values and BPF helpers are raw pointers here")]
#![expect(clippy::cast_possible_wrap, reason = "no frame is longer than 65535 octets")]
#![expect(clippy::inline_always, reason = "a call costs registers, and hides bounds from the verifier")]
#![expect(clippy::needless_pass_by_value, reason = "the signature that the xdp macro calls")]

use aya_ebpf::{
    Global,
    bindings::xdp_action,
    helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_redirect, bpf_xdp_adjust_tail},
    macros::{map, xdp},
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};
use dhcp6_common::{
    flood::{
        Class, Damage, FIRST_FINDING, Finding, IAID_MASK, LATENCY_CLASSES, LONGEST_LATENCY_US, MAC_PREFIX,
        RECEIVED_LEN, SAMPLE, TAIL_LEN, TEMPLATE_LEN, latency_class, latency_us, offset, transaction_id,
    },
    wire::{CLIENT_PORT, MessageType, Sum},
};

#[unsafe(no_mangle)]
static INTERFACE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static CLIENTS: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
static FIRST_STRANGER: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static UNKNOWN: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static MALFORMED: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static RANDOM: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static SUM: Global<u32> = Global::new(0);

/// The template, in words; the last one is longer than what is left of it.
type Words = [u64; TEMPLATE_LEN.div_ceil(8)];

#[map]
static TEMPLATE: Array<Words> = Array::with_max_entries(1, 0);
#[map]
static GENERATED: PerCpuArray<u64> = PerCpuArray::with_max_entries(Class::ALL.len() as u32, 0);
#[map]
static RECEIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(RECEIVED_LEN, 0);
#[map]
static LATENCIES: PerCpuArray<u64> = PerCpuArray::with_max_entries(LATENCY_CLASSES, 0);

/// Writes a frame and sends it.
#[xdp]
fn generate(ctx: XdpContext) -> u32 {
    match write(&ctx) {
        // SAFETY: a helper without pointers.
        Some(()) => unsafe { bpf_redirect(INTERFACE.load(), 0).cast_unsigned() as u32 },
        None => xdp_action::XDP_DROP,
    }
}

#[inline(always)]
fn write(ctx: &XdpContext) -> Option<()> {
    let class = draw();
    let counter = GENERATED.get_ptr_mut(class as u32)?;
    // SAFETY: a per-CPU element, and XDP programs are not preempted by each other.
    let count = unsafe {
        *counter += 1;
        *counter - 1
    };
    let is_random = RANDOM.load() != 0;
    let number = match class {
        Class::Known if is_random => ((u64::from(scatter(count)) * u64::from(CLIENTS.load())) >> 32) as u32,
        Class::Known => count.checked_rem(u64::from(CLIENTS.load()))? as u32,
        _ => class.bits() | (FIRST_STRANGER.load().wrapping_add(count as u32) & !Class::BITS),
    };
    let template = TEMPLATE.get(0)?;
    let start = ctx.data();
    if start + TEMPLATE_LEN + TAIL_LEN > ctx.data_end() {
        return None;
    }
    let [a, b, c, d] = number.to_be_bytes();
    let iaid = (number ^ IAID_MASK).to_be_bytes();
    let message = if is_random {
        count as u32 & 0x00ff_ffff
    } else {
        // SAFETY: a helper without arguments.
        transaction_id(unsafe { bpf_ktime_get_ns() })
    };
    let message = ((MessageType::Solicit as u32) << 24 | message).to_be_bytes();
    // In memory order, as they lie in the frame: each at an even offset.
    let mut sum = Sum::from_folded(SUM.load() as u16)
        .add_u16(u16::from_ne_bytes([a, 0]))
        .add_u16(u16::from_ne_bytes([0, b]))
        .add_u16(u16::from_ne_bytes([c, d]))
        .add_u32(u32::from_ne_bytes(message))
        .add_u32(u32::from_ne_bytes([a, b, c, d]))
        .add_u32(u32::from_ne_bytes(iaid));
    let damage = if class == Class::Malformed { Some(Damage::of(number)) } else { None };
    if damage == Some(Damage::Option) {
        sum = sum.add_u16((Damage::OPTION_LEN - 4).to_be());
    }
    let mut checksum = sum.finish();
    if damage == Some(Damage::Checksum) {
        checksum = !checksum;
    }
    // SAFETY: all of it is within the bounds that were compared with above. The verifier admits unaligned access to
    // packets where the machine does it efficiently.
    unsafe {
        let words = start as *mut u64;
        let mut word = 0;
        while word < TEMPLATE_LEN / 8 {
            words.add(word).write_unaligned(template[word]);
            word += 1;
        }
        let rest = (start + TEMPLATE_LEN / 8 * 8) as *mut u16;
        rest.write_unaligned(template[TEMPLATE_LEN / 8] as u16);
        ((start + offset::MAC) as *mut [u8; 4]).write([a, b, c, d]);
        ((start + offset::ADDRESS) as *mut u8).write(a);
        ((start + offset::ADDRESS_REST) as *mut [u8; 3]).write([b, c, d]);
        ((start + offset::MESSAGE) as *mut [u8; 4]).write(message);
        ((start + offset::DUID) as *mut [u8; 4]).write([a, b, c, d]);
        ((start + offset::IAID) as *mut [u8; 4]).write(iaid);
        ((start + offset::CHECKSUM) as *mut [u8; 2]).write(checksum.to_ne_bytes());
        if damage == Some(Damage::Length) {
            let too_long = (start + offset::UDP_LEN + 1) as *mut u8;
            too_long.write(too_long.read() | 0x80);
        }
        if damage == Some(Damage::Option) {
            ((start + offset::LAST_OPTION_LEN) as *mut [u8; 2]).write(Damage::OPTION_LEN.to_be_bytes());
        }
    }
    let mut cut = TAIL_LEN as i32;
    if damage == Some(Damage::Truncated) {
        cut += Damage::LACKING as i32;
    }
    // SAFETY: the context is the one that the program was called with; packet memory is not used afterwards.
    (unsafe { bpf_xdp_adjust_tail(ctx.ctx, -cut) } == 0).then_some(())
}

/// Another number for each number, all over 32 bits: the finaliser of SplitMix64.
#[inline(always)]
fn scatter(number: u64) -> u32 {
    let mut value = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (value >> 32) as u32
}

/// The class of the next frame.
#[inline(always)]
fn draw() -> Class {
    let (unknown, malformed) = (UNKNOWN.load(), MALFORMED.load());
    if unknown + malformed == 0 {
        return Class::Known;
    }
    // SAFETY: a helper without arguments.
    let drawn = unsafe { bpf_get_prandom_u32() } % 100;
    if drawn < malformed {
        Class::Malformed
    } else if drawn < malformed + unknown {
        Class::Unknown
    } else {
        Class::Known
    }
}

/// What a received frame is.
enum Inbound {
    /// A reply, by its message type.
    Reply(u32),
    /// Counted, and passed on.
    Found(Finding),
    /// Nothing that concerns a client.
    Other,
}

/// Counts a reply. One of [`SAMPLE`] is passed on, and so is whatever is no reply.
#[xdp]
fn receive(ctx: XdpContext) -> u32 {
    let index = match read(&ctx) {
        Inbound::Reply(kind) => kind,
        Inbound::Found(finding) => FIRST_FINDING + finding as u32,
        Inbound::Other => return xdp_action::XDP_PASS,
    };
    increment(&RECEIVED, index);
    // SAFETY: a helper without arguments.
    if index < FIRST_FINDING && unsafe { bpf_get_prandom_u32() } % SAMPLE != 0 {
        return xdp_action::XDP_DROP;
    }
    xdp_action::XDP_PASS
}

#[inline(always)]
fn read(ctx: &XdpContext) -> Inbound {
    let (start, end) = (ctx.data(), ctx.data_end());
    // Up to the transaction identifier.
    if start + offset::MESSAGE + 4 > end {
        return Inbound::Other;
    }
    // SAFETY: all offsets are below what was compared with above.
    let octet = |at: usize| unsafe { ((start + at) as *const u8).read() };
    let half = |at: usize| u16::from_be_bytes([octet(at), octet(at + 1)]);
    let number_at = |at: usize| {
        // SAFETY: as above.
        u32::from_be(unsafe { ((start + at) as *const u32).read_unaligned() })
    };
    if half(12) != 0x86dd || octet(20) != 17 || half(56) != CLIENT_PORT {
        return Inbound::Other;
    }
    let number = number_at(2);
    let class = Class::of(number);
    if [octet(0), octet(1)] != MAC_PREFIX || (class == Class::Known && number >= CLIENTS.load()) {
        return Inbound::Found(Finding::Foreign);
    }
    // The last eight octets of the link-local address: the EUI-64 of the MAC address.
    let [a, b, c, d] = number.to_be_bytes();
    let expected = [[0, MAC_PREFIX[1], a, 0xff], [0xfe, b, c, d]].map(u32::from_be_bytes);
    if number_at(38) != 0xfe80_0000
        || number_at(42) != 0
        || number_at(46) != expected[0]
        || number_at(50) != expected[1]
    {
        return Inbound::Found(Finding::Destination);
    }
    let len = usize::from(half(offset::UDP_LEN));
    if half(18) != half(offset::UDP_LEN) || len < 12 || start + 54 + len > end {
        return Inbound::Found(Finding::Length);
    }
    if class == Class::Malformed {
        return Inbound::Found(match Damage::of(number) {
            Damage::Option => Finding::ToMalformedOption,
            _ => Finding::ToMalformed,
        });
    }
    let message = number_at(offset::MESSAGE);
    // SAFETY: a helper without arguments.
    let latency = latency_us(message & 0x00ff_ffff, unsafe { bpf_ktime_get_ns() });
    if latency > LONGEST_LATENCY_US {
        return Inbound::Found(Finding::TransactionId);
    }
    let kind = message >> 24;
    if kind != MessageType::Advertise as u32 && kind != MessageType::Reply as u32 {
        return Inbound::Found(Finding::MessageType);
    }
    increment(&LATENCIES, latency_class(latency));
    Inbound::Reply(kind)
}

#[inline(always)]
fn increment(map: &PerCpuArray<u64>, index: u32) {
    if let Some(counter) = map.get_ptr_mut(index) {
        // SAFETY: a per-CPU element, and XDP programs are not preempted by each other.
        unsafe { *counter += 1 };
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Lets the kernel offer the programs its GPL-only helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
