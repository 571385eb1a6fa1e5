//! What every output needs besides a transport: queues, batches, retries, reopening, counters.
//!
//! | what | bound | when it is full or fails |
//! | --- | --- | --- |
//! | alerts, losses, notices | a queue of their own | the sender waits; dropped only where other outputs run on, then as below |
//! | flow records | a second queue | dropped, counted, and told in a loss record at most once a second |
//! | one batch of encoded records | [`BATCH_BYTES`] and one record | written before the next is made |
//! | a write fails | | reported once, tried again with growing pauses, the batch stays in memory byte for byte |
//! | the reader of a pipe is gone | | the task ends with [`Ending::ReaderGone`] |
//!
//! Records of the two queues may overtake each other: alerts go first. The goodbye is the last.

mod write;

use std::{
    io,
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, sleep_until, timeout_at},
};

use self::write::{Batch, Writer};
use super::{Encoding, Transport};
use crate::alert::Record;

/// Encoded bytes after which a batch takes no further record.
pub const BATCH_BYTES: usize = 256 << 10;

/// Least time between two loss records of one output.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// Pause before a non-blocking descriptor that takes nothing now is tried again.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(10);

/// How an output behaves when its transport does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Records other than flows that may wait.
    pub alert_queue_records: NonZeroU32,
    /// Flow records that may wait.
    pub flow_queue_records: NonZeroU32,
    /// First pause after a failed write; each further one is twice as long.
    pub first_retry: Duration,
    /// Longest pause between tries.
    pub longest_retry: Duration,
    /// How long to try on after the last sender is gone, before giving up on what is left.
    pub drain: Duration,
}

impl Settings {
    /// With the queues of `config`, pauses from 100 ms to 1 s, and 3 s to drain.
    #[must_use]
    pub const fn new(config: &super::Config) -> Self {
        Self {
            alert_queue_records: config.alert_queue_records,
            flow_queue_records: config.flow_queue_records,
            first_retry: Duration::from_millis(100),
            longest_retry: Duration::from_secs(1),
            drain: Duration::from_secs(3),
        }
    }
}

/// Makes an output: the handle that records are sent through, and the task that writes them, for the daemon to spawn.
pub fn output<T: Transport>(transport: T, encoding: Encoding, settings: Settings) -> (OutputSender, OutputTask<T>) {
    let (alert_sender, alerts) = mpsc::channel(settings.alert_queue_records.get() as usize);
    let (flow_sender, flows) = mpsc::channel(settings.flow_queue_records.get() as usize);
    let shared = Arc::new(Shared { name: transport.name().to_owned(), ..Shared::default() });
    let sender = OutputSender { alerts: alert_sender, flows: flow_sender, shared: Arc::clone(&shared) };
    let feed = Feed {
        name: transport.name().to_owned(),
        encoding,
        settings,
        alerts,
        flows,
        shared,
        dropped_told: 0,
        complete_until: Instant::now(),
        loss_pending: false,
        next_loss_at: Instant::now(),
    };
    (sender, OutputTask { writer: Writer { transport, batch: Batch::default() }, feed })
}

/// The handle through which records reach an output. The output ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct OutputSender {
    alerts: mpsc::Sender<Arc<Record>>,
    flows: mpsc::Sender<Arc<Record>>,
    shared: Arc<Shared>,
}

/// Asks an output to open its place anew, before anything else is written.
#[derive(Clone, Debug)]
pub struct Reopener(Arc<Shared>);

impl Reopener {
    /// Asks. If the output has ended, nobody hears it.
    pub fn reopen(&self) {
        self.0.reopen.store(true, Ordering::Release);
        self.0.reopen_asked.notify_one();
    }
}

/// The output has ended: its reader is gone, or its task failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the output has ended")]
pub struct OutputGone;

