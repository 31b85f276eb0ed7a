//! Validation of one `[[link]]`.

use std::{collections::HashMap, ops::Range, time::Duration};

use dhcp6_common::wire::{Duid, INFINITY};
use toml::Spanned;

use super::{
    ClientKey, Lifetimes, LinkConfig, PoolConfig, ReservationConfig,
    file::{self, Field, Span, Table},
    validate::{Checker, Reserved, SeenPool},
    values,
};
use crate::pool::{AddressRange, Allocation};

/// Preferred lifetime where none is configured, in seconds.
const DEFAULT_PREFERRED: u32 = 3600;
/// Valid lifetime where none is configured, in seconds.
const DEFAULT_VALID: u32 = 7200;
/// How long a declined address stays out of use where nothing is configured.
const DEFAULT_DECLINE_HOLD: Duration = Duration::from_hours(24);

impl Checker<'_, '_> {
    /// The link with this index; `None` where it is too wrong to be one.
    pub(super) fn link(&mut self, index: usize, link: Spanned<Table<file::Link>>) -> Option<LinkConfig> {
        let span = link.span();
        let file::Link {
            name,
            interface,
            vlan,
            prefix,
            rapid_commit,
            preferred_lifetime,
            valid_lifetime,
            t1,
            t2,
            allocation,
            bind_to_mac,
            decline_hold,
            pool,
            prefix_pool,
            reservation,
            reservations_file,
            options,
        } = link.into_inner().0;

        self.unsupported("vlan", vlan);
        self.unsupported("[[link.prefix_pool]]", prefix_pool);
        self.unsupported("reservations_file", reservations_file);
        if let Some(bind_to_mac) = bind_to_mac.filter(|value| *value.get_ref()) {
            self.report.add(&bind_to_mac.span(), "`bind_to_mac = true` is not supported by this version");
        }

        let name = self.link_name(&span, name);
        let interface = self.interface(interface);
        let prefix = self
            .required("prefix", "[[link]]", &span, prefix)
            .and_then(|field| self.parse("prefix", field, |text| values::link_prefix(&text)));
        let allocations = [("cyclic", Allocation::Cyclic), ("random", Allocation::Random)];
        let pools = pool.map(Spanned::into_inner).unwrap_or_default();
        let reservations = reservation.map(Spanned::into_inner).unwrap_or_default();

        let lifetimes = self.lifetimes(&span, preferred_lifetime, valid_lifetime, t1, t2);
        let allocation = self
            .parse_or("allocation", allocation, Allocation::Cyclic, |text| values::word(&text, &allocations));
        let decline_hold =
            self.parse_or("decline_hold", decline_hold, DEFAULT_DECLINE_HOLD, |span| values::duration(&span));
        let pools = pools.into_iter().filter_map(|pool| self.pool(index, prefix.as_ref(), pool)).collect();
        let reservations = self.reservations(index, prefix.as_ref(), reservations);
        let options = options.map(|options| self.options(options)).unwrap_or_default();

        Some(LinkConfig {
            name: name?,
            interface,
            prefix: prefix?,
            rapid_commit: rapid_commit.is_some_and(Spanned::into_inner),
            lifetimes: lifetimes?,
            allocation,
            decline_hold,
            decline_limit: 8,
            reserved_only: false,
            interface_ids: Vec::new(),
            pools,
            prefix_pools: Vec::new(),
            reservations,
            options,
        })
    }

    fn link_name(&mut self, link: &Range<usize>, name: Field<String>) -> Option<String> {
        let name = self.required("name", "[[link]]", link, name)?;
        let span = name.span();
        let name = self.parse("name", name, values::link_name)?;
        if let Some(first) = self.seen.names.get(&name) {
            let earlier = self.report.line(first);
            self.report.add(&span, format!("`name`: \"{name}\" is already the link of line {earlier}"));
        } else {
            self.seen.names.insert(name.clone(), span);
        }
        Some(name)
    }

