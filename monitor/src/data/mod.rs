//! The ownership data in force: the embedded table, or the file that `egresswatch data import` put in its place.
//!
//! The daemon only reads the file. What writes it, and what fetches data where the configuration says so, runs in the
//! `egresswatch data` commands: the process that watches never asks the network for anything.

mod fetch;
mod import;
mod settings;
mod store;
mod update;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use fetch::FetchError;
pub use import::{ImportError, Imported, Input, Options, import};
pub use settings::{Config, Place, Source};
pub use store::{Replaced, Store, StoreError};
pub(crate) use update::read;
pub use update::{UpdateError, update};

use crate::ownership::{NotVerified, OwnershipError, Table, verify};

/// Where an imported table is, unless the configuration says otherwise.
pub const DEFAULT_TABLE: &str = "/var/lib/egresswatch/ownership.bin";
/// A table of all networks takes 5 MB.
const TABLE_MAX_BYTES: u64 = 64 << 20;

/// The table in force.
#[derive(Debug)]
pub struct InForce {
    /// The table.
    pub table: Table,
    /// Its file; `None` for the embedded one.
    pub file: Option<PathBuf>,
}

/// Why the file with an imported table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read the ownership data in {} (data.table): {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no table.
    #[error(
        "{} (data.table): {source}; `egresswatch data import --rollback` brings back the table before it, and without the \
         file the embedded data are in force", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: OwnershipError,
    },
    /// It lacks what every table must know.
    #[error(
        "{} (data.table) is not what it should be: {source}; `egresswatch data import --rollback` brings back the table \
         before it, and without the file the embedded data are in force", path.display()
    )]
    NotVerified {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        source: NotVerified,
    },
    /// The embedded table cannot be read.
    #[error(transparent)]
    Embedded(OwnershipError),
}

impl LoadError {
    /// Whether the file is merely another user's.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// The table in force: that in `path` if the file exists, else the embedded one.
pub fn load(path: &Path) -> Result<InForce, LoadError> {
    match load_file(path) {
        Err(LoadError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(InForce { table: embedded()?, file: None })
        }
        Err(error) => Err(error),
        Ok(table) => Ok(InForce { table, file: Some(path.to_owned()) }),
    }
}

/// The same for those who had rather have old data than none: the embedded table where the file cannot be used, and why.
pub fn load_or_embedded(path: &Path) -> Result<(InForce, Option<LoadError>), LoadError> {
    match load(path) {
        Ok(in_force) => Ok((in_force, None)),
        Err(error @ LoadError::Embedded(_)) => Err(error),
        Err(error) => Ok((InForce { table: embedded()?, file: None }, Some(error))),
    }
}

fn embedded() -> Result<Table, LoadError> {
    Table::embedded().map_err(LoadError::Embedded)
}

/// Reads a table from a file and checks it against the anchors.
fn load_file(path: &Path) -> Result<Table, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > TABLE_MAX_BYTES {
        return Err(unreadable(io::Error::other(format!(
            "it has {size} bytes, a table has at most {TABLE_MAX_BYTES}"
        ))));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let table = Table::decode(&bytes).map_err(|source| LoadError::Damaged { path: path.to_owned(), source })?;
    verify(&table).map_err(|source| LoadError::NotVerified { path: path.to_owned(), source })?;
    Ok(table)
}

#[cfg(test)]
mod tests;
