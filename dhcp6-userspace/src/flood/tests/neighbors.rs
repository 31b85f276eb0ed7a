//! Clients and their neighbors on the link.

use std::{net::Ipv6Addr, time::Duration};

use super::{SERVER_MAC, Simulation, engine, plan, unharmed};
use crate::flood::{
    Mode, Plan, Step, Summary,
    client::Identity,
    frame::{address_probe, neighbor_advertisement},
};

const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

fn run(plan: Plan, fault: &dyn Fn(usize, Vec<u8>) -> Vec<Vec<u8>>) -> Summary {
    Simulation { engine: engine(true, "1fff"), lost: &|_| false, fault }.run(plan)
}

fn with_dad(clients: u32) -> Plan {
    Plan { dad: Some(Duration::from_millis(500)), ..plan(clients, Mode::RapidCommit) }
}

/// The address in a Reply to a Solicit.
fn address(reply: &[u8]) -> Ipv6Addr {
    let at = reply.windows(4).position(|option| option == [0, 5, 0, 24]).expect("an IA Address") + 4;
    Ipv6Addr::from(*reply[at..].first_chunk::<16>().unwrap())
}

#[test]
fn addresses_that_nobody_else_has_are_kept() {
    let summary = run(with_dad(20), &unharmed);
    assert!(summary.is_fine() && summary.answered == 20, "{summary:?}");
    let dad = summary.dad.expect("it was asked for");
    assert_eq!((dad.checked, dad.conflicts), (20, 0));
    assert!(summary.steps.is_empty(), "nothing is declined: {summary:?}");
    assert_eq!(run(plan(1, Mode::RapidCommit), &unharmed).dad, None, "it was not asked for");
}

#[test]
fn addresses_that_somebody_has_are_declined() {
    type Neighbor<'a> = &'a dyn Fn(Ipv6Addr) -> Vec<u8>;
    let defends: Neighbor<'_> =
        &|it| neighbor_advertisement(STRANGER, it, (SERVER_MAC, Ipv6Addr::UNSPECIFIED));
    let wants: Neighbor<'_> = &|it| address_probe(STRANGER, it);
    let of_another: Neighbor<'_> = &|it: Ipv6Addr| defends(Ipv6Addr::from_bits(it.to_bits() ^ 0xff00));
    let damaged: Neighbor<'_> = &|it| {
        let mut frame = defends(it);
        frame[56] ^= 1;
        frame
    };
    for (neighbor, conflicts, what) in [
        (defends, 1, "it answers"),
        (wants, 1, "it is about to take it, too"),
        (of_another, 0, "another address"),
        (damaged, 0, "a checksum that is wrong"),
    ] {
        // Behind the first Reply, which is the first that is sent.
        let fault = |number, frame: Vec<u8>| match number {
            0 => vec![frame.clone(), neighbor(address(&frame))],
            _ => vec![frame],
        };
        let summary = run(with_dad(3), &fault);
        assert!(summary.is_fine(), "{what}: {summary:?}");
        let dad = summary.dad.unwrap();
        assert_eq!((dad.checked, dad.conflicts), (3 + conflicts, conflicts), "{what}");
        let declined = summary.steps.get("decline").map_or(0, |step| step.answered);
        assert_eq!((declined, summary.answered), (conflicts, 3 + conflicts), "{what}: and another one");
        assert_eq!(summary.declined_again, 0, "{what}");
    }
}

#[test]
fn steps_follow_when_the_address_is_found_to_be_free() {
    let summary = run(Plan { then: vec![Step::Renew, Step::Release], ..with_dad(5) }, &unharmed);
    assert_eq!((summary.steps["renew"].answered, summary.steps["release"].answered), (5, 5), "{summary:?}");
    let latency = summary.latency_us.unwrap();
    assert!(latency.max < Duration::from_millis(1), "the wait is not the server's: {latency:?}");
    // The window is 8: what waits for neighbors is not outstanding.
    assert!(run(with_dad(100), &unharmed).seconds < Duration::from_secs(1));
}

#[test]
fn probes_are_valid_and_addresses_defended() {
    use super::{Frame, Instant, population, transmit};
    use crate::flood::frame::Inbound;
    let start = Instant::now();
    let mut population = population(with_dad(2), start);
    let mut simulation = Simulation { engine: engine(true, "1fff"), lost: &|_| false, fault: &unharmed };
    let solicit = transmit(&mut population, start).unwrap();
    let reply = simulation.serve(Duration::ZERO, &solicit).unwrap();
    let address = address(&reply);
    let handle = |population: &mut super::Population, octets: &[u8], now| {
        population.handle(now, Frame { octets, checksum_offloaded: false });
    };
    handle(&mut population, &reply, start);
    let probe = transmit(&mut population, start).expect("a Neighbor Solicitation");
    assert_eq!(probe, address_probe(Identity(0).mac(), address));
    let read = Frame { octets: &probe, checksum_offloaded: false };
    let Inbound::NeighborSolicitation { source, target, .. } = read.read() else { panic!("{probe:?}") };
    assert_eq!((source, target), (Ipv6Addr::UNSPECIFIED, address));
    let [.., x, y, z] = address.octets();
    assert_eq!(probe[..6], [0x33, 0x33, 0xff, x, y, z], "to the solicited-node group");
    let second = transmit(&mut population, start).expect("the other client's Solicit");
    assert_eq!(second[6..12], Identity(1).mac());

    // The address is the client's now.
    let later = start + Duration::from_millis(510);
    assert!(transmit(&mut population, later).is_none());
    handle(&mut population, &address_probe(STRANGER, address), later);
    let defence = transmit(&mut population, later).expect("a Neighbor Advertisement");
    assert_eq!(defence[38..54], ALL_NODES.octets());
    assert_eq!((defence[54], &defence[62..78]), (136, &address.octets()[..]));
    handle(&mut population, &address_probe(STRANGER, Ipv6Addr::from_bits(address.to_bits() + 1)), later);
    assert!(transmit(&mut population, later).is_none(), "nobody has that one");
}
