//! Is the client known, and is the promise covered by storage?

use aya_ebpf::{
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_xdp_load_bytes},
    maps::HashMap,
    programs::XdpContext,
};
use core::net::Ipv6Addr;
use dhcp6_common::{
    Reason,
    contract::{Binding, BindingKey, Key, LongBindingKey},
    wire::{OPTION_HEADER_LEN, Sum},
};

use crate::{BINDINGS, LONG_BINDINGS, request::Solicit};

/// A binding that may be granted now.
pub(crate) struct Known {
    /// A copy of the map's element that belongs to this client.
    pub(crate) binding: Binding,
    /// The element itself, for the stamp.
    element: *mut Binding,
    /// CLOCK_BOOTTIME in nanoseconds.
    now: u64,
    /// The client.
    pub(crate) duid: ScratchDuid,
}

/// The client's DUID, in this CPU's scratch memory.
pub(crate) struct ScratchDuid {
    key: *mut LongBindingKey,
    /// Length of the DUID in octets.
    pub(crate) len: u32,
    /// Sum of its octets.
    pub(crate) sum: Sum,
}

impl ScratchDuid {
    /// The DUID with four octets before it, which become the header of a Client Identifier option; `header` is
    /// in memory order.
    #[inline(always)]
    pub(crate) fn into_option(self, header: u32) -> *mut u8 {
        // The octets in front of the DUID in the key, link and length, have served their purpose.
        // SAFETY: the key lies in a map's element, which outlives this run of the program.
        unsafe {
            let option = self.key.cast::<u8>().add(LongBindingKey::DUID_OFFSET - OPTION_HEADER_LEN);
            option.cast::<u32>().write_unaligned(header);
            option
        }
    }
}

impl Known {
    /// The address that is granted.
    #[inline(always)]
    pub(crate) fn address(&self) -> Ipv6Addr {
        self.binding.address.into()
    }

    /// Tells the daemon that the binding has been granted.
    ///
    /// Two CPUs that grant the same binding at once may count one grant, and an element that has changed hands
    /// gets a stamp too many, which extends a horizon early; neither promises anything.
    #[inline(always)]
    pub(crate) fn stamp(&self) {
        // SAFETY: the pointer is from a look-up in this run of the program, which the map outlives.
        unsafe {
            (*self.element).last_grant = self.now;
            (*self.element).grants = self.binding.grants.wrapping_add(1);
        }
    }
}

/// Looks up the client's binding and checks that it may be granted.
#[inline(always)]
pub(crate) fn find(
    ctx: &XdpContext,
    slot: u32,
    solicit: &Solicit,
    scratch: *mut LongBindingKey,
) -> Result<Known, Reason> {
    let len = u32::from(solicit.duid_len);
    let (binding, element, sum) = if len <= BindingKey::DUID_LEN as u32 {
        look_up(ctx, &BINDINGS, scratch.cast(), slot, solicit)?
    } else {
        look_up(ctx, &LONG_BINDINGS, scratch, slot, solicit)?
    };
    if binding.iaid != solicit.iaid {
        return Err(Reason::OtherIaid);
    }
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if now > binding.serve_until {
        return Err(Reason::HorizonPassed);
    }
    Ok(Known { binding, element, now, duid: ScratchDuid { key: scratch, len, sum } })
}

/// Makes the key, and copies the binding out of the map, whole (see [`Binding::compute_seal`]).
#[inline(always)]
fn look_up<const WORDS: usize>(
    ctx: &XdpContext,
    map: &HashMap<Key<WORDS>, Binding>,
    key: *mut Key<WORDS>,
    slot: u32,
    solicit: &Solicit,
) -> Result<(Binding, *mut Binding, Sum), Reason> {
    let len = u32::from(solicit.duid_len);
    if len == 0 || len > Key::<WORDS>::DUID_LEN as u32 {
        return Err(Reason::NoClientId);
    }
    // SAFETY: per-CPU memory that only this run of the program uses; the key has room for DUID_LEN octets
    // behind the offset.
    let key = unsafe {
        *key = Key([0; WORDS]);
        (*key).0[0] = u64::from(slot) | u64::from(len) << 32;
        let duid = key.cast::<u8>().add(Key::<WORDS>::DUID_OFFSET);
        if bpf_xdp_load_bytes(ctx.ctx, u32::from(solicit.duid_offset), duid.cast(), len) != 0 {
            return Err(Reason::NoClientId);
        }
        &*key
    };
    let element = map.get_ptr_mut(key).ok_or(Reason::UnknownClient)?;
    // SAFETY: the pointer is from a look-up in this run of the program. Volatile, so that each field is read
    // once and what is compared is what is sent.
    let binding = unsafe { element.read_volatile() };
    if binding.seal != binding.compute_seal(key) {
        return Err(Reason::BindingReplaced);
    }
    let mut sum = Sum::ZERO.add_u16((key.0[0] >> 48) as u16);
    for word in &key.0[1..] {
        sum = sum.add_u32(*word as u32).add_u32((*word >> 32) as u32);
    }
    Ok((binding, element, sum))
}
