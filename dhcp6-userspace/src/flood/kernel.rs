//! The XDP programs of a volley.

use std::io;

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, Map, MapData, MapError, PerCpuArray},
    programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use dhcp6_common::flood::{
    CLIENTS_GLOBAL, Class, FIRST_STRANGER_GLOBAL, GENERATED, GENERATOR, INTERFACE_GLOBAL, LATENCIES,
    LATENCY_CLASSES, MALFORMED_GLOBAL, RECEIVED, RECEIVED_LEN, RECEIVER, SUM_GLOBAL, TEMPLATE, TEMPLATE_LEN,
    UNKNOWN_GLOBAL,
};
use nix::libc;

use super::{
    Receiver, Volley,
    template::{Octets, Template},
};

/// The programs, where the build had them.
static OBJECT: Option<&[u8]> = include!(concat!(env!("OUT_DIR"), "/flood_object.rs"));
/// Frames that the kernel holds at a time.
const BATCH: u32 = 64;

/// The template as the map holds it.
type Words = [u64; TEMPLATE_LEN.div_ceil(8)];

/// Why the XDP programs cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KernelError {
    #[error("this program was built without XDP programs")]
    NoObject,
    #[error("the kernel does not take the XDP programs: {0}")]
    Load(#[from] EbpfError),
    #[error("the kernel does not take the XDP programs: {0}")]
    Program(#[from] ProgramError),
    #[error("the maps of the XDP programs cannot be used: {0}")]
    Map(#[from] MapError),
}

/// The programs and their maps.
pub(super) struct Kernel {
    ebpf: Ebpf,
    generated: PerCpuArray<MapData, u64>,
    received: PerCpuArray<MapData, u64>,
    latencies: PerCpuArray<MapData, u64>,
    frame: Octets,
}

impl Kernel {
    /// Loads the programs for a volley on an interface.
    pub(super) fn load(
        index: u32,
        volley: &Volley,
        template: &Template,
        first_stranger: u32,
    ) -> Result<Self, KernelError> {
        let object = OBJECT.ok_or(KernelError::NoObject)?;
        let mut ebpf = EbpfLoader::new()
            .override_global(INTERFACE_GLOBAL, &index, true)
            .override_global(CLIENTS_GLOBAL, &volley.clients, true)
            .override_global(FIRST_STRANGER_GLOBAL, &first_stranger, true)
            .override_global(UNKNOWN_GLOBAL, &u32::from(volley.unknown), true)
            .override_global(MALFORMED_GLOBAL, &u32::from(volley.malformed), true)
            .override_global(SUM_GLOBAL, &u32::from(template.sum()), true)
            .load(object)?;
        let mut take = |name| ebpf.take_map(name).expect("the object has the maps of the contract");
        let frame = *template.octets();
        let mut words: Words = [0; _];
        for (word, octets) in words.iter_mut().zip(frame.chunks(8)) {
            let mut whole = [0; 8];
            whole[..octets.len()].copy_from_slice(octets);
            *word = u64::from_ne_bytes(whole);
        }
        let mut place: Array<_, Words> = take(TEMPLATE).try_into()?;
        place.set(0, words, 0)?;
        let counters = |map: Map| PerCpuArray::try_from(map);
        let generated = counters(take(GENERATED))?;
        let received = counters(take(RECEIVED))?;
        let latencies = counters(take(LATENCIES))?;
        for name in [GENERATOR, RECEIVER] {
            program(&mut ebpf, name).load()?;
        }
        Ok(Self { ebpf, generated, received, latencies, frame })
    }

    /// Has the receiving program count the replies on an interface, until this value is dropped: in the driver where
    /// that is possible.
    pub(super) fn attach(&mut self, interface: &str) -> Result<Receiver, KernelError> {
        let receiver = program(&mut self.ebpf, RECEIVER);
        if receiver.attach(interface, XdpMode::Driver).is_ok() {
            return Ok(Receiver::XdpNative);
        }
        receiver.attach(interface, XdpMode::Skb)?;
        Ok(Receiver::XdpGeneric)
    }

    /// Takes the receiving program off the interface.
    pub(super) fn detach(&mut self) -> Result<(), KernelError> {
        Ok(program(&mut self.ebpf, RECEIVER).unload()?)
    }

    /// Generates frames.
    pub(super) fn generate(&mut self, frames: u32) -> Result<(), KernelError> {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, self.frame.len() as u32, 0, 0, 0, 0].map(u32::to_ne_bytes);
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            ctx_in: Some(context.as_flattened()),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        match program(&mut self.ebpf, GENERATOR).test_run(options) {
            Ok(_) => Ok(()),
            // A signal; what is left is generated the next time.
            Err(ProgramError::SyscallError(error)) if is_interrupted(&error.io_error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What counts.
    pub(super) fn counters(&self) -> Result<KernelCounters, KernelError> {
        let sums = |map: &PerCpuArray<_, u64>, len: u32| -> Result<Vec<u64>, MapError> {
            (0..len).map(|index| Ok(map.get(&index, 0)?.iter().sum())).collect()
        };
        Ok(KernelCounters {
            generated: sums(&self.generated, Class::ALL.len() as u32)?,
            received: sums(&self.received, RECEIVED_LEN)?,
            latencies: sums(&self.latencies, LATENCY_CLASSES)?,
        })
    }
}

/// What the programs have counted, by the indices of `dhcp6_common::flood`.
#[derive(Debug)]
pub(super) struct KernelCounters {
    pub(super) generated: Vec<u64>,
    pub(super) received: Vec<u64>,
    pub(super) latencies: Vec<u64>,
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    let program = ebpf.program_mut(name).expect("the object has the programs of the contract");
    program.try_into().expect("they are XDP programs")
}

fn is_interrupted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINTR)
}
