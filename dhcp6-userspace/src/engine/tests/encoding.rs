//! Whole answers, octet by octet as RFC 9915 (sections 8 and 21) and RFC 6603 lay them out.

use dhcp6_common::{
    Vlan,
    wire::{MessageType, OptionCode},
};

use super::{
    message::{Message, duid, off_link, on_link},
    server::{SMALL, Server},
};
use crate::engine::Arrival;

/// The octets of hexadecimal digits, in groups.
fn octets(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[track_caller]
fn assert_answer(config: &str, message: &Message, rows: &str, expected: &[&str]) {
    let mut server = Server::start(config);
    let arrival = Arrival { link: Some(0), vlan: Vlan::NONE, mac: None, multicast: true };
    let answer = server.engine.handle(server.now, arrival, message.octets()).expect("an answer");
    assert_eq!(answer.message, octets(&expected.concat()), "{rows}: {:02x?}", answer.message);
}

/// Server Identifier and Client Identifier, sections 21.3 and 21.2.
const SERVER_ID: &str = "0002 0007 0002 0000ab11 99";
const CLIENT_ID: &str = "0001 000a 0003 0001 020000000001";

/// [`SMALL`] with a preference, prefixes of 56 bits, of which the last /64 is excluded, and options.
fn config() -> String {
    let rest = "[[link.prefix_pool]]\nprefix = \"2001:db8:8000::/54\"\ndelegated_length = 56\n\
                pd_exclude = \"0:0:0:ff::/64\"\n\
                [link.options]\ndns_servers = [\"2001:db8::53\"]\nsol_max_rt = 60\ninf_max_rt = \"1d\"\n\
                information_refresh_time = 600\n";
    format!("[server]\npreference = 255\n{SMALL}{rest}")
}

/// An IA_NA with an address: sections 21.4 and 21.6. IAID, T1, T2; address, preferred and valid lifetime.
const IA_NA: [&str; 3] = [
    "0003 0028 00000001 000001f4 00000320",
    "0005 0018 20010db8 00010000 00000000 00001000",
    "000003e8 000007d0",
];

/// An IA_PD with a prefix: sections 21.21 and 21.22. IAID, T1, T2; preferred and valid lifetime, length, prefix; the
/// excluded prefix (RFC 6603, section 4.2): its length, and the bits behind those of the delegated one.
const IA_PD: [&str; 4] = [
    "0019 002f 00000001 000001f4 00000320",
    "001a 001f 000003e8 000007d0",
    "38 20010db8 80000000 00000000 00000000",
    "0043 0002 40 ff",
];

#[test]
fn an_advertise() {
    let message = Message::with_ia(MessageType::Solicit, 1, &[]).ia_pd(1, &[]).requests(&[67, 82, 83]);
    let options = ["0007 0001 ff", "0052 0004 0000003c", "0053 0004 00015180"];
    let expected = [&["02 abcdef"][..], &IA_NA, &IA_PD, &[SERVER_ID], &options, &[CLIENT_ID]].concat();
    assert_answer(&config(), &message, "matrix rows S-2, S-3, S-9, O-12, O-14, E-12", &expected);
}

#[test]
fn a_reply() {
    let dns = "0017 0010 20010db8 00000000 00000000 00000053";
    let rapid = Message::rapid(1).ia_pd(1, &[]).requests(&[23, 67]);
    let expected = [&["07 abcdef"][..], &IA_NA, &IA_PD, &[SERVER_ID, "000e 0000", dns, CLIENT_ID]].concat();
    assert_answer(&config(), &rapid, "matrix rows Q-2, R-13, R-14, E-1, E-12", &expected);
    let request = Message::with_ia(MessageType::Request, 1, &[]);
    let expected = [&["07 abcdef"][..], &IA_NA, &[SERVER_ID, CLIENT_ID]].concat();
    assert_answer(&config(), &request, "matrix rows R-1, O-1, O-4", &expected);
    let inform = Message::bare(MessageType::InformationRequest as u8).requests(&[32]);
    let expected = ["07 abcdef", SERVER_ID, "0020 0004 00000258"];
    assert_answer(&config(), &inform, "matrix rows I-2, I-5, E-5", &expected);
}

/// A Status Code (section 21.13): the code, and a text that no octet ends.
fn status(code: u16, text: &str) -> String {
    let status = format!("000d {:04x} {code:04x} ", 2 + text.len());
    text.bytes().fold(status, |status, octet| format!("{status}{octet:02x}"))
}

/// An IA without a lease: its code, T1 and T2, and a status.
fn empty_ia(code: u16, times: &str, status: &str) -> String {
    let len = 12 + status.chars().filter(char::is_ascii_hexdigit).count() / 2;
    format!("{code:04x} {len:04x} 00000001 {times} {status}")
}

#[test]
fn status_codes() {
    let exhausted = "[[link]]\nname = \"a\"\ninterface = \"eth1\"\nprefix = \"2001:db8:1::/64\"\n\
                     preferred_lifetime = 1000\nvalid_lifetime = 2000\n";
    let times = "000001f4 00000320";
    let none = [
        empty_ia(3, times, &status(2, "no address is available on this link")),
        empty_ia(25, times, &status(6, "no prefix is available on this link")),
    ];
    let reply = |kind| Message::with_ia(kind, 1, &[]).ia_pd(1, &[]);
    for (kind, head) in [(MessageType::Solicit, "02 abcdef"), (MessageType::Request, "07 abcdef")] {
        let expected = [head, &none[0], &none[1], SERVER_ID, CLIENT_ID];
        assert_answer(exhausted, &reply(kind), "matrix rows S-4, S-5, R-3, R-4, O-3, O-6", &expected);
    }
    let not_on_link = empty_ia(3, times, &status(4, "an address is not appropriate to this link"));
    let message = Message::with_ia(MessageType::Request, 1, &[off_link()]);
    let expected = ["07 abcdef", &not_on_link, SERVER_ID, CLIENT_ID];
    assert_answer(SMALL, &message, "matrix rows R-2, O-3", &expected);
    let no_binding = empty_ia(3, "00000000 00000000", &status(3, "this server has no such binding"));
    let success = status(0, "done");
    for kind in [MessageType::Release, MessageType::Decline] {
        let message = Message::with_ia(kind, 1, &[on_link(0x1000)]);
        let expected = ["07 abcdef", &no_binding, SERVER_ID, &success, CLIENT_ID];
        assert_answer(SMALL, &message, "matrix rows L-2, X-3, O-3", &expected);
    }
    let confirm = |address| Message::with_ia(MessageType::Confirm, 1, &[address]);
    for (address, status) in [
        (on_link(1), status(0, "all addresses are on this link")),
        (off_link(), status(4, "an address is not on this link")),
    ] {
        let expected = ["07 abcdef", SERVER_ID, &status, CLIENT_ID];
        assert_answer(SMALL, &confirm(address), "matrix rows C-1, C-2, C-7, O-3", &expected);
    }
}

#[test]
fn what_a_client_shall_not_use_any_more() {
    let config = SMALL.replace("rapid_commit = true", "rapid_commit = false");
    let message = Message::with_ia(MessageType::Rebind, 1, &[off_link()]);
    let expected = [
        "07 abcdef",
        IA_NA[0],
        "0005 0018 20010db8 ffff0000 00000000 00000001",
        "00000000 00000000",
        SERVER_ID,
        CLIENT_ID,
    ];
    assert_answer(&config, &message, "matrix rows N-10, N-11", &expected);
    assert_eq!(duid(1).as_slice(), &octets(CLIENT_ID)[4..], "the client");
}

#[test]
fn a_relay_reply() {
    let mut server = Server::start(SMALL);
    let confirm = Message::with_ia(MessageType::Confirm, 1, &[on_link(1)]);
    let options = [
        (OptionCode::RELAY_SOURCE_PORT, &[0, 0][..]),
        (OptionCode::REMOTE_ID, &[0, 0, 0, 9, 7]),
        (OptionCode::INTERFACE_ID, b"p7"),
        (OptionCode::ECHO_REQUEST, &[0, 37]),
    ];
    let forward = super::relaying::forward(3, on_link(0xffff), &options, confirm.octets());
    let arrival = Arrival { link: None, vlan: Vlan::NONE, mac: None, multicast: false };
    let answer = server.engine.handle(server.now, arrival, &forward).expect("an answer").message;
    let status = status(0, "all addresses are on this link");
    let inner = octets(&["07 abcdef", SERVER_ID, &status, CLIENT_ID].concat());
    // Hop count, link-address and peer-address as they came (section 9.2), and each option in its RFC's form.
    let header = "0d 03 20010db8 00010000 00000000 0000ffff fe800000 00000000 00000000 00000009";
    let options = "0012 0002 7037  0087 0002 0000  0025 0005 00000009 07";
    let message = [&octets("0009")[..], &(inner.len() as u16).to_be_bytes(), &inner].concat();
    let expected = [octets(header), octets(options), message].concat();
    assert_eq!(answer, expected, "matrix rows Y-1, Y-2, Y-3, E-10, E-15");
}
