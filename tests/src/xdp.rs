//! The XDP program in the kernel, shown one frame at a time (BPF_PROG_TEST_RUN): no interface, no traffic, and
//! maps of its own.

use std::{
    error::Error,
    fs, io,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use dhcp6_common::{
    Origin, Reason, Verdict, Vlan,
    contract::{BINDINGS, Binding, BindingKey, Stamp},
    wire::{Duid, MessageType},
};
use dhcp6_userspace::{
    clock::Clock,
    config::Config,
    engine::{Answer, Arrival, DropReason, Engine, KernelBinding, Owner},
    fastpath::{BindingEntry, FastPath, FastPathError, Rendering, map_directory},
    lease::{Change, Contents},
    net::Interface,
};

use crate::frame::{MessageBuilder, split_tags};

/// The Server Identifier in all tests of the fast path.
pub const SERVER: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 0xaa];

/// Where the pins of a test go: a bpffs, as every system with systemd mounts it.
const BPFFS: &str = "/sys/fs/bpf";
/// Bindings that fit each map.
const CAPACITY: u32 = 1024;
/// Decides where admission control remembers a source.
const SEED: u64 = 9915;

/// Admission control that lets through whatever a test sends.
pub const GENEROUS: &str = r#"
    [fast_path.admission]
    per_source = 10_000_000
    strangers = 10_000_000
    clients = 10_000_000
    relayed = 10_000_000
    retransmission = "0s"
"#;

/// The interface that the link in a slot is attached to; it need not exist.
pub fn interface(slot: u32) -> Interface {
    let number = slot as u8;
    Interface {
        name: format!("test{slot}"),
        index: 100 + slot,
        mac: [2, 0, 0, 0, number, 0xaa],
        link_local: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xaa | u16::from(number) << 8),
    }
}

/// The same by its name.
fn interface_of(name: &str) -> Interface {
    let number = name.strip_prefix("test").and_then(|number| number.parse().ok());
    interface(number.expect("interfaces are named test0, test1 and so on"))
}

/// What the program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// The counter that rose.
    pub reason: Reason,
}

/// The fast path of a configuration.
pub struct Lab {
    /// The programs and their maps. Before `pins`, so that it is gone when these are removed.
    pub fast_path: FastPath,
    /// The configuration.
    pub config: Config,
    /// What turns the engine's time into the kernel's.
    pub clock: Clock,
    /// The counters of each slot, as they were read last.
    counters: Vec<Vec<u64>>,
    pins: Pins,
}

