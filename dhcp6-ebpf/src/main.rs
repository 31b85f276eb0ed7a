//! The fast path: turns a Solicit with Rapid Commit from a known client into its Reply, inside the driver.
//!
//! A frame goes through five steps, one module each: [`link`] tells by its VLAN tags which link it is from, [`request`]
//! whether it is a Solicit that this program may judge, [`checksum`] whether it arrived whole, [`binding`] whether the
//! client is known and the promise covered by storage, [`reply`] rewrites it in place. Until the last of all checks has
//! passed nothing is written, so that whatever is passed on is the frame that arrived. What a step refuses goes up to
//! the daemon, if [`admission`] admits it, and is counted under a [`Reason`].
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
    contract::{
        Binding, BindingKey, Interface, LINK_IN_USE, Link, LongBindingKey, ReplyBlock, VlanTable,
        counter_index,
    },
    wire::MessageType,
};

use self::link::Ethernet;

mod admission;
mod binding;
mod checksum;
mod link;
mod packet;
mod reply;
mod request;

/// Slot of the interface that this instance serves, set at load time.
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
static INTERFACES: Array<Interface> = Array::pinned(1, 0);
#[map]
static INNER_VLANS: Array<VlanTable> = Array::pinned(1, 0);
#[map]
static LINKS: Array<Link> = Array::pinned(1, 0);
#[map]
static REPLY_BLOCKS: Array<ReplyBlock> = Array::pinned(1, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::pinned(1, 0);

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
// Each instance has its own.
#[map]
static SOURCES: Array<admission::Source> = Array::with_max_entries(admission::MOST_SOURCES, 0);
#[map]
static BUCKETS: Array<admission::Buckets> = Array::with_max_entries(1, 0);

/// What is known of this CPU's frame.
///
/// Not on the stack: the key is too long for it, and the verifier remembers what it knows of each number there,
/// so that it would walk through the program once for each combination of options. Of memory in a map it
/// remembers nothing.
#[repr(C)]
struct Scratch {
    key: LongBindingKey,
    /// The client's binding.
    binding: Binding,
    ethernet: Ethernet,
    /// Of type 0 where there is none.
    message: request::Message,
    scan: request::Scan,
    solicit: request::Solicit,
    rest: checksum::Rest,
    /// Why the frame is not answered: the number of a [`Reason`].
    reason: u32,
    /// Whether the options of a Solicit have been read.
    is_scanned: u32,
    /// Whether the client has a binding.
    is_known: u32,
}

#[xdp(frags)]
fn dhcp6(ctx: XdpContext) -> u32 {
    let slot = SLOT.load();
    let reason = judge(&ctx, slot).unwrap_or_else(|reason| reason as u32);
    if let Some(counter) = COUNTERS.get_ptr_mut(counter_index(slot, reason)) {
        // SAFETY: a per-CPU element, and XDP programs are not preempted by each other.
        unsafe { *counter += 1 };
    }
    match admission::verdict_of(reason) {
        Verdict::Answered => xdp_action::XDP_TX,
        Verdict::Passed => xdp_action::XDP_PASS,
        Verdict::Dropped => xdp_action::XDP_DROP,
    }
}

/// Answers a frame, if it can. The number of the reason under which it is counted, or the reason for what is not for
/// the server.
#[inline(always)]
fn judge(ctx: &XdpContext, slot: u32) -> Result<u32, Reason> {
    let ethernet = Ethernet::read(ctx)?;
    request::is_for_servers(&ethernet.packet(ctx))?;
    let interface = INTERFACES.get(slot).filter(|interface| interface.ifindex != 0).ok_or(Reason::NoLink)?;
    let link = ethernet.link(interface).filter(|(_, link)| link.is(LINK_IN_USE)).ok_or(Reason::NoLink)?;
    // SAFETY: per-CPU memory, and XDP programs are not preempted by each other.
    let scratch = unsafe { &mut *SCRATCH.get_ptr_mut(0).ok_or(Reason::NoLink)? };
    scratch.ethernet = ethernet;
    scratch.message.kind = 0;
    scratch.is_scanned = 0;
    scratch.is_known = 0;
    if let Err(reason) = answer(ctx, interface, link, scratch) {
        // SAFETY: a live, exclusive reference. Volatile, so that it is read again.
        unsafe { (&raw mut scratch.reason).write_volatile(reason as u32) };
        return Ok(admission::judge(ctx, interface, link, scratch));
    }
    Ok(Reason::Answered as u32)
}

#[inline(always)]
fn answer(
    ctx: &XdpContext,
    interface: &Interface,
    (index, link): (u32, &Link),
    scratch: &mut Scratch,
) -> Result<(), Reason> {
    let ethernet = &scratch.ethernet;
    // Nobody sends from a group's address, to which the Reply would go.
    if ethernet.source[0].to_ne_bytes()[0] & 1 != 0 {
        return Err(Reason::SourceNotLinkLocal);
    }
    scratch.message = request::Message::read(ctx, ethernet)?;
    if scratch.message.is_too_long(&ethernet.packet(ctx)) {
        return Err(Reason::TooLong);
    }
    checksum::verify(ctx, ethernet.tags_len(), &mut scratch.rest)?;
    if scratch.message.kind != MessageType::Solicit as u32 {
        return Err(Reason::NotSolicit);
    }
    request::scan(ctx, ethernet, &scratch.message, index, &mut scratch.scan)?;
    scratch.is_scanned = 1;
    request::solicit(ctx, ethernet, link, &mut scratch.scan, &mut scratch.solicit)?;
    let block = reply::block(link, scratch.solicit.requested)?;
    let known = binding::find(ctx, (index, link), scratch)?;
    scratch.is_known = 1;
    let now = binding::judge(&scratch.binding, &scratch.solicit)?;
    reply::send(ctx, (interface, link), scratch, block, known, now)?;
    if LOG.load() != 0 {
        let mac = scratch.ethernet.source.map(u16::to_be);
        info!(ctx, "answered {:x}:{:x}:{:x}", mac[0], mac[1], mac[2]);
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
