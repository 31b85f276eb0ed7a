//! Where a client's frames come from, besides the interface.

use core::fmt;

use bytemuck::{Pod, Zeroable};

/// The VLANs that a frame is tagged with: the identifiers of its outer and inner tag, 1 to 4094 each, and 0 for a tag that
/// is not there (IEEE 802.1Q, section 9.6). Whether the outer tag is a C-TAG (0x8100) or an S-TAG (0x88a8) is not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Vlan {
    /// The only tag, or the first of two.
    pub outer: u16,
    /// The second tag.
    pub inner: u16,
}

impl Vlan {
    /// No tag at all.
    pub const NONE: Self = Self { outer: 0, inner: 0 };

    /// Both identifiers in 24 bits, the outer one in the higher half.
    pub const fn bits(self) -> u32 {
        (self.outer as u32) << 12 | self.inner as u32
    }

    /// What [`Vlan::bits`] was made of. Bits above the 24 are ignored.
    pub const fn from_bits(bits: u32) -> Self {
        Self { outer: (bits >> 12 & 0xfff) as u16, inner: (bits & 0xfff) as u16 }
    }
}

/// `none`, `100`, or `100.200` for an outer and an inner tag.
impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("none"),
            Self { outer, inner: 0 } => outer.fmt(f),
            Self { outer, inner } => write!(f, "{outer}.{inner}"),
        }
    }
}

/// What tells clients of one link apart besides their DUIDs, so that a neighbour that claims a DUID gets nothing of
/// its owner's. Each part is zero where the link does not look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The VLAN, on a link that spans several.
    pub vlan: Vlan,
    /// The MAC address, on a link with `bind_to_mac`.
    pub mac: [u8; 6],
}

impl Origin {
    /// That of every client on a link that looks at neither.
    pub const ANY: Self = Self { vlan: Vlan::NONE, mac: [0; 6] };
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::Vlan;

    #[test]
    fn identifiers_survive_packing() {
        for (outer, inner, text) in
            [(0, 0, "none"), (4094, 0, "4094"), (1, 4094, "1.4094"), (4094, 1, "4094.1")]
        {
            let vlan = Vlan { outer, inner };
            assert_eq!(Vlan::from_bits(vlan.bits()), vlan);
            assert!(vlan.bits() < 1 << 24);
            assert_eq!(vlan.to_string(), text);
        }
    }
}
