//! Validation of `[[link.reservation]]`, and what holds for all reservations of a link.

use std::{collections::HashMap, net::Ipv6Addr, ops::Range};

use toml::Spanned;

use super::{
    ClientKey, ReservationConfig,
    errors::Place,
    file::{self, Field, List, Table},
    link::LinkContext,
    overlaps::Claim,
    validate::Checker,
    values,
};
use crate::pool::{AddressRange, Prefix};

const HEADER: &str = "[[link.reservation]]";

/// Reservations, each with its place.
pub(super) type Placed = Vec<(Place, ReservationConfig)>;

impl Checker<'_, '_> {
    /// The reservations of the link at `table`, those of its file included.
    pub(super) fn reservations(
        &mut self,
        link: LinkContext,
        table: &Range<usize>,
        reserved_only: Option<&Spanned<bool>>,
        inline: List<Table<file::Reservation>>,
        file: Field<String>,
    ) -> Vec<ReservationConfig> {
        let mistakes = self.report.mistakes();
        let inline = inline.map(Spanned::into_inner).unwrap_or_default();
        let mut nobody = inline.is_empty();
        let mut placed = Vec::new();
        for reservation in inline {
            self.reservation(link, reservation, &mut placed);
        }
        if let Some(file) = file {
            self.reservations_file(link, file, &mut placed);
        }
        nobody &= placed.is_empty() && self.report.mistakes() == mistakes;
        nobody &= !["reservation", "reservations_file"].iter().any(|key| self.removed.contains(table, key));
        if let Some(reserved_only) = reserved_only.filter(|value| *value.get_ref())
            && nobody
        {
            let message = format!(
                "`reserved_only = true` without a reservation serves nobody; add {HEADER} or `reservations_file`"
            );
            self.report.add(&reserved_only.span(), message);
        }
        self.clients_are_unique(&placed);
        placed.into_iter().map(|(_, reservation)| reservation).collect()
    }

    fn reservation(
        &mut self,
        link: LinkContext,
        reservation: Spanned<Table<file::Reservation>>,
        placed: &mut Placed,
    ) {
        let table = reservation.span();
        let file::Reservation {
            duid,
            mac,
            remote_id,
            subscriber_id,
            interface_id,
            iaid,
            address,
            prefix,
            pd_exclude,
            options,
        } = reservation.into_inner().0;

        let client = self.client(&table, Client { duid, mac, remote_id, subscriber_id, interface_id });
        let iaid = match iaid {
            None => (!self.removed.contains(&table, "iaid")).then_some(None),
            Some(iaid) => {
                self.parse("iaid", iaid, |value| values::integer(value, 0, u32::MAX.into())).map(Some)
            }
        };
        let something = address.is_some() || prefix.is_some() || options.is_some();
        if !something
            && !["address", "prefix", "options"].iter().any(|key| self.removed.contains(&table, key))
        {
            let message = format!("{HEADER} reserves nothing; write `address`, `prefix` or `options`");
            self.report.add(&table, message);
        }
        let address = address.and_then(|address| {
            let span = address.span();
            let address = self.parse("address", address, |text| values::address(&text))?;
            self.reserve_address(link, (&span).into(), address);
            Some(address)
        });
        let has_prefix = prefix.is_some() || self.removed.contains(&table, "prefix");
        let prefix = prefix.and_then(|prefix| {
            let span = prefix.span();
            let prefix = self.parse("prefix", prefix, |text| values::reserved_prefix(&text))?;
            self.reserve_prefix(link, (&span).into(), prefix);
            Some(prefix)
        });
        if let Some(pd_exclude) = pd_exclude.as_ref().filter(|_| !has_prefix) {
            let message = "`pd_exclude` is a part of a reserved prefix; write its `prefix` too";
            self.report.add(&pd_exclude.span(), message);
        }
        let pd_exclude = pd_exclude.zip(prefix).and_then(|(pd_exclude, prefix)| {
            self.parse("pd_exclude", pd_exclude, |text| values::pd_exclude(&text, prefix.length()))
        });
        let options = options.map(|options| self.options(options)).unwrap_or_default();
        if let (Some(client), Some(iaid)) = (client, iaid) {
            let reservation = ReservationConfig { client, iaid, address, prefix, pd_exclude, options };
            placed.push(((&table).into(), reservation));
        }
    }