impl OutputSender {
    /// Hands over a record. Waits while the queue is full, unless the record is a flow, which is then dropped and
    /// counted.
    pub async fn send(&self, record: Arc<Record>) -> Result<(), OutputGone> {
        self.send_until(record, Instant::now()).await
    }

    /// Hands over a record like [`Self::send`], but waits for room for a flow until `deadline`: a burst then takes the
    /// output's pace, and what the kernel side has to tell meanwhile waits in its rings and tables.
    pub async fn send_until(&self, record: Arc<Record>, deadline: Instant) -> Result<(), OutputGone> {
        if record.must_arrive() {
            return self.alerts.send(record).await.map_err(|_| OutputGone);
        }
        let record = match self.flows.try_send(record) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(OutputGone),
            Err(mpsc::error::TrySendError::Full(record)) => record,
        };
        if Instant::now() < deadline {
            match timeout_at(deadline, self.flows.reserve()).await {
                Ok(Ok(room)) => {
                    room.send(record);
                    return Ok(());
                }
                Ok(Err(_)) => return Err(OutputGone),
                Err(_) => {}
            }
        }
        self.shared.counters.dropped_flows.fetch_add(1, Ordering::Relaxed);
        self.shared.dropped.notify_one();
        Ok(())
    }

    /// Hands over a record that must arrive like [`Self::send`], but waits at most `limit`: where other outputs run on, one
    /// that is stuck must not hold them up. Returns whether it was taken; if not, that is counted and told like a flow.
    pub async fn send_within(&self, record: Arc<Record>, limit: Duration) -> Result<bool, OutputGone> {
        if let Ok(sent) = timeout_at(Instant::now() + limit, self.alerts.send(record)).await {
            return sent.map(|()| true).map_err(|_| OutputGone);
        }
        self.shared.counters.dropped_alerts.fetch_add(1, Ordering::Relaxed);
        self.shared.dropped.notify_one();
        Ok(false)
    }

    /// Leaves the record that is written when the last clone is dropped, after everything that waits then. The first one
    /// stays.
    pub fn leave_goodbye(&self, record: Arc<Record>) {
        // Only a program that says goodbye twice is refused.
        let _ = self.shared.goodbye.set(record);
    }

    /// Whether a record that must arrive is taken at once, or the output has ended and takes nothing.
    #[must_use]
    pub fn has_alert_room(&self) -> bool {
        self.alerts.capacity() > 0 || self.alerts.is_closed()
    }

    /// Waits until [`Self::has_alert_room`]. Nothing is lost if the wait is given up.
    pub async fn alert_room(&self) {
        // A closed queue has ended, which the next record tells.
        drop(self.alerts.reserve().await);
    }

    /// Whether a flow that is sent now will be taken, or the output has ended and takes nothing.
    #[must_use]
    pub fn has_flow_room(&self) -> bool {
        self.flows.capacity() > 0 || self.flows.is_closed()
    }

    /// Waits until [`Self::has_flow_room`]. Nothing is lost if the wait is given up.
    pub async fn flow_room(&self) {
        // A closed queue has ended, which the next record tells.
        drop(self.flows.reserve().await);
    }

    /// What asks for the place to be opened anew. It does not keep the output open.
    #[must_use]
    pub fn reopener(&self) -> Reopener {
        Reopener(Arc::clone(&self.shared))
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What this output has done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

/// What an output has done since its start, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records written whole.
    pub written_records: AtomicU64,
    /// Bytes written.
    pub written_bytes: AtomicU64,
    /// Flow records dropped because the queue was full.
    pub dropped_flows: AtomicU64,
    /// Other records dropped because the output took nothing for long while others ran on.
    pub dropped_alerts: AtomicU64,
    /// Writes and reopenings that failed.
    pub errors: AtomicU64,
    /// Records that could not be encoded. There is no known way to get one.
    pub unencodable_records: AtomicU64,
    /// Whether the last write failed: nothing is coming through now.
    pub failing: AtomicBool,
}

