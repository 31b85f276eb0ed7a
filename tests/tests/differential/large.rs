//! Damaged frames in the large: as many as `MUTATED_FRAMES` in the environment says.
//!
//! ```sh
//! MUTATED_FRAMES=10000000 cargo test --release -p tests --test differential mutated_frames -- --nocapture
//! ```

use std::{env, time::Instant};

use dhcp6_common::{Reason, Verdict, wire::OptionCode};
use dhcp6_userspace::{engine::Engine, lease::Contents};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tests::{
    frame::{C_TAG, MessageBuilder, Route, S_TAG, with_tags},
    xdp::Lab,
};

use super::{
    check_answer,
    generate::Client,
    judge::{Judgement, judge},
    links,
    mutate::repair_checksum,
};

/// Frames in a run of all tests.
const FEW: u64 = 100_000;
/// Frames between two looks at the counters.
const ROUND: u64 = 10_000;
/// Clients on each link.
const CLIENTS: u8 = 6;
/// Solicits of each client.
const SOLICITS: usize = 12;

const UDP: usize = 54;
const MESSAGE: usize = 62;

/// A whole frame: the slot it comes in on, its tags, and the frame without them.
struct Template {
    slot: u32,
    tags: Vec<(u16, u16)>,
    plain: Vec<u8>,
}

fn clients(rng: &mut StdRng) -> Vec<Client> {
    let of = |(link, number): (u32, u8), rng: &mut StdRng| {
        let tags = links::vlans(link).into_iter().enumerate();
        let tags = tags.map(|(depth, ids)| (if depth == 0 { S_TAG } else { C_TAG }, rng.random_range(ids)));
        let tags = tags.collect();
        let len = [10, 14, 18, 19, 40, 130][usize::from(number % 6)];
        let iaid: u32 = rng.random();
        Client {
            link,
            tags,
            mac: [2, 0, 0, 0, link as u8, number],
            duid: (0..len).map(|_| rng.random()).collect(),
            iaids: [iaid, if number % 2 == 0 { iaid } else { rng.random() }],
            has: [number % 4 != 3, number % 3 != 2],
            seed: 0,
        }
    };
    let numbers = (0..links::COUNT).flat_map(|link| (0..CLIENTS).map(move |number| (link, number)));
    numbers.map(|number| of(number, rng)).collect()
}

/// A Solicit as a client sends it.
fn template(client: &Client, rng: &mut StdRng) -> Template {
    let address = |rng: &mut StdRng| rng.random::<[u8; 16]>().into();
    let mut message = MessageBuilder::new(dhcp6_common::wire::MessageType::Solicit, rng.random());
    let mut parts = [0, 1, 2, 3, 4, 5];
    rand::seq::SliceRandom::shuffle(&mut parts[..], rng);
    let [mut has_address, mut has_prefix] = client.has;
    match rng.random_range(0..4) {
        0 if has_prefix => has_address = false,
        1 if has_address => has_prefix = false,
        _ => {}
    }
    for part in parts {
        message = match part {
            0 => message.client_id(&client.duid),
            1 => message.rapid_commit(),
            2 if has_address => {
                let hints: Vec<_> = (0..rng.random_range(0..3)).map(|_| address(rng)).collect();
                message.ia_na(client.iaids[0], &hints)
            }
            3 if has_prefix => {
                let hints: Vec<_> =
                    (0..rng.random_range(0..3)).map(|_| (address(rng), rng.random_range(0..=128))).collect();
                message.ia_pd(client.iaids[1], &hints)
            }
            4 => {
                let codes: Vec<u16> = (0..rng.random_range(0..6))
                    .map(|_| *[23, 24, 56, 31, 32, 82, 39, 17].choose(rng).expect("some"))
                    .collect();
                message.request(&codes)
            }
            5 => {
                let code = *[8, 16, 15, 39, 20, 4, 300].choose(rng).expect("some");
                message.option(OptionCode(code), &vec![0xa5; rng.random_range(0..24)])
            }
            _ => message,
        };
    }
    let source = std::net::Ipv6Addr::from(0xfe80 << 112 | u128::from(rng.random::<u64>()));
    let route = Route { source_mac: client.mac, source, ..Route::default() };
    Template { slot: client.link, tags: client.tags.clone(), plain: route.frame(&message.build()) }
}

