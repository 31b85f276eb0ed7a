//! `[[link]]`, its pools and its reservations.

use dhcp6_common::wire::INFINITY;

use super::{assert_link_mistakes, link, mistakes, with_link, with_two_links};
use crate::config::Lifetimes;

#[test]
fn times_follow_from_the_preferred_lifetime() {
    let infinite = INFINITY;
    for (rest, preferred, valid, t1, t2) in [
        ("preferred_lifetime = 10\nvalid_lifetime = 10\n", 10, 10, 5, 8),
        ("preferred_lifetime = \"1s\"\n", 1, 7200, 1, 1),
        ("valid_lifetime = \"infinity\"\n", 3600, infinite, 1800, 2880),
        (
            "preferred_lifetime = \"infinity\"\nvalid_lifetime = \"infinity\"\n",
            infinite,
            infinite,
            infinite,
            infinite,
        ),
        (
            "preferred_lifetime = \"infinity\"\nvalid_lifetime = \"infinity\"\nt1 = \"1h\"\nt2 = \"1d\"\n",
            infinite,
            infinite,
            3600,
            86400,
        ),
        ("valid_lifetime = 4294967294\n", 3600, 4_294_967_294, 1800, 2880),
    ] {
        assert_eq!(link(rest).lifetimes, Lifetimes { preferred, valid, t1, t2 }, "{rest}");
    }
}

#[test]
fn links_are_complete_and_unique() {
    assert_eq!(mistakes(""), ["1: there is no [[link]]; at least one is required"]);
    assert_eq!(
        mistakes("\n[[link]]\ninterface = \"eth1\"\n"),
        ["2: `name` is missing in [[link]]", "2: `prefix` is missing in [[link]]"]
    );
    assert_link_mistakes(&[(
        "[[link]]\nname = \"access0\"\ninterface = \"eth1\"\nprefix = \"2001:db8:2::/64\"\n",
        &[
            "6: `name`: \"access0\" is already the link of line 2",
            "7: `interface`: \"eth1\" already has the link of line 3; tell them apart by `vlan`",
        ],
    )]);
    for name in ["", "a b", "a\\tb"] {
        let text = format!("[[link]]\nname = \"{name}\"\ninterface = \"e\"\nprefix = \"2001:db8::/64\"\n");
        let mistakes = mistakes(&text);
        assert_eq!(mistakes.len(), 1, "{name}");
        assert!(mistakes[0].starts_with("2: `name`: "), "{mistakes:?}");
    }
    for (interface, valid) in [
        ("eth0.100", true),
        ("fifteen-octets0", true),
        ("sixteen-octets00", false),
        ("", false),
        ("a/b", false),
        ("a b", false),
        ("a:1", false),
        ("..", false),
    ] {
        let text =
            format!("[[link]]\nname = \"a\"\ninterface = \"{interface}\"\nprefix = \"2001:db8::/64\"\n");
        let mistakes = mistakes(&text);
        assert_eq!(mistakes.is_empty(), valid, "{mistakes:?}");
        assert!(valid || mistakes[0].starts_with("3: `interface`: "), "{mistakes:?}");
    }
}

#[test]
fn prefixes_are_checked() {
    for (prefix, expected) in [
        ("fd00::/8", None),
        ("2001:db8::/128", None),
        ("2001:db8::", Some("`2001:db8::` is not a prefix such as 2001:db8:1::/64")),
        ("2001:db8::/129", Some("`2001:db8::/129`: a prefix length is a number from 0 to 128")),
        (
            "2001:db8::8000/112",
            Some("`2001:db8::8000/112`: the prefix has host bits set; write 2001:db8::/112"),
        ),
        ("192.0.2.0/24", Some("`192.0.2.0/24`: `192.0.2.0` is not an IPv6 address")),
        ("ff02::/16", Some("`ff02::/16` contains multicast addresses, which cannot be assigned")),
        ("::1/128", Some("`::1/128` contains loopback addresses, which cannot be assigned")),
        ("::/128", Some("`::/128` contains unspecified addresses, which cannot be assigned")),
        ("::/0", Some("`::/0` contains multicast addresses, which cannot be assigned")),
    ] {
        let text = format!("[[link]]\nname = \"a\"\ninterface = \"e\"\nprefix = \"{prefix}\"\n");
        let expected: Vec<String> =
            expected.iter().map(|message| format!("4: `prefix`: {message}")).collect();
        assert_eq!(mistakes(&text), expected);
    }
}

