//! `cargo xtask setup`: finds what is there, installs what is missing, and says what to type where it
//! cannot.

mod compiler;
mod fuzzer;
mod linker;
mod packages;
mod system;

#[cfg(test)]
mod fake;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

pub(crate) use self::compiler::{Compiler, DEBIAN_RUSTC};
pub(crate) use self::fuzzer::{Fuzzer, NIGHTLY, nightly};
pub(crate) use self::packages::{Need, Packages};
pub(crate) use self::system::{Host, System};
use crate::workspace::Workspace;

/// Where the kernel's BPF filesystem belongs; the daemon pins its maps below it.
const BPFFS: &str = "/sys/fs/bpf";

const C_COMPILER: Need = Need {
    programs: &["cc"],
    reason: "a C compiler, for the SQLite inside the daemon",
    debian: &["gcc", "libc6-dev"],
    fedora: &["gcc", "glibc-devel"],
    arch: &["gcc"],
};

const IPROUTE: Need = Need {
    programs: &["ip"],
    reason: "ip, with which the demonstration and the tests make their networks",
    debian: &["iproute2"],
    fedora: &["iproute"],
    arch: &["iproute2"],
};

/// What the builds need to know of the machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tools {
    /// The compiler for the XDP program.
    pub(crate) compiler: Compiler,
    /// The linker for the XDP program.
    pub(crate) linker: PathBuf,
}

/// Sets up this machine and says in one line what is used, and in further lines what is left to do.
///
/// # Errors
///
/// When something that the build needs is missing and cannot be installed; the error says what to type.
pub(crate) fn run(workspace: &Workspace) -> Result<Tools> {
    let mut host = Host::new(&workspace.root);
    let Prepared { tools, notes } = prepare(&mut host)?;
    eprintln!("setup: complete; XDP program by {}, linked by bpf-linker", tools.compiler);
    for note in notes {
        eprintln!("setup: {note}");
    }
    Ok(tools)
}

/// What [`prepare`] arrived at.
#[derive(Debug)]
struct Prepared {
    tools: Tools,
    /// What the build can do without but running cannot, and how to get it.
    notes: Vec<String>,
}

fn prepare(system: &mut impl System) -> Result<Prepared> {
    let mut packages = Packages::default();
    // Everything that is missing is named at once, not one thing each time it is run.
    let mut missing = Vec::new();
    let mut notes = Vec::new();

    missing.extend(packages.provide(system, &C_COMPILER));
    notes.extend(packages.provide(system, &IPROUTE));
    let compiler = compiler::provide(system, &mut packages).map_err(|how| missing.push(how)).ok();
    let linker = linker::provide(system).map_err(|how| missing.push(how)).ok();
    notes.extend(mount_bpffs(system));

    match (compiler, linker) {
        (Some(compiler), Some(linker)) if missing.is_empty() => {
            Ok(Prepared { tools: Tools { compiler, linker }, notes })
        }
        _ => bail!("setting up this machine: the build needs\n  {}", missing.join("\n  ")),
    }
}

/// Mounts the BPF filesystem, or says how.
fn mount_bpffs(system: &mut impl System) -> Option<String> {
    let mounts = system.read(Path::new("/proc/self/mounts")).unwrap_or_default();
    let mounted = mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        (fields.next(), fields.next()) == (Some(BPFFS), Some("bpf"))
    });
    if mounted {
        return None;
    }
    let how = format!("to run with the fast path, type `mount -t bpf bpf {BPFFS}` as root");
    if !system.is_root() {
        return Some(how);
    }
    match system.change("mount", &["-t", "bpf", "bpf", BPFFS]) {
        Ok(()) => None,
        Err(error) => Some(format!("{error:#}; {how}, outside of any container")),
    }
}

#[cfg(test)]
mod tests {
    use super::fake::Fake;
    use super::*;

    const MOUNTED: &str = "sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n";

