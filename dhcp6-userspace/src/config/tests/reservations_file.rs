//! `reservations_file`

use std::{fmt::Write as _, fs};

use tempfile::TempDir;

use super::{mistakes, with_link};
use crate::config::{ClientKey, Config};

const HEADER: &str = "duid,iaid,address,prefix\n";

/// A directory with a configuration whose link has `rest`, and with the file that it names.
fn directory(rest: &str, lines: impl AsRef<[u8]>) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let text = with_link(&format!("reservations_file = \"access0.csv\"\n{rest}"));
    fs::write(directory.path().join("dhcp6d.toml"), text).unwrap();
    fs::write(directory.path().join("access0.csv"), lines).unwrap();
    directory
}

fn load(directory: &TempDir) -> Config {
    Config::load(&directory.path().join("dhcp6d.toml")).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Every mistake as it is printed, without the directory.
fn mistakes_in(rest: &str, lines: impl AsRef<[u8]>) -> Vec<String> {
    let directory = directory(rest, lines);
    let Err(errors) = Config::load(&directory.path().join("dhcp6d.toml")) else { return Vec::new() };
    let path = format!("{}/", directory.path().display());
    errors.iter().map(|error| error.to_string().replace(&path, "")).collect()
}

#[test]
fn lines_are_reservations() {
    let lines = "\u{feff}duid,iaid,address,prefix\r\n\
                 # the first floor\n\n\
                 00:01,7,2001:db8:1::1,2001:db8:9000::/56\n\
                 \"00:02\", , 2001:db8:1::2 ,\n\
                 00:03,,,2001:db8:9001::/56";
    let inline = "[[link.reservation]]\nduid = \"00:09\"\naddress = \"2001:db8:1::9\"\n";
    let config = load(&directory(inline, lines));
    let read: Vec<_> = config.links[0]
        .reservations
        .iter()
        .map(|r| {
            let ClientKey::Duid(duid) = r.client else { panic!("{r:?}") };
            let prefix = r.prefix.map(|prefix| prefix.to_string());
            (duid.to_string(), r.iaid, r.address.map(|address| address.to_string()), prefix)
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        read,
        [
            ("00:09".to_owned(), None, some("2001:db8:1::9"), None),
            ("00:01".to_owned(), Some(7), some("2001:db8:1::1"), some("2001:db8:9000::/56")),
            ("00:02".to_owned(), None, some("2001:db8:1::2"), None),
            ("00:03".to_owned(), None, None, some("2001:db8:9001::/56")),
        ]
    );
}

#[test]
fn every_bad_line_is_reported_where_it_is() {
    let pool = "[[link.prefix_pool]]\nprefix = \"2001:db8:8000::/36\"\ndelegated_length = 56\n";
    let lines = [
        "duid,iaid,address,prefix",
        "00:01,1,2001:db8:1::1,",
        "# comment",
        "",
        "00-02,x,2001:db8:1::,2001:db8:8000::1/56",
        "00:03,,,",
        "00:04,,2001:db8:1::4",
        "00:05,,2001:db8:2::5,",
        "00:01,1,2001:db8:1::1,",
        "00:06,,,2001:db8:1::/48",
        "00:07,,,2001:db8::/32",
        ",,2001:db8:1::7,",
        "   ",
    ];
    let expected = [
        "access0.csv:5: `duid`: a DUID is written as pairs of hexadecimal digits with colons, like 00:03:00:01:…",
        "access0.csv:5: `iaid`: `x` is not an integer between 0 and 4294967295",
        "access0.csv:5: `prefix`: `2001:db8:8000::1/56`: the prefix has host bits set; write 2001:db8:8000::/56",
        "access0.csv:6: the line reserves nothing; write an address or a prefix",
        "access0.csv:7: the line has 3 fields, not the 4 of the header",
        "access0.csv:8: `address`: 2001:db8:2::5 is not within the link's prefix",
        "access0.csv:9: 00:01 with IAID 1 already has the reservation of line 2",
        "access0.csv:9: `address`: 2001:db8:1::1 is already in the reservation of line 2",
        "access0.csv:10: `prefix`: 2001:db8:1::/48 overlaps 2001:db8:1::1 in the reservation of line 2",
        "access0.csv:11: `prefix`: 2001:db8::/32 overlaps 2001:db8:2::5 in the reservation of line 8",
        "access0.csv:11: `prefix`: 2001:db8::/32 contains the whole prefix pool of dhcp6d.toml:7; reserve a part of it",
        "access0.csv:12: `duid`: a DUID has at least one octet",
        "access0.csv:12: `address`: 2001:db8:1::7 overlaps 2001:db8:1::/48 in the reservation of line 10",
        "access0.csv:13: the line has 1 fields, not the 4 of the header",
    ];
    for line_end in ["\n", "\r\n"] {
        assert_eq!(mistakes_in(pool, lines.join(line_end)), expected, "{line_end:?}");
    }
}

#[test]
fn lines_and_inline_reservations_are_checked_against_each_other() {
    let inline = "[[link.reservation]]\nduid = \"00:01\"\naddress = \"2001:db8:1::1\"\nprefx = \"\"\n";
    let mistakes = mistakes_in(inline, format!("{HEADER}00:01,5,2001:db8:1::2,\n00:02,,2001:db8:1::1,\n"));
    assert_eq!(
        mistakes,
        [
            "dhcp6d.toml:9: unknown key `prefx` in [[link.reservation]]; did you mean `prefix`?",
            "access0.csv:2: 00:01 with IAID 5 already has the reservation of dhcp6d.toml:6",
            "access0.csv:3: `address`: 2001:db8:1::1 is already in the reservation of dhcp6d.toml:8",
        ]
    );

    let other_link =
        "[[link]]\nname = \"b\"\nprefix = \"2001:db8::/32\"\n[[link.pool]]\nrange = \"2001:db8:1::/112\"\n";
    assert_eq!(
        mistakes_in(other_link, format!("{HEADER}00:01,,2001:db8:1::1,\n")),
        ["access0.csv:2: `address`: 2001:db8:1::1 is in the pool of another link, dhcp6d.toml:10"]
    );
}

#[test]
fn the_file_has_a_header_and_is_text() {
    let header = "access0.csv:1: the file does not begin with the line \"duid,iaid,address,prefix\"";
    for lines in ["", "\n", "00:01,,2001:db8:1::1,\n", "duid,iaid,address\n", "mac,iaid,address,prefix\n"] {
        assert_eq!(mistakes_in("", lines), [header], "{lines}");
    }
    assert_eq!(
        mistakes_in("", [HEADER.as_bytes(), b"\n00:\xff,,,\n00:01,,,x\n"].concat()),
        [
            "access0.csv:3: the line is not UTF-8",
            "access0.csv:4: `prefix`: `x` is not a prefix such as 2001:db8:1::/64",
        ]
    );
    assert_eq!(
        mistakes_in("", format!("{HEADER}00:01,,\"2001:db8:1::1,\n00:02,,2001:db8:1::2,\n")),
        ["access0.csv:2: a quoted field does not end on its line"]
    );
    let nobody = "dhcp6d.toml:6: `reserved_only = true` without a reservation serves nobody; add \
                  [[link.reservation]] or `reservations_file`";
    assert_eq!(mistakes_in("reserved_only = true\n", HEADER), [nobody]);
    assert_eq!(mistakes_in("reserved_only = true\n", format!("{HEADER}00:01,,2001:db8:1::1,")), [""; 0]);
}

#[test]
fn only_so_many_mistakes_are_listed_of_a_file() {
    let mistakes = mistakes_in("x = 1\n", format!("{HEADER}{}", ",,,\n".repeat(150)));
    assert_eq!(mistakes.len(), 102);
    assert!(mistakes[0].starts_with("dhcp6d.toml:6: unknown key `x`"), "{mistakes:?}");
    assert!(mistakes[100].starts_with("access0.csv:51: "), "{mistakes:?}");
    assert_eq!(mistakes[101], "access0.csv: 200 more mistakes are not listed");
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake_where_it_is_named() {
    let directory = directory("", "");
    fs::remove_file(directory.path().join("access0.csv")).unwrap();
    let path = directory.path().join("dhcp6d.toml");
    let errors = Config::load(&path).unwrap_err().to_string();
    let file = directory.path().join("access0.csv");
    let expected = format!("{}:5: `reservations_file`: {} cannot be read: ", path.display(), file.display());
    assert!(errors.starts_with(&expected), "{errors}");

    let named = |path: &str| mistakes(&with_link(&format!("reservations_file = \"{path}\"\n")));
    assert_eq!(named(""), ["5: `reservations_file`: the path is empty"]);
    assert_eq!(
        named("/a.csv"),
        ["5: `reservations_file`: /a.csv cannot be read: this configuration is not loaded from a file"]
    );
}

/// With each line against each other this would take minutes.
#[test]
fn many_lines_are_checked_in_passing() {
    const LINES: u32 = 100_000;
    let mut lines = HEADER.to_owned();
    for client in 0..LINES {
        let [_, high, middle, low] = client.to_be_bytes();
        writeln!(
            lines,
            "00:{high:02x}:{middle:02x}:{low:02x},1,2001:db8:1::{high:x}:{middle:02x}{low:02x},2001:db9:{high:x}:{middle:02x}{low:02x}::/64"
        )
        .unwrap();
    }
    let inline = "[[link.reservation]]\nmac = \"02:00:00:00:00:01\"\naddress = \"2001:db8:1::1\"\n";
    lines.push_str("00:00:00:05,1,,2001:db8:8000::/64\n");
    assert_eq!(
        mistakes_in(inline, lines),
        [
            "access0.csv:3: `address`: 2001:db8:1::1 is already in the reservation of dhcp6d.toml:8"
                .to_owned(),
            format!(
                "access0.csv:{}: 00:00:00:05 with IAID 1 already has the reservation of line 7",
                LINES + 2
            ),
        ]
    );
}
