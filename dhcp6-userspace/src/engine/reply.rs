//! Server messages under construction.
//!
//! The order of the options is that of the XDP program's Reply (dhcp6-ebpf, `reply`): IAs, Server Identifier,
//! Preference, Rapid Commit, Status Code, requested options, and the Client Identifier last.

use std::net::Ipv6Addr;

use dhcp6_common::wire::{Duid, MessageType, OptionCode, StatusCode};

use crate::config::{ConfiguredOption, Lifetimes};

/// The answer to a client, option by option.
pub(super) struct ReplyWriter(Vec<u8>);

/// What stands in an IA of an answer.
pub(super) enum IaContent {
    /// An address with the link's lifetimes.
    Lease(Ipv6Addr),
    /// An address that the client must stop using.
    Withdrawn(Ipv6Addr),
}

impl ReplyWriter {
    pub(super) fn new(kind: MessageType, transaction_id: [u8; 3]) -> Self {
        let mut octets = Vec::with_capacity(256);
        octets.push(kind as u8);
        octets.extend(transaction_id);
        Self(octets)
    }

    /// An IA_NA with these addresses, and a status where it is not Success.
    pub(super) fn ia_na(
        &mut self,
        iaid: u32,
        lifetimes: &Lifetimes,
        addresses: &[IaContent],
        status: Option<(StatusCode, &str)>,
    ) {
        let ia = self.open_ia(OptionCode::IA_NA, iaid, lifetimes.t1, lifetimes.t2);
        for address in addresses {
            let (address, preferred, valid) = match address {
                IaContent::Lease(address) => (address, lifetimes.preferred, lifetimes.valid),
                IaContent::Withdrawn(address) => (address, 0, 0),
            };
            let option = self.open(OptionCode::IA_ADDRESS);
            self.0.extend(address.octets());
            self.0.extend(preferred.to_be_bytes());
            self.0.extend(valid.to_be_bytes());
            self.close(option);
        }
        if let Some((status, text)) = status {
            self.status(status, text);
        }
        self.close(ia);
    }

    /// An IA without leases, for which T1 and T2 have no meaning.
    pub(super) fn empty_ia(&mut self, code: OptionCode, iaid: u32, status: StatusCode, text: &str) {
        let ia = self.open_ia(code, iaid, 0, 0);
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
    pub(super) fn requested(&mut self, options: &[ConfiguredOption], requested: impl Fn(OptionCode) -> bool) {
        for option in options.iter().filter(|option| requested(option.code)) {
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

    fn open_ia(&mut self, code: OptionCode, iaid: u32, t1: u32, t2: u32) -> usize {
        let ia = self.open(code);
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
