//! Why a message is not answered.

macro_rules! reasons {
    ($(#[doc = $doc:literal] $variant:ident = $name:literal, $advice:literal;)+) => {
        /// Why a message is not answered. The first three and the last five are the daemon's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason {
            $(#[doc = $doc] $variant,)+
        }

        impl DropReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in counters and JSON.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// One line for operators.
            pub fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => $doc.trim_ascii(),)+
                }
            }

            /// What an operator does where the number of these is high.
            pub fn advice(self) -> &'static str {
                match self {
                    $(Self::$variant => $advice,)+
                }
            }
        }
    };
}

reasons! {
    /// A frame to the clients' group that holds no UDP datagram from one host.
    BadFrame = "bad_frame", "Look for a broken or malicious sender.";
    /// A frame whose UDP checksum is wrong.
    BadChecksum = "bad_checksum", "Look for a broken sender, cable or NIC.";
    /// A client's message whose source is not a link-local address (RFC 9915, section 18.2).
    SourceNotLinkLocal = "source_not_link_local", "Look for a broken client.";
    /// Shorter than type and transaction identifier.
    TooShort = "too_short", "Look for a broken or malicious sender.";
    /// A message type that RFC 9915 does not define.
    UnknownType = "unknown_type", "Nothing, unless it is many: see what the senders want.";
    /// An option reaches beyond the end of what contains it, or is shorter than its fields.
    Malformed = "malformed", "Look for a broken or malicious sender.";
    /// A message that only clients or relay agents take.
    NotForServers = "not_for_servers", "Look for a second server or a malicious sender on the link.";
    /// A Relay-forward without a message in it.
    NoRelayMessage = "no_relay_message", "Look for a broken relay agent.";
    /// A message that has passed more relay agents than the protocol allows.
    TooManyRelays = "too_many_relays", "Look for a loop of relay agents.";
    /// From a link that is not configured.
    UnknownLink = "unknown_link", "Compare the relay agent's link-address, or the VLAN, with the configured links.";
    /// Not sent to a multicast address.
    Unicast = "unicast", "Nothing: RFC 9915 has clients send to the multicast address.";
    /// No Client Identifier.
    NoClientId = "no_client_id", "Look for a broken client.";
    /// A Client Identifier that is empty or longer than 130 octets.
    BadClientId = "bad_client_id", "Look for a broken client.";
    /// An option that must stand alone occurs more than once.
    RepeatedOption = "repeated_option", "Look for a broken client.";
    /// A Server Identifier where none may be.
    ServerIdPresent = "server_id_present", "Look for a broken client.";
    /// No Server Identifier where one must be.
    NoServerId = "no_server_id", "Look for a broken client.";
    /// For another server.
    OtherServer = "other_server", "Nothing, where there is another server on the link.";
    /// An Information-request with an IA.
    IaInInformationRequest = "ia_in_information_request", "Look for a broken client.";
    /// A Confirm without an address.
    NothingToConfirm = "nothing_to_confirm", "Look for a broken client.";
    /// More IAs, or addresses and prefixes in them, than an answer could hold.
    TooManyIas = "too_many_ias", "Look for a malicious client.";
    /// The link tells clients apart by their MAC addresses, and the one of this client is not known.
    UnknownMac = "unknown_mac", "Give the daemon CAP_NET_RAW; have relay agents report MAC addresses (RFC 6939).";
    /// The link serves clients with a reservation only, and this one has none.
    RefusedByPolicy = "refused_by_policy", "Add a reservation, or remove `reserved_only`, if the client is to be served.";
    /// A message that waited, among many, until its client repeated it, gave up what it asked for, or gave up.
    Stale = "stale", "The daemon cannot keep up: see whether there is a storm (it passes) or a flood.";
    /// Too many messages of its class waited already.
    QueueFull = "queue_full", "The daemon cannot keep up: see whether there is a storm (it passes) or a flood; lower `strangers`.";
    /// A Release that waited until the fast path granted the lease anew.
    Outdated = "outdated", "Nothing: the client has come back meanwhile.";
    /// Nothing may be promised while the store does not commit.
    StoreFailed = "store_failed", "See `dhcp6ctl status`: the disk is full, failing or hanging.";
    /// The answer could not be sent.
    SendFailed = "send_failed", "See whether the interface is up; without CAP_NET_RAW, raise net.ipv6.neigh.default.gc_thresh3.";
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use dhcp6_common::{Reason, Verdict};

    use super::DropReason;

    /// `docs/reasons.md`, as it is to be.
    fn document() -> String {
        let mut text = String::from(
            "# Reasons\n\nEach frame that the XDP program sees, and each message that the daemon receives, ends in exactly one \
             counter (`dhcp6ctl stats`,\n`/metrics`). This table is checked against the code.\n",
        );
        let mut table = |title: &str, rows: &[(&str, &str, &str)]| {
            write!(
                text,
                "\n## {title}\n\n| Name | What it means | What to do where it is high |\n|---|---|---|\n"
            )
            .unwrap();
            for (name, description, advice) in rows {
                writeln!(text, "| `{name}` | {description} | {advice} |").unwrap();
            }
        };
        for (title, verdict) in [
            ("Fast path: answered", Verdict::Answered),
            ("Fast path: passed on to the network stack and the daemon", Verdict::Passed),
            ("Fast path: dropped", Verdict::Dropped),
        ] {
            let of_verdict = Reason::ALL.iter().filter(|reason| reason.verdict() == verdict);
            let rows: Vec<_> =
                of_verdict.map(|reason| (reason.name(), reason.description(), reason.advice())).collect();
            table(title, &rows);
        }
        let rows =
            DropReason::ALL.iter().map(|reason| (reason.name(), reason.description(), reason.advice()));
        table("Slow path: dropped", &rows.collect::<Vec<_>>());
        text
    }

    #[test]
    fn every_reason_is_documented() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reasons.md");
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(found, document(), "write it anew: WRITE_DOCS=1 cargo test -p dhcp6-userspace documented");
    }
}
