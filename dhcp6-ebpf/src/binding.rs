//! Is the client known, and is the promise covered by storage?

use core::hint::black_box;

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

use crate::{BINDINGS, LONG_BINDINGS, Scratch, packet::Packet, request::Solicit};

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
    /// Writes a Client Identifier option with a DUID that [`ScratchDuid::is_short`] at an offset of a frame that has room
    /// for it, without a helper's call.
    #[inline(always)]
    pub(crate) fn write_option(&self, packet: &Packet, offset: usize, header: u32) -> Result<(), Reason> {
        const WORD: usize = size_of::<u64>();
        // It is within these bounds where `is_short` says so; the verifier needs to see it.
        let len = WORD + (black_box(self.len as usize - WORD) & (2 * WORD - 1));
        let start = offset + OPTION_HEADER_LEN;
        let octets = self.key as usize + LongBindingKey::DUID_OFFSET;
        // SAFETY: `at` has compared with the end of the frame; the key has more octets than are read of it. Unaligned, as
        // in `Packet::read`.
        unsafe {
            let word_at = |at: usize| ((octets + at) as *const u64).read();
            packet.at::<u32>(offset).ok_or(Reason::Internal)?.write(header);
            packet.at::<u64>(start).ok_or(Reason::Internal)?.write(word_at(0));
            if len > 2 * WORD {
                packet.at::<u64>(start + WORD).ok_or(Reason::Internal)?.write(word_at(WORD));
            }
            // Otherwise the compiler would compare with the sum of the other numbers, of which the verifier knows nothing.
            let last = black_box(start + len - WORD);
            packet.at::<u64>(last).ok_or(Reason::Internal)?.write(word_at(len - WORD));
        }
        Ok(())
    }

    /// Whether [`ScratchDuid::write_option`] writes it.
    #[inline(always)]
    pub(crate) fn is_short(&self) -> bool {
        self.len >= DuidInFrame::SHORTEST && self.len <= BindingKey::DUID_LEN as u32
    }

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
    let tags_len = ethernet.tags_len() as u32;
    let duid = DuidInFrame { offset: u32::from(scan.duid_offset) + tags_len, len, tags_len };
    let binds_to_mac = link.is(LINK_BINDS_TO_MAC);
    let key: *mut LongBindingKey = key;
    let (element, sum) = if len <= BindingKey::DUID_LEN as u32 && !binds_to_mac {
        // SAFETY: the short key is the beginning of the long one, per-CPU memory that only this run of the program uses.
        let key = unsafe { &mut *key.cast::<BindingKey>() };
        if !duid.read_short(&ethernet.packet(ctx), first, key) {
            duid.read(ctx, (first, 0), key)?;
        }
        look_up(&BINDINGS, key, binding)?
    } else {
        let mac = if binds_to_mac { ethernet.source_word() } else { 0 };
        // SAFETY: as above.
        let key = unsafe { &mut *key };
        duid.read(ctx, (first, mac), key)?;
        look_up(&LONG_BINDINGS, key, binding)?
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
    /// With the tags.
    offset: u32,
    len: u32,
    tags_len: u32,
}

impl DuidInFrame {
    /// The shortest DUID that is read without a helper's call: a DUID-LL of Ethernet (RFC 9915, section 11.4). Those of
    /// types LLT and UUID are longer.
    const SHORTEST: u32 = 10;

    /// Makes a key of its first word and the DUID, without a helper's call, and says whether that was possible: with
    /// most DUIDs that another option follows.
    #[inline(always)]
    fn read_short(&self, packet: &Packet, first: u64, key: &mut BindingKey) -> bool {
        const LEN: u32 = BindingKey::DUID_LEN as u32;
        if self.len < Self::SHORTEST || self.len > LEN {
            return false;
        }
        // What is in front of the DUID in the key takes as much room as the option's header and two octets.
        let offset = self.offset as usize - self.tags_len as usize - BindingKey::DUID_OFFSET;
        let Some([zeroth, second, third]) = packet.read::<[u64; 3]>(offset) else { return false };
        let behind = if self.len == Self::SHORTEST { 0 } else { u64::MAX >> (((LEN - self.len) * 8) & 63) };
        key.0 = [first | zeroth & 0xffff << 48, second, third & behind];
        true
    }

    /// Makes a key of its first word, the DUID and, where it has one, the MAC address in the last word.
    #[inline(always)]
    fn read<const WORDS: usize>(
        &self,
        ctx: &XdpContext,
        (first, mac): (u64, u64),
        key: &mut Key<WORDS>,
    ) -> Result<(), Reason> {
        if self.len == 0 || self.len > Key::<WORDS>::DUID_LEN as u32 {
            return Err(Reason::NoClientId);
        }
        *key = Key([0; WORDS]);
        key.0[0] = first;
        // SAFETY: the key has room for DUID_LEN octets behind the offset.
        unsafe {
            let duid = (&raw mut *key).cast::<u8>().add(Key::<WORDS>::DUID_OFFSET);
            if bpf_xdp_load_bytes(ctx.ctx, self.offset, duid.cast(), self.len) != 0 {
                return Err(Reason::NoClientId);
            }
        }
        if Key::<WORDS>::HAS_MAC {
            key.0[WORDS - 1] = mac;
        }
        Ok(())
    }
}

/// Copies the binding out of the map, whole (see [`Binding::sealed`]). Returns the element and the sum of the DUID.
#[inline(always)]
fn look_up<const WORDS: usize>(
    map: &HashMap<Key<WORDS>, Binding>,
    key: &Key<WORDS>,
    binding: &mut Binding,
) -> Result<(*mut Binding, Sum), Reason> {
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
