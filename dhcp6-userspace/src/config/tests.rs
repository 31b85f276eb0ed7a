//! Given a file, then its mistakes or its configuration.

mod links;
mod options;
mod prefixes;
mod reservations;
mod reservations_file;
mod vlans;

use std::{path::Path, time::Duration};

use dhcp6_common::wire::OptionCode;

use super::{
    AdmissionConfig, ClientKey, Config, ConfigError, Lifetimes, LinkConfig, StoreKind, VlanSet,
    XdpModeSetting,
};
use crate::pool::Allocation;

/// A correct link in four lines, and `rest` from line 5 on.
fn with_link(rest: &str) -> String {
    format!("[[link]]\nname = \"access0\"\ninterface = \"eth1\"\nprefix = \"2001:db8:1::/64\"\n{rest}")
}

/// A second correct link in four lines, its prefix around that of the first, and `second` behind it.
fn with_two_links(first: &str, second: &str) -> String {
    let header = "[[link]]\nname = \"access1\"\ninterface = \"eth2\"\nprefix = \"2001:db8::/32\"\n";
    with_link(&format!("{first}{header}{second}"))
}

/// `line: message` of every mistake in `text`.
fn mistakes(text: &str) -> Vec<String> {
    let Err(errors) = Config::parse(text, "test.toml") else { return Vec::new() };
    let mistake = |error: &ConfigError| {
        assert_eq!(error.file, "test.toml");
        format!("{}: {}", error.line.expect("a text has lines"), error.message)
    };
    errors.iter().map(mistake).collect()
}

