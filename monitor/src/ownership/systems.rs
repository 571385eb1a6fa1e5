//! The autonomous systems of a table.

use std::sync::{Arc, OnceLock};

use super::CountryCode;

/// An autonomous system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct System<'table> {
    /// Its number.
    pub asn: u32,
    /// The organisation that holds it.
    pub organisation: Option<&'table str>,
    /// Its country.
    pub country: Option<CountryCode>,
}

/// All systems by their position. The names are one text, and a name gets an allocation of its own, shared by all that
/// ask for it, only when somebody does: a host talks to few of the 90,000 organisations.
#[derive(Debug, Default)]
pub(super) struct Systems {
    records: Vec<Record>,
    names: String,
    /// Where each system's name ends in `names`; it begins where the one before ends.
    name_ends: Vec<u32>,
    shared_names: Box<[OnceLock<Arc<str>>]>,
    /// Positions, ascending by AS number.
    by_asn: Box<[u32]>,
}

/// The part of a system that every lookup reads.
#[derive(Clone, Copy, Debug)]
struct Record {
    asn: u32,
    country: Option<CountryCode>,
}

impl Systems {
    /// Most systems a table can number: 22 bits, one number for none and one apart. Some 120,000 are assigned.
    pub(super) const MAXIMUM: usize = (1 << 22) - 2;

    /// Adds a system at the next position; an empty name is none.
    pub(super) fn push(&mut self, asn: u32, country: Option<CountryCode>, name: &str) {
        self.records.push(Record { asn, country });
        self.names.push_str(name);
        self.name_ends.push(self.names.len() as u32);
    }

    /// Makes what answers questions by AS number and for names, when all systems are there.
    pub(super) fn finish(&mut self) {
        let mut by_asn: Vec<(u32, u32)> = self.records.iter().map(|record| record.asn).zip(0..).collect();
        by_asn.sort_unstable();
        self.by_asn = by_asn.into_iter().map(|(_, position)| position).collect();
        self.shared_names = self.records.iter().map(|_| OnceLock::new()).collect();
        self.records.shrink_to_fit();
        self.names.shrink_to_fit();
        self.name_ends.shrink_to_fit();
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = System<'_>> {
        let names = (0..).map(|position| self.name(position));
        self.records.iter().zip(names).map(|(&Record { asn, country }, organisation)| System {
            asn,
            organisation,
            country,
        })
    }

    /// Number and country of the system at a position.
    pub(super) fn number_and_country(&self, position: u32) -> Option<(u32, Option<CountryCode>)> {
        self.records.get(position as usize).map(|record| (record.asn, record.country))
    }

    /// The name at a position, the same allocation for all who ask.
    pub(super) fn shared_name(&self, position: u32) -> Option<Arc<str>> {
        let shared = self.shared_names.get(position as usize)?;
        if let Some(name) = shared.get() {
            return Some(Arc::clone(name));
        }
        let name = self.name(position as usize)?;
        Some(Arc::clone(shared.get_or_init(|| Arc::from(name))))
    }

    /// Where a system is.
    pub(super) fn position(&self, asn: u32) -> Option<u32> {
        let asn_at = |position: &u32| self.records.get(*position as usize).map(|record| record.asn);
        let found = self.by_asn.binary_search_by_key(&Some(asn), asn_at).ok()?;
        self.by_asn.get(found).copied()
    }

    fn name(&self, position: usize) -> Option<&str> {
        let begin = position.checked_sub(1).map_or(Some(&0), |previous| self.name_ends.get(previous))?;
        let end = self.name_ends.get(position)?;
        self.names.get(*begin as usize..*end as usize).filter(|name| !name.is_empty())
    }
}
