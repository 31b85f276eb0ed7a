//! Judges replies to a volley, whose senders nobody remembers.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv6Addr,
};

use dhcp6_common::{
    flood::{Class, Damage, Finding, LONGEST_LATENCY_US, latency_us},
    wire::MessageType,
};

use super::{
    Frame, Mode, Wrong,
    client::Identity,
    frame::{Inbound, neighbor_advertisement},
    server_message::ServerMessage,
    summary::status_name,
};

/// Finds out what is wrong with replies, from what they say themselves.
#[derive(Debug)]
pub(super) struct Judge {
    clients: u32,
    mode: Mode,
    /// Whether somebody else counts the replies, and judges them by what is in front of their options.
    counted_elsewhere: bool,
    holders: HashMap<Ipv6Addr, u32>,
    pub(super) received: BTreeMap<&'static str, u64>,
    pub(super) latencies: Vec<u32>,
    pub(super) checked: u64,
    pub(super) refused: BTreeMap<String, u64>,
    pub(super) wrong: BTreeMap<&'static str, u64>,
    pub(super) foreign: u64,
    /// Replies to messages with an option that is too long.
    pub(super) malformed_answered: u64,
    pub(super) neighbor_solicitations: u64,
}

/// What takes clients that remember.
const NEVER_FOUND: [Wrong; 3] = [Wrong::AddressChanged, Wrong::IaPd, Wrong::Relay];
/// The name of replies to malformed messages among the wrong ones.
pub(super) const TO_MALFORMED: &str = "to_malformed";

/// The name of a finding of the XDP program among the wrong replies; `None` where it is not wrong.
pub(super) fn finding_name(finding: Finding) -> Option<&'static str> {
    match finding {
        Finding::Foreign | Finding::ToMalformedOption => None,
        Finding::Destination => Some(Wrong::Destination.name()),
        Finding::Length => Some(Wrong::Length.name()),
        Finding::TransactionId => Some(Wrong::TransactionId.name()),
        Finding::ToMalformed => Some(TO_MALFORMED),
        Finding::MessageType => Some(Wrong::MessageType.name()),
    }
}

impl Judge {
    pub(super) fn new(clients: u32, mode: Mode, counted_elsewhere: bool) -> Self {
        let kinds = Wrong::ALL.iter().filter(|kind| !NEVER_FOUND.contains(kind));
        Self {
            clients,
            mode,
            counted_elsewhere,
            holders: HashMap::new(),
            received: [MessageType::Advertise, MessageType::Reply].map(|kind| (kind.name(), 0)).into(),
            latencies: Vec::new(),
            checked: 0,
            refused: BTreeMap::new(),
            wrong: kinds.map(|kind| (kind.name(), 0)).chain([(TO_MALFORMED, 0)]).collect(),
            foreign: 0,
            malformed_answered: 0,
            neighbor_solicitations: 0,
        }
    }

    /// Takes a frame. Returns what is to be sent in answer to it. `now` is CLOCK_MONOTONIC in nanoseconds.
    pub(super) fn handle(&mut self, now: u64, frame: Frame<'_>) -> Option<Vec<u8>> {
        match frame.read() {
            Inbound::Dhcpv6 { destination_mac, destination, message } => {
                let Some(client) = Identity::of_mac(destination_mac).filter(|client| self.has(*client))
                else {
                    self.foreign += u64::from(!self.counted_elsewhere);
                    return None;
                };
                let finding = if client.link_local() == destination {
                    message.map_err(Wrong::name).and_then(|message| self.judge(now, client, message))
                } else {
                    Err(Wrong::Destination.name())
                };
                if let Err(wrong) = finding
                    && !(self.counted_elsewhere && Finding::ALL.map(finding_name).contains(&Some(wrong)))
                {
                    *self.wrong.entry(wrong).or_default() += 1;
                }
                None
            }
            Inbound::NeighborSolicitation { source_mac, source, target } => {
                let client = Identity::of_link_local(target).filter(|client| self.has(*client))?;
                self.neighbor_solicitations += 1;
                Some(neighbor_advertisement(client.mac(), target, (source_mac, source)))
            }
            Inbound::Relayed { .. } | Inbound::NeighborAdvertisement { .. } | Inbound::Other => None,
        }
    }

    fn has(&self, client: Identity) -> bool {
        Class::of(client.0) != Class::Known || client.0 < self.clients
    }

