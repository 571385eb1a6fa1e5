//! Several files made into one table.
//!
//! For each fact the first file that has it counts, address by address and system by system, in the order in which they
//! are given. The country of a system is that of most of its addresses by a file that gives the countries of networks: of
//! the addresses that the same file says it originates, if it says that.
//! Where an address is, is another fact: it stands in only for systems of which nothing else tells a country.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::Gathered;
use crate::ownership::{CountryCode, Data, Layer};

/// No file says which network originates an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "none of the files says which autonomous system originates an address: add one that does, such as iptoasn's \
     ip2asn-combined.tsv.gz"
)]
pub struct NoOrigins;

/// Joins the files; `base` comes after them all, for everything but origins.
pub fn join(date: Date, files: &[Gathered], base: Option<&Gathered>) -> Result<Data, NoOrigins> {
    let mut origins = Layer::default();
    for file in files {
        origins = origins.or(&file.origins);
    }
    if origins.values().next().is_none() {
        return Err(NoOrigins);
    }
    let all = || files.iter().chain(base);
    let mut organisations = BTreeMap::new();
    let (mut registrations, mut locations) = (Layer::default(), Layer::default());
    for file in all() {
        registrations = registrations.or(&file.registrations);
        locations = locations.or(&file.locations);
        for (&asn, name) in &file.organisations {
            organisations.entry(asn).or_insert_with(|| name.clone());
        }
    }
    let mut as_countries: BTreeMap<u32, CountryCode> = BTreeMap::new();
    for file in all() {
        let by_address = if file.countries_by_number.is_empty() {
            origins.majorities(&file.system_countries)
        } else {
            BTreeMap::new()
        };
        for (asn, country) in file.countries_by_number.iter().map(|(&asn, &country)| (asn, country)).chain(by_address) {
            as_countries.entry(asn).or_insert(country);
        }
    }
    for (asn, country) in origins.majorities(&locations) {
        as_countries.entry(asn).or_insert(country);
    }
    Ok(Data { date, origins, organisations, as_countries, registrations })
}
