//! From the wire form to the configuration: the sections of the whole server, and what holds across links.

use std::{collections::HashMap, fmt::Display, net::Ipv6Addr, ops::Range, path::PathBuf, time::Duration};

use dhcp6_common::wire::{OptionCode, SERVER_PORT};
use toml::Spanned;

use super::{
    Config, FastPathConfig, ServerConfig, StoreKind, XdpModeSetting,
    decode::{Decoded, Removed, TOP_LEVEL},
    errors::Report,
    file::{self, Field, Table, Unsupported},
    values,
};
use crate::pool::AddressRange;

/// Validates what was decoded. What this returns counts only where `report` is empty afterwards: a value that was
/// reported is replaced by its default, so that the rest can be checked as well.
pub(super) fn validate(decoded: Decoded, report: &mut Report<'_>) -> Config {
    let Decoded { file, removed } = decoded;
    let file::File { server, store, control, metrics, fast_path, link } = file;
    let mut checker = Checker { report, removed: &removed, seen: Seen::default() };

    checker.unsupported("[metrics]", metrics);
    let server = checker.server(section(server));
    let store = checker.store(section(store));
    let control_socket = checker.control(section(control));
    let fast_path = checker.fast_path(section(fast_path));

    let links = link.map(Spanned::into_inner).unwrap_or_default();
    if links.is_empty() && !removed.contains(&TOP_LEVEL, "link") {
        checker.report.add(&TOP_LEVEL, "there is no [[link]]; at least one is required");
    }
    let links = links.into_iter().enumerate().filter_map(|(index, link)| checker.link(index, link)).collect();
    checker.pools_are_disjoint();
    Config { server, store, control_socket, fast_path, links }
}

/// A section's keys; all absent where the section is.
fn section<T: Default>(section: Field<Table<T>>) -> T {
    section.map(|section| section.into_inner().0).unwrap_or_default()
}

/// What validation of one part needs to know of the whole.
pub(super) struct Checker<'c, 'a> {
    pub(super) report: &'c mut Report<'a>,
    pub(super) removed: &'c Removed,
    pub(super) seen: Seen,
}

/// What must not come twice in a file, and where it came first.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) names: HashMap<String, Range<usize>>,
    pub(super) interfaces: HashMap<String, Range<usize>>,
    pub(super) reserved: HashMap<Ipv6Addr, Reserved>,
    pub(super) pools: Vec<SeenPool>,
}

/// Where an address was reserved, and by which link.
pub(super) struct Reserved {
    pub(super) link: usize,
    pub(super) span: Range<usize>,
}

/// A pool, the place of its `range` and the link that it belongs to.
pub(super) struct SeenPool {
    pub(super) range: AddressRange,
    pub(super) link: usize,
    pub(super) span: Range<usize>,
}

impl Checker<'_, '_> {
    /// The value that `parse` makes of `field`; a mistake is reported under the name `key`.
    pub(super) fn parse<T, R, E: Display>(
        &mut self,
        key: &str,
        field: Spanned<T>,
        parse: impl FnOnce(T) -> Result<R, E>,
    ) -> Option<R> {
        let span = field.span();
        parse(field.into_inner()).map_err(|error| self.report.add(&span, format!("`{key}`: {error}"))).ok()
    }

    /// Like [`Checker::parse`], with a value for where the key is absent or wrong.
    pub(super) fn parse_or<T, R, E: Display>(
        &mut self,
        key: &str,
        field: Field<T>,
        default: R,
        parse: impl FnOnce(T) -> Result<R, E>,
    ) -> R {
        field.and_then(|field| self.parse(key, field, parse)).unwrap_or(default)
    }

