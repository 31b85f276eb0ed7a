//! `[[link.prefix_pool]]` and reserved prefixes.

use super::{assert_link_mistakes, link, mistakes, with_link, with_two_links};
use crate::config::PdExclude;

/// A prefix pool in three lines.
fn pool(prefix: &str, delegated_length: u8, rest: &str) -> String {
    format!("[[link.prefix_pool]]\nprefix = \"{prefix}\"\ndelegated_length = {delegated_length}\n{rest}")
}

/// A reservation in three lines, its client by the last octet.
fn reservation(client: u8, rest: &str) -> String {
    format!("[[link.reservation]]\nduid = \"00:{client:02x}\"\n{rest}\n")
}

#[test]
fn prefix_pools_are_read_as_written() {
    let link = link(&pool(
        "2001:db8:8000::/36",
        56,
        "exclude = [\"2001:db8:8000::/48\", \"2001:db8:8fff:ff00::\"]\npd_exclude = \"0:0:0:ff::/64\"\n",
    ));
    let [pool] = &link.prefix_pools[..] else { panic!("{:?}", link.prefix_pools) };
    assert_eq!((pool.prefix.to_string().as_str(), pool.delegated_length), ("2001:db8:8000::/36", 56));
    assert_eq!(pool.exclude.len(), 2);
    assert_eq!(pool.pd_exclude, Some(PdExclude { length: 64, subnet: 0xff << 64 }));
    assert!(pool.options.is_empty());
}

#[test]
fn prefix_pools_are_checked() {
    assert_link_mistakes(&[
        (
            "[[link.prefix_pool]]\n",
            &[
                "5: `prefix` is missing in [[link.prefix_pool]]",
                "5: `delegated_length` is missing in [[link.prefix_pool]]",
            ],
        ),
        (
            &pool("2001:db8:8000::", 129, "exclude = [\"x\"]\n"),
            &[
                "6: `prefix`: `2001:db8:8000::` is not a prefix such as 2001:db8:1::/64",
                "7: `delegated_length`: 129 is not between 1 and 127",
                "8: `exclude`: `x`: `x` is not an IPv6 address",
            ],
        ),
        (&pool("2001:db8:8000::/36", 35, ""), &["7: `delegated_length`: 35 is not between 36 and 127"]),
        (&pool("2001:db8:8000::/36", 36, ""), &[]),
        (&pool("2001:db8:8000::/36", 127, ""), &[]),
        (
            &pool("2001:db8:8000::/128", 127, ""),
            &["6: `prefix`: 2001:db8:8000::/128 is one address, of which no prefix can be delegated"],
        ),
        (
            &pool("2001:db8:8000::/36", 56, "exclude = [\"2001:db8:9000::/36\"]\n"),
            &["8: `exclude`: no address of it is in the pool"],
        ),
        (
            "[[link.prefix_pool]]\nprefx = \"2001:db8:8000::/36\"\ndelegated_length = 56\n",
            &["6: unknown key `prefx` in [[link.prefix_pool]]; did you mean `prefix`?"],
        ),
    ]);
}

#[test]
fn the_excluded_part_lies_behind_the_delegated_prefix() {
    for (text, expected) in [
        ("0:0:0:ff::/64", None),
        ("::/57", None),
        ("0:0:0:ff:ffff:ffff:ffff:ffff/128", None),
        ("0:0:0:ff::", Some("is not a part of a delegated prefix such as 0:0:0:ff::/64")),
        ("0:0:0:gg::/64", Some("is not a part of a delegated prefix such as 0:0:0:ff::/64")),
        ("::/56", Some("the length is not above 56, that of the delegated prefix, and at most 128")),
        ("::/129", Some("the length is not above 56, that of the delegated prefix, and at most 128")),
        (
            "2001:db8:0:ff::1/64",
            Some("has bits set that are not the 8 behind the delegated prefix; write 0:0:0:ff::/64"),
        ),
        (
            "0:0:0:ff::/60",
            Some("has bits set that are not the 4 behind the delegated prefix; write 0:0:0:f0::/60"),
        ),
    ] {
        let key = format!("pd_exclude = \"{text}\"\n");
        for (place, tables) in [
            ("8", pool("2001:db8:8000::/36", 56, &key)),
            ("8", reservation(1, &format!("prefix = \"2001:db8:9000::/56\"\n{key}"))),
        ] {
            let mistakes = mistakes(&with_link(&tables));
            match expected {
                None => assert_eq!(mistakes, [""; 0]),
                Some(expected) => {
                    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
                    assert!(
                        mistakes[0].starts_with(&format!("{place}: `pd_exclude`: `{text}`")),
                        "{mistakes:?}"
                    );
                    assert!(mistakes[0].ends_with(expected), "{mistakes:?}");
                }
            }
        }
    }
    assert_link_mistakes(&[(
        &reservation(1, "address = \"2001:db8:1::1\"\npd_exclude = \"0:0:0:ff::/64\""),
        &["8: `pd_exclude` is a part of a reserved prefix; write its `prefix` too"],
    )]);
}

