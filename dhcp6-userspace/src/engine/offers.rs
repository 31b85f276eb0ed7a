//! Addresses and prefixes that were advertised and not requested yet.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hashbrown::HashMap;

use super::table::Client;
use crate::{pool::Resource, time::Time};

/// How long an offer keeps its resource from others. A client requests within seconds of the Advertise
/// (RFC 9915, section 18.2.1: it collects Advertises for about a second).
const HOLD: Duration = Duration::from_secs(30);
/// No more offers than this are held at once, so that a flood of Solicits costs bounded memory; the oldest
/// gives way.
const MOST: usize = 1 << 16;

/// What has been offered to whom. Not stored: an offer promises nothing.
#[derive(Debug, Default)]
pub(super) struct Offers {
    by_client: HashMap<Arc<Client>, Resource>,
    by_resource: HashMap<Resource, Offer>,
    /// Oldest first; the number tells those of one moment apart.
    by_age: BTreeSet<(Time, u64, Resource)>,
    /// The same for each link.
    by_link: BTreeSet<(u32, Time, u64, Resource)>,
    /// How many offers there were.
    count: u64,
}

#[derive(Debug)]
struct Offer {
    client: Arc<Client>,
    until: Time,
    number: u64,
}

impl Offers {
    pub(super) fn resource_of(&self, client: &Client) -> Option<Resource> {
        self.by_client.get(client).copied()
    }

    pub(super) fn is_full(&self) -> bool {
        self.by_resource.len() >= MOST
    }

    /// Offers a free resource to a client that has no offer.
    pub(super) fn insert(&mut self, now: Time, client: Arc<Client>, resource: Resource) {
        let until = now.after(HOLD);
        let number = self.count;
        self.count += 1;
        self.by_age.insert((until, number, resource));
        self.by_link.insert((client.link, until, number, resource));
        self.by_client.insert(Arc::clone(&client), resource);
        self.by_resource.insert(resource, Offer { client, until, number });
    }

    /// Ends the offer of a resource; returns whose it was.
    pub(super) fn remove(&mut self, resource: Resource) -> Option<Arc<Client>> {
        let Offer { client, until, number } = self.by_resource.remove(&resource)?;
        self.by_client.remove(&client);
        self.by_age.remove(&(until, number, resource));
        self.by_link.remove(&(client.link, until, number, resource));
        Some(client)
    }

    /// Ends the next offer whose time has come.
    pub(super) fn take_expired(&mut self, now: Time) -> Option<(Arc<Client>, Resource)> {
        let (_, _, resource) = *self.by_age.first().filter(|(until, _, _)| *until <= now)?;
        Some((self.remove(resource)?, resource))
    }

    /// Ends the oldest offer of all; returns its resource, too.
    pub(super) fn take_oldest(&mut self) -> Option<(Arc<Client>, Resource)> {
        let (_, _, resource) = *self.by_age.first()?;
        Some((self.remove(resource)?, resource))
    }

    /// Ends the oldest offer on a link of those that may be taken from their client; returns its resource.
    pub(super) fn take_oldest_of(
        &mut self,
        link: u32,
        may_take: impl Fn(&Client, Resource) -> bool,
    ) -> Option<Resource> {
        let of_link = self.by_link.range((link, Time::EPOCH, 0, Resource::LEAST)..);
        let mut of_link = of_link.take_while(|(of, ..)| *of == link).map(|(.., resource)| *resource);
        let resource = of_link.find(|resource| may_take(&self.by_resource[resource].client, *resource))?;
        self.remove(resource)?;
        Some(resource)
    }
}
