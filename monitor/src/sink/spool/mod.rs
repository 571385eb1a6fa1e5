//! The spool: what outputs have not delivered yet, on the disk.
//!
//! One thread owns the database. It takes the records that wait for it, encodes each once for every format, appends them to
//! the queues of the outputs that want them and commits all of that at once; only then is their room in memory given back.
//! The task of each output reads its queue in order, hands batches to its transport, and says what was confirmed.
//!
//! | what | bound | when it is full or fails |
//! | --- | --- | --- |
//! | alerts, losses, notices on their way to the disk | `output.alert_queue_records` | the sender waits; nothing is dropped |
//! | flow records on their way to the disk | `output.flow_queue_records` | dropped, counted, told in a loss record |
//! | one output's queue on the disk | `max_bytes` of the output or of `[spool]` | `when_full`, counted, told in a loss record |
//! | the disk is full or fails, from the start or later | | told while it lasts; outputs without a backlog are fed from memory; tried again until it works |
//! | the database is damaged | | put aside, told, and a new one begun |
//! | a receiver fails | | tried again with growing random pauses, without end |
//! | a receiver refuses a record for good | [`DEAD_LETTER_BYTES`] | dead-letter file, counted, told in a loss record unless it is one; what is pushed out there is counted and told as well |
//! | an output is no longer configured | | its queue is kept and told of |
//!
//! Each queue is in order, but for what is delivered from memory before the database could be opened for the first time: what
//! that turns out to hold comes after it. A record can be delivered again after a crash and after that, with the `event.id`
//! that it had.

mod appender;
mod backoff;
mod config;
mod counters;
mod dead_letter;
mod delivering;
mod item;
mod queue;
mod store;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::{appender::Appender, store::StoreFile};
pub use self::{
    backoff::{Backoff, BackoffError},
    config::{Bounds, Config, OwnBounds, WhenFull},
    counters::{QueueCounters, QueueFigures},
    dead_letter::DEAD_LETTER_BYTES,
    delivering::{Delivering, Steering},
    store::{DirectoryError, has_database},
};
use super::{
    Filter, RecordFormat,
    delivery::{BatchLimits, Item},
};
use crate::alert::Record;

/// Notices for outputs without a spool that may wait.
const NOTICES_MAX: usize = 256;

/// One output's queue.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// Name of the output.
    pub output: String,
    /// Form of its records.
    pub format: RecordFormat,
    /// Which records it gets.
    pub filter: Filter,
    /// How much it keeps.
    pub bounds: Bounds,
    /// Where its figures are kept.
    pub counters: Arc<QueueCounters>,
}

/// What the spool has to tell in records. The daemon makes them, because it numbers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Records are lost: `count` of them within the time `within` before now, `total` since the start.
    Lost {
        /// The output.
        output: String,
        /// Why.
        reason: LossReason,
        /// How many since the last notice.
        count: u64,
        /// How many since the start.
        total: u64,
        /// How long ago nothing was missing yet.
        within: Duration,
    },
    /// Something does not work from now on.
    Began(Condition),
}

/// Something that does not work as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The database was damaged and is put aside: what waited in it is not delivered.
    PutAside {
        /// Where it is now.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk takes nothing: records wait in memory.
    Unwritable {
        /// What it said.
        reason: String,
    },
    /// The queue of an output that the configuration does not name holds records.
    Unclaimed {
        /// The output.
        output: String,
        /// How many records.
        records: u64,
    },
}

/// Why an output lost records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// Its queue on the disk was full.
    SpoolFull,
    /// Its receiver refused them.
    Refused,
    /// Its dead-letter files have no more room for what its receiver refused earlier.
    DeadLetterFull,
    /// Flows came faster than the disk took them.
    Late,
    /// They could not be read again.
    Damaged,
}

/// Makes the record of a notice.
pub type Describe = Arc<dyn Fn(Notice) -> Record + Send + Sync>;

/// The handle through which records reach the spool, and outputs their queues.
#[derive(Clone, Debug)]
pub struct SpoolSender(Arc<Shared>);

/// The spool: ends when [`Self::stop`] is called.
#[derive(Debug)]
pub struct Spool {
    sender: SpoolSender,
    thread: thread::JoinHandle<u64>,
}

#[derive(Debug)]
struct Shared {
    inbox: Mutex<Inbox>,
    filled: Condvar,
    alert_room: Arc<Semaphore>,
    flow_room: Arc<Semaphore>,
    /// Flow records for which there was no room.
    late_flows: AtomicU64,
    takes_flows: AtomicBool,
    notices: Mutex<VecDeque<Arc<Record>>>,
    /// What is so now.
    conditions: Mutex<Vec<Condition>>,
}

#[derive(Debug, Default)]
struct Inbox {
    records: VecDeque<(Arc<Record>, OwnedSemaphorePermit)>,
    reads: Vec<ReadRequest>,
    confirmations: Vec<Confirmation>,
    /// The queues to have from now on.
    queues: Option<Vec<QueueSettings>>,
    /// No record comes any more: who reads an empty queue is told that it is the end.
    is_closed: bool,
    is_stopping: bool,
}

#[derive(Debug)]
struct ReadRequest {
    output: String,
    from: u64,
    limits: BatchLimits,
    answer: oneshot::Sender<Vec<(u64, Item)>>,
}

