//! What a population is to do, and what it may find wrong.

use std::time::Duration;

use dhcp6_common::wire::MessageType;
use serde::Serialize;

use super::Relays;

/// Which messages an exchange has (RFC 9915, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Solicit, Advertise, Request, Reply.
    FourMessage,
    /// Solicit and Reply, both with Rapid Commit. A client whose server does not allow it goes on with a Request.
    RapidCommit,
}

/// When exchanges begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// When another one has ended, so that this many are outstanding.
    Window(u32),
    /// This many in a second, whether the others have ended or not.
    Rate(f64),
    /// All at once, as after a power cut. With the initial delay each client waits for a random time of up to
    /// SOL_MAX_DELAY, one second, before its first Solicit (RFC 9915, section 18.2.1).
    Storm {
        /// Whether clients wait.
        initial_delay: bool,
    },
}

/// What clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// An address (IA_NA).
    Address,
    /// A delegated prefix (IA_PD).
    Prefix,
    /// One of each.
    Both,
}

impl Ask {
    /// Whether an address is asked for.
    pub fn address(self) -> bool {
        self != Self::Prefix
    }

    /// Whether a prefix is asked for.
    pub fn prefix(self) -> bool {
        self != Self::Address
    }
}

/// What a client does when it has its lease, as a part of the same exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Has the lease renewed by the server that gave it (RFC 9915, section 18.2.4).
    Renew,
    /// Has the lease renewed by any server (section 18.2.5).
    Rebind,
    /// Gives everything back (section 18.2.7).
    Release,
    /// Says that somebody else uses the address (section 18.2.8).
    Decline,
    /// Asks for options alone (section 18.2.6).
    InformationRequest,
}

impl Step {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Renew, Self::Rebind, Self::Release, Self::Decline, Self::InformationRequest];

    /// The message that takes it.
    pub(super) fn message(self) -> MessageType {
        match self {
            Self::Renew => MessageType::Renew,
            Self::Rebind => MessageType::Rebind,
            Self::Release => MessageType::Release,
            Self::Decline => MessageType::Decline,
            Self::InformationRequest => MessageType::InformationRequest,
        }
    }

    /// Whether the client has to have something for it.
    pub(super) fn needs_lease(self) -> bool {
        self != Self::InformationRequest
    }
}

/// What clients that have a lease do when it is their turn again, in hundredths of their turns. Otherwise they begin
/// with a Solicit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mix(Vec<(Step, u8)>);

impl Mix {
    /// A mix of these steps.
    ///
    /// # Errors
    ///
    /// Where they are more than 100 hundredths, or a step is named twice.
    pub fn new(shares: Vec<(Step, u8)>) -> Result<Self, MixError> {
        let sum: u32 = shares.iter().map(|(_, share)| u32::from(*share)).sum();
        if sum > 100 {
            return Err(MixError::TooMuch(sum));
        }
        let twice =
            shares.iter().enumerate().find(|(n, (step, _))| shares[..*n].iter().any(|it| it.0 == *step));
        match twice {
            Some((_, (step, _))) => Err(MixError::Twice(step.message().name())),
            None => Ok(Self(shares)),
        }
    }

    /// Whether clients always begin with a Solicit.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The step that a number from 0 to 99 stands for.
    pub(super) fn pick(&self, mut number: u8) -> Option<Step> {
        for (step, share) in &self.0 {
            if number < *share {
                return Some(*step);
            }
            number -= share;
        }
        None
    }
}

/// Why shares are no [`Mix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MixError {
    /// They are more than everything.
    #[error("the shares are {0} hundredths together; they may be 100")]
    TooMuch(u32),
    /// A step is named twice.
    #[error("{0} has two shares")]
    Twice(&'static str),
}

/// What a population does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many clients there are.
    pub clients: u32,
    /// What they do.
    pub mode: Mode,
    /// What they ask for.
    pub ask: Ask,
    /// Whether they wait for all offers and take that of the server with the highest preference (RFC 9915, section
    /// 18.2.1). Otherwise they take the first.
    pub by_preference: bool,
    /// The relay agents that they are behind, if any.
    pub relays: Option<Relays>,
    /// What they do then, in this order.
    pub then: Vec<Step>,
    /// What they do when it is their turn again and they have a lease.
    pub mix: Mix,
    /// Whether they look for others on the link that use the address that they are given, and for how long they wait
    /// for an answer (duplicate address detection, RFC 4862, section 5.4).
    pub dad: Option<Duration>,
    /// When they do it.
    pub pace: Pace,
    /// For how long they begin again when all have had their turn; `None` for one exchange each.
    pub duration: Option<Duration>,
    /// When a run with one exchange each is over, complete or not.
    pub patience: Duration,
    /// The most DHCPv6 messages that are sent.
    pub messages: u64,
}

/// What is wrong with a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// UDP checksum.
    Checksum,
    /// The lengths of frame, IPv6 payload and UDP datagram contradict each other, or there is no DHCPv6 header.
    Length,
    /// MAC address and address are not of the same client.
    Destination,
    /// The Relay-reply does not fit the Relay-forward, or there is none and should be one.
    Relay,
    /// The options do not fit, or one is repeated that must not be.
    Malformed,
    /// Neither Advertise nor Reply, or not the one that the client waits for.
    MessageType,
    /// The client has never sent this transaction identifier.
    TransactionId,
    /// No Client Identifier, or another client's.
    ClientId,
    /// No valid Server Identifier, or not that of the server that was asked.
    ServerId,
    /// Rapid Commit is there and must not be, or the other way round.
    RapidCommit,
    /// Not exactly one IA_NA, or one that is not the client's, or that has neither an address nor a status.
    IaNa,
    /// The same of an IA_PD and a prefix.
    IaPd,
    /// The preferred lifetime is behind the valid one, or T1 behind T2.
    Lifetimes,
    /// The address or prefix is leased to another client.
    DuplicateAddress,
    /// The client has another address or prefix, and its lease goes on.
    AddressChanged,
}

impl Wrong {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Checksum,
        Self::Length,
        Self::Destination,
        Self::Relay,
        Self::Malformed,
        Self::MessageType,
        Self::TransactionId,
        Self::ClientId,
        Self::ServerId,
        Self::RapidCommit,
        Self::IaNa,
        Self::IaPd,
        Self::Lifetimes,
        Self::DuplicateAddress,
        Self::AddressChanged,
    ];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checksum => "checksum",
            Self::Length => "length",
            Self::Destination => "destination",
            Self::Relay => "relay",
            Self::Malformed => "malformed",
            Self::MessageType => "message_type",
            Self::TransactionId => "transaction_id",
            Self::ClientId => "client_id",
            Self::ServerId => "server_id",
            Self::RapidCommit => "rapid_commit",
            Self::IaNa => "ia_na",
            Self::IaPd => "ia_pd",
            Self::Lifetimes => "lifetimes",
            Self::DuplicateAddress => "duplicate_address",
            Self::AddressChanged => "address_changed",
        }
    }
}
