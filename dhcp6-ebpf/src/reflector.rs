//! What the fast path is measured against: programs that send every frame back, with as little ado as possible.
//!
//! [`swap`] only swaps the MAC addresses, [`look_up`] looks the client up in a hash map before. [`count`] is attached at
//! the other end, whatever answers there. For `cargo xtask bench fastpath`; never on a network.

// On a host, where it is only checked, it shares its dependencies with programs that have std.
#![cfg_attr(target_arch = "bpf", no_std)]
#![no_main]
#![expect(unsafe_code, reason = "packet memory and map values are raw pointers here")]
#![expect(clippy::inline_always, reason = "a call costs registers, and hides bounds from the verifier")]
#![expect(clippy::needless_pass_by_value, reason = "the signature that the xdp macro calls")]

use aya_ebpf::{
    bindings::xdp_action,
    macros::{map, xdp},
    maps::{HashMap, PerCpuArray},
    programs::XdpContext,
};
use dhcp6_common::{
    contract::{BindingKey, Key},
    flood::{MAC_PREFIX, offset},
    wire::MessageType,
};

/// As the map of bindings is made.
const BPF_F_NO_PREALLOC: u32 = 1;
/// Octets of the DUID.
const DUID_LEN: u64 = 10;

/// Known clients, by their DUIDs. What the values are does not matter here.
#[map]
static KNOWN: HashMap<BindingKey, [u64; 4]> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// Frames to clients of the load generator, by message type.
#[map]
static RECEIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(MessageType::Reply as u32 + 1, 0);

/// Sends a frame back.
#[xdp]
fn swap(ctx: XdpContext) -> u32 {
    match reflect(&ctx) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_DROP,
    }
}

/// Sends a frame from a known client back.
#[xdp]
fn look_up(ctx: XdpContext) -> u32 {
    match find(&ctx).and_then(|()| reflect(&ctx)) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_DROP,
    }
}

/// Counts a frame.
#[xdp]
fn count(ctx: XdpContext) -> u32 {
    match increment(&ctx) {
        Some(()) => xdp_action::XDP_DROP,
        None => xdp_action::XDP_PASS,
    }
}

/// Makes the key that the generator's frame has its client under, and looks it up.
#[inline(always)]
fn find(ctx: &XdpContext) -> Option<()> {
    // Two octets of the DUID's type, two of the hardware's, and those of the MAC address, of which two are the same for
    // all.
    let duid = ctx.data() + offset::DUID - 6;
    if duid + 10 > ctx.data_end() {
        return None;
    }
    // SAFETY: within the bounds that were compared with above; unaligned, as packets are.
    let (first, last) = unsafe { ((duid as *const u64).read(), ((duid + 8) as *const u16).read()) };
    let key = Key([DUID_LEN, first, last.into()]);
    KNOWN.get_ptr(key).map(drop)
}

#[inline(always)]
fn reflect(ctx: &XdpContext) -> Option<()> {
    let start = ctx.data();
    if start + 12 > ctx.data_end() {
        return None;
    }
    let (destination, source) = (start, start + 6);
    // SAFETY: within the bounds that were compared with above; unaligned, as packets are.
    unsafe {
        let to = ((destination as *const u32).read(), ((destination + 4) as *const u16).read());
        let from = ((source as *const u32).read(), ((source + 4) as *const u16).read());
        (destination as *mut u32).write(from.0);
        ((destination + 4) as *mut u16).write(from.1);
        (source as *mut u32).write(to.0);
        ((source + 4) as *mut u16).write(to.1);
    }
    Some(())
}

#[inline(always)]
fn increment(ctx: &XdpContext) -> Option<()> {
    let start = ctx.data();
    if start + offset::MESSAGE + 1 > ctx.data_end() {
        return None;
    }
    // SAFETY: within the bounds that were compared with above.
    let (prefix, kind) =
        unsafe { ((start as *const [u8; 2]).read(), ((start + offset::MESSAGE) as *const u8).read()) };
    if prefix != MAC_PREFIX {
        return None;
    }
    let counter = RECEIVED.get_ptr_mut(kind.into())?;
    // SAFETY: a per-CPU element, and XDP programs are not preempted by each other.
    unsafe { *counter += 1 };
    Some(())
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
