//! Files in, a verified table out.

use std::{collections::BTreeSet, path::Path};

use jiff::civil::Date;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::{Replaced, Store, StoreError, TABLE_MAX_BYTES, load_file};
use crate::ownership::{
    self, NotVerified, OwnerLookup, OwnershipError, Provenance, SourceNote, Table, TooManySystems, encode,
    import::{Fact, Format, Gathered, NoOrigins, SourceError, join},
    verify,
};

/// No data are older.
const FIRST_YEAR: i16 = 2000;

/// One file to take in.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its path or address, for messages and for the note in the table.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What to take from it; everything that it says if empty.
    pub facts: BTreeSet<Fact>,
    /// Of which day the file is, for forms that do not say it themselves.
    pub date: Date,
}

/// How to take files in.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The form of all files, instead of what their content tells.
    pub format: Option<Format>,
    /// The date of the data, instead of that of the oldest file.
    pub date: Option<Date>,
    /// Take nothing from the embedded table.
    pub is_alone: bool,
    /// Only say what would be.
    pub is_dry_run: bool,
    /// Now, for the note in the table.
    pub now: jiff::Timestamp,
}

/// What was taken in.
#[derive(Debug)]
pub struct Imported {
    /// The table as it was written.
    pub table: Table,
    /// Whether the file is another now; `None` if it was only tried.
    pub replaced: Option<Replaced>,
    /// Of each file, the first records that cannot be read.
    pub bad: Vec<(String, Vec<ownership::import::ImportError>)>,
}

/// Why nothing was taken in. The table there was stays.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file.
    #[error("{name}: {source}")]
    Source {
        /// Its path or address.
        name: String,
        /// What is wrong with it.
        source: SourceError,
    },
    /// None of them says enough.
    #[error(transparent)]
    NoOrigins(#[from] NoOrigins),
    /// Files whose time stamps are no dates of data: packages of npm are all of 1985.
    #[error(
        "by its time stamp the oldest file is of {date}, which cannot be: give the date of the data with --date, or set the \
         file's time stamp"
    )]
    Undated {
        /// What the time stamp says.
        date: Date,
    },
    /// More systems than there can be.
    #[error(transparent)]
    TooManySystems(#[from] TooManySystems),
    /// The embedded table, or the new one as it would be written.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// The anchors.
    #[error("the data are not taken, the table there was stays: {0}")]
    NotVerified(#[from] NotVerified),
    /// The new table cannot be written into memory.
    #[error("the table cannot be made: {0}")]
    Encode(#[source] std::io::Error),
    /// The file.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads, joins and verifies files, and then puts the table in the place of the one in `path`.
pub fn import(inputs: Vec<Input>, path: &Path, options: &Options) -> Result<Imported, ImportError> {
    let embedded = if options.is_alone { None } else { Some(Table::embedded()?) };
    let mut gathered = Vec::new();
    let mut notes = Vec::new();
    let mut bad = Vec::new();
    for Input { name, bytes, facts, date } in inputs {
        let sha256 = ownership::sha256(&bytes);
        let mut one = Gathered::read(bytes, options.format)
            .map_err(|source| ImportError::Source { name: name.clone(), source })?;
        if !facts.is_empty() {
            one = one.only(&facts);
        }
        if !one.bad.is_empty() {
            bad.push((name.clone(), std::mem::take(&mut one.bad)));
        }
        notes.push(SourceNote {
            name,
            format: one.format,
            date: one.date.unwrap_or(date),
            facts: one.facts(),
            sha256,
            records: one.records,
            bad_records: one.bad_records,
            licence: one.licence.clone(),
        });
        gathered.push(one);
    }
    let oldest = notes.iter().filter(|note| note.facts.contains(&Fact::Asn)).map(|note| note.date).min();
    let date = options.date.or(oldest).ok_or(NoOrigins)?;
    if date.year() < FIRST_YEAR {
        return Err(ImportError::Undated { date });
    }
    let filled_from_embedded = embedded.as_ref().map(OwnerLookup::data_date);
    if let Some(table) = same(path, date, &notes, filled_from_embedded) {
        return Ok(Imported { table, replaced: Some(Replaced::Unchanged), bad });
    }
    let base = embedded.as_ref().map(Gathered::of_table);
    let joined = join(date, &gathered, base.as_ref())?;
    drop((gathered, base));
    let provenance = Provenance {
        made_by: concat!("egresswatch ", env!("CARGO_PKG_VERSION")).to_owned(),
        made_at: options.now,
        sources: notes,
        filled_from_embedded,
    };
    let bytes = encode(&Table::new(&joined)?.with_provenance(provenance), |content| {
        Ok(compress_to_vec(content, CompressionLevel::Fastest))
    })
    .map_err(ImportError::Encode)?;
    if bytes.len() as u64 > TABLE_MAX_BYTES {
        let problem = format!("it would have {} bytes, {TABLE_MAX_BYTES} are read", bytes.len());
        return Err(ImportError::Encode(std::io::Error::other(problem)));
    }
    // What the daemon will read is verified, not what was meant to be written.
    let table = Table::decode(&bytes)?;
    verify(&table)?;
    let replaced = if options.is_dry_run { None } else { Some(Store::new(path).replace(&bytes)?) };
    Ok(Imported { table, replaced, bad })
}

/// The table there is, if it was made of the same files.
fn same(path: &Path, date: Date, notes: &[SourceNote], filled_from_embedded: Option<Date>) -> Option<Table> {
    let table = load_file(path).ok().filter(|table| table.data_date() == date)?;
    let is_same = table
        .provenance()
        .is_some_and(|there| there.sources == notes && there.filled_from_embedded == filled_from_embedded);
    is_same.then_some(table)
}
