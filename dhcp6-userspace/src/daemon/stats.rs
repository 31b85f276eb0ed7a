//! The slow path's counters. Every message that is received ends in one of sent and dropped, as soon as it
//! waits no more.

use dhcp6_common::wire::MessageType;

use super::queue::Shed;
use crate::{
    control::{Queued, SlowPathCounters},
    engine::DropReason,
};

const TYPES: usize = MessageType::ALL.len();

#[derive(Debug, Default)]
pub(super) struct Stats {
    /// By type; the first is for what is no type.
    received: [u64; TYPES + 1],
    sent: [u64; TYPES + 1],
    dropped: [u64; DropReason::ALL.len()],
    pub(super) receive_errors: u64,
    /// What sockets had lost that were closed since.
    pub(super) earlier_socket_drops: u64,
}

impl Stats {
    pub(super) fn received(&mut self, kind: Option<MessageType>) {
        self.received[kind.map_or(0, |kind| kind as usize)] += 1;
    }

    pub(super) fn sent(&mut self, kind: MessageType) {
        self.sent[kind as usize] += 1;
    }

    pub(super) fn dropped(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }

    pub(super) fn shed(&mut self, shed: Shed) {
        let Shed { stale, full } = shed;
        self.dropped[DropReason::Stale as usize] += stale;
        self.dropped[DropReason::QueueFull as usize] += full;
    }

    pub(super) fn counters(&self, socket_drops: u64, queued: Queued) -> SlowPathCounters {
        let by_type = |counts: &[u64]| {
            MessageType::ALL.iter().map(|kind| (kind.name().to_owned(), counts[*kind as usize])).collect()
        };
        let mut received: std::collections::BTreeMap<_, _> = by_type(&self.received);
        received.insert("unknown".to_owned(), self.received[0]);
        SlowPathCounters {
            received,
            sent: by_type(&self.sent),
            dropped: DropReason::ALL
                .iter()
                .map(|reason| (reason.name().to_owned(), self.dropped[*reason as usize]))
                .collect(),
            socket_drops: self.earlier_socket_drops + socket_drops,
            receive_errors: self.receive_errors,
            queued,
        }
    }
}
