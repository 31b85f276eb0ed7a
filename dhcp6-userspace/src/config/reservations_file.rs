//! `reservations_file`: reservations as lines of comma-separated values.

use csv::{ReaderBuilder, StringRecord, Trim};
use dhcp6_common::wire::Duid;
use toml::Spanned;

use super::{
    ClientKey, ReservationConfig, errors::Place, link::LinkContext, reservations::Placed, validate::Checker,
    values,
};

/// The first line.
const HEADER: [&str; 4] = ["duid", "iaid", "address", "prefix"];
/// What a line begins with that is not read.
const COMMENT: u8 = b'#';

impl Checker<'_, '_> {
    /// Appends the reservations of a file; its path is relative to the directory of the configuration.
    pub(super) fn reservations_file(
        &mut self,
        link: LinkContext,
        path: Spanned<String>,
        placed: &mut Placed,
    ) {
        const KEY: &str = "reservations_file";
        let span = path.span();
        let Some(path) = self.parse(KEY, path, values::path) else { return };
        let path = self.report.directory().join(path);
        let contents = match (self.read)(&path) {
            Ok(contents) => contents,
            Err(error) => {
                let message = format!("`{KEY}`: {} cannot be read: {error}", path.display());
                self.report.add(&span, message);
                return;
            }
        };

        let file = self.report.further_file(path.display().to_string());
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(Trim::All)
            .comment(Some(COMMENT))
            .from_reader(&contents[..]);
        let mut record = StringRecord::new();
        let mut is_header = true;
        loop {
            let start = reader.position().clone();
            let read = reader.read_record(&mut record);
            let skipped = lines_without_record(&contents[start.byte() as usize..]);
            let place = Place::Line { file, line: start.line() as usize + skipped };
            match read {
                Ok(true) if is_header => {
                    if record != HEADER[..] {
                        break;
                    }
                    is_header = false;
                }
                Ok(true) => placed.extend(self.line(link, place, &record).map(|line| (place, line))),
                Ok(false) => break,
                // The octets are in memory, so they can be read, and lines of any length are accepted.
                Err(_) => self.report.add(place, "the line is not UTF-8"),
            }
        }
        if is_header {
            let place = Place::Line { file, line: 1 };
            self.report.add(place, format!("the file does not begin with the line \"{}\"", HEADER.join(",")));
        }
    }

    fn line(&mut self, link: LinkContext, place: Place, record: &StringRecord) -> Option<ReservationConfig> {
        if record.as_slice().contains('\n') {
            self.report.add(place, "a quoted field does not end on its line");
            return None;
        }
        let fields: Vec<&str> = record.iter().collect();
        let Ok([duid, iaid, address, prefix]) = <[&str; 4]>::try_from(fields) else {
            let message =
                format!("the line has {} fields, not the {} of the header", record.len(), HEADER.len());
            self.report.add(place, message);
            return None;
        };

        let client = self.parse_at("duid", place, duid, str::parse::<Duid>).map(ClientKey::Duid);
        let iaid = self.parse_at("iaid", place, iaid, |text| optional(text, values::iaid));
        let address = self.parse_at("address", place, address, |text| optional(text, values::address));
        let prefix = self.parse_at("prefix", place, prefix, |text| optional(text, values::reserved_prefix));
        if let (Some(None), Some(None)) = (address, prefix) {
            self.report.add(place, "the line reserves nothing; write an address or a prefix");
        }
        let (address, prefix) = (address.flatten(), prefix.flatten());
        if let Some(address) = address {
            self.reserve_address(link, place, address);
        }
        if let Some(prefix) = prefix {
            self.reserve_prefix(link, place, prefix);
        }
        Some(ReservationConfig {
            client: client?,
            iaid: iaid?,
            address,
            prefix,
            pd_exclude: None,
            options: Vec::new(),
        })
    }
}

/// The value of a field that may be empty.
fn optional<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// How many lines the reader passes over in front of the next record: empty ones, also the rest of a line that ended
/// in CR LF, and comments.
fn lines_without_record(contents: &[u8]) -> usize {
    let lines = contents.split_inclusive(|octet| *octet == b'\n');
    lines.take_while(|line| matches!(line, [COMMENT, ..] | [b'\n'] | [b'\r', b'\n'])).count()
}
