//! What importers gather for a table.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use jiff::civil::Date;

use super::{CountryCode, Layer, systems::Systems};

/// Everything a [`Table`](super::Table) is made of.
#[derive(Clone, Debug)]
pub struct Data {
    /// Of which day the facts are.
    pub date: Date,
    /// Number of the autonomous system that originates each address.
    pub origins: Layer<u32>,
    /// Names of the organisations that hold the systems, by AS number.
    pub organisations: BTreeMap<u32, String>,
    /// Countries of the systems, by AS number; [`Layer::majorities`] makes them.
    pub as_countries: BTreeMap<u32, CountryCode>,
    /// Country in which each address is registered.
    pub registrations: Layer<CountryCode>,
}

impl Data {
    /// The systems that originate addresses or have a name, those with the most ranges first: few systems hold most
    /// ranges, so that most numbers in the file are small and most lookups meet the same cache lines.
    pub(super) fn systems(&self) -> Result<Systems, TooManySystems> {
        let mut ranges = HashMap::<u32, usize>::new();
        for asn in self.origins.values() {
            *ranges.entry(asn).or_default() += 1;
        }
        let numbers: BTreeSet<u32> = ranges.keys().chain(self.organisations.keys()).copied().collect();
        let mut numbers = Vec::from_iter(numbers);
        // The sort is stable: among equals the AS numbers ascend, so that their differences in the file are small.
        numbers.sort_by_key(|asn| Reverse(ranges.get(asn).copied().unwrap_or(0)));
        if numbers.len() > Systems::MAXIMUM {
            return Err(TooManySystems { found: numbers.len() });
        }
        let mut systems = Systems::default();
        for asn in numbers {
            let organisation = self.organisations.get(&asn).map_or("", String::as_str);
            systems.push(asn, self.as_countries.get(&asn).copied(), organisation);
        }
        systems.finish();
        Ok(systems)
    }
}

/// The data name more autonomous systems than a table can number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the data name {found} autonomous systems, a table holds at most {}: check what was imported",
    Systems::MAXIMUM
)]
pub struct TooManySystems {
    /// How many.
    pub found: usize,
}
