//! What a few clients send: the same for the same seed and the same answers.

use std::{collections::BTreeMap, net::Ipv6Addr};

use dhcp6_common::wire::{IA_NA_HEADER_LEN, MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker};
use rand::{
    Rng as _, SeedableRng as _,
    rngs::StdRng,
    seq::{IndexedRandom as _, SliceRandom as _},
};
use tests::{
    frame::{MULTICAST, MessageBuilder, Route, in_fragments, on_vlan, with_destination_options},
    netns::{SERVER_LINK_LOCAL, SERVER_MAC},
};

/// The server's DUID.
pub(super) const SERVER_DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 0xaa];
/// The first octet of transaction identifiers that are not used here.
pub(super) const FENCE: u8 = 0xfe;

/// The share of ordinary Solicits, in percent.
const ORDINARY: u32 = 40;
/// The share of messages that go out in a way in which no server takes them, in percent.
const UNTAKEN: u32 = 10;
/// Lengths of the clients' DUIDs. The first has a reservation.
const CLIENTS: [usize; 10] = [10, 10, 14, 18, 3, 1, 19, 30, 129, 130];

/// A message, and the frames that it goes out in.
pub(super) struct Step {
    /// What it is, and what is special about it.
    pub(super) what: String,
    /// As the client sends it.
    pub(super) message: Vec<u8>,
    pub(super) transaction: [u8; 3],
    pub(super) frames: Vec<Vec<u8>>,
    /// Whether there is an answer, where that is plain from how it goes out.
    pub(super) is_answered: Option<bool>,
}

/// How a message goes out.
struct Sending {
    how: &'static str,
    frames: Vec<Vec<u8>>,
    /// Whether the server takes it.
    is_taken: bool,
}

/// A client, and what it was given or offered last, by IAID.
struct Client {
    duid: Vec<u8>,
    route: Route,
    addresses: BTreeMap<u32, Ipv6Addr>,
    /// The IA Prefix option's value that it was given last.
    prefix: Option<Vec<u8>>,
}

/// An option: its code and value.
type Opt = (u16, Vec<u8>);

/// The clients.
pub(super) struct Sequence {
    rng: StdRng,
    clients: Vec<Client>,
    /// Who has sent the message that is to be answered.
    sender: usize,
    sent: u16,
}

impl Sequence {
    pub(super) fn new(seed: u64) -> Self {
        let client = |(number, len): (u8, usize)| Client {
            duid: match len {
                10 => vec![0, 3, 0, 1, 2, 0, 0, 0, 0, number],
                len => (0..len).map(|offset| (offset as u8).wrapping_mul(7) ^ number).collect(),
            },
            route: Route {
                source_mac: [2, 0, 0, 0, 1, number],
                source: Ipv6Addr::from(0xfe80 << 112 | 0x1_0000 | u128::from(number)),
                ..Route::default()
            },
            addresses: BTreeMap::new(),
            prefix: None,
        };
        let clients = (0..).zip(CLIENTS).map(client).collect();
        Self { rng: StdRng::seed_from_u64(seed), clients, sender: 0, sent: 0 }
    }

    /// Every address that messages come from.
    pub(super) fn routes(&self) -> impl Iterator<Item = Route> {
        self.clients.iter().flat_map(|client| [client.route, global(client.route)])
    }

    /// The next message.
    pub(super) fn next(&mut self) -> Step {
        self.sender = self.rng.random_range(0..self.clients.len());
        self.sent += 1;
        let [high, low] = self.sent.to_be_bytes();
        let transaction = [0x5a, high, low];
        let choice = self.rng.random_range(0..100);
        let (what, message) = match choice {
            0..ORDINARY => self.ordinary_solicit(transaction),
            ORDINARY..52 => self.strange_solicit(transaction),
            52..92 => self.other_message(transaction),
            _ => self.malformed(transaction),
        };
        let Sending { how, frames, is_taken } = self.send(&message);
        let is_answered = if is_taken { (choice < ORDINARY).then_some(true) } else { Some(false) };
        Step { what: format!("{what}{how}"), message, transaction, frames, is_answered }
    }

