//! One file of somebody's data: unpacked, its form told by its content, and read into layers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::Read,
    str::FromStr,
};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{ImportError, Problem, csv, mmdb, text};
use crate::ownership::{CountryCode, Layer, OwnershipError, Ranges, Table, encode};

/// Most bytes that a file may have when it is unpacked; the largest known source has 70 MB.
pub const UNPACKED_MAX_BYTES: u64 = 1 << 30;
/// Records that cannot be read do no harm up to this number,
const BAD_TOLERATED: u64 = 10;
/// and above it up to one in so many records.
const BAD_ONE_IN: u64 = 100;
/// Records that cannot be read are told up to this number.
const BAD_TOLD: usize = 5;

/// A published form of ownership data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::doc_markdown, reason = "these comments are help texts too, in which backticks would show")]
pub enum Format {
    /// MaxMind DB, with the keys of GeoLite2, DB-IP, IPinfo Lite, IPLocate or ip-location-db
    Mmdb,
    /// Lines of first and last address, AS number, country and name, split by tabs, as iptoasn.com gives them
    Iptoasn,
    /// Comma-separated values that begin with a first and a last address
    RangeCsv,
    /// Comma-separated values that begin with a prefix
    CidrCsv,
    /// Lines of a prefix and an AS number, as pyasn writes them
    Pyasn,
    /// A table that this program wrote
    Table,
}

impl Format {
    /// The stable name.
    #[must_use]
    pub const fn as_token(self) -> &'static str {
        match self {
            Self::Mmdb => "mmdb",
            Self::Iptoasn => "iptoasn",
            Self::RangeCsv => "range-csv",
            Self::CidrCsv => "cidr-csv",
            Self::Pyasn => "pyasn",
            Self::Table => "table",
        }
    }
}

/// What a file can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// Which autonomous system originates an address.
    Asn,
    /// Who holds an autonomous system.
    Organisation,
    /// The country of an autonomous system.
    AsCountry,
    /// The country in which an address is registered.
    RegisteredCountry,
}

impl Fact {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Asn, Self::Organisation, Self::AsCountry, Self::RegisteredCountry];

    /// The stable name.
    #[must_use]
    pub const fn as_token(self) -> &'static str {
        match self {
            Self::Asn => "asn",
            Self::Organisation => "organisation",
            Self::AsCountry => "as-country",
            Self::RegisteredCountry => "registered-country",
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_token())
    }
}

impl FromStr for Fact {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|fact| fact.as_token() == text).ok_or(())
    }
}

/// What was read of one file.
#[derive(Debug)]
pub struct Gathered {
    /// The form that it has.
    pub format: Format,
    /// Of which day it is, if it says so.
    pub date: Option<Date>,
    /// Under which licence it is given, if its form tells.
    pub licence: Option<String>,
    /// Records read, good or bad.
    pub records: u64,
    /// Records that cannot be read.
    pub bad_records: u64,
    /// The first of them.
    pub bad: Vec<ImportError>,
    /// Which system originates an address.
    pub origins: Layer<u32>,
    /// Who holds a system.
    pub organisations: BTreeMap<u32, String>,
    /// The country of a system, where it is given by address.
    pub system_countries: Layer<CountryCode>,
    /// The same by number, where the file says that too or says which addresses a system originates.
    pub countries_by_number: BTreeMap<u32, CountryCode>,
    /// Where an address is registered.
    pub registrations: Layer<CountryCode>,
    /// Where an address is. The table has no place for it; it stands in for the country of a system that has no other.
    pub locations: Layer<CountryCode>,
}

/// Why a file is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing in it.
    #[error("the file is empty: fetch it again")]
    Empty,
    /// The compression is broken.
    #[error("the {packing} stream is damaged or ends early ({problem}): fetch the file again")]
    Packing {
        /// Which compression.
        packing: &'static str,
        /// What the decompressor said.
        problem: std::io::Error,
    },
    /// More than is read.
    #[error("the file unpacks to more than {UNPACKED_MAX_BYTES} bytes, which no ownership data need: check what it is")]
    TooLarge,
    /// An archive, or a compression that is not read.
    #[error("this is {0}: unpack it and give the file in it")]
    Archive(&'static str),
    /// A web page.
    #[error("this is a web page and no data: the address may be wrong, or ask for an account")]
    Page,
    /// Nothing known.
    #[error(
        "none of the known forms (mmdb, iptoasn, range-csv, cidr-csv, pyasn, table), or an MMDB file that ends early: see \
         docs/ownership-data.md"
    )]
    Unknown,
    /// Columns that say nothing.
    #[error(
        "the columns {found} name no address range, or neither a network nor a country: see docs/ownership-data.md"
    )]
    Columns {
        /// The header.
        found: String,
    },
    /// A damaged MMDB file.
    #[error("the MMDB file is damaged or ends early ({0}): fetch it again")]
    Mmdb(String),
    /// A damaged table.
    #[error(transparent)]
    Table(#[from] OwnershipError),
    /// No record could be used.
    #[error("no record says who owns an address{}", first(.0))]
    NoRecords(Vec<ImportError>),
    /// Too many records cannot be read.
    #[error("{bad} of {records} records cannot be read, which is more than bad luck{}", first(.examples))]
    TooManyBad {
        /// How many.
        bad: u64,
        /// Of how many.
        records: u64,
        /// The first of them.
        examples: Vec<ImportError>,
    },
}