    /// The one key that names the client.
    fn client(&mut self, table: &Range<usize>, keys: Client) -> Option<ClientKey> {
        let Client { duid, mac, remote_id, subscriber_id, interface_id } = keys;
        let mut written = [
            ("duid", duid.as_ref().map(Spanned::span)),
            ("mac", mac.as_ref().map(Spanned::span)),
            ("remote_id", remote_id.as_ref().map(Spanned::span)),
            ("subscriber_id", subscriber_id.as_ref().map(Spanned::span)),
            ("interface_id", interface_id.as_ref().map(Spanned::span)),
        ];
        written.sort_by_key(|(_, span)| span.as_ref().map(|span| span.start));
        let mut present = written.iter().filter_map(|(key, span)| Some((key, span.as_ref()?)));
        if let Some((first, _)) = present.next() {
            for (key, span) in present {
                let message = format!("`{key}`: `{first}` already names the client; write one of the two");
                self.report.add(span, message);
            }
        } else if !written.iter().any(|(key, _)| self.removed.contains(table, key)) {
            let message = format!(
                "{HEADER} names no client; write one of `duid`, `mac`, `remote_id`, `subscriber_id`, `interface_id`"
            );
            self.report.add(table, message);
        }

        // Each of them is parsed, for the mistakes in it.
        let duid = duid.and_then(|duid| self.parse("duid", duid, |text| text.parse().map(ClientKey::Duid)));
        let mac = mac.and_then(|mac| self.parse("mac", mac, |text| values::mac(&text).map(ClientKey::Mac)));
        let remote_id = remote_id.and_then(|remote_id| self.remote_id(remote_id));
        let subscriber_id = subscriber_id.and_then(|id| self.octets("subscriber_id", id));
        let interface_id = interface_id.and_then(|id| self.octets("interface_id", id));
        duid.or(mac)
            .or(remote_id)
            .or(subscriber_id.map(ClientKey::SubscriberId))
            .or(interface_id.map(ClientKey::InterfaceId))
    }

    fn remote_id(&mut self, remote_id: Spanned<Table<file::RemoteId>>) -> Option<ClientKey> {
        const KEY: &str = "remote_id";
        let table = remote_id.span();
        let file::RemoteId { enterprise, hex, text } = remote_id.into_inner().0;
        let enterprise = self.required("enterprise", "`remote_id`", &table, enterprise).and_then(|value| {
            self.parse("enterprise", value, |value| values::integer(value, 0, u32::MAX.into()))
        });
        let octets = match (hex, text) {
            (Some(hex), None) => self.parse(KEY, hex, |text| values::identifier(&text, values::hex)),
            (None, Some(text)) => self.parse(KEY, text, |text| values::identifier(&text, values::text)),
            (Some(_), Some(_)) => {
                self.report.add(&table, "`remote_id`: write `hex` or `text`, not both");
                None
            }
            (None, None) => {
                if !["hex", "text"].iter().any(|key| self.removed.contains(&table, key)) {
                    self.report.add(&table, "`remote_id` has no value; write `hex` or `text`");
                }
                None
            }
        };
        Some(ClientKey::RemoteId(enterprise?, octets?))
    }

    /// Notes that `address`, at `place`, is reserved.
    pub(super) fn reserve_address(&mut self, link: LinkContext, place: Place, address: Ipv6Addr) {
        if link.prefix.is_some_and(|prefix| !prefix.contains(address)) {
            self.report.add(place, format!("`address`: {address} is not within the link's prefix"));
        }
        let range = AddressRange::of(address);
        self.seen.claims.reserved.push(Claim { what: address.into(), range, link: link.index, place });
    }

    /// Notes that `prefix`, at `place`, is reserved.
    pub(super) fn reserve_prefix(&mut self, link: LinkContext, place: Place, prefix: Prefix) {
        let range = prefix.range();
        self.seen.claims.reserved.push(Claim { what: prefix.into(), range, link: link.index, place });
    }

    /// A client has one reservation for each IAID, or one for any.
    fn clients_are_unique(&mut self, reservations: &Placed) {
        let mut by_client: Vec<_> = reservations.iter().collect();
        // Stable: those of one client stay in the order of the files.
        by_client.sort_by(|(_, one), (_, other)| one.client.cmp(&other.client));
        let same_client = by_client.chunk_by(|(_, one), (_, other)| one.client == other.client);
        for reservations in same_client.filter(|reservations| reservations.len() > 1) {
            let first = reservations[0].0;
            let mut for_any = None;
            let mut for_iaid: HashMap<u32, Place> = HashMap::new();
            for (index, (place, reservation)) in reservations.iter().enumerate() {
                let taken = match reservation.iaid {
                    None => {
                        for_any = for_any.or(Some(*place));
                        (index > 0).then_some(first)
                    }
                    Some(iaid) => {
                        let same = for_iaid.get(&iaid).copied();
                        for_iaid.entry(iaid).or_insert(*place);
                        [for_any, same].into_iter().flatten().min()
                    }
                };
                if let Some(earlier) = taken {
                    let ia =
                        reservation.iaid.map_or_else(|| "any IAID".to_owned(), |iaid| format!("IAID {iaid}"));
                    let (client, line) = (&reservation.client, self.report.refer(*place, earlier));
                    let message = format!("{client} with {ia} already has the reservation of {line}");
                    self.report.add(*place, message);
                }
            }
        }
    }
}

/// The keys of a reservation that name a client.
struct Client {
    duid: Field<String>,
    mac: Field<String>,
    remote_id: Field<Table<file::RemoteId>>,
    subscriber_id: Field<file::Octets>,
    interface_id: Field<file::Octets>,
}
