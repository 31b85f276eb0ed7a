//! The DHCP Unique Identifier.

use core::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

/// A DHCP Unique Identifier of 1 to 130 octets (RFC 9915, section 11.1: two octets of type and at most 128 of
/// identifier; one octet is tolerated, since some clients send it).
///
/// It is opaque: compared whole, with its length, and never interpreted (RFC 9915, section 11).
#[derive(Clone, Copy)]
pub struct Duid {
    len: u8,
    /// Zero behind `len`.
    octets: [u8; Self::MAX_LEN],
}

/// The type that the first two octets of a DUID name (RFC 9915, section 11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuidType {
    /// Link-layer address plus time.
    LinkLayerTime,
    /// Vendor-assigned, by enterprise number.
    Enterprise,
    /// Link-layer address.
    LinkLayer,
    /// Universally unique identifier (RFC 6355).
    Uuid,
    /// Any other type; a server serves those like the known ones.
    Unknown(u16),
    /// One octet has no room for a type.
    None,
}

/// Why octets or a text are not a [`Duid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuidError {
    /// No octets at all.
    Empty,
    /// More than 130 octets.
    TooLong,
    /// The text is not pairs of hexadecimal digits separated by colons.
    NotHex,
}

impl fmt::Display for DuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a DUID has at least one octet",
            Self::TooLong => "a DUID has at most 130 octets",
            Self::NotHex => {
                "a DUID is written as pairs of hexadecimal digits with colons, like 00:03:00:01:…"
            }
        })
    }
}

impl core::error::Error for DuidError {}

impl Duid {
    /// The longest DUID in octets.
    pub const MAX_LEN: usize = 130;

    /// Takes the octets of a Client or Server Identifier option.
    ///
    /// # Errors
    ///
    /// [`DuidError::Empty`] and [`DuidError::TooLong`].
    pub fn new(octets: &[u8]) -> Result<Self, DuidError> {
        if octets.is_empty() {
            return Err(DuidError::Empty);
        }
        let mut duid = Self { len: octets.len() as u8, octets: [0; Self::MAX_LEN] };
        duid.octets.get_mut(..octets.len()).ok_or(DuidError::TooLong)?.copy_from_slice(octets);
        Ok(duid)
    }

    /// The octets, as they stand in an option.
    pub fn as_slice(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }

    /// The type that the DUID claims.
    pub fn kind(&self) -> DuidType {
        match *self.as_slice() {
            [_] | [] => DuidType::None,
            [0, 1, ..] => DuidType::LinkLayerTime,
            [0, 2, ..] => DuidType::Enterprise,
            [0, 3, ..] => DuidType::LinkLayer,
            [0, 4, ..] => DuidType::Uuid,
            [high, low, ..] => DuidType::Unknown(u16::from_be_bytes([high, low])),
        }
    }
}

impl PartialEq for Duid {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Duid {}

impl PartialOrd for Duid {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Duid {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl Hash for Duid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

/// Colon-separated lower-case hexadecimal, the form of RFC 9915's examples and of `dhcp6ctl`.
impl fmt::Display for Duid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, octet) in self.as_slice().iter().enumerate() {
            if index > 0 {
                f.write_str(":")?;
            }
            write!(f, "{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Duid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Duid({self})")
    }
}

impl FromStr for Duid {
    type Err = DuidError;

    fn from_str(text: &str) -> Result<Self, DuidError> {
        let mut octets = [0; Self::MAX_LEN];
        let mut len = 0;
        if text.is_empty() {
            return Err(DuidError::Empty);
        }
        for pair in text.split(':') {
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(DuidError::NotHex);
            }
            let octet = u8::from_str_radix(pair, 16).map_err(|_| DuidError::NotHex)?;
            *octets.get_mut(len).ok_or(DuidError::TooLong)? = octet;
            len += 1;
        }
        Self::new(&octets[..len])
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::{Duid, DuidError, DuidType};

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(Duid::new(&[]), Err(DuidError::Empty), "matrix row U-3");
        assert!(Duid::new(&[7; 1]).is_ok());
        assert!(Duid::new(&[7; 3]).is_ok(), "matrix row U-2");
        assert!(Duid::new(&[7; 130]).is_ok(), "matrix row U-1");
        assert_eq!(Duid::new(&[7; 131]), Err(DuidError::TooLong), "matrix row U-4");
    }

    #[test]
    fn length_and_last_octet_tell_clients_apart() {
        let duid = |octets: &[u8]| Duid::new(octets).unwrap();
        assert_ne!(duid(&[0, 3, 0]), duid(&[0, 3, 0, 0]), "matrix row U-6");
        assert_ne!(duid(&[0, 3, 0, 1]), duid(&[0, 3, 0, 2]), "matrix row U-6");
    }

    #[test]
    fn text_and_octets_are_the_same() {
        let text = "00:03:00:01:02:00:00:00:00:0a";
        let duid: Duid = text.parse().unwrap();
        assert_eq!(duid.as_slice(), [0, 3, 0, 1, 2, 0, 0, 0, 0, 10]);
        assert_eq!(duid.to_string(), text);
        for bad in ["0", "00:", "00-03", "zz", ":", "+1:02"] {
            assert_eq!(bad.parse::<Duid>(), Err(DuidError::NotHex), "{bad}");
        }
        assert_eq!("".parse::<Duid>(), Err(DuidError::Empty));
    }

    #[test]
    fn types_are_named_and_unknown_ones_kept() {
        for (octets, kind) in [
            (&[0, 1, 9][..], DuidType::LinkLayerTime),
            (&[0, 2, 9], DuidType::Enterprise),
            (&[0, 3, 9], DuidType::LinkLayer),
            (&[0, 4, 9], DuidType::Uuid),
            (&[0xab, 0xcd, 9], DuidType::Unknown(0xabcd)),
            (&[9], DuidType::None),
        ] {
            assert_eq!(Duid::new(octets).unwrap().kind(), kind);
        }
    }
}
