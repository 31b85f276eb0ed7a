//! The contract between kernel and daemon: the BPF maps' keys and values.
//!
//! Numbers are in host byte order unless a field says otherwise. Whatever changes a size, a field or a meaning
//! here increments [`LAYOUT_VERSION`], which names the directory that the maps are pinned under.

use core::cmp;

use bytemuck::{Pod, Zeroable};

use crate::{
    Origin, Reason, Vlan,
    wire::{Duid, Sum},
};

/// Version of everything in this module.
pub const LAYOUT_VERSION: u32 = 3;

/// Name of the XDP program in the object.
pub const PROGRAM: &str = "dhcp6";
/// Name of the read-only global with the slot of the interface that an instance of the program serves.
pub const SLOT_GLOBAL: &str = "SLOT";
/// Name of the read-only global that switches aya-log on (1) or off (0).
pub const LOG_GLOBAL: &str = "LOG";
/// Hash map from [`BindingKey`] to [`Binding`], for DUIDs of at most [`BindingKey::DUID_LEN`] octets on links that
/// do not look at MAC addresses.
pub const BINDINGS: &str = "BINDINGS";
/// Hash map from [`LongBindingKey`] to [`Binding`], for all others.
pub const LONG_BINDINGS: &str = "LONG_BINDINGS";
/// Array of [`Interface`], by slot.
pub const INTERFACES: &str = "INTERFACES";
/// Array of [`VlanTable`]: the links of frames with two tags, see [`Interface::double`].
pub const INNER_VLANS: &str = "INNER_VLANS";
/// Array of [`Link`], by the link's index in the configuration.
pub const LINKS: &str = "LINKS";
/// Array of [`ReplyBlock`], see [`Link::first_block`].
pub const REPLY_BLOCKS: &str = "REPLY_BLOCKS";
/// Per-CPU array of `u64`, by [`counter_index`]: what the programs count, behind it for as many slots what earlier
/// programs have counted.
pub const COUNTERS: &str = "COUNTERS";

/// Key of a binding: link, VLAN and DUID, zero behind the DUID's last octet, and in the long key the MAC address.
///
/// Memory order: `u16` link, 24 bits of [`Vlan::bits`], `u8` length of the DUID, then the DUID; the MAC address is in
/// the first six octets of the long key's last word. Held as words, since the program hashes and compares it by words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Key<const WORDS: usize>(pub [u64; WORDS]);

/// Key for DUIDs of up to 18 octets: all of types LLT, LL and UUID, and most of type EN.
pub type BindingKey = Key<3>;
/// Key for DUIDs of up to 130 octets, and a MAC address.
pub type LongBindingKey = Key<18>;

const _: () = assert!(size_of::<BindingKey>() == 24);
const _: () = assert!(size_of::<LongBindingKey>() == 144);
const _: () = assert!(BindingKey::DUID_LEN == 18 && LongBindingKey::DUID_LEN == Duid::MAX_LEN);

impl<const WORDS: usize> Key<WORDS> {
    /// Offset of the DUID in the key.
    pub const DUID_OFFSET: usize = 6;
    /// Whether the key has a MAC address.
    pub const HAS_MAC: bool = WORDS > 3;
    /// The longest DUID that fits, in octets.
    pub const DUID_LEN: usize = if Self::HAS_MAC { Duid::MAX_LEN } else { WORDS * 8 - Self::DUID_OFFSET };
    /// Index of the word with the MAC address.
    const MAC: usize = WORDS - 1;

    /// The key of this client on the link with this index; `None` where it does not fit.
    pub fn new(link: u32, origin: Origin, duid: &Duid) -> Option<Self> {
        let mut key = Self::zeroed();
        let link = u16::try_from(link).ok()?;
        if duid.as_slice().len() > Self::DUID_LEN || !Self::HAS_MAC && origin.mac != [0; 6] {
            return None;
        }
        key.0[0] = Self::first_word(link, origin.vlan, duid.as_slice().len() as u8);
        if Self::HAS_MAC {
            key.0[Self::MAC] = mac_word(origin.mac);
        }
        let octets = bytemuck::bytes_of_mut(&mut key);
        octets[Self::DUID_OFFSET..][..duid.as_slice().len()].copy_from_slice(duid.as_slice());
        Some(key)
    }

