//! DHCPv6 messages as text.

use std::fmt::Write as _;

use dhcp6_common::wire::{MESSAGE_HEADER_LEN, MessageType, OptionWalker};
use dhcproto::{
    Decodable as _, Decoder,
    v6::{DhcpOption, Message},
};

/// A line for the message, then a line for each option. The options are in the order of the message, which
/// dhcproto, decoding whole messages, would not keep.
pub fn describe(message: &[u8]) -> String {
    let mut text = String::new();
    let kind = message.first().and_then(|code| MessageType::from_code(*code));
    let transaction = message.get(1..MESSAGE_HEADER_LEN).unwrap_or_default();
    // Writing to a string cannot fail.
    _ = writeln!(
        text,
        "{} transaction {}",
        kind.map_or_else(|| "unknown".to_owned(), |kind| format!("{kind:?}")),
        hex(transaction, "")
    );
    for option in OptionWalker::new(message.get(MESSAGE_HEADER_LEN..).unwrap_or_default()) {
        match option {
            Ok(option) => _ = writeln!(text, "    {}", describe_option(option.code.0, option.value)),
            Err(malformed) => _ = writeln!(text, "    {malformed:?}"),
        }
    }
    text
}

fn describe_option(code: u16, value: &[u8]) -> String {
    let encoded =
        [&[0; MESSAGE_HEADER_LEN][..], &code.to_be_bytes(), &(value.len() as u16).to_be_bytes(), value]
            .concat();
    let decoded = Message::decode(&mut Decoder::new(&encoded)).ok();
    let option = decoded.as_ref().and_then(|message| message.opts().iter().next());
    match option {
        Some(DhcpOption::ClientId(duid)) => format!("Client Identifier   {}", hex(duid, ":")),
        Some(DhcpOption::ServerId(duid)) => format!("Server Identifier   {}", hex(duid, ":")),
        Some(DhcpOption::IANA(ia)) => {
            let mut text = format!("IA_NA               IAID {}, T1 {} s, T2 {} s", ia.id, ia.t1, ia.t2);
            for option in ia.opts.iter() {
                match option {
                    DhcpOption::IAAddr(address) => {
                        _ = write!(
                            text,
                            ", {} preferred {} s, valid {} s",
                            address.addr, address.preferred_life, address.valid_life
                        );
                    }
                    other => _ = write!(text, ", {other:?}"),
                }
            }
            text
        }
        Some(DhcpOption::IAPD(ia)) => {
            let mut text = format!("IA_PD               IAID {}, T1 {} s, T2 {} s", ia.id, ia.t1, ia.t2);
            for option in ia.opts.iter() {
                match option {
                    DhcpOption::IAPrefix(prefix) => {
                        _ = write!(
                            text,
                            ", {}/{} preferred {} s, valid {} s",
                            prefix.prefix_ip,
                            prefix.prefix_len,
                            prefix.preferred_lifetime,
                            prefix.valid_lifetime
                        );
                    }
                    other => _ = write!(text, ", {other:?}"),
                }
            }
            text
        }
        Some(DhcpOption::RapidCommit) => "Rapid Commit".to_owned(),
        Some(DhcpOption::ElapsedTime(hundredths)) => {
            format!("Elapsed Time        {} ms", u32::from(*hundredths) * 10)
        }
        Some(DhcpOption::ORO(requested)) => {
            let codes: Vec<_> = requested.opts.iter().map(|code| u16::from(*code).to_string()).collect();
            format!("Option Request      {}", codes.join(" "))
        }
        Some(DhcpOption::DomainNameServers(servers)) => {
            let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
            format!("DNS servers         {}", servers.join(" "))
        }
        Some(DhcpOption::DomainSearchList(domains)) => {
            let domains: Vec<_> = domains.iter().map(ToString::to_string).collect();
            format!("Domain Search List  {}", domains.join(" "))
        }
        _ => format!("option {code:<12} {}", hex(value, ":")),
    }
}

/// Octets in lower-case hexadecimal.
pub fn hex(octets: &[u8], separator: &str) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(separator)
}