fn first(errors: &[ImportError]) -> String {
    errors.first().map(|error| format!("; the first: {error}")).unwrap_or_default()
}

impl Gathered {
    /// Reads a file. Its form is told by its content unless `format` gives it.
    pub fn read(bytes: Vec<u8>, format: Option<Format>) -> Result<Self, SourceError> {
        let bytes = unpack(bytes, UNPACKED_MAX_BYTES)?;
        let format = match format {
            Some(format) => format,
            None => detect(&bytes)?,
        };
        let mut rows = Rows::default();
        let mut gathered = match format {
            Format::Table => return Ok(Self::of_table(&Table::decode(&bytes)?)),
            Format::Mmdb => return mmdb::read(bytes),
            Format::Iptoasn => {
                text::read_iptoasn(&bytes, &mut rows);
                rows.finish(format)?
            }
            Format::Pyasn => {
                text::read_pyasn(&bytes, &mut rows);
                rows.finish(format)?
            }
            Format::RangeCsv | Format::CidrCsv => {
                csv::read(&bytes, &mut rows)?;
                rows.finish(format)?
            }
        };
        if format == Format::Iptoasn {
            gathered.licence = Some("IPtoASN (https://iptoasn.com/), Open Data Commons PDDL 1.0".to_owned());
        }
        Ok(gathered)
    }

    /// Everything that a table says.
    #[must_use]
    pub fn of_table(table: &Table) -> Self {
        let (origins, registrations) = table.layers();
        let licences = table.provenance().map(|provenance| provenance.licences()).unwrap_or_default();
        let systems = || table.systems();
        Self {
            format: Format::Table,
            date: Some(table.date),
            licence: (!licences.is_empty()).then(|| licences.join("; ")),
            records: origins.values().count() as u64,
            bad_records: 0,
            bad: Vec::new(),
            organisations: systems().filter_map(|one| Some((one.asn, one.organisation?.to_owned()))).collect(),
            countries_by_number: systems().filter_map(|one| Some((one.asn, one.country?))).collect(),
            origins,
            system_countries: Layer::default(),
            registrations,
            locations: Layer::default(),
        }
    }

    /// What it says.
    #[must_use]
    pub fn facts(&self) -> BTreeSet<Fact> {
        let has_system_countries = !self.countries_by_number.is_empty()
            || self.system_countries.values().next().is_some()
            || self.locations.values().next().is_some();
        let known = [
            (Fact::Asn, self.origins.values().next().is_some()),
            (Fact::Organisation, !self.organisations.is_empty()),
            (Fact::AsCountry, has_system_countries),
            (Fact::RegisteredCountry, self.registrations.values().next().is_some()),
        ];
        known.into_iter().filter(|(_, is_known)| *is_known).map(|(fact, _)| fact).collect()
    }

    /// Forgets everything but `wanted`. Where a file has one kind of country and another is wanted, it is taken for that.
    #[must_use]
    pub fn only(mut self, wanted: &BTreeSet<Fact>) -> Self {
        let countries =
            || -> [&Layer<CountryCode>; 3] { [&self.system_countries, &self.locations, &self.registrations] };
        let any = countries().into_iter().find(|layer| layer.values().next().is_some()).cloned();
        let is_without = |layer: &Layer<CountryCode>| layer.values().next().is_none();
        if wanted.contains(&Fact::RegisteredCountry) && is_without(&self.registrations) {
            self.registrations = any.clone().unwrap_or_default();
        }
        if wanted.contains(&Fact::AsCountry)
            && is_without(&self.system_countries)
            && is_without(&self.locations)
            && self.countries_by_number.is_empty()
        {
            self.system_countries = any.unwrap_or_default();
        }
        if !wanted.contains(&Fact::Asn) {
            self.origins = Layer::default();
        }
        if !wanted.contains(&Fact::Organisation) {
            self.organisations.clear();
        }
        if !wanted.contains(&Fact::AsCountry) {
            self.system_countries = Layer::default();
            self.locations = Layer::default();
            self.countries_by_number.clear();
        }
        if !wanted.contains(&Fact::RegisteredCountry) {
            self.registrations = Layer::default();
        }
        self
    }
}

