//! The frames of a volley: one Solicit, with the number of its client put into it.

use dhcp6_common::{
    flood::{Class, Damage, IAID_MASK, TAIL_LEN, TEMPLATE_LEN, offset},
    wire::{CLIENT_PORT, OptionCode, Sum},
};

use super::{
    Ask, Mode,
    client::{Header, Identity},
    frame,
};

/// A frame with room for what the generator cuts off.
pub(super) type Octets = [u8; TEMPLATE_LEN + TAIL_LEN];

/// The Solicit of client number 0, with zeros wherever something is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    octets: Octets,
    /// Of the UDP datagram and its pseudo-header.
    sum: Sum,
}

impl Template {
    /// The Solicits of clients that exchange messages in this mode.
    pub fn new(mode: Mode) -> Self {
        let client = Identity(0);
        let mut frame = solicit(client, 0);
        if mode == Mode::FourMessage {
            // An option of the same length that asks for nothing.
            let rapid_commit = frame.windows(4).rposition(|option| option == [0, 14, 0, 0]);
            let at = rapid_commit.expect("the Solicit has the option");
            frame[at..at + 2].copy_from_slice(&OptionCode::RECONFIGURE_ACCEPT.0.to_be_bytes());
        }
        let mut octets = [0; TEMPLATE_LEN + TAIL_LEN];
        octets[..TEMPLATE_LEN].copy_from_slice(&frame);
        octets[offset::CHECKSUM..][..2].fill(0);
        octets[offset::MESSAGE..][..4].fill(0);
        octets[offset::IAID..][..4].fill(0);
        let sum = sum(&octets[..TEMPLATE_LEN]);
        Self { octets, sum }
    }

    /// The template's octets, and those behind it.
    pub fn octets(&self) -> &Octets {
        &self.octets
    }

    /// The sum of the UDP datagram and its pseudo-header, folded.
    pub fn sum(&self) -> u16 {
        self.sum.fold()
    }

    /// Writes a client's frame in the place of what is there; what [`Class`] and [`Damage`] say of its number is done to
    /// it. The XDP program `generate` does the same.
    pub(super) fn write(&self, number: u32, transaction_id: u32, frame: &mut Vec<u8>) {
        frame.clear();
        frame.extend_from_slice(&self.octets[..TEMPLATE_LEN]);
        let octets = number.to_be_bytes();
        let mut put = |at: usize, octets: &[u8]| frame[at..at + octets.len()].copy_from_slice(octets);
        put(offset::MAC, &octets);
        put(offset::ADDRESS, &octets[..1]);
        put(offset::ADDRESS_REST, &octets[1..]);
        put(offset::MESSAGE, &(1 << 24 | transaction_id).to_be_bytes());
        put(offset::DUID, &octets);
        put(offset::IAID, &(number ^ IAID_MASK).to_be_bytes());
        let damage = (Class::of(number) == Class::Malformed).then(|| Damage::of(number));
        if damage == Some(Damage::Option) {
            put(offset::LAST_OPTION_LEN, &Damage::OPTION_LEN.to_be_bytes());
        }
        let mut checksum = sum(frame).finish();
        if damage == Some(Damage::Checksum) {
            checksum = !checksum;
        }
        frame[offset::CHECKSUM..][..2].copy_from_slice(&checksum.to_ne_bytes());
        if damage == Some(Damage::Length) {
            frame[offset::UDP_LEN + 1] |= 0x80;
        }
        if damage == Some(Damage::Truncated) {
            frame.truncate(TEMPLATE_LEN - Damage::LACKING);
        }
    }
}

/// The frame of a Solicit.
fn solicit(client: Identity, transaction_id: u32) -> Vec<u8> {
    let mut frame = Vec::with_capacity(TEMPLATE_LEN);
    frame::begin_to_servers(&mut frame, client.mac(), client.link_local(), CLIENT_PORT);
    client.solicit(&mut frame, Header { transaction_id, elapsed: 0 }, true, Ask::Address);
    frame::finish(&mut frame);
    frame
}

/// The sum of a frame's UDP datagram and its pseudo-header.
fn sum(frame: &[u8]) -> Sum {
    let address = |at: usize| *frame[at..].first_chunk::<16>().expect("the frame has an IPv6 header");
    let datagram = &frame[54..];
    Sum::ZERO.add_pseudo_header(address(22), address(38), datagram.len() as u16).add_octets(datagram)
}

#[cfg(test)]
mod tests {
    use dhcp6_common::{
        flood::{Class, Damage, TEMPLATE_LEN},
        wire::{MessageType, OptionCode, OptionWalker},
    };

    use super::Template;
    use crate::flood::{Mode, client::Identity};

    fn written(mode: Mode, number: u32) -> Vec<u8> {
        let mut frame = vec![9; 200];
        Template::new(mode).write(number, 0x00ab_cdef, &mut frame);
        frame
    }

    #[test]
    fn frames_are_those_of_a_simulated_client() {
        for number in [0, 1, 0xff00, 3_999_999, Class::Unknown.bits() | 0x1234_5678] {
            let client = Identity(number);
            let expected = super::solicit(client, 0x00ab_cdef);
            assert_eq!(written(Mode::RapidCommit, number), expected, "{number:x}");
        }
    }

    #[test]
    fn four_messages_have_no_rapid_commit() {
        let frame = written(Mode::FourMessage, 7);
        assert_eq!(frame[62], MessageType::Solicit as u8);
        let options: Result<Vec<_>, _> = OptionWalker::new(&frame[66..]).collect();
        assert!(options.unwrap().iter().all(|option| option.code != OptionCode::RAPID_COMMIT));
    }

    #[test]
    fn malformed_frames_are_damaged_in_four_ways() {
        for (number, damage) in
            (0..).zip([Damage::Checksum, Damage::Length, Damage::Option, Damage::Truncated])
        {
            let number = Class::Malformed.bits() | number;
            assert_eq!(Damage::of(number), damage);
            let frame = written(Mode::RapidCommit, number);
            let len = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
            let valid = super::sum(&frame[..]).fold() == 0xffff;
            let options: Result<Vec<_>, _> = OptionWalker::new(&frame[66..]).collect();
            match damage {
                Damage::Checksum => assert!(!valid && options.is_ok()),
                Damage::Length => assert!(len(58) > len(18)),
                Damage::Option => assert!(valid && options.is_err()),
                Damage::Truncated => {
                    assert_eq!((frame.len(), len(18), len(58)), (TEMPLATE_LEN - 7, 60, 60));
                }
            }
        }
    }
}
