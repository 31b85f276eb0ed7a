//! `[[link.reservation]]`: by what it knows its client, and what it reserves.

use super::{assert_link_mistakes, link};
use crate::config::{ClientKey, PdExclude};

#[test]
fn clients_are_known_by_one_of_five_keys() {
    let duid = ClientKey::Duid("00:01:ff".parse().unwrap());
    for (key, client) in [
        ("duid = \"00:01:FF\"", duid),
        ("mac = \"02:00:00:00:00:fF\"", ClientKey::Mac([2, 0, 0, 0, 0, 0xff])),
        ("remote_id = { enterprise = 4242, hex = \"00ff\" }", ClientKey::RemoteId(4242, vec![0, 0xff])),
        ("remote_id = { enterprise = 0, text = \"a b\" }", ClientKey::RemoteId(0, b"a b".to_vec())),
        ("subscriber_id = \"line 7\"", ClientKey::SubscriberId(b"line 7".to_vec())),
        ("subscriber_id = { hex = \"00:ff\" }", ClientKey::SubscriberId(vec![0, 0xff])),
        ("interface_id = \"eth0\"", ClientKey::InterfaceId(b"eth0".to_vec())),
        ("interface_id = { hex = \"65\" }", ClientKey::InterfaceId(b"e".to_vec())),
    ] {
        let link = link(&format!("[[link.reservation]]\n{key}\naddress = \"2001:db8:1::1\"\n"));
        assert_eq!(link.reservations[0].client, client, "{key}");
    }
}

#[test]
fn one_reservation_may_hold_everything() {
    let link = link(
        "[[link.reservation]]\nmac = \"02:00:00:00:00:01\"\niaid = 7\naddress = \"2001:db8:1::1\"\n\
         prefix = \"2001:db8:9000::/56\"\npd_exclude = \"0:0:0:1::/64\"\noptions = { sol_max_rt = 60 }\n",
    );
    let reservation = &link.reservations[0];
    assert_eq!(reservation.iaid, Some(7));
    assert_eq!(reservation.address, Some("2001:db8:1::1".parse().unwrap()));
    assert_eq!(reservation.prefix, Some("2001:db8:9000::/56".parse().unwrap()));
    assert_eq!(reservation.pd_exclude, Some(PdExclude { length: 64, subnet: 1 << 64 }));
    assert_eq!(reservation.options.len(), 1);
}

#[test]
fn clients_are_checked() {
    let octet = "an identifier has at least one octet";
    for (key, expected) in [
        ("duid = \"\"", "`duid`: a DUID has at least one octet"),
        (
            "mac = \"020000000001\"",
            "`mac`: \"020000000001\" is not a MAC address such as \"02:00:00:00:00:01\"",
        ),
        ("mac = \"02:00\"", "`mac`: \"02:00\" is not a MAC address such as \"02:00:00:00:00:01\""),
        (
            "mac = \"33:33:00:00:00:01\"",
            "`mac`: \"33:33:00:00:00:01\" is the address of a group, not of a client",
        ),
        (
            "remote_id = {}",
            "`enterprise` is missing in `remote_id`|`remote_id` has no value; write `hex` or `text`",
        ),
        (
            "remote_id = { enterprise = -1, hex = \"00\", text = \"a\" }",
            "`remote_id`: write `hex` or `text`, not both|`enterprise`: -1 is not between 0 and 4294967295",
        ),
        ("remote_id = { enterprise = 1, text = \"\" }", &format!("`remote_id`: {octet}")),
        (
            "remote_id = { enterprise = 1, txt = \"a\" }",
            "unknown key `txt` in [link.reservation.remote_id]; did you mean `text`?",
        ),
        (
            "remote_id = \"a\"",
            "`remote_id` in [[link.reservation]]: invalid type: string \"a\", expected a table",
        ),
        ("subscriber_id = \"\"", &format!("`subscriber_id`: {octet}")),
        ("subscriber_id = { hex = \"\" }", &format!("`subscriber_id`: {octet}")),
        (
            "interface_id = { hex = 5 }",
            "`hex` in [link.reservation.interface_id]: invalid type: integer `5`, expected a string",
        ),
        ("interface_id = {}", "`hex` is missing in `interface_id`"),
    ] {
        let expected: Vec<String> = expected.split('|').map(|message| format!("6: {message}")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        let text = format!("[[link.reservation]]\n{key}\naddress = \"2001:db8:1::1\"\n");
        assert_link_mistakes(&[(&text, &expected)]);
    }
    assert_link_mistakes(&[(
        "[[link.reservation]]\nmac = \"02:00:00:00:00:01\"\nsubscriber_id = \"a\"\nduid = \"00:01\"\n\
         address = \"2001:db8:1::1\"\n",
        &[
            "7: `subscriber_id`: `mac` already names the client; write one of the two",
            "8: `duid`: `mac` already names the client; write one of the two",
        ],
    )]);
}

#[test]
fn clients_of_every_kind_have_one_reservation() {
    let mut last = 0;
    let mut reservation = |client: &str| {
        last += 1;
        format!("[[link.reservation]]\n{client}\naddress = \"2001:db8:1::{last}\"\n")
    };
    let (mac, subscriber) = ("mac = \"02:00:00:00:00:01\"", "subscriber_id = \"a\"");
    let text = [mac, subscriber, "interface_id = \"a\"", mac, subscriber].map(&mut reservation).concat();
    assert_link_mistakes(&[(
        &text,
        &[
            "14: 02:00:00:00:00:01 with any IAID already has the reservation of line 5",
            "17: Subscriber-Id \"a\" with any IAID already has the reservation of line 8",
        ],
    )]);
    let text =
        ["iaid = 1\n", "iaid = 2\n", "", "iaid = 2\n"].map(|iaid| reservation(&format!("{iaid}{mac}")));
    assert_link_mistakes(&[(
        &text.concat(),
        &[
            "13: 02:00:00:00:00:01 with any IAID already has the reservation of line 5",
            "16: 02:00:00:00:00:01 with IAID 2 already has the reservation of line 9",
        ],
    )]);
}

#[test]
fn three_mistakes_are_reported_with_what_to_write() {
    assert_link_mistakes(&[(
        "[[link.prefix_pool]]\nprefix = \"2001:db8:8000::1/36\"\ndelegated_length = 56\n\
         [[link.reservation]]\nmac = \"02-00-00-00-00-01\"\nprefix = \"2001:db8:9000::/56\"\n\
         pd_exclude = \"2001:db8:9000:1::/64\"\n",
        &[
            "6: `prefix`: `2001:db8:8000::1/36`: the prefix has host bits set; write 2001:db8:8000::/36",
            "9: `mac`: \"02-00-00-00-00-01\" is not a MAC address such as \"02:00:00:00:00:01\"",
            "11: `pd_exclude`: `2001:db8:9000:1::/64` has bits set that are not the 8 behind the delegated \
             prefix; write 0:0:0:1::/64",
        ],
    )]);
}
