//! A strict option walker without allocation, for packet memory and for slices.

use super::{OPTION_HEADER_LEN, OptionCode};

/// Octets of a message that can be read at an offset.
///
/// The daemon implements it for slices. The XDP program implements it for packet memory, where each read is
/// one comparison with the end of the frame that the verifier can follow.
pub trait Octets {
    /// The 32-bit number in network byte order at `offset`, or `None` where it is not wholly inside.
    fn u32_at(&self, offset: usize) -> Option<u32>;
}

impl Octets for [u8] {
    #[inline]
    fn u32_at(&self, offset: usize) -> Option<u32> {
        let octets = self.get(offset..)?.first_chunk()?;
        Some(u32::from_be_bytes(*octets))
    }
}

/// Why a sequence of options cannot be read (RFC 9915, section 21.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedOption {
    /// One to three octets follow the last option.
    TruncatedHeader,
    /// The length of an option reaches beyond the end of what contains it.
    TruncatedValue,
}

/// Where an option lies: its code, and the offset and length of its value in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpan {
    /// The option code.
    pub code: OptionCode,
    /// Offset of the first octet of the value.
    pub start: usize,
    /// Length of the value.
    pub len: usize,
}

impl OptionSpan {
    /// Offset of the first octet behind the option.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a call would hide the bounds from the BPF verifier")]
    pub fn end(&self) -> usize {
        self.start + self.len
    }
}

/// Reads the option that starts at `offset` in a sequence of options that ends at `end`.
///
/// # Errors
///
/// [`MalformedOption`] where the header or the value does not fit between `offset` and `end`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a call would hide the bounds from the BPF verifier")]
pub fn option_at<O: Octets + ?Sized>(
    octets: &O,
    offset: usize,
    end: usize,
) -> Result<OptionSpan, MalformedOption> {
    let start = offset + OPTION_HEADER_LEN;
    if start > end {
        return Err(MalformedOption::TruncatedHeader);
    }
    // One read for code and length: of two, the verifier would follow the paths where only one succeeds.
    let Some(header) = octets.u32_at(offset) else {
        return Err(MalformedOption::TruncatedHeader);
    };
    let code = (header >> 16) as u16;
    let len = (header & 0xffff) as usize;
    if start + len > end {
        return Err(MalformedOption::TruncatedValue);
    }
    Ok(OptionSpan { code: OptionCode(code), start, len })
}

/// An option of a message held in a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawOption<'a> {
    /// The option code.
    pub code: OptionCode,
    /// The option's octets behind code and length.
    pub value: &'a [u8],
}

/// Iterates over the options in a slice; ends after the first malformed one.
///
/// ```
/// use dhcp6_common::wire::{OptionCode, OptionWalker};
/// let mut options = OptionWalker::new(&[0, 14, 0, 0, 0, 8, 0, 2, 0, 100]);
/// assert_eq!(options.next().unwrap().unwrap().code, OptionCode::RAPID_COMMIT);
/// assert_eq!(options.next().unwrap().unwrap().value, [0, 100]);
/// assert!(options.next().is_none());
/// ```
#[derive(Clone, Debug)]
pub struct OptionWalker<'a> {
    octets: &'a [u8],
    offset: usize,
}

impl<'a> OptionWalker<'a> {
    /// Walks over `octets`, which hold options and nothing else.
    pub fn new(octets: &'a [u8]) -> Self {
        Self { octets, offset: 0 }
    }
}

impl<'a> Iterator for OptionWalker<'a> {
    type Item = Result<RawOption<'a>, MalformedOption>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.octets.len() {
            return None;
        }
        match option_at(self.octets, self.offset, self.octets.len()) {
            Ok(span) => {
                self.offset = span.end();
                Some(Ok(RawOption { code: span.code, value: &self.octets[span.start..span.end()] }))
            }
            Err(malformed) => {
                self.offset = self.octets.len();
                Some(Err(malformed))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::{MalformedOption, OptionWalker};

    fn last_error(octets: &[u8]) -> Option<MalformedOption> {
        OptionWalker::new(octets).find_map(Result::err)
    }

    #[test]
    fn malformed_tails_are_told_apart() {
        for (octets, expected, row) in [
            (&[0, 1, 0][..], Some(MalformedOption::TruncatedHeader), "T-19"),
            (&[0, 14, 0, 0, 9][..], Some(MalformedOption::TruncatedHeader), "T-19"),
            (&[0, 1, 0, 4, 1, 2, 3][..], Some(MalformedOption::TruncatedValue), "T-20"),
            (&[0, 6, 0xff, 0xff][..], Some(MalformedOption::TruncatedValue), "T-21"),
            (&[0, 14, 0, 0][..], None, ""),
            (&[][..], None, ""),
        ] {
            assert_eq!(last_error(octets), expected, "{octets:?} {row}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(options: Vec<(u16, Vec<u8>)>) {
            let mut octets = Vec::new();
            for (code, value) in &options {
                octets.extend(code.to_be_bytes());
                octets.extend((value.len() as u16).to_be_bytes());
                octets.extend(value);
            }
            let read: Result<Vec<_>, _> = OptionWalker::new(&octets).collect();
            let read: Vec<_> = read.unwrap().iter().map(|o| (o.code.0, o.value.to_vec())).collect();
            prop_assert_eq!(read, options);
        }

        #[test]
        fn any_octets_are_consumed_or_refused(octets: Vec<u8>) {
            let mut consumed = 0;
            let mut malformed = false;
            for option in OptionWalker::new(&octets) {
                match option {
                    Ok(option) => consumed += 4 + option.value.len(),
                    Err(_) => malformed = true,
                }
            }
            prop_assert!(malformed || consumed == octets.len());
        }
    }
}