fn parse(text: &str) -> Config {
    Config::parse(text, "test.toml").unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

fn link(rest: &str) -> LinkConfig {
    parse(&with_link(rest)).links.remove(0)
}

#[track_caller]
fn assert_link_mistakes(table: &[(&str, &[&str])]) {
    for (rest, expected) in table {
        assert_eq!(mistakes(&with_link(rest)), *expected, "{rest}");
    }
}

/// The blocks of a language in the operators' reference.
fn documented(language: &str) -> Vec<&'static str> {
    let text = include_str!("../../docs/configuration.md");
    let blocks = text.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

/// The configuration of a block of TOML there; the file that it names is the block of CSV.
fn parse_documented(example: &str) -> Config {
    let file = |_: &Path| Ok(documented("csv").concat().into());
    Config::parse_with(example, "test.toml", &file).unwrap_or_else(|errors| panic!("{example}\n{errors}"))
}

#[test]
fn every_example_in_the_documentation_is_valid() {
    assert_eq!((documented("toml").len(), documented("csv").len()), (2, 1));
    for example in documented("toml") {
        parse_documented(example);
    }
}

#[test]
fn a_full_file_is_read_as_written() {
    let config = parse_documented(documented("toml")[1]);
    assert_eq!(config.server.state_dir, Path::new("/var/lib/dhcp6d"));
    assert_eq!(config.server.port, 547);
    assert_eq!(config.metrics, Some("[::1]:9547".parse().unwrap()));
    let [link] = &config.links[..] else { panic!("{:?}", config.links) };
    assert_eq!((&*link.name, link.interface.as_deref()), ("access0", Some("eth1")));
    assert_eq!(link.prefix, "2001:db8:1::/64".parse().unwrap());
    assert!(link.rapid_commit && !link.bind_to_mac);
    let vlans = VlanSet { outer: vec![100..=100], inner: vec![1..=19, 30..=30] };
    assert_eq!(link.vlans, Some(vlans));
    assert_eq!(link.lifetimes, Lifetimes { preferred: 3600, valid: 7200, t1: 1800, t2: 2880 });
    assert_eq!(link.interface_ids.len(), 2);
    assert_eq!(link.pools[0].range, "2001:db8:1::1000-2001:db8:1::ffff".parse().unwrap());
    assert_eq!((link.pools[0].exclude.len(), link.pools[0].options.len()), (2, 1));
    assert_eq!(link.prefix_pools[0].prefix, "2001:db8:8000::/36".parse().unwrap());
    assert_eq!((link.prefix_pools[0].delegated_length, link.prefix_pools[0].options.len()), (56, 1));
    let reservation = &link.reservations[0];
    let duid = "00:03:00:01:02:00:00:00:00:01".parse().unwrap();
    assert_eq!((&reservation.client, reservation.iaid), (&ClientKey::Duid(duid), Some(1)));
    assert_eq!(reservation.address, Some("2001:db8:1::5".parse().unwrap()));
    assert_eq!(reservation.prefix, Some("2001:db8:9000::/56".parse().unwrap()));
    assert_eq!(link.reservations.len(), 5 + 3, "those of the file included");
    let codes: Vec<u16> = link.options.iter().map(|option| option.code.0).collect();
    assert_eq!(codes, [23, 24, 56, 56, 65000]);
}

#[test]
fn what_is_absent_has_the_documented_default() {
    let config = parse(&with_link(""));
    assert_eq!(config.server.state_dir, Path::new("/var/lib/dhcp6d"));
    assert_eq!((config.server.duid, config.server.preference, config.server.port), (None, 0, 547));
    assert_eq!(config.server.relay_supplied_options, [OptionCode(65)]);
    assert_eq!(config.store, StoreKind::Sqlite);
    assert_eq!(config.control_socket, Path::new("/run/dhcp6d/control.sock"));
    assert_eq!(config.metrics, None);
    assert!(config.fast_path.enabled && !config.fast_path.log);
    assert_eq!(config.fast_path.mode, XdpModeSetting::Auto);
    assert_eq!(config.fast_path.max_bindings, 1_048_576);
    assert_eq!(config.fast_path.pin_dir, Path::new("/sys/fs/bpf/dhcp6"));
    assert_eq!(config.fast_path.horizon, Duration::from_mins(30));
    let admission = AdmissionConfig {
        per_source: 10_000,
        strangers: 100_000,
        clients: 100_000,
        relayed: 100_000,
        retransmission: Duration::from_millis(100),
    };
    assert_eq!(config.fast_path.admission, Some(admission));
    let link = &config.links[0];
    assert!(!link.rapid_commit && !link.bind_to_mac);
    assert_eq!(link.vlans, None);
    assert_eq!(link.lifetimes, Lifetimes { preferred: 3600, valid: 7200, t1: 1800, t2: 2880 });
    assert_eq!(link.allocation, Allocation::Cyclic);
    assert_eq!(link.decline_hold, Duration::from_hours(24));
    assert!(link.pools.is_empty() && link.reservations.is_empty() && link.options.is_empty());
}

#[test]
fn sections_of_the_server_take_other_values() {
    let config = parse(&with_link(
        "[server]\nstate_dir = \"/tmp/a\"\nduid = \"00:02:AB\"\npreference = 255\nport = 5547\n\
         relay_supplied_options = [65000, 65, 17]\n\
         [store]\nkind = \"memory\"\n[control]\nsocket = \"/tmp/s\"\n\
         [fast_path]\nenabled = false\nmode = \"generic\"\nmax_bindings = 16\npin_dir = \"/b\"\nhorizon = 90\n\
         log = true\n[fast_path.admission]\nper_source = 1\nstrangers = 2\nclients = 3\nrelayed = 4\n\
         retransmission = \"1ms\"\n",
    ));
    assert_eq!(config.server.duid.unwrap().to_string(), "00:02:ab");
    assert_eq!((config.server.preference, config.server.port), (255, 5547));
    assert_eq!(config.server.relay_supplied_options, [OptionCode(17), OptionCode(65), OptionCode(65000)]);
    assert_eq!(config.store, StoreKind::Memory);
    assert_eq!(config.control_socket, Path::new("/tmp/s"));
    assert!(!config.fast_path.enabled && config.fast_path.log);
    assert_eq!(config.fast_path.mode, XdpModeSetting::Generic);
    assert_eq!((config.fast_path.max_bindings, config.fast_path.horizon.as_secs()), (16, 90));
    let admission = AdmissionConfig {
        per_source: 1,
        strangers: 2,
        clients: 3,
        relayed: 4,
        retransmission: Duration::from_millis(1),
    };
    assert_eq!(config.fast_path.admission, Some(admission));
}

#[test]
fn unrelated_mistakes_are_reported_together() {
    let text = "[server]\nport = \"547\"\n\n[[link]]\nname = \"access0\"\nrapid_comit = true\ninterface = \"eth1\"\n\
                prefix = \"2001:db8:1::1/64\"\n";
    assert_eq!(
        mistakes(text),
        [
            "2: `port` in [server]: invalid type: string \"547\", expected an integer",
            "6: unknown key `rapid_comit` in [[link]]; did you mean `rapid_commit`?",
            "8: `prefix`: `2001:db8:1::1/64`: the prefix has host bits set; write 2001:db8:1::/64",
        ]
    );
    let errors = Config::parse(text, "/etc/dhcp6d.toml").unwrap_err().to_string();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[1],
        "/etc/dhcp6d.toml:6: unknown key `rapid_comit` in [[link]]; did you mean `rapid_commit`?"
    );
}

