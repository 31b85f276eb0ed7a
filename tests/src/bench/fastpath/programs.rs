//! The XDP programs of the measurement: what fires, what reflects, and what counts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, PerCpuArray},
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use dhcp6_common::{
    contract::BindingKey,
    flood::{CLIENTS_GLOBAL, GENERATOR, INTERFACE_GLOBAL, RANDOM_GLOBAL, SUM_GLOBAL, TEMPLATE, TEMPLATE_LEN},
    wire::MessageType,
};
use dhcp6_userspace::flood::{Mode, Template};
use nix::net::if_::if_nametoindex;

use crate::{bench::scale::leases::Leases, netns::CLIENT_INTERFACE};

/// Frames that the kernel holds at a time.
const BATCH: u32 = 64;

/// One of the objects that `cargo xtask build` makes; they lie in one directory.
fn object(name: &str) -> Result<Vec<u8>> {
    let built = option_env!("DHCP6_XDP_OBJECT").map(PathBuf::from);
    let path = built.as_deref().unwrap_or(Path::new("dhcp6-ebpf.o")).with_file_name(name);
    std::fs::read(&path).with_context(|| {
        format!("cannot read {}: build it with `cargo xtask build`, then build this again", path.display())
    })
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?.try_into()?)
}

fn take<M: TryFrom<Map>>(ebpf: &mut Ebpf, name: &str) -> Result<M>
where
    M::Error: std::error::Error + Send + Sync + 'static,
{
    Ok(ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))?.try_into()?)
}

/// Fires Solicits of known clients in random order.
pub(super) struct Generator {
    ebpf: Ebpf,
    frame: Vec<u8>,
}

impl Generator {
    /// Prepares to fire from the client's interface of this network namespace.
    pub(super) fn load(clients: u32) -> Result<Self> {
        let template = Template::new(Mode::RapidCommit);
        let mut ebpf = EbpfLoader::new()
            .override_global(INTERFACE_GLOBAL, &if_nametoindex(CLIENT_INTERFACE)?, true)
            .override_global(CLIENTS_GLOBAL, &clients, true)
            .override_global(RANDOM_GLOBAL, &1_u32, true)
            .override_global(SUM_GLOBAL, &u32::from(template.sum()), true)
            .load(&object("dhcp6-flood.o")?)?;
        let frame = template.octets().to_vec();
        let mut words = [0; TEMPLATE_LEN.div_ceil(8)];
        for (word, octets) in words.iter_mut().zip(frame.chunks(8)) {
            let mut whole = [0; 8];
            whole[..octets.len()].copy_from_slice(octets);
            *word = u64::from_ne_bytes(whole);
        }
        let mut place: Array<_, [u64; TEMPLATE_LEN.div_ceil(8)]> = take(&mut ebpf, TEMPLATE)?;
        place.set(0, words, 0)?;
        program(&mut ebpf, GENERATOR)?.load()?;
        Ok(Self { ebpf, frame })
    }

    /// Fires. To be called in the same network namespace.
    pub(super) fn fire(&mut self, frames: u32) -> Result<()> {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, self.frame.len() as u32, 0, 0, 0, 0].map(u32::to_ne_bytes);
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            ctx_in: Some(context.as_flattened()),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        program(&mut self.ebpf, GENERATOR)?.test_run(options)?;
        Ok(())
    }
}

/// Counts on the client's interface what comes back.
pub(super) struct Counter {
    /// Holds the program where it is.
    _ebpf: Ebpf,
    received: PerCpuArray<MapData, u64>,
}

impl Counter {
    /// Begins to count on the client's interface of this network namespace.
    pub(super) fn attach() -> Result<Self> {
        let mut ebpf = Ebpf::load(&object("dhcp6-reflector.o")?)?;
        let received = take(&mut ebpf, "RECEIVED")?;
        let program = program(&mut ebpf, "count")?;
        program.load()?;
        program.attach(CLIENT_INTERFACE, XdpMode::Driver)?;
        Ok(Self { _ebpf: ebpf, received })
    }

    /// How many messages of this type have come back.
    pub(super) fn received(&self, kind: MessageType) -> Result<u64> {
        Ok(self.received.get(&(kind as u32), 0)?.iter().sum())
    }
}

/// A reflector on an interface; it is gone with this value.
pub(super) struct Reflector(#[expect(dead_code, reason = "it holds the program where it is")] Ebpf);

impl Reflector {
    /// Attaches one that only swaps the MAC addresses.
    pub(super) fn bare(interface: &str) -> Result<Self> {
        Self::attach("swap", 0, interface)
    }

    /// Attaches one that looks up each client before, of so many.
    pub(super) fn looking_up(clients: u32, interface: &str) -> Result<Self> {
        Self::attach("look_up", clients, interface)
    }

    fn attach(name: &str, clients: u32, interface: &str) -> Result<Self> {
        let mut ebpf =
            EbpfLoader::new().map_max_entries("KNOWN", clients.max(1)).load(&object("dhcp6-reflector.o")?)?;
        let mut known: HashMap<_, [u8; size_of::<BindingKey>()], [u64; 4]> = take(&mut ebpf, "KNOWN")?;
        for number in 0..clients {
            known.insert(key(number)?, [u64::from(number); 4], 0)?;
        }
        let program = program(&mut ebpf, name)?;
        program.load()?;
        program.attach(interface, XdpMode::Driver)?;
        Ok(Self(ebpf))
    }
}

/// The key of a client: the length of its DUID in the first word, and then the DUID.
fn key(number: u32) -> Result<[u8; size_of::<BindingKey>()]> {
    let duid = Leases::duid(number);
    let mut key = [0; size_of::<BindingKey>()];
    key[0] = duid.as_slice().len() as u8;
    let octets = key.get_mut(8..).and_then(|key| key.get_mut(..duid.as_slice().len()));
    octets.context("the DUID fits the key")?.copy_from_slice(duid.as_slice());
    ensure!(cfg!(target_endian = "little"), "the reflector is for little-endian machines");
    Ok(key)
}