/// Takes gzip and Zstandard away, and says what else it is that cannot be read.
pub(super) fn unpack(bytes: Vec<u8>, limit: u64) -> Result<Vec<u8>, SourceError> {
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        inflate("gzip", flate2::bufread::MultiGzDecoder::new(bytes.as_slice()), limit)?
    } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let damaged = |error: ruzstd::decoding::errors::FrameDecoderError| SourceError::Packing {
            packing: "Zstandard",
            problem: std::io::Error::other(error.to_string()),
        };
        inflate("Zstandard", ruzstd::decoding::StreamingDecoder::new(bytes.as_slice()).map_err(damaged)?, limit)?
    } else {
        bytes
    };
    match bytes.get(..6).unwrap_or(&bytes) {
        [] => return Err(SourceError::Empty),
        [b'P', b'K', 3 | 5, ..] => return Err(SourceError::Archive("a ZIP archive")),
        [b'B', b'Z', b'h', ..] => return Err(SourceError::Archive("a bzip2 file")),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(SourceError::Archive("an xz file")),
        _ => {}
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Err(SourceError::Archive("a tar archive"));
    }
    Ok(bytes)
}

fn inflate(packing: &'static str, stream: impl Read, limit: u64) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let problem = stream.take(limit + 1).read_to_end(&mut bytes);
    problem.map_err(|problem| SourceError::Packing { packing, problem })?;
    if bytes.len() as u64 > limit { Err(SourceError::TooLarge) } else { Ok(bytes) }
}

/// Tells the form by the content.
fn detect(bytes: &[u8]) -> Result<Format, SourceError> {
    if bytes.starts_with(&encode::MAGIC) {
        return Ok(Format::Table);
    }
    if mmdb::is_one(bytes) {
        return Ok(Format::Mmdb);
    }
    let line = text::lines(bytes)
        .filter_map(|(_, line)| line.ok())
        .find(|line| !line.is_empty() && !line.starts_with([';', '#']))
        .ok_or(SourceError::Unknown)?;
    let head = line.get(..line.len().min(32)).unwrap_or_default().to_ascii_lowercase();
    if head.starts_with("<!doctype") || head.starts_with("<html") {
        return Err(SourceError::Page);
    }
    if text::is_iptoasn(line) {
        return Ok(Format::Iptoasn);
    }
    if text::is_pyasn(line) {
        return Ok(Format::Pyasn);
    }
    csv::detect(line).ok_or(SourceError::Unknown)
}

/// What readers of rows gather.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) origins: Ranges<u32>,
    pub(super) organisations: BTreeMap<u32, String>,
    pub(super) system_countries: Ranges<CountryCode>,
    pub(super) registrations: Ranges<CountryCode>,
    pub(super) locations: Ranges<CountryCode>,
    pub(super) records: u64,
    pub(super) bad_records: u64,
    bad: Vec<ImportError>,
}

impl Rows {
    /// Counts a record, and notes what is wrong with it.
    pub(super) fn count(&mut self, line: u64, outcome: Result<(), Problem>) {
        self.records += 1;
        if let Err(problem) = outcome {
            self.bad_records += 1;
            if self.bad.len() < BAD_TOLD {
                self.bad.push(ImportError { line, problem });
            }
        }
    }

    /// Names a system, unless it has a name already.
    pub(super) fn name(&mut self, asn: u32, organisation: &str) {
        if !organisation.is_empty() && !self.organisations.contains_key(&asn) {
            self.organisations.insert(asn, organisation.to_owned());
        }
    }

    /// The layers, unless too much could not be read.
    pub(super) fn finish(self, format: Format) -> Result<Gathered, SourceError> {
        let Self { records, bad_records, bad, .. } = self;
        if bad_records > BAD_TOLERATED && bad_records > records / BAD_ONE_IN {
            return Err(SourceError::TooManyBad { bad: bad_records, records, examples: bad });
        }
        let (origins, system_countries) = (self.origins.flatten(), self.system_countries.flatten());
        let gathered = Gathered {
            format,
            date: None,
            licence: None,
            records,
            bad_records,
            bad,
            countries_by_number: origins.majorities(&system_countries),
            origins,
            organisations: self.organisations,
            system_countries,
            registrations: self.registrations.flatten(),
            locations: self.locations.flatten(),
        };
        if gathered.facts().is_empty() { Err(SourceError::NoRecords(gathered.bad)) } else { Ok(gathered) }
    }
}
