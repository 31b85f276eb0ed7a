//! Validation of `[[link.pool]]` and `[[link.prefix_pool]]`.

use toml::Spanned;

use super::{
    PoolConfig, PrefixPoolConfig,
    file::{self, List, Table},
    link::LinkContext,
    overlaps::Claim,
    validate::Checker,
    values,
};
use crate::pool::AddressRange;

/// The longest prefix that can be delegated from a pool.
const MAX_DELEGATED_LENGTH: u8 = 127;

impl Checker<'_, '_> {
    pub(super) fn pool(&mut self, link: LinkContext, pool: Spanned<Table<file::Pool>>) -> Option<PoolConfig> {
        let table = pool.span();
        let file::Pool { range, exclude, options } = pool.into_inner().0;
        let range = self.required("range", "[[link.pool]]", &table, range);
        let span = range.as_ref().map(Spanned::span);
        let range = range.and_then(|range| self.parse("range", range, |text| values::address_range(&text)));
        let exclude = self.excluded(range, exclude);
        let options = options.map(|options| self.options(options)).unwrap_or_default();

        let (range, span) = (range?, span?);
        if link.prefix.is_some_and(|prefix| !prefix.covers(&range)) {
            self.report.add(&span, "`range`: the pool is not within the link's prefix");
        }
        self.seen.claims.pools.push(Claim { what: (), range, link: link.index, place: (&span).into() });
        Some(PoolConfig { range, exclude, options })
    }

    pub(super) fn prefix_pool(
        &mut self,
        link: LinkContext,
        pool: Spanned<Table<file::PrefixPool>>,
    ) -> Option<PrefixPoolConfig> {
        const HEADER: &str = "[[link.prefix_pool]]";
        let table = pool.span();
        let file::PrefixPool { prefix, delegated_length, exclude, pd_exclude, options } = pool.into_inner().0;
        let prefix = self.required("prefix", HEADER, &table, prefix);
        let span = prefix.as_ref().map(Spanned::span);
        let prefix = prefix.and_then(|prefix| self.parse("prefix", prefix, |text| values::prefix(&text)));
        let shortest = prefix.map_or(1, |prefix| prefix.length().min(MAX_DELEGATED_LENGTH));
        let delegated_length =
            self.required("delegated_length", HEADER, &table, delegated_length).and_then(|length| {
                self.parse("delegated_length", length, |length| {
                    values::integer(length, shortest.into(), MAX_DELEGATED_LENGTH.into())
                })
            });
        let exclude = self.excluded(prefix.map(|prefix| prefix.range()), exclude);
        let pd_exclude = pd_exclude.zip(delegated_length).and_then(|(pd_exclude, length)| {
            self.parse("pd_exclude", pd_exclude, |text| values::pd_exclude(&text, length))
        });
        let options = options.map(|options| self.options(options)).unwrap_or_default();

        let (prefix, span) = (prefix?, span?);
        if prefix.length() > MAX_DELEGATED_LENGTH {
            let message = format!("`prefix`: {prefix} is one address, of which no prefix can be delegated");
            self.report.add(&span, message);
        }
        let (range, place) = (prefix.range(), (&span).into());
        self.seen.claims.prefix_pools.push(Claim { what: (), range, link: link.index, place });
        Some(PrefixPoolConfig { prefix, delegated_length: delegated_length?, exclude, pd_exclude, options })
    }

    /// What is never assigned of a pool.
    fn excluded(&mut self, pool: Option<AddressRange>, exclude: List<String>) -> Vec<AddressRange> {
        let mut excluded = Vec::new();
        for exclude in exclude.map(Spanned::into_inner).unwrap_or_default() {
            let span = exclude.span();
            let Some(exclude) = self.parse("exclude", exclude, |text| values::address_range(&text)) else {
                continue;
            };
            if pool.is_some_and(|pool| !pool.overlaps(&exclude)) {
                self.report.add(&span, "`exclude`: no address of it is in the pool");
            }
            excluded.push(exclude);
        }
        excluded
    }
}
