//! The protocol, without I/O: octets, arrival facts and the time go in, replies and state changes come out.
//!
//! One round of the daemon is
//!
//! 1. [`Engine::handle`] for each message that has arrived, and [`Engine::expire`] now and then;
//! 2. [`Engine::take_forgotten`]: whom the kernel must forget (invariant 6: before any reply of the round leaves);
//! 3. the replies that do not need a commit ([`Answer::needs_commit`]) leave;
//! 4. unless a commit is under way, [`Engine::take_changes`]: what these rounds have changed, for the next one.
//!
//! The store commits while further messages are handled. Then
//!
//! 5. [`Engine::committed`] tells what the kernel may serve from now on (invariant 1: after the commit);
//! 6. the replies that needed this commit leave. Where it has failed, they never do.
//!
//! The engine tells apart what it means to promise ([`Lease::expires_at`]) from what storage is known to say, so
//! a failed commit needs no undoing: the next message of the client asks for it again. What no message asks for
//! again, the ends of leases and conflicts, is in the batches that follow until one is committed.

mod bindings;
mod conflicts;
mod drop_reason;
mod glance;
mod handlers;
mod link;
mod message;
mod obstacles;
mod offers;
mod relay;
mod reply;
mod table;
#[cfg(test)]
mod tests;
mod unsaved;
mod view;

use std::{net::Ipv6Addr, time::Duration};

use dhcp6_common::{
    Origin, Vlan,
    wire::{Duid, MessageType, OptionCode},
};
use hashbrown::HashSet;
use rand::{SeedableRng as _, rngs::StdRng};

use self::{
    conflicts::Conflicts, link::Link, obstacles::Obstacles, offers::Offers, table::Table, unsaved::Unsaved,
};
use crate::{
    config::Config,
    lease::{Change, Contents, Lease, LeaseState},
    pool::{IaKind, Prefix, Resource},
    time::Time,
};

pub use drop_reason::DropReason;
pub use glance::Glance;
pub use view::{LeaseView, LinkView, ResourceState, ResourceView, WaitingReservation};

/// The server's protocol state.
#[derive(Debug)]
pub struct Engine {
    server: Duid,
    preference: u8,
    horizon: Duration,
    links: Vec<Link>,
    table: Table,
    offers: Offers,
    conflicts: Conflicts,
    obstacles: Obstacles,
    /// What the kernel has granted and storage has yet to pay for.
    unpaid: Vec<Resource>,
    /// What it pays for next, the last first.
    paying: Vec<Resource>,
    /// What relay agents may supply for a client.
    passed_on: Vec<OptionCode>,
    rng: StdRng,
    /// For the store, in this order.
    changes: Vec<Change>,
    /// Whom the kernel must not answer any more.
    forgotten: Vec<Owner>,
    unsaved: Unsaved,
}

/// What is known of a message besides its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Index, in the order of the configuration, of the link that the receiving interface is attached to; `None`
    /// for an interface that only relay agents are heard on.
    pub link: Option<u32>,
    /// The VLAN that the frame was tagged with.
    pub vlan: Vlan,
    /// The link-layer address that the frame came from, where it was looked at.
    pub mac: Option<[u8; 6]>,
    /// Whether it was sent to a multicast address.
    pub multicast: bool,
}

/// Where an answer goes, at the address that the datagram came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerPort {
    /// The port that clients listen on, whatever port the message came from (RFC 9915, section 7.2).
    Client,
    /// The port that servers and relay agents listen on.
    Relay,
    /// The port that the datagram came from (RFC 8357).
    Source,
}

/// A message to be sent back to where the client's came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Advertise, Reply or Relay-reply.
    pub kind: MessageType,
    /// The port.
    pub port: AnswerPort,
    /// The message's octets.
    pub message: Vec<u8>,
    /// Whether it promises what only the next commit puts into storage. There is something to commit then.
    pub needs_commit: bool,
}

/// A client, as the kernel tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Index of the link.
    pub link: u32,
    /// Where it is on the link, as far as the link looks at that.
    pub origin: Origin,
    /// What it calls itself.
    pub duid: Duid,
}

/// What the kernel may grant to a client. It has at least one of the two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelBinding {
    /// The client.
    pub owner: Owner,
    /// The IAID of its IA_NA, and the address in it.
    pub address: Option<(u32, Ipv6Addr)>,
    /// The IAID of its IA_PD, and the prefix in it.
    pub prefix: Option<(u32, Prefix)>,
    /// The last time at which a grant of the link's valid lifetime is covered by storage, of either part.
    pub serve_until: Time,
}

/// What the kernel has granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The client.
    pub owner: Owner,
    /// Its IA, of the kind that holds such a resource.
    pub iaid: u32,
    /// The address or prefix.
    pub resource: Resource,
    /// When it was granted last.
    pub at: Time,
}

