//! What clients ask for, and what is between them and the server.

use anyhow::Result;
use dhcp6_userspace::pool::IaKind;
use tests::netns::{RelayedWire, Wire};

/// What a client asks for, directly or through relay agents.
pub(crate) struct Session {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// The identity associations.
    pub(crate) ias: &'static [IaKind],
    /// How many relay agents are in between.
    pub(crate) relays: usize,
}

/// All of them, in the order of the table.
pub(crate) const SESSIONS: [Session; 5] = [
    Session { name: "IA_NA", ias: &[IaKind::Na], relays: 0 },
    Session { name: "IA_PD", ias: &[IaKind::Pd], relays: 0 },
    Session { name: "IA_NA + IA_PD", ias: &IaKind::ALL, relays: 0 },
    Session { name: "IA_NA + IA_PD, relayed", ias: &IaKind::ALL, relays: 1 },
    Session { name: "IA_NA + IA_PD, relayed twice", ias: &IaKind::ALL, relays: 2 },
];

impl Session {
    /// Whether the client asks for an address and for nothing else, directly.
    pub(crate) fn is_plain(&self) -> bool {
        self.ias == [IaKind::Na] && self.relays == 0
    }

    /// Whether the XDP program answers a client with Rapid Commit that it knows.
    pub(crate) fn is_answered_by_kernel(&self) -> bool {
        self.relays == 0
    }

    /// The name of the client's link.
    pub(crate) fn link(&self) -> &'static str {
        if self.relays == 0 { "access0" } else { "relayed" }
    }

    /// What a server's configuration has at the end where its links have these `keys`: a pool of prefixes, and
    /// the link that only relay agents reach.
    pub(crate) fn configuration(&self, keys: &str) -> String {
        let link = format!(
            r#"
[[link]]
name = "relayed"
prefix = "2001:db8:2::/64"
rapid_commit = true
{keys}

[[link.pool]]
range = "2001:db8:2::1000-2001:db8:2::ffff"

[link.options]
dns_servers = ["2001:db8::53"]
domain_search = ["example.net"]
"#
        );
        let pool = "[[link.prefix_pool]]\nprefix = \"2001:db8:8000::/36\"\ndelegated_length = 56\n";
        let link = if self.relays == 0 { "" } else { &link };
        let pool = if self.ias.contains(&IaKind::Pd) { pool } else { "" };
        format!("{link}\n{pool}")
    }
}

/// The network of a session.
pub(crate) enum Network {
    Direct(Wire),
    Relayed(RelayedWire),
}

impl Network {
    /// Makes it, with the relay agents at work.
    pub(crate) fn new(session: &Session) -> Result<Self> {
        if session.relays == 0 {
            return Ok(Self::Direct(Wire::new()?));
        }
        let wire = RelayedWire::new(session.relays)?;
        wire.start_relays()?;
        Ok(Self::Relayed(wire))
    }

    /// Where server and client are.
    pub(crate) fn ends(&self) -> &Wire {
        match self {
            Self::Direct(wire) => wire,
            Self::Relayed(wire) => &wire.ends,
        }
    }
}
