//! Readers of published ownership data.
//!
//! Rows may come in any order, nest and overlap, end in CRLF and quote fields; what the ranges then mean is settled by
//! [`Ranges::flatten`]. A row that cannot be read is told with its line. For the embedded table it ends the build: a table
//! with holes would answer "unknown" where the source knew. In a file of the user's ([`Gathered::read`]) a few are borne,
//! because nobody else can mend it.

mod csv;
mod join;
mod mmdb;
#[cfg(test)]
mod mmdb_writer;
mod source;
mod text;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, BufRead},
    net::IpAddr,
};

pub use join::{NoOrigins, join};
pub use source::{Fact, Format, Gathered, SourceError, UNPACKED_MAX_BYTES};

use super::{Conflict, CountryCode, Ranges};

/// Where autonomous systems originate addresses.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// Ranges with the AS number that originates them.
    pub ranges: Ranges<u32>,
    /// Names of the organisations by AS number. A number has the first name that is not empty.
    pub organisations: BTreeMap<u32, String>,
}

impl Origins {
    /// Adds rows of `first address,last address,AS number,organisation`, the form of `@ip-location-db/asn`. The
    /// number may be written `AS64496`; 0 means that nobody originates the range. The organisation may be empty.
    pub fn read_csv(&mut self, source: impl BufRead) -> Result<(), ImportError> {
        read(source, 4, |row| {
            let number = row.field(2);
            let asn = number.strip_prefix("AS").unwrap_or(number);
            let asn: u32 = asn.parse().map_err(|_| Problem::Asn { found: number.to_owned() })?;
            let (first, last) = row.range()?;
            if asn != 0 {
                self.ranges.push(first, last, asn)?;
                let organisation = row.field(3);
                if !organisation.is_empty() {
                    self.organisations.entry(asn).or_insert_with(|| organisation.to_owned());
                }
            }
            Ok(())
        })
    }
}

/// Reads rows of `first address,last address,country`, the form of `@ip-location-db/asn-country`, into `ranges`.
pub fn read_country_csv(ranges: &mut Ranges<CountryCode>, source: impl BufRead) -> Result<(), ImportError> {
    read(source, 3, |row| {
        let country = row.field(2);
        let country = CountryCode::new(country).ok_or_else(|| Problem::Country { found: country.to_owned() })?;
        let (first, last) = row.range()?;
        Ok(ranges.push(first, last, country)?)
    })
}

/// A source that cannot be read, and the line at which.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ImportError {
    /// Line in the source, the first being 1.
    pub line: u64,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a row.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The row has another number of fields.
    #[error("{found} fields where {expected} are expected: quote fields that contain commas")]
    Fields {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// No address.
    #[error("`{found}` is not an IP address: write it as 192.0.2.1 or 2001:db8::1")]
    Address {
        /// The field.
        found: String,
    },
    /// No AS number.
    #[error("`{found}` is not an AS number: write it as 64496 or AS64496")]
    Asn {
        /// The field.
        found: String,
    },
    /// No prefix.
    #[error("`{found}` is not a prefix: write it as 192.0.2.0/24 or 2001:db8::/32")]
    Prefix {
        /// The field.
        found: String,
    },
    /// Columns are missing.
    #[error("the columns are not {wanted}")]
    Columns {
        /// What they should be.
        wanted: &'static str,
    },
    /// A record of a file that has no lines; the line is the record's number.
    #[error("a record cannot be read: {found}")]
    Record {
        /// What is wrong.
        found: String,
    },
    /// No country code.
    #[error("`{found}` is not a country code: write the two letters of ISO 3166-1")]
    Country {
        /// The field.
        found: String,
    },
    /// The addresses make no range.
    #[error(transparent)]
    Range(#[from] Conflict),
    /// A quoted field does not end on its line, or more text follows its end.
    #[error("a quoted field does not end before the next comma or the end of the line: write a quote inside it twice")]
    Quote,
    /// Not text.
    #[error("the line is not UTF-8: convert the source")]
    Encoding(#[source] std::str::Utf8Error),
    /// Reading failed.
    #[error("the source cannot be read: {0}")]
    Read(#[source] io::Error),
}

/// The fields of a row, as many as its reader expects.
struct Row<'line>(Vec<Cow<'line, str>>);

impl Row<'_> {
    fn field(&self, position: usize) -> &str {
        self.0.get(position).map_or("", Cow::as_ref)
    }

    fn range(&self) -> Result<(IpAddr, IpAddr), Problem> {
        Ok((address(self.field(0))?, address(self.field(1))?))
    }
}

fn address(field: &str) -> Result<IpAddr, Problem> {
    field.parse().map_err(|_| Problem::Address { found: field.to_owned() })
}

/// Hands each row to `take`.
fn read(
    mut source: impl BufRead,
    expected: usize,
    mut take: impl FnMut(&Row<'_>) -> Result<(), Problem>,
) -> Result<(), ImportError> {
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let outcome = match source.read_until(b'\n', &mut bytes) {
            Ok(0) => break,
            Ok(_) => row(&bytes, expected).and_then(|row| row.as_ref().map_or(Ok(()), &mut take)),
            Err(error) => Err(Problem::Read(error)),
        };
        outcome.map_err(|problem| ImportError { line, problem })?;
    }
    Ok(())
}

/// The row on a line; `None` on a blank one.
fn row(line: &[u8], expected: usize) -> Result<Option<Row<'_>>, Problem> {
    let line = str::from_utf8(line).map_err(Problem::Encoding)?;
    // Spreadsheets put a byte order mark at the start.
    let line = line.trim_start_matches('\u{feff}').trim();
    if line.is_empty() {
        return Ok(None);
    }
    let fields = fields(line)?;
    if fields.len() == expected {
        Ok(Some(Row(fields)))
    } else {
        Err(Problem::Fields { found: fields.len(), expected })
    }
}

/// Splits a line by RFC 4180 and drops the space around fields. A field cannot contain a line end as it may there: no
/// source has such fields, and so every error has its line.
fn fields(line: &str) -> Result<Vec<Cow<'_, str>>, Problem> {
    let mut fields = Vec::new();
    let mut rest = Some(line);
    while let Some(text) = rest {
        let text = text.trim_start();
        let Some(quoted) = text.strip_prefix('"') else {
            let (field, behind) = text.split_once(',').map_or((text, None), |(field, behind)| (field, Some(behind)));
            fields.push(Cow::Borrowed(field.trim_end()));
            rest = behind;
            continue;
        };
        let end = closing_quote(quoted).ok_or(Problem::Quote)?;
        let (field, behind) = quoted.split_at(end);
        let field = field.trim();
        fields.push(if field.contains('"') { Cow::Owned(field.replace("\"\"", "\"")) } else { Cow::Borrowed(field) });
        let behind = behind.strip_prefix('"').unwrap_or_default().trim_start();
        rest = match behind.strip_prefix(',') {
            None if !behind.is_empty() => return Err(Problem::Quote),
            next => next,
        };
    }
    Ok(fields)
}

/// Where a quoted field ends: at the first quote that is not one of a pair.
fn closing_quote(quoted: &str) -> Option<usize> {
    let mut positions = quoted.match_indices('"').map(|(position, _)| position).peekable();
    while let Some(position) = positions.next() {
        if positions.next_if_eq(&(position + 1)).is_none() {
            return Some(position);
        }
    }
    None
}

#[cfg(test)]
mod tests;
