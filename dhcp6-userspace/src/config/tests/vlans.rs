//! `vlan` of a link, and links that share an interface.

use std::time::{Duration, Instant};

use dhcp6_common::Vlan;

use super::{assert_link_mistakes, link, mistakes, parse};
use crate::config::VlanSet;

/// Links of `eth1` in five lines each, told apart by `vlan`; an empty text for frames without a tag.
fn links<V: AsRef<str>>(vlans: impl IntoIterator<Item = V>) -> String {
    let link = |(index, vlan): (usize, V)| {
        let vlan = match vlan.as_ref() {
            "" => String::new(),
            vlan => format!("vlan = {vlan}"),
        };
        format!(
            "[[link]]\nname = \"access{index}\"\ninterface = \"eth1\"\nprefix = \"2001:db8::/32\"\n{vlan}\n"
        )
    };
    vlans.into_iter().enumerate().map(link).collect()
}

#[test]
fn identifiers_are_numbers_and_ranges() {
    for (vlan, outer, inner) in [
        ("[100]", &[100..=100][..], &[][..]),
        ("[1, 4094]", &[1..=1], &[4094..=4094]),
        ("[100, \"1-4094\"]", &[100..=100], &[1..=4094]),
        ("[\"30, 10 - 19\"]", &[10..=19, 30..=30], &[]),
        ("[\"10-19,20,22-22\", \"4094\"]", &[10..=20, 22..=22], &[4094..=4094]),
    ] {
        let expected = VlanSet { outer: outer.to_vec(), inner: inner.to_vec() };
        assert_eq!(link(&format!("vlan = {vlan}\n")).vlans, Some(expected), "{vlan}");
    }
    let vlans = link("vlan = [\"30,10-19\", \"2-3\"]\n").vlans.unwrap();
    for (outer, inner, contained) in
        [(10, 2, true), (19, 3, true), (30, 2, true), (20, 2, false), (10, 4, false), (10, 0, false)]
    {
        assert_eq!(vlans.contains(Vlan { outer, inner }), contained, "{outer}.{inner}");
    }
}

#[test]
fn identifiers_are_checked() {
    assert_link_mistakes(&[
        ("vlan = [0]\n", &["5: `vlan`: 0 is not between 1 and 4094"]),
        (
            "vlan = [\n4095,\n-1]\n",
            &["6: `vlan`: 4095 is not between 1 and 4094", "7: `vlan`: -1 is not between 1 and 4094"],
        ),
        ("vlan = []\n", &["5: `vlan` has one element, or two for an outer and an inner tag, not 0"]),
        ("vlan = [1, 2, 3]\n", &["5: `vlan` has one element, or two for an outer and an inner tag, not 3"]),
        ("vlan = [\"0-5\"]\n", &["5: `vlan`: \"0-5\": `0` is not an integer between 1 and 4094"]),
        ("vlan = [\"1-4095\"]\n", &["5: `vlan`: \"1-4095\": `4095` is not an integer between 1 and 4094"]),
        ("vlan = [\"9-5\"]\n", &["5: `vlan`: \"9-5\": `9-5` begins behind its end"]),
        ("vlan = [\"\"]\n", &["5: `vlan`: \"\": `` is not an integer between 1 and 4094"]),
        ("vlan = [\"1,,2\"]\n", &["5: `vlan`: \"1,,2\": `` is not an integer between 1 and 4094"]),
        ("vlan = [\"1-2-3\"]\n", &["5: `vlan`: \"1-2-3\": `2-3` is not an integer between 1 and 4094"]),
        ("vlan = [1, \"4,1-4\"]\n", &["5: `vlan`: \"4,1-4\": 4 is in it twice"]),
        ("vlan = 100\n", &["5: `vlan` in [[link]]: invalid type: integer `100`, expected an array"]),
        (
            "vlan = [true]\n",
            &[
                "5: `vlan` in [[link]]: invalid type: boolean `true`, expected an integer or a string such as \
                 \"10-19,30\"",
            ],
        ),
    ]);
}

#[test]
fn vlans_are_those_of_an_interface() {
    let text = "[[link]]\nname = \"relayed\"\nprefix = \"2001:db8:1::/64\"\nvlan = [100]\n";
    let expected = "4: `vlan` needs an `interface`: a link without one is reached through relay agents only";
    assert_eq!(mistakes(text), [expected]);
    assert_eq!(
        mistakes(&format!("{text}interface = \"a b\"\n")).len(),
        1,
        "nothing is missing where it is wrong"
    );
    assert_eq!(mistakes(&format!("{text}interface = 5\n")).len(), 1);
}

