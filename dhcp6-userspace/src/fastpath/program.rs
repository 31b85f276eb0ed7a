//! Loading and attaching the XDP program.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::MapData,
    programs::{
        ProgramError, TestRun as _, TestRunOptions, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        xdp::{XdpLink, XdpLinkId},
    },
};
use aya_log::EbpfLogger;
use dhcp6_common::{
    Reason, Verdict,
    contract::{
        BINDINGS, COUNTERS, INNER_VLANS, INTERFACES, LINKS, LOG_GLOBAL, LONG_BINDINGS, Link, PROGRAM,
        REPLY_BLOCKS, SLOT_GLOBAL,
    },
};
use nix::libc;

use super::{
    maps::{Bindings, Counters, MapError, PinnedMaps, Tables, map_directory},
    pin::is_defunct,
    render::Rendering,
};
use crate::{
    config::{FastPathConfig, XdpModeSetting},
    net::{Interface, netns_cookie},
};

/// The directory of maps that are being filled.
const UNPUBLISHED: &str = "new";
/// The directory of the links that hold programs on interfaces, each named by the interface's index and the mode.
const PINNED_LINKS: &str = "links";

/// The XDP program, where the build had it.
static OBJECT: Option<&[u8]> = include!(concat!(env!("OUT_DIR"), "/object.rs"));

/// Why there is no fast path.
#[derive(Debug, thiserror::Error)]
pub enum FastPathError {
    /// Built without the XDP program.
    #[error(
        "this program was built without the XDP program: build it with `cargo xtask build`, or set `enabled = false` in [fast_path]"
    )]
    NoObject,
    /// The directory of the pins cannot be prepared.
    #[error(
        "cannot prepare {path} for pinned maps: {source}; is a bpffs mounted there (`mount -t bpf bpf /sys/fs/bpf`)?"
    )]
    PinDirectory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The object or its maps were refused.
    #[error(
        "cannot load the XDP program's object: {0}; it takes CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and Linux 5.18 or newer"
    )]
    Load(#[from] EbpfError),
    /// The verifier refused the program, which it does to those who lack a privilege, too.
    #[error(
        "the kernel refuses the XDP program; where this is not root, see that it has CAP_PERFMON besides CAP_BPF and \
         CAP_NET_ADMIN: {0}"
    )]
    Refused(ProgramError),
    /// The program's log cannot be read.
    #[error("cannot read the XDP program's log: {0}")]
    Log(#[from] aya_log::Error),
    /// The driver refused the program.
    #[error("cannot {what} the XDP program on {interface}: {source}")]
    Program {
        /// What was being done.
        what: &'static str,
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: AnyError,
    },
    /// The driver takes no program.
    #[error(
        "cannot attach the XDP program on {interface} in its driver: {source}; the kernel's log may say why. Where it \
         has no native XDP, or not with this MTU or these features, set `mode = \"auto\"` or `mode = \"generic\"` in \
         [fast_path]"
    )]
    NotNative {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: AnyError,
    },
    /// There is another program on the interface.
    #[error(
        "{interface} has another XDP program (`ip link show {interface}`); one that a dhcp6d with another pin_dir has \
         left goes with `dhcp6d --config FILE --detach` and that server's configuration"
    )]
    Taken {
        /// The interface.
        interface: String,
    },
    /// A map does not work.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// Any of the many errors of aya's programs and links.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// How the program runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

impl AttachedMode {
    const ALL: [Self; 2] = [Self::Native, Self::Generic];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// The modes that a setting allows, the preferred one first.
    fn allowed(setting: XdpModeSetting) -> &'static [Self] {
        match setting {
            XdpModeSetting::Native => &[Self::Native],
            XdpModeSetting::Generic => &[Self::Generic],
            XdpModeSetting::Auto => &[Self::Native, Self::Generic],
        }
    }
}

/// The XDP program on one interface.
#[derive(Debug)]
pub struct Attachment {
    /// Slot of the interface.
    pub slot: u32,
    /// The interface.
    pub interface: String,
    /// Index of the interface.
    ifindex: u32,
    /// How it runs.
    pub mode: AttachedMode,
    link: HeldLink,
}

/// What holds a program on an interface.
#[derive(Debug)]
enum HeldLink {
    /// This process alone.
    Here(FdLink),
    /// The pin, too.
    Pinned { pin: PathBuf, _link: FdLink },
}

