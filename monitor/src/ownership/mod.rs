//! Who owns an address: autonomous system, organisation, and two of the three countries.

mod anchors;
mod country;
mod data;
mod decode;
mod encode;
pub mod import;
mod layer;
mod provenance;
mod ranges;
mod scope;
mod systems;
mod table;

use std::{fmt, net::IpAddr, sync::Arc};

pub use anchors::{ANCHORS, FEWEST_RANGES, NotVerified, verify};
pub use data::{Data, TooManySystems};
pub use decode::OwnershipError;
pub use encode::encode;
pub use layer::{Conflict, Layer, Ranges};
pub(crate) use provenance::sha256;
pub use provenance::{Provenance, SourceNote};
pub use scope::scope;
pub use systems::System;
pub use table::{Facts, Prefixes, Table};

/// ISO 3166-1 alpha-2 code, upper case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CountryCode([u8; 2]);

impl CountryCode {
    /// From two ASCII letters of either case; `None` for anything else.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        match text.as_bytes() {
            [first, second] if first.is_ascii_alphabetic() && second.is_ascii_alphabetic() => {
                Some(Self([first.to_ascii_uppercase(), second.to_ascii_uppercase()]))
            }
            _ => None,
        }
    }

    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or("??")
    }

    /// A number from 0 for `AA` to 675 for `ZZ`, the form that the table keeps and the file stores.
    #[must_use]
    fn index(self) -> u16 {
        let [first, second] = self.0.map(|letter| u16::from(letter - b'A'));
        first * 26 + second
    }

    /// The inverse of [`CountryCode::index`]; `None` above `ZZ`.
    #[must_use]
    fn from_index(index: u16) -> Option<Self> {
        let letter = |number: u16| u8::try_from(number).ok().filter(|&number| number < 26).map(|number| b'A' + number);
        Some(Self([letter(index / 26)?, letter(index % 26)?]))
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Who owns an address. Each part is a fact of its own and may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Number of the autonomous system that originates the address.
    pub asn: Option<u32>,
    /// Organisation that holds the autonomous system.
    pub organisation: Option<Arc<str>>,
    /// Country of the autonomous system.
    pub as_country: Option<CountryCode>,
    /// Country of the address range's registration.
    pub registered_country: Option<CountryCode>,
}

/// Why an address has no owner in any table, by the registries of special addresses (RFC 6890).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A public address.
    Global,
    /// This host.
    Loopback,
    /// Private or shared network space.
    Private,
    /// One link.
    LinkLocal,
    /// Several receivers.
    Multicast,
    /// Documentation, benchmarking, reserved, unspecified, broadcast.
    Reserved,
}

/// Something that can say who owns an address. Implemented by the embedded table and by imported ones.
pub trait OwnerLookup: Send + Sync {
    /// The owner of `address`; an empty [`Owner`] where the data has none. IPv4-mapped addresses are looked up as IPv4.
    fn lookup(&self, address: IpAddr) -> Owner;
    /// The date of the data.
    fn data_date(&self) -> jiff::civil::Date;
}

#[cfg(test)]
mod tests;
