//! The ownership table: from an address to its owner, and from facts about owners to all their prefixes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use jiff::civil::Date;

use super::{
    CountryCode, Data, Owner, OwnerLookup, OwnershipError, System, decode,
    layer::{append, overlay},
    ranges::{Packed, V4, V6},
};

/// Who owns each address, as of one date. Some 12 MB in memory; lookups allocate nothing.
#[derive(Debug)]
pub struct Table {
    date: Date,
    /// Those with the most ranges first.
    systems: Box<[System]>,
    /// Positions in `systems`, ascending by AS number.
    by_asn: Box<[u32]>,
    v4: V4,
    v6: V6,
}

impl Table {
    /// The table in this program, made by `cargo xtask data` from public routing and registry data; see NOTICE.
    pub fn embedded() -> Result<Self, OwnershipError> {
        Self::decode(include_bytes!("../../data/ownership.bin"))
    }

    /// Reads a table file, the output of [`encode`](super::encode).
    pub fn decode(bytes: &[u8]) -> Result<Self, OwnershipError> {
        Ok(Self::new(decode::decode(bytes)?))
    }

    /// Lays the data out for lookups.
    #[must_use]
    pub fn new(data: Data) -> Self {
        let Data { date, systems, origins, registrations } = data;
        let pack = |system, country: Option<CountryCode>| Packed::new(system, country.map(CountryCode::index));
        let mut v4 = Vec::with_capacity(origins.v4.len() + registrations.v4.len());
        for (start, system, country) in overlay(&origins.v4, &registrations.v4) {
            append(&mut v4, start, pack(system, country));
        }
        let mut v6 = Vec::with_capacity(origins.v6.len() + registrations.v6.len());
        for (start, system, country) in overlay(&origins.v6, &registrations.v6) {
            append(&mut v6, start, pack(system, country));
        }
        let mut by_asn: Vec<(u32, u32)> = systems.iter().map(|system| system.asn).zip(0..).collect();
        by_asn.sort_unstable();
        Self {
            date,
            systems: systems.into(),
            by_asn: by_asn.into_iter().map(|(_, position)| position).collect(),
            v4: V4::new(&v4),
            v6: V6::new(v6.into_iter()),
        }
    }

    /// The numbers and countries of `address`, without the organisation's name.
    #[must_use]
    pub fn facts(&self, address: IpAddr) -> Facts {
        self.unpack(self.packed(address)).0
    }

    /// The organisation that holds an autonomous system; `None` for a number or a holder that the data do not know.
    #[must_use]
    pub fn organisation(&self, asn: u32) -> Option<Arc<str>> {
        self.system(asn)?.organisation.clone()
    }

    /// The country in which an autonomous system has most of its addresses.
    #[must_use]
    pub fn as_country(&self, asn: u32) -> Option<CountryCode> {
        self.system(asn)?.country
    }

    /// All autonomous systems, those with the most ranges first.
    #[must_use]
    pub fn systems(&self) -> &[System] {
        &self.systems
    }

    /// The fewest prefixes that cover exactly the addresses whose facts `wanted` accepts, ascending and disjoint.
    /// Addresses of which nothing is known are asked about too, with empty [`Facts`].
    pub fn prefixes_of(&self, wanted: impl Fn(&Facts) -> bool) -> Prefixes {
        let wanted = |value| wanted(&self.unpack(value).0);
        let mut v4 = Vec::new();
        for (first, last) in runs(self.v4.steps(), u32::MAX, |next| next - 1, wanted) {
            v4.extend(Ipv4Subnets::new(Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last), 0));
        }
        let mut v6 = Vec::new();
        for (first, last) in runs(self.v6.steps(), u128::MAX, |next| next - 1, wanted) {
            v6.extend(Ipv6Subnets::new(Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last), 0));
        }
        Prefixes { v4, v6 }
    }

    /// How many ranges of different facts the IPv4 and the IPv6 space are cut into.
    #[must_use]
    pub fn range_counts(&self) -> (usize, usize) {
        (self.v4.steps().count(), self.v6.steps().count())
    }

    fn packed(&self, address: IpAddr) -> Packed {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.lookup(address.to_bits()),
            IpAddr::V6(address) => self.v6.lookup(address.to_bits()),
        }
    }

    fn unpack(&self, packed: Packed) -> (Facts, Option<&System>) {
        let system = packed.system().and_then(|position| self.systems.get(position as usize));
        let facts = Facts {
            asn: system.map(|system| system.asn),
            as_country: system.and_then(|system| system.country),
            registered_country: packed.country().and_then(CountryCode::from_index),
        };
        (facts, system)
    }

    fn system(&self, asn: u32) -> Option<&System> {
        let system_at = |position: &u32| self.systems.get(*position as usize);
        let found =
            self.by_asn.binary_search_by_key(&Some(asn), |position| system_at(position).map(|system| system.asn));
        self.by_asn.get(found.ok()?).and_then(system_at)
    }
}

impl OwnerLookup for Table {
    fn lookup(&self, address: IpAddr) -> Owner {
        let (Facts { asn, as_country, registered_country }, system) = self.unpack(self.packed(address));
        Owner {
            asn,
            organisation: system.and_then(|system| system.organisation.clone()),
            as_country,
            registered_country,
        }
    }

    fn data_date(&self) -> Date {
        self.date
    }
}

/// What is known of an address, in numbers: an [`Owner`] without the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Number of the autonomous system that originates the address.
    pub asn: Option<u32>,
    /// Country of the autonomous system.
    pub as_country: Option<CountryCode>,
    /// Country of the address range's registration.
    pub registered_country: Option<CountryCode>,
}

/// Address prefixes, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// IPv4.
    pub v4: Vec<Ipv4Net>,
    /// IPv6.
    pub v6: Vec<Ipv6Net>,
}

/// Joins neighbouring ranges with a wanted value; both ends are inside.
fn runs<K: Copy>(
    steps: impl Iterator<Item = (K, Packed)>,
    highest: K,
    before: impl Fn(K) -> K,
    wanted: impl Fn(Packed) -> bool,
) -> Vec<(K, K)> {
    let mut runs = Vec::new();
    let mut open = None;
    for (start, value) in steps {
        match (open, wanted(value)) {
            (None, true) => open = Some(start),
            (Some(first), false) => {
                runs.push((first, before(start)));
                open = None;
            }
            _ => {}
        }
    }
    runs.extend(open.map(|first| (first, highest)));
    runs
}
