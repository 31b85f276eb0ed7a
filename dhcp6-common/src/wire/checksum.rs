//! The Internet checksum (RFC 1071) as a sum that can be prepared in parts.

/// A one's complement sum under construction.
///
/// RFC 1071, section 2 (B): the sum is the same in either byte order, so words are added as the machine reads
/// them and the result is stored as the machine writes it. Nothing here is converted to network byte order,
/// and a partial sum is only good on the machine that made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

#[expect(clippy::inline_always, reason = "the XDP program adds in registers; a call costs more than the sum")]
impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// Takes up a partial sum that [`Sum::fold`] has made.
    #[inline(always)]
    pub fn from_folded(folded: u16) -> Self {
        Self(u64::from(folded))
    }

    /// Adds a word in memory order: `u16::from_ne_bytes` of two octets of the packet.
    #[inline(always)]
    #[must_use]
    pub fn add_u16(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// Adds two words in memory order: `u32::from_ne_bytes` of four octets of the packet.
    ///
    /// The accumulator has room for 2^31 of them.
    #[inline(always)]
    #[must_use]
    pub fn add_u32(self, words: u32) -> Self {
        Self(self.0 + u64::from(words))
    }

    /// Adds what another sum holds.
    #[inline(always)]
    #[must_use]
    pub fn add_sum(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Adds a sequence of octets that starts at an even offset of the packet; behind an odd one no more may be
    /// added, unless it is [`Sum::at_odd_offset`].
    #[must_use]
    pub fn add_octets(mut self, octets: &[u8]) -> Self {
        let mut words = octets.chunks_exact(4);
        for word in &mut words {
            self = self.add_u32(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
        let mut tail = [0; 4];
        tail[..words.remainder().len()].copy_from_slice(words.remainder());
        self.add_u32(u32::from_ne_bytes(tail))
    }

    /// Adds the pseudo-header of RFC 8200, section 8.1, for UDP. `udp_len` in host byte order.
    #[must_use]
    pub fn add_pseudo_header(self, source: [u8; 16], destination: [u8; 16], udp_len: u16) -> Self {
        const UDP: u16 = 17;
        self.add_octets(&source).add_octets(&destination).add_u16(udp_len.to_be()).add_u16(UDP.to_be())
    }

    /// The sum folded into 16 bits, not yet complemented.
    #[inline(always)]
    pub fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        ((sum & 0xffff) + (sum >> 16)) as u16
    }

    /// The sum of the same octets moved to an odd offset: RFC 1071, section 2 (B), the octets of the result
    /// swapped.
    #[inline(always)]
    #[must_use]
    pub fn at_odd_offset(self) -> Self {
        Self(u64::from(self.fold().swap_bytes()))
    }

    /// The checksum as it is stored in a UDP header with `to_ne_bytes`: complemented, and 0xffff where that
    /// would be 0 (RFC 8200, section 8.1).
    #[inline(always)]
    pub fn finish(self) -> u16 {
        match !self.fold() {
            0 => 0xffff,
            checksum => checksum,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::Sum;

    /// RFC 1071 word by word, as the reference.
    fn reference(octets: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in octets.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071_section_3() {
        let sum = Sum::ZERO.add_octets(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold().to_ne_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_ffff() {
        assert_eq!(Sum::ZERO.add_u16(0xffff).finish(), 0xffff, "matrix row T-11");
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(octets in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let folded = u16::from_be_bytes(Sum::ZERO.add_octets(&octets).fold().to_ne_bytes());
            // 0 and 0xffff are the same number in one's complement.
            prop_assert_eq!(folded % 0xffff, reference(&octets) % 0xffff);
        }

        #[test]
        fn parts_add_up_at_any_cut(octets: Vec<u8>, cut: prop::sample::Index) {
            let cut = cut.index(octets.len() + 1);
            let head = Sum::ZERO.add_octets(&octets[..cut]);
            let tail = Sum::ZERO.add_octets(&octets[cut..]);
            let tail = if cut % 2 == 1 { tail.at_odd_offset() } else { tail };
            let whole = Sum::ZERO.add_octets(&octets);
            prop_assert_eq!(head.add_sum(tail).fold() % 0xffff, whole.fold() % 0xffff);
            prop_assert_eq!(Sum::from_folded(head.fold()).add_sum(tail).fold() % 0xffff, whole.fold() % 0xffff);
        }
    }
}
