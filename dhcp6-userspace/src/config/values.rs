//! Single values: what each key allows. An error is the text behind the key's name in the message.

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use dhcp6_common::wire::{Duid, INFINITY};

use super::{
    PdExclude,
    file::{Integer, Span},
};
use crate::pool::{AddressRange, Prefix};

/// The longest path of a Unix socket, without the closing zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// The longest name of a network interface, without the closing zero (IFNAMSIZ).
const MAX_INTERFACE_NAME: usize = 15;

/// The longest value of an option: its length field has 16 bits (RFC 9915, section 21.1).
pub(super) const MAX_VALUE_LEN: usize = 0xffff;

/// An integer between `least` and `most`.
pub(super) fn integer<T: TryFrom<i64>>(value: Integer, least: i64, most: i64) -> Result<T, String> {
    let in_range = (least..=most).contains(&value.0);
    T::try_from(value.0)
        .ok()
        .filter(|_| in_range)
        .ok_or_else(|| format!("{} is not between {least} and {most}", value.0))
}

/// One of a few words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("\"{text}\" is unknown; write {}", known.join(" or "))
    })
}

/// A path that is not empty.
pub(super) fn path(text: String) -> Result<PathBuf, String> {
    if text.is_empty() { Err("the path is empty".to_owned()) } else { Ok(text.into()) }
}

/// A path that fits the address of a Unix socket.
pub(super) fn socket_path(text: String) -> Result<PathBuf, String> {
    if text.len() > MAX_SOCKET_PATH {
        return Err(format!("the path of a socket has at most {MAX_SOCKET_PATH} octets, not {}", text.len()));
    }
    path(text)
}

/// An IP address and a port to listen on.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| {
        format!("\"{text}\" is not an IP address and a port such as \"[::1]:9547\" or \"127.0.0.1:9547\"")
    })?;
    if address.port() == 0 {
        return Err(format!("\"{text}\" has port 0, on which nobody would find it"));
    }
    Ok(address)
}

/// `auto` for none, or a DUID.
pub(super) fn server_duid(text: &str) -> Result<Option<Duid>, String> {
    if text == "auto" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| format!("{error}; or write \"auto\""))
}

/// The name of a link.
pub(super) fn link_name(text: String) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("{text:?} is no name: it has at least one character and no white space"));
    }
    Ok(text)
}

/// A name that the kernel accepts for a network interface.
pub(super) fn interface_name(text: String) -> Result<String, String> {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':';
    if text.is_empty() || text.len() > MAX_INTERFACE_NAME {
        Err(format!("{text:?} is no interface: a name has 1 to {MAX_INTERFACE_NAME} octets"))
    } else if text.contains(forbidden) || text == "." || text == ".." {
        Err(format!("{text:?} is no interface: a name has no white space, \"/\" or \":\""))
    } else {
        Ok(text)
    }
}

/// A span of time.
fn span(span: &Span) -> Result<Duration, String> {
    match span {
        Span::Seconds(seconds) => {
            let seconds = u64::try_from(*seconds).map_err(|_| format!("{seconds} seconds is negative"))?;
            Ok(Duration::from_secs(seconds))
        }
        Span::Text(text) => humantime::parse_duration(text).map_err(|error| {
            format!("\"{text}\" is not a duration such as \"30m\", \"2h\" or \"1d\": {error}")
        }),
    }
}

/// A span of time of at least one second.
pub(super) fn duration(text: &Span) -> Result<Duration, String> {
    let duration = span(text)?;
    if duration.as_secs() < 1 {
        return Err(format!("\"{text}\" is less than a second"));
    }
    // What lasts longer than this, the protocol cannot express in a lifetime either.
    if duration.as_secs() >= u64::from(INFINITY) {
        return Err(format!("\"{text}\" is too long: at most {} seconds", INFINITY - 1));
    }
    Ok(duration)
}

/// A time within which no client repeats a Solicit: its first retransmission timeout is at least 900 ms (RFC 9915,
/// sections 7.6 and 15: SOL_TIMEOUT of 1 s, less a tenth).
pub(super) fn retransmission(text: &Span) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_millis(900);
    let duration = span(text)?;
    if duration > MOST {
        return Err(format!(
            "\"{text}\" is longer than {} ms, after which clients do repeat a Solicit",
            MOST.as_millis()
        ));
    }
    Ok(duration)
}

/// A lifetime in whole seconds, [`INFINITY`] for `infinity`.
pub(super) fn lifetime(span: &Span) -> Result<u32, String> {
    if matches!(span, Span::Text(text) if text == "infinity") {
        return Ok(INFINITY);
    }
    let duration = duration(span)?;
    if duration.subsec_nanos() != 0 {
        return Err(format!("\"{span}\" is not a whole number of seconds"));
    }
    // `duration` has checked the bound.
    Ok(duration.as_secs() as u32)
}

