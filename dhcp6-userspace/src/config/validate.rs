//! From the wire form to the configuration: the sections of the whole server, and what holds across links.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Display,
    net::SocketAddr,
    ops::Range,
    path::PathBuf,
    time::Duration,
};

use dhcp6_common::wire::{OptionCode, SERVER_PORT};
use toml::Spanned;

use super::{
    AdmissionConfig, Config, FastPathConfig, ReadFile, ServerConfig, StoreKind, XdpModeSetting,
    decode::{Decoded, Removed, TOP_LEVEL},
    errors::{Place, Report},
    file::{self, Field, List, Octets, Table},
    options::option_code,
    overlaps::Claims,
    values,
    vlans::Taken,
};

/// What relay agents may supply where nothing is configured: the local ER domain name, which they know better than
/// the server (RFC 6440).
const DEFAULT_RELAY_SUPPLIED: OptionCode = OptionCode(65);

/// How many links a server can have: the kernel's tables number them with 16 bits.
const MAX_LINKS: usize = 65535;

/// Validates what was decoded. What this returns counts only where `report` is empty afterwards: a value that was
/// reported is replaced by its default, so that the rest can be checked as well.
pub(super) fn validate(decoded: Decoded, read: ReadFile<'_>, report: &mut Report<'_>) -> Config {
    let Decoded { file, removed } = decoded;
    let file::File { server, store, control, metrics, fast_path, link } = file;
    let mut checker = Checker { report, removed: &removed, read, seen: Seen::default() };

    let server = checker.server(section(server));
    let store = checker.store(section(store));
    let control_socket = checker.control(section(control));
    let metrics = metrics.and_then(|metrics| checker.metrics(metrics));
    let fast_path = checker.fast_path(section(fast_path));

    let links = link.map(Spanned::into_inner).unwrap_or_default();
    if links.is_empty() && !removed.contains(&TOP_LEVEL, "link") {
        checker.report.add(&TOP_LEVEL, "there is no [[link]]; at least one is required");
    }
    if let Some(link) = links.get(MAX_LINKS) {
        let message = format!("there are {} [[link]]; a server has at most {MAX_LINKS}", links.len());
        checker.report.add(&link.span(), message);
    }
    let links = links.into_iter().enumerate().filter_map(|(index, link)| checker.link(index, link)).collect();
    checker.frames_have_one_link();
    checker.claims_are_compatible();
    Config { server, store, control_socket, metrics, fast_path, links }
}

/// A section's keys; all absent where the section is.
fn section<T: Default>(section: Field<Table<T>>) -> T {
    section.map(|section| section.into_inner().0).unwrap_or_default()
}

/// What validation of one part needs to know of the whole.
pub(super) struct Checker<'c, 'a> {
    pub(super) report: &'c mut Report<'a>,
    pub(super) removed: &'c Removed,
    pub(super) read: ReadFile<'c>,
    pub(super) seen: Seen,
}