    /// A machine with everything that every case needs apart from compiler and linker.
    fn machine() -> Fake {
        Fake::default().program("cc").program("ip").file("/proc/self/mounts", MOUNTED)
    }

    fn with_linker(fake: Fake) -> Fake {
        fake.program("bpf-linker").answers("/bin/bpf-linker --version", "bpf-linker 0.10.3\n")
    }

    fn with_rust_src(fake: Fake) -> Fake {
        fake.program("rustup")
            .answers("rustc --print sysroot", "/opt/1.95\n")
            .file("/opt/1.95/lib/rustlib/src/rust/library/Cargo.lock", "")
    }

    #[test]
    fn nothing_is_run_where_everything_is_there() {
        let mut fake = with_rust_src(with_linker(machine().root().debian()));
        let prepared = prepare(&mut fake).expect("complete");
        assert_eq!(prepared.tools.compiler, Compiler::Active);
        assert_eq!(prepared.tools.linker, Path::new("/bin/bpf-linker"));
        assert!(prepared.notes.is_empty());
        assert!(fake.changes().is_empty());
    }

    #[test]
    fn a_bare_debian_machine_is_set_up_with_one_update() {
        let mut fake = Fake::default()
            .root()
            .debian()
            .program("rustup")
            .answers("rustc --print sysroot", "/opt/1.95\n")
            .answers("apt-cache policy rustc-web", "rustc-web:\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n")
            .answers("/usr/bin/rustc --version", "rustc 1.96.0 (ac68faa20 2026-05-25)\n")
            .answers("/home/.cargo/bin/bpf-linker --version", "bpf-linker 0.10.3\n")
            .brings("apt-get install -y --no-install-recommends gcc libc6-dev", "/bin/cc")
            .brings("apt-get install -y --no-install-recommends iproute2", "/bin/ip")
            .brings(
                "apt-get install -y --no-install-recommends rustc-web rust-web-src",
                "/usr/lib/rustlib/src/rust/library/Cargo.lock",
            )
            .brings("cargo install bpf-linker --version 0.10.3 --locked", "/home/.cargo/bin/bpf-linker");
        let prepared = prepare(&mut fake).expect("complete");
        assert_eq!(prepared.tools.compiler, Compiler::Debian);
        assert_eq!(prepared.tools.linker, Path::new("/home/.cargo/bin/bpf-linker"));
        assert_eq!(
            fake.changes(),
            [
                "apt-get update",
                "apt-get install -y --no-install-recommends gcc libc6-dev",
                "apt-get install -y --no-install-recommends iproute2",
                "apt-get install -y --no-install-recommends rustc-web rust-web-src",
                "cargo install bpf-linker --version 0.10.3 --locked",
                "mount -t bpf bpf /sys/fs/bpf",
            ]
        );
    }

    #[test]
    fn everything_missing_is_named_at_once() {
        let mut fake = Fake::default();
        let error = prepare(&mut fake).expect_err("nothing is there").to_string();
        for part in ["a C compiler", "rustup component add rust-src", "cargo install bpf-linker"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn what_only_running_needs_is_a_note() {
        let mut fake = with_rust_src(with_linker(Fake::default().debian().program("cc")));
        let prepared = prepare(&mut fake).expect("enough to build");
        assert_eq!(prepared.notes.len(), 2);
        assert!(prepared.notes[0].contains("sudo apt-get install -y --no-install-recommends iproute2"));
        assert!(prepared.notes[1].contains("mount -t bpf bpf /sys/fs/bpf"));
        assert!(fake.changes().is_empty());
    }

    #[test]
    fn a_mount_that_is_refused_is_a_note() {
        let fake = Fake::default().root().program("cc").program("ip");
        let mut fake = with_rust_src(with_linker(fake)).refuses("mount -t bpf bpf /sys/fs/bpf");
        let prepared = prepare(&mut fake).expect("enough to build");
        assert_eq!(prepared.notes.len(), 1);
    }
}
