//! `[link.options]` and the options of a pool or of a reservation: names and addresses encoded the way they go on the wire.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use dhcp6_common::wire::{INFINITY, OptionCode};
use toml::Spanned;

use super::{
    ConfiguredOption,
    file::{self, List, Table},
    validate::Checker,
    values::{self, MAX_VALUE_LEN},
};

/// Options whose value the server makes up for each message, that only clients and relay agents send, or that
/// promise what this server does not do: to update the DNS (RFC 4704) and to register addresses (RFC 9686).
const NOT_CONFIGURABLE: [OptionCode; 27] = [
    OptionCode::CLIENT_ID,
    OptionCode::SERVER_ID,
    OptionCode::IA_NA,
    OptionCode::IA_TA,
    OptionCode::IA_ADDRESS,
    OptionCode::OPTION_REQUEST,
    OptionCode::PREFERENCE,
    OptionCode::ELAPSED_TIME,
    OptionCode::RELAY_MESSAGE,
    OptionCode::AUTHENTICATION,
    OptionCode::SERVER_UNICAST,
    OptionCode::STATUS_CODE,
    OptionCode::RAPID_COMMIT,
    OptionCode::INTERFACE_ID,
    OptionCode::RECONFIGURE_MESSAGE,
    OptionCode::RECONFIGURE_ACCEPT,
    OptionCode::IA_PD,
    OptionCode::IA_PREFIX,
    OptionCode::REMOTE_ID,
    OptionCode::SUBSCRIBER_ID,
    OptionCode::CLIENT_FQDN,
    OptionCode::ECHO_REQUEST,
    OptionCode::RELAY_SUPPLIED_OPTIONS,
    OptionCode::PD_EXCLUDE,
    OptionCode::CLIENT_LINKLAYER_ADDRESS,
    OptionCode::RELAY_SOURCE_PORT,
    OptionCode::ADDR_REG_ENABLE,
];

/// Bounds of SOL_MAX_RT and INF_MAX_RT in seconds (RFC 9915, sections 21.24 and 21.25).
const MAX_RT: (u32, u32) = (60, 86_400);
/// Bounds of the Information Refresh Time in seconds: IRT_MINIMUM, and for ever (RFC 9915, sections 7.6 and 21.23).
const REFRESH_TIME: (u32, u32) = (600, INFINITY);

/// Suboption of an NTP Server option: the address of a server (RFC 5908, section 4.1).
const NTP_SERVER_ADDRESS: u16 = 1;
/// Suboption of an NTP Server option: a multicast group (RFC 5908, section 4.2).
const NTP_MULTICAST_ADDRESS: u16 = 2;
/// Suboption of an NTP Server option: the name of a server (RFC 5908, section 4.3).
const NTP_SERVER_NAME: u16 = 3;

impl Checker<'_, '_> {
    /// The options of one table, each code from one key only.
    pub(super) fn options(&mut self, options: Spanned<Table<file::Options>>) -> Vec<ConfiguredOption> {
        let table = options.span();
        let file::Options {
            dns_servers,
            domain_search,
            ntp_servers,
            sntp_servers,
            sol_max_rt,
            inf_max_rt,
            information_refresh_time,
            custom,
        } = options.into_inner().0;
        let mut encoded = Vec::new();
        let mut places: HashMap<OptionCode, Range<usize>> = HashMap::new();

        for (key, code, list, encode) in [
            ("dns_servers", OptionCode::DNS_SERVERS, dns_servers, encode_server as Encode),
            ("domain_search", OptionCode::DOMAIN_SEARCH, domain_search, encode_name),
            ("ntp_servers", OptionCode::NTP_SERVER, ntp_servers, encode_ntp_server),
            ("sntp_servers", OptionCode::SNTP_SERVERS, sntp_servers, encode_server),
        ] {
            let Some(place) = list.as_ref().map(Spanned::span) else { continue };
            let values = self.option_values(&table, key, list, encode);
            if code == OptionCode::NTP_SERVER {
                encoded.extend(values.into_iter().map(|value| ConfiguredOption { code, value }));
            } else {
                let value = values.concat();
                if value.len() > MAX_VALUE_LEN {
                    self.report.add(&place, format!("`{key}` has more than {MAX_VALUE_LEN} octets encoded"));
                }
                encoded.push(ConfiguredOption { code, value });
            }
            places.insert(code, place);
        }

        for (key, code, span, bounds) in [
            ("sol_max_rt", OptionCode::SOL_MAX_RT, sol_max_rt, MAX_RT),
            ("inf_max_rt", OptionCode::INF_MAX_RT, inf_max_rt, MAX_RT),
            (
                "information_refresh_time",
                OptionCode::INFORMATION_REFRESH_TIME,
                information_refresh_time,
                REFRESH_TIME,
            ),
        ] {
            let Some(span) = span else { continue };
            places.insert(code, span.span());
            if let Some(seconds) = self.parse(key, span, |span| seconds_within(&span, bounds)) {
                encoded.push(ConfiguredOption { code, value: seconds.to_be_bytes().to_vec() });
            }
        }

        for entry in custom.map(Spanned::into_inner).unwrap_or_default() {
            let place = entry.span();
            let Some(option) = self.custom_option(entry) else { continue };
            if let Some(first) = places.get(&option.code) {
                let line = self.report.refer(&place, first);
                let message = format!("`custom`: option {} is already set on {line}", option.code.0);
                self.report.add(&place, message);
            } else {
                places.insert(option.code, place);
            }
            encoded.push(option);
        }
        encoded
    }