/// An instance of the program, loaded for one slot.
pub struct Instance {
    slot: u32,
    ebpf: Ebpf,
    /// Reads what the program logs, where it is to log.
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// The loaded programs and their maps. What was kept ([`FastPath::keep`]) stays in the kernel when this is dropped,
/// and goes on answering.
pub struct FastPath {
    /// The bindings.
    pub bindings: Bindings<MapData>,
    /// Interfaces and links.
    pub tables: Tables<MapData>,
    /// The counters.
    pub counters: Counters<MapData>,
    attachments: Vec<(Attachment, Instance)>,
    spares: Vec<Instance>,
    /// Where the maps are pinned for now.
    unpublished: PathBuf,
    /// The directory of all pins.
    pin_dir: PathBuf,
}

/// What a daemon has left in the kernel: one before this one, or this one under an earlier configuration. It goes on
/// answering until its place is taken.
pub struct Predecessor {
    /// Its maps; `None` where there are none of this layout.
    pub maps: Option<PinnedMaps>,
    /// Where its programs run.
    links: Vec<PinnedProgram>,
}

/// A program on an interface of this network namespace, found by the pin of its link.
#[derive(Clone, Debug)]
struct PinnedProgram {
    ifindex: u32,
    mode: AttachedMode,
    pin: PathBuf,
}

/// What the program did with a frame that was only shown to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRunOutcome {
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// What would have happened to it.
    pub verdict: Verdict,
    /// Time that the program took.
    pub duration: Duration,
}

