//! The links: the slot of each one's interface is its index.

use std::ops::RangeInclusive;

/// How many there are.
pub(super) const COUNT: u32 = 9;

/// VLANs, and whether a binding is its client's only with the same MAC address.
struct Shape {
    outer: Option<RangeInclusive<u16>>,
    inner: Option<RangeInclusive<u16>>,
    bind_to_mac: bool,
}

/// The shape of the link with this index.
#[rustfmt::skip]
fn shape(link: u32) -> Shape {
    let (outer, inner, bind_to_mac) = match link {
        0 | 7 => (None, None, false),
        1 => (None, None, true),
        2 => (Some(100..=100), None, false),
        3 => (Some(200..=205), None, false),
        4 => (Some(300..=300), Some(7..=7), false),
        5 => (Some(400..=401), Some(1..=4094), false),
        6 => (Some(500..=500), None, true),
        _ => (Some(600..=700), Some(1..=2), true),
    };
    Shape { outer, inner, bind_to_mac }
}

/// Identifiers of VLANs, outer and inner, of a link's clients.
pub(super) fn vlans(link: u32) -> Vec<RangeInclusive<u16>> {
    let Shape { outer, inner, .. } = shape(link);
    outer.into_iter().chain(inner).collect()
}

/// The length of the prefixes that a link delegates. Of the last one they are longer than the kernel can.
const DELEGATED: [u8; COUNT as usize] = [48, 50, 52, 53, 56, 60, 63, 64, 72];
/// The link that keeps a part of each prefix.
const EXCLUDING: u32 = 3;

/// Links with 0 to 8 configured options, of which the last have codes that cannot be rendered.
pub(super) fn configuration() -> String {
    tests::xdp::GENEROUS.to_owned() + &(0..COUNT).map(link).collect::<String>()
}

fn link(index: u32) -> String {
    const LISTS: [&str; 3] = [
        r#"dns_servers = ["2001:db8::53", "2001:db8::54"]"#,
        r#"domain_search = ["example.net", "odd.example.net"]"#,
        r#"ntp_servers = ["2001:db8::123", "ntp.example.net"]"#,
    ];
    const CUSTOM: [&str; 5] = [
        r#"{ code = 31, hex = "01" }"#,
        r#"{ code = 32, hex = "" }"#,
        r#"{ code = 255, hex = "0203040506" }"#,
        r#"{ code = 33, hex = "ffff" }"#,
        r#"{ code = 65000, hex = "00" }"#,
    ];
    const LIFETIMES: [[&str; 2]; 3] = [["1h", "2h"], ["infinity", "infinity"], ["90s", "infinity"]];
    let options = index as usize;
    let lists = LISTS[..options.min(LISTS.len())].join("\n");
    let custom = CUSTOM[..options.saturating_sub(LISTS.len())].join(", ");
    let [preferred, valid] = LIFETIMES[options % LIFETIMES.len()];
    let vlans: Vec<_> = vlans(index).iter().map(|ids| format!("\"{}-{}\"", ids.start(), ids.end())).collect();
    let vlan = if vlans.is_empty() { String::new() } else { format!("vlan = [{}]", vlans.join(", ")) };
    let bind_to_mac = shape(index).bind_to_mac;
    let prefixes = 0x8000 + (index << 8);
    let length = DELEGATED[options];
    let exclude = if index == EXCLUDING { "pd_exclude = \"0:0:0:7ff::/64\"" } else { "" };
    format!(
        r#"
        [[link]]
        name = "access{index}"
        interface = "test{index}"
        {vlan}
        bind_to_mac = {bind_to_mac}
        prefix = "2001:db8:{index}::/64"
        rapid_commit = true
        allocation = "random"
        preferred_lifetime = "{preferred}"
        valid_lifetime = "{valid}"
        [[link.pool]]
        range = "2001:db8:{index}::/64"
        [[link.prefix_pool]]
        prefix = "2001:db8:{prefixes:x}::/40"
        delegated_length = {length}
        {exclude}
        [link.options]
        {lists}
        custom = [{custom}]
        "#
    )
}
