//! Loading and attaching the XDP program.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::MapData,
    programs::{ProgramError, TestRun as _, TestRunOptions, Xdp, XdpMode, xdp::XdpLinkId},
};
use aya_log::EbpfLogger;
use dhcp6_common::{
    Reason, Verdict,
    contract::{
        BINDINGS, BLOCKS_PER_LINK, COUNTERS, LINKS, LOG_GLOBAL, LONG_BINDINGS, PROGRAM, REPLY_BLOCKS,
        SLOT_GLOBAL,
    },
};

use super::maps::{Bindings, Counters, MapError, ReplyBlocks, map_directory};
use crate::config::{FastPathConfig, XdpModeSetting};

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
        "cannot load the XDP program's object: {0}; it takes CAP_BPF and CAP_NET_ADMIN, and Linux 5.18 or newer"
    )]
    Load(#[from] EbpfError),
    /// The program's log cannot be read.
    #[error("cannot read the XDP program's log: {0}")]
    Log(#[from] aya_log::Error),
    /// The verifier or the driver refused the program.
    #[error("cannot {what} the XDP program on {interface}: {source}")]
    Program {
        /// What was being done.
        what: &'static str,
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: ProgramError,
    },
    /// A map does not work.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// How the program runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

impl AttachedMode {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// The XDP program on one interface.
#[derive(Debug)]
pub struct Attachment {
    /// Slot of the link.
    pub slot: u32,
    /// The interface.
    pub interface: String,
    /// How it runs.
    pub mode: AttachedMode,
    link: XdpLinkId,
}

/// An instance of the program, loaded for one slot.
pub struct Instance {
    slot: u32,
    ebpf: Ebpf,
    /// Reads what the program logs, where it is to log.
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// The loaded programs and their maps. They leave the kernel with it, except for the maps, whose pins stay to
/// be looked at.
pub struct FastPath {
    /// The bindings.
    pub bindings: Bindings<MapData>,
    /// The links.
    pub links: ReplyBlocks<MapData>,
    /// The counters.
    pub counters: Counters<MapData>,
    attachments: Vec<(Attachment, Instance)>,
    spares: Vec<Instance>,
    /// Where the maps are pinned for now, and where they are to be.
    pins: (PathBuf, PathBuf),
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
    /// Creates empty maps with room for `links` links, and loads an instance of the program for each of `slots`. The
    /// maps are pinned where nobody looks for them before [`FastPath::publish`].
    ///
    /// # Errors
    ///
    /// [`FastPathError`]; nothing is attached then.
    pub fn load(config: &FastPathConfig, links: u32, slots: &[u32]) -> Result<Self, FastPathError> {
        let object = OBJECT.ok_or(FastPathError::NoObject)?;
        let published = map_directory(&config.pin_dir);
        // A bpffs takes no name with a dot.
        let directory = config.pin_dir.join("new");
        prepare(&directory)
            .map_err(|source| FastPathError::PinDirectory { path: directory.clone(), source })?;
        let mut spares = Vec::new();
        for &slot in slots.iter().rev() {
            let mut ebpf = EbpfLoader::new()
                .default_map_pin_directory(&directory)
                .map_max_entries(BINDINGS, config.max_bindings)
                .map_max_entries(LONG_BINDINGS, config.max_bindings)
                .map_max_entries(LINKS, links)
                .map_max_entries(REPLY_BLOCKS, links * BLOCKS_PER_LINK as u32)
                .map_max_entries(COUNTERS, links * Reason::COUNT as u32)
                .override_global(SLOT_GLOBAL, &slot, true)
                .override_global(LOG_GLOBAL, &u32::from(config.log), true)
                .load(object)?;
            let logger = config.log.then(|| EbpfLogger::init(&mut ebpf)).transpose()?;
            let mut instance = Instance { slot, ebpf, logger };
            instance.xdp().load().map_err(|source| FastPathError::Program {
                what: "load",
                interface: format!("slot {slot}"),
                source,
            })?;
            spares.push(instance);
        }
        let ebpf = &mut spares.first_mut().expect("there is at least one slot to load for").ebpf;
        let mut take = |name| ebpf.take_map(name).expect("the object has the maps of the contract");
        Ok(Self {
            bindings: Bindings::from_maps(take(BINDINGS), take(LONG_BINDINGS))?,
            links: ReplyBlocks::from_maps(take(LINKS), take(REPLY_BLOCKS))?,
            counters: Counters::from_map(take(COUNTERS))?,
            attachments: Vec::new(),
            spares,
            pins: (directory, published),
        })
    }

    /// Lets others find the pinned maps. What an earlier daemon, or this one before, has pinned under the same layout
    /// is replaced: the store says what it held.
    ///
    /// # Errors
    ///
    /// [`FastPathError::PinDirectory`].
    pub fn publish(&self) -> Result<(), FastPathError> {
        let (pinned, published) = &self.pins;
        prepare(published)
            .and_then(|()| fs::remove_dir(published))
            .and_then(|()| fs::rename(pinned, published))
            .map_err(|source| FastPathError::PinDirectory { path: published.clone(), source })
    }

    /// Attaches the instance of a slot to its interface.
    ///
    /// # Errors
    ///
    /// [`FastPathError::Program`] where neither of the modes that `mode` allows works.
    pub fn attach(
        &mut self,
        slot: u32,
        interface: &str,
        mode: XdpModeSetting,
    ) -> Result<&Attachment, FastPathError> {
        let mut instance = self.take_spare(slot);
        let attempts: &[AttachedMode] = match mode {
            XdpModeSetting::Native => &[AttachedMode::Native],
            XdpModeSetting::Generic => &[AttachedMode::Generic],
            XdpModeSetting::Auto => &[AttachedMode::Native, AttachedMode::Generic],
        };
        let mut refusal = None;
        for &mode in attempts {
            let flags = match mode {
                AttachedMode::Native => XdpMode::Driver,
                AttachedMode::Generic => XdpMode::Skb,
            };
            match instance.xdp().attach(interface, flags) {
                Ok(link) => {
                    let attachment = Attachment { slot, interface: interface.to_owned(), mode, link };
                    self.attachments.push((attachment, instance));
                    return Ok(&self.attachments.last().expect("just pushed").0);
                }
                Err(source) => refusal = Some(source),
            }
        }
        Err(FastPathError::Program {
            what: "attach",
            interface: interface.to_owned(),
            source: refusal.expect("at least one mode was tried"),
        })
    }

    /// Puts the instance of a slot in the place of the one that `before` has attached to an interface. There is no
    /// moment without either. `false` where `before` is not attached there, or not in the mode that `mode` prefers.
    ///
    /// # Errors
    ///
    /// [`FastPathError::Program`]; neither is attached then.
    pub fn take_over(
        &mut self,
        slot: u32,
        interface: &str,
        mode: XdpModeSetting,
        before: &mut Self,
    ) -> Result<bool, FastPathError> {
        let allowed = |attached| match mode {
            XdpModeSetting::Auto | XdpModeSetting::Native => attached == AttachedMode::Native,
            XdpModeSetting::Generic => attached == AttachedMode::Generic,
        };
        let is_it = |attachment: &Attachment| attachment.interface == interface && allowed(attachment.mode);
        let Some(index) = before.attachments.iter().position(|(attachment, _)| is_it(attachment)) else {
            return Ok(false);
        };
        let failed =
            |source| FastPathError::Program { what: "replace", interface: interface.to_owned(), source };
        let (Attachment { mode, link, .. }, mut old) = before.attachments.swap_remove(index);
        let link = old.xdp().take_link(link).map_err(failed)?;
        let mut instance = self.take_spare(slot);
        let link = instance.xdp().attach_to_link(link).map_err(failed)?;
        let attachment = Attachment { slot, interface: interface.to_owned(), mode, link };
        self.attachments.push((attachment, instance));
        Ok(true)
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

    /// Takes the program off an interface, if it is there.
    ///
    /// # Errors
    ///
    /// [`FastPathError::Program`].
    pub fn detach_from(&mut self, interface: &str) -> Result<(), FastPathError> {
        let index = self.attachments.iter().position(|(attachment, _)| attachment.interface == interface);
        match index {
            Some(index) => detach(self.attachments.swap_remove(index)),
            None => Ok(()),
        }
    }

    /// Takes the program off all interfaces. The maps stay pinned.
    ///
    /// # Errors
    ///
    /// [`FastPathError::Program`] for the first interface that refuses.
    pub fn detach(&mut self) -> Result<(), FastPathError> {
        self.attachments.drain(..).try_for_each(detach)
    }
}

fn detach((attachment, mut instance): (Attachment, Instance)) -> Result<(), FastPathError> {
    let Attachment { interface, link, slot: _, mode: _ } = attachment;
    let detached = instance.xdp().detach(link);
    detached.map_err(|source| FastPathError::Program { what: "detach", interface, source })
}

impl Instance {
    fn xdp(&mut self) -> &mut Xdp {
        self.ebpf
            .program_mut(PROGRAM)
            .and_then(|program| program.try_into().ok())
            .expect("the object has the program of the contract")
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
        let mut out = vec![0; 4096];
        let outcome = self.xdp().test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
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
