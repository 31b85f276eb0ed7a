//! The least reading of messages that the checks need, apart from the engine's own.

use std::{collections::HashSet, net::Ipv6Addr};

use dhcp6_common::wire::{MESSAGE_HEADER_LEN, MalformedOption, OptionCode, OptionWalker, RawOption};
use dhcp6_userspace::pool::{IaKind, Prefix, Resource};

/// An IA_NA or IA_PD, of a client or of the server.
#[derive(Clone, Debug)]
pub(crate) struct Ia {
    pub(crate) kind: IaKind,
    pub(crate) iaid: u32,
    pub(crate) t1: u32,
    pub(crate) t2: u32,
    pub(crate) leases: Vec<Lease>,
    pub(crate) status: Option<u16>,
    /// Codes of the options in the IA that are neither of these, or are malformed.
    pub(crate) others: Vec<OptionCode>,
}

/// An address or prefix in an IA, with its lifetimes.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) resource: Resource,
    /// Whether a prefix has bits set behind its length.
    pub(crate) has_host_bits: bool,
    pub(crate) preferred: u32,
    pub(crate) valid: u32,
    /// What stands behind its fields.
    pub(crate) rest: Vec<u8>,
}

/// A message whose options, nested ones of IAs included, are well-formed.
#[derive(Clone, Debug)]
pub(crate) struct Decoded<'a> {
    pub(crate) kind: u8,
    pub(crate) transaction_id: [u8; 3],
    pub(crate) options: Vec<RawOption<'a>>,
}

/// Reads a message strictly; `None` where any part of it is malformed.
pub(crate) fn decode(message: &[u8]) -> Option<Decoded<'_>> {
    let ([kind, transaction_id @ ..], options) = message.split_first_chunk::<MESSAGE_HEADER_LEN>()?;
    let options: Result<Vec<_>, MalformedOption> = OptionWalker::new(options).collect();
    let decoded = Decoded { kind: *kind, transaction_id: *transaction_id, options: options.ok()? };
    for kind in IaKind::ALL {
        decoded.values(code_of(kind)).map(|value| ia(kind, value)).collect::<Option<Vec<_>>>()?;
    }
    Some(decoded)
}

impl<'a> Decoded<'a> {
    pub(crate) fn values(&self, code: OptionCode) -> impl Iterator<Item = &'a [u8]> {
        self.options.iter().filter(move |option| option.code == code).map(|option| option.value)
    }

    pub(crate) fn value(&self, code: OptionCode) -> Option<&'a [u8]> {
        self.values(code).next()
    }

    /// The IA_NAs, then the IA_PDs, each in the order of the message.
    pub(crate) fn ias(&self) -> Vec<Ia> {
        let of_kind = |kind| self.values(code_of(kind)).map(move |value| (kind, value));
        let values = IaKind::ALL.into_iter().flat_map(of_kind);
        values.map(|(kind, value)| ia(kind, value).expect("decode has refused any other")).collect()
    }

    /// The IAs, of several of a kind with the same IAID the first.
    pub(crate) fn distinct_ias(&self) -> Vec<Ia> {
        let mut seen = HashSet::new();
        self.ias().into_iter().filter(|ia| seen.insert((ia.kind, ia.iaid))).collect()
    }

    /// Whether the Option Request option lists a code.
    pub(crate) fn requests(&self, code: OptionCode) -> bool {
        let listed = self.value(OptionCode::OPTION_REQUEST).unwrap_or_default();
        listed.chunks_exact(2).any(|pair| pair == code.0.to_be_bytes())
    }
}

/// The code of the option for an IA.
pub(crate) fn code_of(kind: IaKind) -> OptionCode {
    match kind {
        IaKind::Na => OptionCode::IA_NA,
        IaKind::Pd => OptionCode::IA_PD,
    }
}

/// RFC 9915, sections 21.4 and 21.21: the two have the same form.
fn ia(kind: IaKind, value: &[u8]) -> Option<Ia> {
    let (iaid, rest) = number(value)?;
    let (t1, rest) = number(rest)?;
    let (t2, nested) = number(rest)?;
    let mut ia = Ia { kind, iaid, t1, t2, leases: Vec::new(), status: None, others: Vec::new() };
    for option in OptionWalker::new(nested) {
        let RawOption { code, value } = option.ok()?;
        match (kind, code) {
            (IaKind::Na, OptionCode::IA_ADDRESS) => ia.leases.push(address(value)?),
            // Without the prefix it is no more than a wish for a length (RFC 8168).
            (IaKind::Pd, OptionCode::IA_PREFIX) => {
                ia.leases.extend(
                    Some(prefix(value)?).filter(|lease| !lease.resource.range().first().is_unspecified()),
                );
            }
            (_, OptionCode::STATUS_CODE) if value.len() >= 2 => {
                ia.status = value.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
            (_, other) => ia.others.push(other),
        }
    }
    Some(ia)
}

/// RFC 9915, section 21.6.
fn address(value: &[u8]) -> Option<Lease> {
    let (address, rest) = value.split_first_chunk::<16>()?;
    let (preferred, rest) = number(rest)?;
    let (valid, rest) = number(rest)?;
    let resource = Resource::Address((*address).into());
    Some(Lease { resource, has_host_bits: false, preferred, valid, rest: rest.to_vec() })
}

/// RFC 9915, section 21.22.
fn prefix(value: &[u8]) -> Option<Lease> {
    let (preferred, rest) = number(value)?;
    let (valid, rest) = number(rest)?;
    let (length, rest) = rest.split_first()?;
    let (address, rest) = rest.split_first_chunk::<16>()?;
    let address = Ipv6Addr::from(*address);
    let prefix = Prefix::around(address, *length)?;
    let has_host_bits = prefix.first() != address;
    Some(Lease { resource: prefix.into(), has_host_bits, preferred, valid, rest: rest.to_vec() })
}

fn number(octets: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = octets.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

/// Appends an option.
pub(crate) fn put(octets: &mut Vec<u8>, code: u16, value: &[u8]) {
    octets.extend(code.to_be_bytes());
    octets.extend((value.len() as u16).to_be_bytes());
    octets.extend(value);
}
