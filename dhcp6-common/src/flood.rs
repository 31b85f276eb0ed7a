//! What the load generator's XDP programs and dhcp6flood have to agree on.
//!
//! The generator writes one frame after the other, each from another client; the receiver counts and checks the
//! replies. Every frame is the template with its client's number put into it.

/// Name of the generating program in the object.
pub const GENERATOR: &str = "generate";
/// Name of the receiving program in the object.
pub const RECEIVER: &str = "receive";
/// Array with one element: the template, [`TEMPLATE_LEN`] octets.
pub const TEMPLATE: &str = "TEMPLATE";
/// Per-CPU array of `u64`: frames generated, by [`Class`].
pub const GENERATED: &str = "GENERATED";
/// Per-CPU array of `u64`: frames received, by message type and, above [`FIRST_FINDING`], by [`Finding`].
pub const RECEIVED: &str = "RECEIVED";
/// Per-CPU array of `u64`: replies by [`latency_class`].
pub const LATENCIES: &str = "LATENCIES";

/// Name of the global with the index of the interface that frames leave by.
pub const INTERFACE_GLOBAL: &str = "INTERFACE";
/// Name of the global with the number of known clients.
pub const CLIENTS_GLOBAL: &str = "CLIENTS";
/// Name of the global with the number of the first unknown client, without the bits of its class.
pub const FIRST_STRANGER_GLOBAL: &str = "FIRST_STRANGER";
/// Name of the global with the share of unknown clients, in hundredths.
pub const UNKNOWN_GLOBAL: &str = "UNKNOWN";
/// Name of the global with the share of malformed frames, in hundredths.
pub const MALFORMED_GLOBAL: &str = "MALFORMED";
/// Name of the global that has known clients come in random order (1), or one after the other (0). In random order the
/// transaction identifiers are the frames' numbers, and say nothing of the time, which takes long to read.
pub const RANDOM_GLOBAL: &str = "RANDOM";
/// Name of the global with the folded sum of the template, as [`crate::wire::Sum::from_folded`] takes it: that of
/// the UDP datagram and its pseudo-header, with zeros wherever the generator writes.
pub const SUM_GLOBAL: &str = "SUM";

/// Octets of a frame.
pub const TEMPLATE_LEN: usize = 114;
/// Octets behind the template in a frame that is handed to the generator. It cuts them off: the kernel restores the
/// length of a frame that came back with another one only where the generator changes it, too.
pub const TAIL_LEN: usize = 4;

/// One reply of so many is passed on to dhcp6flood, which reads it to its last octet. A power of two.
pub const SAMPLE: u32 = 64;

/// The first octets of every client's MAC address; its number follows in network byte order. A locally administered
/// prefix, so that no network card has it.
pub const MAC_PREFIX: [u8; 2] = [0x02, 0xd6];
/// Set in an IAID where the client's number is not: what tells them apart.
pub const IAID_MASK: u32 = 0x5a00_0000;

/// Octets of the frame that the client's number, or a part of it, is put into.
pub mod offset {
    /// The four last octets of the source MAC address.
    pub const MAC: usize = 8;
    /// The first octet of the number in the source address; the second follows at [`ADDRESS_REST`].
    pub const ADDRESS: usize = 32;
    /// The other three octets of the number in the source address.
    pub const ADDRESS_REST: usize = 35;
    /// The length of the UDP datagram.
    pub const UDP_LEN: usize = 58;
    /// The UDP checksum.
    pub const CHECKSUM: usize = 60;
    /// The message type and the transaction identifier.
    pub const MESSAGE: usize = 62;
    /// The four last octets of the DUID, which are those of the MAC address.
    pub const DUID: usize = 76;
    /// The IAID of the IA_NA.
    pub const IAID: usize = 84;
    /// The length of the last option, Option Request.
    pub const LAST_OPTION_LEN: usize = 108;
}

/// What a generated frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Class {
    /// From a client that has its turn again and again.
    Known,
    /// From a client that has not been heard of before.
    Unknown,
    /// Damaged, and from a client that sends nothing else.
    Malformed,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 3] = [Self::Known, Self::Unknown, Self::Malformed];
    /// The bits of a client's number that follow from its class.
    pub const BITS: u32 = 0xc000_0000;

    /// The class of a client, by its number.
    #[inline]
    pub fn of(number: u32) -> Self {
        match number & Self::BITS {
            0xc000_0000 => Self::Malformed,
            0x8000_0000 => Self::Unknown,
            _ => Self::Known,
        }
    }

    /// The bits of a client's number in this class.
    #[inline]
    pub fn bits(self) -> u32 {
        match self {
            Self::Known => 0,
            Self::Unknown => 0x8000_0000,
            Self::Malformed => 0xc000_0000,
        }
    }
}

