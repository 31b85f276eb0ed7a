//! The contract between kernel and daemon: the BPF maps' keys and values.
//!
//! Numbers are in host byte order unless a field says otherwise. Whatever changes a size, a field or a meaning
//! here increments [`LAYOUT_VERSION`], which names the directory that the maps are pinned under.

use bytemuck::{Pod, Zeroable};

use crate::{
    Reason,
    wire::{Duid, Sum},
};

/// Version of everything in this module.
pub const LAYOUT_VERSION: u32 = 2;

/// Name of the XDP program in the object.
pub const PROGRAM: &str = "dhcp6";
/// Name of the read-only global with the index of the interface that an instance of the program serves.
pub const SLOT_GLOBAL: &str = "SLOT";
/// Name of the read-only global that switches aya-log on (1) or off (0).
pub const LOG_GLOBAL: &str = "LOG";
/// Hash map from [`BindingKey`] to [`Binding`], for DUIDs of at most [`BindingKey::DUID_LEN`] octets.
pub const BINDINGS: &str = "BINDINGS";
/// Hash map from [`LongBindingKey`] to [`Binding`], for all other DUIDs.
pub const LONG_BINDINGS: &str = "LONG_BINDINGS";
/// Array of [`Link`], by slot.
pub const LINKS: &str = "LINKS";
/// Array of [`ReplyBlock`], by [`reply_block_index`].
pub const REPLY_BLOCKS: &str = "REPLY_BLOCKS";
/// Per-CPU array of `u64`, by [`counter_index`]: what the programs count, behind it for as many slots what earlier
/// programs have counted.
pub const COUNTERS: &str = "COUNTERS";

/// Key of a binding: link and DUID, zero behind the DUID's last octet.
///
/// Memory order: `u32` link, `u16` length of the DUID, then the DUID. Held as words, since the program hashes
/// and compares it by words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Key<const WORDS: usize>(pub [u64; WORDS]);

/// Key for DUIDs of up to 18 octets: all of types LLT, LL and UUID, and most of type EN.
pub type BindingKey = Key<3>;
/// Key for DUIDs of up to 130 octets.
pub type LongBindingKey = Key<17>;

const _: () = assert!(size_of::<BindingKey>() == 24);
const _: () = assert!(size_of::<LongBindingKey>() == 136);
const _: () = assert!(BindingKey::DUID_LEN == 18 && LongBindingKey::DUID_LEN == Duid::MAX_LEN);

impl<const WORDS: usize> Key<WORDS> {
    /// Offset of the DUID in the key.
    pub const DUID_OFFSET: usize = 6;
    /// The longest DUID that fits, in octets.
    pub const DUID_LEN: usize = WORDS * 8 - Self::DUID_OFFSET;

    /// The key of this client on this link; `None` where the DUID does not fit.
    pub fn new(link: u32, duid: &Duid) -> Option<Self> {
        let duid = duid.as_slice();
        let mut key = Self::zeroed();
        let octets = bytemuck::bytes_of_mut(&mut key);
        octets[..4].copy_from_slice(&link.to_ne_bytes());
        octets[4..6].copy_from_slice(&(duid.len() as u16).to_ne_bytes());
        octets[Self::DUID_OFFSET..].get_mut(..duid.len())?.copy_from_slice(duid);
        Some(key)
    }

    /// The link in the key.
    pub fn link(&self) -> u32 {
        let octets = bytemuck::bytes_of(self);
        u32::from_ne_bytes([octets[0], octets[1], octets[2], octets[3]])
    }

    /// The DUID in the key; `None` where its length is impossible.
    pub fn duid(&self) -> Option<Duid> {
        let octets = bytemuck::bytes_of(self);
        let len = usize::from(u16::from_ne_bytes([octets[4], octets[5]]));
        Duid::new(octets[Self::DUID_OFFSET..].get(..len)?).ok()
    }
}