    /// The first word before the DUID is there.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "some shifts")]
    pub fn first_word(link: u16, vlan: Vlan, duid_len: u8) -> u64 {
        let word = u64::from(link) | u64::from(vlan.bits()) << 16 | u64::from(duid_len) << 40;
        u64::from_ne_bytes(word.to_le_bytes())
    }

    /// The index of the link in the key.
    pub fn link(&self) -> u32 {
        (u64::from_le_bytes(self.0[0].to_ne_bytes()) & 0xffff) as u32
    }

    /// VLAN and MAC address in the key.
    pub fn origin(&self) -> Origin {
        let vlan = Vlan::from_bits((u64::from_le_bytes(self.0[0].to_ne_bytes()) >> 16) as u32);
        let mut mac = [0; 6];
        if Self::HAS_MAC {
            mac.copy_from_slice(&self.0[Self::MAC].to_ne_bytes()[..6]);
        }
        Origin { vlan, mac }
    }

    /// The DUID in the key; `None` where its length is impossible.
    pub fn duid(&self) -> Option<Duid> {
        let octets = bytemuck::bytes_of(self);
        let len = usize::from(octets[Self::DUID_OFFSET - 1]);
        let room = &octets[Self::DUID_OFFSET..][..Self::DUID_LEN];
        Duid::new(room.get(..len)?).ok()
    }
}

/// A MAC address as the program reads it: six octets in memory order, then zeros.
#[inline]
pub const fn mac_word(mac: [u8; 6]) -> u64 {
    u64::from_ne_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0])
}

/// What the kernel may promise one client, and what it has promised: an IA_NA, an IA_PD, or both.
///
/// With the key it fits the 128 octets of the kernel's allocator, two cache lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Binding {
    /// The IA_NA's address; unspecified where there is no IA_NA.
    pub address: [u8; 16],
    /// The first 64 bits of the IA_PD's prefix.
    pub prefix: [u8; 8],
    /// The IA_NA's IAID, in network byte order.
    pub address_iaid: [u8; 4],
    /// The IA_PD's IAID, in network byte order.
    pub prefix_iaid: [u8; 4],
    /// Until when the link's lifetimes may be granted, see [`Binding::serve_until_from`].
    pub serve_until: u32,
    /// In the lowest octet the length of the prefix in bits, 0 where there is no IA_PD; above it the seal
    /// ([`Binding::sealed`]).
    pub seal_and_length: u32,
    /// What was granted last. Not sealed.
    pub stamp: Stamp,
}

const _: () = assert!(size_of::<Binding>() == 48);

impl Binding {
    /// The longest prefix that the kernel can delegate.
    pub const LONGEST_PREFIX: u8 = 64;
    /// [`Binding::serve_until`] where the end never comes.
    pub const FOR_EVER: u32 = u32::MAX;
    /// Nanoseconds in its unit, as a power of two: a quarter of a second. It lasts for 36 years of uptime.
    const UNIT: u32 = 28;

    /// The last [`Binding::serve_until`] that does not reach beyond `nanoseconds` of CLOCK_BOOTTIME; `u64::MAX` is for
    /// ever.
    pub fn serve_until_from(nanoseconds: u64) -> u32 {
        if nanoseconds == u64::MAX {
            return Self::FOR_EVER;
        }
        cmp::min(nanoseconds >> Self::UNIT, u64::from(Self::FOR_EVER - 1)) as u32
    }

    /// [`Binding::serve_until`] in nanoseconds of CLOCK_BOOTTIME; `u64::MAX` for ever.
    pub fn serve_until(&self) -> u64 {
        if self.serve_until == Self::FOR_EVER { u64::MAX } else { u64::from(self.serve_until) << Self::UNIT }
    }

    /// Whether it may be granted at a time of CLOCK_BOOTTIME.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "one comparison")]
    pub fn is_served_at(&self, nanoseconds: u64) -> bool {
        nanoseconds >> Self::UNIT < u64::from(self.serve_until)
    }

    /// Length of the delegated prefix in bits; 0 where there is no IA_PD.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "one mask")]
    pub fn prefix_length(&self) -> u8 {
        self.seal_and_length as u8
    }

