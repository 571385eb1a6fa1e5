//! The database: one table of items for each output, and one that counts them.
//!
//! Numbers of items grow by one for each output and are never used twice. Everything that happens between two commits
//! happens or does not happen as a whole.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError, TableDefinition, TableError,
};

use super::{Bounds, WhenFull, item};
use crate::{
    alert::Timestamp,
    database,
    sink::delivery::{BatchLimits, Item},
};

/// Memory for pages. What is read is read once and in order, so that little of it is used again.
const CACHE_BYTES: usize = 2 << 20;
/// Where the database is within the spool's directory.
const FILE: &str = "spool.redb";
/// What an item costs beside its bytes, for the bound of a queue.
pub(super) const ITEM_OVERHEAD_BYTES: u64 = 16;

/// How much of what tells of losses a full queue keeps beyond its bound. What is left out then is not counted as lost, or
/// telling of losses would make losses.
const EXEMPT_BYTES: u64 = 1 << 20;

/// Of each output: the next number, how many items there are, and their bytes.
const QUEUES: TableDefinition<'_, &str, (u64, u64, u64)> = TableDefinition::new("queues");

type ItemTable<'name> = TableDefinition<'name, u64, &'static [u8]>;

/// What the table of queues says of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) next: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Time of the first item.
    pub(super) oldest: Option<Timestamp>,
}

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// What is on the disk is no database, or a damaged one.
    #[error("{0}")]
    Damaged(String),
    /// The disk is full, gone, read-only or broken.
    #[error("{0}")]
    Unusable(String),
}

/// A database that could not be read and was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PutAside {
    /// Where it is now.
    pub(super) path: PathBuf,
    /// What is wrong with it.
    pub(super) reason: String,
}

/// What one commit does to one output's queue.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) output: &'a str,
    /// Items with smaller numbers are removed.
    pub(super) confirmed_below: u64,
    /// Items with smaller numbers are on their way and are not dropped.
    pub(super) on_way_below: u64,
    pub(super) bounds: Bounds,
    pub(super) inserts: &'a [Insert],
    pub(super) next: u64,
}

/// An item to keep.
#[derive(Clone, Debug)]
pub(super) struct Insert {
    pub(super) number: u64,
    pub(super) value: Bytes,
    /// It is kept even if the queue is full: it tells what was dropped.
    pub(super) is_exempt: bool,
}

/// What a commit made of a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) totals: Totals,
    pub(super) dropped: u64,
}

#[derive(Debug)]
pub(super) struct Store {
    database: Database,
}

impl std::fmt::Debug for StoreFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.fmt(formatter)
    }
}

/// Where the database is.
pub(super) struct StoreFile {
    path: PathBuf,
    /// Keeps a second daemon from the same directory.
    _lock: fs::File,
}

/// The spool's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made or written.
    #[error(
        "cannot use the spool directory {}: {source}; name one that the daemon may write in spool.directory (under systemd, \
         StateDirectory= or ReadWritePaths= says where)",
        path.display()
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the spool directory {} is in use: stop the other daemon, or name another in spool.directory", .0.display())]
    InUse(PathBuf),
}

/// Whether there is a database, which may hold records.
#[must_use]
pub fn has_database(config: &super::Config) -> bool {
    config.directory.join(FILE).exists()
}

impl StoreFile {
    /// Makes the directory and takes it for this process.
    pub(super) fn claim(directory: &Path) -> Result<Self, DirectoryError> {
        let unusable = |source| DirectoryError::Unusable { path: directory.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
        let lock = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: directory.join(FILE), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(DirectoryError::InUse(directory.to_owned())),
            Err(fs::TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Opens or creates the database. One that is damaged is put aside, and a new one begun.
    ///
    /// Every page is checked, because the store is trusted from then on; that takes the time to read what waits.
    pub(super) fn open(&self) -> Result<(Store, Option<PutAside>), StoreError> {
        match self.open_once() {
            Ok(store) => Ok((store, None)),
            Err(StoreError::Damaged(reason)) => {
                let put_aside = self.put_aside(reason)?;
                Ok((self.open_once()?, Some(put_aside)))
            }
            Err(error) => Err(error),
        }
    }

    fn open_once(&self) -> Result<Store, StoreError> {
        let database = database::create(&builder(), &self.path)?;
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o600))?;
        Ok(Store { database })
    }

    /// Moves the database to a name that nothing else has.
    pub(super) fn put_aside(&self, reason: String) -> Result<PutAside, StoreError> {
        Ok(PutAside { path: database::put_aside(&self.path)?, reason })
    }
}

fn builder() -> redb::Builder {
    let mut builder = database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

impl Store {
    /// The same on a disk that a test makes.
    #[cfg(test)]
    pub(super) fn on(disk: impl redb::StorageBackend) -> Result<Self, StoreError> {
        Ok(Self { database: builder().create_with_backend(disk)? })
    }

    /// Every queue that the database has, also of outputs that the configuration no longer names.
    pub(super) fn queues(&self) -> Result<Vec<(String, Totals)>, StoreError> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(QUEUES) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        table
            .iter()?
            .map(|entry| {
                let (name, totals) = entry?;
                let items = transaction.open_table(ItemTable::new(&table_name(name.value())))?;
                let oldest = items.first()?.and_then(|(_, value)| item::decode(value.value())).map(|item| item.time);
                Ok((name.value().to_owned(), Totals { oldest, ..totals.value().into() }))
            })
            .collect()
    }

    /// Does all `changes` at once. When this returns they survive a loss of power.
    pub(super) fn commit(&self, changes: &[Change<'_>]) -> Result<Vec<Outcome>, StoreError> {
        let transaction = self.database.begin_write()?;
        let outcomes = {
            let mut queues = transaction.open_table(QUEUES)?;
            let mut change_queue = |change: &Change<'_>| {
                let table_name = table_name(change.output);
                let mut table = transaction.open_table(ItemTable::new(&table_name))?;
                let before = queues.get(change.output)?.map(|totals| totals.value().into()).unwrap_or_default();
                let outcome = apply(&mut table, change, before)?;
                let Totals { next, records, bytes, .. } = outcome.totals;
                queues.insert(change.output, (next, records, bytes))?;
                Ok::<_, StoreError>(outcome)
            };
            changes.iter().map(&mut change_queue).collect::<Result<_, _>>()?
        };
        transaction.commit()?;
        Ok(outcomes)
    }

    /// The first items of `output` with numbers from `from` on, as many as `limits` allow and at least one. An item that is
    /// none is left out; the second number says how many.
    pub(super) fn read(
        &self,
        output: &str,
        from: u64,
        limits: BatchLimits,
    ) -> Result<(Vec<(u64, Item)>, u64), StoreError> {
        let transaction = self.database.begin_read()?;
        let table_name = table_name(output);
        let table = match transaction.open_table(ItemTable::new(&table_name)) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok((Vec::new(), 0)),
            Err(error) => return Err(error.into()),
        };
        let (mut items, mut bytes, mut damaged) = (Vec::new(), 0, 0);
        for entry in table.range(from..)? {
            let (number, value) = entry?;
            let Some(item) = item::decode(value.value()) else {
                damaged += 1;
                continue;
            };
            if !items.is_empty() && (items.len() >= limits.items || bytes + item.bytes.len() > limits.bytes) {
                break;
            }
            bytes += item.bytes.len();
            items.push((number.value(), item));
        }
        Ok((items, damaged))
    }
}

