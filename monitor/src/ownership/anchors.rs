//! What any usable table knows. A table that does not is not put in the place of another.

use std::{fmt, net::IpAddr};

use super::Table;

/// Addresses and the autonomous systems that have originated them for many years.
pub const ANCHORS: [(&str, u32); 4] =
    [("8.8.8.8", 15169), ("1.1.1.1", 13335), ("111.13.100.1", 9808), ("2409:8c00::1", 9808)];
/// A table of the whole IPv4 and IPv6 space has more ranges than these.
pub const FEWEST_RANGES: (usize, usize) = (300_000, 60_000);

/// What a table does not know, or says differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotVerified {
    /// Every difference, as a sentence.
    pub differences: Vec<String>,
}

impl fmt::Display for NotVerified {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.differences.join("; "))
    }
}

impl std::error::Error for NotVerified {}

/// Checks a table against the anchors and the least size.
pub fn verify(table: &Table) -> Result<(), NotVerified> {
    let mut differences = Vec::new();
    for (address, asn) in ANCHORS {
        let found = address.parse::<IpAddr>().ok().and_then(|address| table.facts(address).asn);
        if found != Some(asn) {
            let found = found.map_or("no network".to_owned(), |found| format!("AS{found}"));
            differences.push(format!("{address} must belong to AS{asn}, the data say {found}"));
        }
    }
    let found = table.origin_counts();
    for (family, found, fewest) in [("IPv4", found.0, FEWEST_RANGES.0), ("IPv6", found.1, FEWEST_RANGES.1)] {
        if found <= fewest {
            differences.push(format!("more than {fewest} {family} ranges must have an origin, the data have {found}"));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(NotVerified { differences }) }
}
