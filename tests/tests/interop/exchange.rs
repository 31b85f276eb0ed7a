//! What client and server have said to each other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::{MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker, RawOption};
use dhcp6_userspace::pool::IaKind;
use tests::{capture::Captured, describe::describe};

use crate::{client::Client, session::Session, table::Feature};

/// The messages of an exchange, as far as these tests look at them.
pub(crate) struct Exchange(Vec<Message>);

struct Message {
    from_server: bool,
    kind: MessageType,
    transaction: Vec<u8>,
    ias: BTreeMap<IaId, IaContent>,
    text: String,
}

/// What tells the IAs of a client apart.
type IaId = (IaKind, Vec<u8>);

struct IaContent {
    /// T1 and T2.
    timers: Vec<u8>,
    /// The addresses or prefixes.
    leases: usize,
}

impl Exchange {
    pub(crate) fn new(seen: &[Captured]) -> Result<Self> {
        seen.iter().map(Message::read).collect::<Result<_>>().map(Self)
    }

    /// How many transactions the client has begun with a message of this type.
    pub(crate) fn transactions(&self, kind: MessageType) -> usize {
        let of_kind = self.0.iter().filter(|message| !message.from_server && message.kind == kind);
        of_kind.map(|message| &message.transaction).collect::<BTreeSet<_>>().len()
    }

    /// Holds the exchange to what it must be: the client names all IAs of the session in each message, or one by one
    /// where that is its way; the server answers a message once at most, with just the IAs that it names, each with
    /// a lease, and all with the same T1 and T2 (matrix rows E-29, N-8, O-7, R-6, T-16, U-10).
    pub(crate) fn check(&self, client: &Client, session: &Session) -> Result<()> {
        for (index, message) in self.0.iter().enumerate() {
            if message.from_server {
                let earlier = self.0.get(..index).unwrap_or_default();
                let same = |other: &&Message| other.transaction == message.transaction;
                let question = earlier.iter().rev().filter(same).find(|other| !other.from_server);
                let question = question.with_context(|| format!("an answer to nothing: {}", message.text))?;
                let asked = earlier.iter().filter(same).filter(|other| !other.from_server).count();
                let answered = earlier.iter().filter(same).filter(|other| other.from_server).count();
                ensure!(answered < asked, "one more answer: {}", message.text);
                question.check_answer(message)?;
            } else if let Some(feature) = message.feature() {
                let kinds: Vec<_> = message.ias.keys().map(|(kind, _)| *kind).collect();
                let may_be_alone = client.one_by_one.features.contains(&feature);
                let wanted = kinds == session.ias || (may_be_alone && kinds.len() == 1);
                ensure!(wanted, "the IAs of: {}", message.text);
            }
        }
        Ok(())
    }
}

impl Message {
    fn read(captured: &Captured) -> Result<Self> {
        let Captured { at: _, from_server, message } = captured;
        let text = describe(message);
        let (header, options) =
            message.split_at_checked(MESSAGE_HEADER_LEN).with_context(|| format!("cut off: {text}"))?;
        let kind = MessageType::from_code(header[0]).with_context(|| format!("unknown type: {text}"))?;
        let mut ias = BTreeMap::new();
        for option in OptionWalker::new(options) {
            let option = option.ok().with_context(|| format!("malformed: {text}"))?;
            let (ia, lease) = match option.code {
                OptionCode::IA_NA => (IaKind::Na, OptionCode::IA_ADDRESS),
                OptionCode::IA_PD => (IaKind::Pd, OptionCode::IA_PREFIX),
                _ => continue,
            };
            let (iaid, rest) = option.value.split_at_checked(4).context("an IA without an IAID")?;
            let (timers, options) = rest.split_at_checked(8).context("an IA without T1 and T2")?;
            let is_lease = |option: &Result<_, _>| {
                option.as_ref().is_ok_and(|option: &RawOption<'_>| option.code == lease)
            };
            let leases = OptionWalker::new(options).filter(is_lease).count();
            let earlier = ias.insert((ia, iaid.to_vec()), IaContent { timers: timers.to_vec(), leases });
            ensure!(earlier.is_none(), "an IA twice: {text}");
        }
        Ok(Self { from_server: *from_server, kind, transaction: header[1..].to_vec(), ias, text })
    }

    /// What a message of the client is part of, where it names IAs.
    fn feature(&self) -> Option<Feature> {
        match self.kind {
            MessageType::Solicit => Some(Feature::TwoMessages),
            MessageType::Request => Some(Feature::FourMessages),
            MessageType::Renew => Some(Feature::Renew),
            MessageType::Rebind => Some(Feature::Rebind),
            MessageType::Decline => Some(Feature::Decline),
            MessageType::Release => Some(Feature::Release),
            _ => None,
        }
    }

    fn check_answer(&self, answer: &Self) -> Result<()> {
        if !matches!(
            self.kind,
            MessageType::Solicit | MessageType::Request | MessageType::Renew | MessageType::Rebind
        ) {
            return Ok(());
        }
        let context = || format!("{}is answered by {}", self.text, answer.text);
        ensure!(self.ias.keys().eq(answer.ias.keys()), "other IAs: {}", context());
        ensure!(answer.ias.values().all(|ia| ia.leases == 1), "not one lease: {}", context());
        let timers: BTreeSet<_> = answer.ias.values().map(|ia| &ia.timers).collect();
        ensure!(timers.len() <= 1, "T1 and T2 differ: {}", context());
        Ok(())
    }
}
