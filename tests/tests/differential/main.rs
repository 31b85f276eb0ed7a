//! The two planes give the same answer (invariant 4).
//!
//! Whatever the XDP program answers, the engine answers too, with the same octets; whatever it does not answer, it
//! passes as it arrived. Which of the two happens to a frame is not judged here, except that a good share is
//! answered: what exactly is passed, and why, the fixtures say.

mod generate;
mod mutate;

use std::cell::{Cell, RefCell};

use dhcp6_common::{
    Reason,
    wire::{MessageType, OptionWalker, SERVER_PORT, Sum},
};
use dhcp6_userspace::lease::Contents;
use dhcproto::v6;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestRunner},
};
use tests::{
    frame::{MULTICAST, Received},
    xdp::{Lab, interface, owner},
};

use self::generate::Client;

/// Links with 0 to 8 configured options, of which the last have codes that cannot be rendered.
fn links() -> String {
    const LISTS: [&str; 3] = [
        r#"dns_servers = ["2001:db8::53", "2001:db8::54"]"#,
        r#"domain_search = ["example.net", "odd.example.net"]"#,
        r#"ntp_servers = ["2001:db8::123", "ntp.example.net"]"#,
    ];
    const CUSTOM: [&str; 5] = [
        r#"{ code = 31, hex = "01" }"#,
        r#"{ code = 32, hex = "" }"#,
        r#"{ code = 255, hex = "0203040506" }"#,
        r#"{ code = 33, hex = "ffff" }"#,
        r#"{ code = 65000, hex = "00" }"#,
    ];
    const LIFETIMES: [[&str; 2]; 3] = [["1h", "2h"], ["infinity", "infinity"], ["90s", "infinity"]];
    let link = |options: usize| {
        let lists = LISTS[..options.min(LISTS.len())].join("\n");
        let custom = CUSTOM[..options.saturating_sub(LISTS.len())].join(", ");
        let [preferred, valid] = LIFETIMES[options % LIFETIMES.len()];
        format!(
            r#"
            [[link]]
            name = "access{options}"
            interface = "test{options}"
            prefix = "2001:db8:{options}::/64"
            rapid_commit = true
            allocation = "random"
            preferred_lifetime = "{preferred}"
            valid_lifetime = "{valid}"
            [[link.pool]]
            range = "2001:db8:{options}::/64"
            [link.options]
            {lists}
            custom = [{custom}]
            "#
        )
    };
    let links: String = (0..=8).map(link).collect();
    tests::xdp::GENEROUS.to_owned() + &links
}

/// Runs `cases` cases, or more where `PROPTEST_CASES` in the environment says so. Returns the share of them that the XDP program answers, in percent; `None` where there is
/// no XDP program.
fn share_answered<S: Strategy>(
    cases: u32,
    strategy: &S,
    given: impl Fn(S::Value) -> (Client, Vec<u8>),
) -> Option<u32> {
    let lab = RefCell::new(Lab::start(&links())?);
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
    let Client { slot, duid, iaid, seed } = client;
    let mut engine = lab.engine(Contents::default(), *seed);
    let (address, _) = lab.bind(&mut engine, *slot, duid, *iaid);
    let outcome = lab.run(*slot, frame);
    let grants = lab.binding(&owner(*slot, duid)).map(|binding| binding.stamp.grants());
    lab.forget(&owner(*slot, duid));
    let is_answered = outcome.reason == Reason::Answered;
    check(grants == Some(u16::from(is_answered)), "a grant is stamped, and nothing else", &grants)?;
    if !is_answered {
        // `Lab::run` has compared the frames.
        return Ok(false);
    }

    let request = Request::parse(frame)?;
    let reply = Received::parse(&outcome.frame).map_err(fail)?;
    let answer = lab.handle(&mut engine, *slot, &request.message).map_err(fail)?;
    check(answer.kind == MessageType::Reply, "the engine sends a Reply", &answer)?;
    check(!answer.needs_commit, "storage covers the promise already (invariant 1)", &answer)?;
    check(engine.take_forgotten().is_empty(), "the binding is the client's", &answer)?;
    let server = interface(*slot);
    let expected = Received {
        source_mac: server.mac,
        destination_mac: request.source_mac,
        source: server.link_local,
        destination: request.source,
        ports: (547, 546),
        message: answer.message,
    };
    check(reply == expected, "the same Reply", &(&reply, &expected))?;
    check(outcome.frame[14..18] == [0x60, 0, 0, 0], "no traffic class, no flow label", &outcome)?;
    check(outcome.frame[21] == 64, "hop limit", &outcome)?;
    check_decoded(&reply.message, &expected.message, client, address)?;
    Ok(true)
}

/// Compares the messages as another implementation reads them, and with what the client must be told.
fn check_decoded(
    reply: &[u8],
    answer: &[u8],
    client: &Client,
    address: std::net::Ipv6Addr,
) -> Result<(), TestCaseError> {
    use dhcproto::Decodable as _;
    use v6::{DhcpOption, OptionCode};
    let reply_message = v6::Message::from_bytes(reply).map_err(fail)?;
    let answer = v6::Message::from_bytes(answer).map_err(fail)?;
    check(reply_message == answer, "equal after decoding", &(&reply_message, &answer))?;
    // It decodes up to the first option that it cannot read, and says nothing.
    let decoded = reply_message.opts().iter().count();
    check(decoded == OptionWalker::new(&reply[4..]).count(), "decoded whole", &reply_message)?;
    let options = reply_message.opts();
    let Some(DhcpOption::IANA(ia)) = options.get(OptionCode::IANA) else {
        return Err(fail(format!("no IA_NA in {reply_message:?}")));
    };
    check(ia.id == client.iaid, "the client's IAID", ia)?;
    let Some(DhcpOption::IAAddr(lease)) = ia.opts.get(OptionCode::IAAddr) else {
        return Err(fail(format!("no address in {reply_message:?}")));
    };
    check(lease.addr == address, "the client's address", lease)?;
    let Some(DhcpOption::ClientId(duid)) = options.get(OptionCode::ClientId) else {
        return Err(fail(format!("no Client Identifier in {reply_message:?}")));
    };
    check(*duid == client.duid, "the client's DUID", duid)
}

/// A frame that was answered, as the daemon would have received it.
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
        check(ip.source_addr().is_unicast_link_local(), "from a link-local address", &ip)?;
        check(udp.destination_port() == SERVER_PORT, "to port 547", &udp)?;
        check(udp.length() == ip.payload_length(), "lengths that agree", &(ip, udp))?;
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
