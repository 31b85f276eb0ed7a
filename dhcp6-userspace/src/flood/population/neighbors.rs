//! What clients say to their neighbors on the link (RFC 4861).

use std::net::Ipv6Addr;

use super::Population;
use crate::flood::{
    client::Identity,
    frame::{self, Mac},
};

impl Population {
    /// Answers who asks for a client's address.
    pub(super) fn handle_solicitation(&mut self, now: u64, from: (Mac, Ipv6Addr), target: Ipv6Addr) {
        // RFC 4862, section 5.4.3: another node that wants the address, too.
        let wants_it = from.1.is_unspecified();
        if wants_it && self.checking.get(&target).is_some_and(|client| self.identity(*client).mac() != from.0)
        {
            return self.find_conflict(target);
        }
        if let Some(mac) = self.owner(now, target).filter(|mac| *mac != from.0) {
            self.counters.neighbor_solicitations += 1;
            self.answers.push_back(frame::neighbor_advertisement(mac, target, from));
        }
    }

    /// Which of the clients, or of their relay agents, has an address.
    fn owner(&self, now: u64, address: Ipv6Addr) -> Option<Mac> {
        if let Some((mac, _)) = self.plan.relays.map(|relays| relays.outermost()).filter(|it| it.1 == address)
        {
            return Some(mac);
        }
        let by_lease = || {
            // One that is about to take it is silent (RFC 4862, section 5.4).
            let is_tentative = self.checking.contains_key(&address);
            let holder = self.shared.holder(now, (address, 128)).filter(|_| !is_tentative);
            holder.map(Identity)
        };
        let identity = Identity::of_link_local(address).or_else(by_lease)?;
        self.client(identity).map(|_| identity.mac())
    }
}