impl Engine {
    /// Takes up service with what the store holds.
    ///
    /// Leases and conflicts of links that are not configured are left in the store, and kept from everybody until they
    /// end. `seed` drives random allocation.
    pub fn new(config: &Config, server: Duid, contents: Contents, now: Time, seed: u64) -> Self {
        let mut engine = Self {
            server,
            preference: config.server.preference,
            horizon: config.fast_path.horizon,
            links: config.links.iter().cloned().map(Link::new).collect(),
            table: Table::default(),
            offers: Offers::default(),
            conflicts: Conflicts::default(),
            obstacles: Obstacles::default(),
            unpaid: Vec::new(),
            paying: Vec::new(),
            passed_on: config.server.relay_supplied_options.clone(),
            rng: StdRng::seed_from_u64(seed),
            changes: Vec::new(),
            forgotten: Vec::new(),
            unsaved: Unsaved::default(),
        };
        contents.into_iter().for_each(|row| engine.take_up(row, now));
        engine
    }

    /// The Server Identifier.
    pub fn server_duid(&self) -> &Duid {
        &self.server
    }

    /// The type of a message, for the counters; `None` where RFC 9915 has none.
    pub fn message_type(message: &[u8]) -> Option<MessageType> {
        message::message_type(message)
    }

    /// Whom the kernel must not answer any more, since this was called last. Once it does not, it may get what
    /// [`Engine::kernel_binding_of`] has left of theirs.
    pub fn take_forgotten(&mut self) -> Vec<Owner> {
        std::mem::take(&mut self.forgotten)
    }

    /// How many changes there are since [`Engine::take_changes`] was called last.
    pub fn changes(&self) -> usize {
        self.changes.len()
    }

    /// What has changed since this was called last, for the store to commit in this order; behind what
    /// [`Engine::committed`] was not called for then and no client asks for again. Not to be called while a commit is
    /// under way.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = std::mem::take(&mut self.changes);
        self.unsaved.lead(&mut changes);
        changes
    }

    /// Notes that changes are on stable storage. Returns what the kernel may serve by them, each client once, in place
    /// of what it has of these clients.
    pub fn committed(&mut self, now: Time, changes: &[Change]) -> Vec<KernelBinding> {
        self.unsaved.clear();
        // What has changed once more since then is the next commit's.
        let changed_since: HashSet<Resource> = self.changes.iter().filter_map(Change::lease).collect();
        let mut owners = HashSet::new();
        let mut served = Vec::new();
        for change in changes {
            if let Change::PutLease(Lease {
                resource,
                origin,
                duid,
                iaid,
                state: LeaseState::Bound,
                expires_at,
                ..
            }) = change
                && !changed_since.contains(resource)
            {
                self.table.stored(*resource, (*origin, duid, *iaid), *expires_at);
                if let Some(part) = self.table.get(*resource).and_then(|binding| self.kernel_part(binding)) {
                    self.table.make_main(*resource);
                    if owners.insert(part.owner) {
                        served.push(part.owner);
                    }
                }
            }
        }
        served.iter().filter_map(|owner| self.kernel_binding_of(now, owner)).collect()
    }

    /// Everything that the kernel may serve, each client once: to fill its maps at start.
    pub fn kernel_bindings(&self, now: Time) -> impl Iterator<Item = KernelBinding> {
        self.table.iter().filter_map(move |binding| self.kernel_binding_by(now, binding))
    }

    /// What the kernel may serve of a client, as far as storage goes.
    pub fn kernel_binding_of(&self, now: Time, owner: &Owner) -> Option<KernelBinding> {
        let part = |kind| self.table.main_of(owner, kind).and_then(|binding| self.kernel_part(binding));
        bindings::joined(now, part(IaKind::Na), part(IaKind::Pd))
    }

    /// Whether an option of a Solicit never changes the answer, whatever its value and however often it is there, so
    /// that the kernel need not look at it.
    pub fn ignores(code: OptionCode) -> bool {
        !matches!(
            code,
            OptionCode::CLIENT_ID
                | OptionCode::SERVER_ID
                | OptionCode::OPTION_REQUEST
                | OptionCode::RAPID_COMMIT
                | OptionCode::IA_NA
                | OptionCode::IA_PD
        )
    }

    /// The options of a Reply with Rapid Commit on a link, between its IA_NA and its Client Identifier, for a
    /// client that requests the options for which `requested` says so.
    pub fn rapid_commit_block(&self, link: u32, requested: impl Fn(OptionCode) -> bool) -> Vec<u8> {
        let options = &self.links[link as usize].config.options;
        reply::rapid_commit_block(&self.server, options, requested)
    }
}
