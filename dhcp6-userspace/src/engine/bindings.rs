//! Who gets which address or prefix, for how long, and what of it storage has to know.

use std::sync::Arc;

use dhcp6_common::{Origin, contract};

use super::{
    Engine, Grant, KernelBinding, Owner,
    link::Host,
    message::Ia,
    table::{Binding, Client, Terms},
};
use crate::{
    lease::{Change, Conflict, ConflictCause, Lease, LeaseState, Row},
    pool::{Hold, IaKind, Resource},
    time::Time,
};

/// What a resource is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An Advertise. Takes nothing that was offered to somebody else, unless nothing else is left.
    Offer,
    /// A Reply. Goes before what was merely offered to somebody else.
    Lease,
}

impl Engine {
    /// Chooses the address or prefix of an IA: its reservation; what it has; a free one that the client asks for;
    /// the one offered to it; the one it had; the next free one, of prefixes one of the length that the client asks
    /// for before others; the one whose offer is the oldest.
    pub(super) fn choose(
        &mut self,
        host: &Host,
        client: &Client,
        ia: &Ia,
        purpose: Purpose,
    ) -> Option<Resource> {
        let link = &self.links[client.link as usize];
        let bound = self.table.bound(client);
        let offered = self.offers.resource_of(client);
        let unclaimed = |resource: Resource| match link.hold_of(resource) {
            Some(Hold::Offer) => purpose == Purpose::Lease || offered == Some(resource),
            Some(Hold::Lease | Hold::Conflict) => false,
            None => self.obstacles.in_the_way(resource.range()).is_none(),
        };
        let reserved = link.reserved_for(host, client.kind, client.iaid);
        if let Some(resource) = reserved
            && (bound == Some(resource) || unclaimed(resource))
        {
            return Some(resource);
        }
        if let Some(resource) = bound.filter(|resource| link.may_have(reserved, *resource)) {
            return Some(resource);
        }
        let remembered = self.table.resource_of(client).filter(|_| bound.is_none());
        let wanted = ia.named.iter().copied().chain(offered).chain(remembered);
        let available = |resource: &Resource| link.may_have(reserved, *resource) && unclaimed(*resource);
        if let Some(resource) = { wanted }.find(available) {
            return Some(resource);
        }
        let Self { links, obstacles, offers, rng, .. } = self;
        let link = &mut links[client.link as usize];
        let in_the_way = |range| obstacles.in_the_way(range);
        if let Some(resource) = link.next_free(client.kind, ia.length, rng, in_the_way) {
            return Some(resource);
        }
        // Not what one message has just offered to another IA of the client, and not what is reserved.
        let resource = offers.take_oldest_of(client.link, |other, resource| {
            other.kind == client.kind
                && (purpose == Purpose::Lease || other.owner() != client.owner())
                && link.may_have(reserved, resource)
        })?;
        self.free(client.link, resource, Hold::Offer);
        Some(resource)
    }

    /// Holds a resource that nobody holds. One that no pool and no reservation of the link knows is kept from all
    /// links.
    fn hold(&mut self, link: u32, resource: Resource, hold: Hold) {
        if !self.links[link as usize].hold(resource, hold) {
            self.obstacles.insert(resource);
        }
    }

    /// Ends a hold.
    fn free(&mut self, link: u32, resource: Resource, hold: Hold) {
        if !self.links[link as usize].free(resource, hold) {
            self.obstacles.remove(resource);
        }
    }

    /// Offers what was chosen.
    pub(super) fn offer(&mut self, now: Time, client: &Client, resource: Resource) {
        if self.table.bound(client) == Some(resource) {
            return;
        }
        self.end_offers(client, resource);
        if self.offers.is_full()
            && let Some((other, oldest)) = self.offers.take_oldest()
        {
            self.free(other.link, oldest, Hold::Offer);
        }
        self.hold(client.link, resource, Hold::Offer);
        self.offers.insert(now, Arc::new(client.clone()), resource);
    }

    /// Takes back what was offered to a client.
    pub(super) fn withdraw_offer(&mut self, client: &Client) {
        if let Some(resource) = self.offers.resource_of(client) {
            self.offers.remove(resource);
            self.free(client.link, resource, Hold::Offer);
        }
    }

