//! Who gets which address, for how long, and what of it storage has to know.

use std::{net::Ipv6Addr, sync::Arc};

use super::{
    Engine, KernelBinding,
    table::{Binding, Client},
};
use crate::{
    lease::{Change, Conflict, Contents, Lease, LeaseState},
    pool::Hold,
    time::Time,
};

/// What an address is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An Advertise. Takes nothing that was offered to somebody else, unless nothing else is left.
    Offer,
    /// A Reply. Goes before what was merely offered to somebody else.
    Lease,
}

impl Engine {
    /// Chooses the address of a client: its reservation; the address that it has; a free one that it asks for;
    /// the one offered to it; the one it had; the next free one; the one whose offer is the oldest.
    pub(super) fn choose(
        &mut self,
        client: &Client,
        hints: &[Ipv6Addr],
        purpose: Purpose,
    ) -> Option<Ipv6Addr> {
        let link = &self.links[client.link as usize];
        let bound = self.table.bound(client);
        let offered = self.offers.address_of(client);
        let unclaimed = |address: Ipv6Addr| match link.hold_of(address) {
            None => true,
            Some(Hold::Offer) => purpose == Purpose::Lease || offered == Some(address),
            Some(Hold::Lease | Hold::Conflict) => false,
        };
        if let Some(address) = link.reservation(client)
            && (bound == Some(address) || unclaimed(address))
        {
            return Some(address);
        }
        if let Some(address) = bound.filter(|address| link.may_have(client, *address)) {
            return Some(address);
        }
        let remembered = self.table.address_of(client).filter(|_| bound.is_none());
        let wanted = hints.iter().copied().chain(offered).chain(remembered);
        let available = |address: &Ipv6Addr| link.may_have(client, *address) && unclaimed(*address);
        if let Some(address) = { wanted }.find(available) {
            return Some(address);
        }
        let link = &mut self.links[client.link as usize];
        if let Some(address) = link.next_free(&mut self.rng) {
            return Some(address);
        }
        // Not what one message has just offered to another IA of the client, and not what is reserved.
        let address = self.offers.take_oldest(client.link, |other, address| {
            (purpose == Purpose::Lease || other.duid != client.duid) && link.may_have(client, address)
        })?;
        link.free(address, Hold::Offer);
        Some(address)
    }

    /// Offers a chosen address.
    pub(super) fn offer(&mut self, now: Time, client: &Client, address: Ipv6Addr) {
        if self.table.bound(client) == Some(address) {
            return;
        }
        let client = self.end_offers(client, address);
        if self.offers.is_full()
            && let Some(oldest) = self.offers.take_oldest(client.link, |_, _| true)
        {
            self.links[client.link as usize].free(oldest, Hold::Offer);
        }
        self.links[client.link as usize].hold(address, Hold::Offer);
        self.offers.insert(now, client, address);
    }

    /// Takes back what was offered to a client.
    pub(super) fn withdraw_offer(&mut self, client: &Client) {
        if let Some(address) = self.offers.address_of(client) {
            self.offers.remove(address);
            self.links[client.link as usize].free(address, Hold::Offer);
        }
    }

    /// Ends the offers of this client, and the offer of this address.
    fn end_offers(&mut self, client: &Client, address: Ipv6Addr) -> Arc<Client> {
        self.withdraw_offer(client);
        if self.offers.remove(address).is_some() {
            self.links[client.link as usize].free(address, Hold::Offer);
        }
        Arc::new(client.clone())
    }

    /// Leases a chosen address to a client, or extends its lease. Returns whether the promise has to wait for
    /// the commit.
    pub(super) fn lease(&mut self, now: Time, client: &Client, address: Ipv6Addr) -> bool {
        if self.table.bound(client) != Some(address) {
            self.bind(now, client, address);
        }
        self.extend(now, address)
    }

    /// Gives a client an address that nobody holds; it has to part with what it had before.
    fn bind(&mut self, now: Time, client: &Client, address: Ipv6Addr) {
        let client = self.end_offers(client, address);
        if let Some((old, binding)) = self.table.of(&client) {
            if binding.state == LeaseState::Bound {
                self.part_with(old);
            } else if old != address {
                self.table.remove(old);
                self.batch.changes.push(Change::RemoveLease(old));
            }
        }
        self.links[client.link as usize].hold(address, Hold::Lease);
        self.table.insert(
            address,
            Binding {
                client,
                state: LeaseState::Bound,
                preferred_until: now,
                valid_until: now,
                expires_at: now,
                stored_until: Time::EPOCH,
            },
        );
    }

    /// Promises the link's lifetimes from now on for a bound address.
    ///
    /// Storage is written ahead by the horizon, and again once half of that is used up: a promise that it covers
    /// already does not wait for the disk.
    fn extend(&mut self, now: Time, address: Ipv6Addr) -> bool {
        let Some(binding) = self.table.get(address) else { return true };
        let lifetimes = self.links[binding.client.link as usize].config.lifetimes;
        let valid_until = now.after_lifetime(lifetimes.valid);
        let preferred_until = now.after_lifetime(lifetimes.preferred);
        let write = binding.stored_until < valid_until.after(self.horizon / 2);
        let needs_commit = binding.stored_until < valid_until;
        let horizon = self.horizon;
        self.table.update(address, |binding| {
            binding.valid_until = valid_until;
            binding.preferred_until = preferred_until;
            // A longer promise, under an earlier configuration, still stands.
            binding.expires_at = binding.expires_at.max(valid_until.after(horizon));
        });
        if write {
            self.put(address);
        }
        needs_commit
    }