/// What the kernel may promise one client, and what it has promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Binding {
    /// [`Binding::compute_seal`] of the key and the fields below.
    pub seal: u64,
    /// CLOCK_BOOTTIME in nanoseconds up to which the link's lifetimes may be granted; `u64::MAX` is for ever.
    pub serve_until: u64,
    /// The IA_NA's address.
    pub address: [u8; 16],
    /// The IA_NA's IAID, in network byte order.
    pub iaid: [u8; 4],
    /// How often the program has granted this binding. Not sealed.
    pub grants: u32,
    /// CLOCK_BOOTTIME in nanoseconds of the last grant, 0 for none. Not sealed.
    pub last_grant: u64,
}

const _: () = assert!(size_of::<Binding>() == 48);

impl Binding {
    /// A binding as the daemon inserts it, not granted yet.
    pub fn new<const WORDS: usize>(key: &Key<WORDS>, address: [u8; 16], iaid: u32, serve_until: u64) -> Self {
        let mut binding =
            Self { seal: 0, serve_until, address, iaid: iaid.to_be_bytes(), grants: 0, last_grant: 0 };
        binding.seal = binding.compute_seal(key);
        binding
    }

    /// Ties the sealed fields to each other and to the key.
    ///
    /// Since Linux 6.1 (commit 7c8199e24fa0, "bpf: Introduce any context BPF specific memory allocator") an
    /// element of a hash map that has been deleted may be handed out again while a program still reads it. A
    /// copy whose seal does not agree is a mixture of two clients' bindings.
    #[inline]
    pub fn compute_seal<const WORDS: usize>(&self, key: &Key<WORDS>) -> u64 {
        #[inline(always)]
        #[expect(clippy::inline_always, reason = "as above")]
        fn mix(seal: u64, word: u64) -> u64 {
            let product = (seal ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            product ^ (product >> 32)
        }
        let [high, low] = address_words(self.address);
        let mut seal = 0x6468_6370_3664_0001;
        let mut index = 0;
        while index < WORDS {
            seal = mix(seal, key.0[index]);
            index += 1;
        }
        seal = mix(seal, self.serve_until);
        seal = mix(mix(seal, high), low);
        mix(seal, u64::from(u32::from_ne_bytes(self.iaid)))
    }
}

/// The option need not be looked at.
pub const OPTION_IGNORED: u8 = 1;
/// The option decides something: the daemon answers.
pub const OPTION_PASSED: u8 = 0;
/// The requested option is configured, but not among those that the program can render.
pub const REQUEST_PASSED: u8 = 0xff;
/// How many configured options per link the program can render: one bit each.
pub const RENDERED_OPTIONS: usize = 6;
/// Blocks per link: one for each set of rendered options.
pub const BLOCKS_PER_LINK: usize = 1 << RENDERED_OPTIONS;

/// What the program has to know of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Link {
    /// The interface; 0 where the slot is not in use.
    pub ifindex: u32,
    /// 1 where the two-message exchange is allowed.
    pub rapid_commit: u32,
    /// Source of the Reply.
    pub server_address: [u8; 16],
    /// Source of the frame.
    pub server_mac: [u8; 6],
    /// Folded [`Link::compute_sum`].
    pub sum: u16,
    /// Seconds, in network byte order.
    pub t1: [u8; 4],
    /// Seconds, in network byte order.
    pub t2: [u8; 4],
    /// Seconds, in network byte order.
    pub preferred_lifetime: [u8; 4],
    /// Seconds, in network byte order.
    pub valid_lifetime: [u8; 4],
    /// The interface's name, zero behind it: what a reader without the daemon shows.
    pub interface: [u8; 16],
    /// The link's name, likewise, as far as it fits.
    pub name: [u8; 64],
    /// For each option code below 256, [`OPTION_IGNORED`] or [`OPTION_PASSED`].
    pub option_policy: [u8; 256],
    /// For each requested code below 256, the bit of the rendered option, 0 where it is not configured, or
    /// [`REQUEST_PASSED`].
    pub request_bits: [u8; 256],
    /// What `request_bits` would say of all codes from 256 on: 0 or [`REQUEST_PASSED`].
    pub request_high: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Link>() == 648);

