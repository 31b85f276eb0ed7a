//! Tables for people, JSON for programs.

use std::{
    fmt::Display,
    io::{self, Write as _},
    process,
};

use comfy_table::{Table, presets::NOTHING};
use dhcp6_common::Reason;
use dhcp6_userspace::{
    control::{
        AddressRow, Cleared, Count, Counts, LeaseRow, PoolDetail, PoolRow, PrefixRow, Queued, ReceiveBuffer,
        Released, ReloadStatus, Reloaded, Status,
    },
    engine::ResourceState,
    fastpath::MapDescription,
};
use serde::Serialize;

use crate::{
    maps::{EntryRow, FastPathCounters, Stats},
    verify::{Difference, Verification},
};

/// Where answers go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// One JSON document instead of a table.
    pub(crate) json: bool,
}

impl Output {
    /// Prints a document on stdout. Ends the program where nobody reads any further.
    pub(crate) fn show<T: Serialize + ForPeople>(self, document: &T) {
        let text = if self.json {
            serde_json::to_string(document).expect("the documents have string keys")
        } else {
            document.for_people()
        };
        if let Err(failure) = writeln!(io::stdout(), "{text}") {
            if failure.kind() != io::ErrorKind::BrokenPipe {
                eprintln!("dhcp6ctl: cannot write: {failure}");
            }
            process::exit(i32::from(failure.kind() != io::ErrorKind::BrokenPipe));
        }
    }
}

/// How a document looks to people.
pub(crate) trait ForPeople {
    fn for_people(&self) -> String;
}

fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(header);
    table.add_rows(rows);
    table.trim_fmt()
}

fn or_dash<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn counts(counts: &Counts) -> [String; 4] {
    let Counts { idle, used, conflict, excluded } = counts;
    [idle, used, conflict, excluded].map(|Count(count)| count.to_string())
}

impl ForPeople for Status {
    fn for_people(&self) -> String {
        let Self {
            version,
            pid,
            since,
            server_duid,
            links,
            fast_path,
            fast_path_maps,
            receive_buffer: ReceiveBuffer { octets, asked_for },
            store,
            last_reload,
        } = self;
        let mode = |interface: Option<&String>| {
            or_dash(fast_path.iter().find(|row| Some(&row.interface) == interface).map(|row| &row.mode))
        };
        let links = table(
            ["LINK", "INTERFACE", "ADDRESS", "FAST PATH"],
            links.iter().map(|link| {
                let interface = link.interface.as_ref();
                let address =
                    if link.interface_missing { "missing".to_owned() } else { or_dash(link.address) };
                [link.name.clone(), or_dash(interface), address, mode(interface)]
            }),
        );
        let mut warnings = String::new();
        for warning in fast_path.iter().filter_map(|row| row.warning.as_ref()) {
            warnings.extend(["warning      ", warning, "\n"]);
        }
        let store_state = match (store.ok, &store.last_error) {
            (true, _) => "ok".to_owned(),
            (false, error) => format!("FAILING, nothing new is promised: {}", or_dash(error.as_ref())),
        };
        let commit = match store.commit_takes {
            None | Some(0) => String::new(),
            Some(seconds) => format!(", one HANGS for {seconds} s: what is new waits for the disk"),
        };
        let maps = fast_path_maps.as_ref().map_or_else(
            || "off".to_owned(),
            |maps| format!("maps in {}, {} bindings refused", maps.pin_dir.display(), maps.refused_bindings),
        );
        let reload = match last_reload {
            None => "never".to_owned(),
            Some(ReloadStatus { at, ok: true, .. }) => at.clone(),
            Some(ReloadStatus { at, error, .. }) => {
                format!("FAILED at {at}, the configuration stays what it was:\n{}", or_dash(error.as_ref()))
            }
        };
        let buffer = if octets < asked_for {
            format!(
                "receive buffer {octets} octets instead of {asked_for}: in a flood messages are lost early; give dhcp6d \
                 CAP_NET_ADMIN, or raise net.core.rmem_max to {asked_for} and restart it\n"
            )
        } else {
            String::new()
        };
        format!(
            "dhcp6d {version}, process {pid}, since {since}\n\
             server DUID  {server_duid}\n\
             store        {} {store_state}, {} commits, {} failed{commit}\n\
             fast path    {maps}\n\
             reload       {reload}\n{buffer}{warnings}\n{links}",
            store.kind, store.commits, store.failed_commits
        )
    }
}