#[derive(Debug, Default)]
struct Shared {
    name: String,
    counters: Counters,
    /// The place is to be opened anew.
    reopen: AtomicBool,
    /// Wakes the task for `reopen`.
    reopen_asked: Notify,
    /// Wakes the task for a loss to tell.
    dropped: Notify,
    /// The last record.
    goodbye: OnceLock<Arc<Record>>,
}

/// Records that an output dropped, for the loss record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The output.
    pub output: String,
    /// How many since the last loss record of this output.
    pub count: u64,
    /// How many since the start.
    pub total: u64,
    /// How long ago nothing was missing yet.
    pub within: Duration,
}

/// How an output ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All senders are gone and everything is written.
    Drained,
    /// The reader of the pipe is gone. Like other Unix tools, the program then stops without an error.
    ReaderGone,
}

/// An output ended with records unwritten.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Writing failed until the time to drain was over.
    #[error("gave up on {output} with {unwritten} records unwritten: {source}")]
    GaveUp {
        /// The output.
        output: String,
        /// Records in memory that were not written.
        unwritten: usize,
        /// The last failure.
        source: io::Error,
    },
    /// The thread that writes was stopped.
    #[error("writing to {output} was stopped")]
    Stopped {
        /// The output.
        output: String,
        /// Why.
        source: tokio::task::JoinError,
    },
}

/// The task that writes one output's records.
#[derive(Debug)]
pub struct OutputTask<T> {
    writer: Writer<T>,
    feed: Feed,
}

impl<T: Transport> OutputTask<T> {
    /// Writes until all senders are gone and the queues are empty, or the reader is gone.
    ///
    /// `describe_loss` makes the loss record for dropped flows. Writes happen on the runtime's blocking threads, one at
    /// a time; a transport that blocks for good must be left behind when the runtime shuts down.
    pub async fn run(self, mut describe_loss: impl FnMut(Dropped) -> Record) -> Result<Ending, OutputError> {
        let Self { mut writer, mut feed } = self;
        loop {
            let is_last = feed.fill(&mut writer.batch).await;
            feed.tell_losses(&mut writer.batch, is_last, &mut describe_loss);
            if is_last && let Some(goodbye) = feed.shared.goodbye.get() {
                feed.encode(goodbye, &mut writer.batch);
            }
            let ending;
            (writer, ending) = feed.write_out(writer).await?;
            match ending {
                Some(ending) => return Ok(ending),
                None if is_last => return Ok(Ending::Drained),
                None => writer.batch.clear(),
            }
        }
    }
}

/// Everything of the task but the transport: what comes in and what is counted.
#[derive(Debug)]
struct Feed {
    name: String,
    encoding: Encoding,
    settings: Settings,
    alerts: mpsc::Receiver<Arc<Record>>,
    flows: mpsc::Receiver<Arc<Record>>,
    shared: Arc<Shared>,
    /// Dropped flow records that a loss record has told of.
    dropped_told: u64,
    /// Up to then nothing was dropped but what is told.
    complete_until: Instant,
    /// There is something to tell, but not before `next_loss_at`.
    loss_pending: bool,
    /// The earliest time of the next loss record.
    next_loss_at: Instant,
}

impl Feed {
    /// Waits for something to do and takes what waits, alerts first, until the batch is full. Returns whether nothing
    /// further can come.
    async fn fill(&mut self, batch: &mut Batch) -> bool {
        let first = tokio::select! {
            biased;
            () = self.shared.reopen_asked.notified() => None,
            record = self.alerts.recv() => record,
            record = self.flows.recv() => record,
            () = self.shared.dropped.notified() => None,
            () = sleep_until(self.next_loss_at), if self.loss_pending => None,
        };
        if let Some(record) = first {
            self.encode(&record, batch);
        }
        while batch.len() < BATCH_BYTES {
            let Ok(record) = self.alerts.try_recv().or_else(|_| self.flows.try_recv()) else { break };
            self.encode(&record, batch);
        }
        batch.is_empty() && self.is_closed() && self.alerts.is_empty() && self.flows.is_empty()
    }

