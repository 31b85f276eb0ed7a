//! Which compiler makes the XDP program.
//!
//! Nobody distributes `core` compiled for the BPF virtual machine, so the compiler needs the sources of its
//! own library next to it.

use std::fmt;
use std::path::Path;

use super::packages::{self, Packages};
use super::system::{System, version};

/// Debian's compiler.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Debian's packages of a recent compiler and its library source.
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// The compiler to use for the XDP program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// The one of the toolchain that cargo uses anyway; it has the library source.
    Active,
    /// [`DEBIAN_RUSTC`], because the active toolchain lacks the library source.
    Debian,
}

impl fmt::Display for Compiler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Active => "the active toolchain's rustc",
            Self::Debian => DEBIAN_RUSTC,
        })
    }
}

/// Finds a compiler with its library source, or gets one; else returns what to type.
pub(super) fn provide(system: &mut impl System, packages: &mut Packages) -> Result<Compiler, String> {
    if let Some(compiler) = find(system) {
        return Ok(compiler);
    }
    // What failed on the way, for the message.
    let mut attempts = Vec::new();
    if packages::can_install(system) {
        packages.update(system);
        if is_recent(
            system.query("apt-cache", &["policy", DEBIAN_PACKAGES[0]]).as_deref().and_then(candidate),
        ) {
            attempts.extend(packages.install(system, &DEBIAN_PACKAGES).err());
            if let Some(compiler) = find(system) {
                return Ok(compiler);
            }
        }
    }
    if system.find("rustup").is_some() {
        let added = system.change("rustup", &["component", "add", "rust-src"]);
        attempts.extend(added.err());
        if let Some(compiler) = find(system) {
            return Ok(compiler);
        }
    }
    let attempts: Vec<_> = attempts.iter().map(|error: &anyhow::Error| format!(" ({error:#})")).collect();
    let attempts = attempts.concat();
    let [compiler, source] = DEBIAN_PACKAGES;
    Err(format!(
        "the source of the compiler's library{attempts}: with rustup (https://rustup.rs) type `rustup \
         component add rust-src` in this directory; on Debian, type `sudo apt-get install \
         --no-install-recommends {compiler} {source}` where these are version {} or later",
        env!("CARGO_PKG_RUST_VERSION"),
    ))
}

fn find(system: &impl System) -> Option<Compiler> {
    let active = system.query("rustc", &["--print", "sysroot"]);
    if active.is_some_and(|sysroot| has_library_source(system, Path::new(sysroot.trim()))) {
        return Some(Compiler::Active);
    }
    let debian = has_library_source(system, Path::new("/usr"))
        && is_recent(system.query(DEBIAN_RUSTC, &["--version"]).as_deref().and_then(version));
    debian.then_some(Compiler::Debian)
}

fn has_library_source(system: &impl System, sysroot: &Path) -> bool {
    // The file that cargo's build-std looks for.
    system.exists(&sysroot.join("lib/rustlib/src/rust/library/Cargo.lock"))
}

/// Whether a compiler can build this workspace; Debian's `rustc` may be years older.
fn is_recent(compiler: Option<[u32; 3]>) -> bool {
    compiler.is_some_and(|compiler| Some(compiler) >= version(env!("CARGO_PKG_RUST_VERSION")))
}

/// The version that apt would install.
fn candidate(policy: &str) -> Option<[u32; 3]> {
    policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: ").and_then(version))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    const ACTIVE_SOURCE: &str = "/opt/1.95/lib/rustlib/src/rust/library/Cargo.lock";
    const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/Cargo.lock";
    const APT_INSTALL: &str = "apt-get install -y --no-install-recommends rustc-web rust-web-src";
    const RUSTUP_ADD: &str = "rustup component add rust-src";

    /// A machine with a toolchain that lacks the library source.
    fn machine() -> Fake {
        Fake::default().answers("rustc --print sysroot", "/opt/1.95\n")
    }

    fn debian_compiler(fake: Fake, version: &str) -> Fake {
        fake.answers("/usr/bin/rustc --version", &format!("rustc {version} (0 0)\n"))
    }

    fn debian_package(fake: Fake, version: &str) -> Fake {
        debian_compiler(fake.root().debian(), version)
            .answers("apt-cache policy rustc-web", &format!("rustc-web:\n  Candidate: {version}+dfsg1\n"))
            .brings(APT_INSTALL, DEBIAN_SOURCE)
    }

    #[test]
    fn the_choice() {
        let rustup = || machine().program("rustup");
        let online = || rustup().brings(RUSTUP_ADD, ACTIVE_SOURCE);
        let offline = || rustup().refuses(RUSTUP_ADD);
        let update_and_install: &[&str] = &["apt-get update", APT_INSTALL];

        let table: [(&str, Fake, Option<Compiler>, &[&str]); 10] = [
            (
                "the active toolchain comes first",
                debian_compiler(rustup().file(ACTIVE_SOURCE, "").file(DEBIAN_SOURCE, ""), "1.96.0"),
                Some(Compiler::Active),
                &[],
            ),
            (
                "then Debian's",
                debian_compiler(offline().file(DEBIAN_SOURCE, ""), "1.96.0"),
                Some(Compiler::Debian),
                &[],
            ),
            (
                "but not one that is too old",
                debian_compiler(online().file(DEBIAN_SOURCE, ""), "1.63.0"),
                Some(Compiler::Active),
                &[RUSTUP_ADD],
            ),
            (
                "root on Debian installs packages",
                debian_package(offline(), "1.96.0"),
                Some(Compiler::Debian),
                update_and_install,
            ),
            (
                "without rustup, too",
                debian_package(machine(), "1.96.0"),
                Some(Compiler::Debian),
                update_and_install,
            ),
            (
                "old packages are left alone",
                debian_package(online(), "1.85.0"),
                Some(Compiler::Active),
                &["apt-get update", RUSTUP_ADD],
            ),
            (
                "rustup steps in where apt fails",
                debian_package(online(), "1.96.0").refuses(APT_INSTALL),
                Some(Compiler::Active),
                &["apt-get update", APT_INSTALL, RUSTUP_ADD],
            ),
            ("elsewhere rustup is asked", online(), Some(Compiler::Active), &[RUSTUP_ADD]),
            ("and may fail", offline(), None, &[RUSTUP_ADD]),
            ("nothing can be done without either", machine(), None, &[]),
        ];
        for (case, mut fake, expected, changes) in table {
            let chosen = provide(&mut fake, &mut Packages::default());
            assert_eq!(chosen.as_ref().ok(), expected.as_ref(), "{case}: {chosen:?}");
            assert_eq!(fake.changes(), changes, "{case}");
        }
    }

    #[test]
    fn what_was_tried_and_what_to_type_are_both_said() {
        let mut fake = machine().program("rustup").refuses(RUSTUP_ADD);
        let message = provide(&mut fake, &mut Packages::default()).expect_err("rustup fails");
        for part in [
            "rustup component add rust-src refused",
            "type `rustup component add rust-src`",
            "rustc-web rust-web-src",
            "1.95 or later",
        ] {
            assert!(message.contains(part), "{part} in {message}");
        }
    }
}
