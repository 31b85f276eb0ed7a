//! The least reading of messages that the checks need, apart from the engine's own.

use std::net::Ipv6Addr;

use dhcp6_common::wire::{MESSAGE_HEADER_LEN, MalformedOption, OptionCode, OptionWalker, RawOption};

/// An IA_NA or IA_PD, of a client or of the server.
#[derive(Clone, Debug)]
pub(crate) struct Ia {
    pub(crate) iaid: u32,
    pub(crate) t1: u32,
    pub(crate) t2: u32,
    /// Address, preferred and valid lifetime.
    pub(crate) addresses: Vec<(Ipv6Addr, u32, u32)>,
    pub(crate) status: Option<u16>,
    /// Codes of the options in the IA that are neither of these.
    pub(crate) others: Vec<OptionCode>,
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
    for code in [OptionCode::IA_NA, OptionCode::IA_PD] {
        decoded.values(code).map(ia).collect::<Option<Vec<_>>>()?;
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

    /// The IAs of one kind, in the order of the message.
    pub(crate) fn ias(&self, code: OptionCode) -> Vec<Ia> {
        self.values(code).map(|value| ia(value).expect("decode has refused any other")).collect()
    }

    /// The IAs of one kind, of several with the same IAID the first.
    pub(crate) fn distinct_ias(&self, code: OptionCode) -> Vec<Ia> {
        let mut ias: Vec<Ia> = Vec::new();
        for ia in self.ias(code) {
            if ias.iter().all(|other| other.iaid != ia.iaid) {
                ias.push(ia);
            }
        }
        ias
    }

    /// Whether the Option Request option lists a code.
    pub(crate) fn requests(&self, code: OptionCode) -> bool {
        let listed = self.value(OptionCode::OPTION_REQUEST).unwrap_or_default();
        listed.chunks_exact(2).any(|pair| pair == code.0.to_be_bytes())
    }
}

/// RFC 9915, sections 21.4 and 21.21: the two have the same form.
fn ia(value: &[u8]) -> Option<Ia> {
    let (iaid, rest) = number(value)?;
    let (t1, rest) = number(rest)?;
    let (t2, nested) = number(rest)?;
    let mut ia = Ia { iaid, t1, t2, addresses: Vec::new(), status: None, others: Vec::new() };
    for option in OptionWalker::new(nested) {
        let RawOption { code, value } = option.ok()?;
        match code {
            OptionCode::IA_ADDRESS => ia.addresses.push(address(value)?),
            OptionCode::STATUS_CODE => ia.status = Some(u16::from_be_bytes(*value.first_chunk()?)),
            other => ia.others.push(other),
        }
    }
    Some(ia)
}

/// RFC 9915, section 21.6.
fn address(value: &[u8]) -> Option<(Ipv6Addr, u32, u32)> {
    let (address, rest) = value.split_first_chunk::<16>()?;
    let (preferred, rest) = number(rest)?;
    let (valid, _nested) = number(rest)?;
    Some(((*address).into(), preferred, valid))
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
