//! Server messages under construction.
//!
//! The order of the options is that of the XDP program's Reply (dhcp6-ebpf, `reply`): IAs, Server Identifier,
//! Preference, Rapid Commit, Status Code, requested options, and the Client Identifier last.

use dhcp6_common::wire::{Duid, MessageType, OptionCode, StatusCode};

use crate::{
    config::{ConfiguredOption, Lifetimes, PdExclude},
    pool::{IaKind, Prefix, Resource},
};

/// The answer to a client, option by option.
pub(super) struct ReplyWriter(Vec<u8>);

/// What stands in an IA of an answer.
pub(super) enum IaContent {
    /// An address or prefix with the link's lifetimes; of a prefix, what the client must not use (RFC 6603).
    Lease(Resource, Option<PdExclude>),
    /// One that the client must stop using.
    Withdrawn(Resource),
}

impl ReplyWriter {
    pub(super) fn new(kind: MessageType, transaction_id: [u8; 3]) -> Self {
        let mut octets = Vec::with_capacity(256);
        octets.push(kind as u8);
        octets.extend(transaction_id);
        Self(octets)
    }

    /// An IA with these leases.
    pub(super) fn ia(&mut self, kind: IaKind, iaid: u32, lifetimes: &Lifetimes, contents: &[IaContent]) {
        let ia = self.open_ia(kind, iaid, lifetimes.t1, lifetimes.t2);
        for content in contents {
            match content {
                IaContent::Lease(resource, pd_exclude) => {
                    self.lease(*resource, lifetimes.preferred, lifetimes.valid, *pd_exclude);
                }
                IaContent::Withdrawn(resource) => self.lease(*resource, 0, 0, None),
            }
        }
        self.close(ia);
    }

    fn lease(&mut self, resource: Resource, preferred: u32, valid: u32, pd_exclude: Option<PdExclude>) {
        match resource {
            Resource::Address(address) => {
                let option = self.open(OptionCode::IA_ADDRESS);
                self.0.extend(address.octets());
                self.0.extend(preferred.to_be_bytes());
                self.0.extend(valid.to_be_bytes());
                self.close(option);
            }
            Resource::Prefix(prefix) => {
                let option = self.open(OptionCode::IA_PREFIX);
                self.0.extend(preferred.to_be_bytes());
                self.0.extend(valid.to_be_bytes());
                self.0.push(prefix.length());
                self.0.extend(prefix.first().octets());
                if let Some(exclude) = pd_exclude {
                    self.option(OptionCode::PD_EXCLUDE, &pd_exclude_value(prefix, exclude));
                }
                self.close(option);
            }
        }
    }

    /// An IA without leases. Its T1 and T2 have no meaning, but are those of the other IAs in an answer that gives
    /// leases (RFC 9915, section 18.3.4: the same in all).
    pub(super) fn empty_ia(
        &mut self,
        kind: IaKind,
        iaid: u32,
        lifetimes: Option<&Lifetimes>,
        status: StatusCode,
        text: &str,
    ) {
        let (t1, t2) = lifetimes.map_or((0, 0), |lifetimes| (lifetimes.t1, lifetimes.t2));
        let ia = self.open_ia(kind, iaid, t1, t2);
        self.status(status, text);
        self.close(ia);
    }

    /// A Status Code (RFC 9915, section 21.13: UTF-8, not terminated).
    pub(super) fn status(&mut self, status: StatusCode, text: &str) {
        let option = self.open(OptionCode::STATUS_CODE);
        self.0.extend((status as u16).to_be_bytes());
        self.0.extend(text.as_bytes());
        self.close(option);
    }

    pub(super) fn option(&mut self, code: OptionCode, value: &[u8]) {
        let option = self.open(code);
        self.0.extend(value);
        self.close(option);
    }

    /// Those of the configured options that the client requests.
    pub(super) fn requested<'a>(
        &mut self,
        options: impl IntoIterator<Item = &'a ConfiguredOption>,
        requested: impl Fn(OptionCode) -> bool,
    ) {
        for option in options.into_iter().filter(|option| requested(option.code)) {
            self.option(option.code, &option.value);
        }
    }

    /// Ends the message with the client's identifier; an anonymous client gets none back.
    pub(super) fn finish(mut self, client: Option<&Duid>) -> Vec<u8> {
        if let Some(client) = client {
            self.option(OptionCode::CLIENT_ID, client.as_slice());
        }
        self.0
    }

    fn open_ia(&mut self, kind: IaKind, iaid: u32, t1: u32, t2: u32) -> usize {
        let ia = self.open(match kind {
            IaKind::Na => OptionCode::IA_NA,
            IaKind::Pd => OptionCode::IA_PD,
        });
        self.0.extend(iaid.to_be_bytes());
        self.0.extend(t1.to_be_bytes());
        self.0.extend(t2.to_be_bytes());
        ia
    }

    /// Starts an option whose length is not known yet; returns where its value begins.
    fn open(&mut self, code: OptionCode) -> usize {
        self.0.extend(code.0.to_be_bytes());
        self.0.extend([0; 2]);
        self.0.len()
    }

    fn close(&mut self, start: usize) {
        // The options of one answer that could exceed 65535 octets are refused with the configuration.
        let len = (self.0.len() - start) as u16;
        self.0[start - 2..start].copy_from_slice(&len.to_be_bytes());
    }
}

/// The value of a PD Exclude option (RFC 6603, section 4.2): the length of the excluded prefix, and the bits between
/// the two lengths, the first of them in the first octet's highest bit.
fn pd_exclude_value(delegated: Prefix, exclude: PdExclude) -> Vec<u8> {
    let bits = usize::from(exclude.length - delegated.length());
    let subnet = (exclude.subnet << delegated.length()).to_be_bytes();
    let mut value = vec![exclude.length];
    value.extend(&subnet[..bits.div_ceil(8)]);
    value
}

/// Whether an option may be in an answer to anything but an Information-request (RFC 9915, section 21.23).
pub(super) fn goes_with_leases(code: OptionCode) -> bool {
    code != OptionCode::INFORMATION_REFRESH_TIME
}

/// The options of a Reply with Rapid Commit between its IAs and its Client Identifier, for the XDP program.
///
/// `requested` says of each configured option whether the client asks for it.
pub(super) fn rapid_commit_block(
    server: &Duid,
    options: &[ConfiguredOption],
    requested: impl Fn(OptionCode) -> bool,
) -> Vec<u8> {
    let mut writer = ReplyWriter(Vec::new());
    writer.option(OptionCode::SERVER_ID, server.as_slice());
    writer.option(OptionCode::RAPID_COMMIT, &[]);
    writer.requested(options, |code| goes_with_leases(code) && requested(code));
    writer.0
}