    /// Whether there is an IA_NA.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "one comparison")]
    pub fn has_address(&self) -> bool {
        let [high, low] = address_words(self.address);
        high | low != 0
    }

    /// Ties everything but the stamp together, and to the key, by 24 bits.
    ///
    /// Since Linux 6.1 (commit 7c8199e24fa0, "bpf: Introduce any context BPF specific memory allocator") an
    /// element of a hash map that has been deleted may be handed out again while a program still reads it. A
    /// copy whose seal does not agree is a mixture of two clients' bindings.
    #[inline]
    #[must_use]
    pub fn sealed<const WORDS: usize>(self, key: &Key<WORDS>) -> Self {
        let length = u32::from(self.prefix_length());
        Self { seal_and_length: length | self.compute_seal(key) << 8, ..self }
    }

    /// Whether the seal is that of this content and this key.
    #[inline]
    pub fn is_of<const WORDS: usize>(&self, key: &Key<WORDS>) -> bool {
        self.seal_and_length >> 8 == self.compute_seal(key)
    }

    #[inline]
    fn compute_seal<const WORDS: usize>(&self, key: &Key<WORDS>) -> u32 {
        #[inline(always)]
        #[expect(clippy::inline_always, reason = "two instructions")]
        fn pair(high: u32, low: u32) -> u64 {
            u64::from(high) << 32 | u64::from(low)
        }
        let [high, low] = address_words(self.address);
        let mut seal = 0x6468_6370_3664_0002;
        let mut index = 0;
        while index < WORDS {
            seal = mix(seal, key.0[index]);
            index += 1;
        }
        seal = mix(mix(seal, high), low);
        seal = mix(seal, u64::from_ne_bytes(self.prefix));
        seal = mix(seal, pair(u32::from_ne_bytes(self.address_iaid), u32::from_ne_bytes(self.prefix_iaid)));
        seal = mix(seal, pair(self.serve_until, u32::from(self.prefix_length())));
        (seal & 0xff_ffff) as u32
    }
}

/// Takes a word into a hash that an attacker may compute, but that no accident repeats.
#[inline(always)]
#[expect(clippy::inline_always, reason = "three instructions")]
pub fn mix(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

/// The last grant of a binding: when, of what, and the how manyth it was.
///
/// From the lowest bit: 16 bits of the number of grants, 2 of what was granted, and 46 of the time, which last for nine
/// years of uptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Stamp(u64);

/// A stamp says that an IA_NA was granted.
pub const GRANTED_ADDRESS: u8 = 1;
/// A stamp says that an IA_PD was granted.
pub const GRANTED_PREFIX: u8 = 2;

impl Stamp {
    /// Nothing was granted.
    pub const NONE: Self = Self(0);
    /// Nanoseconds in the unit of time, as a power of two: 4 microseconds.
    const UNIT: u32 = 12;

    /// The stamp of one more grant: of `what` ([`GRANTED_ADDRESS`], [`GRANTED_PREFIX`]), at a time of CLOCK_BOOTTIME in
    /// nanoseconds. The number of grants stays at its highest.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::inline_always, reason = "some shifts")]
    pub fn next(self, what: u8, nanoseconds: u64) -> Self {
        let grants = self.0 & 0xffff;
        let grants = if grants == 0xffff { grants } else { grants + 1 };
        Self(nanoseconds >> Self::UNIT << 18 | u64::from(what & 3) << 16 | grants)
    }

    /// How often it was granted, up to 65535.
    pub fn grants(self) -> u16 {
        self.0 as u16
    }

    /// What was granted last.
    pub fn granted(self) -> u8 {
        (self.0 >> 16 & 3) as u8
    }

    /// CLOCK_BOOTTIME in nanoseconds of the last grant, which was not later; 0 for none.
    pub fn last_grant(self) -> u64 {
        match self.0 >> 18 {
            0 => 0,
            time => (time << Self::UNIT) | ((1 << Self::UNIT) - 1),
        }
    }
}

/// For each VLAN identifier, what frames with that tag are: see [`Interface::single`].
pub type VlanTable = [u16; 4096];

/// What the program has to know of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Interface {
    /// The interface; 0 where the slot is not in use.
    pub ifindex: u32,
    /// The link of frames without a tag: its index and 1, or 0 where there is none.
    pub untagged: u16,
    /// Whether there is admission control.
    pub polices: u16,
    /// Source of the Reply.
    pub server_address: [u8; 16],
    /// Source of the frame.
    pub server_mac: [u8; 6],
    /// Folded [`Interface::compute_sum`].
    pub sum: u16,
    /// The interface's name, zero behind it: what a reader without the daemon shows.
    pub name: [u8; 16],
    /// Admission control.
    pub limits: Limits,
    /// The links of frames with one tag, by its identifier, as in [`Interface::untagged`].
    pub single: VlanTable,
    /// Of frames with two tags, by the outer identifier: the index of a table in [`INNER_VLANS`] and 1, or 0; in that,
    /// by the inner identifier, the links.
    pub double: VlanTable,
}