    /// Notes what the answer to the last message gives its sender.
    pub(super) fn learn(&mut self, answer: &[u8]) {
        let Some(options) = answer.get(MESSAGE_HEADER_LEN..) else { return };
        let of_code = |options, code| {
            OptionWalker::new(options).filter_map(Result::ok).filter(move |option| option.code == code)
        };
        for ia in of_code(options, OptionCode::IA_PD) {
            let mut given = of_code(&ia.value[IA_NA_HEADER_LEN..], OptionCode::IA_PREFIX);
            let given = given.find(|option| option.value[4..8] != [0; 4]);
            self.clients[self.sender].prefix = given.map(|option| option.value.to_vec());
        }
        let ias = of_code(options, OptionCode::IA_NA);
        for ia in ias {
            let (iaid, nested) = (&ia.value[..4], &ia.value[IA_NA_HEADER_LEN..]);
            let iaid = u32::from_be_bytes(iaid.try_into().expect("four octets"));
            let given = OptionWalker::new(nested)
                .filter_map(Result::ok)
                // One that is withdrawn has a valid lifetime of 0.
                .find(|option| option.code == OptionCode::IA_ADDRESS && option.value[20..24] != [0; 4]);
            if let Some(given) = given {
                let address: [u8; 16] = given.value[..16].try_into().expect("16 octets");
                self.clients[self.sender].addresses.insert(iaid, address.into());
            }
        }
    }

    /// A Solicit with Rapid Commit as clients send it.
    fn ordinary_solicit(&mut self, transaction: [u8; 3]) -> (String, Vec<u8>) {
        let mut options = vec![self.client_id(), (14, Vec::new())];
        let hint = if self.rng.random_bool(0.3) { vec![self.some_address()] } else { Vec::new() };
        options.push(ia_na(1, &hint));
        if self.rng.random_bool(0.8) {
            options.push((8, self.rng.random::<[u8; 2]>().to_vec()));
        }
        if self.rng.random_bool(0.8) {
            options.push(self.option_request());
        }
        if self.rng.random_bool(0.3) {
            options.push(self.ignored());
        }
        ("an ordinary Solicit".to_owned(), self.build(MessageType::Solicit, transaction, options))
    }

    /// A Solicit with Rapid Commit that the daemon has to judge, or should not.
    fn strange_solicit(&mut self, transaction: [u8; 3]) -> (String, Vec<u8>) {
        let mut options =
            vec![self.client_id(), (14, Vec::new()), ia_na(1, &[]), self.option_request(), (8, vec![0, 0])];
        let what = match self.rng.random_range(0..20) {
            0 => {
                options[2] = ia_na(2, &[]);
                "another IAID"
            }
            1 => {
                options.push(ia_na(2, &[]));
                "two IA_NAs"
            }
            2 => {
                options.push(ia_na(1, &[]));
                "two IA_NAs with one IAID"
            }
            3 => {
                options.push(self.ia_pd());
                "an IA_PD"
            }
            4 => {
                options.push((4, vec![0, 0, 0, 1]));
                "an IA_TA"
            }
            5 => {
                options[2] = ia_na(1, &[self.some_address(), self.some_address()]);
                "two hints"
            }
            6 => {
                options[2].1.extend([0, 13, 0, 2, 0, 0]);
                "a status code in the IA"
            }
            7 => {
                options.push((2, SERVER_DUID.to_vec()));
                "a Server Identifier"
            }
            8 => {
                options.push(self.client_id());
                "two Client Identifiers"
            }
            9 => {
                options.remove(0);
                "no Client Identifier"
            }
            10 => {
                options[0].1.push(0);
                "a Client Identifier that is longer by one"
            }
            11 => {
                options.push((3000, vec![1, 2, 3]));
                "an unknown option"
            }
            12 => {
                options.push((11, vec![0; 11]));
                "Authentication"
            }
            13 => {
                options[3].1.push(0);
                "an Option Request of odd length"
            }
            14 => {
                options[1].1.push(0);
                "a Rapid Commit that is not empty"
            }
            15 => {
                options.extend((0..70).map(|_| (16, vec![0; 4])));
                "many options"
            }
            16 => {
                options[3] = (6, [0, 23].repeat(80));
                "many requested options"
            }
            17 => {
                options.push((17, vec![0; 1100]));
                "a long option"
            }
            18 => {
                options[4] = (8, vec![0]);
                "a short Elapsed Time"
            }
            _ => {
                options.push(self.option_request());
                "two Option Requests"
            }
        };
        (what.to_owned(), self.build(MessageType::Solicit, transaction, options))
    }

