//! The fast path: turns a Solicit with Rapid Commit from a known client into its Reply, inside the driver.
//!
//! A frame goes through four steps, one module each: [`request`] decides whether it is a Solicit that this
//! program may judge, [`binding`] whether the client is known and the promise covered by storage, [`checksum`]
//! whether it arrived whole, [`reply`] rewrites it in place. Until the last of all checks has passed nothing is
//! written, so that whatever is passed on is the frame that arrived. What each step refuses is counted under a
//! [`Reason`].
//!
//! One instance of the program is loaded per interface: [`SLOT`] is constant for the verifier, which makes the
//! look-up of link and counters an address computed at load time.

// On a host, where it is only checked, it shares its dependencies with programs that have std.
#![cfg_attr(target_arch = "bpf", no_std)]
#![no_main]
#![expect(unsafe_code, reason = "packet memory, map values and BPF helpers are raw pointers here")]
#![expect(clippy::inline_always, reason = "a call costs registers, and hides bounds from the verifier")]
#![expect(clippy::cast_possible_wrap, reason = "no frame is longer than 65535 octets")]
#![expect(clippy::needless_pass_by_value, reason = "the signature that the xdp macro calls")]

use aya_ebpf::{
    Global,
    bindings::xdp_action,
    macros::{map, xdp},
    maps::{Array, HashMap, PerCpuArray},
    programs::XdpContext,
};
use aya_log_ebpf::info;
use dhcp6_common::{
    Reason, Verdict,
    contract::{Binding, BindingKey, Link, LongBindingKey, ReplyBlock, counter_index},
};

mod binding;
mod checksum;
mod packet;
mod reply;
mod request;

/// Index of the interface that this instance serves, set at load time.
#[unsafe(no_mangle)]
static SLOT: Global<u32> = Global::new(0);
/// Whether to log each answer through aya-log: 1 or 0, set at load time.
#[unsafe(no_mangle)]
static LOG: Global<u32> = Global::new(0);

/// Elements are allocated when they are used, so that the capacity costs its buckets only.
const BPF_F_NO_PREALLOC: u32 = 1;

// The daemon sets the capacities at load time.
#[map]
static BINDINGS: HashMap<BindingKey, Binding> = HashMap::pinned(1, BPF_F_NO_PREALLOC);
#[map]
static LONG_BINDINGS: HashMap<LongBindingKey, Binding> = HashMap::pinned(1, BPF_F_NO_PREALLOC);
#[map]
static LINKS: Array<Link> = Array::pinned(1, 0);
#[map]
static REPLY_BLOCKS: Array<ReplyBlock> = Array::pinned(1, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::pinned(1, 0);

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// What is known of this CPU's frame.
///
/// Not on the stack: the key is too long for it, and the verifier remembers what it knows of each number there,
/// so that it would walk through the program once for each combination of options. Of memory in a map it
/// remembers nothing.
#[repr(C)]
struct Scratch {
    key: LongBindingKey,
    scan: request::Scan,
    rest: checksum::Rest,
}

#[xdp]
fn dhcp6(ctx: XdpContext) -> u32 {
    let slot = SLOT.load();
    let reason = match answer(&ctx, slot) {
        Ok(()) => Reason::Answered,
        Err(reason) => reason,
    };
    if let Some(counter) = COUNTERS.get_ptr_mut(counter_index(slot, reason)) {
        // SAFETY: a per-CPU element, and XDP programs are not preempted by each other.
        unsafe { *counter += 1 };
    }
    match reason.verdict() {
        Verdict::Answered => xdp_action::XDP_TX,
        Verdict::Passed => xdp_action::XDP_PASS,
        Verdict::Dropped => xdp_action::XDP_DROP,
    }
}

#[inline(always)]
fn answer(ctx: &XdpContext, slot: u32) -> Result<(), Reason> {
    request::is_dhcpv6(ctx)?;
    let link = LINKS.get(slot).filter(|link| link.ifindex != 0).ok_or(Reason::NoLink)?;
    if link.rapid_commit == 0 {
        return Err(Reason::RapidCommitOff);
    }
    // SAFETY: per-CPU memory, and XDP programs are not preempted by each other.
    let Scratch { key, scan, rest } = unsafe { &mut *SCRATCH.get_ptr_mut(0).ok_or(Reason::NoLink)? };
    let solicit = request::solicit(ctx, slot, scan)?;
    let block = reply::block(slot, solicit.requested)?;
    let known = binding::find(ctx, slot, &solicit, key)?;
    checksum::verify(ctx, rest)?;
    let address = known.address();
    reply::send(ctx, link, block, known)?;
    if LOG.load() != 0 {
        info!(ctx, "answered {:i}", address);
    }
    Ok(())
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Lets the kernel offer the program its GPL-only helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
