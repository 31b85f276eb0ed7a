//! Damage to frames.

use etherparse::UdpHeader;
use proptest::{collection::vec, prelude::*, sample::Index};
use tests::frame::{split_tags, with_tags};

/// The least frame that the kernel takes.
const SHORTEST: usize = 14;
const IPV6_LENGTH: usize = 18;
const UDP: usize = 54;
const UDP_LENGTH: usize = 58;
const UDP_CHECKSUM: usize = 60;
const MESSAGE: usize = 62;

/// Some damage, and what is then put right again.
#[derive(Clone, Debug)]
pub(super) struct Mutations(Vec<Mutation>, Repair);

#[derive(Clone, Debug)]
enum Mutation {
    /// Flips a bit anywhere.
    Flip(Index, u8),
    /// Flips a bit in the message.
    FlipInMessage(Index, u8),
    /// Overwrites an octet of the message with one that is likely to mean something.
    Overwrite(Index, u8),
    /// Cuts the frame.
    Truncate(Index),
    /// Appends octets.
    Extend(Vec<u8>),
    /// Removes octets of the message.
    Remove(Index, usize),
    /// Adds to the lengths of IPv6 payload and UDP datagram.
    Lengths(i8, i8),
    /// Adds to the length of an option.
    OptionLength(Index, i8),
}

#[derive(Clone, Copy, Debug)]
enum Repair {
    Nothing,
    Checksum,
    LengthsAndChecksum,
}

pub(super) fn mutations() -> impl Strategy<Value = Mutations> {
    let small = || prop_oneof![-4..=4_i8, any::<i8>()];
    let mutation = prop_oneof![
        any::<(Index, u8)>().prop_map(|(index, bit)| Mutation::Flip(index, bit)),
        any::<(Index, u8)>().prop_map(|(index, bit)| Mutation::FlipInMessage(index, bit)),
        (any::<Index>(), 0..26_u8).prop_map(|(index, octet)| Mutation::Overwrite(index, octet)),
        any::<Index>().prop_map(Mutation::Truncate),
        vec(0..26_u8, 1..20).prop_map(Mutation::Extend),
        (any::<Index>(), 1..20_usize).prop_map(|(index, count)| Mutation::Remove(index, count)),
        (small(), small()).prop_map(|(payload, udp)| Mutation::Lengths(payload, udp)),
        (any::<Index>(), small()).prop_map(|(index, change)| Mutation::OptionLength(index, change)),
    ];
    let repair = prop_oneof![
        1 => Just(Repair::Nothing),
        2 => Just(Repair::Checksum),
        3 => Just(Repair::LengthsAndChecksum),
    ];
    (vec(mutation, 1..4), repair).prop_map(|(mutations, repair)| Mutations(mutations, repair))
}

impl Mutations {
    /// Damages a frame behind its tags.
    pub(super) fn apply(&self, frame: &mut Vec<u8>) {
        let (tags, mut plain) = split_tags(frame);
        self.apply_behind_tags(&mut plain);
        *frame = with_tags(&plain, &tags);
    }

    fn apply_behind_tags(&self, frame: &mut Vec<u8>) {
        for mutation in &self.0 {
            mutation.apply(frame);
        }
        if frame.len() < MESSAGE {
            return;
        }
        match self.1 {
            Repair::Nothing => {}
            Repair::Checksum => repair_checksum(frame),
            Repair::LengthsAndChecksum => {
                let len = (frame.len() - UDP) as u16;
                frame[IPV6_LENGTH..IPV6_LENGTH + 2].copy_from_slice(&len.to_be_bytes());
                frame[UDP_LENGTH..UDP_LENGTH + 2].copy_from_slice(&len.to_be_bytes());
                repair_checksum(frame);
            }
        }
    }
}

impl Mutation {
    fn apply(&self, frame: &mut Vec<u8>) {
        let len = frame.len();
        // Damage to the message needs one.
        let in_message = |index: &Index| (len > MESSAGE).then(|| MESSAGE + index.index(len - MESSAGE));
        match self {
            Self::Flip(index, bit) => frame[index.index(len)] ^= 1 << (bit % 8),
            Self::FlipInMessage(index, bit) => {
                if let Some(offset) = in_message(index) {
                    frame[offset] ^= 1 << (bit % 8);
                }
            }
            Self::Overwrite(index, octet) => {
                if let Some(offset) = in_message(index) {
                    frame[offset] = *octet;
                }
            }
            Self::Truncate(index) => frame.truncate(SHORTEST + index.index(len - SHORTEST + 1)),
            Self::Extend(octets) => frame.extend(octets),
            Self::Remove(index, count) => {
                if let Some(start) = in_message(index) {
                    frame.drain(start..len.min(start + count));
                }
            }
            Self::Lengths(payload, udp) => {
                add(frame, IPV6_LENGTH, *payload);
                add(frame, UDP_LENGTH, *udp);
            }
            Self::OptionLength(index, change) => {
                let lengths = option_lengths(frame);
                if !lengths.is_empty() {
                    add(frame, *index.get(&lengths), *change);
                }
            }
        }
    }
}

/// Adds to the 16-bit number at an offset, where there is one.
fn add(frame: &mut [u8], offset: usize, change: i8) {
    if let Some(number) = frame.get_mut(offset..offset + 2) {
        let sum = u16::from_be_bytes([number[0], number[1]]).wrapping_add_signed(change.into());
        number.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Offsets of the length fields of a frame's options.
fn option_lengths(frame: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut offset = MESSAGE + 4;
    while let Some(len) = frame.get(offset + 2..offset + 4) {
        lengths.push(offset + 2);
        offset += 4 + usize::from(u16::from_be_bytes([len[0], len[1]]));
    }
    lengths
}

/// Makes the checksum valid for the lengths as they stand.
pub(super) fn repair_checksum(frame: &mut [u8]) {
    let word = |offset: usize| u16::from_be_bytes([frame[offset], frame[offset + 1]]);
    let address = |offset: usize| frame[offset..offset + 16].try_into().expect("16 octets");
    let header = UdpHeader {
        source_port: word(UDP),
        destination_port: word(UDP + 2),
        length: word(UDP_LENGTH),
        checksum: 0,
    };
    let end = frame.len().min(UDP + usize::from(header.length)).max(MESSAGE);
    let sum = header
        .calc_checksum_ipv6_raw(address(22), address(38), &frame[MESSAGE..end])
        .expect("a frame is shorter than 65536 octets");
    frame[UDP_CHECKSUM..UDP_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
}
