//! The compiler and the program that fuzz targets are built with.

use std::path::PathBuf;

use super::packages::{Need, Packages};
use super::system::System;

/// The version that is installed where there is none.
const VERSION: &str = "0.13.2";

/// How to get a nightly toolchain.
pub(crate) const NIGHTLY: &str = "type `rustup toolchain install nightly --profile minimal`";

const CXX_COMPILER: Need = Need {
    programs: &["c++"],
    reason: "a C++ compiler, for libFuzzer inside the fuzz targets",
    debian: &["g++", "libc6-dev"],
    fedora: &["gcc-c++"],
    arch: &["gcc"],
};

/// What fuzzing needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fuzzer {
    /// Name of the nightly toolchain, for rustup.
    pub(crate) nightly: String,
    /// cargo-fuzz.
    pub(crate) program: PathBuf,
}

/// The nightly toolchain: only that one builds with the marks that the fuzzer steers by.
pub(crate) fn nightly(system: &impl System) -> Option<String> {
    let toolchains = system.query("rustup", &["toolchain", "list"])?;
    let names = toolchains.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| name.starts_with("nightly")).map(str::to_owned).next()
}

impl Fuzzer {
    /// Finds the nightly toolchain, a C++ compiler and cargo-fuzz, and installs the latter two where they are
    /// missing; else returns what to type.
    pub(crate) fn provide(system: &mut impl System) -> Result<Self, String> {
        let nightly = nightly(system).ok_or_else(|| format!("a nightly toolchain: {NIGHTLY}"))?;
        if let Some(missing) = Packages::default().provide(system, &CXX_COMPILER) {
            return Err(missing);
        }
        if let Some(program) = find(system) {
            return Ok(Self { nightly, program });
        }
        let install = ["install", "cargo-fuzz", "--version", VERSION, "--locked"];
        let how = format!("type `cargo {}`", install.join(" "));
        system
            .change("cargo", &install)
            .map_err(|error| format!("cargo-fuzz ({error:#}): once that is mended, {how}"))?;
        let program = find(system)
            .ok_or_else(|| format!("cargo-fuzz on PATH or in {}: {how}", system.cargo_bin().display()))?;
        Ok(Self { nightly, program })
    }
}

/// cargo-fuzz on PATH or where `cargo install` leaves it.
fn find(system: &impl System) -> Option<PathBuf> {
    let installed = Some(system.cargo_bin().join("cargo-fuzz")).filter(|program| system.exists(program));
    system.find("cargo-fuzz").or(installed)
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    const LIST: &str = "rustup toolchain list";
    const TOOLCHAINS: &str =
        "stable-x86_64-unknown-linux-gnu (default)\nnightly-x86_64-unknown-linux-gnu\n1.95.0 (active)\n";
    const INSTALL: &str = "cargo install cargo-fuzz --version 0.13.2 --locked";

    fn fuzzer(program: &str) -> Fuzzer {
        Fuzzer { nightly: "nightly-x86_64-unknown-linux-gnu".to_owned(), program: program.into() }
    }

    /// A machine with everything but cargo-fuzz.
    fn machine() -> Fake {
        Fake::default().answers(LIST, TOOLCHAINS).program("c++")
    }

    #[test]
    fn nothing_is_installed_where_everything_is_there() {
        let mut fake = machine().program("cargo-fuzz");
        assert_eq!(Fuzzer::provide(&mut fake), Ok(fuzzer("/bin/cargo-fuzz")));
        assert!(fake.changes().is_empty());
    }

    #[test]
    fn cargo_fuzz_is_installed() {
        let installed = "/home/.cargo/bin/cargo-fuzz";
        let mut fake = machine().brings(INSTALL, installed);
        assert_eq!(Fuzzer::provide(&mut fake), Ok(fuzzer(installed)));
        assert_eq!(Fuzzer::provide(&mut fake), Ok(fuzzer(installed)));
        assert_eq!(fake.changes(), [INSTALL]);
    }

    #[test]
    fn it_says_what_to_type() {
        let stable = "stable-x86_64-unknown-linux-gnu (default)\n";
        for (mut fake, expected) in [
            (Fake::default(), "rustup toolchain install nightly"),
            (Fake::default().answers(LIST, stable), "rustup toolchain install nightly"),
            (machine().refuses(INSTALL), INSTALL),
        ] {
            let message = Fuzzer::provide(&mut fake).expect_err("something is missing");
            assert!(message.contains(&format!("type `{expected}")), "{message}");
        }
    }
}