impl FastPath {
    /// Creates maps with this rendering and no bindings, and loads an instance of the program for each interface. The
    /// maps are pinned where nobody looks for them before [`FastPath::publish`].
    ///
    /// # Errors
    ///
    /// [`FastPathError`]; nothing is attached then.
    pub fn load(config: &FastPathConfig, rendering: &Rendering) -> Result<Self, FastPathError> {
        let object = OBJECT.ok_or(FastPathError::NoObject)?;
        // A bpffs takes no name with a dot.
        let directory = config.pin_dir.join(UNPUBLISHED);
        prepare(&directory)
            .map_err(|source| FastPathError::PinDirectory { path: directory.clone(), source })?;
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).max(1);
        let interfaces = count(rendering.interfaces.len());
        let mut spares = Vec::new();
        for slot in 0..interfaces {
            let mut ebpf = EbpfLoader::new()
                .default_map_pin_directory(&directory)
                .map_max_entries(BINDINGS, config.max_bindings)
                .map_max_entries(LONG_BINDINGS, config.max_bindings)
                .map_max_entries(INTERFACES, interfaces)
                .map_max_entries(INNER_VLANS, count(rendering.inner_vlans.len()))
                .map_max_entries(LINKS, count(rendering.links.len()))
                .map_max_entries(REPLY_BLOCKS, count(rendering.blocks.len()))
                .map_max_entries(COUNTERS, 2 * interfaces * Reason::COUNT as u32)
                .override_global(SLOT_GLOBAL, &slot, true)
                .override_global(LOG_GLOBAL, &u32::from(config.log), true)
                .load(object)?;
            let logger = config.log.then(|| EbpfLogger::init(&mut ebpf)).transpose()?;
            let mut instance = Instance { slot, ebpf, logger };
            instance.xdp().load().map_err(FastPathError::Refused)?;
            spares.push(instance);
        }
        let ebpf = &mut spares.first_mut().expect("there is at least one slot").ebpf;
        let mut take = |name| ebpf.take_map(name).expect("the object has the maps of the contract");
        let mut tables =
            Tables::from_maps(take(INTERFACES), take(INNER_VLANS), take(LINKS), take(REPLY_BLOCKS))?;
        tables.put(rendering)?;
        Ok(Self {
            bindings: Bindings::from_maps(take(BINDINGS), take(LONG_BINDINGS))?,
            tables,
            counters: Counters::from_map(take(COUNTERS))?,
            attachments: Vec::new(),
            spares,
            unpublished: directory,
            pin_dir: config.pin_dir.clone(),
        })
    }

    /// Lets others find the pinned maps, in the place of those of a predecessor.
    ///
    /// # Errors
    ///
    /// [`FastPathError::PinDirectory`].
    pub fn publish(&self) -> Result<(), FastPathError> {
        // Nobody reads maps of other layouts any more either.
        remove_pinned(&self.pin_dir, |name| is_map_directory(name) && name != UNPUBLISHED)?;
        let published = map_directory(&self.pin_dir);
        fs::rename(&self.unpublished, &published)
            .map_err(|source| FastPathError::PinDirectory { path: published, source })
    }

    /// Attaches the instance of a slot to its interface, which has no program of this server yet.
    ///
    /// # Errors
    ///
    /// [`FastPathError::NotNative`] or [`FastPathError::Program`] where none of the modes that `setting` allows works,
    /// [`FastPathError::Taken`] where that is because of another program.
    pub fn attach(
        &mut self,
        slot: u32,
        interface: &Interface,
        setting: XdpModeSetting,
    ) -> Result<&Attachment, FastPathError> {
        let mut instance = self.take_spare(slot);
        let mut refusal = None;
        for &mode in AttachedMode::allowed(setting) {
            let flags = match mode {
                AttachedMode::Native => XdpMode::Driver,
                AttachedMode::Generic => XdpMode::Skb,
            };
            let attached = instance.xdp().attach(&interface.name, flags).map_err(AnyError::from);
            match attached.and_then(|link| instance.take_link(link)) {
                Ok(link) => {
                    let Interface { name, index, .. } = interface.clone();
                    let link = HeldLink::Here(link);
                    let attachment = Attachment { slot, interface: name, ifindex: index, mode, link };
                    self.attachments.push((attachment, instance));
                    return Ok(&self.attachments.last().expect("just pushed").0);
                }
                Err(source) => refusal = Some(source),
            }
        }
        let source = refusal.expect("at least one mode was tried");
        let interface = interface.name.clone();
        Err(if is_taken(source.as_ref()) {
            FastPathError::Taken { interface }
        } else if setting == XdpModeSetting::Native {
            FastPathError::NotNative { interface, source }
        } else {
            FastPathError::Program { what: "attach", interface, source }
        })
    }

    /// Puts the instance of a slot in the place of a predecessor's on an interface. There is no moment without either.
    ///
    /// # Errors
    ///
    /// [`FastPathError::Program`]; neither is attached then, and the instance may be attached anew.
    pub fn take_over(
        &mut self,
        slot: u32,
        interface: &Interface,
        predecessor: &mut Predecessor,
    ) -> Result<&Attachment, FastPathError> {
        let index = predecessor.links.iter().position(|link| link.ifindex == interface.index);
        let PinnedProgram { ifindex, mode, pin } =
            predecessor.links.swap_remove(index.expect("the predecessor has been asked"));
        let mut instance = self.take_spare(slot);
        let mut replace = || {
            let link = XdpLink::try_from(FdLink::from(PinnedLink::from_pin(&pin)?))?;
            let link = instance.xdp().attach_to_link(link)?;
            instance.take_link(link)
        };
        let link = match replace() {
            Ok(link) => link,
            Err(source) => {
                self.spares.push(instance);
                remove_pin(&pin)?;
                let interface = interface.name.clone();
                return Err(FastPathError::Program { what: "replace", interface, source });
            }
        };
        let interface = interface.name.clone();
        let link = HeldLink::Pinned { pin, _link: link };
        let attachment = Attachment { slot, interface, ifindex, mode, link };
        self.attachments.push((attachment, instance));
        Ok(&self.attachments.last().expect("just pushed").0)
    }

    /// Has all programs stay on their interfaces when this process ends, for the next one to take their place.
    ///
    /// # Errors
    ///
    /// [`FastPathError::PinDirectory`] for the first that cannot be pinned, which is detached then.
    pub fn keep(&mut self) -> Result<(), FastPathError> {
        let directory = self.pin_dir.join(PINNED_LINKS);
        let failed = |source| FastPathError::PinDirectory { path: directory.clone(), source };
        fs::create_dir_all(&directory).map_err(failed)?;
        let namespace = netns_cookie().map_err(failed)?;
        let mut outcome = Ok(());
        for (mut attachment, instance) in std::mem::take(&mut self.attachments) {
            if let HeldLink::Here(link) = attachment.link {
                let pin = PinnedProgram::pin(&directory, namespace, attachment.ifindex, attachment.mode);
                match link.pin(&pin) {
                    Ok(link) => attachment.link = HeldLink::Pinned { pin, _link: link.into() },
                    Err(failure) => {
                        outcome = outcome.and(Err(failed(io::Error::other(failure))));
                        continue;
                    }
                }
            }
            self.attachments.push((attachment, instance));
        }
        outcome
    }

    fn take_spare(&mut self, slot: u32) -> Instance {
        let index = self.spares.iter().position(|spare| spare.slot == slot);
        self.spares.remove(index.expect("each slot is attached once"))
    }

    /// Where the program runs.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.attachments.iter().map(|(attachment, _)| attachment)
    }

    /// The instances that are loaded but not attached: to be tried with [`Instance::test_run`].
    pub fn spares(&mut self) -> &mut [Instance] {
        &mut self.spares
    }

    /// Passes on what the programs have logged since the last time, to the `log` crate.
    pub fn flush_logs(&mut self) {
        for logger in self.attachments.iter_mut().filter_map(|(_, instance)| instance.logger.as_mut()) {
            logger.flush();
        }
    }

    /// Takes the program off all interfaces. The maps stay pinned.
    ///
    /// # Errors
    ///
    /// [`FastPathError::PinDirectory`] for the first link whose pin cannot be removed.
    pub fn detach(&mut self) -> Result<(), FastPathError> {
        self.attachments.drain(..).try_for_each(|(attachment, _)| match attachment.link {
            HeldLink::Pinned { pin, .. } => remove_pin(&pin),
            HeldLink::Here(_) => Ok(()),
        })
    }
}

