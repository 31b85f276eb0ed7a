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
    ($($(#[doc = $doc:literal])+ $variant:ident = $verdict:ident, $name:literal, $advice:literal;)+) => {
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

            /// What an operator does where the number of these is high.
            pub const fn advice(self) -> &'static str {
                match self {
                    $(Self::$variant => $advice,)+
                }
            }
        }
    };
}

reasons! {
    /// A Reply was sent by the XDP program.
    Answered = Answered, "answered", "Nothing: this is what it is for.";
    /// Not IPv6, or behind more than two VLAN tags.
    NotIpv6 = Passed, "not_ipv6", "Nothing: other traffic of the interface.";
    /// IPv6, but not UDP to port 547.
    NotDhcpv6 = Passed, "not_dhcpv6", "Nothing: other traffic of the interface.";
    /// To port 547, but not to ff02::1:2: from relay agents elsewhere, or on its way through this router.
    NotMulticast = Passed, "not_multicast", "Nothing.";
    /// No link is configured for the interface and VLAN.
    NoLink = Passed, "no_link", "Add a `[[link]]` if the VLAN is to be served.";
    /// The link does not allow the two-message exchange.
    RapidCommitOff = Passed, "rapid_commit_off", "Set `rapid_commit = true` for the link.";
    /// The lengths of frame, IPv6 payload and UDP datagram do not agree, or leave no room for a message.
    BadLength = Dropped, "bad_length", "Look for a broken or malicious sender (`tcpdump -i IF udp port 547`).";
    /// The source of a client's message is not a link-local address, or its MAC address is that of a group.
    SourceNotLinkLocal = Dropped, "source_not_link_local", "Look for a broken client: RFC 9915 requires link-local.";
    /// A message of a type that clients and relay agents do not send to servers.
    NotForServers = Dropped, "not_for_servers", "Look for a second server or a malicious sender on the link.";
    /// The UDP checksum is wrong or absent.
    BadChecksum = Dropped, "bad_checksum", "Look for a broken sender, cable or NIC.";
    /// An option reaches beyond the end of the message.
    Malformed = Dropped, "malformed", "Look for a broken or malicious sender.";
    /// A message of another type than Solicit.
    NotSolicit = Passed, "not_solicit", "Nothing: the daemon answers these.";
    /// More options, or a longer message, than the program reads.
    TooLong = Passed, "too_long", "Nothing, unless it is many: see what the clients send.";
    /// No Client Identifier, or one of an impossible length.
    NoClientId = Passed, "no_client_id", "Look for a broken client.";
    /// No Rapid Commit option.
    NoRapidCommit = Passed, "no_rapid_commit", "Have the clients ask for Rapid Commit, if they can.";
    /// Neither an IA_NA nor an IA_PD.
    NoIa = Passed, "no_ia", "Nothing.";
    /// An option that must stand alone occurs more than once; more than one IA of a kind.
    RepeatedOption = Passed, "repeated_option", "Nothing: the daemon answers clients with several IAs.";
    /// An option that the daemon has to judge.
    UnhandledOption = Passed, "unhandled_option", "Nothing, unless it is many: see what the clients send.";
    /// An option whose length or content the daemon has to judge.
    UnhandledValue = Passed, "unhandled_value", "Nothing, unless it is many: see what the clients send.";
    /// A requested option that the program cannot render.
    UnhandledRequest = Passed, "unhandled_request",
        "Configure at most six options per link, and shorter ones, if they are requested often.";
    /// No binding of this client on this link, VLAN and, with `bind_to_mac`, MAC address.
    UnknownClient = Passed, "unknown_client", "Nothing: the daemon answers new clients.";
    /// The client is known, but not with all of the IAs that it asks for.
    OtherIa = Passed, "other_ia", "Nothing: the daemon answers, and the kernel knows the client's latest IAs.";
    /// The grant horizon of the binding has passed.
    HorizonPassed = Passed, "horizon_passed", "Make `[fast_path] horizon` longer than t1; see whether the store works.";
    /// The binding was replaced while the program read it.
    BindingReplaced = Passed, "binding_replaced", "Nothing: rare, and answered by the daemon.";
    /// The driver gave no room for the Reply.
    NoRoom = Passed, "no_room", "Send fewer or shorter options to these clients.";
    /// Would have been dropped for what it is, but admission control is off.
    Unpoliced = Passed, "unpoliced", "Switch `[fast_path.admission]` on.";
    /// More from one source (MAC address and VLAN) than it may send.
    SourceLimit = Dropped, "source_limit",
        "Look for the sender; raise `per_source` where many clients share a MAC address.";
    /// A Solicit that its source has repeated at once, before any client retransmits.
    Retransmission = Dropped, "retransmission", "Nothing; look for a loop in the network if it is many.";
    /// More messages of clients that the kernel does not know than the daemon is to see.
    StrangerLimit = Dropped, "stranger_limit",
        "In a storm nothing: the clients come again. Else look for a flood; raise `strangers` if the daemon can take it.";
    /// More messages of clients that the kernel knows than the daemon is to see.
    ClientLimit = Dropped, "client_limit", "Look for a flood; raise `clients` if the daemon can take it.";
    /// More messages from relay agents than the daemon is to see.
    RelayLimit = Dropped, "relay_limit", "Raise `relayed` if the daemon can take it.";
    /// A check that cannot fail has failed after the frame was rewritten.
    Internal = Dropped, "internal", "Report it: this is a bug.";
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
            assert!(!reason.description().is_empty() && !reason.advice().is_empty());
        }
    }
}