#[test]
fn lifetimes_are_checked() {
    assert_link_mistakes(&[
        (
            "preferred_lifetime = \"2h\"\nvalid_lifetime = \"1h\"\n",
            &["5: `preferred_lifetime` (7200 s) is above `valid_lifetime` (3600 s)"],
        ),
        (
            "valid_lifetime = \"30m\"\n",
            &["5: `preferred_lifetime` (3600 s, the default) is above `valid_lifetime` (1800 s)"],
        ),
        (
            "preferred_lifetime = \"infinity\"\n",
            &["5: `preferred_lifetime` (infinity) is above `valid_lifetime` (7200 s, the default)"],
        ),
        ("t1 = \"50m\"\n", &["5: `t1` (3000 s) is above `t2` (2880 s, the default)"]),
        ("t1 = 20\nt2 = 10\n", &["5: `t1` (20 s) is above `t2` (10 s)"]),
        ("t2 = 3601\n", &["5: `t2` (3601 s) is above `preferred_lifetime` (3600 s, the default)"]),
        ("t2 = \"infinity\"\n", &["5: `t2` (infinity) is above `preferred_lifetime` (3600 s, the default)"]),
        ("t1 = 0\n", &["5: `t1`: \"0\" is less than a second"]),
        ("t1 = -5\n", &["5: `t1`: -5 seconds is negative"]),
        ("t1 = \"1500ms\"\n", &["5: `t1`: \"1500ms\" is not a whole number of seconds"]),
        (
            "valid_lifetime = 4294967295\n",
            &["5: `valid_lifetime`: \"4294967295\" is too long: at most 4294967294 seconds"],
        ),
        (
            "decline_hold = \"infinity\"\n",
            &[
                "5: `decline_hold`: \"infinity\" is not a duration such as \"30m\", \"2h\" or \"1d\": expected number \
               at 0",
            ],
        ),
        // A wrong value is not compared with anything.
        (
            "preferred_lifetime = 0\nt1 = \"5h\"\nt2 = \"6h\"\n",
            &["5: `preferred_lifetime`: \"0\" is less than a second"],
        ),
    ]);
}

#[test]
fn pools_lie_in_their_link_and_apart() {
    assert!(mistakes(&with_link("[[link.pool]]\nrange = \"2001:db8:1::/64\"\n")).is_empty());
    assert_link_mistakes(&[
        ("[[link.pool]]\n", &["5: `range` is missing in [[link.pool]]"]),
        (
            "[[link.pool]]\nrange = \"2001:db8:1::9-2001:db8:1::1\"\n",
            &["6: `range`: `2001:db8:1::9-2001:db8:1::1`: the range ends before it begins"],
        ),
        (
            "[[link.pool]]\nrange = \"2001:db8:1::9-2001:db8:2::1\"\n",
            &["6: `range`: the pool is not within the link's prefix"],
        ),
        (
            "[[link.pool]]\nrange = \"2001:db8:1::1-2001:db8:1::f\"\nexclude = [\n\"2001:db8:1::f/128\",\n\
             \"2001:db8:1::10\"]\n",
            &["9: `exclude`: no address of it is in the pool"],
        ),
        // The first spans the other two, which are apart.
        (
            "[[link.pool]]\nrange = \"2001:db8:1::10\"\n[[link.pool]]\nrange = \"2001:db8:1::/64\"\n\
             [[link.pool]]\nrange = \"2001:db8:1::20\"\n",
            &[
                "8: `range`: the pool overlaps that of line 6",
                "10: `range`: the pool overlaps that of line 8",
            ],
        ),
    ]);
    let pools = "[[link.pool]]\nrange = \"2001:db8:1::/80\"\n";
    assert_eq!(
        mistakes(&with_two_links(pools, pools)),
        ["12: `range`: the pool overlaps that of line 6"],
        "of two links"
    );
}