/// How a malformed frame is damaged, by the number of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Damage {
    /// A wrong UDP checksum.
    Checksum,
    /// A UDP datagram that is longer than the IPv6 payload.
    Length,
    /// An option that reaches beyond the end of the message, under a correct checksum.
    Option,
    /// A frame that ends before its IPv6 payload does.
    Truncated,
}

impl Damage {
    /// Octets that a truncated frame lacks.
    pub const LACKING: usize = 7;
    /// What is written as the length of the option that is too long.
    pub const OPTION_LEN: u16 = 0xff;

    /// The damage of a client's frames.
    #[inline]
    pub fn of(number: u32) -> Self {
        match number % 4 {
            0 => Self::Checksum,
            1 => Self::Length,
            2 => Self::Option,
            _ => Self::Truncated,
        }
    }
}

/// Why a received frame is not counted as a reply of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Finding {
    /// To a MAC address that is no client's of this run.
    Foreign,
    /// MAC address and address are not of the same client.
    Destination,
    /// The lengths of frame, IPv6 payload and UDP datagram contradict each other.
    Length,
    /// The transaction identifier is none that the client has sent within [`LONGEST_LATENCY_US`].
    TransactionId,
    /// To a client that sends datagrams only that must not reach a server.
    ToMalformed,
    /// To a client that sends messages with an option that is too long ([`Damage::Option`]), whose other options a
    /// server may have believed.
    ToMalformedOption,
    /// A type that no server sends to a client.
    MessageType,
}

impl Finding {
    /// Every finding.
    pub const ALL: [Self; 7] = [
        Self::Foreign,
        Self::Destination,
        Self::Length,
        Self::TransactionId,
        Self::ToMalformed,
        Self::ToMalformedOption,
        Self::MessageType,
    ];
}

/// Index of the first [`Finding`] in [`RECEIVED`]; message types are below.
pub const FIRST_FINDING: u32 = 16;
/// Elements of [`RECEIVED`].
pub const RECEIVED_LEN: u32 = FIRST_FINDING + Finding::ALL.len() as u32;

/// A transaction identifier is the time at which it was sent, in microseconds of CLOCK_MONOTONIC, modulo 2^24.
#[inline]
pub fn transaction_id(nanoseconds: u64) -> u32 {
    (nanoseconds / 1000) as u32 & 0x00ff_ffff
}

/// Microseconds from when a message with this transaction identifier was sent to now.
#[inline]
pub fn latency_us(transaction_id: u32, now_nanoseconds: u64) -> u32 {
    self::transaction_id(now_nanoseconds).wrapping_sub(transaction_id) & 0x00ff_ffff
}

/// An answer that takes longer, in microseconds, cannot be told from one that nobody has asked for.
pub const LONGEST_LATENCY_US: u32 = 4 << 20;
/// Elements of [`LATENCIES`].
pub const LATENCY_CLASSES: u32 = 4 * 24;

/// The class that a latency in microseconds, below 2^24, is counted in: four for each power of two.
#[inline]
pub fn latency_class(us: u32) -> u32 {
    if us < 4 {
        return us;
    }
    let log = us.ilog2();
    4 * (log - 1) + (us >> (log - 2) & 3)
}

/// The latency in microseconds below which those in a class are.
pub fn latency_class_end(class: u32) -> u32 {
    if class < 4 {
        return class + 1;
    }
    let log = class / 4 + 1;
    (4 + class % 4 + 1) << (log - 2)
}

#[cfg(test)]
mod tests {
    use super::{Class, LATENCY_CLASSES, latency_class, latency_class_end, latency_us, transaction_id};

    #[test]
    fn classes_of_latencies_follow_each_other() {
        let mut class = 0;
        for us in 0..1 << 24 {
            let next = latency_class(us);
            assert!(next == class || next == class + 1, "{us}: {next} after {class}");
            class = next;
            assert!(us < latency_class_end(class), "{us} in class {class}");
            assert!(class == 0 || us >= latency_class_end(class - 1), "{us} in class {class}");
        }
        assert!(class < LATENCY_CLASSES);
    }

    #[test]
    fn a_transaction_identifier_tells_the_latency() {
        for sent in [0, 1_000_000, u64::from(u32::MAX) * 1000, (1 << 24) * 1000 - 1] {
            for us in [0, 1, 999, 4_000_000] {
                assert_eq!(latency_us(transaction_id(sent), sent + us * 1000), us as u32, "{sent} {us}");
            }
        }
    }

    #[test]
    fn numbers_tell_their_class() {
        for class in Class::ALL {
            assert_eq!(Class::of(class.bits() | 0x1234_5678), class);
        }
    }
}
