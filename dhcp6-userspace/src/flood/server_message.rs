//! Advertise and Reply, read without mercy.

use std::net::Ipv6Addr;

use dhcp6_common::wire::{
    Duid, IA_ADDRESS_HEADER_LEN, IA_NA_HEADER_LEN, MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker,
    StatusCode,
};

use super::Wrong;

/// A server's message that is well-formed.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerMessage<'a> {
    /// The type's code.
    pub(super) kind: u8,
    pub(super) transaction_id: u32,
    pub(super) client_id: Option<&'a [u8]>,
    pub(super) server_id: Option<Duid>,
    pub(super) rapid_commit: bool,
    /// Of the whole message.
    pub(super) status: Option<u16>,
    pub(super) ia_na: Vec<IaNa>,
}

/// An IA_NA of a server's message.
#[derive(Clone, Debug)]
pub(super) struct IaNa {
    pub(super) iaid: u32,
    pub(super) addresses: Vec<IaAddress>,
    pub(super) status: Option<u16>,
}

/// An IA Address of a server's message.
#[derive(Clone, Copy, Debug)]
pub(super) struct IaAddress {
    pub(super) address: Ipv6Addr,
    /// In seconds.
    pub(super) valid: u32,
    pub(super) status: Option<u16>,
}

impl<'a> ServerMessage<'a> {
    /// Reads a message to its last octet.
    ///
    /// # Errors
    ///
    /// [`Wrong::Length`] where there is no header, [`Wrong::ServerId`] for one that is no DUID, and
    /// [`Wrong::Malformed`] for options that do not fit in what contains them, have a wrong length, or are
    /// repeated where they must not be.
    pub(super) fn read(octets: &'a [u8]) -> Result<Self, Wrong> {
        let Some((header, options)) = octets.split_first_chunk::<MESSAGE_HEADER_LEN>() else {
            return Err(Wrong::Length);
        };
        let [kind, a, b, c] = *header;
        let mut message = Self { kind, transaction_id: u32::from_be_bytes([0, a, b, c]), ..Self::default() };
        for option in OptionWalker::new(options) {
            let option = option.map_err(|_| Wrong::Malformed)?;
            match option.code {
                OptionCode::CLIENT_ID => once(&mut message.client_id, option.value)?,
                OptionCode::SERVER_ID => {
                    let duid = Duid::new(option.value).map_err(|_| Wrong::ServerId)?;
                    once(&mut message.server_id, duid)?;
                }
                OptionCode::STATUS_CODE => once(&mut message.status, read_status(option.value)?)?,
                OptionCode::PREFERENCE if option.value.len() != 1 => return Err(Wrong::Malformed),
                OptionCode::RAPID_COMMIT => {
                    if message.rapid_commit || !option.value.is_empty() {
                        return Err(Wrong::Malformed);
                    }
                    message.rapid_commit = true;
                }
                OptionCode::IA_NA => message.ia_na.push(read_ia_na(option.value)?),
                _ => {}
            }
        }
        Ok(message)
    }

    /// Whether the type is this one.
    pub(super) fn is(&self, kind: MessageType) -> bool {
        self.kind == kind as u8
    }

    /// The address for the IA_NA of a client, or else the status that says why there is none.
    ///
    /// # Errors
    ///
    /// [`Wrong::IaNa`] where there is neither.
    pub(super) fn lease(&self, iaid: u32) -> Result<Result<IaAddress, u16>, Wrong> {
        let ia_na = match &self.ia_na[..] {
            [ia_na] if ia_na.iaid == iaid => ia_na,
            [] => return refusal(self.status).map(Err).ok_or(Wrong::IaNa),
            _ => return Err(Wrong::IaNa),
        };
        if let Some(status) = refusal(ia_na.status) {
            return Ok(Err(status));
        }
        let mut addresses = ia_na.addresses.iter();
        // An address with a valid lifetime of 0 is one to stop using.
        if let Some(address) =
            addresses.find(|address| address.valid > 0 && refusal(address.status).is_none())
        {
            return Ok(Ok(*address));
        }
        let mut statuses = ia_na.addresses.iter().map(|address| address.status).chain([self.status]);
        statuses.find_map(refusal).map(Err).ok_or(Wrong::IaNa)
    }
}

/// A status that is not Success.
fn refusal(status: Option<u16>) -> Option<u16> {
    status.filter(|status| *status != StatusCode::Success as u16)
}

fn read_ia_na(value: &[u8]) -> Result<IaNa, Wrong> {
    let (header, options) = value.split_first_chunk::<IA_NA_HEADER_LEN>().ok_or(Wrong::Malformed)?;
    let [iaid, t1, t2] = numbers(header);
    // RFC 9915, section 21.4: a client discards an IA_NA with T1 behind T2, both above 0.
    if t1 > t2 && t2 > 0 {
        return Err(Wrong::Lifetimes);
    }
    let mut ia_na = IaNa { iaid, addresses: Vec::new(), status: None };
    for option in OptionWalker::new(options) {
        let option = option.map_err(|_| Wrong::Malformed)?;
        match option.code {
            OptionCode::IA_ADDRESS => ia_na.addresses.push(read_ia_address(option.value)?),
            OptionCode::STATUS_CODE => once(&mut ia_na.status, read_status(option.value)?)?,
            _ => {}
        }
    }
    Ok(ia_na)
}

fn read_ia_address(value: &[u8]) -> Result<IaAddress, Wrong> {
    let (header, options) = value.split_first_chunk::<IA_ADDRESS_HEADER_LEN>().ok_or(Wrong::Malformed)?;
    let (address, lifetimes) = header.split_first_chunk::<16>().expect("24 octets begin with 16");
    let [preferred, valid] = numbers(lifetimes.first_chunk::<8>().expect("8 octets remain"));
    // RFC 9915, section 21.6: a client discards such an address.
    if preferred > valid {
        return Err(Wrong::Lifetimes);
    }
    let mut status = None;
    for option in OptionWalker::new(options) {
        let option = option.map_err(|_| Wrong::Malformed)?;
        if option.code == OptionCode::STATUS_CODE {
            once(&mut status, read_status(option.value)?)?;
        }
    }
    Ok(IaAddress { address: Ipv6Addr::from(*address), valid, status })
}

fn read_status(value: &[u8]) -> Result<u16, Wrong> {
    let (code, text) = value.split_first_chunk::<2>().ok_or(Wrong::Malformed)?;
    // RFC 9915, section 21.13.
    std::str::from_utf8(text).map_err(|_| Wrong::Malformed)?;
    Ok(u16::from_be_bytes(*code))
}

/// Takes an option that may occur once.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Wrong> {
    place.replace(value).map_or(Ok(()), |_| Err(Wrong::Malformed))
}

/// Numbers of four octets in network byte order.
fn numbers<const OCTETS: usize, const N: usize>(octets: &[u8; OCTETS]) -> [u32; N] {
    std::array::from_fn(|n| u32::from_be_bytes(*octets[4 * n..].first_chunk().expect("there are N numbers")))
}
