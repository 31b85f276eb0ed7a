//! Elements of the kernel's maps that change hands while the program reads them.
//!
//! Threads replace and delete bindings of a few clients in both maps, as fast as they can, so that the kernel hands out the
//! memory of one client's binding to the next; meanwhile Solicits are shown to the program, which timers interrupt. Every
//! Reply must be the client's own. `REUSE_SECONDS` in the environment says for how long; a program that does not look at
//! the seal sends a wrong Reply about every other second.

use std::{
    env,
    net::Ipv6Addr,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use dhcp6_common::{
    Origin, Reason, Verdict,
    contract::Stamp,
    wire::{Duid, MessageType},
};
use dhcp6_userspace::{
    engine::{KernelBinding, Owner},
    fastpath::{BindingEntry, PinnedMaps},
    pool::Prefix,
    time::Time,
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use rand::{SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tests::{
    frame::{MessageBuilder, Received, Route},
    xdp::{GENEROUS, Lab},
};

/// Clients whose bindings come and go, half of them in each map.
const CLIENTS: u16 = 8;
/// Elements that go into a map at once.
const AT_ONCE: usize = 2048;
/// The CPU that the program runs on.
const READER: usize = 0;
/// That of the threads that change the maps.
const WRITERS: usize = 1;
/// Threads that have timers interrupt the program.
const SLEEPERS: usize = 12;
/// Solicits that are shown to the program within one system call.
const AT_A_TIME: u32 = 5000;
/// For how long in a run of all tests.
const SECONDS: u64 = 5;

const LINK: &str = r#"
    [[link]]
    name = "access"
    interface = "test0"
    prefix = "2001:db8:1::/64"
    rapid_commit = true
"#;

/// A client: those with an even number have a short DUID, the others a long one.
fn duid(number: u16) -> Duid {
    let [high, low] = number.to_be_bytes();
    let mut octets = vec![0, 3, 0, 1, 2, 0, 0, 0, high, low];
    if !number.is_multiple_of(2) {
        octets.resize(40, 0x5a);
    }
    Duid::new(&octets).expect("10 or 40 octets")
}

fn iaid(number: u16) -> u32 {
    number.into()
}

/// What belongs to a client. All octets differ from those of any other client.
fn address(number: u16) -> Ipv6Addr {
    [number as u8 + 1; 16].into()
}

fn prefix(number: u16) -> Prefix {
    let first = Ipv6Addr::from([number as u8 + 1; 16]);
    Prefix::around(first, 64).expect("64 bits")
}

fn entry(number: u16) -> BindingEntry {
    let binding = KernelBinding {
        owner: Owner { link: 0, origin: Origin::ANY, duid: duid(number) },
        address: Some((iaid(number), address(number))),
        prefix: Some((iaid(number), prefix(number))),
        serve_until: Time::EPOCH,
    };
    BindingEntry::new(&binding, u64::MAX, Stamp::NONE)
}

/// A Solicit of one client with the IAIDs of another one.
fn solicit(number: u16, of: u16) -> Vec<u8> {
    let message = MessageBuilder::new(MessageType::Solicit, [1, 2, number as u8])
        .client_id(duid(number).as_slice())
        .ia_na(iaid(of), &[])
        .ia_pd(iaid(of), &[])
        .rapid_commit();
    Route::default().frame(&message.build())
}

/// Replaces and deletes the bindings of clients, again and again, until it is to stop. Returns how often.
fn churn(pin_dir: &Path, clients: &[u16], stop: &AtomicBool) -> u64 {
    stay_on(WRITERS);
    let mut maps = PinnedMaps::open(pin_dir).expect("the maps are pinned");
    let entries: Vec<_> = clients.iter().copied().map(entry).collect();
    let mut rng = StdRng::seed_from_u64(1);
    let mut changes = 0;
    while !stop.load(Ordering::Relaxed) {
        // Within one system call, and in an order in which each gets the memory of another one that has just gone.
        let several: Vec<_> = (0..4).map(|_| *entries.choose(&mut rng).expect("some")).collect();
        assert_eq!(maps.bindings.fill(several.into_iter().cycle().take(AT_ONCE)), 0, "room for all");
        for _ in 0..4 {
            let gone = entries.choose(&mut rng).expect("some");
            maps.bindings.remove(&gone.owner).expect("access to the bindings");
        }
        changes += AT_ONCE as u64;
    }
    changes
}

/// Has timers interrupt the CPU that the program runs on, so that it is slow now and then between two instructions.
fn interrupt(stop: &AtomicBool) {
    stay_on(READER);
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_micros(10));
    }
}

/// Keeps this thread on a CPU, where there is one with this number.
fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).expect("a low number");
    // With one CPU only, it shares that.
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

