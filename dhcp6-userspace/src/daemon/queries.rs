//! What operators ask.

use dhcp6_common::{Origin, Vlan};
use tracing::warn;

use super::{Daemon, OPERATORS_PATIENCE, kernel::Kernel, queue::Class};
use crate::{
    control::{
        AddressRow, Cleared, FastPathRow, FastPathStatus, LeaseRow, LinkStatus, PoolDetail, PoolRow,
        PrefixRow, Query, Queued, ReceiveBuffer, Released, Response, SlowPathCounters, Status, StoreStatus,
        Text,
    },
    engine::{LeaseView, Owner, ResourceView},
    lease::LeaseState,
    metrics::Snapshot,
    net::RECEIVE_BUFFER,
    pool::{IaKind, Resource},
    time::Time,
};

impl Daemon {
    /// Answers one question of the control socket.
    pub(super) fn answer(&mut self, query: &Query) -> Response {
        let document = match query {
            Query::Status => serde_json::to_value(self.status()),
            Query::PoolList => serde_json::to_value(self.pools()),
            Query::PoolShow { link, state, limit } => {
                let Some(index) = self.link_index(link) else { return no_such_link(link) };
                serde_json::to_value(
                    self.pool(link, index, |kind| self.engine.resources(index, kind, *state, *limit)),
                )
            }
            Query::LeaseList { link, duid } => {
                if let Some(link) = link.as_ref().filter(|link| self.link_index(link).is_none()) {
                    return no_such_link(link);
                }
                serde_json::to_value(self.leases(link.as_deref(), duid.as_deref()))
            }
            Query::LeaseShow { resource: Text(resource) } => {
                let Some(lease) = self.engine.lease_of(*resource) else {
                    return Response::Refused(format!("there is no lease of {resource}"));
                };
                serde_json::to_value(self.lease_row(&lease))
            }
            Query::LeaseRelease { resource: Text(resource) } => {
                if !self.engine.release_lease(*resource) {
                    return Response::Refused(format!("there is no running lease of {resource}"));
                }
                if !self.settle(Some(OPERATORS_PATIENCE)) {
                    let reason = "the store cannot forget the lease yet; it will be back after a restart";
                    return Response::Refused(format!("{resource} is released, but {reason}"));
                }
                serde_json::to_value(Released { released: Text(*resource) })
            }
            Query::ConflictClear { resource: Text(resource) } => {
                if !self.engine.clear_conflict(*resource) {
                    return Response::Refused(format!("{resource} is in no conflict"));
                }
                if !self.settle(Some(OPERATORS_PATIENCE)) {
                    let reason = "the store cannot forget the conflict yet; it will be back after a restart";
                    return Response::Refused(format!("{resource} is cleared, but {reason}"));
                }
                serde_json::to_value(Cleared { cleared: Text(*resource) })
            }
            Query::ConfigReload => match self.reload() {
                Ok(reloaded) => serde_json::to_value(reloaded),
                Err(error) => return Response::Refused(error),
            },
            Query::Stats => serde_json::to_value(self.slow_path()),
        };
        document.map_or_else(|failure| Response::Refused(failure.to_string()), Response::Ok)
    }

    /// What a scrape of the metrics shows.
    pub(super) fn snapshot(&self) -> Snapshot {
        let fast_path = self.kernel.as_ref().map(Kernel::counters).transpose().unwrap_or_else(|failure| {
            warn!("{failure}: the metrics lack the fast path's counters");
            None
        });
        Snapshot {
            since: self.since,
            status: self.status(),
            pools: self.pools(),
            slow_path: self.slow_path(),
            fast_path: fast_path.unwrap_or_default(),
        }
    }

    fn slow_path(&self) -> SlowPathCounters {
        let waiting = |class| self.queue.len(class) as u64;
        let queued = Queued {
            clients: waiting(Class::Clients),
            known: waiting(Class::Known),
            strangers: waiting(Class::Strangers),
        };
        self.stats.counters(self.socket_drops(), queued)
    }

    /// Datagrams that the sockets that are open now have lost.
    pub(super) fn socket_drops(&self) -> u64 {
        self.sockets.iter().map(|listener| u64::from(listener.socket.dropped())).sum()
    }

