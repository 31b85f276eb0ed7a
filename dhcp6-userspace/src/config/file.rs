//! The file as it is written: every key optional, every value with its place in the text, nothing checked but
//! its type.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use toml::Spanned;

/// A key that may be absent.
pub(super) type Field<T> = Option<Spanned<T>>;
/// An array of values or of tables.
pub(super) type List<T> = Field<Vec<Spanned<T>>>;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) server: Field<Table<Server>>,
    pub(super) store: Field<Table<Store>>,
    pub(super) control: Field<Table<Control>>,
    pub(super) metrics: Field<Table<Metrics>>,
    pub(super) fast_path: Field<Table<FastPath>>,
    pub(super) link: List<Table<Link>>,
}

/// `[server]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) state_dir: Field<String>,
    pub(super) duid: Field<String>,
    pub(super) preference: Field<Integer>,
    pub(super) port: Field<Integer>,
    pub(super) relay_supplied_options: List<Integer>,
}

/// `[store]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub(super) kind: Field<String>,
}

/// `[control]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    pub(super) socket: Field<String>,
}

/// `[metrics]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) listen: Field<String>,
}

/// `[fast_path]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FastPath {
    pub(super) enabled: Field<bool>,
    pub(super) mode: Field<String>,
    pub(super) max_bindings: Field<Integer>,
    pub(super) pin_dir: Field<String>,
    pub(super) horizon: Field<Span>,
    pub(super) log: Field<bool>,
    pub(super) admission: Field<Table<Admission>>,
}

/// `[fast_path.admission]`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admission {
    pub(super) enabled: Field<bool>,
    pub(super) per_source: Field<Integer>,
    pub(super) strangers: Field<Integer>,
    pub(super) clients: Field<Integer>,
    pub(super) relayed: Field<Integer>,
    pub(super) retransmission: Field<Span>,
}

/// `[[link]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    pub(super) name: Field<String>,
    pub(super) interface: Field<String>,
    pub(super) vlan: List<Tag>,
    pub(super) prefix: Field<String>,
    pub(super) rapid_commit: Field<bool>,
    pub(super) preferred_lifetime: Field<Span>,
    pub(super) valid_lifetime: Field<Span>,
    pub(super) t1: Field<Span>,
    pub(super) t2: Field<Span>,
    pub(super) allocation: Field<String>,
    pub(super) bind_to_mac: Field<bool>,
    pub(super) decline_hold: Field<Span>,
    pub(super) decline_limit: Field<Integer>,
    pub(super) reserved_only: Field<bool>,
    pub(super) interface_ids: List<Octets>,
    pub(super) pool: List<Table<Pool>>,
    pub(super) prefix_pool: List<Table<PrefixPool>>,
    pub(super) reservation: List<Table<Reservation>>,
    pub(super) reservations_file: Field<String>,
    pub(super) options: Field<Table<Options>>,
}

/// `[[link.pool]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    pub(super) range: Field<String>,
    pub(super) exclude: List<String>,
    pub(super) options: Field<Table<Options>>,
}

/// `[[link.prefix_pool]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrefixPool {
    pub(super) prefix: Field<String>,
    pub(super) delegated_length: Field<Integer>,
    pub(super) exclude: List<String>,
    pub(super) pd_exclude: Field<String>,
    pub(super) options: Field<Table<Options>>,
}

/// `[[link.reservation]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reservation {
    pub(super) duid: Field<String>,
    pub(super) mac: Field<String>,
    pub(super) remote_id: Field<Table<RemoteId>>,
    pub(super) subscriber_id: Field<Octets>,
    pub(super) interface_id: Field<Octets>,
    pub(super) iaid: Field<Integer>,
    pub(super) address: Field<String>,
    pub(super) prefix: Field<String>,
    pub(super) pd_exclude: Field<String>,
    pub(super) options: Field<Table<Options>>,
}

/// `remote_id` of a reservation
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoteId {
    pub(super) enterprise: Field<Integer>,
    pub(super) hex: Field<String>,
    pub(super) text: Field<String>,
}

/// `[link.options]`, and the options of a pool or of a reservation
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    pub(super) dns_servers: List<String>,
    pub(super) domain_search: List<String>,
    pub(super) ntp_servers: List<String>,
    pub(super) sntp_servers: List<String>,
    pub(super) sol_max_rt: Field<Span>,
    pub(super) inf_max_rt: Field<Span>,
    pub(super) information_refresh_time: Field<Span>,
    pub(super) custom: List<Table<CustomOption>>,
}

/// An entry of `custom` in `[link.options]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CustomOption {
    pub(super) code: Field<Integer>,
    pub(super) hex: Field<String>,
}

/// A table. Serde alone would take an array for one as well, its elements for the keys in their order.
pub(super) struct Table<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
            type Value = Table<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Table<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Table)
            }
        }

        deserializer.deserialize_any(TableVisitor(PhantomData))
    }
}

/// Octets as they are written.
pub(super) enum Octets {
    /// Those of a text.
    Text(String),
    /// `{ hex = "00ff" }`
    Hex(Hex),
}

/// The table for octets that are no text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hex {
    pub(super) hex: Field<String>,
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OctetsVisitor;

        impl<'de> Visitor<'de> for OctetsVisitor {
            type Value = Octets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or { hex = \"00ff\" }")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Octets, E> {
                Ok(Octets::Text(value.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Octets, A::Error> {
                Hex::deserialize(MapAccessDeserializer::new(map)).map(Octets::Hex)
            }
        }

        deserializer.deserialize_any(OctetsVisitor)
    }
}

/// An integer; which ones a key allows is checked later, so that the message can say it.
#[derive(Clone, Copy)]
pub(super) struct Integer(pub(super) i64);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerVisitor;

        impl Visitor<'_> for IntegerVisitor {
            type Value = Integer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Integer, E> {
                Ok(Integer(value))
            }
        }

        deserializer.deserialize_any(IntegerVisitor)
    }
}

/// Identifiers of VLANs as they are written, of one tag.
pub(super) enum Tag {
    /// One of them.
    Identifier(Integer),
    /// Text such as `10-19,30`.
    Text(String),
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagVisitor;

        impl Visitor<'_> for TagVisitor {
            type Value = Tag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a string such as \"10-19,30\"")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Tag, E> {
                Ok(Tag::Identifier(Integer(value)))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Tag, E> {
                Ok(Tag::Text(value.to_owned()))
            }
        }

        deserializer.deserialize_any(TagVisitor)
    }
}

/// A span of time as it is written.
pub(super) enum Span {
    /// An integer number of seconds.
    Seconds(i64),
    /// Text such as `30m`.
    Text(String),
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;

        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"30m\" or an integer number of seconds")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Span, E> {
                Ok(Span::Seconds(value))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Span, E> {
                Ok(Span::Text(value.to_owned()))
            }
        }

        deserializer.deserialize_any(SpanVisitor)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "{seconds}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}