#[test]
fn a_client_never_gets_what_is_another_clients() {
    let Some(mut lab) = Lab::start(&(GENEROUS.to_owned() + LINK)) else { return };
    let seconds =
        env::var("REUSE_SECONDS").map_or(SECONDS, |text| text.parse().expect("a number of seconds"));
    let replies: Vec<(Vec<u8>, Vec<u8>)> = { 0..CLIENTS }
        .map(|number| {
            lab.fast_path.bindings.put(&entry(number)).expect("room for it");
            let solicit = solicit(number, number);
            let outcome = lab.run(0, &solicit);
            assert_eq!(outcome.reason, Reason::Answered);
            let reply = Received::parse(&outcome.frame).expect("a frame with a Reply").message;
            assert_eq!(reply[24..40], address(number).octets(), "the address in the IA_NA");
            assert_eq!(reply[77..93], prefix(number).first().octets(), "the prefix in the IA_PD");
            (solicit, outcome.frame)
        })
        .collect();

    let pin_dir = lab.config.fast_path.pin_dir.clone();
    let (short, long): (Vec<u16>, Vec<u16>) = (0..CLIENTS).partition(|number| number.is_multiple_of(2));
    let (stop, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut shown, mut answered, mut wrong) = (0_u64, 0_u64, Vec::new());
    thread::scope(|scope| {
        for clients in [&short, &long] {
            let (pin_dir, stop, changes) = (&pin_dir, &stop, &changes);
            scope.spawn(move || changes.fetch_add(churn(pin_dir, clients, stop), Ordering::Relaxed));
        }
        for _ in 0..SLEEPERS {
            scope.spawn(|| interrupt(&stop));
        }
        stay_on(READER);
        let instance = &mut lab.fast_path.spares()[0];
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(seconds) {
            for (number, (solicit, reply)) in (0..).zip(&replies) {
                let outcome = instance.test_run(solicit).expect("a whole frame");
                match outcome.verdict {
                    Verdict::Answered if outcome.frame == *reply => answered += 1,
                    Verdict::Passed if outcome.frame == *solicit => {}
                    _ => wrong.push(outcome.frame),
                }
                // No client has both: an answer tells what the kernel would have given to the wrong one.
                let mixed = self::solicit(number, (number + 2) % CLIENTS);
                let outcome = instance.test_run_repeatedly(&mixed, AT_A_TIME).expect("a whole frame");
                if outcome.frame != mixed {
                    wrong.push(outcome.frame);
                }
                shown += 1 + u64::from(AT_A_TIME);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });

    let count = |reason| lab.fast_path.counters.get(0, reason).expect("access to counters");
    let [unknown, replaced, other] =
        [Reason::UnknownClient, Reason::BindingReplaced, Reason::OtherIa].map(count);
    println!(
        "{} changes, {shown} Solicits: {answered} answered, {unknown} of clients that were not there, {other} with others' \
         IAIDs, {replaced} whose binding changed hands meanwhile, {} wrong Replies",
        changes.into_inner(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{} Replies are wrong, such as {:02x?}", wrong.len(), wrong[0]);
    assert_eq!(count(Reason::Answered), answered + u64::from(CLIENTS), "all Replies were looked at");
    assert!(answered > 0 && unknown > 0 && other > shown / 20, "bindings came and went");
}
