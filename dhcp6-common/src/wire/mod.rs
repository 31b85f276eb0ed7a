//! The DHCPv6 message format (RFC 9915, sections 8, 11 and 21).

mod checksum;
mod codes;
mod duid;
mod walker;

pub use checksum::Sum;
pub use codes::{MessageType, OptionCode, StatusCode};
pub use duid::{Duid, DuidError, DuidType};
pub use walker::{MalformedOption, Octets, OptionSpan, OptionWalker, RawOption, option_at};

/// UDP port on which clients listen (RFC 9915, section 7.2).
pub const CLIENT_PORT: u16 = 546;
/// UDP port on which servers and relay agents listen (RFC 9915, section 7.2).
pub const SERVER_PORT: u16 = 547;
/// All_DHCP_Relay_Agents_and_Servers, ff02::1:2 (RFC 9915, section 7.1).
pub const ALL_RELAY_AGENTS_AND_SERVERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
/// All_DHCP_Servers, ff05::1:3 (RFC 9915, section 7.1).
pub const ALL_SERVERS: [u8; 16] = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3];
/// A lifetime, T1 or T2 that never ends (RFC 9915, section 7.7).
pub const INFINITY: u32 = 0xffff_ffff;
/// Octets of a client message before its options: message type and transaction identifier
/// (RFC 9915, section 8).
pub const MESSAGE_HEADER_LEN: usize = 4;
/// Octets of an option before its value: code and length (RFC 9915, section 21.1).
pub const OPTION_HEADER_LEN: usize = 4;
/// Octets of an IA_NA before its options: IAID, T1 and T2 (RFC 9915, section 21.4).
pub const IA_NA_HEADER_LEN: usize = 12;
/// Octets of an IA Address before its options: address and two lifetimes (RFC 9915, section 21.6).
pub const IA_ADDRESS_HEADER_LEN: usize = 24;
/// Octets of an IA Prefix before its options: two lifetimes, length and prefix (RFC 9915, section 21.22).
pub const IA_PREFIX_HEADER_LEN: usize = 25;
