//! May a message go up to the daemon?
//!
//! The daemon is slower than the network. What is no message at all ends here; of the rest nobody gets up more than
//! their share: no source (MAC address and VLAN), not all strangers together, nor all clients. The rates are those of a
//! leaky bucket as a meter, which keeps one number: the time at which the next message would be due if all came evenly
//! (ITU-T I.371, virtual scheduling). CPUs that meter at once may let a message too many through.

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, programs::XdpContext};
use dhcp6_common::{
    Reason, Verdict,
    contract::{Interface, Limits, Link},
    wire::MessageType,
};

use crate::{BUCKETS, SOURCES, Scratch, binding, request};

/// How many sources are told apart at a time; one that falls on another's place begins anew.
pub(crate) const MOST_SOURCES: u32 = 1 << 16;

/// What is remembered of a source. Times are of CLOCK_MONOTONIC, in nanoseconds.
#[repr(C)]
pub(crate) struct Source {
    /// Its MAC address.
    mac: u64,
    /// Its VLAN.
    vlan: u64,
    /// Of its last Solicit that was let up.
    fingerprint: u64,
    /// When that was.
    at: u64,
    /// When its next message is due.
    due: u64,
}

/// When the next message of each kind is due.
#[repr(C)]
pub(crate) struct Buckets {
    strangers: u64,
    clients: u64,
    relayed: u64,
}

/// Judges a frame that is not answered: the number of the [`Reason`] under which it is passed or dropped.
///
/// The number it has so far is in `scratch`: memory of which the verifier remembers nothing, so that it walks through
/// this once, and not once for each reason.
#[inline(always)]
pub(crate) fn judge(
    ctx: &XdpContext,
    interface: &Interface,
    link: (u32, &Link),
    scratch: &mut Scratch,
) -> u32 {
    let reason = scratch.reason;
    if verdict_of(reason) != Verdict::Passed {
        // What is not any more the frame that arrived goes nowhere.
        let is_dropped = interface.polices != 0 || reason == Reason::Internal as u32;
        return if is_dropped { reason } else { Reason::Unpoliced as u32 };
    }
    if interface.polices == 0 {
        return reason;
    }
    match admit(ctx, &interface.limits, link, scratch) {
        Ok(()) => reason,
        Err(refusal) => refusal as u32,
    }
}

/// What happens to a frame that is counted under the reason with this number.
#[inline(always)]
pub(crate) fn verdict_of(reason: u32) -> Verdict {
    const DROPPED: u64 = {
        let mut set = 0;
        let mut index = 0;
        while index < Reason::COUNT {
            if matches!(Reason::ALL[index].verdict(), Verdict::Dropped) {
                set |= 1 << index;
            }
            index += 1;
        }
        set
    };
    const { assert!(Reason::COUNT <= 64) };
    if reason == Reason::Answered as u32 {
        Verdict::Answered
    } else if DROPPED >> (reason & 63) & 1 != 0 {
        Verdict::Dropped
    } else {
        Verdict::Passed
    }
}

#[inline(always)]
fn admit(ctx: &XdpContext, limits: &Limits, link: (u32, &Link), scratch: &mut Scratch) -> Result<(), Reason> {
    let kind = scratch.message.kind;
    // SAFETY: the element of an array, which the map outlives; other CPUs may write the numbers at the same time.
    let Some(buckets) = BUCKETS.get_ptr_mut(0).map(|buckets| unsafe { &mut *buckets }) else { return Ok(()) };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let take = |due: &mut u64, interval: u32| is_due(due, now, interval, limits.burst);
    if kind == MessageType::RelayForward as u32 {
        return take(&mut buckets.relayed, limits.relayed).then_some(()).ok_or(Reason::RelayLimit);
    }
    let is_solicit = kind == MessageType::Solicit as u32;

    let (mac, vlan) = (scratch.ethernet.source_word(), u64::from(scratch.ethernet.vlan.bits()));
    let place = (mac ^ limits.seed ^ vlan << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    // SAFETY: as above.
    let Some(source) = SOURCES.get_ptr_mut(place as u32).map(|source| unsafe { &mut *source }) else {
        return Ok(());
    };
    if source.mac != mac || source.vlan != vlan {
        *source = Source { mac, vlan, fingerprint: 0, at: 0, due: 0 };
    }
    let fingerprint =
        if is_solicit && scratch.is_scanned != 0 { binding::fingerprint(ctx, scratch) } else { 0 };
    let is_recent = now.wrapping_sub(source.at) < limits.retransmission;
    if fingerprint != 0 && source.fingerprint == fingerprint && is_recent {
        return Err(Reason::Retransmission);
    }
    if !take(&mut source.due, limits.per_source) {
        return Err(Reason::SourceLimit);
    }

    // As long as strangers leave room, nobody has to be looked up.
    if scratch.is_known != 0 || !take(&mut buckets.strangers, limits.strangers) {
        if !is_known(ctx, link, scratch) {
            return Err(Reason::StrangerLimit);
        }
        if !take(&mut buckets.clients, limits.clients) {
            return Err(Reason::ClientLimit);
        }
    }
    if fingerprint != 0 {
        source.fingerprint = fingerprint;
        source.at = now;
    }
    Ok(())
}

/// Whether the client has a binding, whatever its message.
#[inline(always)]
fn is_known(ctx: &XdpContext, link: (u32, &Link), scratch: &mut Scratch) -> bool {
    if scratch.is_known != 0 {
        return true;
    }
    if scratch.reason == Reason::UnknownClient as u32 || scratch.reason == Reason::TooLong as u32 {
        return false;
    }
    if scratch.is_scanned == 0 {
        let Scratch { ethernet, message, scan, .. } = &mut *scratch;
        if request::scan_any(ctx, ethernet, message, link.0, scan).is_err() {
            return false;
        }
    }
    binding::find(ctx, link, scratch).is_ok()
}

/// Whether a message may pass at a time, of those that come at an interval in the long run, or at once as many as come
/// within `burst`.
#[inline(always)]
fn is_due(due: &mut u64, now: u64, interval: u32, burst: u64) -> bool {
    let at = *due;
    if at > now + burst {
        return false;
    }
    *due = if at > now { at } else { now } + u64::from(interval);
    true
}
