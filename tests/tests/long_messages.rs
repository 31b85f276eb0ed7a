//! Messages that are longer than the XDP program reads, as an interface with a large MTU brings them.

use dhcp6_common::{
    Reason,
    wire::{MessageType, OptionCode},
};
use tests::{
    frame::{MessageBuilder, Route},
    xdp::{GENEROUS, Lab},
};

const LINK: &str = r#"
    [[link]]
    name = "access0"
    interface = "test0"
    prefix = "2001:db8:1::/64"
"#;

/// They are whole, and the daemon's to answer, whatever their type.
#[test]
fn a_long_message_goes_up_to_the_daemon() {
    let Some(mut lab) = Lab::start(&(GENEROUS.to_owned() + LINK)) else { return };
    for kind in [MessageType::Solicit, MessageType::Renew, MessageType::RelayForward] {
        // Octets of the value: to the last message that is read, and beyond by each number that is summed up apart.
        for len in (1930..2120).chain([2500, 3000, 3300]) {
            let message = MessageBuilder::new(kind, [1, 2, 3]).option(OptionCode(16), &vec![7; len]).build();
            let frame = Route::default().frame(&message);
            let expected = match kind {
                _ if frame.len() > 2048 => Reason::TooLong,
                MessageType::Solicit => Reason::NoClientId,
                _ => Reason::NotSolicit,
            };
            assert_eq!(lab.run(0, &frame).reason, expected, "{kind:?} in {} octets", frame.len());
        }
    }
}

/// They count among those of strangers, or of relay agents.
#[test]
fn a_long_message_is_admitted_like_a_short_one() {
    const FEW_STRANGERS: &str = r#"
        [fast_path.admission]
        per_source = 10_000_000
        strangers = 1
        clients = 10_000_000
        relayed = 10_000_000
        retransmission = "0s"
    "#;
    let Some(mut lab) = Lab::start(&(FEW_STRANGERS.to_owned() + LINK)) else { return };
    let mut judge = |kind| {
        let message = MessageBuilder::new(kind, [1, 2, 3]).option(OptionCode(16), &[7; 2500]).build();
        let frame = Route::default().frame(&message);
        let reasons: Vec<_> = (0..10).map(|_| lab.run(0, &frame).reason).collect();
        reasons.last().copied()
    };
    assert_eq!(judge(MessageType::Solicit), Some(Reason::StrangerLimit));
    assert_eq!(judge(MessageType::Renew), Some(Reason::StrangerLimit), "of a client that is not known");
    assert_eq!(judge(MessageType::RelayForward), Some(Reason::TooLong));
}
