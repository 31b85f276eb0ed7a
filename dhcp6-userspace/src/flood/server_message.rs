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
    /// A valid DUID.
    pub(super) server_id: Option<&'a [u8]>,
    pub(super) rapid_commit: bool,
    /// 0 where there is none (RFC 9915, section 18.2.1).
    pub(super) preference: u8,
    /// Of the whole message.
    pub(super) status: Option<u16>,
    pub(super) ia_na: Ias,
    pub(super) ia_pd: Ias,
}

/// All IA_NA, or all IA_PD, of a server's message.
#[derive(Clone, Debug, Default)]
pub(super) struct Ias {
    /// The first of them.
    first: Option<Ia>,
    count: u32,
    /// The first status among them that is not Success.
    refusal: Option<u16>,
}

/// An IA_NA or IA_PD of a server's message.
#[derive(Clone, Copy, Debug)]
struct Ia {
    iaid: u32,
    /// The first lease that may be used.
    lease: Option<IaLease>,
    /// The first status of a lease that is not Success.
    lease_refusal: Option<u16>,
    status: Option<u16>,
}

impl Ias {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, ia: Ia) {
        self.refusal = self.refusal.or(refusal(ia.status));
        self.first.get_or_insert(ia);
        self.count += 1;
    }
}

/// An IA Address or IA Prefix of a server's message.
#[derive(Clone, Copy, Debug)]
pub(super) struct IaLease {
    pub(super) address: Ipv6Addr,
    /// 128 of an address.
    pub(super) length: u8,
    /// In seconds.
    pub(super) valid: u32,
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
                    if option.value.is_empty() || option.value.len() > Duid::MAX_LEN {
                        return Err(Wrong::ServerId);
                    }
                    once(&mut message.server_id, option.value)?;
                }
                OptionCode::STATUS_CODE => once(&mut message.status, read_status(option.value)?)?,
                OptionCode::PREFERENCE => {
                    let [preference] = option.value else { return Err(Wrong::Malformed) };
                    message.preference = *preference;
                }
                OptionCode::RAPID_COMMIT => {
                    if message.rapid_commit || !option.value.is_empty() {
                        return Err(Wrong::Malformed);
                    }
                    message.rapid_commit = true;
                }
                OptionCode::IA_NA => message.ia_na.push(read_ia(option.value, OptionCode::IA_ADDRESS)?),
                OptionCode::IA_PD => message.ia_pd.push(read_ia(option.value, OptionCode::IA_PREFIX)?),
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
    pub(super) fn lease(&self, iaid: u32) -> Result<Result<IaLease, u16>, Wrong> {
        self.lease_in(&self.ia_na, iaid).ok_or(Wrong::IaNa)
    }

    /// The prefix for the IA_PD of a client, or else the status that says why there is none.
    ///
    /// # Errors
    ///
    /// [`Wrong::IaPd`] where there is neither.
    pub(super) fn prefix(&self, iaid: u32) -> Result<Result<IaLease, u16>, Wrong> {
        self.lease_in(&self.ia_pd, iaid).ok_or(Wrong::IaPd)
    }

    fn lease_in(&self, ias: &Ias, iaid: u32) -> Option<Result<IaLease, u16>> {
        let ia = match &ias.first {
            None => return refusal(self.status).map(Err),
            Some(ia) if ia.iaid == iaid && ias.count == 1 => ia,
            Some(_) => return None,
        };
        if let Some(status) = refusal(ia.status) {
            return Some(Err(status));
        }
        if let Some(lease) = ia.lease {
            return Some(Ok(lease));
        }
        ia.lease_refusal.or(refusal(self.status)).map(Err)
    }

    /// The status that says that a Release or a Decline had no effect; `None` where it had.
    pub(super) fn failure(&self) -> Option<u16> {
        refusal(self.status).or(self.ia_na.refusal).or(self.ia_pd.refusal)
    }
}

/// A status that is not Success.
fn refusal(status: Option<u16>) -> Option<u16> {
    status.filter(|status| *status != StatusCode::Success as u16)
}

/// Reads an IA_NA or an IA_PD, whose headers are the same. `lease` is the option that it holds.
fn read_ia(value: &[u8], lease: OptionCode) -> Result<Ia, Wrong> {
    let (header, options) = value.split_first_chunk::<IA_NA_HEADER_LEN>().ok_or(Wrong::Malformed)?;
    let [iaid, t1, t2] = numbers(header);
    // RFC 9915, sections 21.4 and 21.21: a client discards an IA with T1 behind T2, both above 0.
    if t1 > t2 && t2 > 0 {
        return Err(Wrong::Lifetimes);
    }
    let mut ia = Ia { iaid, lease: None, lease_refusal: None, status: None };
    for option in OptionWalker::new(options) {
        let option = option.map_err(|_| Wrong::Malformed)?;
        match option.code {
            OptionCode::IA_ADDRESS if lease == option.code => ia.add(read_ia_address(option.value)?),
            OptionCode::IA_PREFIX if lease == option.code => ia.add(read_ia_prefix(option.value)?),
            OptionCode::STATUS_CODE => once(&mut ia.status, read_status(option.value)?)?,
            _ => {}
        }
    }
    Ok(ia)
}

impl Ia {
    /// Adds a lease and its status.
    fn add(&mut self, (lease, status): (IaLease, Option<u16>)) {
        match refusal(status) {
            // One with a valid lifetime of 0 is one to stop using.
            None if lease.valid > 0 => _ = self.lease.get_or_insert(lease),
            refusal => self.lease_refusal = self.lease_refusal.or(refusal),
        }
    }
}

fn read_ia_address(value: &[u8]) -> Result<(IaLease, Option<u16>), Wrong> {
    let (header, options) = value.split_first_chunk::<IA_ADDRESS_HEADER_LEN>().ok_or(Wrong::Malformed)?;
    let (address, lifetimes) = header.split_first_chunk::<16>().expect("24 octets begin with 16");
    let lifetimes = lifetimes.first_chunk::<8>().expect("8 octets remain");
    read_lease(*address, 128, *lifetimes, options)
}

/// RFC 9915, section 21.22.
fn read_ia_prefix(value: &[u8]) -> Result<(IaLease, Option<u16>), Wrong> {
    let (lifetimes, rest) = value.split_first_chunk::<8>().ok_or(Wrong::Malformed)?;
    let ([length], rest) = rest.split_first_chunk::<1>().ok_or(Wrong::Malformed)?;
    let (prefix, options) = rest.split_first_chunk::<16>().ok_or(Wrong::Malformed)?;
    if *length > 128 {
        return Err(Wrong::Malformed);
    }
    read_lease(*prefix, *length, *lifetimes, options)
}

fn read_lease(
    address: [u8; 16],
    length: u8,
    lifetimes: [u8; 8],
    options: &[u8],
) -> Result<(IaLease, Option<u16>), Wrong> {
    let [preferred, valid] = numbers(&lifetimes);
    // RFC 9915, sections 21.6 and 21.22: a client discards such a lease.
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
    Ok((IaLease { address: Ipv6Addr::from(address), length, valid }, status))
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