    /// Ends the offers of this client, and the offer of this resource.
    fn end_offers(&mut self, client: &Client, resource: Resource) {
        self.withdraw_offer(client);
        if self.offers.remove(resource).is_some() {
            self.free(client.link, resource, Hold::Offer);
        }
    }

    /// Leases what was chosen to a client, or extends its lease. Returns whether the promise has to wait for the
    /// commit.
    pub(super) fn lease(&mut self, now: Time, client: &Client, resource: Resource) -> bool {
        if self.table.bound(client) != Some(resource) {
            self.bind(now, client, resource);
        }
        self.extend(now, resource)
    }

    /// Gives a client a resource that nobody holds; it has to part with what it had before.
    fn bind(&mut self, now: Time, client: &Client, resource: Resource) {
        self.end_offers(client, resource);
        if let Some(binding) = self.table.of(client) {
            let old = binding.resource;
            if binding.is_bound() {
                self.part_with(old);
            } else if old != resource {
                self.table.remove(old);
                self.changes.push(Change::RemoveLease(old));
            }
        }
        self.hold(client.link, resource, Hold::Lease);
        let terms = self.terms_from(now, client.link);
        self.table.insert(client, resource, LeaseState::Bound, terms);
    }

    /// A link's lifetimes from now on, of which storage says nothing yet. It is to be written ahead by the horizon.
    fn terms_from(&self, now: Time, link: u32) -> Terms {
        let lifetimes = self.links[link as usize].config.lifetimes;
        let valid_until = now.after_lifetime(lifetimes.valid);
        Terms {
            preferred_until: now.after_lifetime(lifetimes.preferred),
            valid_until,
            expires_at: valid_until.after(self.horizon),
            stored_until: Time::EPOCH,
        }
    }

    /// Promises the link's lifetimes from now on for a bound resource. Returns whether the promise has to wait for the
    /// commit.
    fn extend(&mut self, now: Time, resource: Resource) -> bool {
        let Some(terms) = self.promise(now, resource) else { return true };
        if self.is_to_be_written(&terms) {
            self.put(resource);
        }
        terms.stored_until < terms.valid_until
    }

    /// Notes that the link's lifetimes are promised from now on, by either plane.
    fn promise(&mut self, now: Time, resource: Resource) -> Option<Terms> {
        let promised = self.terms_from(now, self.table.get(resource)?.link);
        self.table.update(resource, |terms| {
            terms.valid_until = promised.valid_until;
            terms.preferred_until = promised.preferred_until;
            // A longer promise, under an earlier configuration, still stands.
            terms.expires_at = terms.expires_at.max(promised.expires_at);
        });
        self.table.get(resource).map(|binding| binding.terms)
    }

    /// Storage is written ahead by the horizon, and again once half of that is used up: a promise that it covers
    /// already does not wait for the disk.
    fn is_to_be_written(&self, terms: &Terms) -> bool {
        terms.stored_until < terms.valid_until.after(self.horizon / 2)
    }

    /// Notes that the kernel has granted a binding. Where half of the horizon is used up, [`Engine::pay`] is to be called.
    /// Nothing where the binding has ended meanwhile.
    pub fn granted(&mut self, grant: &Grant) {
        let Grant { owner: Owner { link, origin, duid }, iaid, resource, at } = *grant;
        let client = Client { link, origin, duid, kind: resource.kind(), iaid };
        let Some(binding) = self.table.of(&client) else { return };
        let valid_until = at.after_lifetime(self.links[link as usize].config.lifetimes.valid);
        let is_news = valid_until > binding.terms.valid_until;
        if binding.resource != resource || !binding.is_bound() || !is_news {
            return;
        }
        if self.promise(at, resource).is_some_and(|terms| self.is_to_be_written(&terms)) {
            self.unpaid.push(resource);
        }
    }

    /// Has the store written ahead for at most so many of the bindings that the kernel has granted, so that it may go on;
    /// `false` where there are more. They come in the order of their addresses: neighbours share a page of the store.
    pub fn pay(&mut self, most: usize) -> bool {
        if self.paying.is_empty() {
            self.paying = std::mem::take(&mut self.unpaid);
            self.paying.sort_unstable_by(|a, b| b.cmp(a));
            self.paying.dedup();
        }
        for resource in self.paying.split_off(self.paying.len().saturating_sub(most)).into_iter().rev() {
            let binding = self.table.get(resource).filter(|binding| binding.is_bound());
            if binding.is_some_and(|binding| self.is_to_be_written(&binding.terms)) {
                self.put(resource);
            }
        }
        self.paying.is_empty() && self.unpaid.is_empty()
    }