#[test]
fn links_share_an_interface_where_no_frame_fits_two() {
    for vlans in [
        &["", "[100]"][..],
        &["[100]", "[100, \"1-4094\"]"],
        &["[100, \"1,3,5\"]", "[100, \"2,4\"]", "[101, \"1-5\"]"],
        &["[\"1-100\", 7]", "[\"50-200\", 8]", "[\"1-49\", 8]", "[\"101-200\", 7]"],
    ] {
        assert!(mistakes(&links(vlans)).is_empty(), "{vlans:?}");
        assert_eq!(parse(&links(vlans)).links.len(), vlans.len());
    }
    let other_interface = links([""]) + &links([""]).replace("eth1", "eth2").replace("access0", "other");
    assert!(mistakes(&other_interface).is_empty());

    let untagged = "`interface`: \"eth1\" already has the link of line 3; tell them apart by `vlan`";
    let belongs =
        |vlan| format!("`vlan`: frames of \"eth1\" with VLAN {vlan} already belong to the link of line");
    for (vlans, expected) in [
        (&["", "[100]", ""][..], vec![format!("13: {untagged}")]),
        (&["[100]", "[\"1-4094\"]"], vec![format!("10: {} 5", belongs("100"))]),
        // The one that begins later is the earlier one in the file.
        (&["[\"50-60\", 2]", "[\"1-50\", \"1-3\"]"], vec![format!("10: {} 5", belongs("50.2"))]),
        (
            &["[\"1-4094\", 1]", "[7, \"1-2\"]", "[8, 2]", "[\"8-9\", \"1-2\"]"],
            vec![format!("10: {} 5", belongs("7.1")), format!("20: {} 15", belongs("8.2"))],
        ),
        (
            &["[0]", "[100]", "[100]"],
            vec!["5: `vlan`: 0 is not between 1 and 4094".into(), format!("15: {} 10", belongs("100"))],
        ),
    ] {
        assert_eq!(mistakes(&links(vlans)), expected, "{vlans:?}");
    }
}

#[test]
fn no_pair_of_overlapping_links_is_missed() {
    // Every pair of squares out of a few VLANs, against what the sets say themselves.
    let ranges = ["1", "2", "1-2", "2-3", "1,3", "1-3"];
    let squares: Vec<String> = ranges
        .iter()
        .flat_map(|outer| {
            let inner = ranges.iter().map(move |inner| format!("[\"{outer}\", \"{inner}\"]"));
            inner.chain([format!("[\"{outer}\"]")])
        })
        .collect();
    for one in &squares {
        for other in &squares {
            let [a, b] = [one, other].map(|vlan| link(&format!("vlan = {vlan}\n")).vlans.unwrap());
            let mut all = (0..=4).flat_map(|outer| (0..=4).map(move |inner| Vlan { outer, inner }));
            let common = all.any(|vlan| a.contains(vlan) && b.contains(vlan));
            assert_eq!(mistakes(&links([one, other])).len(), usize::from(common), "{one} {other}");
        }
    }
}

#[test]
fn many_links_share_an_interface() {
    let begin = Instant::now();
    let distinct = links((1..=4094).map(|vlan| format!("[{vlan}]")));
    assert_eq!(parse(&distinct).links.len(), 4094);
    let crossed = links((1..=4094).map(|vlan| format!("[\"1-4094\", {vlan}]")));
    assert!(mistakes(&crossed).is_empty());
    let equal = links((1..=4094).map(|_| "[100]"));
    assert_eq!(mistakes(&equal).len(), 4093);
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}, by far more than a pass over the links takes");
}

#[test]
fn the_number_of_links_is_bounded() {
    let link = |index| format!("[[link]]\nname = \"l{index}\"\nprefix = \"2001:db8::/32\"\n");
    let most: String = (0..65535).map(link).collect();
    assert_eq!(parse(&most).links.len(), 65535);
    let more = most + &link(65535) + &link(65536);
    assert_eq!(mistakes(&more), ["196606: there are 65537 [[link]]; a server has at most 65535"]);
}