    /// A message that is not a Solicit with Rapid Commit.
    fn other_message(&mut self, transaction: [u8; 3]) -> (String, Vec<u8>) {
        use MessageType::{
            Advertise, Confirm, Decline, InformationRequest, Rebind, Release, Renew, Reply, Request, Solicit,
        };
        let kinds = [
            (Solicit, 8),
            (Request, 10),
            (Renew, 8),
            (Rebind, 6),
            (Release, 4),
            (Decline, 2),
            (Confirm, 4),
            (InformationRequest, 4),
            (Advertise, 1),
            (Reply, 1),
        ];
        let (kind, _) = *kinds.choose_weighted(&mut self.rng, |(_, weight)| *weight).expect("weights");
        let mut what = format!("{kind:?}");
        let iaid = if self.rng.random_bool(0.95) { 1 } else { 2 };
        let own = self.clients[self.sender].addresses.get(&iaid).copied();
        let addresses: Vec<_> = match self.rng.random_range(0..10) {
            0 => {
                what += ", any address";
                vec![self.some_address()]
            }
            1 => {
                what += ", no address";
                Vec::new()
            }
            2 => {
                what += ", an address more";
                own.into_iter().chain([self.some_address()]).collect()
            }
            _ => own.into_iter().collect(),
        };
        let mut options = vec![self.client_id(), self.option_request()];
        if kind != InformationRequest || self.rng.random_bool(0.1) {
            options.push(ia_na(iaid, &addresses));
        }
        if self.rng.random_bool(0.2) {
            options.push(self.ia_pd());
            what += ", an IA_PD";
        }
        let names_server = matches!(kind, Request | Renew | Release | Decline);
        match self.rng.random_range(0..20) {
            0 => {
                options.push((2, [&SERVER_DUID[..], &[0]].concat()));
                what += ", another server";
            }
            1 => what += ", no server",
            2 => {
                options.remove(0);
                what += ", no client";
            }
            _ if names_server => options.push((2, SERVER_DUID.to_vec())),
            _ => {}
        }
        if self.rng.random_bool(0.1) {
            options.push((3000, vec![0xff; 9]));
        }
        (what, self.build(kind, transaction, options))
    }

    /// What is no message.
    fn malformed(&mut self, transaction: [u8; 3]) -> (String, Vec<u8>) {
        let (_, mut message) = self.ordinary_solicit(transaction);
        let what = match self.rng.random_range(0..6) {
            0 => {
                let len = self.rng.random_range(0..message.len());
                message.truncate(len);
                "cut"
            }
            1 => {
                message.extend([0; 3]);
                "stray octets"
            }
            2 => {
                message.extend([0, 6, 0xff, 0xff]);
                "an option that is too long"
            }
            3 => {
                message[0] = *[0, 14, 36, 99, 255].choose(&mut self.rng).expect("types");
                "an unknown type"
            }
            4 => {
                message =
                    self.build(MessageType::Solicit, transaction, vec![(1, Vec::new()), (14, Vec::new())]);
                "an empty Client Identifier"
            }
            _ => {
                let index = self.rng.random_range(MESSAGE_HEADER_LEN..message.len());
                message[index] ^= 1 << self.rng.random_range(0..8);
                "a flipped bit"
            }
        };
        (what.to_owned(), message)
    }

    /// The frames of a message, which a relay agent may have wrapped on the way, and what is special about them.
    fn send(&mut self, message: &[u8]) -> Sending {
        let route = self.clients[self.sender].route;
        let plain = route.frame(message);
        let choice = self.rng.random_range(0..100);
        let (how, frames) = match choice {
            // What no server takes.
            0..2 => (", a wrong checksum (matrix row T-9)", vec![altered(plain, 61, |octet| octet ^ 1)]),
            2..3 => {
                let frame = altered(altered(plain, 60, |_| 0), 61, |_| 0);
                (", no checksum (matrix row T-10)", vec![frame])
            }
            3..4 => {
                let frame = altered(plain, 59, |octet| octet.wrapping_add(1));
                (", a wrong length (matrix row T-14)", vec![frame])
            }
            4..5 => (", on a VLAN", vec![on_vlan(&plain, 100)]),
            5..6 => (", to another port", vec![Route { destination_port: 10547, ..route }.frame(message)]),
            6..8 => {
                let route = Route { destination: SERVER_LINK_LOCAL, destination_mac: SERVER_MAC, ..route };
                (", unicast (matrix row V-24)", vec![route.frame(message)])
            }
            8..UNTAKEN => (", not from a link-local address", vec![global(route).frame(message)]),
            // What the server takes as any other.
            17..19 => {
                (", a Destination Options header (matrix row T-12)", vec![with_destination_options(&plain)])
            }
            10..12 => (", two fragments (matrix row T-13)", in_fragments(&plain, 8).to_vec()),
            12..15 => (", padding (matrix row T-15)", vec![[&plain[..], &[0xff; 9]].concat()]),
            15..17 => {
                let route = Route { source_port: 20546, ..route };
                (", from another port (matrix row T-4)", vec![route.frame(message)])
            }
            19..21 => {
                let route = Route { destination_mac: SERVER_MAC, ..route };
                (", in a unicast frame (matrix row T-8)", vec![route.frame(message)])
            }
            21..26 => {
                let link = "2001:db8:1::1".parse::<Ipv6Addr>().expect("an address");
                let header =
                    [&[MessageType::RelayForward as u8, 0][..], &link.octets(), &route.source.octets()]
                        .concat();
                let forward = MessageBuilder::from(header).option(OptionCode::RELAY_MESSAGE, message).build();
                let frames = vec![Route { source_port: 547, ..route }.frame(&forward)];
                (", relayed", frames)
            }
            _ => ("", vec![plain]),
        };
        Sending { how, frames, is_taken: choice >= UNTAKEN }
    }