/// Damages a frame in up to three places, and often makes lengths and checksum agree again. One of so many frames is
/// left whole.
fn damaged(template: &Template, rng: &mut StdRng) -> Vec<u8> {
    let mut plain = template.plain.clone();
    for _ in 0..rng.random_range(0..4) {
        let len = plain.len();
        let anywhere = rng.random_range(0..len);
        let in_message = if len > MESSAGE { rng.random_range(MESSAGE..len) } else { anywhere };
        match rng.random_range(0..10) {
            0 => plain[anywhere] ^= 1 << rng.random_range(0..8),
            1 => plain[in_message] ^= 1 << rng.random_range(0..8),
            2 => plain[in_message] = rng.random_range(0..27),
            3 => plain[in_message] = rng.random(),
            4 => plain.truncate(rng.random_range(14..=len)),
            5 => plain.extend((0..rng.random_range(1..20)).map(|_| rng.random_range(0..27_u8))),
            6 if len > MESSAGE => {
                drop(plain.drain(in_message..len.min(in_message + rng.random_range(1..20))));
            }
            7 if len > MESSAGE => plain[MESSAGE] = rng.random_range(0..16),
            8 => {
                // A piece of the message once more.
                let end = len.min(in_message + rng.random_range(1..40));
                let piece = plain[in_message..end].to_vec();
                plain.splice(in_message..in_message, piece);
            }
            _ if len > UDP + 6 => {
                let offset = *[18, 19, 20, 22, 56, 57, 58, 59].choose(rng).expect("some");
                plain[offset] = plain[offset].wrapping_add(rng.random_range(0..9)).wrapping_sub(4);
            }
            _ => {}
        }
    }
    let repair = rng.random_range(0..6);
    if plain.len() >= MESSAGE && repair > 0 {
        if repair > 2 {
            let len = ((plain.len() - UDP) as u16).to_be_bytes();
            plain[18..20].copy_from_slice(&len);
            plain[58..60].copy_from_slice(&len);
        }
        repair_checksum(&mut plain);
    }
    let mut tags = template.tags.clone();
    match rng.random_range(0..40) {
        0 => drop(tags.pop()),
        1 => tags.push((C_TAG, rng.random())),
        2 => tags.insert(0, (S_TAG, rng.random())),
        3 => tags.iter_mut().for_each(|(_, control)| *control ^= 1 << rng.random_range(0..16)),
        4 => tags.iter_mut().for_each(|(kind, _)| *kind ^= 1 << rng.random_range(0..16)),
        _ => {}
    }
    with_tags(&plain, &tags)
}

/// How many frames the program has answered, passed and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    answered: u64,
    passed: u64,
    dropped: [u64; Reason::COUNT],
}

impl Tally {
    /// What the program has counted on all interfaces. What it drops it counts under the reason that the judge gives.
    fn read(lab: &Lab) -> Self {
        let mut tally = Self::default();
        for slot in 0..links::COUNT {
            for reason in Reason::ALL {
                let count = lab.fast_path.counters.get(slot, *reason).expect("access to counters");
                match reason.verdict() {
                    Verdict::Answered => tally.answered += count,
                    Verdict::Passed => tally.passed += count,
                    Verdict::Dropped => tally.dropped[*reason as usize] += count,
                }
            }
        }
        tally
    }
}

/// Shows a frame to the program, and what became of it to the judge and the engine.
fn show(lab: &mut Lab, engine: &mut Engine, slot: u32, frame: &[u8], tally: &mut Tally) {
    let outcome =
        lab.fast_path.spares()[slot as usize].test_run(frame).expect("a frame of 14 octets or more");
    let judgement = judge(frame, lab.arrival(slot, frame).is_some());
    match (outcome.verdict, judgement) {
        (Verdict::Answered, Judgement::Served) => {
            tally.answered += 1;
            let answer = check_answer(lab, engine, slot, frame, &outcome.frame);
            answer.unwrap_or_else(|error| panic!("{error}\nslot {slot}: {frame:02x?}"));
            return;
        }
        (Verdict::Passed, Judgement::Served | Judgement::NotOurs) => tally.passed += 1,
        (Verdict::Dropped, Judgement::Dropped(reason)) => tally.dropped[reason as usize] += 1,
        (found, expected) => panic!("{found:?}, but {expected:?}\nslot {slot}: {frame:02x?}"),
    }
    assert_eq!(outcome.frame, frame, "{:?} and changed all the same", outcome.verdict);
}

#[test]
fn mutated_frames_in_the_large() {
    let Some(mut lab) = Lab::start(&links::configuration()) else { return };
    let count = env::var("MUTATED_FRAMES")
        .map_or(FEW, |count| count.parse().expect("MUTATED_FRAMES is a number of frames"));
    let seed =
        env::var("MUTATION_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    println!("MUTATION_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut engine = lab.engine(Contents::default(), 0);
    let clients = clients(&mut rng);
    for client in &clients {
        lab.serve(&mut engine, client.arrival(), &client.solicit());
    }
    let templates: Vec<_> = clients
        .iter()
        .flat_map(|client| [client; SOLICITS])
        .map(|client| template(client, &mut rng))
        .collect();

    let (mut tally, start) = (Tally::default(), Instant::now());
    for number in 1..=count {
        let template = templates.choose(&mut rng).expect("some");
        let frame = damaged(template, &mut rng);
        show(&mut lab, &mut engine, template.slot, &frame, &mut tally);
        if number % ROUND == 0 || number == count {
            assert_eq!(Tally::read(&lab), tally, "each frame is counted once, and as what it is");
            assert!(engine.take_changes().is_empty(), "what the kernel answers changes nothing");
        }
    }
    let dropped: u64 = tally.dropped.iter().sum();
    println!(
        "{count} frames in {:.1} s: {} answered, {} passed, {dropped} dropped",
        start.elapsed().as_secs_f64(),
        tally.answered,
        tally.passed
    );
    for reason in Reason::ALL.iter().filter(|reason| tally.dropped[**reason as usize] > 0) {
        println!("  {}: {}", reason.name(), tally.dropped[*reason as usize]);
    }
    for (what, share) in [("answered", tally.answered), ("passed", tally.passed), ("dropped", dropped)] {
        assert!(share >= count / 20, "{share} of {count} frames {what} prove too little");
    }
}
