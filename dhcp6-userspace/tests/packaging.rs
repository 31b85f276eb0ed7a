//! What comes with the programs for those who run them as a service.

use std::{collections::HashMap, fs, path::Path, process::Command};

use dhcp6_userspace::config::Config;
use tempfile::TempDir;

const EXAMPLE: &str = include_str!("../packaging/dhcp6d.toml");
const UNIT: &str = include_str!("../packaging/dhcp6d.service");

/// What `dhcp6d --check` says of a configuration; nothing where it is fine.
fn check(configuration: &str) -> Result<(), String> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("dhcp6d.toml");
    fs::write(&path, configuration).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dhcp6d"));
    let output = command.arg("--check").arg("--config").arg(path).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn the_example_is_a_configuration() {
    assert_eq!(check(EXAMPLE), Ok(()));
    // Prose has a space behind the #.
    let is_setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    let with_all = |text: &str| {
        let lines = text.lines().map(|line| if is_setting(line) { &line[1..] } else { line });
        lines.collect::<Vec<_>>().join("\n")
    };
    assert!(EXAMPLE.lines().filter(|line| is_setting(line)).count() > 5);
    assert_eq!(check(&with_all(EXAMPLE)), Ok(()));
    let mistaken = check(&with_all(&EXAMPLE.replace("#listen", "#lisen")));
    assert!(mistaken.as_ref().is_err_and(|said| said.contains("listen")), "{mistaken:?}");
}

#[test]
fn the_unit_fits_the_defaults() {
    let settings = UNIT.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let settings: HashMap<_, _> = settings.collect();
    let path = Path::new("packaging/dhcp6d.toml");
    let config = Config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let below = |base: &str, key: &str| Path::new(base).join(settings[key]);
    assert_eq!(config.server.state_dir, below("/var/lib", "StateDirectory"));
    assert_eq!(config.control_socket.parent(), Some(below("/run", "RuntimeDirectory").as_path()));
    assert!(config.fast_path.pin_dir.starts_with(settings["ReadWritePaths"]));
    assert_eq!(settings["Type"], "notify");
}
