//! The two planes give the same answer (invariant 4).
//!
//! Whatever the XDP program answers, the engine answers too, with the same octets; whatever it does not answer, it
//! passes as it arrived, or drops: then the engine would not have answered it either, or the network stack would not
//! have let it see it. Which of them happens to a frame is not judged here, except that a good share is answered:
//! what exactly is passed, and why, the fixtures say.

mod generate;
mod judge;
mod large;
mod links;
mod mutate;

use std::cell::{Cell, RefCell};

use dhcp6_common::{
    Reason, Verdict, contract,
    wire::{MessageType, OptionWalker, SERVER_PORT, Sum},
};
use dhcp6_userspace::{
    engine::{Engine, KernelBinding, Owner},
    lease::Contents,
};
use dhcproto::v6;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestRunner},
};
use tests::{
    frame::{MULTICAST, Received, split_tags},
    xdp::{Lab, interface, owner},
};

use self::generate::Client;

/// Runs `cases` cases, or more where `PROPTEST_CASES` in the environment says so. Returns the share of them that the XDP program answers, in percent; `None` where there is
/// no XDP program.
fn share_answered<S: Strategy>(
    cases: u32,
    strategy: &S,
    given: impl Fn(S::Value) -> (Client, Vec<u8>),
) -> Option<u32> {
    let lab = RefCell::new(Lab::start(&links::configuration())?);
    let answered = Cell::new(0);
    let mut config = Config { failure_persistence: None, ..Config::default() };
    config.cases = config.cases.max(cases);
    let cases = config.cases;
    let mut runner = TestRunner::new(config);
    let result = runner.run(strategy, |value| {
        let (client, frame) = given(value);
        answered.set(answered.get() + u32::from(same_answer(&mut lab.borrow_mut(), &client, &frame)?));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let share = answered.get() * 100 / cases;
    println!("{} of {cases} frames were answered, {share} %", answered.get());
    Some(share)
}

/// Shows both planes a frame after the client was bound. Returns whether the XDP program has answered.
fn same_answer(lab: &mut Lab, client: &Client, frame: &[u8]) -> Result<bool, TestCaseError> {
    let slot = client.link;
    let mut engine = lab.engine(Contents::default(), client.seed);
    let arrival = client.arrival();
    let (served, _) = lab.serve(&mut engine, arrival, &client.solicit());
    let outcome = lab.run(slot, frame);
    let origin = lab.config.links[slot as usize].origin_of(arrival.vlan, arrival.mac);
    let owner = Owner { origin, ..owner(slot, &client.duid) };
    let grants = lab.binding(&owner).map(|binding| binding.stamp.grants());
    lab.forget(&owner);
    let is_answered = outcome.reason == Reason::Answered;
    let expected = (!served.is_empty()).then_some(u16::from(is_answered));
    check(grants == expected, "a grant is stamped, and nothing else", &grants)?;
    if !is_answered {
        // `Lab::run` has compared the frames.
        if outcome.reason.verdict() == Verdict::Dropped {
            check_dropped(lab, &mut engine, slot, frame, outcome.reason)?;
        }
        return Ok(false);
    }
    let [served] = served[..] else {
        return Err(fail(format!("answered, but {served:?} is served")));
    };

    let answer = check_answer(lab, &mut engine, slot, frame, &outcome.frame)?;
    check_decoded(&answer, client, &served)?;
    Ok(true)
}

/// Compares what the program has sent with what the engine answers, which is returned.
fn check_answer(
    lab: &Lab,
    engine: &mut Engine,
    slot: u32,
    frame: &[u8],
    reply: &[u8],
) -> Result<Vec<u8>, TestCaseError> {
    let arrival = lab.arrival(slot, frame).ok_or_else(|| fail("answered, but of no link"))?;
    let (tags, plain) = split_tags(frame);
    let request = Request::parse(&plain)?;
    let (reply_tags, reply) = split_tags(reply);
    check(reply_tags == tags, "the same tags", &reply_tags)?;
    let received = Received::parse(&reply).map_err(fail)?;
    let answer = engine.handle(lab.clock.now(), arrival, &request.message).map_err(fail)?;
    check(answer.kind == MessageType::Reply, "the engine sends a Reply", &answer)?;
    check(!answer.needs_commit, "storage covers the promise already (invariant 1)", &answer)?;
    check(engine.take_forgotten().is_empty(), "the binding is the client's", &answer)?;
    let server = interface(slot);
    let expected = Received {
        source_mac: server.mac,
        destination_mac: request.source_mac,
        source: server.link_local,
        destination: request.source,
        ports: (547, 546),
        message: answer.message,
    };
    check(received == expected, "the same Reply", &(&received, &expected))?;
    check(reply[14..18] == [0x60, 0, 0, 0], "no traffic class, no flow label", &reply)?;
    check(reply[21] == 64, "hop limit", &reply)?;
    Ok(expected.message)
}

/// Whether a frame comes from the MAC address of a group, which is nobody's.
fn is_of_group(frame: &[u8]) -> bool {
    frame.get(6).is_some_and(|octet| octet & 1 != 0)
}

/// What is dropped is nothing that the daemon would have answered.
fn check_dropped(
    lab: &Lab,
    engine: &mut Engine,
    slot: u32,
    frame: &[u8],
    reason: Reason,
) -> Result<(), TestCaseError> {
    let arrival = lab.arrival(slot, frame).ok_or_else(|| fail("dropped, but of no link"))?;
    match (Request::parse(&split_tags(frame).1), reason) {
        // The engine does not get to see it, or not where it is from.
        (
            Err(_),
            Reason::BadLength | Reason::BadChecksum | Reason::SourceNotLinkLocal | Reason::NotForServers,
        ) => Ok(()),
        (Ok(_), Reason::SourceNotLinkLocal) if is_of_group(frame) => Ok(()),
        (Ok(request), Reason::NotForServers | Reason::Malformed) => {
            let answer = engine.handle(lab.clock.now(), arrival, &request.message);
            check(answer.is_err(), "what the engine answers is not dropped", &(reason, answer))
        }
        (request, _) => Err(fail(format!("dropped as {reason:?}: {:02x?}", request.map(|it| it.message)))),
    }
}

/// Compares the message as another implementation reads it with what the client must be told.
fn check_decoded(reply: &[u8], client: &Client, served: &KernelBinding) -> Result<(), TestCaseError> {
    use dhcproto::Decodable as _;
    use v6::{DhcpOption, OptionCode};
    let message = v6::Message::from_bytes(reply).map_err(fail)?;
    // It decodes up to the first option that it cannot read, and says nothing.
    let decoded = message.opts().iter().count();
    check(decoded == OptionWalker::new(&reply[4..]).count(), "decoded whole", &message)?;
    let options = message.opts();
    let ia_na = options.get(OptionCode::IANA).map(|option| match option {
        DhcpOption::IANA(ia) => match ia.opts.get(OptionCode::IAAddr) {
            Some(DhcpOption::IAAddr(lease)) => Ok((ia.id, lease.addr)),
            _ => Err(fail(format!("no address in {ia:?}"))),
        },
        other => Err(fail(other)),
    });
    let ia_pd = options.get(OptionCode::IAPD).map(|option| match option {
        DhcpOption::IAPD(ia) => match ia.opts.get(OptionCode::IAPrefix) {
            Some(DhcpOption::IAPrefix(lease)) => Ok((ia.id, lease.prefix_ip, lease.prefix_len)),
            _ => Err(fail(format!("no prefix in {ia:?}"))),
        },
        other => Err(fail(other)),
    });
    let (ia_na, ia_pd) = (ia_na.transpose()?, ia_pd.transpose()?);
    check(ia_na.is_some() || ia_pd.is_some(), "an IA", &message)?;
    check(ia_na.is_none() || ia_na == served.address, "the client's address", &(ia_na, served))?;
    let prefix = served.prefix.map(|(iaid, prefix)| (iaid, prefix.first(), prefix.length()));
    check(ia_pd.is_none() || ia_pd == prefix, "the client's prefix", &(ia_pd, served))?;
    let fits = ia_pd.is_none_or(|(_, _, length)| length <= contract::Binding::LONGEST_PREFIX);
    check(fits, "a prefix that the kernel can delegate", &ia_pd)?;
    let Some(DhcpOption::ClientId(duid)) = options.get(OptionCode::ClientId) else {
        return Err(fail(format!("no Client Identifier in {message:?}")));
    };
    check(*duid == client.duid, "the client's DUID", duid)
}

/// A frame without tags that was answered, as the daemon would have received it.
struct Request {
    source_mac: [u8; 6],
    source: std::net::Ipv6Addr,
    message: Vec<u8>,
}

impl Request {
    /// Reads the frame as a network stack does, which must not refuse it.
    fn parse(frame: &[u8]) -> Result<Self, TestCaseError> {
        let sliced = SlicedPacket::from_ethernet(frame).map_err(fail)?;
        let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Udp(udp))) = (&sliced.net, &sliced.transport)
        else {
            return Err(fail(format!("answered, but no IPv6 with UDP: {sliced:?}")));
        };
        check(ip.extensions().is_empty(), "no extension headers", ip)?;
        let ip = ip.header();
        check(ip.destination_addr() == MULTICAST, "to ff02::1:2", &ip)?;
        let of_relay_agent = udp.payload().first() == Some(&(MessageType::RelayForward as u8));
        check(of_relay_agent || ip.source_addr().is_unicast_link_local(), "from a link-local address", &ip)?;
        check(udp.destination_port() == SERVER_PORT, "to port 547", &udp)?;
        check(udp.length() == ip.payload_length(), "lengths that agree", &(ip, udp))?;
        check(udp.payload().len() >= 4, "room for a message", udp)?;
        let sum = udp.to_header().calc_checksum_ipv6_raw(ip.source(), ip.destination(), udp.payload());
        let bare = Sum::ZERO.add_pseudo_header(ip.source(), ip.destination(), udp.length()).fold();
        let valid = [sum.map_err(fail)?, u16::from_be(bare)];
        check(
            valid.contains(&udp.checksum()),
            "a valid checksum, or one that the device was to complete",
            &udp,
        )?;
        Ok(Self {
            source_mac: frame[6..12].try_into().expect("six octets"),
            source: ip.source_addr(),
            message: udp.payload().to_vec(),
        })
    }
}