    /// Has the store write down a binding as it is.
    fn put(&mut self, resource: Resource) {
        let Some(binding) = self.table.get(resource) else { return };
        let Terms { preferred_until, valid_until, expires_at, stored_until: _ } = binding.terms;
        self.changes.push(Change::PutLease(Lease {
            resource,
            link: Arc::clone(&self.links[binding.link as usize].name),
            origin: binding.origin,
            duid: binding.duid(),
            iaid: binding.iaid,
            state: binding.state,
            preferred_until,
            valid_until,
            expires_at,
        }));
    }

    /// Ends a lease at its client's own wish. The client gets the resource back if it comes again in time.
    pub(super) fn release(&mut self, resource: Resource) {
        self.unbind(resource);
        self.put(resource);
    }

    /// Ends a lease at the operator's wish, who has to know that the client does not use it any more; `false` where
    /// there is none.
    pub fn release_lease(&mut self, resource: Resource) -> bool {
        let bound = self.table.get(resource).is_some_and(Binding::is_bound);
        if bound {
            self.release(resource);
        }
        bound
    }

    /// Ends a client's lease on an address that somebody else uses, and takes it out of use. A client, and all
    /// clients of a link together, can have so many addresses out of use; with one more, another of them comes back, the
    /// one whose time ends first (RFC 9915, section 18.3.8, leaves it to the server how long it believes a Decline).
    pub(super) fn decline(&mut self, now: Time, client: &Client, address: Resource) {
        let config = &self.links[client.link as usize].config;
        let limit = config.decline_limit as usize;
        let until = now.after(config.decline_hold);
        self.take_out_of_use(address, ConflictCause::Declined, until);
        let by_client = self.conflicts.declined_by(client.link, client.duid);
        if by_client.len() > limit
            && let Some(other) = by_client.into_iter().find(|other| *other != address)
        {
            self.clear_conflict(other);
        }
        if self.conflicts.declined(client.link) > self.most_declined(client.link)
            && let Some(other) = self.conflicts.first_declined(client.link, address)
        {
            self.clear_conflict(other);
        }
    }

    /// Half of the addresses that a link can assign, but at least one.
    fn most_declined(&self, link: u32) -> usize {
        let counts = self.links[link as usize].counts(IaKind::Na);
        let assignable = counts.idle.saturating_add(u128::from(counts.used + counts.conflict));
        usize::try_from(assignable / 2).unwrap_or(usize::MAX).max(1)
    }

    /// Ends a client's lease against its will. The client goes on using the resource where the commit fails or
    /// the answer is lost, so nobody else gets it before all that was promised of it has ended.
    pub(super) fn part_with(&mut self, resource: Resource) {
        if let Some(binding) = self.table.get(resource) {
            self.take_out_of_use(resource, ConflictCause::Withdrawn, binding.terms.expires_at);
        }
    }

    fn take_out_of_use(&mut self, resource: Resource, cause: ConflictCause, until: Time) {
        self.unbind(resource);
        let Some(binding) = self.table.remove(resource) else { return };
        self.hold(binding.link, resource, Hold::Conflict);
        let link = Arc::clone(&self.links[binding.link as usize].name);
        let conflict = Conflict { resource, link, duid: binding.duid(), cause, until };
        self.changes.push(Change::RemoveLease(resource));
        self.changes.push(Change::PutConflict(conflict.clone()));
        self.conflicts.insert(binding.link, conflict);
    }

    /// Frees a bound resource and has the kernel forget it. The client is remembered.
    fn unbind(&mut self, resource: Resource) {
        let Some(binding) = self.table.get(resource) else { return };
        let owner = binding.owner();
        self.free(owner.link, resource, Hold::Lease);
        self.forgotten.push(owner);
        self.table.end(resource);
    }