    /// The interface; none for a link that is reached through relay agents only.
    fn interface(&mut self, interface: Field<String>) -> Option<String> {
        let interface = interface?;
        let span = interface.span();
        let interface = self.parse("interface", interface, values::interface_name)?;
        if let Some(first) = self.seen.interfaces.get(&interface) {
            let earlier = self.report.line(first);
            self.report
                .add(&span, format!("`interface`: \"{interface}\" already has the link of line {earlier}"));
        } else {
            self.seen.interfaces.insert(interface.clone(), span);
        }
        Some(interface)
    }

    /// Lifetimes and times with their defaults, in the order that [`Lifetimes`] promises.
    fn lifetimes(
        &mut self,
        link: &Range<usize>,
        preferred: Field<Span>,
        valid: Field<Span>,
        t1: Field<Span>,
        t2: Field<Span>,
    ) -> Option<Lifetimes> {
        let preferred = self.time(link, "preferred_lifetime", preferred, Some(DEFAULT_PREFERRED));
        let valid = self.time(link, "valid_lifetime", valid, Some(DEFAULT_VALID));
        // At least 1: 0 would leave the time to the client (RFC 9915, section 21.4).
        let share = |tenths: u64| {
            let preferred = preferred.as_ref()?.seconds;
            let share = (u64::from(preferred) * tenths / 10).max(1);
            Some(if preferred == INFINITY { INFINITY } else { share as u32 })
        };
        let t1 = self.time(link, "t1", t1, share(5));
        let t2 = self.time(link, "t2", t2, share(8));

        let mut in_order = self.not_above(link, preferred.as_ref(), valid.as_ref());
        in_order &= self.not_above(link, t1.as_ref(), t2.as_ref());
        in_order &= self.not_above(link, t2.as_ref(), preferred.as_ref());
        let times = Lifetimes {
            preferred: preferred?.seconds,
            valid: valid?.seconds,
            t1: t1?.seconds,
            t2: t2?.seconds,
        };
        in_order.then_some(times)
    }

    fn time(
        &mut self,
        link: &Range<usize>,
        key: &'static str,
        field: Field<Span>,
        default: Option<u32>,
    ) -> Option<Time> {
        let Some(field) = field else {
            let default = default.filter(|_| !self.removed.contains(link, key));
            return default.map(|seconds| Time { key, seconds, span: None });
        };
        let span = Some(field.span());
        self.parse(key, field, |text| values::lifetime(&text)).map(|seconds| Time { key, seconds, span })
    }

    /// Reports where `lower` is above `upper`, at the one of them that is written.
    fn not_above(&mut self, link: &Range<usize>, lower: Option<&Time>, upper: Option<&Time>) -> bool {
        let (Some(lower), Some(upper)) = (lower, upper) else { return true };
        if lower.seconds <= upper.seconds {
            return true;
        }
        let span = lower.span.as_ref().or(upper.span.as_ref()).unwrap_or(link);
        self.report.add(span, format!("{lower} is above {upper}"));
        false
    }

    fn pool(
        &mut self,
        link: usize,
        prefix: Option<&AddressRange>,
        pool: Spanned<Table<file::Pool>>,
    ) -> Option<PoolConfig> {
        let table = pool.span();
        let file::Pool { range, exclude } = pool.into_inner().0;
        let range = self.required("range", "[[link.pool]]", &table, range);
        let range_span = range.as_ref().map(Spanned::span);
        let range = range.and_then(|range| self.parse("range", range, |text| values::address_range(&text)));

        let mut excluded = Vec::new();
        for exclude in exclude.map(Spanned::into_inner).unwrap_or_default() {
            let span = exclude.span();
            let Some(exclude) = self.parse("exclude", exclude, |text| values::address_range(&text)) else {
                continue;
            };
            if range.is_some_and(|range| !range.overlaps(&exclude)) {
                self.report.add(&span, "`exclude`: no address of it is in the pool");
            }
            excluded.push(exclude);
        }

        let (range, span) = (range?, range_span?);
        if let Some(prefix) = prefix
            && !(prefix.contains(range.first()) && prefix.contains(range.last()))
        {
            self.report.add(&span, "`range`: the pool is not within the link's prefix");
        }
        self.seen.pools.push(SeenPool { range, link, span });
        Some(PoolConfig { range, exclude: excluded, options: Vec::new() })
    }