#[test]
fn unknown_keys_get_the_nearest_known_one() {
    assert_link_mistakes(&[
        ("preferred = 5\n", &["5: unknown key `preferred` in [[link]]; did you mean `preferred_lifetime`?"]),
        ("[[link.pol]]\n", &["5: unknown key `pol` in [[link]]; did you mean `pool`?"]),
        (
            "[link.options]\ndns = []\n",
            &["6: unknown key `dns` in [link.options]; did you mean `dns_servers`?"],
        ),
        (
            "[link.options]\ncustom = [{ code = 99, hexx = \"\" }]\n",
            &["6: unknown key `hexx` in [[link.options.custom]]; did you mean `hex`?"],
        ),
        (
            "[[link.pool]]\nranges = \"2001:db8:1::/65\"\n",
            &["6: unknown key `ranges` in [[link.pool]]; did you mean `range`?"],
        ),
        ("[fastpath]\n", &["5: unknown key `fastpath` at the top level; did you mean `fast_path`?"]),
        ("[stroe.x]\n", &["5: unknown key `stroe` at the top level; did you mean `store`?"]),
    ]);
}

#[test]
fn wrong_types_are_reported_and_not_as_missing() {
    assert_link_mistakes(&[
        (
            "[server]\nstate_dir = 5\n[store]\nkind = true\n",
            &[
                "6: `state_dir` in [server]: invalid type: integer `5`, expected a string",
                "8: `kind` in [store]: invalid type: boolean `true`, expected a string",
            ],
        ),
        ("[[server]]\n", &["5: `server` at the top level: invalid type: array, expected a table"]),
        ("pool = [[\"::1\"]]\n", &["5: `pool` in [[link]]: invalid type: array, expected a table"]),
        ("[link.pool]\n", &["5: `pool` is written as [[link.pool]], once for each"]),
        (
            "[[link.pool]]\nrange = 1\nexclude = [\n  2,\n  \"x\",\n]\n",
            &[
                "6: `range` in [[link.pool]]: invalid type: integer `1`, expected a string",
                "8: `exclude` in [[link.pool]]: invalid type: integer `2`, expected a string",
                "9: `exclude`: `x`: `x` is not an IPv6 address",
            ],
        ),
        (
            "t1 = 1.5\n",
            &[
                "5: `t1` in [[link]]: invalid type: floating point `1.5`, expected a duration such as \"30m\" \
                 or an integer number of seconds",
            ],
        ),
    ]);
    assert_eq!(
        mistakes("link = 5\n"),
        ["1: `link` at the top level: invalid type: integer `5`, expected an array"]
    );
    assert_eq!(mistakes("[link]\n"), ["1: `link` is written as [[link]], once for each"]);
    assert_eq!(
        mistakes("[[link]]\nname = 1\ninterface = 2\nprefix = 3\n").len(),
        3,
        "nothing is missing where it is wrong"
    );
}

#[test]
fn the_number_of_mistakes_is_bounded() {
    let text: Vec<String> = (0..150).map(|index| format!("a{index} = 1\n")).collect();
    let mistakes = mistakes(&text.concat());
    assert_eq!(mistakes.len(), 101);
    assert!(
        mistakes[100].ends_with("too many mistakes; the rest of the file was not checked"),
        "{mistakes:?}"
    );
}

#[test]
fn syntax_errors_have_their_line() {
    for (text, expected) in [
        ("[server]\nport = \n", &["2: string values must be quoted, expected literal string"][..]),
        ("[server]\nport = 1\nport = 2\n", &["3: duplicate key"]),
        ("[server\n\nport\n", &["1: unclosed table, expected `]`", "3: key with no value, expected `=`"]),
    ] {
        assert_eq!(mistakes(text), expected, "{text}");
    }
}

#[test]
fn an_unreadable_file_is_an_error_with_its_path() {
    let errors = Config::load(Path::new("/nonexistent/dhcp6d.toml")).unwrap_err();
    assert_eq!(errors.iter().count(), 1);
    assert!(errors.to_string().starts_with("/nonexistent/dhcp6d.toml: the configuration cannot be read: "));
}

#[test]
fn a_file_is_loaded_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dhcp6d.toml");
    std::fs::write(&path, with_link("x = 1\n")).unwrap();
    let errors = Config::load(&path).unwrap_err().to_string();
    assert!(errors.starts_with(&format!("{}:5: unknown key `x`", path.display())), "{errors}");
    std::fs::write(&path, with_link("")).unwrap();
    assert_eq!(Config::load(&path).unwrap().links.len(), 1);
}

#[test]
fn a_link_may_be_reached_through_relay_agents_only() {
    let relayed = "[[link]]\nname = \"relayed\"\nprefix = \"2001:db8:1::/64\"\nbind_to_mac = true\n";
    let link = parse(relayed).links.remove(0);
    assert_eq!((link.interface, link.vlans), (None, None));
    assert!(link.bind_to_mac, "a relay agent may tell the MAC address (RFC 6939)");
}

