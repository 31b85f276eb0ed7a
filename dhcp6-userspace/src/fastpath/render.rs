//! Renders what the XDP program needs to know of a link, out of what the engine would answer.

use dhcp6_common::{
    contract::{
        BLOCKS_PER_LINK, Link, OPTION_IGNORED, OPTION_PASSED, RENDERED_OPTIONS, REQUEST_PASSED, ReplyBlock,
    },
    wire::OptionCode,
};

use crate::{config::LinkConfig, engine::Engine, net::Interface};

/// The link as the program sees it, and a block for each set of the first few options that are configured.
///
/// `slot` is the engine's index of the link.
pub fn render(
    engine: &Engine,
    slot: u32,
    config: &LinkConfig,
    interface: &Interface,
) -> (Link, Vec<ReplyBlock>) {
    let rendered = rendered_codes(config);
    let mut request_bits = [0; 256];
    let mut request_high = 0;
    for option in &config.options {
        let bit = rendered.iter().position(|code| *code == option.code);
        match request_bits.get_mut(usize::from(option.code.0)) {
            Some(bits) => *bits = bit.map_or(REQUEST_PASSED, |bit| 1 << bit),
            None => request_high = u32::from(REQUEST_PASSED),
        }
    }
    let mut option_policy = [OPTION_PASSED; 256];
    for (code, policy) in (0..).zip(&mut option_policy) {
        if Engine::ignores(OptionCode(code)) {
            *policy = OPTION_IGNORED;
        }
    }
    let lifetimes = config.lifetimes;
    let mut link = Link {
        ifindex: interface.index,
        rapid_commit: u32::from(config.rapid_commit),
        server_address: interface.link_local.octets(),
        server_mac: interface.mac,
        sum: 0,
        t1: lifetimes.t1.to_be_bytes(),
        t2: lifetimes.t2.to_be_bytes(),
        preferred_lifetime: lifetimes.preferred.to_be_bytes(),
        valid_lifetime: lifetimes.valid.to_be_bytes(),
        interface: padded(&interface.name),
        name: padded(&config.name),
        option_policy,
        request_bits,
        request_high,
        reserved: 0,
    };
    link.sum = link.compute_sum().fold();
    let blocks = (0..BLOCKS_PER_LINK)
        .map(|set| {
            let requested = |code| {
                rendered.iter().position(|rendered| *rendered == code).is_some_and(|bit| set >> bit & 1 == 1)
            };
            ReplyBlock::new(&engine.rapid_commit_block(slot, requested))
        })
        .collect();
    (link, blocks)
}

/// The codes that get a bit each: the first ones of the configuration that the program's table covers.
fn rendered_codes(config: &LinkConfig) -> Vec<OptionCode> {
    let mut codes = Vec::new();
    for option in &config.options {
        if option.code.0 < 256 && !codes.contains(&option.code) && codes.len() < RENDERED_OPTIONS {
            codes.push(option.code);
        }
    }
    codes
}

/// A name with zeros behind it, cut where it does not fit.
fn padded<const N: usize>(name: &str) -> [u8; N] {
    let mut octets = [0; N];
    let len = name.floor_char_boundary(N);
    octets[..len].copy_from_slice(&name.as_bytes()[..len]);
    octets
}