    /// Frees what has run out: offers, conflicts, and at most so many leases; `false` where more of those have. Leases
    /// that end cost no write, since their row in the store says when they end.
    pub fn expire(&mut self, now: Time, most: usize) -> bool {
        let mut ended = 0;
        while ended < most
            && let Some(resource) = self.table.take_expired(now)
        {
            self.unbind(resource);
            ended += 1;
        }
        while let Some((client, resource)) = self.offers.take_expired(now) {
            self.free(client.link, resource, Hold::Offer);
        }
        while let Some(resource) = self.conflicts.next_ended(now) {
            self.clear_conflict(resource);
        }
        self.obstacles.expire(now);
        ended < most
    }

    /// Makes assignable at once what is in conflict, or leased on a link that is not configured any more; `false` where
    /// it is neither. Whether somebody still uses it is for the operator to know.
    pub fn clear_conflict(&mut self, resource: Resource) -> bool {
        if self.obstacles.remove_outlived(resource) {
            // Either row may be the one.
            self.changes.extend([Change::RemoveLease(resource), Change::RemoveConflict(resource)]);
            return true;
        }
        let Some(link) = self.conflicts.remove(resource) else { return false };
        self.free(link, resource, Hold::Conflict);
        self.changes.push(Change::RemoveConflict(resource));
        true
    }

    /// Makes room for about so many leases.
    pub fn expect(&mut self, leases: usize) {
        self.table.reserve(leases);
    }

    /// Takes up something else that is in the store, before the first message is handled.
    pub fn take_up(&mut self, row: Row, now: Time) {
        match row {
            Row::Lease(lease) => self.take_up_lease(lease, now),
            Row::Conflict(conflict) => self.take_up_conflict(conflict, now),
        }
    }

    fn take_up_lease(&mut self, lease: Lease, now: Time) {
        let Lease { resource, link, origin, duid, iaid, state, preferred_until, valid_until, expires_at } =
            lease;
        let state = if expires_at <= now { LeaseState::Remembered } else { state };
        let client = index_of(&self.links, &link).map(|link| {
            // What the link does not look at any more tells nobody apart.
            let origin = self.links[link as usize].config.origin_of(origin.vlan, Some(origin.mac));
            Client { link, origin, duid, kind: resource.kind(), iaid }
        });
        // An IA may have several rows, of which the one that it still holds counts, then the latest.
        let other = client.as_ref().and_then(|client| self.table.of(client));
        let rank = |state, expires_at| (state == LeaseState::Bound, expires_at);
        let counts =
            other.is_none_or(|other| rank(state, expires_at) >= rank(other.state, other.terms.expires_at));
        let Some(client) = client.filter(|_| counts) else {
            if state == LeaseState::Bound {
                self.obstacles.insert_until(resource, expires_at);
            }
            return;
        };
        if let Some(other) = other.map(|other| other.resource).and_then(|other| self.table.remove(other))
            && other.is_bound()
        {
            self.free(client.link, other.resource, Hold::Lease);
            self.obstacles.insert_until(other.resource, other.terms.expires_at);
        }
        if state == LeaseState::Bound {
            self.hold(client.link, resource, Hold::Lease);
        }
        let terms = Terms { preferred_until, valid_until, expires_at, stored_until: expires_at };
        self.table.insert(&client, resource, state, terms);
        if self.links[client.link as usize].misses_some_of(client.origin) {
            self.table.set_adoptable(resource, true);
        }
    }

    /// Gives a client what is its own of the time when the link did not look at all of its origin, or the store did not
    /// know it: what has its DUID and IAID, and lacks what the link looks at. Whoever comes first is that client.
    pub(super) fn adopt(&mut self, client: &Client) {
        if !self.table.has_adoptable() {
            return;
        }
        if let Some(own) = self.table.of(client) {
            // It is known by as much as it will ever tell.
            let own = own.resource;
            self.table.set_adoptable(own, false);
            return;
        }
        let Origin { vlan, mac } = client.origin;
        let unknown = Origin::ANY;
        let earlier = [Origin { vlan, ..unknown }, Origin { mac, ..unknown }, unknown];
        let found = earlier.map(|origin| self.table.of(&Client { origin, ..client.clone() }));
        let mut found: Vec<_> =
            found.into_iter().flatten().filter(|binding| binding.is_adoptable()).collect();
        found.sort_by_key(|binding| (binding.is_bound(), binding.terms.expires_at));
        let Some(resource) = found.last().map(|binding| binding.resource) else { return };
        let Some(binding) = self.table.remove(resource) else { return };
        self.forgotten.push(binding.owner());
        // Until storage knows whose it is, another one could come first after a restart.
        let terms = Terms { stored_until: Time::EPOCH, ..binding.terms };
        self.table.insert(client, resource, binding.state, terms);
        self.put(resource);
    }