#[test]
fn admission_is_bounded() {
    assert_link_mistakes(&[
        (
            "[fast_path.admission]\nper_source = 0\nstrangers = 10000001\nclients = -1\nrelayed = \"1\"\n\
             retransmission = \"901ms\"\n",
            &[
                "6: `per_source`: 0 is not between 1 and 10000000",
                "7: `strangers`: 10000001 is not between 1 and 10000000",
                "8: `clients`: -1 is not between 1 and 10000000",
                "9: `relayed` in [fast_path.admission]: invalid type: string \"1\", expected an integer",
                "10: `retransmission`: \"901ms\" is longer than 900 ms, after which clients do repeat a Solicit",
            ],
        ),
        (
            "[fast_path.admission]\nretransmission = 1\n",
            &["6: `retransmission`: \"1\" is longer than 900 ms, after which clients do repeat a Solicit"],
        ),
        ("[fast_path.admission]\nretransmission = -1\n", &["6: `retransmission`: -1 seconds is negative"]),
        (
            "[fast_path.admission]\nstranger = 1\n",
            &["6: unknown key `stranger` in [fast_path.admission]; did you mean `strangers`?"],
        ),
    ]);
    let admission = |rest: &str| parse(&with_link(rest)).fast_path.admission;
    for off in ["retransmission = 0\n", "retransmission = \"0s\"\n"] {
        let admission = admission(&format!("[fast_path.admission]\n{off}")).expect("on");
        assert_eq!(admission.retransmission, Duration::ZERO);
    }
    let most = admission("[fast_path.admission]\nper_source = 10000000\nretransmission = \"900ms\"\n");
    let expected = AdmissionConfig {
        per_source: 10_000_000,
        retransmission: Duration::from_millis(900),
        ..AdmissionConfig::default()
    };
    assert_eq!(most, Some(expected));
    assert_eq!(admission("[fast_path.admission]\nenabled = false\nstrangers = 1\n"), None);
}

#[test]
fn server_values_are_checked() {
    let long_path = format!("[control]\nsocket = \"/{}\"\n", "x".repeat(107));
    assert_link_mistakes(&[
        ("[server]\nport = 1\n", &["6: `port`: 1 is not between 2 and 65535"]),
        ("[server]\nport = 65536\n", &["6: `port`: 65536 is not between 2 and 65535"]),
        ("[server]\npreference = 256\n", &["6: `preference`: 256 is not between 0 and 255"]),
        ("[server]\nstate_dir = \"\"\n", &["6: `state_dir`: the path is empty"]),
        ("[store]\nkind = \"sql\"\n", &["6: `kind`: \"sql\" is unknown; write \"sqlite\" or \"memory\""]),
        ("[metrics]\nlisten = \"[::1]:9547\"\n", &[]),
        ("[metrics]\n", &["5: `listen` is missing in [metrics]"]),
        (
            "[metrics]\nlisten = 9547\n",
            &["6: `listen` in [metrics]: invalid type: integer `9547`, expected a string"],
        ),
        (
            "[metrics]\nlisten = \"[::1]:0\"\n",
            &["6: `listen`: \"[::1]:0\" has port 0, on which nobody would find it"],
        ),
        (
            "[metrics]\nlisten = \"localhost:9547\"\n",
            &[
                "6: `listen`: \"localhost:9547\" is not an IP address and a port such as \"[::1]:9547\" or \"127.0.0.1:9547\"",
            ],
        ),
        (&long_path, &["6: `socket`: the path of a socket has at most 107 octets, not 108"]),
        (
            "[fast_path]\nmode = \"x\"\nmax_bindings = 0\nhorizon = \"0s\"\n",
            &[
                "6: `mode`: \"x\" is unknown; write \"auto\" or \"native\" or \"generic\"",
                "7: `max_bindings`: 0 is not between 1 and 2147483648",
                "8: `horizon`: \"0s\" is less than a second",
            ],
        ),
    ]);
    assert!(
        parse(&with_link("[server]\nrelay_supplied_options = []\n")).server.relay_supplied_options.is_empty()
    );
    assert_link_mistakes(&[(
        "[server]\nrelay_supplied_options = [\n65,\n0,\n65,\n37,\n\"a\"]\n",
        &[
            "8: `relay_supplied_options`: 0 is not between 1 and 65535",
            "9: `relay_supplied_options`: option 65 is already on line 7",
            "10: `relay_supplied_options`: option 37 is the protocol's own and cannot be set",
            "11: `relay_supplied_options` in [server]: invalid type: string \"a\", expected an integer",
        ],
    )]);
    let duid = mistakes(&with_link("[server]\nduid = \"00-01\"\n"));
    assert!(duid[0].starts_with("6: `duid`: a DUID is written as pairs"), "{duid:?}");
}
