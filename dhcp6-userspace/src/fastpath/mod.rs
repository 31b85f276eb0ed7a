//! The fast path seen from the daemon: loads the XDP program, attaches it, and keeps its maps.
//!
//! This is the only module that knows aya and the layout of the BPF maps.

// The program is built for it, and reads and writes words of the maps.
const _: () = assert!(cfg!(target_endian = "little"));

mod batch;
mod grace;
mod maps;
mod pin;
mod program;
mod render;
mod sweep;

pub use grace::wait_for_programs;
pub use maps::{
    BindingEntry, Bindings, Counters, MapDescription, MapError, PinnedMaps, Tables, map_directory,
};
pub use program::{
    AttachedMode, Attachment, FastPath, FastPathError, Instance, Predecessor, TestRunOutcome, clean_up,
};
pub use render::Rendering;
pub use sweep::Sweep;