    fn build(&mut self, kind: MessageType, transaction: [u8; 3], mut options: Vec<Opt>) -> Vec<u8> {
        options.shuffle(&mut self.rng);
        let message = MessageBuilder::new(kind, transaction);
        let add = |message: MessageBuilder, (code, value): &Opt| message.option(OptionCode(*code), value);
        options.iter().fold(message, add).build()
    }

    fn client_id(&self) -> Opt {
        (1, self.clients[self.sender].duid.clone())
    }

    /// Codes that are configured, and others, some of which the daemon has to judge.
    fn option_request(&mut self) -> Opt {
        const CODES: [u16; 12] = [23, 24, 23, 24, 23, 24, 31, 56, 64, 82, 0, 3000];
        let count = self.rng.random_range(0..8);
        let codes = (0..count).map(|_| *CODES.choose(&mut self.rng).expect("codes"));
        (6, codes.flat_map(u16::to_be_bytes).collect())
    }

    /// An IA_PD, with the prefix that the client has, with a length alone, or with nothing.
    fn ia_pd(&mut self) -> Opt {
        let (_, mut value) = ia_na(1, &[]);
        let of_length = |length| [&[0; 8][..], &[length], &[0; 16]].concat();
        let own = self.clients[self.sender].prefix.clone();
        let prefix = match self.rng.random_range(0..8) {
            0 => None,
            1 => Some(of_length(self.rng.random_range(56..=64))),
            _ => own,
        };
        if let Some(prefix) = prefix {
            value.extend([0, 26, 0, prefix.len() as u8]);
            value.extend(prefix);
        }
        (25, value)
    }

    /// An option that has no meaning to the server.
    fn ignored(&mut self) -> Opt {
        let code = *[15, 16, 17, 20, 39].choose(&mut self.rng).expect("codes");
        (code, vec![self.rng.random(); self.rng.random_range(0..20)])
    }

    /// An address that a client was given, a free one, the reserved one, or one of elsewhere.
    fn some_address(&mut self) -> Ipv6Addr {
        let given: Vec<_> =
            self.clients.iter().flat_map(|client| client.addresses.values()).copied().collect();
        let pool = u128::from("2001:db8:1::".parse::<Ipv6Addr>().expect("an address"));
        match self.rng.random_range(0..6) {
            0 => Ipv6Addr::from(pool | 5),
            1 => Ipv6Addr::from(pool | 0x8000 | u128::from(self.rng.random::<u8>())),
            2 => "2001:db8:2::1000".parse().expect("an address"),
            3 => MULTICAST,
            _ => given.choose(&mut self.rng).copied().unwrap_or(Ipv6Addr::UNSPECIFIED),
        }
    }
}

fn ia_na(iaid: u32, addresses: &[Ipv6Addr]) -> Opt {
    let mut value = [&iaid.to_be_bytes()[..], &[0; 8]].concat();
    for address in addresses {
        value.extend([0, 5, 0, 24]);
        value.extend(address.octets());
        value.extend([0; 8]);
    }
    (3, value)
}

/// The frame with another octet at an offset.
fn altered(mut frame: Vec<u8>, offset: usize, alter: impl Fn(u8) -> u8) -> Vec<u8> {
    frame[offset] = alter(frame[offset]);
    frame
}

/// The same client with an address of the link's prefix.
fn global(route: Route) -> Route {
    let interface = u128::from(route.source) & 0xff;
    let prefix = u128::from("2001:db8:1::".parse::<Ipv6Addr>().expect("an address"));
    Route { source: Ipv6Addr::from(prefix | 0xf_0000 | interface), ..route }
}
