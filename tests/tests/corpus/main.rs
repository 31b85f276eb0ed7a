//! Solicits as real clients send them: how many of them does the XDP program answer once it knows the client?
//!
//! `solicits.txt` holds what the clients of the interoperability tests send, and the shapes of others.

mod solicits;

use std::fmt::Write as _;

use dhcp6_common::{
    Reason,
    wire::{MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker},
};
use dhcp6_userspace::{engine::Engine, lease::Contents};
use tests::{
    frame::{MessageBuilder, Received, Route},
    xdp::{GENEROUS, Lab, owner},
};

use self::solicits::{Solicit, solicits};

/// A link that offers all that the clients ask for, and some of the options.
const LINK: &str = r#"
    [[link]]
    name = "access0"
    interface = "test0"
    prefix = "2001:db8:1::/64"
    rapid_commit = true
    [[link.pool]]
    range = "2001:db8:1::1000-2001:db8:1::ffff"
    [[link.prefix_pool]]
    prefix = "2001:db8:8000::/36"
    delegated_length = 56
    [link.options]
    dns_servers = ["2001:db8::53", "2001:db8::54"]
    domain_search = ["example.net"]
    ntp_servers = ["2001:db8::123"]
    sol_max_rt = "1h"
"#;

/// The least share, in percent, of the Solicits with Rapid Commit that is answered.
const LEAST_SHARE: usize = 95;

/// Those with Rapid Commit that may be left to the daemon.
const LEFT_TO_THE_DAEMON: [(&str, &str); 2] = [
    ("dhclient: two IA_NA, rapid commit", "a binding holds one"),
    ("dhclient: two IA_PD and an IA_NA, rapid commit", "a binding holds one IA_PD"),
];

/// Has the engine lease what the client asks for, and the kernel serve it where it can.
fn learn(lab: &mut Lab, engine: &mut Engine, solicit: &Solicit) {
    let message = MessageBuilder::from(solicit.message.clone());
    let message = if solicit.has(OptionCode::RAPID_COMMIT) { message } else { message.rapid_commit() };
    lab.learn(engine, 0, &message.build());
}

/// Shows a Solicit to the program, once as it is; returns what became of it. An answer is the engine's, octet for
/// octet.
fn show(lab: &mut Lab, solicit: &Solicit) -> Reason {
    let mut engine = lab.engine(Contents::default(), 0);
    learn(lab, &mut engine, solicit);
    let outcome = lab.run(0, &Route::default().frame(&solicit.message));
    lab.forget(&owner(0, solicit.duid()));
    if outcome.reason == Reason::Answered {
        let reply = Received::parse(&outcome.frame).expect("a frame with a Reply");
        let answer = lab.handle(&mut engine, 0, &solicit.message).expect("an answer");
        assert_eq!(reply.message, answer.message, "{}: the same Reply", solicit.name);
        assert!(!answer.needs_commit, "{}: storage covers the promise", solicit.name);
    }
    outcome.reason
}

#[test]
fn known_clients_are_answered_by_the_kernel() {
    let Some(mut lab) = Lab::start(&(GENEROUS.to_owned() + LINK)) else { return };
    let solicits = solicits();
    let (rapid, others): (Vec<_>, Vec<_>) =
        solicits.iter().partition(|solicit| solicit.has(OptionCode::RAPID_COMMIT));
    for solicit in others {
        assert_ne!(show(&mut lab, solicit), Reason::Answered, "{}: it wants an Advertise", solicit.name);
    }

    let mut report = String::new();
    let mut unexpected = Vec::new();
    let mut answered = 0;
    for solicit in &rapid {
        let reason = show(&mut lab, solicit);
        if reason == Reason::Answered {
            answered += 1;
            continue;
        }
        let known = LEFT_TO_THE_DAEMON.iter().find(|(name, _)| *name == solicit.name);
        let why = known.map_or("should be answered", |(_, why)| why);
        writeln!(report, "{:18} {} ({why})", reason.name(), solicit.name).expect("memory");
        if known.is_none() {
            unexpected.push(&solicit.name);
        }
    }
    let share = 100 * answered / rapid.len();
    println!("{answered} of {} Solicits with Rapid Commit are answered, {share} %\n{report}", rapid.len());
    assert!(unexpected.is_empty(), "{} are not answered and should be: {unexpected:#?}", unexpected.len());
    assert!(share >= LEAST_SHARE, "{share} % are answered");
}

/// The engine gives each client all that it asks for; what is left to the daemon is in good hands.
#[test]
fn all_are_answered_by_the_engine() {
    let Some(lab) = Lab::start(&(GENEROUS.to_owned() + LINK)) else { return };
    for solicit in solicits() {
        let mut engine = lab.engine(Contents::default(), 0);
        let answer = lab.handle(&mut engine, 0, &solicit.message);
        let answer = answer.unwrap_or_else(|reason| panic!("{}: {reason:?}", solicit.name));
        let expected =
            if solicit.has(OptionCode::RAPID_COMMIT) { MessageType::Reply } else { MessageType::Advertise };
        assert_eq!(answer.kind, expected, "{}", solicit.name);
        for (ia, lease) in
            [(OptionCode::IA_NA, OptionCode::IA_ADDRESS), (OptionCode::IA_PD, OptionCode::IA_PREFIX)]
        {
            let leases = values(&answer.message, ia)
                .filter(|value| {
                    let (_, options) = value.split_at(12);
                    OptionWalker::new(options).any(|option| option.is_ok_and(|option| option.code == lease))
                })
                .count();
            assert_eq!(leases, values(&solicit.message, ia).count(), "{}: a lease for each", solicit.name);
        }
    }
}

/// The values of all options with this code.
fn values(message: &[u8], code: OptionCode) -> impl Iterator<Item = &[u8]> {
    let options =
        OptionWalker::new(&message[MESSAGE_HEADER_LEN..]).map(|option| option.expect("well-formed"));
    options.filter(move |option| option.code == code).map(|option| option.value)
}
