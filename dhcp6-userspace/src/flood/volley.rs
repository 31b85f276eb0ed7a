//! What a volley is, and what it has found.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    Latency, LatencyClass, Mode,
    summary::{percent, seconds},
};

/// Frames to be sent as fast as it goes, each from another client.
#[derive(Clone, Copy, Debug)]
pub struct Volley {
    /// How many known clients there are: they have their turns one after the other.
    pub clients: u32,
    /// How many frames are sent.
    pub packets: u64,
    /// Hundredths of the frames that are from clients that have not been heard of before.
    pub unknown: u8,
    /// Hundredths of the frames that are malformed.
    pub malformed: u8,
    /// Whether clients ask for Rapid Commit.
    pub mode: Mode,
    /// Which engine; the fastest that works where `None`.
    pub engine: Option<Engine>,
    /// When sending is over at the latest.
    pub patience: Duration,
}

/// What sends a volley.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// An XDP program in the kernel (BPF_PROG_TEST_RUN with live frames).
    LiveFrames,
    /// This process, at a packet socket.
    PacketSocket,
}

/// What counts the replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// An XDP program in the driver.
    XdpNative,
    /// An XDP program in the network stack.
    XdpGeneric,
    /// This process, at a packet socket.
    PacketSocket,
}

/// How far a volley is.
#[derive(Clone, Copy, Debug)]
pub struct VolleyProgress {
    /// Frames generated.
    pub sent: u64,
    /// Replies to known and unknown clients.
    pub received: u64,
    /// Wrong replies.
    pub wrong: u64,
}

/// The result of a volley: one JSON document.
#[derive(Clone, Debug, Serialize)]
pub struct VolleySummary {
    /// What has sent.
    pub engine: Engine,
    /// Why it was not the fastest engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_reason: Option<String>,
    /// What has counted the replies.
    pub receiver: Receiver,
    /// Which messages the clients meant to exchange.
    pub mode: Mode,
    /// How many known clients there were.
    pub clients: u32,
    /// How long sending took.
    #[serde(serialize_with = "seconds")]
    pub seconds: Duration,
    /// Frames generated.
    pub sent: u64,
    /// Frames generated, by kind: `known`, `unknown` and `malformed`.
    pub sent_by_kind: BTreeMap<&'static str, u64>,
    /// Frames that the interface says it has sent meanwhile.
    pub transmitted: u64,
    /// Frames generated in a second.
    pub rate: f64,
    /// Replies to known and unknown clients that were not found wrong by their headers.
    pub received: u64,
    /// Those replies by message type.
    pub received_by_type: BTreeMap<&'static str, u64>,
    /// Replies received in a second of sending.
    pub received_rate: f64,
    /// The part of the frames that were transmitted and not malformed that has been answered, from 0 to 1.
    pub answered_share: f64,
    /// From a Solicit to its answer.
    pub latency_us: Option<Latency>,
    /// The latencies in classes.
    pub histogram: Vec<LatencyClass>,
    /// Replies that were read to the last octet.
    pub checked: u64,
    /// Replies among the checked ones with a status instead of an address, by the status.
    pub refused: BTreeMap<String, u64>,
    /// The sum of `wrong`.
    pub wrong_replies: u64,
    /// Wrong replies by kind.
    pub wrong: BTreeMap<&'static str, u64>,
    /// Replies to messages with an option that is too long, whose other options a server may have believed. Not among
    /// the replies received, and not wrong.
    pub malformed_answered: u64,
    /// DHCPv6 messages to others than the clients.
    pub foreign: u64,
    /// Neighbor Solicitations that were answered.
    pub neighbor_solicitations: u64,
    /// Frames that the kernel dropped before they were read.
    pub socket_drops: u64,
}

impl VolleySummary {
    /// Whether the server did what it has to do: it has answered, where there was something to be answered, and no
    /// reply was wrong.
    pub fn is_fine(&self) -> bool {
        let nothing_to_answer = self.sent_by_kind.get("malformed") == Some(&self.sent);
        self.wrong_replies == 0 && (self.received > 0 || nothing_to_answer)
    }

    /// Frames that had to be answered, as far as the interface has sent them.
    pub(super) fn share(received: u64, sent: u64, malformed: u64, transmitted: u64) -> f64 {
        let answerable =
            u128::from(transmitted.min(sent)) * u128::from(sent - malformed) / u128::from(sent.max(1));
        percent(received, answerable as u64) / 100.0
    }
}
