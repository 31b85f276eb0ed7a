//! Packets that come in fragments (RFC 8200, section 4.5).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use etherparse::{IpFragOffset, IpNumber, defrag::IpDefragBuf};

use super::frame::{Fragment, Packet, Tags};
use crate::engine::DropReason;

/// So many packets may be incomplete at once, each of up to 64 KiB: fragments are rare, and anybody can send them.
const MOST: usize = 64;
/// How long fragments wait for the others.
const PATIENCE: Duration = Duration::from_mins(1);

/// Packets of which some fragments have arrived.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// The oldest first.
    incomplete: VecDeque<Incomplete>,
}

#[derive(Debug)]
struct Incomplete {
    key: Key,
    since: Instant,
    next_header: u8,
    buffer: IpDefragBuf,
}

/// Whose fragments belong together: source, destination and identification by the standard, and one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    mac: [u8; 6],
    tags: Option<Tags>,
    addresses: [std::net::Ipv6Addr; 2],
    identification: u32,
}

/// What has become of a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Assembled {
    /// It waits for the others.
    Incomplete,
    /// It was the last: the type of the packet's payload, and this.
    Whole(u8, Vec<u8>),
}

impl Assembly {
    /// Takes a fragment of a packet.
    ///
    /// # Errors
    ///
    /// Where it does not fit the others, which are dropped with it.
    pub(super) fn add(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        fragment: &Fragment<'_>,
    ) -> Result<Assembled, DropReason> {
        let Fragment { identification, offset, is_last, next_header, payload } = *fragment;
        let key = Key {
            mac: packet.mac,
            tags: packet.tags,
            addresses: [packet.source, packet.destination],
            identification,
        };
        self.incomplete.retain(|packet| now.duration_since(packet.since) < PATIENCE);
        let index = self.incomplete.iter().position(|packet| packet.key == key).unwrap_or_else(|| {
            if self.incomplete.len() == MOST {
                self.incomplete.pop_front();
            }
            let buffer = IpDefragBuf::new(IpNumber(next_header), Vec::new(), Vec::new());
            self.incomplete.push_back(Incomplete { key, since: now, next_header, buffer });
            self.incomplete.len() - 1
        });
        let buffer = &mut self.incomplete[index].buffer;
        let fits = IpFragOffset::try_new(offset).is_ok_and(|offset| {
            let start = offset.byte_offset();
            let end = usize::from(start) + payload.len();
            // Who sends overlapping ones hides something (RFC 8200, section 4.5).
            let overlaps = |section: &etherparse::defrag::IpFragRange| {
                start < section.end && usize::from(section.start) < end
            };
            !buffer.sections().iter().any(overlaps) && buffer.add(offset, !is_last, payload).is_ok()
        });
        let is_complete = fits && buffer.is_complete();
        if fits && !is_complete {
            return Ok(Assembled::Incomplete);
        }
        let Some(whole) = self.incomplete.remove(index).filter(|_| fits) else {
            return Err(DropReason::BadFrame);
        };
        let (octets, _) = whole.buffer.take_bufs();
        Ok(Assembled::Whole(whole.next_header, octets))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv6Addr,
        time::{Duration, Instant},
    };

    use super::{Assembled, Assembly, MOST};
    use crate::{
        engine::DropReason,
        net::frame::{Fragment, Packet},
    };

    const PAYLOAD: [u8; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];

    fn frame(client: u8) -> Vec<u8> {
        let mut frame = vec![0x33, 0x33, 0, 1, 0, 2, 2, 0, 0, 0, 0, client, 0x86, 0xdd];
        frame.extend([0x60, 0, 0, 0, 0, 0, 44, 1]);
        frame.extend(Ipv6Addr::from(0xfe80 << 112 | u128::from(client)).octets());
        frame.extend(Ipv6Addr::from(0xff02_u128 << 112 | 0x1_0002).octets());
        frame
    }

    fn part(first: usize, len: usize) -> Fragment<'static> {
        Fragment {
            identification: 7,
            offset: first as u16 / 8,
            is_last: first + len == PAYLOAD.len(),
            next_header: 17,
            payload: &PAYLOAD[first..first + len],
        }
    }

    #[test]
    fn fragments_become_a_packet_in_any_order() {
        let now = Instant::now();
        let frames = [frame(1), frame(2)];
        let [one, other] = frames.each_ref().map(|frame| Packet::parse(frame, None).expect("a frame"));
        let whole = Ok(Assembled::Whole(17, PAYLOAD.to_vec()));
        for order in [[0, 8, 16], [16, 8, 0], [8, 16, 0]] {
            let mut assembly = Assembly::default();
            let parts = order.map(|first| part(first, (PAYLOAD.len() - first).min(8)));
            assert_eq!(assembly.add(now, &one, &parts[0]), Ok(Assembled::Incomplete));
            // Another sender's are none of them.
            assert_eq!(assembly.add(now, &other, &parts[2]), Ok(Assembled::Incomplete));
            assert_eq!(assembly.add(now, &one, &parts[1]), Ok(Assembled::Incomplete));
            assert_eq!(assembly.add(now, &one, &parts[2]), whole, "{order:?}");
            assert_eq!(assembly.incomplete.len(), 1);
        }
        // One that is whole in itself (RFC 6946).
        assert_eq!(Assembly::default().add(now, &one, &part(0, PAYLOAD.len())), whole);
    }

    #[test]
    fn what_overlaps_or_does_not_fit_is_dropped_with_the_others() {
        let now = Instant::now();
        let frame = frame(1);
        let packet = Packet::parse(&frame, None).expect("a frame");
        let unaligned = Fragment { is_last: false, ..part(0, 7) };
        let beyond = Fragment { offset: 0x1fff, ..part(0, 16) };
        for wrong in [part(0, 16), unaligned, beyond] {
            let mut assembly = Assembly::default();
            assert_eq!(assembly.add(now, &packet, &part(8, 8)), Ok(Assembled::Incomplete));
            assert_eq!(assembly.add(now, &packet, &wrong), Err(DropReason::BadFrame), "{wrong:?}");
            assert!(assembly.incomplete.is_empty());
        }
    }

    #[test]
    fn fragments_do_not_wait_for_ever_nor_in_any_number() {
        let start = Instant::now();
        let mut assembly = Assembly::default();
        let frames: Vec<_> = (0..=MOST as u8).map(frame).collect();
        let packets: Vec<_> =
            frames.iter().map(|frame| Packet::parse(frame, None).expect("a frame")).collect();
        for packet in &packets {
            assert_eq!(assembly.add(start, packet, &part(0, 8)), Ok(Assembled::Incomplete));
        }
        assert_eq!(assembly.incomplete.len(), MOST);
        // The first of them had to go.
        assert_eq!(assembly.add(start, &packets[0], &part(8, 12)), Ok(Assembled::Incomplete));
        let later = start + Duration::from_secs(59);
        let whole = Ok(Assembled::Whole(17, PAYLOAD.to_vec()));
        assert_eq!(assembly.add(later, &packets[MOST], &part(8, 12)), whole);
        let too_late = start + Duration::from_mins(1);
        assert_eq!(assembly.add(too_late, &packets[5], &part(8, 12)), Ok(Assembled::Incomplete));
        assert_eq!(assembly.incomplete.len(), 1);
    }
}