    fn encode(&self, record: &Record, batch: &mut Batch) {
        if let Err(error) = batch.push(record, &self.encoding) {
            self.shared.counters.unencodable_records.fetch_add(1, Ordering::Relaxed);
            tracing::error!(output = self.name, id = record.event.id, %error, "a record cannot be encoded");
        }
    }

    /// Whether all senders are gone. Both queues close at once, because their senders live in one handle.
    fn is_closed(&self) -> bool {
        self.alerts.is_closed() && self.flows.is_closed()
    }

    /// Adds a loss record to the batch if flows were dropped and one is due.
    fn tell_losses(&mut self, batch: &mut Batch, is_last: bool, describe_loss: &mut impl FnMut(Dropped) -> Record) {
        let now = Instant::now();
        let counters = &self.shared.counters;
        let total = counters.dropped_flows.load(Ordering::Relaxed) + counters.dropped_alerts.load(Ordering::Relaxed);
        let count = total - self.dropped_told;
        if count == 0 {
            self.complete_until = now;
            return;
        }
        self.loss_pending = now < self.next_loss_at && !is_last;
        if self.loss_pending {
            return;
        }
        let within = now.duration_since(self.complete_until);
        let record = describe_loss(Dropped { output: self.name.clone(), count, total, within });
        self.encode(&record, batch);
        self.dropped_told = total;
        self.complete_until = now;
        self.next_loss_at = now + LOSS_INTERVAL;
    }

    /// Writes the whole batch, however often it takes.
    async fn write_out<T: Transport>(&self, mut writer: Writer<T>) -> Result<(Writer<T>, Option<Ending>), OutputError> {
        let counters = &self.shared.counters;
        let mut pause = self.settings.first_retry;
        let mut give_up_at = None;
        loop {
            let reopen = self.shared.reopen.swap(false, Ordering::AcqRel);
            if writer.batch.is_written() && !reopen {
                return Ok((writer, None));
            }
            let attempt;
            (writer, attempt) = tokio::task::spawn_blocking(move || writer.attempt(reopen))
                .await
                .map_err(|source| OutputError::Stopped { output: self.name.clone(), source })?;
            counters.written_bytes.fetch_add(attempt.written_bytes, Ordering::Relaxed);
            counters.written_records.fetch_add(attempt.written_records, Ordering::Relaxed);
            if let Some(error) = attempt.reopen_error {
                counters.errors.fetch_add(1, Ordering::Relaxed);
                tracing::error!(output = self.name, %error, "cannot be opened anew: the old one stays in use");
            }
            let Some(error) = attempt.error else {
                if counters.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(output = self.name, "records are written again");
                }
                continue;
            };
            let this_pause = match error.kind() {
                io::ErrorKind::BrokenPipe => return Ok((writer, Some(Ending::ReaderGone))),
                io::ErrorKind::WouldBlock => WOULD_BLOCK_PAUSE,
                _ => {
                    counters.errors.fetch_add(1, Ordering::Relaxed);
                    if !counters.failing.swap(true, Ordering::Relaxed) {
                        tracing::error!(output = self.name, %error, "cannot write: alerts wait in memory");
                    }
                    let longer = (pause * 2).min(self.settings.longest_retry);
                    std::mem::replace(&mut pause, longer)
                }
            };
            if self.is_closed() && Instant::now() >= *give_up_at.get_or_insert(Instant::now() + self.settings.drain) {
                let unwritten = writer.batch.unwritten_records() + self.alerts.len() + self.flows.len();
                return Err(OutputError::GaveUp { output: self.name.clone(), unwritten, source: error });
            }
            tokio::select! {
                () = sleep(this_pause) => {}
                () = self.shared.reopen_asked.notified() => {}
            }
        }
    }
}
