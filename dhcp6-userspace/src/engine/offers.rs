//! Addresses that were advertised and not requested yet.

use std::{
    collections::{HashMap, VecDeque},
    net::Ipv6Addr,
    sync::Arc,
    time::Duration,
};

use super::table::Client;
use crate::time::Time;

/// How long an offer keeps its address from others. A client requests within seconds of the Advertise
/// (RFC 9915, section 18.2.1: it collects Advertises for about a second).
const HOLD: Duration = Duration::from_secs(30);
/// No more offers than this are held at once, so that a flood of Solicits costs bounded memory; the oldest
/// gives way.
const MOST: usize = 1 << 16;

/// What has been offered to whom. Not stored: an offer promises nothing.
#[derive(Debug, Default)]
pub(super) struct Offers {
    by_client: HashMap<Arc<Client>, Ipv6Addr>,
    by_address: HashMap<Ipv6Addr, Offer>,
    /// Oldest first. An entry whose offer has been taken, or renewed since, is passed over.
    queue: VecDeque<(Time, Ipv6Addr)>,
}

#[derive(Debug)]
struct Offer {
    client: Arc<Client>,
    until: Time,
}

impl Offers {
    pub(super) fn address_of(&self, client: &Client) -> Option<Ipv6Addr> {
        self.by_client.get(client).copied()
    }

    pub(super) fn is_full(&self) -> bool {
        self.by_address.len() >= MOST
    }

    /// Offers a free address to a client that has no offer, or renews the offer of this address.
    pub(super) fn insert(&mut self, now: Time, client: Arc<Client>, address: Ipv6Addr) {
        let until = now.after(HOLD);
        self.by_client.insert(Arc::clone(&client), address);
        self.by_address.insert(address, Offer { client, until });
        self.queue.push_back((until, address));
    }

    /// Ends the offer of an address; returns whose it was.
    pub(super) fn remove(&mut self, address: Ipv6Addr) -> Option<Arc<Client>> {
        let Offer { client, until: _ } = self.by_address.remove(&address)?;
        self.by_client.remove(&client);
        Some(client)
    }

    /// Ends the next offer whose time has come.
    pub(super) fn take_expired(&mut self, now: Time) -> Option<(Arc<Client>, Ipv6Addr)> {
        self.skip_stale();
        let (until, address) = *self.queue.front()?;
        if until > now {
            return None;
        }
        self.queue.pop_front();
        Some((self.remove(address)?, address))
    }

    /// Ends the oldest offer on a link of those that may be taken from their client; returns its address.
    pub(super) fn take_oldest(
        &mut self,
        link: u32,
        may_take: impl Fn(&Client, Ipv6Addr) -> bool,
    ) -> Option<Ipv6Addr> {
        self.skip_stale();
        let is_wanted = |(until, address): &&(Time, Ipv6Addr)| {
            self.by_address.get(address).is_some_and(|offer| {
                offer.until == *until && offer.client.link == link && may_take(&offer.client, *address)
            })
        };
        let (_, address) = *self.queue.iter().find(is_wanted)?;
        self.remove(address)?;
        Some(address)
    }

    fn skip_stale(&mut self) {
        while let Some((until, address)) = self.queue.front() {
            if self.by_address.get(address).is_some_and(|offer| offer.until == *until) {
                break;
            }
            self.queue.pop_front();
        }
    }
}
