//! What a simulated client is doing.

use std::net::Ipv6Addr;

use rand::Rng;

use super::{Ask, Step, retransmission::Retransmission, shared::Resource};

/// Transaction identifiers have 24 bits.
const TRANSACTION_IDS: u32 = 1 << 24;
/// From one transaction identifier of a client to the next. It is odd, so no two of 2^24 messages share one, and
/// the number of a message can be had from its identifier.
const STEP: u32 = 0x009e_3779;

/// A server, by its number among those that a client has heard of.
pub(super) type Server = u16;

/// Times are nanoseconds from the start of the run.
#[derive(Debug)]
pub(super) struct Client {
    /// The transaction identifier of message number 0.
    first_transaction_id: u32,
    /// How many messages were begun; the last one's number is one less.
    pub(super) messages: u32,
    pub(super) exchange: Option<Exchange>,
    pub(super) lease: Option<Lease>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// When it was due.
    pub(super) due: u64,
    /// When the message that waits for an answer was first sent; `u64::MAX` before.
    pub(super) message_sent: u64,
    pub(super) retransmission: Retransmission,
    /// Messages that were sent again in the whole exchange.
    pub(super) retransmissions: u32,
    pub(super) stage: Stage,
    /// Of the offers that were collected so far, which are [`Stage::Collect`]'s.
    pub(super) preference: u8,
}

/// Which message of its exchange a client sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Solicit,
    /// A Solicit, while there is an offer already, the best so far.
    Collect(Offer),
    /// A Request for what a server has offered.
    Request(Offer),
    /// None, while it looks whether somebody else uses the address that it was given.
    Check(Ipv6Addr),
    /// The message of a step, which has this number among those that follow one another.
    Step(Step, u8),
}

impl Stage {
    /// Whether the client has sent a Solicit, and no other message since.
    pub(super) fn solicits(self) -> bool {
        matches!(self, Self::Solicit | Self::Collect(_))
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) server: Server,
    pub(super) resources: Resources,
}

/// An address, a delegated prefix and its length, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Resources {
    pub(super) address: Option<Ipv6Addr>,
    pub(super) prefix: Option<(Ipv6Addr, u8)>,
}

impl Resources {
    pub(super) fn is_empty(&self) -> bool {
        self.address.is_none() && self.prefix.is_none()
    }

    /// What has to be asked for to keep them.
    pub(super) fn ask(&self) -> Ask {
        match (self.address, self.prefix) {
            (_, None) => Ask::Address,
            (None, _) => Ask::Prefix,
            _ => Ask::Both,
        }
    }

    /// What is in either, as prefixes: an address is one of 128 bits.
    pub(super) fn prefixes(self) -> impl Iterator<Item = Resource> {
        self.address.map(|address| (address, 128)).into_iter().chain(self.prefix)
    }

    /// Whether something of these is not what the other ones have in its place.
    pub(super) fn contradict(&self, other: &Self) -> bool {
        fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.zip(other).is_some_and(|(one, other)| one != other)
        }
        differ(self.address, other.address) || differ(self.prefix, other.prefix)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) server: Server,
    pub(super) resources: Resources,
    pub(super) valid_until: u64,
    /// Until when others were told that the client has it.
    pub(super) held_until: u64,
}

impl Client {
    pub(super) fn new(rng: &mut impl Rng) -> Self {
        let first_transaction_id = rng.random_range(0..TRANSACTION_IDS);
        Self { first_transaction_id, messages: 0, exchange: None, lease: None }
    }

    /// The transaction identifier of a message.
    pub(super) fn transaction_id(&self, message: u32) -> u32 {
        self.first_transaction_id.wrapping_add(message.wrapping_mul(STEP)) % TRANSACTION_IDS
    }

    /// The number of the message with this transaction identifier, where the client has sent one.
    pub(super) fn message_of(&self, transaction_id: u32) -> Option<u32> {
        const INVERSE: u32 = inverse(STEP);
        let message =
            transaction_id.wrapping_sub(self.first_transaction_id).wrapping_mul(INVERSE) % TRANSACTION_IDS;
        (message < self.messages).then_some(message)
    }
}

/// The inverse of an odd number modulo 2^32, by Newton's method: each step doubles the bits that are right.
const fn inverse(odd: u32) -> u32 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::{Client, TRANSACTION_IDS};

    #[test]
    fn transaction_identifiers_tell_which_message_they_are_of() {
        let mut client = Client::new(&mut StdRng::seed_from_u64(1));
        client.messages = 100_000;
        for message in 0..client.messages {
            let transaction_id = client.transaction_id(message);
            assert!(transaction_id < TRANSACTION_IDS);
            assert_eq!(client.message_of(transaction_id), Some(message));
        }
        assert_eq!(client.message_of(client.transaction_id(client.messages)), None, "not sent yet");
        assert_eq!(client.message_of(client.transaction_id(u32::MAX)), None, "never sent");
    }
}
