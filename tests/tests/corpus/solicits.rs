//! The file of Solicits.

use dhcp6_common::wire::{MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker};

/// A Solicit of a client.
pub(crate) struct Solicit {
    /// The client, and what it asks for.
    pub(crate) name: String,
    /// The DHCPv6 message.
    pub(crate) message: Vec<u8>,
}

impl Solicit {
    /// Whether it has an option with this code.
    pub(crate) fn has(&self, code: OptionCode) -> bool {
        self.value(code).is_some()
    }

    /// Its Client Identifier.
    pub(crate) fn duid(&self) -> &[u8] {
        self.value(OptionCode::CLIENT_ID).expect("a Solicit has a Client Identifier")
    }

    fn value(&self, code: OptionCode) -> Option<&[u8]> {
        let mut options = OptionWalker::new(&self.message[MESSAGE_HEADER_LEN..])
            .map(|option| option.unwrap_or_else(|error| panic!("{}: {error:?}", self.name)));
        options.find(|option| option.code == code).map(|option| option.value)
    }
}

/// All of them, in the order of the file.
///
/// # Panics
///
/// Where the file is not as it says.
pub(crate) fn solicits() -> Vec<Solicit> {
    let mut solicits: Vec<Solicit> = Vec::new();
    for (number, line) in (1..).zip(include_str!("solicits.txt").lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            assert!(solicits.iter().all(|other| other.name != name), "line {number}: a second [{name}]");
            solicits.push(Solicit { name: name.to_owned(), message: Vec::new() });
            continue;
        }
        let digits: Vec<u8> = line
            .chars()
            .filter(|character| !character.is_whitespace())
            .map(|character| character.to_digit(16).unwrap_or_else(|| panic!("line {number}: {line}")) as u8)
            .collect();
        let (pairs, []) = digits.as_chunks::<2>() else { panic!("line {number}: half an octet") };
        if !pairs.is_empty() {
            let solicit = solicits.last_mut().unwrap_or_else(|| panic!("line {number}: no name before it"));
            solicit.message.extend(pairs.iter().map(|[high, low]| high << 4 | low));
        }
    }
    for Solicit { name, message } in &solicits {
        assert_eq!(message.first(), Some(&(MessageType::Solicit as u8)), "{name}");
    }
    solicits
}