impl Link {
    /// Sum over all of a Reply's pseudo-header, UDP header and IA_NA that is the same for every client of the
    /// link.
    #[must_use]
    pub fn compute_sum(&self) -> Sum {
        Sum::ZERO
            .add_pseudo_header(self.server_address, [0; 16], 0)
            .add_octets(&REPLY_PORTS)
            .add_octets(&IA_NA_HEADER)
            .add_octets(&self.t1)
            .add_octets(&self.t2)
            .add_octets(&IA_ADDRESS_HEADER)
            .add_octets(&self.preferred_lifetime)
            .add_octets(&self.valid_lifetime)
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

/// The options of a Reply between the IA_NA and the Client Identifier: Server Identifier, Rapid Commit, and a
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

/// Index into [`REPLY_BLOCKS`] of a set of rendered options, one bit each, of the link in a slot.
#[inline(always)]
#[expect(clippy::inline_always, reason = "one shift")]
pub fn reply_block_index(slot: u32, requested: u8) -> u32 {
    slot * BLOCKS_PER_LINK as u32 + u32::from(requested)
}

/// Index into [`COUNTERS`] of a reason on the interface in a slot.
#[inline(always)]
#[expect(clippy::inline_always, reason = "one multiplication")]
pub fn counter_index(slot: u32, reason: Reason) -> u32 {
    slot * Reason::COUNT as u32 + reason as u32
}

#[cfg(test)]
mod tests {
    use super::{Binding, BindingKey, LongBindingKey, ReplyBlock};
    use crate::wire::Duid;

    #[test]
    fn a_key_gives_back_what_it_was_made_of() {
        for len in 1..=130 {
            let duid = Duid::new(&[0xa5; 130][..len]).unwrap();
            assert_eq!(BindingKey::new(7, &duid).is_some(), len <= 18);
            let key = LongBindingKey::new(7, &duid).unwrap();
            assert_eq!((key.link(), key.duid()), (7, Some(duid)));
        }
    }

    #[test]
    fn duids_that_differ_in_trailing_zeros_have_different_keys() {
        let key = |octets: &[u8]| BindingKey::new(0, &Duid::new(octets).unwrap());
        assert_ne!(key(&[0, 3, 0]), key(&[0, 3, 0, 0]), "matrix row U-6");
    }

    #[test]
    fn any_change_breaks_the_seal() {
        let key = BindingKey::new(1, &Duid::new(&[0, 3, 0, 1, 2, 3, 4, 5, 6, 7]).unwrap()).unwrap();
        let other = BindingKey::new(1, &Duid::new(&[0, 3, 0, 1, 2, 3, 4, 5, 6, 8]).unwrap()).unwrap();
        let binding = Binding::new(&key, [9; 16], 5, 1000);
        assert_eq!(binding.seal, binding.compute_seal(&key));
        assert_ne!(binding.seal, binding.compute_seal(&other));
        for changed in [
            Binding { serve_until: 1001, ..binding },
            Binding { iaid: [0, 0, 0, 6], ..binding },
            Binding { address: [[9; 15].as_slice(), &[8]].concat().try_into().unwrap(), ..binding },
        ] {
            assert_ne!(changed.seal, changed.compute_seal(&key));
        }
        let granted = Binding { grants: 3, last_grant: 77, ..binding };
        assert_eq!(granted.seal, granted.compute_seal(&key), "stamps are not sealed");
    }

    #[test]
    fn options_that_do_not_fit_leave_an_empty_block() {
        assert_eq!(ReplyBlock::new(&[1; ReplyBlock::CAPACITY]).len, 504);
        assert_eq!(ReplyBlock::new(&[1; ReplyBlock::CAPACITY + 1]).len, 0);
    }
}
