//! What operators ask.

use super::{Daemon, kernel::Kernel};
use crate::{
    control::{
        AddressRow, Cleared, FastPathStatus, LeaseRow, LinkStatus, PoolDetail, PoolRow, Query, Response,
        Status,
    },
    lease::LeaseState,
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
                let rows = self.engine.addresses(index, *state, *limit);
                let counts = self.engine.links().nth(index as usize).map(|link| link.counts.into());
                serde_json::to_value(counts.map(|counts| {
                    PoolDetail {
                        link: link.clone(),
                        counts,
                        addresses: rows
                            .into_iter()
                            .map(|row| AddressRow {
                                address: row.address,
                                state: row.state,
                                duid: row.duid.map(|duid| duid.to_string()),
                            })
                            .collect(),
                    }
                }))
            }
            Query::LeaseList { link, duid } => {
                if let Some(link) = link.as_ref().filter(|link| self.link_index(link).is_none()) {
                    return no_such_link(link);
                }
                serde_json::to_value(self.leases(link.as_deref(), duid.as_deref()))
            }
            Query::ConflictClear { address } => {
                if !self.engine.clear_conflict(*address) {
                    return Response::Refused(format!("{address} is in no conflict"));
                }
                if !self.finish_round(Vec::new()) {
                    let reason = "the store cannot forget the conflict yet; it will be back after a restart";
                    return Response::Refused(format!("{address} is cleared, but {reason}"));
                }
                serde_json::to_value(Cleared { cleared: *address })
            }
            Query::Stats => serde_json::to_value(
                self.stats
                    .counters(self.sockets.iter().map(|listener| u64::from(listener.socket.dropped())).sum()),
            ),
        };
        document.map_or_else(|failure| Response::Refused(failure.to_string()), Response::Ok)
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
                .zip(0..)
                .map(|(link, index)| {
                    let listener = self.sockets.iter().find(|listener| listener.link == Some(index));
                    LinkStatus {
                        name: link.name.clone(),
                        interface: link.interface.clone(),
                        address: listener.and_then(|of| of.socket.interface()).map(|of| of.link_local),
                    }
                })
                .collect(),
            fast_path: self.kernel.as_ref().map(Kernel::rows).unwrap_or_default(),
            fast_path_maps: self.kernel.as_ref().map(|kernel| FastPathStatus {
                pin_dir: self.config.fast_path.pin_dir.clone(),
                refused_bindings: kernel.refused,
            }),
            store: self.store_status.clone(),
            last_reload: None,
        }
    }

    fn pools(&self) -> Vec<PoolRow> {
        self.engine
            .links()
            .map(|link| PoolRow {
                link: link.name.to_owned(),
                interface: link.interface.map(str::to_owned),
                counts: link.counts.into(),
            })
            .collect()
    }

    /// The leases. Of those that the kernel has granted since the daemon did, the kernel's promise is shown.
    fn leases(&self, link: Option<&str>, duid: Option<&str>) -> Vec<LeaseRow> {
        self.engine
            .leases()
            .into_iter()
            .filter(|lease| link.is_none_or(|link| lease.link == link))
            .filter(|lease| duid.is_none_or(|duid| lease.duid.to_string() == duid))
            .map(|lease| {
                let index = self.link_index(lease.link).unwrap_or_default();
                let lifetimes = self.config.links[index as usize].lifetimes;
                let granted = self
                    .kernel
                    .as_ref()
                    .filter(|_| lease.state == LeaseState::Bound)
                    .and_then(|kernel| kernel.last_grant(index, &lease.duid, lease.address.octets()));
                let until = |promised: Time, lifetime| {
                    granted.map_or(promised, |granted| promised.max(granted.after_lifetime(lifetime)))
                };
                LeaseRow {
                    link: lease.link.to_owned(),
                    duid: lease.duid.to_string(),
                    iaid: lease.iaid,
                    kind: "na".to_owned(),
                    address: lease.address,
                    preferred_until: until(lease.preferred_until, lifetimes.preferred).to_string(),
                    valid_until: until(lease.valid_until, lifetimes.valid).to_string(),
                    state: match lease.state {
                        LeaseState::Bound => "bound".to_owned(),
                        LeaseState::Remembered => "remembered".to_owned(),
                    },
                }
            })
            .collect()
    }

    fn link_index(&self, name: &str) -> Option<u32> {
        self.config.links.iter().position(|link| link.name == name).map(|index| index as u32)
    }
}

fn no_such_link(name: &str) -> Response {
    Response::Refused(format!("there is no link named {name}"))
}
