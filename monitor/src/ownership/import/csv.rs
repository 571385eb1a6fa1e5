//! Comma-separated values: a range or a prefix, then a network, its holder, a country. With a header the names of the
//! columns say what they are; without one their order and their first row do.

use std::net::IpAddr;

use super::{
    Problem, fields,
    source::{Format, Rows, SourceError},
    text::{asn, country, lines, network},
};
use crate::ownership::CountryCode;

/// What the columns are, by position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Columns {
    count: usize,
    /// A prefix, or the first address.
    first: usize,
    last: Option<usize>,
    asn: Option<usize>,
    organisation: Option<usize>,
    country: Option<(usize, CountryKind)>,
    registration: Option<usize>,
}

/// What a column of countries is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CountryKind {
    System,
    Registration,
    Location,
}

/// The form that a first line has.
pub(super) fn detect(line: &str) -> Option<Format> {
    let columns = columns(line)?;
    Some(if columns.last.is_some() { Format::RangeCsv } else { Format::CidrCsv })
}

/// Reads all rows.
pub(super) fn read(bytes: &[u8], rows: &mut Rows) -> Result<(), SourceError> {
    let mut known: Option<Columns> = None;
    for (number, line) in lines(bytes) {
        let line = match line {
            Ok(line) if line.is_empty() || line.starts_with('#') => continue,
            Ok(line) => line,
            Err(problem) => {
                rows.count(number, Err(problem));
                continue;
            }
        };
        let Some(columns) = &known else {
            let found = columns(line).ok_or_else(|| SourceError::Columns { found: excerpt(line) })?;
            if header(line).is_none() {
                let outcome = row(line, &found, rows);
                rows.count(number, outcome);
            }
            known = Some(found);
            continue;
        };
        let outcome = row(line, columns, rows);
        rows.count(number, outcome);
    }
    Ok(())
}

fn row(line: &str, columns: &Columns, rows: &mut Rows) -> Result<(), Problem> {
    let fields = fields(line)?;
    if fields.len() != columns.count {
        return Err(Problem::Fields { found: fields.len(), expected: columns.count });
    }
    let field = |position: usize| fields.get(position).map_or("", AsRef::as_ref);
    let (first, last): (IpAddr, IpAddr) = match columns.last {
        Some(last) => (super::address(field(columns.first))?, super::address(field(last))?),
        None => network(field(columns.first))?,
    };
    let number = match columns.asn.map(field) {
        None | Some("" | "-") => None,
        Some(number) => Some(asn(number)?).filter(|&number| number != 0),
    };
    let code = |position: Option<usize>| position.map_or(Ok(None), |position| country(field(position)));
    let registration: Option<CountryCode> = code(columns.registration)?;
    let other = code(columns.country.map(|(position, _)| position))?;
    if let Some(number) = number {
        rows.origins.push(first, last, number)?;
        rows.name(number, columns.organisation.map_or("", field));
    }
    if let Some(code) = registration {
        rows.registrations.push(first, last, code)?;
    }
    if let (Some(code), Some((_, kind))) = (other, columns.country) {
        let ranges = match kind {
            CountryKind::System => &mut rows.system_countries,
            CountryKind::Registration => &mut rows.registrations,
            CountryKind::Location => &mut rows.locations,
        };
        ranges.push(first, last, code)?;
    }
    Ok(())
}

fn columns(line: &str) -> Option<Columns> {
    header(line).or_else(|| by_order(line))
}

/// The columns by their names; `None` where the line is no header that says anything.
fn header(line: &str) -> Option<Columns> {
    let names: Vec<String> = fields(line).ok()?.iter().map(|name| name.to_ascii_lowercase()).collect();
    let find = |candidates: &[&str]| candidates.iter().find_map(|wanted| names.iter().position(|name| name == wanted));
    let prefix = find(&["network", "cidr", "prefix"]);
    let last = find(&["end_ip", "ip_range_end", "range_end", "ip_end", "end"]).filter(|_| prefix.is_none());
    let first = prefix.or_else(|| find(&["start_ip", "ip_range_start", "range_start", "ip_start", "start"]))?;
    if prefix.is_none() && last.is_none() {
        return None;
    }
    let asn = find(&["autonomous_system_number", "asn", "as_number"]);
    let organisation = find(&[
        "autonomous_system_organization",
        "organisation",
        "organization",
        "org",
        "as_name",
        "as_organization",
        "name",
    ])
    .filter(|_| asn.is_some());
    let registration = find(&["registered_country_iso_code", "registered_country_code", "registered_country"]);
    let kind = match (asn, find(&["as_name", "continent", "continent_code"])) {
        // IPLocate gives the country of the network, IPinfo and DB-IP that of the place.
        (Some(_), None) => CountryKind::System,
        _ => CountryKind::Location,
    };
    let country = find(&["country_code", "country_iso_code", "country"]).map(|position| (position, kind));
    let columns = Columns { count: names.len(), first, last, asn, organisation, country, registration };
    columns.says_something().then_some(columns)
}

/// The columns by what stands in a first row: range or prefix, then `AS number, organisation, country` or `country`.
fn by_order(line: &str) -> Option<Columns> {
    let values = fields(line).ok()?;
    let value = |position: usize| values.get(position).map(AsRef::as_ref);
    let is_address = |position: usize| value(position).is_some_and(|value: &str| value.parse::<IpAddr>().is_ok());
    let (last, next) = if is_address(0) && is_address(1) {
        (Some(1), 2)
    } else if value(0).is_some_and(|value| value.contains('/') && network(value).is_ok()) {
        (None, 1)
    } else {
        return None;
    };
    let mut columns = Columns { count: values.len(), last, ..Columns::default() };
    let third = value(next)?;
    if asn(third).is_ok() {
        columns.asn = Some(next);
        columns.organisation = value(next + 1).map(|_| next + 1);
    } else if CountryCode::new(third).is_some() {
        columns.country = Some((next, CountryKind::Registration));
    }
    columns.says_something().then_some(columns)
}

impl Columns {
    fn says_something(&self) -> bool {
        self.asn.is_some() || self.country.is_some() || self.registration.is_some()
    }
}

fn excerpt(line: &str) -> String {
    let text: String = line.chars().take(80).collect();
    format!("{text:?}")
}