    fn judge(&mut self, now: u64, client: Identity, message: &[u8]) -> Result<(), &'static str> {
        if Class::of(client.0) == Class::Malformed {
            if Damage::of(client.0) != Damage::Option {
                return Err(TO_MALFORMED);
            }
            self.malformed_answered += u64::from(!self.counted_elsewhere);
            return Ok(());
        }
        let message = ServerMessage::read(message).map_err(Wrong::name)?;
        let latency = latency_us(message.transaction_id, now);
        if latency > LONGEST_LATENCY_US {
            return Err(Wrong::TransactionId.name());
        }
        let is_reply = message.is(MessageType::Reply);
        if !is_reply && !message.is(MessageType::Advertise) || (is_reply && self.mode == Mode::FourMessage) {
            return Err(Wrong::MessageType.name());
        }
        self.checked += 1;
        if !self.counted_elsewhere {
            let kind = if is_reply { MessageType::Reply } else { MessageType::Advertise };
            *self.received.entry(kind.name()).or_default() += 1;
            self.latencies.push(latency);
        }
        self.judge_options(client, &message, is_reply).map_err(Wrong::name)
    }

    fn judge_options(
        &mut self,
        client: Identity,
        message: &ServerMessage<'_>,
        is_reply: bool,
    ) -> Result<(), Wrong> {
        if message.client_id != Some(&client.duid()[..]) {
            return Err(Wrong::ClientId);
        }
        if message.server_id.is_none() {
            return Err(Wrong::ServerId);
        }
        if message.rapid_commit != is_reply {
            return Err(Wrong::RapidCommit);
        }
        match message.lease(client.iaid())? {
            Err(status) => *self.refused.entry(status_name(status)).or_default() += 1,
            Ok(lease) if is_reply => {
                let holder = self.holders.insert(lease.address, client.0);
                if holder.is_some_and(|holder| holder != client.0) {
                    return Err(Wrong::DuplicateAddress);
                }
            }
            Ok(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use dhcp6_common::flood::{Class, transaction_id};

    use super::Judge;
    use crate::flood::{Frame, Mode, client::Identity, frame::udp};

    const SENT: u64 = 5_000_000_000;
    const KNOWN: Identity = Identity(3);

    /// A Reply to a client, as a correct server sends it, with something added to or changed in it.
    fn reply(client: Identity, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let [_, x, y, z] = transaction_id(SENT).to_be_bytes();
        let mut message = vec![7, x, y, z, 0, 1, 0, 10];
        message.extend(client.duid());
        message.extend([0, 2, 0, 4, 0, 2, 0, 1, 0, 14, 0, 0, 0, 3, 0, 40]);
        message.extend(client.iaid().to_be_bytes());
        message.extend([0, 0, 0, 1, 0, 0, 0, 2, 0, 5, 0, 24]);
        message.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0, 4]);
        change(&mut message);
        let server = ([2, 0, 0, 0, 0, 1], "fe80::1".parse::<Ipv6Addr>().unwrap(), 547);
        udp(server, (client.mac(), client.link_local(), 546), &message)
    }

    #[test]
    fn replies_are_judged_by_themselves() {
        let malformed = Identity(Class::Malformed.bits());
        let lenient = Identity(Class::Malformed.bits() | 2);
        let unknown = Identity(Class::Unknown.bits() | 9);
        let right = |client| reply(client, |_| ());
        for (frame, ms, mode, expected, what) in [
            (right(KNOWN), 1, Mode::RapidCommit, None, "a Reply"),
            (right(unknown), 1, Mode::RapidCommit, None, "a Reply to a stranger"),
            (right(KNOWN), 4000, Mode::RapidCommit, None, "late"),
            (right(KNOWN), 5000, Mode::RapidCommit, Some("transaction_id"), "too late"),
            (right(KNOWN), 1, Mode::FourMessage, Some("message_type"), "not asked for"),
            (right(malformed), 1, Mode::RapidCommit, Some("to_malformed"), "to what was malformed"),
            (right(lenient), 1, Mode::RapidCommit, None, "to a message with an option that is too long"),
            (reply(KNOWN, |it| it[0] = 1), 1, Mode::RapidCommit, Some("message_type"), "a Solicit"),
            (reply(KNOWN, |it| it[17] ^= 1), 1, Mode::RapidCommit, Some("client_id"), "another's"),
            (reply(KNOWN, |it| it[0] = 2), 1, Mode::RapidCommit, Some("rapid_commit"), "in an Advertise"),
            (reply(KNOWN, |it| it[37] ^= 1), 1, Mode::RapidCommit, Some("ia_na"), "another IAID"),
            (reply(KNOWN, |it| it.push(0)), 1, Mode::RapidCommit, Some("malformed"), "a loose octet"),
        ] {
            for counted_elsewhere in [false, true] {
                let mut judge = Judge::new(4, mode, counted_elsewhere);
                judge.handle(SENT + ms * 1_000_000, Frame { octets: &frame, checksum_offloaded: false });
                let found: Vec<_> = judge.wrong.iter().filter(|(_, count)| **count > 0).collect();
                let by_header = ["transaction_id", "to_malformed", "message_type"];
                match expected.filter(|kind| !(counted_elsewhere && by_header.contains(kind))) {
                    Some(kind) => assert_eq!(found, [(&kind, &1)], "{what}"),
                    None => assert_eq!(found, [], "{what}"),
                }
                assert_eq!(
                    judge.malformed_answered,
                    u64::from(!counted_elsewhere && frame == right(lenient))
                );
                let right = expected.is_none() && !counted_elsewhere && frame != right(lenient);
                assert!(!right || judge.received["reply"] == 1, "{what}");
            }
        }
    }

    #[test]
    fn one_address_for_two_is_found() {
        let mut judge = Judge::new(8, Mode::RapidCommit, false);
        for (client, wrong) in [(3, 0), (3, 0), (4, 1)] {
            let frame = reply(Identity(client), |_| ());
            judge.handle(SENT, Frame { octets: &frame, checksum_offloaded: false });
            assert_eq!(judge.wrong["duplicate_address"], wrong);
        }
        let frame = reply(Identity(8), |_| ());
        judge.handle(SENT, Frame { octets: &frame, checksum_offloaded: false });
        assert_eq!((judge.foreign, judge.received["reply"]), (1, 3), "there are no more than 8 clients");
    }
}
