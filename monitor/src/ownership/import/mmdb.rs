//! `MaxMind` DB files, with the keys of those who publish ownership data in them.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use jiff::{Timestamp, tz::TimeZone};
use maxminddb::{LookupResult, Metadata, PathElement, Reader, WithinOptions};

use super::{
    Problem,
    source::{Format, Gathered, Rows, SourceError},
    text,
};
use crate::ownership::CountryCode;

/// What every file has in front of its metadata, which are within
const MARK: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// so many bytes from its end.
const METADATA_MAX_BYTES: usize = 128 << 10;

/// What one record says.
#[derive(Clone, Debug, Default)]
struct Facts {
    asn: Option<u32>,
    organisation: Option<String>,
    system_country: Option<CountryCode>,
    registration: Option<CountryCode>,
    location: Option<CountryCode>,
}

/// Whether bytes are such a file.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    let tail = bytes.get(bytes.len().saturating_sub(METADATA_MAX_BYTES)..).unwrap_or(bytes);
    tail.windows(MARK.len()).any(|window| window == MARK)
}

/// Reads all networks.
pub(super) fn read(bytes: Vec<u8>) -> Result<Gathered, SourceError> {
    let damaged = |error: maxminddb::MaxMindDbError| SourceError::Mmdb(error.to_string());
    let reader = Reader::from_source(bytes).map_err(damaged)?;
    let mut rows = Rows::default();
    // Many networks share a record.
    let mut known: HashMap<usize, Result<Facts, String>> = HashMap::new();
    for (number, network) in (1..).zip(reader.networks(WithinOptions::default()).map_err(damaged)?) {
        let network = network.map_err(damaged)?;
        let Some(offset) = network.offset() else { continue };
        let facts = known.entry(offset).or_insert_with(|| facts(&network));
        let outcome = match facts {
            Ok(facts) => {
                let network = network.network().map_err(damaged)?;
                let (first, last) = ends(network.network(), network.broadcast());
                add(&mut rows, first, last, facts)
            }
            Err(found) => Err(Problem::Record { found: found.clone() }),
        };
        rows.count(number, outcome);
    }
    let mut gathered = rows.finish(Format::Mmdb)?;
    let metadata = reader.metadata();
    gathered.date = i64::try_from(metadata.build_epoch)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map(|time| time.to_zoned_datetime(TimeZone::UTC).date());
    gathered.licence = licence(metadata).map(str::to_owned);
    Ok(gathered)
}

fn add(rows: &mut Rows, first: IpAddr, last: IpAddr, facts: &Facts) -> Result<(), Problem> {
    if let Some(asn) = facts.asn.filter(|&asn| asn != 0) {
        rows.origins.push(first, last, asn)?;
        rows.name(asn, facts.organisation.as_deref().unwrap_or_default());
    }
    for (country, ranges) in [
        (facts.system_country, &mut rows.system_countries),
        (facts.registration, &mut rows.registrations),
        (facts.location, &mut rows.locations),
    ] {
        if let Some(country) = country {
            ranges.push(first, last, country)?;
        }
    }
    Ok(())
}

/// The ends of a network. IPv4 lies at the beginning of the tree for IPv6.
fn ends(first: IpAddr, last: IpAddr) -> (IpAddr, IpAddr) {
    match (first, last) {
        (IpAddr::V6(low), IpAddr::V6(high)) if high.to_bits() >> 32 == 0 => {
            (Ipv4Addr::from_bits(low.to_bits() as u32).into(), Ipv4Addr::from_bits(high.to_bits() as u32).into())
        }
        ends => ends,
    }
}

/// Reads a record by the keys that are known: `autonomous_system_number`, `autonomous_system_organization`,
/// `country.iso_code` and `registered_country.iso_code` of `GeoLite2` and DB-IP; `asn` ("AS…"), `as_name` and `country_code`
/// of `IPinfo`; `asn`, `org` and `country_code` of `IPLocate`; `country_code` of ip-location-db.
fn facts(record: &LookupResult<'_, Vec<u8>>) -> Result<Facts, String> {
    // A key that leads to something else is as good as none.
    let text = |keys: &[&str]| {
        let path: Vec<_> = keys.iter().map(|key| PathElement::Key(key)).collect();
        record.decode_path::<&str>(&path).ok().flatten().map(str::trim).filter(|text| !text.is_empty())
    };
    let number = |key: &str| record.decode_path::<u32>(&[PathElement::Key(key)]).ok().flatten();
    let country = |keys: &[&str]| match text(keys) {
        None => Ok(None),
        Some(code) => text::country(code).map_err(|problem| problem.to_string()),
    };
    let asn = match (number("autonomous_system_number").or_else(|| number("asn")), text(&["asn"])) {
        (None, Some(text)) => Some(text::asn(text).map_err(|problem| problem.to_string())?),
        (number, _) => number,
    };
    let mut organisation = None;
    for key in ["autonomous_system_organization", "as_name", "org", "name"] {
        organisation = organisation.or_else(|| text(&[key]).map(str::to_owned));
    }
    let mut facts = Facts {
        asn,
        organisation,
        system_country: None,
        registration: country(&["registered_country", "iso_code"])?,
        location: country(&["country", "iso_code"])?,
    };
    let code = country(&["country_code"])?;
    // IPinfo's is that of the place; IPLocate's, beside a network, that of the network.
    if facts.asn.is_some() && text(&["as_name"]).is_none() && text(&["continent_code"]).is_none() {
        facts.system_country = code;
    } else {
        facts.location = facts.location.or(code);
    }
    Ok(facts)
}

/// Under which licence a file is given, by its kind.
fn licence(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.database_type.to_ascii_lowercase();
    let is = |name: &str| kind.contains(name);
    if is("dbip") {
        Some("IP Geolocation by DB-IP (https://db-ip.com/), CC BY 4.0")
    } else if is("geolite2") {
        Some("GeoLite2 data created by MaxMind (https://www.maxmind.com/), GeoLite2 End User License Agreement")
    } else if is("geoip2") {
        Some("MaxMind (https://www.maxmind.com/), by contract")
    } else if is("ipinfo") {
        Some("IP address data powered by IPinfo (https://ipinfo.io/), CC BY-SA 4.0")
    } else if is("iplocate") {
        Some("IPLocate (https://iplocate.io/), CC BY-SA 4.0")
    } else {
        None
    }
}