impl Predecessor {
    /// Looks for what was left under `pin_dir` in this network namespace. What was on interfaces that are gone is
    /// removed.
    ///
    /// # Errors
    ///
    /// [`FastPathError::PinDirectory`] where the directory is there and cannot be read.
    pub fn find(pin_dir: &Path) -> Result<Self, FastPathError> {
        let directory = pin_dir.join(PINNED_LINKS);
        let failed = |source| FastPathError::PinDirectory { path: directory.clone(), source };
        let namespace = netns_cookie().map_err(failed)?;
        let mut links = Vec::new();
        for pin in pins_in(&directory).map_err(failed)? {
            if is_defunct(&pin) {
                remove_pin(&pin)?;
            } else {
                links.extend(PinnedProgram::of_pin(pin, namespace));
            }
        }
        Ok(Self { maps: PinnedMaps::open(pin_dir).ok(), links })
    }

    /// Whether there is a program on an interface, in a mode that `setting` allows.
    pub fn is_on(&self, interface: &Interface, setting: XdpModeSetting) -> bool {
        let allowed = AttachedMode::allowed(setting);
        self.links.iter().any(|link| link.ifindex == interface.index && allowed.contains(&link.mode))
    }

    /// The slot that an interface has in the maps.
    pub fn slot_of(&self, interface: &Interface) -> Option<u32> {
        let mut interfaces = self.maps.as_ref()?.tables.interfaces().filter_map(Result::ok);
        interfaces.find(|(_, known)| known.ifindex == interface.index).map(|(slot, _)| slot)
    }

    /// The links in the maps: index, name as far as it fits, and index of the interface.
    pub fn links(&self) -> Vec<(u32, [u8; 64], u32)> {
        let Some(maps) = &self.maps else { return Vec::new() };
        let interfaces: HashMap<u32, u32> =
            { maps.tables.interfaces() }.flatten().map(|(slot, known)| (slot, known.ifindex)).collect();
        let links = maps.tables.links().flatten();
        let row =
            |(index, link): (u32, Link)| Some((index, link.name, *interfaces.get(&link.interface.into())?));
        links.filter_map(row).collect()
    }

    /// Takes its program off an interface, whatever the mode.
    ///
    /// # Errors
    ///
    /// [`FastPathError::PinDirectory`].
    pub fn detach_from(&mut self, interface: &Interface) -> Result<(), FastPathError> {
        let mut links = self.links.extract_if(.., |link| link.ifindex == interface.index);
        links.try_for_each(|link| remove_pin(&link.pin))
    }

    /// Makes its programs pass everything, wherever they are.
    ///
    /// # Errors
    ///
    /// [`FastPathError::Map`].
    pub fn silence(&mut self) -> Result<(), FastPathError> {
        self.maps.as_mut().map_or(Ok(()), |maps| Ok(maps.tables.clear()?))
    }

    /// Takes its programs off the interfaces where they still are.
    ///
    /// # Errors
    ///
    /// [`FastPathError::PinDirectory`] for the first link whose pin cannot be removed.
    pub fn detach(&mut self) -> Result<(), FastPathError> {
        self.links.drain(..).try_for_each(|link| remove_pin(&link.pin))
    }
}

impl PinnedProgram {
    /// The pin of a program in a network namespace.
    fn pin(directory: &Path, namespace: u64, ifindex: u32, mode: AttachedMode) -> PathBuf {
        directory.join(format!("{namespace}-{ifindex}-{}", mode.name()))
    }

