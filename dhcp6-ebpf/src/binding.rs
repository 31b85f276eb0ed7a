//! Is the client known, and is the promise covered by storage?

use aya_ebpf::{
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_xdp_load_bytes},
    maps::HashMap,
    programs::XdpContext,
};
use dhcp6_common::{
    Reason, Vlan,
    contract::{Binding, BindingKey, Key, LINK_BINDS_TO_MAC, LINK_SPANS_VLANS, Link, LongBindingKey, mix},
    wire::{OPTION_HEADER_LEN, Sum},
};

use crate::{BINDINGS, LONG_BINDINGS, Scratch, request::Solicit};

/// A binding of the client.
pub(crate) struct Known {
    /// The map's element, for the stamp.
    element: *mut Binding,
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

/// Checks that a binding may be granted now, with all of the IAs that the client asks for. Returns the time,
/// CLOCK_BOOTTIME in nanoseconds.
#[inline(always)]
pub(crate) fn judge(binding: &Binding, solicit: &Solicit) -> Result<u64, Reason> {
    if let Some(iaid) = solicit.address_iaid()
        && (!binding.has_address() || u32::from_ne_bytes(binding.address_iaid) != iaid)
    {
        return Err(Reason::OtherIa);
    }
    if let Some(iaid) = solicit.prefix_iaid()
        && (binding.prefix_length() == 0 || u32::from_ne_bytes(binding.prefix_iaid) != iaid)
    {
        return Err(Reason::OtherIa);
    }
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if binding.is_served_at(now) { Ok(now) } else { Err(Reason::HorizonPassed) }
}

impl Known {
    /// Tells the daemon that the binding has been granted.
    ///
    /// Two CPUs that grant the same binding at once may count one grant, and an element that has changed hands
    /// gets a stamp too many, which extends a horizon early; neither promises anything.
    #[inline(always)]
    pub(crate) fn stamp(&self, binding: &Binding, solicit: &Solicit, now: u64) {
        // SAFETY: the pointer is from a look-up in this run of the program, which the map outlives.
        unsafe { (*self.element).stamp = binding.stamp.next(solicit.wants(), now) };
    }
}

/// Looks up the client's binding, for links that look at VLAN or MAC address that of this origin, and copies it.
#[inline(always)]
pub(crate) fn find(
    ctx: &XdpContext,
    (index, link): (u32, &Link),
    Scratch { key, binding, ethernet, scan, .. }: &mut Scratch,
) -> Result<Known, Reason> {
    let len = u32::from(scan.duid_len);
    let vlan = if link.is(LINK_SPANS_VLANS) { ethernet.vlan } else { Vlan::NONE };
    let first = Key::<3>::first_word(index as u16, vlan, len as u8);
    let duid = DuidInFrame { offset: u32::from(scan.duid_offset) + ethernet.tags_len() as u32, len };
    let binds_to_mac = link.is(LINK_BINDS_TO_MAC);
    let key: *mut LongBindingKey = key;
    let (element, sum) = if len <= BindingKey::DUID_LEN as u32 && !binds_to_mac {
        look_up(ctx, &BINDINGS, key.cast(), (first, 0), duid, binding)?
    } else {
        let mac = if binds_to_mac { ethernet.source_word() } else { 0 };
        look_up(ctx, &LONG_BINDINGS, key, (first, mac), duid, binding)?
    };
    Ok(Known { element, duid: ScratchDuid { key, len, sum } })
}

/// A number that differs from Solicit to Solicit: of the DUID and the message's header.
#[inline(always)]
pub(crate) fn fingerprint(
    ctx: &XdpContext,
    Scratch { key, ethernet, scan, message, .. }: &mut Scratch,
) -> u64 {
    let len = u32::from(scan.duid_len);
    let mut print = u64::from(message.header) << 32 | u64::from(len);
    if len == 0 || len > LongBindingKey::DUID_LEN as u32 {
        return print;
    }
    *key = Key([0; 18]);
    let offset = u32::from(scan.duid_offset) + ethernet.tags_len() as u32;
    // SAFETY: the key is longer than DUID_LEN octets, and nothing else has it now.
    unsafe { bpf_xdp_load_bytes(ctx.ctx, offset, (&raw mut *key).cast(), len) };
    for word in key.0 {
        print = mix(print, word);
    }
    print
}

/// Where the DUID lies in the frame.
struct DuidInFrame {
    offset: u32,
    len: u32,
}

/// Makes the key of its first and last word, and copies the binding out of the map, whole (see [`Binding::sealed`]).
#[inline(always)]
fn look_up<const WORDS: usize>(
    ctx: &XdpContext,
    map: &HashMap<Key<WORDS>, Binding>,
    key: *mut Key<WORDS>,
    (first, mac): (u64, u64),
    duid: DuidInFrame,
    binding: &mut Binding,
) -> Result<(*mut Binding, Sum), Reason> {
    let DuidInFrame { offset, len } = duid;
    if len == 0 || len > Key::<WORDS>::DUID_LEN as u32 {
        return Err(Reason::NoClientId);
    }
    // SAFETY: per-CPU memory that only this run of the program uses; the key has room for DUID_LEN octets
    // behind the offset.
    let key = unsafe {
        *key = Key([0; WORDS]);
        (*key).0[0] = first;
        let duid = key.cast::<u8>().add(Key::<WORDS>::DUID_OFFSET);
        if bpf_xdp_load_bytes(ctx.ctx, offset, duid.cast(), len) != 0 {
            return Err(Reason::NoClientId);
        }
        if Key::<WORDS>::HAS_MAC {
            (*key).0[WORDS - 1] = mac;
        }
        &*key
    };
    let element = map.get_ptr_mut(key).ok_or(Reason::UnknownClient)?;
    // SAFETY: the pointer is from a look-up in this run of the program. Volatile, so that each field is read
    // once and what is compared is what is sent.
    *binding = unsafe { element.read_volatile() };
    if !binding.is_of(key) {
        return Err(Reason::BindingReplaced);
    }
    let duid_words = if Key::<WORDS>::HAS_MAC { WORDS - 1 } else { WORDS };
    let mut sum = Sum::ZERO.add_u16((key.0[0] >> 48) as u16);
    for word in &key.0[1..duid_words] {
        sum = sum.add_u32(*word as u32).add_u32((*word >> 32) as u32);
    }
    Ok((element, sum))
}