#[test]
fn prefix_pools_lie_apart_from_addresses_and_each_other() {
    // In the prefix of a link they may be, as long as no pool of addresses is there.
    assert_eq!(mistakes(&with_link(&pool("2001:db8:1::/80", 90, ""))), [""; 0]);
    let addresses = |range: &str| format!("[[link.pool]]\nrange = \"{range}\"\n");
    for prefix in ["2001:db8:1::/64", "2001:db8:1::/80", "2001:db8::/32"] {
        let both = pool(prefix, 90, "") + &addresses("2001:db8:1::5");
        let expected = ["6: `prefix`: the pool overlaps the pool of addresses of line 9"];
        assert_eq!(mistakes(&with_link(&both)), expected, "{prefix}");
    }
    let both = with_two_links(&pool("2001:db8:2::/48", 56, ""), &addresses("2001:db8:2::5"));
    assert_eq!(mistakes(&both), ["6: `prefix`: the pool overlaps the pool of addresses of line 13"]);
    let reserved = pool("2001:db8:1::/80", 90, "") + &reservation(1, "address = \"2001:db8:1::5\"");
    assert_eq!(
        mistakes(&with_link(&reserved)),
        ["10: `address`: 2001:db8:1::5 is in the prefix pool of line 6"]
    );
    assert_eq!(
        mistakes(&with_two_links(&pool("2001:db9::/48", 56, ""), &pool("2001:db9:1::/48", 56, ""))),
        [""; 0]
    );
    assert_eq!(
        mistakes(&with_two_links(&pool("2001:db9::/48", 56, ""), &pool("2001:db9::/32", 56, ""))),
        ["13: `prefix`: the pool overlaps that of line 6"],
        "of two links"
    );
    assert_eq!(
        mistakes(&with_link(&pool("::/0", 64, ""))),
        ["6: `prefix`: `::/0` contains multicast addresses, which cannot be assigned"]
    );
}

#[test]
fn reserved_prefixes_have_one_owner() {
    let pool_36 = pool("2001:db8:8000::/36", 56, "");
    let prefix = |prefix: &str| format!("prefix = \"{prefix}\"");
    let of_one_link = |one: &str, other: &str| {
        mistakes(&with_link(&format!(
            "{pool_36}{}{}",
            reservation(1, &prefix(one)),
            reservation(2, &prefix(other))
        )))
    };

    // Outside of the pool, and within it of any length.
    for (one, other) in [
        ("2001:db8:9000::/56", "2001:db8:8000::/56"),
        ("2001:db8:8000::/37", "2001:db8:8fff::/64"),
        ("2001:db9::/127", "2001:db8:8000::/36"),
    ] {
        assert_eq!(of_one_link(one, other), [""; 0]);
    }
    assert_eq!(
        of_one_link("2001:db8:9000::/56", "2001:db8:9000::/56"),
        ["13: `prefix`: 2001:db8:9000::/56 is already in the reservation of line 10"]
    );
    assert_eq!(
        of_one_link("2001:db8:9000::/56", "2001:db8:9000::/48"),
        ["13: `prefix`: 2001:db8:9000::/48 overlaps 2001:db8:9000::/56 in the reservation of line 10"]
    );
    assert_eq!(
        of_one_link("2001:db9::/56", "2001:db8:8000::/35"),
        ["13: `prefix`: 2001:db8:8000::/35 contains the whole prefix pool of line 6; reserve a part of it",]
    );
    assert_eq!(of_one_link("2001:db9::/56", "2001:db8:1::/48"), [""; 0], "no address is given out there");
    assert_eq!(
        of_one_link("2001:db9::1/128", "::/0"),
        [
            "10: `prefix`: `2001:db9::1/128` cannot be delegated: its length is not between 1 and 127",
            "13: `prefix`: `::/0` contains multicast addresses, which cannot be assigned",
        ]
    );
    assert_eq!(
        of_one_link("2001:db8:9000::/56/1", "2001:db8:9000::1/56"),
        [
            "10: `prefix`: `2001:db8:9000::/56/1`: a prefix length is a number from 0 to 128",
            "13: `prefix`: `2001:db8:9000::1/56`: the prefix has host bits set; write 2001:db8:9000::/56",
        ]
    );

    let pool_db9 = pool("2001:db9::/36", 56, "");
    for other in ["2001:db9::/56", "2001:db9::/32"] {
        assert_eq!(
            mistakes(&with_two_links(&pool_db9, &reservation(1, &prefix(other)))),
            [format!("14: `prefix`: {other} overlaps the prefix pool of another link, line 6")]
        );
    }
}

#[test]
fn however_many_claims_one_overlaps_it_is_one_mistake() {
    let within = (1..=3).map(|n| reservation(n, &format!("prefix = \"2001:db9:0:{n}::/64\"")));
    let text = format!("{}{}", within.collect::<String>(), reservation(9, "prefix = \"2001:db9::/48\""));
    assert_link_mistakes(&[(
        &text,
        &["16: `prefix`: 2001:db9::/48 overlaps 2001:db9:0:1::/64 in the reservation of line 7"],
    )]);
}
