//! The ownership table: from an address to its owner, and from facts about owners to all their prefixes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use jiff::civil::Date;

use super::{
    CountryCode, Data, Layer, Owner, OwnerLookup, OwnershipError, Provenance, System, TooManySystems, decode,
    layer::{append, overlay},
    ranges::{Packed, V4, V6},
    systems::Systems,
};

/// Who owns each address, as of one date. Some 13 MB in memory.
#[derive(Debug)]
pub struct Table {
    pub(super) date: Date,
    pub(super) systems: Systems,
    pub(super) v4: V4,
    pub(super) v6: V6,
    /// Where it comes from; nothing for the embedded table, whose NOTICE says it.
    pub(super) provenance: Option<Provenance>,
}

impl Table {
    /// Version of the form of table files that is written and read.
    pub const FORMAT_VERSION: u16 = super::encode::VERSION;

    /// The table in this program, made by `cargo xtask data` from public routing and registry data; see NOTICE.
    pub fn embedded() -> Result<Self, OwnershipError> {
        Self::decode(include_bytes!("../../data/ownership.bin"))
    }

    /// Reads a table file, the output of [`encode`](super::encode). Total: any bytes give a table or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, OwnershipError> {
        decode::decode(bytes)
    }

    /// Joins what importers gathered.
    pub fn new(data: &Data) -> Result<Self, TooManySystems> {
        let systems = data.systems()?;
        let pack = |asn: Option<u32>, country| Packed::new(asn.and_then(|asn| systems.position(asn)), country);
        let (mut v4, mut v6) = (V4::default(), V6::default());
        for (start, asn, country) in overlay(&data.origins.v4, &data.registrations.v4) {
            v4.push(start, pack(asn, country));
        }
        v4.finish();
        for (start, asn, country) in overlay(&data.origins.v6, &data.registrations.v6) {
            v6.push(start, pack(asn, country));
        }
        v6.finish();
        Ok(Self { date: data.date, systems, v4, v6, provenance: None })
    }

    /// The numbers and countries of `address`, without the organisation's name.
    #[must_use]
    pub fn facts(&self, address: IpAddr) -> Facts {
        self.unpack(self.packed(address))
    }

    /// The organisation that holds an autonomous system; `None` for a number or a holder that the data do not know.
    #[must_use]
    pub fn organisation(&self, asn: u32) -> Option<Arc<str>> {
        self.systems.shared_name(self.systems.position(asn)?)
    }

    /// The country in which an autonomous system has most of its addresses.
    #[must_use]
    pub fn as_country(&self, asn: u32) -> Option<CountryCode> {
        let (_, country) = self.systems.number_and_country(self.systems.position(asn)?)?;
        country
    }

    /// All autonomous systems, those with the most ranges first.
    pub fn systems(&self) -> impl Iterator<Item = System<'_>> {
        self.systems.iter()
    }

    /// The fewest prefixes that cover exactly the addresses whose facts `wanted` accepts, ascending and disjoint.
    /// Addresses of which nothing is known are asked about too, with empty [`Facts`].
    pub fn prefixes_of(&self, wanted: impl Fn(&Facts) -> bool) -> Prefixes {
        let wanted = |value| wanted(&self.unpack(value));
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

    /// Of which files an imported table was made.
    #[must_use]
    pub fn provenance(&self) -> Option<&Provenance> {
        self.provenance.as_ref()
    }

    /// The same table with a note of where it comes from, for its file.
    #[must_use]
    pub fn with_provenance(self, provenance: Provenance) -> Self {
        Self { provenance: Some(provenance), ..self }
    }

    /// How many ranges of one origin the IPv4 and the IPv6 space hold.
    #[must_use]
    pub fn origin_counts(&self) -> (usize, usize) {
        self.layers().0.counts()
    }

    /// Origins and registrations as they were before they were joined.
    pub(super) fn layers(&self) -> (Layer<u32>, Layer<CountryCode>) {
        let (mut origins, mut registrations) = (Layer::default(), Layer::default());
        for (start, packed) in self.v4.steps() {
            let facts = self.unpack(packed);
            append(&mut origins.v4, start, facts.asn);
            append(&mut registrations.v4, start, facts.registered_country);
        }
        for (start, packed) in self.v6.steps() {
            let facts = self.unpack(packed);
            append(&mut origins.v6, start, facts.asn);
            append(&mut registrations.v6, start, facts.registered_country);
        }
        (origins, registrations)
    }

    fn packed(&self, address: IpAddr) -> Packed {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.lookup(address.to_bits()),
            IpAddr::V6(address) => self.v6.lookup(address.to_bits()),
        }
    }

    fn unpack(&self, packed: Packed) -> Facts {
        let system = packed.system().and_then(|position| self.systems.number_and_country(position));
        Facts {
            asn: system.map(|(asn, _)| asn),
            as_country: system.and_then(|(_, country)| country),
            registered_country: packed.country(),
        }
    }
}

impl OwnerLookup for Table {
    fn lookup(&self, address: IpAddr) -> Owner {
        let packed = self.packed(address);
        let Facts { asn, as_country, registered_country } = self.unpack(packed);
        let organisation = packed.system().and_then(|position| self.systems.shared_name(position));
        Owner { asn, organisation, as_country, registered_country }
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