#[test]
fn reservations_have_one_owner() {
    let reservation = |duid: &str, rest: &str| format!("[[link.reservation]]\nduid = \"{duid}\"\n{rest}\n");
    let address = |last: &str| format!("address = \"2001:db8:1::{last}\"");
    let both = |one: &str, other: &str| format!("{one}{other}");

    let same_client = both(&reservation("00:01", &address("1")), &reservation("00:01", &address("2")));
    let any_and_one = both(
        &reservation("00:01", &address("1")),
        &reservation("00:01", &format!("iaid = 7\n{}", address("2"))),
    );
    let two_ias = both(
        &reservation("00:01", &format!("iaid = 7\n{}", address("1"))),
        &reservation("00:01", &format!("iaid = 8\n{}", address("2"))),
    );
    let same_address = both(&reservation("00:01", &address("1")), &reservation("00:02", &address("1")));
    assert_link_mistakes(&[
        (&two_ias, &[]),
        (&same_client, &["8: 00:01 with any IAID already has the reservation of line 5"]),
        (&any_and_one, &["8: 00:01 with IAID 7 already has the reservation of line 5"]),
        (&same_address, &["10: `address`: 2001:db8:1::1 is already in the reservation of line 7"]),
        (
            "[[link.reservation]]\n",
            &[
                "5: [[link.reservation]] names no client; write one of `duid`, `mac`, `remote_id`, `subscriber_id`, \
                 `interface_id`",
                "5: [[link.reservation]] reserves nothing; write `address`, `prefix` or `options`",
            ],
        ),
        (
            "[[link.reservation]]\nduid = \"00:01\"\niaid = -1\naddress = \"2001:db8:2::1\"\n",
            &[
                "7: `iaid`: -1 is not between 0 and 4294967295",
                "8: `address`: 2001:db8:2::1 is not within the link's prefix",
            ],
        ),
    ]);

    // The prefix of the second link contains that of the first.
    let pool = "[[link.pool]]\nrange = \"2001:db8:1::/112\"\n";
    assert_eq!(mistakes(&with_link(&both(pool, &reservation("00:01", &address("1"))))), [""; 0]);
    assert_eq!(
        mistakes(&with_two_links(pool, &reservation("00:01", &address("1")))),
        ["13: `address`: 2001:db8:1::1 is in the pool of another link, line 6"]
    );
    assert_eq!(
        mistakes(&with_two_links(&reservation("00:01", &address("1")), &reservation("00:01", &address("1")))),
        ["14: `address`: 2001:db8:1::1 is already in the reservation of line 7"]
    );
}

#[test]
fn what_a_link_serves_and_for_how_long_is_read() {
    let defaults = link("");
    assert_eq!((defaults.decline_limit, defaults.reserved_only), (8, false));
    assert!(defaults.interface_ids.is_empty());
    let link = link(
        "decline_limit = 1\nreserved_only = true\ninterface_ids = [\"eth 0/1\", { hex = \"00:ff\" }]\n\
         [[link.reservation]]\nduid = \"00:01\"\naddress = \"2001:db8:1::1\"\n",
    );
    assert_eq!((link.decline_limit, link.reserved_only), (1, true));
    assert_eq!(link.interface_ids, [&b"eth 0/1"[..], &[0, 0xff]]);
}

#[test]
fn what_a_link_serves_is_checked() {
    let nobody = "5: `reserved_only = true` without a reservation serves nobody; add [[link.reservation]] or \
                  `reservations_file`";
    assert_link_mistakes(&[
        ("reserved_only = true\n", &[nobody]),
        ("reserved_only = true\nreservation = []\n", &[nobody]),
        (
            "reserved_only = true\nreservation = 5\n",
            &["6: `reservation` in [[link]]: invalid type: integer `5`, expected an array"],
        ),
        ("decline_limit = 0\n", &["5: `decline_limit`: 0 is not between 1 and 4294967295"]),
        (
            "interface_ids = [\n\"\",\n{ hex = \"0\" },\n{ hexx = \"00\" },\n{},\n5,\n\"a\",\n{ hex = \"61\" }]\n",
            &[
                "6: `interface_ids`: an identifier has at least one octet",
                "7: `interface_ids`: \"0\" is not pairs of hexadecimal digits",
                "8: unknown key `hexx` in [[link.interface_ids]]; did you mean `hex`?",
                "9: `hex` is missing in `interface_ids`",
                "10: `interface_ids` in [[link]]: invalid type: integer `5`, expected a string or \
                 { hex = \"00ff\" }",
                "12: `interface_ids`: this Interface-Id is already on line 11",
            ],
        ),
    ]);
    assert_eq!(
        mistakes(&with_two_links("interface_ids = [\"a\"]\n", "interface_ids = [\"b\", \"a\"]\n")),
        ["10: `interface_ids`: this Interface-Id is already on line 5"],
        "of two links"
    );
}