    /// A key that the table at `table`, which operators know as `header`, cannot do without.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        header: &str,
        table: &Range<usize>,
        field: Field<T>,
    ) -> Field<T> {
        if field.is_none() && !self.removed.contains(table, key) {
            self.report.add(table, format!("`{key}` is missing in {header}"));
        }
        field
    }

    /// Refuses a key that would otherwise have no effect.
    pub(super) fn unsupported(&mut self, what: &str, field: Unsupported) {
        if let Some(field) = field {
            let what = if what.starts_with('[') { what.to_owned() } else { format!("`{what}`") };
            self.report.add(&field.span(), format!("{what} is not supported by this version"));
        }
    }

    fn server(&mut self, server: file::Server) -> ServerConfig {
        let file::Server { state_dir, duid, preference, port } = server;
        ServerConfig {
            state_dir: self.parse_or("state_dir", state_dir, "/var/lib/dhcp6d".into(), values::path),
            duid: self.parse_or("duid", duid, None, |text| values::server_duid(&text)),
            preference: self.parse_or("preference", preference, 0, |value| values::integer(value, 0, 255)),
            relay_supplied_options: vec![OptionCode(65)],
            // The port below it is that of the clients, so 1 would leave them none.
            port: self.parse_or("port", port, SERVER_PORT, |value| values::integer(value, 2, 65535)),
        }
    }

    fn store(&mut self, store: file::Store) -> StoreKind {
        let kinds = [("sqlite", StoreKind::Sqlite), ("memory", StoreKind::Memory)];
        self.parse_or("kind", store.kind, StoreKind::Sqlite, |text| values::word(&text, &kinds))
    }

    fn control(&mut self, control: file::Control) -> PathBuf {
        self.parse_or("socket", control.socket, "/run/dhcp6d/control.sock".into(), values::socket_path)
    }

    fn fast_path(&mut self, fast_path: file::FastPath) -> FastPathConfig {
        // The kernel refuses hash maps with more buckets than that.
        const MOST_BINDINGS: i64 = 1 << 31;
        let file::FastPath { enabled, mode, max_bindings, pin_dir, horizon, log } = fast_path;
        let modes = [
            ("auto", XdpModeSetting::Auto),
            ("native", XdpModeSetting::Native),
            ("generic", XdpModeSetting::Generic),
        ];
        FastPathConfig {
            enabled: enabled.is_none_or(Spanned::into_inner),
            mode: self.parse_or("mode", mode, XdpModeSetting::Auto, |text| values::word(&text, &modes)),
            max_bindings: self.parse_or("max_bindings", max_bindings, 1 << 20, |value| {
                values::integer(value, 1, MOST_BINDINGS)
            }),
            pin_dir: self.parse_or("pin_dir", pin_dir, "/sys/fs/bpf/dhcp6".into(), values::path),
            horizon: self
                .parse_or("horizon", horizon, Duration::from_mins(30), |span| values::duration(&span)),
            log: log.is_some_and(Spanned::into_inner),
        }
    }

    /// An address has one owner: no two pools share one, and what a link has reserved is in no other link's pool.
    fn pools_are_disjoint(&mut self) {
        let Seen { mut pools, reserved, .. } = std::mem::take(&mut self.seen);
        pools.sort_by_key(|pool| (pool.range, pool.span.start));

        let mut furthest: Option<&SeenPool> = None;
        for pool in &pools {
            if let Some(before) = furthest
                && before.range.overlaps(&pool.range)
            {
                let (first, second) =
                    if before.span.start < pool.span.start { (before, pool) } else { (pool, before) };
                let line = self.report.line(&first.span);
                let message = format!("`range`: the pool overlaps that of line {line}");
                self.report.add(&second.span, message);
            }
            if furthest.is_none_or(|before| before.range.last() < pool.range.last()) {
                furthest = Some(pool);
            }
        }

        for (address, reserved) in &reserved {
            let behind = pools.partition_point(|pool| pool.range.first() <= *address);
            if let Some(pool) = pools[..behind].last()
                && pool.range.contains(*address)
                && pool.link != reserved.link
            {
                let line = self.report.line(&pool.span);
                let message = format!("`address`: {address} is in the pool of another link, line {line}");
                self.report.add(&reserved.span, message);
            }
        }
    }
}
