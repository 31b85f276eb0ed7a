//! What a bad server sends is found out.

use std::time::Duration;

use dhcp6_common::wire::{MessageType, OptionCode, OptionWalker};

use super::{Simulation, engine, plan, to_client};
use crate::flood::{
    Mode::{self, FourMessage, RapidCommit},
    Plan, Wrong,
    client::Identity,
    frame::HEADERS_LEN,
};

/// What is done to a reply.
enum Damage {
    Frame(fn(&mut [u8])),
    /// The checksum is right again afterwards.
    Message(fn(Vec<u8>) -> Vec<u8>),
    /// An option is changed, or left out. The checksum is right again afterwards.
    Option(OptionCode, fn(&[u8]) -> Option<Vec<u8>>),
}

impl Damage {
    fn apply(&self, mut frame: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Frame(change) => {
                change(&mut frame);
                frame
            }
            Self::Message(change) => with_message(&frame, change),
            Self::Option(code, change) => {
                with_message(&frame, |message| with_option(&message, *code, change))
            }
        }
    }
}

const CASES: [(&str, Mode, Wrong, Damage); 17] = [
    ("an octet changed", RapidCommit, Wrong::Checksum, Damage::Frame(|frame| frame[HEADERS_LEN + 20] ^= 1)),
    ("UDP length", RapidCommit, Wrong::Length, Damage::Frame(|frame| frame[59] ^= 1)),
    ("another client's MAC", RapidCommit, Wrong::Destination, Damage::Frame(|frame| frame[5] ^= 1)),
    ("three octets", RapidCommit, Wrong::Length, Damage::Message(|message| message[..3].to_vec())),
    (
        "the last option cut off",
        RapidCommit,
        Wrong::Malformed,
        Damage::Message(|message| message[..message.len() - 1].to_vec()),
    ),
    (
        "a Confirm",
        RapidCommit,
        Wrong::MessageType,
        Damage::Message(|message| [&[MessageType::Confirm as u8], &message[1..]].concat()),
    ),
    (
        "a Reply to a Solicit without Rapid Commit",
        FourMessage,
        Wrong::MessageType,
        Damage::Message(|message| [&[MessageType::Reply as u8], &message[1..]].concat()),
    ),
    (
        "another transaction",
        RapidCommit,
        Wrong::TransactionId,
        Damage::Message(|message| [&message[..1], &[message[1] ^ 1], &message[2..]].concat()),
    ),
    (
        "another client's identifier",
        RapidCommit,
        Wrong::ClientId,
        Damage::Option(OptionCode::CLIENT_ID, |_| Some(Identity(77).duid().to_vec())),
    ),
    ("no Client Identifier", RapidCommit, Wrong::ClientId, Damage::Option(OptionCode::CLIENT_ID, |_| None)),
    ("no Server Identifier", RapidCommit, Wrong::ServerId, Damage::Option(OptionCode::SERVER_ID, |_| None)),
    ("no Rapid Commit", RapidCommit, Wrong::RapidCommit, Damage::Option(OptionCode::RAPID_COMMIT, |_| None)),
    (
        "Rapid Commit in an Advertise",
        FourMessage,
        Wrong::RapidCommit,
        Damage::Message(|message| [&message[..], &[0, 14, 0, 0]].concat()),
    ),
    (
        "another IAID",
        RapidCommit,
        Wrong::IaNa,
        Damage::Option(OptionCode::IA_NA, |ia| Some([&[9; 4], &ia[4..]].concat())),
    ),
    (
        "neither address nor status",
        RapidCommit,
        Wrong::IaNa,
        Damage::Option(OptionCode::IA_NA, |ia| Some(ia[..12].to_vec())),
    ),
    ("no IA_NA", RapidCommit, Wrong::IaNa, Damage::Option(OptionCode::IA_NA, |_| None)),
    (
        "preferred behind valid",
        RapidCommit,
        Wrong::Lifetimes,
        Damage::Option(OptionCode::IA_NA, |ia| Some([&ia[..32], &[0xff; 4], &ia[36..]].concat())),
    ),
];

#[test]
fn wrong_replies_are_told_apart() {
    for (what, mode, wrong, damage) in CASES {
        // The first answer is wrong, the one to the retransmission is not.
        let fault = |number, frame| vec![if number == 0 { damage.apply(frame) } else { frame }];
        let engine = engine(mode == RapidCommit, "1fff");
        let summary = Simulation { engine, lost: &|_| false, fault: &fault }.run(plan(1, mode));
        let found: Vec<_> = summary.wrong.iter().filter(|(_, count)| **count > 0).collect();
        assert_eq!(found, [(&wrong.name(), &1)], "{what}");
        assert_eq!((summary.answered, summary.retransmissions), (1, 1), "{what}: tried again");
        assert!(!summary.is_fine(), "{what}");
    }
}

#[test]
fn addresses_that_are_not_the_clients_are_found() {
    /// Gives out one address, or the next one each time.
    fn give(number: usize, next_each_time: bool, frame: &[u8]) -> Vec<u8> {
        with_message(frame, |message| {
            with_option(&message, OptionCode::IA_NA, |ia| {
                let mut ia = ia.to_vec();
                ia[31] = if next_each_time { number as u8 } else { 1 };
                Some(ia)
            })
        })
    }
    let twice = Some(Duration::from_micros(150));
    for (clients, duration, next_each_time, expected, what) in [
        (5, None, false, ("duplicate_address", 4), "one address for all"),
        (5, None, true, ("", 0), "an address for each"),
        (1, twice, true, ("address_changed", 1), "another address each time"),
        (1, twice, false, ("", 0), "the same address again"),
    ] {
        let simulation = Simulation {
            engine: engine(true, "1fff"),
            lost: &|_| false,
            fault: &|number, frame| vec![give(number, next_each_time, &frame)],
        };
        let summary = simulation.run(Plan { duration, ..plan(clients, Mode::RapidCommit) });
        let found = summary.wrong.iter().find(|(_, count)| **count > 0);
        assert_eq!(found.map_or(("", 0), |(kind, count)| (*kind, *count)), expected, "{what}");
    }
}

/// The same frame with a changed message, and a checksum that is right again.
pub(super) fn with_message(frame: &[u8], change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let (mac, address): ([u8; 6], [u8; 16]) =
        (*frame.first_chunk().unwrap(), *frame[38..].first_chunk().unwrap());
    to_client(mac, address.into(), &change(frame[HEADERS_LEN..].to_vec()))
}

/// The message with one of its options changed, or left out.
pub(super) fn with_option(
    message: &[u8],
    code: OptionCode,
    mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Vec<u8> {
    let mut changed = message[..4].to_vec();
    for option in OptionWalker::new(&message[4..]).map(Result::unwrap) {
        let value = if option.code == code { change(option.value) } else { Some(option.value.to_vec()) };
        if let Some(value) = value {
            changed.extend(option.code.0.to_be_bytes());
            changed.extend((value.len() as u16).to_be_bytes());
            changed.extend(value);
        }
    }
    changed
}