impl Lab {
    /// Loads the program for each link of a configuration.
    ///
    /// `None` where this system does not let the test use BPF, after saying so; in continuous integration
    /// (`CI` set in the environment), which always can, that is a failure.
    pub fn start(configuration: &str) -> Option<Self> {
        let mut config =
            Config::parse(configuration, "test.toml").unwrap_or_else(|errors| panic!("{errors}"));
        let pins = Pins::new();
        config.fast_path.pin_dir.clone_from(&pins.0);
        config.fast_path.max_bindings = CAPACITY;
        let (clock, _) = Clock::start(None);
        let engine = engine(&config, Contents::default(), &clock, 0);
        let served: Vec<_> = { (0..).zip(&config.links) }
            .filter_map(|(index, link)| Some((index, interface_of(link.interface.as_deref()?))))
            .collect();
        let rendering = Rendering::new(&config, &engine, &served, SEED);
        let fast_path = match FastPath::load(&config.fast_path, &rendering) {
            Ok(fast_path) => fast_path,
            Err(error) if is_unavailable(&error) => {
                crate::skip(&format!(
                    "{error}\nthe tests of the XDP program need root (or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON), \
                     a bpffs on {BPFFS} that they may write to, and the object from `cargo xtask build`"
                ));
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        fast_path.publish().expect("pins that others find");
        let counters = vec![vec![0; Reason::COUNT]; served.len()];
        Some(Self { fast_path, config, clock, counters, pins })
    }

    /// An engine of this configuration. `seed` drives random allocation.
    pub fn engine(&self, contents: Contents, seed: u64) -> Engine {
        engine(&self.config, contents, &self.clock, seed)
    }

    /// Has the engine handle a multicast message that arrived on the link in a slot.
    ///
    /// # Errors
    ///
    /// Why the engine does not answer.
    pub fn handle(&self, engine: &mut Engine, slot: u32, message: &[u8]) -> Result<Answer, DropReason> {
        engine.handle(
            self.clock.now(),
            Arrival { link: Some(slot), vlan: Vlan::NONE, mac: None, multicast: true },
            message,
        )
    }

    /// What the daemon knows of a frame that arrives on the interface in a slot; `None` where no link has it.
    pub fn arrival(&self, slot: u32, frame: &[u8]) -> Option<Arrival> {
        let (tags, _) = split_tags(frame);
        let vlan = match tags.iter().map(|(_, control)| control & 0xfff).collect::<Vec<_>>()[..] {
            // A tag that has a priority only is none.
            [] | [0] => Vlan::NONE,
            [outer] => Vlan { outer, inner: 0 },
            [outer, inner] if outer != 0 && inner != 0 => Vlan { outer, inner },
            _ => return None,
        };
        let interface = interface(slot).name;
        let link = self.config.links.iter().position(|link| {
            let has_vlan = link.vlans.as_ref().map_or(vlan == Vlan::NONE, |vlans| vlans.contains(vlan));
            has_vlan && link.interface.as_ref() == Some(&interface)
        })?;
        let mac = frame[6..12].try_into().ok();
        Some(Arrival { link: Some(link as u32), vlan, mac, multicast: true })
    }

    /// Lets the engine lease an address to a client in two messages, and the kernel serve it from then on.
    /// Returns the address, and what storage holds.
    pub fn bind(
        &mut self,
        engine: &mut Engine,
        slot: u32,
        duid: &[u8],
        iaid: u32,
    ) -> (Ipv6Addr, Vec<Change>) {
        let message = MessageBuilder::new(MessageType::Solicit, [0; 3])
            .client_id(duid)
            .ia_na(iaid, &[])
            .rapid_commit()
            .build();
        let (served, changes) = self.learn(engine, slot, &message);
        let [KernelBinding { address: Some((_, address)), .. }] = served[..] else {
            panic!("one client was bound, and {served:?} is served")
        };
        (address, changes)
    }

    /// Lets the engine lease what a Solicit with Rapid Commit asks for, and the kernel serve what it can of it from
    /// then on. Returns that, and what storage holds.
    pub fn learn(
        &mut self,
        engine: &mut Engine,
        slot: u32,
        solicit: &[u8],
    ) -> (Vec<KernelBinding>, Vec<Change>) {
        let arrival = Arrival { link: Some(slot), vlan: Vlan::NONE, mac: None, multicast: true };
        self.serve(engine, arrival, solicit)
    }

    /// Has the engine answer a Solicit in two messages, and the kernel serve what comes of it. Returns that, and what
    /// storage holds.
    pub fn serve(
        &mut self,
        engine: &mut Engine,
        arrival: Arrival,
        solicit: &[u8],
    ) -> (Vec<KernelBinding>, Vec<Change>) {
        let answer = engine.handle(self.clock.now(), arrival, solicit).expect("an answer");
        assert_eq!(answer.kind, MessageType::Reply, "{arrival:?} allows the two-message exchange");
        for owner in &engine.take_forgotten() {
            self.fast_path.bindings.remove(owner).expect("access to the bindings");
        }
        let changes = engine.take_changes();
        let served = engine.committed(self.clock.now(), &changes);
        for binding in &served {
            let serve_until = self.clock.boottime_of(binding.serve_until);
            let entry = BindingEntry::new(binding, serve_until, Stamp::NONE);
            self.fast_path.bindings.put(&entry).expect("room for a binding");
        }
        (served, changes)
    }

    /// Makes the kernel forget a client.
    pub fn forget(&mut self, owner: &Owner) {
        self.fast_path.bindings.remove(owner).expect("access to the bindings");
    }

    /// A client's element in the kernel.
    pub fn binding(&self, owner: &Owner) -> Option<Binding> {
        self.fast_path.bindings.get(owner).expect("access to the bindings")
    }

    /// Breaks the seal of a client's element, as if it had been replaced while it was read. Short DUIDs only.
    pub fn break_seal(&mut self, owner: &Owner) {
        use aya::maps::{HashMap, Map, MapData};
        let pin = map_directory(&self.pins.0).join(BINDINGS);
        let map = Map::HashMap(MapData::from_pin(pin).expect("the map is pinned"));
        let mut map: HashMap<_, [u8; size_of::<BindingKey>()], [u8; size_of::<Binding>()]> =
            map.try_into().expect("a hash map of this layout");
        let key = BindingKey::new(owner.link, owner.origin, &owner.duid).expect("a short DUID");
        let key = bytemuck::cast(key);
        let mut binding: Binding = bytemuck::cast(map.get(&key, 0).expect("a known client"));
        binding.seal_and_length ^= 1 << 8;
        map.insert(key, bytemuck::cast::<_, [u8; size_of::<Binding>()]>(binding), 0).expect("room for it");
    }

    /// Shows a frame to the program on the interface in a slot.
    ///
    /// What holds for every frame is checked here: it ends in exactly one counter (invariant 5), the verdict is
    /// that of the counter, and a frame that is not answered is the one that arrived (invariant 3).
    ///
    /// The kernel takes frames from 14 octets on.
    pub fn run(&mut self, slot: u32, frame: &[u8]) -> Outcome {
        let instance = &mut self.fast_path.spares()[slot as usize];
        let outcome = instance.test_run(frame).expect("a frame of 14 octets or more");
        let reason = self.counted(slot);
        assert_eq!(outcome.verdict, reason.verdict(), "the verdict of {reason:?}");
        if outcome.verdict != Verdict::Answered {
            assert_eq!(outcome.frame, frame, "counted as {reason:?} and changed all the same");
        }
        Outcome { frame: outcome.frame, reason }
    }

    /// The one counter that has risen since the last time, by one.
    fn counted(&mut self, slot: u32) -> Reason {
        let read = |reason: &Reason| self.fast_path.counters.get(slot, *reason).expect("access to counters");
        let now: Vec<_> = Reason::ALL.iter().map(read).collect();
        let before = std::mem::replace(&mut self.counters[slot as usize], now.clone());
        let risen: Vec<_> = Reason::ALL
            .iter()
            .zip(now.iter().zip(before))
            .map(|(reason, (now, before))| (*reason, now - before))
            .filter(|(_, rise)| *rise != 0)
            .collect();
        let [(reason, 1)] = risen[..] else { panic!("one frame was counted as {risen:?}") };
        reason
    }
}

fn engine(config: &Config, contents: Contents, clock: &Clock, seed: u64) -> Engine {
    Engine::new(config, client(&SERVER), contents, clock.now(), seed)
}

/// A client on a link that looks neither at VLANs nor at MAC addresses.
pub fn owner(link: u32, duid: &[u8]) -> Owner {
    Owner { link, origin: Origin::ANY, duid: client(duid) }
}

/// A DUID of these octets.
fn client(duid: &[u8]) -> Duid {
    Duid::new(duid).expect("a DUID of 1 to 130 octets")
}

/// Whether the system, and not the program, is the reason: everything else must fail the test.
fn is_unavailable(error: &FastPathError) -> bool {
    match error {
        FastPathError::NoObject | FastPathError::PinDirectory { .. } => true,
        // The verifier refuses with EACCES, a lack of privileges with EPERM.
        _ => {
            const EPERM: i32 = 1;
            let mut cause: Option<&(dyn Error + 'static)> = Some(error);
            while let Some(error) = cause {
                if error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(EPERM) {
                    return true;
                }
                cause = error.source();
            }
            false
        }
    }
}

/// A directory for pins, removed with everything in it when the test ends, however it does.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(Path::new(BPFFS).join(format!("dhcp6-test-{}-{number}", process::id())))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // It may never have been made.
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
