//! The contacts that rules know, on disk: read at the start, added to by a thread of its own.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use jiff::Timestamp;
use redb::{Database, ReadableTable, TableDefinition};

use crate::{
    alert::WallClock,
    host,
    policy::{self, rules::Baseline},
};

/// Contacts, with when they were learnt in seconds since the Unix epoch.
const CONTACTS: TableDefinition<'_, &str, i64> = TableDefinition::new("contacts");
/// When learning began, under [`BEGAN`].
const FACTS: TableDefinition<'_, &str, i64> = TableDefinition::new("facts");
const BEGAN: &str = "began";
/// Batches that wait for the disk; what comes while they do waits in the pipeline.
const QUEUE: usize = 4;

/// Why the contacts cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the contacts that rules know in {}: {source}; name another file in policy.baseline", path.display())]
pub struct BaselineError {
    path: PathBuf,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Writes contacts. Dropping it waits until they are written.
pub(super) struct Keeper {
    sender: Option<mpsc::SyncSender<Vec<Arc<str>>>>,
    /// A batch that found no room.
    waiting: Vec<Arc<str>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Opens the file, which is made if it does not exist.
pub(super) fn open(config: &policy::Config, clock: &WallClock) -> Result<(Baseline, Keeper), BaselineError> {
    let now = clock.at(host::boot_time()).into();
    let path = &config.baseline;
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| BaselineError { path: path.clone(), source };
    let (database, known, began) = read(path, now).map_err(failed)?;
    let learning = jiff::SignedDuration::try_from(config.learning.get()).unwrap_or(jiff::SignedDuration::MAX);
    let learns_until = began.saturating_add(learning).unwrap_or(Timestamp::MAX);
    tracing::info!(contacts = known.len(), %learns_until, "contacts known to rules");
    let (sender, batches) = mpsc::sync_channel::<Vec<Arc<str>>>(QUEUE);
    let run = move || {
        for batch in batches {
            if let Err(error) = write(&database, &batch) {
                tracing::error!(%error, contacts = batch.len(), "contacts that rules know could not be kept");
            }
        }
    };
    let thread = thread::Builder::new().name("baseline".to_owned()).spawn(run).map_err(|error| failed(error.into()))?;
    let keeper = Keeper { sender: Some(sender), waiting: Vec::new(), thread: Some(thread) };
    Ok((Baseline::new(known, learns_until), keeper))
}

type Anything<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn read(path: &Path, now: Timestamp) -> Anything<(Database, Vec<Arc<str>>, Timestamp)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let database = Database::create(path)?;
    let transaction = database.begin_write()?;
    let (known, began) = {
        let mut facts = transaction.open_table(FACTS)?;
        let began = facts.get(BEGAN)?.map(|began| began.value());
        if began.is_none() {
            facts.insert(BEGAN, now.as_second())?;
        }
        let contacts = transaction.open_table(CONTACTS)?;
        let mut known: Vec<Arc<str>> = Vec::new();
        for row in contacts.iter()? {
            known.push(row?.0.value().into());
        }
        (known, began.and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(now))
    };
    transaction.commit()?;
    Ok((database, known, began))
}

fn write(database: &Database, batch: &[Arc<str>]) -> Anything<()> {
    let at = host::wall_clock().at(host::boot_time());
    let second = i64::try_from(at.unix_ns() / 1_000_000_000).unwrap_or_default();
    let transaction = database.begin_write()?;
    {
        let mut contacts = transaction.open_table(CONTACTS)?;
        for contact in batch {
            contacts.insert(&**contact, second)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

impl Keeper {
    /// Hands contacts to the thread; what finds no room waits for the next call.
    pub(super) fn keep(&mut self, mut contacts: Vec<Arc<str>>) {
        self.waiting.append(&mut contacts);
        if self.waiting.is_empty() {
            return;
        }
        let Some(sender) = &self.sender else { return };
        if let Err(mpsc::TrySendError::Full(batch) | mpsc::TrySendError::Disconnected(batch)) =
            sender.try_send(std::mem::take(&mut self.waiting))
        {
            self.waiting = batch;
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take()
            && !self.waiting.is_empty()
        {
            // The thread may have ended, which is said below.
            let _ = sender.send(std::mem::take(&mut self.waiting));
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that keeps contacts panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_and_the_beginning_of_learning_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            policy::Config { baseline: folder.path().join("state/baseline.redb"), ..policy::Config::default() };
        let clock = host::wall_clock();
        let (_, mut keeper) = open(&config, &clock).unwrap();
        keeper.keep(vec!["rule\t/usr/bin/curl\tAS64500".into()]);
        drop(keeper);
        let (_, known, began) = read(&config.baseline, Timestamp::MAX).unwrap();
        assert_eq!(known, [Arc::from("rule\t/usr/bin/curl\tAS64500")]);
        assert!(began < Timestamp::MAX);
    }

    #[test]
    fn a_file_that_is_no_baseline_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("baseline.redb");
        std::fs::write(&path, "something else").unwrap();
        let config = policy::Config { baseline: path.clone(), ..policy::Config::default() };
        let error = open(&config, &host::wall_clock()).err().unwrap().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("policy.baseline"), "{error}");
    }
}