    /// What a pin says by its name; `None` for one of another namespace or kind.
    fn of_pin(pin: PathBuf, namespace: u64) -> Option<Self> {
        let (of, rest) = pin.file_name()?.to_str()?.split_once('-')?;
        let (ifindex, mode) = rest.split_once('-').filter(|_| of.parse() == Ok(namespace))?;
        let mode = AttachedMode::ALL.into_iter().find(|known| known.name() == mode)?;
        Some(Self { ifindex: ifindex.parse().ok()?, mode, pin })
    }
}

/// Takes all that this server has under `pin_dir` out of the kernel: programs, and maps of every layout.
///
/// # Errors
///
/// [`FastPathError::PinDirectory`].
pub fn clean_up(pin_dir: &Path) -> Result<(), FastPathError> {
    remove_pinned(pin_dir, |name| name == PINNED_LINKS || is_map_directory(name))
}

/// Removes the directories under `pin_dir` with such names, and what is pinned in them.
fn remove_pinned(pin_dir: &Path, is_meant: impl Fn(&str) -> bool) -> Result<(), FastPathError> {
    let failed = |source| FastPathError::PinDirectory { path: pin_dir.to_owned(), source };
    for directory in pins_in(pin_dir).map_err(failed)? {
        let name = directory.file_name().and_then(OsStr::to_str);
        if name.is_some_and(&is_meant) {
            for pin in pins_in(&directory).map_err(failed)? {
                remove_pin(&pin)?;
            }
            fs::remove_dir(&directory).map_err(failed)?;
        }
    }
    Ok(())
}

/// Whether a directory is one for maps: those of a layout, or those that are not shown yet.
fn is_map_directory(name: &str) -> bool {
    let is_layout =
        |version: &str| !version.is_empty() && version.bytes().all(|octet| octet.is_ascii_digit());
    name == UNPUBLISHED || name.strip_prefix('v').is_some_and(is_layout)
}

/// The entries of a directory; none where it is missing.
fn pins_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether the kernel has refused a program because there is one already.
fn is_taken(error: &(dyn std::error::Error + 'static)) -> bool {
    let refused_by = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)
    };
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(refused_by)
        .any(|number| [libc::EBUSY, libc::EEXIST].contains(&number))
}

fn remove_pin(pin: &Path) -> Result<(), FastPathError> {
    fs::remove_file(pin).map_err(|source| FastPathError::PinDirectory { path: pin.to_owned(), source })
}

impl Instance {
    fn xdp(&mut self) -> &mut Xdp {
        self.ebpf
            .program_mut(PROGRAM)
            .and_then(|program| program.try_into().ok())
            .expect("the object has the program of the contract")
    }

    /// Takes a link out of the program's hands, which would detach it with the program.
    fn take_link(&mut self, link: XdpLinkId) -> Result<FdLink, AnyError> {
        Ok(self.xdp().take_link(link)?.try_into()?)
    }

    /// How many instructions the verifier walked through (Linux 5.16).
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn verified_instructions(&mut self) -> Result<Option<u32>, ProgramError> {
        Ok(self.xdp().info()?.verified_instruction_count())
    }

    /// Shows the program a frame (BPF_PROG_TEST_RUN), once.
    ///
    /// # Errors
    ///
    /// The kernel's, for one where the frame is shorter than an Ethernet header.
    pub fn test_run(&mut self, frame: &[u8]) -> Result<TestRunOutcome, ProgramError> {
        self.test_run_repeatedly(frame, 1)
    }

    /// The same several times on end, each time with what the one before has left of the frame. What became of it tells
    /// the last.
    ///
    /// # Errors
    ///
    /// As [`Instance::test_run`].
    pub fn test_run_repeatedly(&mut self, frame: &[u8], times: u32) -> Result<TestRunOutcome, ProgramError> {
        let mut out = vec![0; 4096];
        let outcome = self.xdp().test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            repeat: times,
            ..TestRunOptions::default()
        })?;
        out.truncate(outcome.data_size_out as usize);
        // Values of enum xdp_action in linux/bpf.h.
        let verdict = match outcome.return_value {
            2 => Verdict::Passed,
            3 => Verdict::Answered,
            _ => Verdict::Dropped,
        };
        Ok(TestRunOutcome { frame: out, verdict, duration: outcome.duration })
    }
}

/// Makes a directory for pins and removes what is pinned there: aya would take over maps whatever their capacity,
/// and the program of a daemon that has died is gone with it.
fn prepare(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for entry in fs::read_dir(directory)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}
