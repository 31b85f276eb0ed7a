//! Validation of one `[[link]]`.

use std::{ops::Range, time::Duration};

use dhcp6_common::wire::INFINITY;
use toml::Spanned;

use super::{
    Lifetimes, LinkConfig, VlanSet,
    file::{self, Field, List, Octets, Span, Table, Tag},
    validate::Checker,
    values,
    vlans::Taken,
};
use crate::pool::{AddressRange, Allocation};

/// Preferred lifetime where none is configured, in seconds.
const DEFAULT_PREFERRED: u32 = 3600;
/// Valid lifetime where none is configured, in seconds.
const DEFAULT_VALID: u32 = 7200;
/// How long a declined address stays out of use where nothing is configured.
const DEFAULT_DECLINE_HOLD: Duration = Duration::from_hours(24);
/// How many addresses a client can have out of use by its Declines where nothing is configured.
const DEFAULT_DECLINE_LIMIT: u32 = 8;

/// What the parts of a link need to know of it.
#[derive(Clone, Copy)]
pub(super) struct LinkContext {
    /// Its place among the links.
    pub(super) index: usize,
    /// Its prefix; `None` where that is missing or wrong.
    pub(super) prefix: Option<AddressRange>,
}

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
            decline_limit,
            reserved_only,
            interface_ids,
            pool,
            prefix_pool,
            reservation,
            reservations_file,
            options,
        } = link.into_inner().0;

        let name = self.link_name(&span, name);
        let (interface, vlans) = self.arrivals(&span, interface, vlan);
        let prefix = self.link_prefix(&span, prefix);
        let context = LinkContext { index, prefix };
        let allocations = [("cyclic", Allocation::Cyclic), ("random", Allocation::Random)];

        let lifetimes = self.lifetimes(&span, preferred_lifetime, valid_lifetime, t1, t2);
        let allocation = self
            .parse_or("allocation", allocation, Allocation::Cyclic, |text| values::word(&text, &allocations));
        let decline_hold =
            self.parse_or("decline_hold", decline_hold, DEFAULT_DECLINE_HOLD, |span| values::duration(&span));
        let decline_limit = self.parse_or("decline_limit", decline_limit, DEFAULT_DECLINE_LIMIT, |value| {
            values::integer(value, 1, u32::MAX.into())
        });
        let interface_ids = self.interface_ids(interface_ids);
        let pools = pool.map(Spanned::into_inner).unwrap_or_default();
        let pools = pools.into_iter().filter_map(|pool| self.pool(context, pool)).collect();
        let prefix_pools = prefix_pool.map(Spanned::into_inner).unwrap_or_default();
        let prefix_pools =
            prefix_pools.into_iter().filter_map(|pool| self.prefix_pool(context, pool)).collect();
        let reservations =
            self.reservations(context, &span, reserved_only.as_ref(), reservation, reservations_file);
        let options = options.map(|options| self.options(options)).unwrap_or_default();

        Some(LinkConfig {
            name: name?,
            interface,
            vlans,
            bind_to_mac: bind_to_mac.is_some_and(Spanned::into_inner),
            prefix: prefix?,
            rapid_commit: rapid_commit.is_some_and(Spanned::into_inner),
            lifetimes: lifetimes?,
            allocation,
            decline_hold,
            decline_limit,
            reserved_only: reserved_only.is_some_and(Spanned::into_inner),
            interface_ids,
            pools,
            prefix_pools,
            reservations,
            options,
        })
    }

    fn link_name(&mut self, link: &Range<usize>, name: Field<String>) -> Option<String> {
        let name = self.required("name", "[[link]]", link, name)?;
        let span = name.span();
        let name = self.parse("name", name, values::link_name)?;
        if let Some(first) = self.seen.names.get(&name) {
            let earlier = self.report.refer(&span, first);
            self.report.add(&span, format!("`name`: \"{name}\" is already the link of {earlier}"));
        } else {
            self.seen.names.insert(name.clone(), span);
        }
        Some(name)
    }

    /// The interface, none for a link that is reached through relay agents only, and its VLANs.
    fn arrivals(
        &mut self,
        link: &Range<usize>,
        interface: Field<String>,
        vlan: List<Tag>,
    ) -> (Option<String>, Option<VlanSet>) {
        let vlan_span = vlan.as_ref().map(Spanned::span);
        let vlans = self.vlans(link, interface.is_some(), vlan);
        let Some(interface) = interface else { return (None, None) };
        let place = vlan_span.unwrap_or_else(|| interface.span());
        let name = self.parse("interface", interface, values::interface_name);
        // What is wrong is compared with nothing.
        if let (Some(name), Ok(vlans)) = (&name, &vlans) {
            let taken = Taken { vlans: vlans.clone(), place };
            self.seen.interfaces.entry(name.clone()).or_default().push(taken);
        }
        (name, vlans.unwrap_or_default())
    }

    fn link_prefix(&mut self, table: &Range<usize>, prefix: Field<String>) -> Option<AddressRange> {
        let prefix = self.required("prefix", "[[link]]", table, prefix)?;
        self.parse("prefix", prefix, |text| values::prefix(&text)).map(|prefix| prefix.range())
    }

    /// Interface-Ids, each of one link only.
    fn interface_ids(&mut self, ids: List<Octets>) -> Vec<Vec<u8>> {
        let mut checked = Vec::new();
        for id in ids.map(Spanned::into_inner).unwrap_or_default() {
            let span = id.span();
            let Some(id) = self.octets("interface_ids", id) else { continue };
            if let Some(first) = self.seen.interface_ids.get(&id) {
                let earlier = self.report.refer(&span, first);
                self.report.add(&span, format!("`interface_ids`: this Interface-Id is already on {earlier}"));
            } else {
                self.seen.interface_ids.insert(id.clone(), span);
            }
            checked.push(id);
        }
        checked
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
}

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
