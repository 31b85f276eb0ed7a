//! Why a frame ended as it did: the index of the XDP program's counters.

/// What the XDP program did with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Answered with a Reply out of the same interface (XDP_TX).
    Answered,
    /// Handed to the network stack as it arrived (XDP_PASS).
    Passed,
    /// Discarded (XDP_DROP, XDP_ABORTED).
    Dropped,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $verdict:ident, $name:literal;)+) => {
        /// The reason that a frame is counted under. Each frame ends in exactly one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// What happens to a frame that is counted under this reason.
            pub const fn verdict(self) -> Verdict {
                match self {
                    $(Self::$variant => Verdict::$verdict,)+
                }
            }

            /// The name in counters and JSON.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// One line for operators.
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

reasons! {
    /// A Reply was sent by the XDP program.
    Answered = Answered, "answered";
    /// Not IPv6, or behind a VLAN tag.
    NotIpv6 = Passed, "not_ipv6";
    /// IPv6, but not UDP to port 547.
    NotDhcpv6 = Passed, "not_dhcpv6";
    /// The program has no link configured for the interface.
    NoLink = Passed, "no_link";
    /// The link does not allow the two-message exchange.
    RapidCommitOff = Passed, "rapid_commit_off";
    /// Not sent to ff02::1:2.
    NotMulticast = Passed, "not_multicast";
    /// The source is not a link-local address.
    SourceNotLinkLocal = Passed, "source_not_link_local";
    /// The lengths of frame, IPv6 payload and UDP datagram do not agree.
    BadLength = Passed, "bad_length";
    /// The UDP checksum is wrong or absent.
    BadChecksum = Passed, "bad_checksum";
    /// A message of another type than Solicit.
    NotSolicit = Passed, "not_solicit";
    /// An option reaches beyond the end of the message.
    Malformed = Passed, "malformed";
    /// More options, or a longer message, than the program reads.
    TooLong = Passed, "too_long";
    /// No Client Identifier, or one of an impossible length.
    NoClientId = Passed, "no_client_id";
    /// No Rapid Commit option.
    NoRapidCommit = Passed, "no_rapid_commit";
    /// No IA_NA.
    NoIaNa = Passed, "no_ia_na";
    /// An option that must stand alone occurs more than once.
    RepeatedOption = Passed, "repeated_option";
    /// An option that the daemon has to judge.
    UnhandledOption = Passed, "unhandled_option";
    /// An option whose length or content the daemon has to judge.
    UnhandledValue = Passed, "unhandled_value";
    /// A requested option that the program cannot render.
    UnhandledRequest = Passed, "unhandled_request";
    /// No binding of this DUID on this link.
    UnknownClient = Passed, "unknown_client";
    /// The client is known with another IAID.
    OtherIaid = Passed, "other_iaid";
    /// The grant horizon of the binding has passed.
    HorizonPassed = Passed, "horizon_passed";
    /// The binding was replaced while the program read it.
    BindingReplaced = Passed, "binding_replaced";
    /// The driver gave no room for the Reply.
    NoRoom = Passed, "no_room";
    /// A check that cannot fail has failed after the frame was rewritten.
    Internal = Dropped, "internal";
}

impl Reason {
    /// How many reasons there are, and so counters per interface.
    pub const COUNT: usize = Self::ALL.len();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Reason;

    #[test]
    fn reasons_index_their_own_place_and_have_names_of_their_own() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Reason::COUNT);
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(!reason.description().is_empty());
        }
    }
}