    /// The interfaces that the kernel answers on, by their names of now.
    fn fast_path_rows(&self) -> Vec<FastPathRow> {
        { self.kernel.iter() }
            .flat_map(|kernel| kernel.rows(self.config.fast_path.mode))
            .filter(|row| self.presence.has_fast_path(&row.interface))
            .map(|row| {
                let now = self.presence.get(&row.interface).and_then(|state| state.now.as_ref());
                FastPathRow { interface: now.map_or(row.interface, |now| now.name.clone()), ..row }
            })
            .collect()
    }

    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: self.since.to_string(),
            server_duid: self.engine.server_duid().to_string(),
            links: self
                .config
                .links
                .iter()
                .map(|link| {
                    let name = link.interface.as_ref();
                    let state = name.and_then(|name| self.presence.get(name));
                    let interface = state.and_then(|state| state.now.as_ref());
                    LinkStatus {
                        name: link.name.clone(),
                        interface: interface.map(|of| &of.name).or(name).cloned(),
                        interface_missing: name.is_some() && interface.is_none(),
                        address: interface.map(|of| of.link_local),
                    }
                })
                .collect(),
            fast_path: self.fast_path_rows(),
            fast_path_maps: self.kernel.as_ref().map(|kernel| FastPathStatus {
                pin_dir: self.config.fast_path.pin_dir.clone(),
                refused_bindings: kernel.refused,
            }),
            receive_buffer: ReceiveBuffer {
                octets: { self.sockets.iter() }
                    .map(|of| of.socket.receive_buffer())
                    .min()
                    .unwrap_or_default(),
                asked_for: RECEIVE_BUFFER,
            },
            store: StoreStatus {
                commit_takes: self.committer.under_way_for().map(|age| age.as_secs()),
                ..self.store_status.clone()
            },
            last_reload: self.last_reload.clone(),
        }
    }

    fn pools(&self) -> Vec<PoolRow> {
        self.engine
            .links()
            .map(|link| PoolRow {
                link: link.name.to_owned(),
                interface: link.interface.map(str::to_owned),
                counts: link.addresses.into(),
                prefix_counts: link.prefixes.into(),
            })
            .collect()
    }

    /// A link's pools with the members that `members` lists of each kind; `None` where there is no such link.
    fn pool(
        &self,
        link: &str,
        index: u32,
        members: impl Fn(IaKind) -> Vec<ResourceView>,
    ) -> Option<PoolDetail> {
        let counts = self.engine.links().nth(index as usize)?;
        let mut detail = PoolDetail {
            link: link.to_owned(),
            counts: counts.addresses.into(),
            prefix_counts: counts.prefixes.into(),
            addresses: Vec::new(),
            prefixes: Vec::new(),
        };
        for ResourceView { resource, state, duid } in IaKind::ALL.into_iter().flat_map(members) {
            let duid = duid.map(|duid| duid.to_string());
            match resource {
                Resource::Address(address) => detail.addresses.push(AddressRow { address, state, duid }),
                Resource::Prefix(prefix) => {
                    detail.prefixes.push(PrefixRow { prefix: Text(prefix), state, duid });
                }
            }
        }
        Some(detail)
    }

    fn leases(&self, link: Option<&str>, duid: Option<&str>) -> Vec<LeaseRow> {
        let leases = self.engine.leases();
        { leases.iter() }
            .filter(|lease| link.is_none_or(|link| lease.link == link))
            .filter(|lease| duid.is_none_or(|duid| lease.duid.to_string() == duid))
            .map(|lease| self.lease_row(lease))
            .collect()
    }

    /// A lease. Of an address that the kernel has granted since the daemon did, the kernel's promise is shown.
    fn lease_row(&self, lease: &LeaseView<'_>) -> LeaseRow {
        let index = self.link_index(lease.link).unwrap_or_default();
        let lifetimes = self.config.links[index as usize].lifetimes;
        let (address, prefix) = match lease.resource {
            Resource::Address(address) => (Some(address), None),
            Resource::Prefix(prefix) => (None, Some(Text(prefix))),
        };
        let owner = Owner { link: index, origin: lease.origin, duid: lease.duid };
        let granted = self
            .kernel
            .as_ref()
            .filter(|_| lease.state == LeaseState::Bound)
            .and_then(|kernel| kernel.last_grant(&owner, lease.resource));
        let until = |promised: Time, lifetime| {
            granted.map_or(promised, |granted| promised.max(granted.after_lifetime(lifetime)))
        };
        LeaseRow {
            link: lease.link.to_owned(),
            duid: lease.duid.to_string(),
            vlan: Some(lease.origin.vlan).filter(|vlan| *vlan != Vlan::NONE).map(|vlan| vlan.to_string()),
            mac: Some(lease.origin.mac).filter(|mac| *mac != Origin::ANY.mac).map(mac_text),
            iaid: lease.iaid,
            kind: lease.resource.kind().name().to_owned(),
            address,
            prefix,
            preferred_until: until(lease.preferred_until, lifetimes.preferred).to_string(),
            valid_until: until(lease.valid_until, lifetimes.valid).to_string(),
            in_kernel: self.kernel.as_ref().is_some_and(|kernel| kernel.serves(index))
                && self.engine.kernel_binding_of(self.clock.now(), &owner).is_some_and(|binding| {
                    let address = binding.address.map(|(_, address)| Resource::from(address));
                    let prefix = binding.prefix.map(|(_, prefix)| Resource::from(prefix));
                    [address, prefix].contains(&Some(lease.resource))
                }),
            state: match lease.state {
                LeaseState::Bound => "bound".to_owned(),
                LeaseState::Remembered => "remembered".to_owned(),
            },
        }
    }

    fn link_index(&self, name: &str) -> Option<u32> {
        self.config.links.iter().position(|link| link.name == name).map(|index| index as u32)
    }
}

/// As operators write it.
fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

fn no_such_link(name: &str) -> Response {
    Response::Refused(format!("there is no link named {name}"))
}
