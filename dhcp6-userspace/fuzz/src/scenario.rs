//! What happens to an engine, made of the fuzzer's octets.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};

use crate::{
    message::{Rarely, Sent},
    relay::Relay,
    setting::{Client, DelegatedPrefix, Iaid, Setting},
};

/// A configuration, and what happens under it.
#[derive(Debug)]
pub struct Scenario {
    pub(crate) setting: Setting,
    pub(crate) seed: u64,
    pub(crate) steps: Vec<Step>,
}

impl<'a> Arbitrary<'a> for Scenario {
    /// As many steps as there are octets for: a longer input is a longer story.
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let (setting, seed) = <(Setting, u64)>::arbitrary(octets)?;
        let mut steps = Vec::new();
        while !octets.is_empty() {
            steps.push(Step::arbitrary(octets)?);
        }
        Ok(Self { setting, seed, steps })
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Round {
        first: Box<Delivery>,
        more: [Rarely<Box<Delivery>>; 3],
        fate: Rarely<Fate>,
    },
    Wait(Wait),
    AskKernel {
        place: Place,
        client: Client,
        asked: Asked,
        iaid: Iaid,
    },
    Expire {
        fate: Rarely<Fate>,
    },
    Restart {
        setting: Option<Setting>,
    },
    /// An operator says that something is in use no more: what is in conflict, or what is leased.
    GiveBack {
        net: u8,
        what: Named,
        leased: bool,
        fate: Rarely<Fate>,
    },
}

impl<'a> Arbitrary<'a> for Step {
    /// Messages for the most part.
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match octets.int_in_range(0..=15u8)? {
            0..=8 => {
                let (first, more, fate) = Arbitrary::arbitrary(octets)?;
                Self::Round { first, more, fate }
            }
            9 | 10 => Self::Wait(Wait::arbitrary(octets)?),
            11 | 12 => {
                let (place, client, asked, iaid) = Arbitrary::arbitrary(octets)?;
                Self::AskKernel { place, client, asked, iaid }
            }
            13 => Self::Expire { fate: Rarely::arbitrary(octets)? },
            14 => Self::Restart { setting: Arbitrary::arbitrary(octets)? },
            _ => {
                let (net, what, leased, fate) = Arbitrary::arbitrary(octets)?;
                Self::GiveBack { net, what, leased, fate }
            }
        })
    }
}

/// What a client solicits of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Address,
    Prefix,
    Both,
}

impl<'a> Arbitrary<'a> for Asked {
    /// Both for the most part.
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        octets.choose(&[Self::Both, Self::Both, Self::Address, Self::Prefix]).copied()
    }
}

/// Where a client is: at one of two interfaces, or where there are relay agents only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(pub(crate) u8);

impl<'a> Arbitrary<'a> for Place {
    /// The same one for the most part.
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        octets.choose(&[0, 0, 0, 0, 0, 0, 1, 2]).copied().map(Self)
    }
}

/// An address or a prefix.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Named {
    /// What the engine lists with this number, of all that is leased or in conflict.
    Listed(u8),
    Address(u8),
    Prefix(DelegatedPrefix),
}

#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) place: Place,
    pub(crate) mac: Option<Mac>,
    pub(crate) unicast: Rarely<()>,
    /// The answer does not reach the client.
    pub(crate) lost: Rarely<()>,
    pub(crate) sent: Sent,
    pub(crate) relays: [Rarely<Relay>; 2],
}

/// The link-layer address that a frame comes from.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Mac {
    Known,
    Other,
}

/// What keeps a round from going well.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    CommitFails,
    CrashBeforeCommit,
    CrashAfterCommit,
}

/// Time that passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait(pub(crate) Duration);

impl<'a> Arbitrary<'a> for Wait {
    /// Up to the end of an offer, of a lease, of a declined address, and of a lifetime of a century.
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let most: u64 = *octets.choose(&[0, 3, 40, 2000, 10_000, 100_000, 5_000_000_000])?;
        Ok(Self(Duration::from_millis(octets.int_in_range(0..=most * 1000)?)))
    }
}
