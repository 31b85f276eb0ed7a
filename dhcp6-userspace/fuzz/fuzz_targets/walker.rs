//! The option walker reads any octets as the definition of RFC 9915, section 21.1, does.

#![no_main]

use dhcp6_common::wire::{MalformedOption, OPTION_HEADER_LEN, OptionWalker, option_at};
use libfuzzer_sys::fuzz_target;

/// The section's definition, word by word: a code, a length, and that many octets. Returns the options, code and
/// value, up to what cannot be read, and how many octets that leaves.
fn naive(mut octets: &[u8]) -> (Vec<(u16, &[u8])>, &[u8]) {
    let mut options = Vec::new();
    while let [code_high, code_low, len_high, len_low, rest @ ..] = octets {
        let code = u16::from(*code_high) << 8 | u16::from(*code_low);
        let len = usize::from(*len_high) << 8 | usize::from(*len_low);
        if rest.len() < len {
            break;
        }
        options.push((code, &rest[..len]));
        octets = &rest[len..];
    }
    (options, octets)
}

fuzz_target!(|octets: &[u8]| {
    let (expected, rest) = naive(octets);
    let mut options = Vec::new();
    let mut refused = None;
    for option in OptionWalker::new(octets) {
        assert_eq!(refused, None, "the walk goes on behind a malformed option");
        match option {
            Ok(option) => options.push((option.code.0, option.value)),
            Err(malformed) => refused = Some(malformed),
        }
    }
    assert_eq!(options, expected);
    for ((_, value), (_, same)) in options.iter().zip(&expected) {
        assert_eq!(value.as_ptr_range(), same.as_ptr_range(), "a value lies elsewhere in the message");
    }
    assert_eq!(
        refused,
        match rest.len() {
            0 => None,
            1..OPTION_HEADER_LEN => Some(MalformedOption::TruncatedHeader),
            _ => Some(MalformedOption::TruncatedValue),
        }
    );

    // The same at any offset and before any end: a container's end, not the message's, bounds an option. The octets
    // themselves say where.
    let [first, second, ..] = octets else { return };
    let end = usize::from(*second) % (octets.len() + 1);
    let offset = usize::from(*first) % (end + 1);
    let (expected, rest) = naive(&octets[offset..end]);
    match (option_at(octets, offset, end), expected.first()) {
        (Ok(span), Some((code, value))) => {
            assert!(span.end() <= end);
            assert_eq!((span.code.0, &octets[span.start..span.end()]), (*code, *value));
        }
        (Err(MalformedOption::TruncatedHeader), None) => assert!(rest.len() < OPTION_HEADER_LEN),
        (Err(MalformedOption::TruncatedValue), None) => assert!(rest.len() >= OPTION_HEADER_LEN),
        (read, expected) => panic!("at {offset}..{end}: {read:?} instead of {expected:?}"),
    }
});