impl ForPeople for Vec<PoolRow> {
    /// Of links without prefixes, these are left out.
    fn for_people(&self) -> String {
        let rows = self.iter().flat_map(|row| {
            let kinds = [("addresses", &row.counts), ("prefixes", &row.prefix_counts)];
            kinds
                .into_iter()
                .enumerate()
                .filter(|(index, (_, of_kind))| *index == 0 || !of_kind.are_zero())
                .map(|(_, (kind, of_kind))| {
                    let [idle, used, conflict, excluded] = counts(of_kind);
                    let interface = or_dash(row.interface.as_ref());
                    [row.link.clone(), interface, kind.to_owned(), idle, used, conflict, excluded]
                })
        });
        table(["LINK", "INTERFACE", "OF", "IDLE", "USED", "CONFLICT", "EXCLUDED"], rows)
    }
}

impl ForPeople for PoolDetail {
    fn for_people(&self) -> String {
        let Self { link, counts: of_addresses, prefix_counts, addresses, prefixes } = self;
        let addresses = addresses.iter().map(|AddressRow { address, state, duid }| {
            [address.to_string(), state_name(*state).to_owned(), or_dash(duid.as_ref())]
        });
        let prefixes = prefixes.iter().map(|PrefixRow { prefix, state, duid }| {
            [prefix.to_string(), state_name(*state).to_owned(), or_dash(duid.as_ref())]
        });
        let mut text = String::new();
        for (kind, of_kind) in [("addresses", of_addresses), ("prefixes", prefix_counts)] {
            if kind == "addresses" || !of_kind.are_zero() {
                let [idle, used, conflict, excluded] = counts(of_kind);
                let line = [link, ": ", kind, ": ", &idle, " idle, ", &used, " used, "].concat();
                text.extend([line, format!("{conflict} in conflict, {excluded} excluded\n")]);
            }
        }
        let rows = table(["MEMBER", "STATE", "DUID"], addresses.chain(prefixes));
        format!("{text}\n{rows}")
    }
}

fn state_name(state: ResourceState) -> &'static str {
    match state {
        ResourceState::Idle => "idle",
        ResourceState::Used => "used",
        ResourceState::Conflict => "conflict",
        ResourceState::Excluded => "excluded",
    }
}

/// The address or prefix of a lease.
fn resource(lease: &LeaseRow) -> String {
    lease.prefix.map_or_else(|| or_dash(lease.address), |prefix| prefix.to_string())
}

impl ForPeople for Vec<LeaseRow> {
    fn for_people(&self) -> String {
        let header = ["LEASE", "LINK", "STATE", "VALID UNTIL", "IAID", "DUID"];
        let row = |lease: &LeaseRow| {
            [
                resource(lease),
                lease.link.clone(),
                lease.state.clone(),
                lease.valid_until.clone(),
                lease.iaid.to_string(),
                lease.duid.clone(),
            ]
        };
        if self.iter().all(|lease| lease.vlan.is_none() && lease.mac.is_none()) {
            return table(header, self.iter().map(row));
        }
        let [lease, link, state, until, iaid, duid] = header;
        table(
            [lease, link, state, until, iaid, duid, "VLAN", "MAC"],
            self.iter().map(|of| {
                let [lease, link, state, until, iaid, duid] = row(of);
                [lease, link, state, until, iaid, duid, or_dash(of.vlan.as_ref()), or_dash(of.mac.as_ref())]
            }),
        )
    }
}

