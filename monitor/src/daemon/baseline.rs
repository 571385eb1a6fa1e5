//! The contacts that rules know, on disk: read at the start, added to by a thread of its own.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use jiff::Timestamp;
use redb::{Database, ReadableTable, TableDefinition};

use crate::{
    database, host,
    policy::{
        self,
        rules::{Baseline, Learnt},
    },
};

/// Contacts, with when they were learnt in seconds since the Unix epoch.
const CONTACTS: TableDefinition<'_, &str, i64> = TableDefinition::new("contacts");
/// When each rule began to learn, by its id, in seconds since the Unix epoch.
const BEGAN: TableDefinition<'_, &str, i64> = TableDefinition::new("began");
/// Batches that wait for the disk; what comes while they do waits in the pipeline.
const QUEUE: usize = 4;

/// Why the contacts cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the contacts that rules know in {}: {source}; name another file in policy.baseline", path.display())]
pub struct BaselineError {
    path: PathBuf,
    #[source]
    source: redb::Error,
}

/// A file that is ready.
pub(super) struct Opened {
    pub(super) baseline: Baseline,
    pub(super) keeper: Keeper,
    /// There was a damaged one.
    pub(super) put_aside: Option<PutAside>,
}

/// A damaged file that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PutAside {
    before: PathBuf,
    /// Where it is now.
    now: PathBuf,
    reason: String,
}

impl fmt::Display for PutAside {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, now, reason } = self;
        write!(formatter, "{} was damaged ({reason}) and is now {}", before.display(), now.display())
    }
}

/// Writes contacts. Dropping it waits until they are written.
pub(super) struct Keeper {
    sender: Option<mpsc::SyncSender<Learnt>>,
    /// A batch that found no room.
    waiting: Learnt,
    thread: Option<thread::JoinHandle<()>>,
}

/// Opens the file, which is made if it does not exist. A damaged one is put aside, because what was learnt can be learnt
/// again, and a new one begun.
pub(super) fn open(config: &policy::Config) -> Result<Opened, BaselineError> {
    let path = &config.baseline;
    let failed = |source| BaselineError { path: path.clone(), source };
    let ((database, kept), put_aside) = match read(path) {
        Ok(opened) => (opened, None),
        Err(error) if is_damage(&error) => {
            let now = database::put_aside(path).map_err(|error| failed(error.into()))?;
            let put_aside = PutAside { before: path.clone(), now, reason: error.to_string() };
            tracing::error!("the contacts that rules know are lost: {put_aside}");
            (read(path).map_err(failed)?, Some(put_aside))
        }
        Err(error) => return Err(failed(error)),
    };
    tracing::info!(contacts = kept.contacts.len(), rules = kept.began.len(), "contacts known to rules");
    let (sender, batches) = mpsc::sync_channel::<Learnt>(QUEUE);
    let run = move || {
        for batch in batches {
            if let Err(error) = write(&database, &batch) {
                tracing::error!(%error, contacts = batch.contacts.len(), "contacts that rules know could not be kept");
            }
        }
    };
    let thread = thread::Builder::new().name("baseline".to_owned()).spawn(run).map_err(|error| failed(error.into()))?;
    let keeper = Keeper { sender: Some(sender), waiting: Learnt::default(), thread: Some(thread) };
    let learning = jiff::SignedDuration::try_from(config.learning.get()).unwrap_or(jiff::SignedDuration::MAX);
    Ok(Opened { baseline: Baseline::new(kept, learning), keeper, put_aside })
}

/// Reads the file.
fn read(path: &Path) -> Result<(Database, Learnt), redb::Error> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let database = database::create(&database::builder(), path)?;
    let transaction = database.begin_write()?;
    let mut kept = Learnt::default();
    {
        for row in transaction.open_table(BEGAN)?.iter()? {
            let (rule, second) = row?;
            let began = Timestamp::from_second(second.value()).ok();
            kept.began.extend(began.map(|began| (rule.value().into(), began)));
        }
        for row in transaction.open_table(CONTACTS)?.iter()? {
            kept.contacts.push(row?.0.value().into());
        }
    }
    transaction.commit()?;
    Ok((database, kept))
}