#[derive(Debug)]
struct Confirmation {
    output: String,
    below: u64,
    losses: ConfirmedLosses,
}

/// What loss records are to tell of a batch that a receiver has dealt with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConfirmedLosses {
    /// Records of the batch that were refused.
    refused: u64,
    /// Records that were refused earlier, and for which the dead-letter files had no more room.
    pushed_out: u64,
}

impl Spool {
    /// Takes the directory and starts the thread, which opens the database by itself: that can take a while after a crash.
    pub fn start(
        config: &Config,
        alert_queue_records: u32,
        flow_queue_records: u32,
        queues: Vec<QueueSettings>,
        describe: Describe,
    ) -> Result<Self, DirectoryError> {
        let file = StoreFile::claim(&config.directory)?;
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            filled: Condvar::new(),
            alert_room: Arc::new(Semaphore::new(alert_queue_records as usize)),
            flow_room: Arc::new(Semaphore::new(flow_queue_records as usize)),
            late_flows: AtomicU64::new(0),
            takes_flows: AtomicBool::new(queues.iter().any(|queue| queue.filter.takes_flows())),
            notices: Mutex::default(),
            conditions: Mutex::default(),
        });
        let appender = Appender::new(file, queues, Arc::clone(&shared), describe);
        let thread = thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || appender.run())
            .map_err(|source| DirectoryError::Unusable { path: config.directory.clone(), source })?;
        Ok(Self { sender: SpoolSender(shared), thread })
    }

    /// What records are sent through.
    #[must_use]
    pub fn sender(&self) -> SpoolSender {
        self.sender.clone()
    }

    /// Commits what is left and ends. Returns how many records could not be kept, which is 0 unless the disk is full.
    ///
    /// It blocks.
    #[must_use]
    pub fn stop(self) -> u64 {
        let mut inbox = self.sender.0.inbox();
        (inbox.is_closed, inbox.is_stopping) = (true, true);
        drop(inbox);
        self.sender.0.filled.notify_one();
        self.thread.join().unwrap_or_else(|_| {
            tracing::error!("the spool's thread panicked");
            0
        })
    }
}

impl SpoolSender {
    /// Hands over a record. It waits while there is no room, unless the record is a flow, which is then dropped and
    /// counted.
    pub async fn append(&self, record: Arc<Record>) {
        let Shared { alert_room, flow_room, late_flows, takes_flows, .. } = &*self.0;
        let room = if record.must_arrive() {
            Arc::clone(alert_room).acquire_owned().await.ok()
        } else if !takes_flows.load(Ordering::Relaxed) {
            return;
        } else {
            Arc::clone(flow_room).try_acquire_owned().ok()
        };
        match room {
            Some(room) => self.tell(|inbox| inbox.records.push_back((record, room))),
            // The thread counts them at its next look; it has enough to do just now.
            None => _ = late_flows.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Whether a record that must arrive is taken at once.
    #[must_use]
    pub fn has_alert_room(&self) -> bool {
        self.0.alert_room.available_permits() > 0 || self.0.alert_room.is_closed()
    }

    /// Waits until [`Self::has_alert_room`]. Nothing is lost if the wait is given up.
    pub async fn alert_room(&self) {
        // Closed when the thread has ended, which takes nothing any more.
        drop(self.0.alert_room.acquire().await);
    }

    /// The first records of `output` with numbers from `from` on. It waits until there is at least one; nothing is returned
    /// when none can come any more.
    pub(crate) async fn read(&self, output: &str, from: u64, limits: BatchLimits) -> Vec<(u64, Item)> {
        let (answer, items) = oneshot::channel();
        self.tell(|inbox| inbox.reads.push(ReadRequest { output: output.to_owned(), from, limits, answer }));
        items.await.unwrap_or_default()
    }

    /// Removes what `output` has with numbers below `below`. Loss records are to tell of `losses`.
    pub(crate) fn confirm(&self, output: &str, below: u64, losses: ConfirmedLosses) {
        self.tell(|inbox| inbox.confirmations.push(Confirmation { output: output.to_owned(), below, losses }));
    }

    /// Has these queues from now on. What others hold is kept.
    pub fn set_queues(&self, queues: Vec<QueueSettings>) {
        self.0.takes_flows.store(queues.iter().any(|queue| queue.filter.takes_flows()), Ordering::Relaxed);
        self.tell(|inbox| inbox.queues = Some(queues));
    }

    /// Says that no record comes any more: outputs end when they have delivered what there is.
    pub fn close(&self) {
        self.tell(|inbox| inbox.is_closed = true);
    }

    /// Flow records for which there was no room on their way to the disk.
    #[must_use]
    pub fn late_flows(&self) -> u64 {
        self.0.late_flows.load(Ordering::Relaxed)
    }

    /// What the spool had to tell since the last call, for outputs that it does not feed.
    #[must_use]
    pub fn take_notices(&self) -> Vec<Arc<Record>> {
        self.0.notices.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// What does not work in the spool now: it was told when it began.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        self.0.conditions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut self.0.inbox());
        self.0.filled.notify_one();
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_conditions(&self, conditions: Vec<Condition>) {
        *self.conditions.lock().unwrap_or_else(PoisonError::into_inner) = conditions;
    }

    fn notice(&self, record: Arc<Record>) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() == NOTICES_MAX {
            notices.pop_front();
        }
        notices.push_back(record);
    }
}

#[cfg(test)]
mod tests;