impl Interface {
    /// Sum over all of a Reply's pseudo-header and UDP header that is the same for every client.
    #[must_use]
    pub fn compute_sum(&self) -> Sum {
        Sum::ZERO.add_pseudo_header(self.server_address, [0; 16], 0).add_octets(&REPLY_PORTS)
    }
}

const _: () = assert!(size_of::<Interface>() == 88 + 2 * size_of::<VlanTable>());

/// What may go up to the daemon. The intervals are nanoseconds between two messages, at the rate that is allowed in the
/// long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Limits {
    /// Nanoseconds of the long run that may come at once.
    pub burst: u64,
    /// Nanoseconds within which the same Solicit is not let up again.
    pub retransmission: u64,
    /// Makes places in the table of sources unpredictable.
    pub seed: u64,
    /// From one source.
    pub per_source: u32,
    /// From all clients together.
    pub strangers: u32,
    /// Beyond that, from clients that have a binding.
    pub clients: u32,
    /// From relay agents.
    pub relayed: u32,
}

/// The requested option is configured, but not among those that the program can render.
pub const REQUEST_PASSED: u8 = 0xff;
/// How many configured options per link the program can render: one bit each.
pub const RENDERED_OPTIONS: usize = 6;

/// The link is in use.
pub const LINK_IN_USE: u16 = 1;
/// The link allows the two-message exchange.
pub const LINK_RAPID_COMMIT: u16 = 1 << 1;
/// A binding is its client's only with the same MAC address.
pub const LINK_BINDS_TO_MAC: u16 = 1 << 2;
/// The link spans several VLANs, and a binding is its client's only in the same one.
pub const LINK_SPANS_VLANS: u16 = 1 << 3;

/// What the program has to know of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Link {
    /// [`LINK_IN_USE`] and the like.
    pub flags: u16,
    /// Slot of the interface that the link is on.
    pub interface: u16,
    /// Index in [`REPLY_BLOCKS`] of the block without requested options. That of a set of rendered options follows at
    /// the distance of its bits.
    pub first_block: u32,
    /// Seconds, in network byte order.
    pub t1: [u8; 4],
    /// Seconds, in network byte order.
    pub t2: [u8; 4],
    /// Seconds, in network byte order.
    pub preferred_lifetime: [u8; 4],
    /// Seconds, in network byte order.
    pub valid_lifetime: [u8; 4],
    /// Folded sum of what IA_NAs on this link have in common.
    pub address_sum: u16,
    /// Folded sum of what IA_PDs on this link have in common.
    pub prefix_sum: u16,
    /// What `request_bits` would say of all codes from 256 on: 0 or [`REQUEST_PASSED`].
    pub request_high: u16,
    /// Whether options with codes from 256 on change nothing.
    pub ignores_high: u16,
    /// The option codes below 256 that change nothing in the answer, one bit each from the lowest bit of the first word
    /// on.
    pub ignored: [u64; 4],
    /// For each requested code below 256, the bit of the rendered option, 0 where it is not configured, or
    /// [`REQUEST_PASSED`].
    pub request_bits: [u8; 256],
    /// The link's name, zero behind it, as far as it fits: what a reader without the daemon shows.
    pub name: [u8; 64],
}

const _: () = assert!(size_of::<Link>() == 384);