/// Removes what is confirmed, makes room, and inserts.
fn apply(
    table: &mut redb::Table<'_, u64, &'static [u8]>,
    change: &Change<'_>,
    before: Totals,
) -> Result<Outcome, StoreError> {
    let mut totals = Totals { next: before.next.max(change.next), ..before };
    let mut dropped = 0;
    let Bounds { max_bytes, when_full } = change.bounds;
    remove_range(table, 0..change.confirmed_below, &mut totals, u64::MAX)?;
    for insert in change.inserts {
        if insert.number < change.confirmed_below {
            continue;
        }
        let size = insert.value.len() as u64 + ITEM_OVERHEAD_BYTES;
        let excess = (totals.bytes + size).saturating_sub(max_bytes);
        if insert.is_exempt && excess > EXEMPT_BYTES {
            continue;
        }
        if excess > 0 && !insert.is_exempt {
            if when_full == WhenFull::DropOldest {
                dropped += remove_range(table, change.on_way_below..insert.number, &mut totals, excess)?;
            }
            if totals.bytes + size > max_bytes {
                dropped += 1;
                continue;
            }
        }
        // A commit that seemed to fail may have been done: then the item is there already.
        if let Some(old) = table.insert(insert.number, &*insert.value)? {
            totals.records = totals.records.saturating_sub(1);
            totals.bytes = totals.bytes.saturating_sub(old.value().len() as u64 + ITEM_OVERHEAD_BYTES);
        }
        totals.records += 1;
        totals.bytes += size;
    }
    totals.oldest = table.first()?.and_then(|(_, value)| item::decode(value.value())).map(|item| item.time);
    if totals.oldest.is_none() && table.first()?.is_none() {
        // A miscount would never be put right otherwise.
        (totals.records, totals.bytes) = (0, 0);
    }
    Ok(Outcome { totals, dropped })
}

/// Removes the first items of `numbers` until `bytes` are freed, and returns how many.
fn remove_range(
    table: &mut redb::Table<'_, u64, &'static [u8]>,
    numbers: std::ops::Range<u64>,
    totals: &mut Totals,
    bytes: u64,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    let mut freed_bytes = 0;
    if numbers.is_empty() {
        return Ok(0);
    }
    for entry in table.extract_from_if(numbers, |_, _| true)? {
        let (_, value) = entry?;
        freed_bytes += value.value().len() as u64 + ITEM_OVERHEAD_BYTES;
        removed += 1;
        if freed_bytes >= bytes {
            break;
        }
    }
    totals.records = totals.records.saturating_sub(removed);
    totals.bytes = totals.bytes.saturating_sub(freed_bytes);
    Ok(removed)
}

fn table_name(output: &str) -> String {
    format!("items.{output}")
}

impl From<(u64, u64, u64)> for Totals {
    fn from((next, records, bytes): (u64, u64, u64)) -> Self {
        Self { next, records, bytes, oldest: None }
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        let message = error.to_string();
        match error {
            // A file that is something else, or was cut short.
            redb::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::Damaged(message)
            }
            redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseAlreadyOpen => Self::Unusable(message),
            redb::Error::Backend(_) | redb::Error::DatabaseClosed | redb::Error::TransactionPoisoned => {
                Self::Unusable(message)
            }
            _ => Self::Damaged(message),
        }
    }
}

macro_rules! from_redb {
    ($($error:ty),+) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        })+
    };
}

from_redb!(DatabaseError, StorageError, TableError, redb::TransactionError, redb::CommitError, io::Error);
