//! Addresses and prefixes that were advertised and not requested yet.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

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
    /// Oldest first. An entry whose offer has been taken, or renewed since, is passed over.
    queue: VecDeque<(Time, Resource)>,
}

#[derive(Debug)]
struct Offer {
    client: Arc<Client>,
    until: Time,
}

impl Offers {
    pub(super) fn resource_of(&self, client: &Client) -> Option<Resource> {
        self.by_client.get(client).copied()
    }

    pub(super) fn is_full(&self) -> bool {
        self.by_resource.len() >= MOST
    }

    /// Offers a free resource to a client that has no offer, or renews the offer of this resource.
    pub(super) fn insert(&mut self, now: Time, client: Arc<Client>, resource: Resource) {
        let until = now.after(HOLD);
        self.by_client.insert(Arc::clone(&client), resource);
        self.by_resource.insert(resource, Offer { client, until });
        self.queue.push_back((until, resource));
    }

    /// Ends the offer of a resource; returns whose it was.
    pub(super) fn remove(&mut self, resource: Resource) -> Option<Arc<Client>> {
        let Offer { client, until: _ } = self.by_resource.remove(&resource)?;
        self.by_client.remove(&client);
        Some(client)
    }

    /// Ends the next offer whose time has come.
    pub(super) fn take_expired(&mut self, now: Time) -> Option<(Arc<Client>, Resource)> {
        self.skip_stale();
        let (until, resource) = *self.queue.front()?;
        if until > now {
            return None;
        }
        self.queue.pop_front();
        Some((self.remove(resource)?, resource))
    }

    /// Ends the oldest offer on a link of those that may be taken from their client; returns its resource.
    pub(super) fn take_oldest(
        &mut self,
        link: u32,
        may_take: impl Fn(&Client, Resource) -> bool,
    ) -> Option<Resource> {
        self.skip_stale();
        let is_wanted = |(until, resource): &&(Time, Resource)| {
            self.by_resource.get(resource).is_some_and(|offer| {
                offer.until == *until && offer.client.link == link && may_take(&offer.client, *resource)
            })
        };
        let (_, resource) = *self.queue.iter().find(is_wanted)?;
        self.remove(resource)?;
        Some(resource)
    }

    fn skip_stale(&mut self) {
        while let Some((until, resource)) = self.queue.front() {
            if self.by_resource.get(resource).is_some_and(|offer| offer.until == *until) {
                break;
            }
            self.queue.pop_front();
        }
    }
}
