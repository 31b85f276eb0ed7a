//! The linker of the XDP program.

use std::path::PathBuf;

use super::system::{System, version};

/// The version that this project is built with.
const VERSION: &str = "0.10.3";

/// Finds bpf-linker, or builds it; else returns what to type.
pub(super) fn provide(system: &mut impl System) -> Result<PathBuf, String> {
    if let Some(linker) = find(system) {
        return Ok(linker);
    }
    let install = ["install", "bpf-linker", "--version", VERSION, "--locked"];
    let how = format!("type `cargo {}`", install.join(" "));
    if system.find("cc").is_none() {
        return Err(format!("bpf-linker {VERSION}: with a C compiler there, {how}"));
    }
    system
        .change("cargo", &install)
        .map_err(|error| format!("bpf-linker {VERSION} ({error:#}): once that is mended, {how}"))?;
    find(system)
        .ok_or_else(|| format!("bpf-linker {VERSION} on PATH or in {}: {how}", system.cargo_bin().display()))
}

/// The first bpf-linker that will do, on PATH or where `cargo install` leaves it.
fn find(system: &impl System) -> Option<PathBuf> {
    let installed = system.cargo_bin().join("bpf-linker");
    system.find("bpf-linker").into_iter().chain([installed]).find(|linker| {
        let answer = linker.to_str().and_then(|linker| system.query(linker, &["--version"]));
        answer.as_deref().and_then(version).is_some_and(will_do)
    })
}

/// Whether a version is [`VERSION`] or a compatible later one.
fn will_do(found: [u32; 3]) -> bool {
    version(VERSION).is_some_and(|wanted| found[..2] == wanted[..2] && found >= wanted)
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    const INSTALL: &str = "cargo install bpf-linker --version 0.10.3 --locked";
    const ON_PATH: &str = "/bin/bpf-linker --version";
    const INSTALLED: &str = "/home/.cargo/bin/bpf-linker --version";

    #[test]
    fn versions() {
        for (found, expected) in [
            ([0, 10, 3], true),
            ([0, 10, 4], true),
            ([0, 10, 2], false),
            ([0, 9, 15], false),
            ([0, 11, 0], false),
        ] {
            assert_eq!(will_do(found), expected, "{found:?}");
        }
    }

    #[test]
    fn the_one_on_path_comes_first() {
        let mut fake = Fake::default()
            .program("bpf-linker")
            .answers(ON_PATH, "bpf-linker 0.10.3")
            .file("/home/.cargo/bin/bpf-linker", "")
            .answers(INSTALLED, "bpf-linker 0.10.3");
        assert_eq!(provide(&mut fake), Ok("/bin/bpf-linker".into()));
    }

    #[test]
    fn the_installed_one_need_not_be_on_path() {
        let mut fake =
            Fake::default().file("/home/.cargo/bin/bpf-linker", "").answers(INSTALLED, "bpf-linker 0.10.3");
        assert_eq!(provide(&mut fake), Ok("/home/.cargo/bin/bpf-linker".into()));
        assert!(fake.changes().is_empty());
    }

    #[test]
    fn an_old_one_on_path_is_passed_over() {
        let mut fake = Fake::default()
            .program("cc")
            .program("bpf-linker")
            .answers(ON_PATH, "bpf-linker 0.9.14")
            .answers(INSTALLED, "bpf-linker 0.10.3")
            .brings(INSTALL, "/home/.cargo/bin/bpf-linker");
        assert_eq!(provide(&mut fake), Ok("/home/.cargo/bin/bpf-linker".into()));
        assert_eq!(fake.changes(), [INSTALL]);
    }

    #[test]
    fn it_says_what_to_type() {
        let mut fake = Fake::default().program("cc").refuses(INSTALL);
        let message = provide(&mut fake).expect_err("refused");
        assert!(message.contains(&format!("type `{INSTALL}`")), "{message}");
    }
}