impl ForPeople for LeaseRow {
    fn for_people(&self) -> String {
        let resource = resource(self);
        let Self { link, duid, iaid, kind, preferred_until, valid_until, state, .. } = self;
        let vlan = self.vlan.as_ref().map(|vlan| format!(", VLAN {vlan}")).unwrap_or_default();
        let mac = self.mac.as_ref().map(|mac| format!(", MAC address {mac}")).unwrap_or_default();
        format!(
            "{resource} on {link}: {state}\n\
             client     {duid}, IA_{} {iaid}{vlan}{mac}\n\
             preferred  until {preferred_until}\n\
             valid      until {valid_until}",
            kind.to_uppercase()
        )
    }
}

/// All leases, one a line for other programs.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Export(pub(crate) Vec<LeaseRow>);

impl ForPeople for Export {
    fn for_people(&self) -> String {
        let mut table = csv::Writer::from_writer(Vec::new());
        let header =
            ["link", "duid", "iaid", "kind", "address", "prefix", "preferred_until", "valid_until", "state"];
        let rows = self.0.iter().map(|lease| {
            let LeaseRow { link, duid, iaid, kind, preferred_until, valid_until, state, .. } = lease;
            let address = lease.address.map(|address| address.to_string()).unwrap_or_default();
            let prefix = lease.prefix.map(|prefix| prefix.to_string()).unwrap_or_default();
            let iaid = iaid.to_string();
            [link, duid, &iaid, kind, &address, &prefix, preferred_until, valid_until, state]
                .map(String::clone)
        });
        for row in std::iter::once(header.map(str::to_owned)).chain(rows) {
            table.write_record(row).expect("memory takes every row, and all rows have as many fields");
        }
        let octets = table.into_inner().expect("memory takes everything");
        String::from_utf8(octets).expect("fields of text make text").trim_end().to_owned()
    }
}

impl ForPeople for Released {
    fn for_people(&self) -> String {
        format!("{} may be assigned again", self.released)
    }
}

impl ForPeople for Reloaded {
    fn for_people(&self) -> String {
        let Self { reloaded, links } = self;
        format!("the configuration was read again at {reloaded}: {links} links")
    }
}

impl ForPeople for Cleared {
    fn for_people(&self) -> String {
        format!("{} may be assigned again", self.cleared)
    }
}

impl ForPeople for Vec<MapDescription> {
    fn for_people(&self) -> String {
        table(
            ["NAME", "TYPE", "KEY", "VALUE", "ENTRIES", "CAPACITY", "BYTES"],
            self.iter().map(|map| {
                [
                    map.name.clone(),
                    map.kind.clone(),
                    map.key_size.to_string(),
                    map.value_size.to_string(),
                    map.entries.to_string(),
                    map.capacity.to_string(),
                    map.bytes.to_string(),
                ]
            }),
        )
    }
}

impl ForPeople for Vec<EntryRow> {
    fn for_people(&self) -> String {
        table(
            [
                "LINK",
                "VLAN",
                "ADDRESS",
                "IAID",
                "PREFIX",
                "IAID",
                "SERVE UNTIL",
                "LAST GRANT",
                "GRANTS",
                "MAC",
                "DUID",
            ],
            self.iter().map(|row| {
                [
                    row.link.clone(),
                    or_dash(row.vlan.as_ref()),
                    or_dash(row.ia_na.as_ref().map(|ia| ia.address)),
                    or_dash(row.ia_na.as_ref().map(|ia| ia.iaid)),
                    or_dash(row.ia_pd.as_ref().map(|ia| &ia.prefix)),
                    or_dash(row.ia_pd.as_ref().map(|ia| ia.iaid)),
                    row.serve_until.clone(),
                    or_dash(row.last_grant.as_ref()),
                    row.grants.to_string(),
                    or_dash(row.mac.as_ref()),
                    row.duid.clone(),
                ]
            }),
        )
    }
}

