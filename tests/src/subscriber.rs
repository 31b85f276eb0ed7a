//! The messages of subscribers that have a number each, and what is in the answers.

use std::net::Ipv6Addr;

use anyhow::{Context as _, Result};
use dhcp6_common::wire::{MessageType, OptionCode, OptionWalker};

use crate::frame::MessageBuilder;

fn duid(subscriber: u8) -> [u8; 10] {
    [0, 3, 0, 1, 2, 0, 0, 0, 1, subscriber]
}

/// A Solicit that asks for an address in two messages.
pub fn solicit(subscriber: u8, transaction: u8) -> Vec<u8> {
    let message = MessageBuilder::new(MessageType::Solicit, [0, subscriber, transaction]);
    message.client_id(&duid(subscriber)).rapid_commit().ia_na(1, &[]).build()
}

/// A Renew of an address that the subscriber has from this server.
pub fn renew(subscriber: u8, server: &[u8], address: Ipv6Addr) -> Vec<u8> {
    let message = MessageBuilder::new(MessageType::Renew, [1, subscriber, 0]);
    message.client_id(&duid(subscriber)).server_id(server).ia_na(1, &[address]).build()
}

fn option(message: &[u8], code: OptionCode) -> Result<&[u8]> {
    let mut options = OptionWalker::new(&message[4..]).filter_map(Result::ok);
    options.find(|option| option.code == code).map(|option| option.value).context("an option is missing")
}

/// The server that an answer is from.
///
/// # Errors
///
/// Where the answer does not say it.
pub fn server_id_in(message: &[u8]) -> Result<Vec<u8>> {
    option(message, OptionCode::SERVER_ID).map(<[u8]>::to_vec)
}

/// The address that a Reply gives.
///
/// # Errors
///
/// Where there is none in it.
pub fn address_in(message: &[u8]) -> Result<Ipv6Addr> {
    const IA_ADDRESS: usize = 12 + 4;
    let ia = option(message, OptionCode::IA_NA)?;
    let address: &[u8; 16] =
        ia.get(IA_ADDRESS..).and_then(<[u8]>::first_chunk).context("an address is missing")?;
    Ok((*address).into())
}