    fn reservations(
        &mut self,
        link: usize,
        prefix: Option<&AddressRange>,
        reservations: Vec<Spanned<Table<file::Reservation>>>,
    ) -> Vec<ReservationConfig> {
        let mut clients: HashMap<Duid, Vec<ReservedIa>> = HashMap::new();
        let mut checked = Vec::new();
        for reservation in reservations {
            let span = reservation.span();
            let Some(reservation) = self.reservation(link, prefix, reservation) else { continue };
            let ReservationConfig { client: ClientKey::Duid(duid), iaid, .. } = reservation else { continue };
            let others = clients.entry(duid).or_default();
            let taken = others
                .iter()
                .find(|(other, _)| other.is_none() || iaid.is_none() || *other == iaid)
                .map(|(_, first)| self.report.line(first));
            if let Some(earlier) = taken {
                let ia = iaid.map_or_else(|| "any IAID".to_owned(), |iaid| format!("IAID {iaid}"));
                let message = format!("{duid} with {ia} already has the reservation of line {earlier}");
                self.report.add(&span, message);
            }
            others.push((iaid, span));
            checked.push(reservation);
        }
        checked
    }

    fn reservation(
        &mut self,
        link: usize,
        prefix: Option<&AddressRange>,
        reservation: Spanned<Table<file::Reservation>>,
    ) -> Option<ReservationConfig> {
        const HEADER: &str = "[[link.reservation]]";
        let table = reservation.span();
        let file::Reservation { duid, iaid, address, prefix: delegated } = reservation.into_inner().0;
        let needs_address = delegated.is_none() || address.is_some();
        self.unsupported("prefix", delegated);

        let duid = self
            .required("duid", HEADER, &table, duid)
            .and_then(|duid| self.parse("duid", duid, |text| text.parse::<Duid>()));
        let iaid = match iaid {
            None => (!self.removed.contains(&table, "iaid")).then_some(None),
            Some(iaid) => {
                self.parse("iaid", iaid, |value| values::integer(value, 0, u32::MAX.into())).map(Some)
            }
        };
        // Where there is only a prefix, that it is not supported says enough.
        let address = if needs_address { self.required("address", HEADER, &table, address) } else { None };
        let span = address.as_ref().map(Spanned::span);
        let address =
            address.and_then(|address| self.parse("address", address, |text| values::address(&text)));

        if let (Some(address), Some(span)) = (address, span) {
            if let Some(prefix) = prefix
                && !prefix.contains(address)
            {
                let message = format!("`address`: {address} is not within the link's prefix");
                self.report.add(&span, message);
            }
            if let Some(first) = self.seen.reserved.get(&address) {
                let earlier = self.report.line(&first.span);
                self.report.add(&span, format!("`address`: {address} is already reserved on line {earlier}"));
            } else {
                self.seen.reserved.insert(address, Reserved { link, span });
            }
        }
        Some(ReservationConfig {
            client: ClientKey::Duid(duid?),
            iaid: iaid?,
            address: Some(address?),
            prefix: None,
            pd_exclude: None,
            options: Vec::new(),
        })
    }
}

/// The IAID of a reservation, `None` for any, and the place of the reservation.
type ReservedIa = (Option<u32>, Range<usize>);

/// One of the lifetimes and times of a link.
struct Time {
    key: &'static str,
    seconds: u32,
    /// Where it is written; `None` for a default.
    span: Option<Range<usize>>,
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let default = if self.span.is_none() { ", the default" } else { "" };
        if self.seconds == INFINITY {
            write!(f, "`{}` (infinity{default})", self.key)
        } else {
            write!(f, "`{}` ({} s{default})", self.key, self.seconds)
        }
    }
}