/// A prefix of addresses that can be assigned.
pub(super) fn prefix(text: &str) -> Result<Prefix, String> {
    if !text.contains('/') {
        return Err(format!("`{text}` is not a prefix such as 2001:db8:1::/64"));
    }
    let prefix: Prefix = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
    for (refused, kind) in [("ff00::/8", "multicast"), ("::1", "loopback"), ("::", "unspecified")] {
        if refused.parse().is_ok_and(|refused| prefix.range().overlaps(&refused)) {
            return Err(format!("`{text}` contains {kind} addresses, which cannot be assigned"));
        }
    }
    Ok(prefix)
}

/// A prefix that can be delegated.
pub(super) fn reserved_prefix(text: &str) -> Result<Prefix, String> {
    let prefix = prefix(text)?;
    match prefix.length() {
        1..=127 => Ok(prefix),
        _ => Err(format!("`{text}` cannot be delegated: its length is not between 1 and 127")),
    }
}

/// The part of a delegated prefix of length `delegated` that is excluded, such as `0:0:0:ff::/64` (RFC 6603).
pub(super) fn pd_exclude(text: &str, delegated: u8) -> Result<PdExclude, String> {
    let parts = text.split_once('/').and_then(|(bits, length)| {
        let bits: Ipv6Addr = bits.trim().parse().ok()?;
        Some((u128::from(bits), length.trim().parse::<u8>().ok()?))
    });
    let Some((bits, length)) = parts else {
        return Err(format!("`{text}` is not a part of a delegated prefix such as 0:0:0:ff::/64"));
    };
    if length <= delegated || length > 128 {
        return Err(format!(
            "`{text}`: the length is not above {delegated}, that of the delegated prefix, and at most 128"
        ));
    }
    let behind = |length: u8| u128::MAX.checked_shr(length.into()).unwrap_or(0);
    let subnet = bits & behind(delegated) & !behind(length);
    if bits != subnet {
        let right = Ipv6Addr::from(subnet);
        return Err(format!(
            "`{text}` has bits set that are not the {} behind the delegated prefix; write {right}/{length}",
            length - delegated
        ));
    }
    Ok(PdExclude { length, subnet })
}

/// A MAC address of one host.
pub(super) fn mac(text: &str) -> Result<[u8; 6], String> {
    let octets = if text.contains(':') { hex(text) } else { Err(String::new()) };
    match octets.map(<[u8; 6]>::try_from) {
        Ok(Ok(mac)) if mac[0] & 1 == 0 => Ok(mac),
        Ok(Ok(_)) => Err(format!("\"{text}\" is the address of a group, not of a client")),
        _ => Err(format!("\"{text}\" is not a MAC address such as \"02:00:00:00:00:01\"")),
    }
}

/// Pairs of hexadecimal digits; colons between them are for the reader.
pub(super) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("\"{text}\" is not pairs of hexadecimal digits");
    let digits: Vec<u8> = if text.contains(':') {
        if text.split(':').any(|pair| pair.len() != 2) {
            return Err(wrong());
        }
        text.bytes().filter(|octet| *octet != b':').collect()
    } else {
        text.bytes().collect()
    };
    let digit = |octet: u8| char::from(octet).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    let value: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    let value = value.ok_or_else(wrong)?;
    fits_option(&value)?;
    Ok(value)
}

/// What a relay agent says of a client, from the form that `octets` reads.
pub(super) fn identifier(
    text: &str,
    octets: impl FnOnce(&str) -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Err("an identifier has at least one octet".to_owned());
    }
    octets(text)
}

/// The octets of a text.
pub(super) fn text(text: &str) -> Result<Vec<u8>, String> {
    fits_option(text.as_bytes())?;
    Ok(text.as_bytes().to_vec())
}

fn fits_option(value: &[u8]) -> Result<(), String> {
    if value.len() > MAX_VALUE_LEN {
        return Err(format!("the value has {} octets, at most {MAX_VALUE_LEN} fit an option", value.len()));
    }
    Ok(())
}

/// A range, a prefix or an address.
pub(super) fn address_range(text: &str) -> Result<AddressRange, String> {
    text.parse().map_err(|error| format!("`{text}`: {error}"))
}

/// An IPv6 address.
pub(super) fn address(text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an IPv6 address"))
}

/// An IAID as text.
pub(super) fn iaid(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is not an integer between 0 and {}", u32::MAX))
}