impl Link {
    /// Whether the link has all of these flags.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "one comparison")]
    pub fn is(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// Computes the sums.
    #[must_use]
    pub fn summed(self) -> Self {
        let of = |header: &[u8], lease: &[u8]| {
            Sum::ZERO
                .add_octets(header)
                .add_octets(&self.t1)
                .add_octets(&self.t2)
                .add_octets(lease)
                .add_octets(&self.preferred_lifetime)
                .add_octets(&self.valid_lifetime)
                .fold()
        };
        Self {
            address_sum: of(&IA_NA_HEADER, &IA_ADDRESS_HEADER),
            prefix_sum: of(&IA_PD_HEADER, &IA_PREFIX_HEADER),
            ..self
        }
    }
}

/// An IPv6 address as two words in memory order, as the program reads and writes them.
#[inline]
pub const fn address_words(address: [u8; 16]) -> [u64; 2] {
    let a = address;
    [
        u64::from_ne_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]),
        u64::from_ne_bytes([a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]]),
    ]
}

/// UDP source port 547 and destination port 546 (RFC 9915, section 7.2).
pub const REPLY_PORTS: [u8; 4] = [2, 35, 2, 34];
/// Code and length of an IA_NA that holds one IA Address.
pub const IA_NA_HEADER: [u8; 4] = [0, 3, 0, 40];
/// Code and length of an IA Address without options.
pub const IA_ADDRESS_HEADER: [u8; 4] = [0, 5, 0, 24];
/// Code and length of an IA_PD that holds one IA Prefix.
pub const IA_PD_HEADER: [u8; 4] = [0, 25, 0, 41];
/// Code and length of an IA Prefix without options.
pub const IA_PREFIX_HEADER: [u8; 4] = [0, 26, 0, 25];

/// The options of a Reply between the IAs and the Client Identifier: Server Identifier, Rapid Commit, and a
/// set of requested options, rendered by the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ReplyBlock {
    /// Octets in use; 0 where the set could not be rendered.
    pub len: u16,
    /// Folded sum of the octets in use.
    pub sum: u16,
    /// Keeps the octets at a multiple of eight.
    pub reserved: u32,
    /// The options.
    pub octets: [u8; ReplyBlock::CAPACITY],
}

const _: () = assert!(size_of::<ReplyBlock>() == 512);

impl ReplyBlock {
    /// The longest block in octets.
    pub const CAPACITY: usize = 504;

    /// A block of these options; an empty one, which makes the program pass, where they are too long.
    pub fn new(options: &[u8]) -> Self {
        let mut block = Self::zeroed();
        if let Some(octets) = block.octets.get_mut(..options.len()) {
            octets.copy_from_slice(options);
            block.len = options.len() as u16;
            block.sum = Sum::ZERO.add_octets(options).fold();
        }
        block
    }
}

/// Index into [`COUNTERS`] of the reason with a number on the interface in a slot.
#[inline(always)]
#[expect(clippy::inline_always, reason = "one multiplication")]
pub fn counter_index(slot: u32, reason: u32) -> u32 {
    slot * Reason::COUNT as u32 + reason
}

#[cfg(test)]
mod tests {
    use super::{Binding, BindingKey, GRANTED_ADDRESS, GRANTED_PREFIX, LongBindingKey, ReplyBlock, Stamp};
    use crate::{Origin, Vlan, wire::Duid};

    const VLAN: Origin = Origin { vlan: Vlan { outer: 4094, inner: 17 }, mac: [0; 6] };
    const VLAN_AND_MAC: Origin = Origin { mac: [2, 1, 2, 3, 4, 5], ..VLAN };

    #[test]
    fn a_key_gives_back_what_it_was_made_of() {
        for len in 1..=130 {
            let duid = Duid::new(&[0xa5; 130][..len]).unwrap();
            for link in [0, 7, 65535] {
                let short = BindingKey::new(link, VLAN, &duid);
                assert_eq!(short.is_some(), len <= 18);
                if let Some(key) = short {
                    assert_eq!((key.link(), key.origin(), key.duid()), (link, VLAN, Some(duid)));
                }
                let key = LongBindingKey::new(link, VLAN_AND_MAC, &duid).unwrap();
                assert_eq!((key.link(), key.origin(), key.duid()), (link, VLAN_AND_MAC, Some(duid)));
            }
            assert_eq!(BindingKey::new(7, VLAN_AND_MAC, &duid), None, "it has no MAC address");
        }
        assert_eq!(BindingKey::new(65536, VLAN, &Duid::new(&[1]).unwrap()), None);
    }

