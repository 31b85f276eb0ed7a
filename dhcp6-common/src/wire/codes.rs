//! Message types, option codes and status codes.

/// The type of a DHCPv6 message (RFC 9915, section 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the variants are the names of the RFC")]
pub enum MessageType {
    Solicit = 1,
    Advertise = 2,
    Request = 3,
    Confirm = 4,
    Renew = 5,
    Rebind = 6,
    Reply = 7,
    Release = 8,
    Decline = 9,
    Reconfigure = 10,
    InformationRequest = 11,
    RelayForward = 12,
    RelayReply = 13,
}

impl MessageType {
    /// Every message type of RFC 9915, in the order of the codes.
    pub const ALL: [Self; 13] = [
        Self::Solicit,
        Self::Advertise,
        Self::Request,
        Self::Confirm,
        Self::Renew,
        Self::Rebind,
        Self::Reply,
        Self::Release,
        Self::Decline,
        Self::Reconfigure,
        Self::InformationRequest,
        Self::RelayForward,
        Self::RelayReply,
    ];

    /// The type with this code; `None` where RFC 9915 defines none.
    #[inline]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).wrapping_sub(1)).copied()
    }

    /// The name in lower case with underscores, as counters and JSON carry it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Solicit => "solicit",
            Self::Advertise => "advertise",
            Self::Request => "request",
            Self::Confirm => "confirm",
            Self::Renew => "renew",
            Self::Rebind => "rebind",
            Self::Reply => "reply",
            Self::Release => "release",
            Self::Decline => "decline",
            Self::Reconfigure => "reconfigure",
            Self::InformationRequest => "information_request",
            Self::RelayForward => "relay_forward",
            Self::RelayReply => "relay_reply",
        }
    }
}

/// The code of a DHCPv6 option, in host byte order. Any value is possible; the constants are those that this
/// server gives a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct OptionCode(pub u16);

#[expect(missing_docs, reason = "the constants are the names of the RFCs")]
impl OptionCode {
    pub const CLIENT_ID: Self = Self(1);
    pub const SERVER_ID: Self = Self(2);
    pub const IA_NA: Self = Self(3);
    pub const IA_TA: Self = Self(4);
    pub const IA_ADDRESS: Self = Self(5);
    pub const OPTION_REQUEST: Self = Self(6);
    pub const PREFERENCE: Self = Self(7);
    pub const ELAPSED_TIME: Self = Self(8);
    pub const RELAY_MESSAGE: Self = Self(9);
    pub const AUTHENTICATION: Self = Self(11);
    pub const SERVER_UNICAST: Self = Self(12);
    pub const STATUS_CODE: Self = Self(13);
    pub const RAPID_COMMIT: Self = Self(14);
    pub const USER_CLASS: Self = Self(15);
    pub const VENDOR_CLASS: Self = Self(16);
    pub const VENDOR_OPTIONS: Self = Self(17);
    pub const INTERFACE_ID: Self = Self(18);
    pub const RECONFIGURE_MESSAGE: Self = Self(19);
    pub const RECONFIGURE_ACCEPT: Self = Self(20);
    /// RFC 3646, section 3.
    pub const DNS_SERVERS: Self = Self(23);
    /// RFC 3646, section 4.
    pub const DOMAIN_SEARCH: Self = Self(24);
    pub const IA_PD: Self = Self(25);
    pub const IA_PREFIX: Self = Self(26);
    /// RFC 4649.
    pub const REMOTE_ID: Self = Self(37);
    /// RFC 4580.
    pub const SUBSCRIBER_ID: Self = Self(38);
    /// RFC 4994.
    pub const ECHO_REQUEST: Self = Self(43);
    /// RFC 8357.
    pub const RELAY_SOURCE_PORT: Self = Self(135);
    /// RFC 4075.
    pub const SNTP_SERVERS: Self = Self(31);
    pub const INFORMATION_REFRESH_TIME: Self = Self(32);
    pub const SOL_MAX_RT: Self = Self(82);
    pub const INF_MAX_RT: Self = Self(83);
    /// RFC 4704.
    pub const CLIENT_FQDN: Self = Self(39);
    /// RFC 5908.
    pub const NTP_SERVER: Self = Self(56);
    /// RFC 6422.
    pub const RELAY_SUPPLIED_OPTIONS: Self = Self(66);
    /// RFC 6603.
    pub const PD_EXCLUDE: Self = Self(67);
    /// RFC 6939.
    pub const CLIENT_LINKLAYER_ADDRESS: Self = Self(79);
    /// RFC 9686.
    pub const ADDR_REG_ENABLE: Self = Self(148);
}

/// The code of a Status Code option (RFC 9915, section 21.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[expect(missing_docs, reason = "the variants are the names of the RFC")]
pub enum StatusCode {
    Success = 0,
    UnspecFail = 1,
    NoAddrsAvail = 2,
    NoBinding = 3,
    NotOnLink = 4,
    NoPrefixAvail = 6,
}

#[cfg(test)]
mod tests {
    use super::MessageType;

    #[test]
    fn message_types_are_found_by_their_code() {
        for kind in MessageType::ALL {
            assert_eq!(MessageType::from_code(kind as u8), Some(kind));
        }
        for code in [0, 14, 99, 255] {
            assert_eq!(MessageType::from_code(code), None, "matrix row V-20");
        }
    }
}
