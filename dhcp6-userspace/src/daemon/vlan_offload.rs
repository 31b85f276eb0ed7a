//! Whether an interface lets links in VLANs be served.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use tracing::warn;

use crate::{
    config::Config,
    net::{Interface, VlanFeatures},
};

/// Looks at the interfaces of links in VLANs, and warns of those that may not let their frames in.
///
/// # Errors
///
/// Where the fast path is on, and an interface hides the VLANs from it: a frame of any VLAN looks like one without, and
/// the answer to it would go there. The error says the command that changes that.
pub(super) fn check(config: &Config, interfaces: &[(u32, Interface)]) -> Result<()> {
    let is_tagged = |slot: u32| config.links[slot as usize].vlans.is_some();
    let mut seen = BTreeSet::new();
    for (_, interface) in interfaces.iter().filter(|(slot, _)| is_tagged(*slot)) {
        if !seen.insert(interface.index) {
            continue;
        }
        let name = &interface.name;
        let VlanFeatures { stripping, filtering } = VlanFeatures::of(interface)
            .with_context(|| format!("cannot ask {name} what it does with VLAN tags"))?;
        if config.fast_path.enabled && !stripping.is_empty() {
            bail!(
                "{name} takes VLAN tags out of frames before the fast path sees them, which it must not, since {name} \
                 has links with `vlan`: {}; or set `enabled = false` in [fast_path]",
                commands(name, &stripping)
            );
        }
        if !filtering.is_empty() {
            warn!(
                "{name} may drop frames of VLANs that have no interface of their own: {}",
                commands(name, &filtering)
            );
        }
    }
    Ok(())
}

/// The commands that turn features off.
fn commands(interface: &str, features: &[&str]) -> String {
    let command = |feature: &&str| format!("`ethtool -K {interface} {feature} off`");
    features.iter().map(command).collect::<Vec<_>>().join(", ")
}
