//! Lines split by tabs: the files of iptoasn.com, and those that pyasn makes of routing tables.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{Problem, source::Rows};
use crate::ownership::CountryCode;

/// The lines with their numbers, without line ends and the mark that spreadsheets put at the start.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (u64, Result<&str, Problem>)> {
    (1..).zip(bytes.split(|&byte| byte == b'\n')).map(|(number, line)| {
        let line = str::from_utf8(line).map_err(Problem::Encoding);
        (number, line.map(|line| line.trim_start_matches('\u{feff}').trim_matches(['\r', ' '])))
    })
}

/// Whether a line is one of iptoasn's.
pub(super) fn is_iptoasn(line: &str) -> bool {
    let mut fields = line.split('\t');
    let mut is_end = || fields.next().is_some_and(|field| iptoasn_address(field).is_ok());
    is_end() && is_end() && (1..=3).contains(&fields.count())
}

/// Whether a line is one of pyasn's.
pub(super) fn is_pyasn(line: &str) -> bool {
    let mut fields = line.split_whitespace();
    fields.next().is_some_and(|field| field.contains('/') && field.parse::<IpNet>().is_ok())
        && fields.next().is_some_and(|field| asn(field).is_ok())
        && fields.next().is_none()
}

/// `first TAB last TAB AS number TAB country TAB description`, or `first TAB last TAB country`. Addresses may be IPv4
/// addresses as numbers. The country is that of the system.
pub(super) fn read_iptoasn(bytes: &[u8], rows: &mut Rows) {
    for (number, line) in lines(bytes) {
        let outcome = match line {
            Ok(line) if line.is_empty() || line.starts_with('#') => continue,
            Ok(line) => iptoasn(line, rows),
            Err(problem) => Err(problem),
        };
        rows.count(number, outcome);
    }
}

fn iptoasn(line: &str, rows: &mut Rows) -> Result<(), Problem> {
    let mut fields = line.splitn(5, '\t');
    let mut next = || fields.next().map(str::trim);
    let columns = || Problem::Columns { wanted: "first address, last address, AS number, country and description" };
    let first = iptoasn_address(next().ok_or_else(columns)?)?;
    let last = iptoasn_address(next().ok_or_else(columns)?)?;
    let third = next().ok_or_else(columns)?;
    let Some(fourth) = next() else {
        if let Some(code) = country(third)? {
            rows.system_countries.push(first, last, code)?;
        }
        return Ok(());
    };
    let number = asn(third)?;
    let code = country(fourth)?;
    if number == 0 {
        return Ok(());
    }
    rows.origins.push(first, last, number)?;
    if let Some(code) = code {
        rows.system_countries.push(first, last, code)?;
    }
    rows.name(number, next().unwrap_or_default());
    Ok(())
}

fn iptoasn_address(field: &str) -> Result<IpAddr, Problem> {
    match field.parse::<u32>() {
        Ok(bits) => Ok(Ipv4Addr::from_bits(bits).into()),
        Err(_) => super::address(field),
    }
}

/// `prefix TAB AS number`; lines that begin with `;` are comments.
pub(super) fn read_pyasn(bytes: &[u8], rows: &mut Rows) {
    for (number, line) in lines(bytes) {
        let outcome = match line {
            Ok(line) if line.is_empty() || line.starts_with([';', '#']) => continue,
            Ok(line) => pyasn(line, rows),
            Err(problem) => Err(problem),
        };
        rows.count(number, outcome);
    }
}

fn pyasn(line: &str, rows: &mut Rows) -> Result<(), Problem> {
    let mut fields = line.split_whitespace();
    let (Some(prefix), Some(number), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err(Problem::Columns { wanted: "prefix and AS number" });
    };
    let (first, last) = network(prefix)?;
    let number = asn(number)?;
    if number != 0 {
        rows.origins.push(first, last, number)?;
    }
    Ok(())
}

/// The ends of a prefix; an address alone is one.
pub(super) fn network(field: &str) -> Result<(IpAddr, IpAddr), Problem> {
    if let Ok(network) = field.parse::<IpNet>() {
        return Ok((network.network(), network.broadcast()));
    }
    match field.parse::<IpAddr>() {
        Ok(address) => Ok((address, address)),
        Err(_) => Err(Problem::Prefix { found: field.to_owned() }),
    }
}

/// `64496` or `AS64496`.
pub(super) fn asn(field: &str) -> Result<u32, Problem> {
    let digits = field.get(2..).filter(|_| field.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("as")));
    digits.unwrap_or(field).parse().map_err(|_| Problem::Asn { found: field.to_owned() })
}

/// Two letters, or one of the ways to say that there is no country.
pub(super) fn country(field: &str) -> Result<Option<CountryCode>, Problem> {
    if matches!(field, "" | "-" | "None" | "Unknown" | "ZZ") {
        return Ok(None);
    }
    CountryCode::new(field).map(Some).ok_or_else(|| Problem::Country { found: field.to_owned() })
}