/// What must not come twice in a file, and where it came first.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) names: HashMap<String, Range<usize>>,
    /// What the links take of each interface, in the order of the file.
    pub(super) interfaces: HashMap<String, Vec<Taken>>,
    pub(super) interface_ids: HashMap<Vec<u8>, Range<usize>>,
    pub(super) claims: Claims,
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
        self.parse_at(key, &span, field.into_inner(), parse)
    }

    /// Like [`Checker::parse`], of a value at `place`.
    pub(super) fn parse_at<T, R, E: Display>(
        &mut self,
        key: &str,
        place: impl Into<Place>,
        value: T,
        parse: impl FnOnce(T) -> Result<R, E>,
    ) -> Option<R> {
        parse(value).map_err(|error| self.report.add(place, format!("`{key}`: {error}"))).ok()
    }

    /// What a relay agent says of a client, as it is written under `key`.
    pub(super) fn octets(&mut self, key: &str, octets: Spanned<Octets>) -> Option<Vec<u8>> {
        let span = octets.span();
        match octets.into_inner() {
            Octets::Text(text) => {
                self.parse_at(key, &span, text, |text| values::identifier(&text, values::text))
            }
            Octets::Hex(file::Hex { hex }) => {
                let hex = self.required("hex", &format!("`{key}`"), &span, hex)?;
                self.parse(key, hex, |text| values::identifier(&text, values::hex))
            }
        }
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

    fn server(&mut self, server: file::Server) -> ServerConfig {
        let file::Server { state_dir, duid, preference, port, relay_supplied_options } = server;
        ServerConfig {
            state_dir: self.parse_or("state_dir", state_dir, "/var/lib/dhcp6d".into(), values::path),
            duid: self.parse_or("duid", duid, None, |text| values::server_duid(&text)),
            preference: self.parse_or("preference", preference, 0, |value| values::integer(value, 0, 255)),
            relay_supplied_options: self.relay_supplied_options(relay_supplied_options),
            // The port below it is that of the clients, so 1 would leave them none.
            port: self.parse_or("port", port, SERVER_PORT, |value| values::integer(value, 2, 65535)),
        }
    }

    fn relay_supplied_options(&mut self, codes: List<file::Integer>) -> Vec<OptionCode> {
        const KEY: &str = "relay_supplied_options";
        let Some(codes) = codes else { return vec![DEFAULT_RELAY_SUPPLIED] };
        let mut places: HashMap<OptionCode, Range<usize>> = HashMap::new();
        for code in codes.into_inner() {
            let span = code.span();
            let Some(code) = self.parse(KEY, code, option_code) else { continue };
            match places.entry(code) {
                Entry::Vacant(entry) => _ = entry.insert(span),
                Entry::Occupied(first) => {
                    let line = self.report.refer(&span, first.get());
                    self.report.add(&span, format!("`{KEY}`: option {} is already on {line}", code.0));
                }
            }
        }
        let mut codes: Vec<OptionCode> = places.into_keys().collect();
        codes.sort_unstable();
        codes
    }

    fn store(&mut self, store: file::Store) -> StoreKind {
        let kinds = [("sqlite", StoreKind::Sqlite), ("memory", StoreKind::Memory)];
        self.parse_or("kind", store.kind, StoreKind::Sqlite, |text| values::word(&text, &kinds))
    }

    fn control(&mut self, control: file::Control) -> PathBuf {
        self.parse_or("socket", control.socket, "/run/dhcp6d/control.sock".into(), values::socket_path)
    }

    fn metrics(&mut self, metrics: Spanned<Table<file::Metrics>>) -> Option<SocketAddr> {
        let table = metrics.span();
        let Table(file::Metrics { listen }) = metrics.into_inner();
        let listen = self.required("listen", "[metrics]", &table, listen)?;
        self.parse("listen", listen, |text| values::listen_address(&text))
    }

    fn fast_path(&mut self, fast_path: file::FastPath) -> FastPathConfig {
        // The kernel refuses hash maps with more buckets than that.
        const MOST_BINDINGS: i64 = 1 << 31;
        let file::FastPath { enabled, mode, max_bindings, pin_dir, horizon, log, admission } = fast_path;
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
            admission: self.admission(section(admission)),
        }
    }

    fn admission(&mut self, admission: file::Admission) -> Option<AdmissionConfig> {
        const MOST_A_SECOND: i64 = 10_000_000;
        let file::Admission { enabled, per_source, strangers, clients, relayed, retransmission } = admission;
        let default = AdmissionConfig::default();
        let mut rate = |key, field, default| {
            self.parse_or(key, field, default, |value| values::integer(value, 1, MOST_A_SECOND))
        };
        let admission = AdmissionConfig {
            per_source: rate("per_source", per_source, default.per_source),
            strangers: rate("strangers", strangers, default.strangers),
            clients: rate("clients", clients, default.clients),
            relayed: rate("relayed", relayed, default.relayed),
            retransmission: self.parse_or("retransmission", retransmission, default.retransmission, |span| {
                values::retransmission(&span)
            }),
        };
        enabled.is_none_or(Spanned::into_inner).then_some(admission)
    }
}