/// Whether what the file holds is wrong, and not where it is.
fn is_damage(error: &redb::Error) -> bool {
    match error {
        // A file that is something else, or was cut short.
        redb::Error::Io(error) => matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
        redb::Error::PreviousIo
        | redb::Error::DatabaseAlreadyOpen
        | redb::Error::LockProtocolMismatch
        | redb::Error::Backend(_)
        | redb::Error::DatabaseClosed
        | redb::Error::TransactionPoisoned => false,
        _ => true,
    }
}

fn write(database: &Database, batch: &Learnt) -> Result<(), redb::Error> {
    let at = host::wall_clock().at(host::boot_time());
    let second = i64::try_from(at.unix_ns() / 1_000_000_000).unwrap_or_default();
    let transaction = database.begin_write()?;
    {
        let mut contacts = transaction.open_table(CONTACTS)?;
        for contact in &batch.contacts {
            contacts.insert(&**contact, second)?;
        }
        let mut began = transaction.open_table(BEGAN)?;
        for (rule, at) in &batch.began {
            began.insert(&**rule, at.as_second())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

impl Keeper {
    /// Hands what was learnt to the thread; what finds no room waits for the next call.
    pub(super) fn keep(&mut self, learnt: Learnt) {
        self.waiting.append(learnt);
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

    fn config(path: PathBuf) -> policy::Config {
        policy::Config { baseline: path, ..policy::Config::default() }
    }

    fn learnt() -> Learnt {
        let began = Timestamp::from_second(1_795_694_400).unwrap();
        Learnt { contacts: vec!["rule\t/usr/bin/curl\tAS64500".into()], began: vec![("rule".into(), began)] }
    }

    #[test]
    fn contacts_and_the_beginning_of_learning_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path().join("state/baseline.redb"));
        let mut opened = open(&config).unwrap();
        assert_eq!(opened.put_aside, None);
        opened.keeper.keep(learnt());
        drop(opened);
        assert_eq!(read(&config.baseline).unwrap().1, learnt());
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_learning_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("whole.redb");
        let mut opened = open(&config(whole.clone())).unwrap();
        opened.keeper.keep(learnt());
        drop(opened);
        let whole = fs::read(whole).unwrap();
        let mut flipped = whole.clone();
        flipped.iter_mut().skip(4_096).for_each(|byte| *byte ^= 0xff);
        let garbage: Vec<u8> = (0..200_000_u32).map(|number| (number * 31 % 251) as u8).collect();
        let cases = [b"something else".to_vec(), garbage, whole[..whole.len() / 2].to_vec(), flipped];
        for (number, damaged) in cases.into_iter().enumerate() {
            let config = config(folder.path().join(format!("{number}.redb")));
            fs::write(&config.baseline, &damaged).unwrap();
            let mut opened = open(&config).unwrap_or_else(|error| panic!("{number}: {error}"));
            let PutAside { before, now, .. } = opened.put_aside.clone().unwrap_or_else(|| panic!("{number}"));
            assert_eq!(before, config.baseline, "{number}");
            assert_eq!(fs::read(now).unwrap().len(), damaged.len(), "{number}");
            opened.keeper.keep(learnt());
            drop(opened);
            assert_eq!(read(&config.baseline).unwrap().1, learnt(), "{number}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let used = open(&config(folder.path().join("used.redb"))).unwrap();
        for path in ["", "file/baseline.redb", "used.redb"] {
            let path = folder.path().join(path);
            let error = open(&config(path.clone())).err().unwrap().to_string();
            assert!(error.contains(path.to_str().unwrap()) && error.contains("policy.baseline"), "{error}");
        }
        drop(used);
    }
}