    /// Has the store write down a binding as it is.
    fn put(&mut self, address: Ipv6Addr) {
        let Some(binding) = self.table.get(address) else { return };
        let Binding { client, state, preferred_until, valid_until, expires_at, stored_until: _ } = binding;
        self.batch.changes.push(Change::PutLease(Lease {
            address,
            link: self.links[client.link as usize].config.name.clone(),
            duid: client.duid,
            iaid: client.iaid,
            state: *state,
            preferred_until: *preferred_until,
            valid_until: *valid_until,
            expires_at: *expires_at,
        }));
    }

    /// Ends a client's lease at its own wish. The client gets the address back if it comes again in time.
    pub(super) fn release(&mut self, client: &Client, address: Ipv6Addr) {
        self.unbind(address);
        self.put(address);
        debug_assert_eq!(self.table.address_of(client), Some(address));
    }

    /// Ends a client's lease on an address that somebody else uses, and takes it out of use.
    pub(super) fn decline(&mut self, now: Time, client: &Client, address: Ipv6Addr) {
        let until = now.after(self.links[client.link as usize].config.decline_hold);
        self.take_out_of_use(address, until);
    }

    /// Ends a client's lease against its will. The client goes on using the address where the commit fails or
    /// the answer is lost, so nobody else gets it before all that was promised of it has ended.
    pub(super) fn part_with(&mut self, address: Ipv6Addr) {
        if let Some(binding) = self.table.get(address) {
            self.take_out_of_use(address, binding.expires_at);
        }
    }

    fn take_out_of_use(&mut self, address: Ipv6Addr, until: Time) {
        self.unbind(address);
        let Some(Binding { client, .. }) = self.table.remove(address) else { return };
        let link = &mut self.links[client.link as usize];
        link.hold(address, Hold::Conflict);
        let conflict = Conflict { address, link: link.config.name.clone(), duid: client.duid, until };
        self.batch.changes.push(Change::RemoveLease(address));
        self.batch.changes.push(Change::PutConflict(conflict.clone()));
        self.conflicts.push(conflict);
    }

    /// Frees a bound address and has the kernel forget it. The client is remembered.
    fn unbind(&mut self, address: Ipv6Addr) {
        let Some(binding) = self.table.get(address) else { return };
        let client = Arc::clone(&binding.client);
        self.links[client.link as usize].free(address, Hold::Lease);
        self.batch.forget.push((client.link, client.duid));
        self.table.update(address, |binding| binding.state = LeaseState::Remembered);
    }

    /// Frees what has run out: leases, offers and conflicts. Leases that end cost no write, since their row in
    /// the store says when they end.
    pub fn expire(&mut self, now: Time) {
        while let Some(address) = self.table.next_expired(now) {
            self.unbind(address);
        }
        while let Some((client, address)) = self.offers.take_expired(now) {
            self.links[client.link as usize].free(address, Hold::Offer);
        }
        let ended: Vec<_> = self.conflicts.extract_if(.., |conflict| conflict.until <= now).collect();
        for conflict in ended {
            self.end_conflict(&conflict);
        }
    }

    /// Makes an address in conflict assignable at once; `false` where it is in no conflict. Whether somebody still
    /// uses it is for the operator to know.
    pub fn clear_conflict(&mut self, address: Ipv6Addr) -> bool {
        let Some(index) = self.conflicts.iter().position(|conflict| conflict.address == address) else {
            return false;
        };
        let conflict = self.conflicts.swap_remove(index);
        self.end_conflict(&conflict);
        true
    }

    fn end_conflict(&mut self, conflict: &Conflict) {
        if let Some(link) = self.links.iter_mut().find(|link| link.config.name == conflict.link) {
            link.free(conflict.address, Hold::Conflict);
        }
        self.batch.changes.push(Change::RemoveConflict(conflict.address));
    }

    /// Fills the state from the store.
    pub(super) fn take_up(&mut self, contents: Contents, now: Time) {
        let Contents { mut leases, conflicts } = contents;
        let index_of =
            |name: &str, links: &[super::Link]| links.iter().position(|link| link.config.name == name);
        // A client may have several rows, of which the one that it still holds counts, then the latest.
        leases.sort_by_key(|lease| {
            (lease.state == LeaseState::Bound && lease.expires_at > now, lease.expires_at)
        });
        for lease in leases.into_iter().rev() {
            let Some(link) = index_of(&lease.link, &self.links) else { continue };
            let Lease { address, link: _, duid, iaid, state, preferred_until, valid_until, expires_at } =
                lease;
            let client = Arc::new(Client { link: link as u32, duid, iaid });
            if self.table.address_of(&client).is_some() {
                continue;
            }
            let state = if expires_at <= now { LeaseState::Remembered } else { state };
            if state == LeaseState::Bound {
                self.links[link].hold(address, Hold::Lease);
            }
            self.table.insert(
                address,
                Binding { client, state, preferred_until, valid_until, expires_at, stored_until: expires_at },
            );
        }
        for conflict in conflicts {
            if let Some(link) = index_of(&conflict.link, &self.links) {
                self.links[link].hold(conflict.address, Hold::Conflict);
                self.conflicts.push(conflict);
            }
        }
    }

    /// What the kernel may serve of an address: a bound one that the engine, too, would give this client, up to
    /// what storage covers.
    pub(super) fn kernel_binding(&self, address: Ipv6Addr) -> Option<KernelBinding> {
        let binding = self.table.get(address).filter(|binding| binding.state == LeaseState::Bound)?;
        let client = &binding.client;
        let link = &self.links[client.link as usize];
        if !link.may_have(client, address) || link.reservation(client).is_some_and(|own| own != address) {
            return None;
        }
        Some(KernelBinding {
            link: client.link,
            duid: client.duid,
            iaid: client.iaid,
            address,
            serve_until: binding.stored_until.before_lifetime(link.config.lifetimes.valid),
        })
    }
}
