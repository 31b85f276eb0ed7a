//! What a network interface does with VLAN tags before anybody sees a frame.

use std::io;

use nix::libc;

use super::{Interface, request::request};

/// Commands of linux/ethtool.h.
const GET_STRINGS: u32 = 0x1b;
const GET_STRING_COUNT: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
/// The names of features, among the sets of strings.
const FEATURES: u32 = 4;
/// Octets that a name takes, with zeros behind it.
const NAME_LEN: usize = 32;
/// What there is of 32 features: available, requested, active, and never changed.
const BLOCK: usize = 4;
const ACTIVE: usize = 2;

/// Features that take the outer tag out of a frame, by the kernel's name and by that which ethtool(8) takes, too.
const STRIPPING: [(&str, &str); 2] =
    [("rx-vlan-hw-parse", "rx-vlan-offload"), ("rx-vlan-stag-hw-parse", "rx-vlan-stag-hw-parse")];
/// Features that let no frame in whose VLAN has no interface of its own.
const FILTERING: [(&str, &str); 2] =
    [("rx-vlan-filter", "rx-vlan-filter"), ("rx-vlan-stag-filter", "rx-vlan-stag-filter")];

/// Features of an interface that are on and stand in the way of links in VLANs, by their names in ethtool(8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VlanFeatures {
    /// The outer tag is taken out of a frame before an XDP program sees it.
    pub stripping: Vec<&'static str>,
    /// Frames of a VLAN without an interface of its own are not let in, unless the interface is promiscuous.
    pub filtering: Vec<&'static str>,
}

impl VlanFeatures {
    /// Asks the interface.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn of(interface: &Interface) -> io::Result<Self> {
        let active = active_features(&interface.name)?;
        let on = |features: [(&str, &'static str); 2]| {
            let is_on = |kernels: &str| active.iter().any(|name| name == kernels);
            features.into_iter().filter(|(kernels, _)| is_on(kernels)).map(|(_, name)| name).collect()
        };
        Ok(Self { stripping: on(STRIPPING), filtering: on(FILTERING) })
    }
}

/// The names of the features that are on.
fn active_features(interface: &str) -> io::Result<Vec<String>> {
    // The set is that of bit 4 in a mask of 64.
    let mut counted = [GET_STRING_COUNT, 0, 1 << FEATURES, 0, 0];
    if cfg!(target_endian = "big") {
        counted.swap(2, 3);
    }
    ethtool(interface, &mut counted)?;
    let count = counted[4] as usize;
    let mut names = vec![0; 3 + count * NAME_LEN / size_of::<u32>()];
    names[..3].copy_from_slice(&[GET_STRINGS, FEATURES, count as u32]);
    ethtool(interface, &mut names)?;
    let blocks = count.div_ceil(32);
    let mut states = vec![0; 2 + blocks * BLOCK];
    states[..2].copy_from_slice(&[GET_FEATURES, blocks as u32]);
    ethtool(interface, &mut states)?;
    let names: &[u8] = bytemuck::cast_slice(&names[3..]);
    let is_active = |index: usize| states[2 + index / 32 * BLOCK + ACTIVE] >> (index % 32) & 1 == 1;
    Ok((0..count)
        .zip(names.chunks(NAME_LEN))
        .filter(|(index, _)| is_active(*index))
        .map(|(_, name)| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
        .collect())
}

/// Carries a command out, which has room for its answer.
fn ethtool(interface: &str, command: &mut [u32]) -> io::Result<()> {
    let data = command.as_mut_ptr().cast();
    request(interface, libc::SIOCETHTOOL, |request| request.ifr_ifru.ifru_data = data).map(drop)
}

#[cfg(test)]
mod tests {
    use super::active_features;

    #[test]
    fn the_loopback_has_features() {
        let active = active_features("lo").unwrap();
        assert!(active.iter().any(|name| name == "loopback"), "{active:?}");
        assert!(!active.iter().any(|name| name == "rx-vlan-filter"), "{active:?}");
        assert!(active_features("no-such-device").is_err());
    }
}