    fn take_up_conflict(&mut self, conflict: Conflict, now: Time) {
        if conflict.until <= now {
            // Somebody else may have had it since then, under another configuration.
            self.changes.push(Change::RemoveConflict(conflict.resource));
        } else if let Some(link) = index_of(&self.links, &conflict.link) {
            self.hold(link, conflict.resource, Hold::Conflict);
            self.conflicts.insert(link, conflict);
        } else {
            self.obstacles.insert_until(conflict.resource, conflict.until);
        }
    }

    /// What the kernel may serve of a client by one of its bindings, and by the one of the other kind. Of each client's
    /// bindings, one at most gives something.
    pub(super) fn kernel_binding_by(&self, now: Time, binding: &Binding) -> Option<KernelBinding> {
        if !binding.is_main() {
            return None;
        }
        let part = self.kernel_part(binding)?;
        let other = |kind| {
            let is_needed = self.links[binding.link as usize].delegates;
            let other = is_needed.then(|| self.table.main_beside(binding, kind)).flatten();
            other.and_then(|other| self.kernel_part(other))
        };
        match binding.resource.kind() {
            IaKind::Na => joined(now, Some(part), other(IaKind::Pd)),
            // The address stands for both.
            IaKind::Pd => other(IaKind::Na).is_none().then_some(part),
        }
    }

    /// What the kernel may serve of a binding: a bound address or prefix that the engine, too, would give this client
    /// with the options of its link, up to what storage covers.
    pub(super) fn kernel_part(&self, binding: &Binding) -> Option<KernelBinding> {
        let resource = binding.resource;
        // A lease that storage does not know is nobody's promise yet.
        let is_stored = binding.terms.stored_until > Time::EPOCH;
        let is_too_long = matches!(resource, Resource::Prefix(prefix) if prefix.length() > contract::Binding::LONGEST_PREFIX);
        if !binding.is_bound() || !is_stored || is_too_long {
            return None;
        }
        let client = binding.client();
        let link = &self.links[client.link as usize];
        // Whose origin is not known whole may be anybody's.
        if link.misses_some_of(client.origin) {
            return None;
        }
        let host = link.host_of(&client);
        // Where the kernel does not look at the MAC address, that counts only where the DUID has no reservation.
        let may_be_reserved = link.knows_macs && !link.config.bind_to_mac;
        let is_settled = !may_be_reserved || link.reservation(&host, Some(client.iaid)).is_some();
        let is_sure = match link.reserved_for(&host, client.kind, client.iaid) {
            Some(own) => own == resource,
            None => is_settled && link.may_have(None, resource),
        };
        // Nor for the options: they may come from a reservation for any IAID.
        let is_plain = !may_be_reserved || link.reservation(&host, None).is_some();
        if !is_sure || !is_plain || link.has_own_options(&host, client.iaid, resource) {
            return None;
        }
        let (address, prefix) = match resource {
            Resource::Address(address) => (Some((client.iaid, address)), None),
            Resource::Prefix(prefix) => (None, Some((client.iaid, prefix))),
        };
        Some(KernelBinding {
            owner: client.owner(),
            address,
            prefix,
            serve_until: binding.terms.stored_until.before_lifetime(link.config.lifetimes.valid),
        })
    }
}

/// Both parts of what the kernel may serve, as one: it serves them together, or not at all. So what it may not serve any
/// more at this time is left out, that it may go on with the other one.
pub(super) fn joined(
    now: Time,
    address: Option<KernelBinding>,
    prefix: Option<KernelBinding>,
) -> Option<KernelBinding> {
    let (Some(one), Some(other)) = (address, prefix) else { return address.or(prefix) };
    match (one.serve_until < now, other.serve_until < now) {
        (false, true) => Some(one),
        (true, false) => Some(other),
        _ => Some(KernelBinding {
            prefix: other.prefix,
            serve_until: one.serve_until.min(other.serve_until),
            ..one
        }),
    }
}

/// The index of the link with this name.
fn index_of(links: &[super::link::Link], name: &str) -> Option<u32> {
    links.iter().position(|link| *link.name == *name).map(|index| index as u32)
}