    #[test]
    fn duids_that_differ_in_trailing_zeros_have_different_keys() {
        let key = |octets: &[u8]| BindingKey::new(0, Origin::ANY, &Duid::new(octets).unwrap());
        assert_ne!(key(&[0, 3, 0]), key(&[0, 3, 0, 0]), "matrix row U-6");
    }

    #[test]
    fn any_change_breaks_the_seal() {
        let key_of = |last| {
            let duid = Duid::new(&[0, 3, 0, 1, 2, 3, 4, 5, 6, last]).unwrap();
            BindingKey::new(1, Origin::ANY, &duid).unwrap()
        };
        let key = key_of(7);
        let binding = Binding {
            address: [9; 16],
            prefix: [7; 8],
            address_iaid: [0, 0, 0, 5],
            prefix_iaid: [0, 0, 0, 6],
            serve_until: 1000,
            seal_and_length: 56,
            stamp: Stamp::NONE,
        };
        let binding = binding.sealed(&key);
        assert!(binding.is_of(&key));
        assert_eq!(binding.prefix_length(), 56);
        assert!(!binding.is_of(&key_of(8)));
        for changed in [
            Binding { serve_until: 1001, ..binding },
            Binding { address_iaid: [0, 0, 0, 6], ..binding },
            Binding { prefix_iaid: [0, 0, 0, 5], ..binding },
            Binding { prefix: [7, 7, 7, 7, 7, 7, 7, 6], ..binding },
            Binding { seal_and_length: binding.seal_and_length ^ 1, ..binding },
            Binding { address: [[9; 15].as_slice(), &[8]].concat().try_into().unwrap(), ..binding },
        ] {
            assert!(!changed.is_of(&key), "{changed:?}");
        }
        let granted = Binding { stamp: Stamp::NONE.next(GRANTED_ADDRESS, 77), ..binding };
        assert!(granted.is_of(&key), "stamps are not sealed");
    }

    #[test]
    fn a_binding_is_served_no_longer_than_it_may_be() {
        for nanoseconds in [0, 1, (1 << 28) - 1, 1 << 28, 12_345_678_901, u64::MAX - 1, u64::MAX] {
            let serve_until = Binding::serve_until_from(nanoseconds);
            let binding = Binding { serve_until, ..bytemuck::Zeroable::zeroed() };
            assert!(binding.serve_until() <= nanoseconds);
            assert!(!binding.is_served_at(nanoseconds.saturating_add(1)) || nanoseconds == u64::MAX);
            assert!(
                [0, u64::MAX].contains(&binding.serve_until())
                    || binding.is_served_at(binding.serve_until() - 1)
            );
        }
    }

    #[test]
    fn a_stamp_tells_of_the_last_grant() {
        assert_eq!((Stamp::NONE.grants(), Stamp::NONE.last_grant()), (0, 0));
        let nanoseconds = 8 * 365 * 86400 * 1_000_000_000;
        let first = Stamp::NONE.next(GRANTED_ADDRESS | GRANTED_PREFIX, 5000);
        let second = first.next(GRANTED_PREFIX, nanoseconds);
        assert_eq!((first.grants(), first.granted()), (1, GRANTED_ADDRESS | GRANTED_PREFIX));
        assert_eq!((second.grants(), second.granted()), (2, GRANTED_PREFIX));
        assert!((nanoseconds..nanoseconds + 4096).contains(&second.last_grant()), "never too early");
        let most = (0..70_000).fold(Stamp::NONE, |stamp, _| stamp.next(GRANTED_ADDRESS, 5000));
        assert_eq!((most.grants(), most.granted()), (65535, GRANTED_ADDRESS));
    }

    #[test]
    fn options_that_do_not_fit_leave_an_empty_block() {
        assert_eq!(ReplyBlock::new(&[1; ReplyBlock::CAPACITY]).len, 504);
        assert_eq!(ReplyBlock::new(&[1; ReplyBlock::CAPACITY + 1]).len, 0);
    }
}
