//! Single values: what each key allows. An error is the text behind the key's name in the message.

use std::{net::Ipv6Addr, path::PathBuf, time::Duration};

use dhcp6_common::wire::{Duid, INFINITY};

use super::file::{Integer, Span};
use crate::pool::AddressRange;

/// The longest path of a Unix socket, without the closing zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// The longest name of a network interface, without the closing zero (IFNAMSIZ).
const MAX_INTERFACE_NAME: usize = 15;

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

/// A span of time of at least one second.
pub(super) fn duration(span: &Span) -> Result<Duration, String> {
    let duration = match span {
        Span::Seconds(seconds) => {
            let seconds = u64::try_from(*seconds).map_err(|_| format!("{seconds} seconds is negative"))?;
            Duration::from_secs(seconds)
        }
        Span::Text(text) => humantime::parse_duration(text).map_err(|error| {
            format!("\"{text}\" is not a duration such as \"30m\", \"2h\" or \"1d\": {error}")
        })?,
    };
    if duration.as_secs() < 1 {
        return Err(format!("\"{span}\" is less than a second"));
    }
    // What lasts longer than this, the protocol cannot express in a lifetime either.
    if duration.as_secs() >= u64::from(INFINITY) {
        return Err(format!("\"{span}\" is too long: at most {} seconds", INFINITY - 1));
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

/// The prefix of a link.
pub(super) fn link_prefix(text: &str) -> Result<AddressRange, String> {
    if !text.contains('/') {
        return Err(format!("`{text}` is not a prefix such as 2001:db8:1::/64"));
    }
    let prefix: AddressRange = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
    for (refused, kind) in [("ff00::/8", "multicast"), ("::1", "loopback"), ("::", "unspecified")] {
        if refused.parse().is_ok_and(|refused| prefix.overlaps(&refused)) {
            return Err(format!("`{text}` contains {kind} addresses, which cannot be assigned"));
        }
    }
    Ok(prefix)
}

/// A range, a prefix or an address.
pub(super) fn address_range(text: &str) -> Result<AddressRange, String> {
    text.parse().map_err(|error| format!("`{text}`: {error}"))
}

/// An IPv6 address.
pub(super) fn address(text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an IPv6 address"))
}