impl ForPeople for Verification {
    fn for_people(&self) -> String {
        let Self { entries, both_ways, differences } = self;
        let scope =
            if *both_ways { "" } else { " (what they should have besides, only a running daemon can say)" };
        if differences.is_empty() {
            return format!("the maps agree with the store: {entries} entries{scope}");
        }
        let rows = differences.iter().map(|it| {
            let Difference { link, address, duid, problem } = it.clone();
            [link, address, problem, duid]
        });
        format!("{entries} entries{scope}\n\n{}", table(["LINK", "ADDRESS", "PROBLEM", "DUID"], rows))
    }
}

impl ForPeople for Stats {
    /// Counters of zero are left out.
    fn for_people(&self) -> String {
        let mut rows = Vec::new();
        let mut row = |plane: &str, what: &str, reason: &str, count: u64, meaning: &str| {
            if count > 0 {
                rows.push([plane, what, reason, &count.to_string(), meaning].map(str::to_owned));
            }
        };
        for (interface, counters) in &self.interfaces {
            let FastPathCounters { answered, passed, dropped } = counters;
            row(interface, "answered", "", *answered, "");
            for (what, reasons) in [("passed", passed), ("dropped", dropped)] {
                for (name, count) in reasons {
                    let reason = Reason::ALL.iter().find(|reason| reason.name() == *name);
                    row(interface, what, name, *count, reason.map_or("", |reason| reason.description()));
                }
            }
        }
        if let Some(slow_path) = &self.slow_path {
            for (what, counts) in [
                ("received", &slow_path.received),
                ("sent", &slow_path.sent),
                ("dropped", &slow_path.dropped),
            ] {
                for (name, count) in counts {
                    row("daemon", what, name, *count, "");
                }
            }
            let Queued { clients, known, strangers } = slow_path.queued;
            row("daemon", "queued", "clients", clients, "Of clients with a lease; handled first.");
            row("daemon", "queued", "known", known, "Solicits of known clients; handled next.");
            row("daemon", "queued", "strangers", strangers, "All others.");
            row("daemon", "socket", "drops", slow_path.socket_drops, "The sockets were full.");
        }
        let mut text = table(["PLANE", "", "REASON", "COUNT", "MEANING"], rows);
        if self.slow_path.is_none() {
            text.push_str("\n\ndhcp6d cannot be reached: these are the kernel's counters only");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use dhcp6_userspace::control::LeaseRow;
    use serde_json::json;

    use super::ForPeople as _;

    fn lease(vlan: Option<&str>, mac: Option<&str>) -> LeaseRow {
        let row = json!({
            "link": "access0", "duid": "00:01", "vlan": vlan, "mac": mac, "iaid": 1, "kind": "na",
            "address": "2001:db8::1", "preferred_until": "never", "valid_until": "never", "state": "bound",
            "in_kernel": false
        });
        serde_json::from_value(row).expect("a lease")
    }

    #[test]
    fn where_a_client_is_is_shown_where_a_link_looks_at_that() {
        let plain = lease(None, None);
        let in_vlan = lease(Some("100.200"), None);
        let with_mac = lease(None, Some("02:00:00:00:00:01"));
        let text = vec![plain.clone()].for_people();
        assert!(!text.contains("VLAN") && !text.contains("MAC"), "{text}");
        let text = vec![plain.clone(), in_vlan.clone()].for_people();
        let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0][rows[0].len() - 2..], ["VLAN", "MAC"]);
        assert_eq!(rows[1][rows[1].len() - 2..], ["-", "-"]);
        assert_eq!(rows[2][rows[2].len() - 2..], ["100.200", "-"]);
        assert!(vec![with_mac.clone()].for_people().ends_with("02:00:00:00:00:01"));
        let client = |row: &LeaseRow| row.for_people().lines().nth(1).map(str::to_owned).expect("a line");
        assert_eq!(client(&plain), "client     00:01, IA_NA 1");
        assert_eq!(client(&in_vlan), "client     00:01, IA_NA 1, VLAN 100.200");
        assert_eq!(client(&with_mac), "client     00:01, IA_NA 1, MAC address 02:00:00:00:00:01");
    }
}