fn check(holds: bool, what: &str, found: &impl std::fmt::Debug) -> Result<(), TestCaseError> {
    if holds { Ok(()) } else { Err(fail(format!("{what}: {found:02x?}"))) }
}

fn fail(error: impl std::fmt::Debug) -> TestCaseError {
    TestCaseError::fail(format!("{error:?}"))
}

#[test]
fn ordinary_solicits() {
    let share = share_answered(4000, &generate::ordinary(), |case| (case.client.clone(), case.frame()));
    assert!(share.is_none_or(|share| share >= 50), "{share:?} % prove too little");
}

#[test]
fn strange_solicits() {
    let share = share_answered(6000, &generate::strange(), |case| (case.client.clone(), case.frame()));
    assert!(share.is_none_or(|share| share >= 5), "{share:?} % prove too little");
}

#[test]
fn damaged_frames() {
    let strategy = (generate::ordinary(), mutate::mutations());
    let share = share_answered(12_000, &strategy, |(case, mutations)| {
        let mut frame = case.frame();
        mutations.apply(&mut frame);
        (case.client, frame)
    });
    assert!(share.is_none_or(|share| share >= 5), "{share:?} % prove too little");
}

/// Frames of a client's neighbours, and what lacks a tag or has one too many.
#[test]
fn frames_from_elsewhere() {
    let strategy = (generate::ordinary(), generate::elsewhere());
    let share = share_answered(4000, &strategy, |(case, elsewhere)| {
        (case.client.clone(), case.frame_from(&elsewhere))
    });
    assert!(share.is_none_or(|share| share >= 5), "{share:?} % prove too little");
}