    /// Each entry of the list under `key`, encoded.
    fn option_values(
        &mut self,
        table: &Range<usize>,
        key: &str,
        list: List<String>,
        encode: Encode,
    ) -> Vec<Vec<u8>> {
        let Some(list) = list else { return Vec::new() };
        if list.get_ref().is_empty() && !self.removed.contains(table, key) {
            self.report.add(&list.span(), format!("`{key}` is empty; leave it out to send no such option"));
        }
        let entries = list.into_inner().into_iter();
        entries.filter_map(|entry| self.parse(key, entry, |text| encode(&text))).collect()
    }

    fn custom_option(&mut self, entry: Spanned<Table<file::CustomOption>>) -> Option<ConfiguredOption> {
        let table = entry.span();
        let file::CustomOption { code, hex } = entry.into_inner().0;
        let code = self
            .required("code", "`custom`", &table, code)
            .and_then(|code| self.parse("code", code, option_code));
        let value = self
            .required("hex", "`custom`", &table, hex)
            .and_then(|hex| self.parse("hex", hex, |text| values::hex(&text)));
        let option = ConfiguredOption { code: code?, value: value? };
        let has_bounds = [OptionCode::SOL_MAX_RT, OptionCode::INF_MAX_RT].contains(&option.code);
        let seconds = <[u8; 4]>::try_from(option.value.as_slice()).map(u32::from_be_bytes);
        let (least, most) = MAX_RT;
        if has_bounds && !seconds.is_ok_and(|seconds| (least..=most).contains(&seconds)) {
            let code = option.code.0;
            let message = format!("`custom`: option {code} is 4 octets for {least} to {most} seconds");
            self.report.add(&table, message);
        }
        Some(option)
    }
}

/// Encodes one entry of a list, or says what is wrong with it.
type Encode = fn(&str) -> Result<Vec<u8>, String>;

/// An option that is not the protocol's own.
pub(super) fn option_code(value: file::Integer) -> Result<OptionCode, String> {
    let code = OptionCode(values::integer(value, 1, 65535)?);
    if NOT_CONFIGURABLE.contains(&code) {
        return Err(format!("option {} is the protocol's own and cannot be set", code.0));
    }
    Ok(code)
}

/// A time in whole seconds within bounds.
fn seconds_within(span: &file::Span, (least, most): (u32, u32)) -> Result<u32, String> {
    let seconds = values::lifetime(span)?;
    if (least..=most).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("\"{span}\" is not within {least} and {most} seconds"))
    }
}

/// The address of a server that is told by its address alone.
fn encode_server(text: &str) -> Result<Vec<u8>, String> {
    let address = values::address(text)?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!("{address} is not the address of a server"));
    }
    Ok(address.octets().to_vec())
}

/// A domain name in the form of RFC 1035, section 3.1. Written here because an encoder for DNS messages compresses
/// names, which DHCPv6 forbids (RFC 9915, section 10).
fn encode_name(text: &str) -> Result<Vec<u8>, String> {
    const MAX_NAME_LEN: usize = 255;
    const MAX_LABEL_LEN: usize = 63;
    let name = text.strip_suffix('.').unwrap_or(text);
    let mut encoded = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        if label.is_empty() {
            return Err(format!("\"{text}\" is no domain name: it has an empty label"));
        }
        if label.len() > MAX_LABEL_LEN {
            return Err(format!("the label \"{label}\" has {} octets, at most {MAX_LABEL_LEN}", label.len()));
        }
        if !label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_') {
            return Err(format!(
                "the label \"{label}\" has other characters than letters, digits and hyphens (write \
                 international names in their \"xn--\" form)"
            ));
        }
        encoded.push(label.len() as u8);
        encoded.extend_from_slice(label.as_bytes());
    }
    encoded.push(0);
    if encoded.len() > MAX_NAME_LEN {
        return Err(format!("\"{text}\" has {} octets encoded, at most {MAX_NAME_LEN}", encoded.len()));
    }
    Ok(encoded)
}

/// One time source as the one suboption of an NTP Server option.
fn encode_ntp_server(text: &str) -> Result<Vec<u8>, String> {
    let (suboption, value) = match text.parse::<Ipv6Addr>() {
        Ok(address) if address.is_unspecified() => {
            return Err(format!("{address} is not the address of a server"));
        }
        Ok(address) if address.is_multicast() => (NTP_MULTICAST_ADDRESS, address.octets().to_vec()),
        Ok(address) => (NTP_SERVER_ADDRESS, address.octets().to_vec()),
        Err(_) if text.contains(':') || text.parse::<Ipv4Addr>().is_ok() => {
            return Err(format!("`{text}` is neither an IPv6 address nor a domain name"));
        }
        Err(_) => (NTP_SERVER_NAME, encode_name(text)?),
    };
    let mut encoded = Vec::with_capacity(4 + value.len());
    encoded.extend_from_slice(&suboption.to_be_bytes());
    encoded.extend_from_slice(&(value.len() as u16).to_be_bytes());
    encoded.extend_from_slice(&value);
    Ok(encoded)
}
