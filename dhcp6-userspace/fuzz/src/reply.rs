//! What an answer has to be, given its question (RFC 9915, sections 16 and 18.3).

use std::collections::HashSet;

use dhcp6_common::wire::{MessageType, OptionCode};
use dhcp6_userspace::{config::LinkConfig, engine::Answer};

use crate::{
    message::SERVER,
    relay,
    wire::{Decoded, Ia, decode},
};

/// A checked answer, out of its envelopes.
pub(crate) struct Checked {
    pub(crate) kind: MessageType,
    pub(crate) ia_na: Vec<Ia>,
}

/// Checks the answer to `question`, whose client is on `link`.
pub(crate) fn check(question: &[u8], answer: &Answer, link: &LinkConfig) -> Checked {
    let (hops, question) = relay::open(question);
    let message = relay::check_envelope(&hops, answer.port, &answer.message);
    let question = decode(question).expect("a malformed message was answered");
    let reply = decode(message).expect("the answer is malformed");
    let kind = MessageType::from_code(question.kind).expect("a message of no type was answered");

    check_question(kind, &question);
    let answered = expected_kind(kind, &question, link);
    assert_eq!(reply.kind, answered as u8, "what answers a {}", kind.name());
    assert_eq!(answer.kind, if hops.is_empty() { answered } else { MessageType::RelayReply });
    assert_eq!(reply.transaction_id, question.transaction_id, "matrix row V-25");
    let values = |code| reply.values(code).collect::<Vec<_>>();
    assert_eq!(values(OptionCode::SERVER_ID), [SERVER]);
    assert_eq!(values(OptionCode::CLIENT_ID), question.values(OptionCode::CLIENT_ID).collect::<Vec<_>>());
    for option in &reply.options {
        let may_stand = match option.code {
            OptionCode::CLIENT_ID | OptionCode::SERVER_ID | OptionCode::IA_NA | OptionCode::IA_PD => true,
            OptionCode::PREFERENCE => answered == MessageType::Advertise && option.value.len() == 1,
            OptionCode::RAPID_COMMIT => option.value.is_empty(),
            OptionCode::STATUS_CODE => option.value.len() >= 2 && str::from_utf8(&option.value[2..]).is_ok(),
            code => question.requests(code) && link.options.iter().any(|option| option.code == code),
        };
        assert!(may_stand, "{option:?} in a {}", answered.name());
        let often = [OptionCode::IA_NA, OptionCode::IA_PD, OptionCode::NTP_SERVER];
        assert!(often.contains(&option.code) || values(option.code).len() == 1, "{option:?} twice");
    }
    let committed = kind == MessageType::Solicit && answered == MessageType::Reply;
    assert_eq!(reply.value(OptionCode::RAPID_COMMIT).is_some(), committed, "matrix rows Q-2, Q-4 and Q-6");

    check_iaids(&question, &reply);
    let ia_na = reply.ias(OptionCode::IA_NA);
    check_leases(&ia_na);
    Checked { kind: answered, ia_na }
}

/// What may not be answered at all.
fn check_question(kind: MessageType, question: &Decoded<'_>) {
    let clients: Vec<_> = question.values(OptionCode::CLIENT_ID).collect();
    let servers: Vec<_> = question.values(OptionCode::SERVER_ID).collect();
    assert!(clients.len() <= 1 && servers.len() <= 1, "{question:?}");
    assert!(clients.iter().all(|duid| (1..=130).contains(&duid.len())), "matrix rows U-3 and U-4");
    let valid = match kind {
        MessageType::Solicit | MessageType::Confirm | MessageType::Rebind => {
            clients.len() == 1 && servers.is_empty()
        }
        MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline => {
            clients.len() == 1 && servers == [SERVER]
        }
        MessageType::InformationRequest => {
            let ias = [OptionCode::IA_NA, OptionCode::IA_PD].map(|code| question.value(code));
            ias == [None, None] && servers.iter().all(|server| *server == SERVER)
        }
        _ => false,
    };
    assert!(valid, "answered against section 16: {question:?}");
}

fn expected_kind(kind: MessageType, question: &Decoded<'_>, link: &LinkConfig) -> MessageType {
    let rapid = link.rapid_commit && question.value(OptionCode::RAPID_COMMIT).is_some();
    if kind == MessageType::Solicit && !rapid { MessageType::Advertise } else { MessageType::Reply }
}

/// Only IAs that were asked for, and each once.
fn check_iaids(question: &Decoded<'_>, reply: &Decoded<'_>) {
    for code in [OptionCode::IA_NA, OptionCode::IA_PD] {
        let asked: HashSet<_> = question.ias(code).iter().map(|ia| ia.iaid).collect();
        let mut answered = HashSet::new();
        for ia in reply.ias(code) {
            assert!(asked.contains(&ia.iaid) && answered.insert(ia.iaid), "matrix row O-7: {ia:?}");
            assert!(ia.others.is_empty(), "matrix row O-8: {ia:?}");
            assert!(code == OptionCode::IA_NA || ia.addresses.is_empty(), "matrix row O-8: {ia:?}");
        }
    }
}

fn check_leases(ias: &[Ia]) {
    let mut times = HashSet::new();
    let mut given = HashSet::new();
    for ia in ias {
        assert!(ia.t1 <= ia.t2, "matrix row R-13: {ia:?}");
        for (address, preferred, valid) in &ia.addresses {
            assert!(preferred <= valid, "matrix row R-14: {ia:?}");
            if *valid > 0 {
                assert!(matches!(ia.status, None | Some(0)), "matrix row O-6: {ia:?}");
                assert!(given.insert(*address), "{address} is given twice");
                let withdrawn = ia.addresses.iter().any(|(other, _, valid)| other == address && *valid == 0);
                assert!(!withdrawn, "{address} is given and withdrawn: {ia:?}");
                times.insert((ia.t1, ia.t2));
            }
        }
    }
    assert!(times.len() <= 1, "matrix rows R-6 and N-8: {ias:?}");
}
