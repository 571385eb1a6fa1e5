//! `egresswatch data update`: import from where the configuration says.

use std::{fs, io, path::Path, time::SystemTime};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use tokio::runtime;

use super::{Config, FetchError, ImportError, Imported, Input, Options, Place, Source, Store, fetch::Fetcher, import};
use crate::ownership::import::UNPACKED_MAX_BYTES;

/// Why nothing was updated. The table there was stays.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Nothing to update from.
    #[error(
        "no sources are configured: write data.sources, such as \
         [\"https://iptoasn.com/data/ip2asn-combined.tsv.gz\"], or use `egresswatch data import FILE`"
    )]
    NoSources,
    /// A file.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// An address.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The runtime.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// What was found there.
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// Fetches and reads all sources and takes them in.
pub fn update(config: &Config, table: &Path, options: &Options) -> Result<Imported, UpdateError> {
    if config.sources.is_empty() {
        return Err(UpdateError::NoSources);
    }
    Ok(import(read(&config.sources, config, table)?, table, options)?)
}

/// Reads sources, those that are addresses over the network.
pub(crate) fn read(sources: &[Source], config: &Config, table: &Path) -> Result<Vec<Input>, UpdateError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(UpdateError::Runtime)?;
    let fetcher = Fetcher::new(config, Store::new(table).directory().join("downloads"));
    let mut inputs = Vec::new();
    for source in sources {
        let (bytes, date) = match &source.place {
            Place::File(path) => read_file(path)?,
            Place::Url(url) => {
                let answer = runtime.block_on(fetcher.fetch(url))?;
                (answer.bytes, answer.date.unwrap_or_else(|| day(SystemTime::now())))
            }
        };
        inputs.push(Input { name: source.place.to_string(), bytes, facts: source.facts.clone(), date });
    }
    Ok(inputs)
}

fn read_file(path: &Path) -> Result<(Vec<u8>, Date), UpdateError> {
    let unreadable = |source| UpdateError::Unreadable { path: path.display().to_string(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.len() > UNPACKED_MAX_BYTES {
        return Err(unreadable(io::Error::other(format!("it has more than {UNPACKED_MAX_BYTES} bytes"))));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    Ok((bytes, day(metadata.modified().map_err(unreadable)?)))
}

/// The day of a moment in UTC, not later than today.
fn day(time: SystemTime) -> Date {
    let now = Timestamp::now();
    Timestamp::try_from(time).unwrap_or(now).min(now).to_zoned_datetime(TimeZone::UTC).date()
}
