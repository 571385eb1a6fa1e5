//! The thread that owns the database.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Confirmation, Describe, Inbox, LossReason, Notice, QueueSettings, ReadRequest, Shared, item,
    queue::{Queue, Room},
    store::{Change, PutAside, Store, StoreError, StoreFile},
};
use crate::{
    alert::{Record, record::Dataset},
    sink::{RecordFormat, delivery::Item},
};

/// Records of one commit: enough to make a commit cheap for each, few enough to bound its memory.
const GROUP_RECORDS: usize = 1_024;
/// How long what is confirmed may stay on the disk. After a crash it is delivered again.
const REMOVAL_DELAY: Duration = Duration::from_secs(1);
/// Least time between two loss records of one output.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);
/// Pauses before a disk that failed is tried again.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

pub(super) struct Appender {
    shared: Arc<Shared>,
    describe: Describe,
    file: StoreFile,
    store: Option<Store>,
    /// The queues to have, until the database is open for the first time.
    awaited: Option<Vec<QueueSettings>>,
    queues: BTreeMap<String, Queue>,
    reads: Vec<ReadRequest>,
    /// When the disk is tried again.
    retry_at: Option<Instant>,
    retry_pause: Duration,
    /// The last commit failed, and that was told.
    is_failing: bool,
    removals_due: Option<Instant>,
    losses_due: Option<Instant>,
    losses_told_at: Instant,
    late_flows_told: u64,
    late_flows_since: Instant,
    is_closed: bool,
}

/// Lets senders go when the thread ends, however it does.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.alert_room.close();
        self.0.flow_room.close();
        *self.0.inbox() = Inbox::default();
    }
}

impl Appender {
    pub(super) fn new(file: StoreFile, queues: Vec<QueueSettings>, shared: Arc<Shared>, describe: Describe) -> Self {
        Self {
            shared,
            describe,
            file,
            store: None,
            awaited: Some(queues),
            queues: BTreeMap::new(),
            reads: Vec::new(),
            retry_at: Some(Instant::now()),
            retry_pause: FIRST_RETRY,
            is_failing: false,
            removals_due: None,
            losses_due: None,
            losses_told_at: Instant::now(),
            late_flows_told: 0,
            late_flows_since: Instant::now(),
            is_closed: false,
        }
    }

    /// Runs until it is stopped, and returns how many records could not be kept.
    pub(super) fn run(mut self) -> u64 {
        let farewell = Farewell(Arc::clone(&self.shared));
        loop {
            let is_stopping = self.take_in();
            let now = Instant::now();
            if self.store.is_none() && (is_stopping || self.retry_at.is_some_and(|at| at <= now)) {
                self.open();
            }
            self.commit_if_due(is_stopping);
            self.tell_losses(is_stopping);
            self.commit_if_due(is_stopping);
            self.serve();
            let is_left =
                self.queues.values().any(|queue| !queue.inserts.is_empty()) || !self.shared.inbox().records.is_empty();
            if is_stopping && (self.store.is_none() || !is_left) {
                break;
            }
        }
        // Where the database could not be opened even once, they are still there.
        let unread = self.shared.inbox().records.len() as u64;
        drop(farewell);
        let unkept = unread + self.queues.values().map(|queue| queue.inserts.len() as u64).max().unwrap_or(0);
        if unkept > 0 {
            tracing::error!(records = unkept, "the spool could not be written: these records are lost");
        }
        unkept
    }

    /// Waits for something to do and takes it in. Returns whether it is time to stop.
    fn take_in(&mut self) -> bool {
        let due_at = [self.retry_at, self.removals_due, self.losses_due].into_iter().flatten().min();
        let mut inbox = self.shared.inbox();
        loop {
            // Until the database is known records cannot be numbered: they wait where they are counted.
            let has_records = !inbox.records.is_empty() && self.awaited.is_none();
            let has_work = has_records
                || !inbox.reads.is_empty()
                || !inbox.confirmations.is_empty()
                || (inbox.queues.is_some() && self.awaited.is_none())
                || inbox.is_stopping
                || (inbox.is_closed && !self.is_closed && inbox.records.is_empty());
            if has_work {
                break;
            }
            inbox = match due_at {
                None => self.shared.filled.wait(inbox).unwrap_or_else(std::sync::PoisonError::into_inner),
                Some(due_at) => {
                    let pause = due_at.saturating_duration_since(Instant::now());
                    if pause.is_zero() {
                        break;
                    }
                    let waited = self.shared.filled.wait_timeout(inbox, pause);
                    waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
                }
            };
        }
        let is_ready = self.awaited.is_none();
        let count = if is_ready { inbox.records.len().min(GROUP_RECORDS) } else { 0 };
        let records: Vec<_> = inbox.records.drain(..count).collect();
        self.reads.append(&mut inbox.reads);
        let confirmations = std::mem::take(&mut inbox.confirmations);
        let queues = if is_ready { inbox.queues.take() } else { None };
        self.is_closed = inbox.is_closed && inbox.records.is_empty();
        let is_stopping = inbox.is_stopping;
        drop(inbox);
        for Confirmation { output, below, refused } in confirmations {
            if let Some(queue) = self.queues.get_mut(&output) {
                queue.confirm(below, refused);
            }
        }
        // Before the records: an output that is new rather gets some of the last moment than lacks some of the next.
        if let Some(queues) = queues {
            self.set_queues(queues);
        }
        for (record, room) in records {
            self.push(&record, &Some(Arc::new(room)), false);
        }
        is_stopping
    }

    /// Puts a record into the queues of all outputs that want it, if it is exempt even into full ones.
    fn push(&mut self, record: &Arc<Record>, room: &Room, is_exempt: bool) {
        let mut encoded: BTreeMap<RecordFormat, Bytes> = BTreeMap::new();
        for (output, queue) in &mut self.queues {
            if !queue.settings.filter.takes(record) {
                continue;
            }
            let format = queue.settings.format;
            let bytes = match encoded.get(&format) {
                Some(bytes) => bytes.clone(),
                None => match encode(record, format) {
                    Ok(bytes) => encoded.entry(format).or_insert(bytes).clone(),
                    Err(error) => {
                        tracing::error!(output, id = record.event.id, %error, "a record cannot be encoded");
                        continue;
                    }
                },
            };
            let value = item::encode(&Item::new(record, bytes));
            queue.push(value, is_exempt, room.clone());
        }
    }

    /// Tells all outputs.
    fn tell(&mut self, notice: Notice) {
        let is_exempt = matches!(notice, Notice::Lost { .. });
        let record = Arc::new((self.describe)(notice));
        self.push(&record, &None, is_exempt);
        self.shared.notice(record);
    }

    fn open(&mut self) {
        self.retry_at = None;
        let opened = self.file.open().and_then(|(store, put_aside)| {
            let stored = store.queues()?;
            Ok((store, put_aside, stored))
        });
        let (store, put_aside, stored) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.failed(error),
        };
        self.store = Some(store);
        for (output, queue) in &mut self.queues {
            let totals = stored.iter().find(|(name, _)| name == output).map(|(_, totals)| *totals);
            queue.take_in(totals.unwrap_or_default());
        }
        if let Some(queues) = self.awaited.take() {
            self.set_queues(queues);
        }
        if let Some(put_aside) = put_aside {
            self.tell_put_aside(put_aside);
        }
    }

    fn tell_put_aside(&mut self, PutAside { path, reason }: PutAside) {
        let path = path.display().to_string();
        tracing::error!(path, reason, "the spool was damaged: it is put aside and a new one begun");
        self.tell(Notice::PutAside { path, reason });
    }

    /// Changes the queues; what others have on the disk stays there.
    fn set_queues(&mut self, settings: Vec<QueueSettings>) {
        let Some(store) = &self.store else {
            // The database is not open now: this waits for it like at the start, and records wait in memory.
            self.awaited = Some(settings);
            return;
        };
        let stored: BTreeMap<_, _> = match store.queues() {
            Ok(stored) => stored.into_iter().collect(),
            Err(error) => {
                self.awaited = Some(settings);
                return self.failed(error);
            }
        };
        let mut before = std::mem::take(&mut self.queues);
        for settings in settings {
            let output = settings.output.clone();
            let queue = match before.remove(&output) {
                Some(mut queue) => {
                    queue.settings = settings;
                    queue
                }
                None => Queue::new(settings, stored.get(&output).copied().unwrap_or_default()),
            };
            self.queues.insert(output, queue);
        }
        for (output, totals) in stored {
            if totals.records > 0 && !self.queues.contains_key(&output) {
                tracing::warn!(output, records = totals.records, "the spool keeps records of an output that is gone");
                self.tell(Notice::Unclaimed { output, records: totals.records });
            }
        }
    }

    fn commit_if_due(&mut self, is_stopping: bool) {
        let has_inserts = self.queues.values().any(|queue| !queue.inserts.is_empty());
        let has_removals = self.queues.values().any(Queue::has_removals);
        let now = Instant::now();
        if has_removals && self.removals_due.is_none() {
            self.removals_due = Some(now + REMOVAL_DELAY);
        }
        let is_due = has_inserts || (has_removals && (is_stopping || self.removals_due.is_some_and(|due| due <= now)));
        if !is_due || self.store.is_none() {
            if self.store.is_none() || !has_removals {
                self.removals_due = None;
            }
            return;
        }
        // Where the disk is full, what is removed first makes the room.
        if self.is_failing && has_removals && !self.commit(false) {
            return;
        }
        if self.commit(true) && self.is_failing {
            self.is_failing = false;
            self.retry_pause = FIRST_RETRY;
            tracing::info!("the spool is written again");
        }
    }

    /// Commits everything, or removals alone. Returns whether that worked.
    fn commit(&mut self, with_inserts: bool) -> bool {
        let Some(store) = &self.store else { return false };
        let is_changed = |queue: &&Queue| queue.has_removals() || (with_inserts && !queue.inserts.is_empty());
        let changes: Vec<_> = self
            .queues
            .iter()
            .filter(|(_, queue)| is_changed(queue))
            .map(|(output, queue)| Change {
                output,
                confirmed_below: queue.confirmed_below,
                on_way_below: queue.on_way_below,
                bounds: queue.settings.bounds,
                inserts: if with_inserts { &queue.inserts } else { &[] },
                next: queue.next,
            })
            .collect();
        match store.commit(&changes) {
            Ok(outcomes) => {
                let touched = self.queues.values_mut().filter(|queue| is_changed(&&**queue));
                for (queue, outcome) in touched.zip(&outcomes) {
                    queue.committed(outcome, with_inserts);
                }
                self.removals_due = None;
                true
            }
            Err(error) => {
                self.failed(error);
                false
            }
        }
    }

    /// The disk failed: what was to be written stays in memory, and the database is opened anew.
    fn failed(&mut self, error: StoreError) {
        self.store = None;
        self.retry_at = Some(Instant::now() + self.retry_pause);
        self.retry_pause = (self.retry_pause * 2).min(LONGEST_RETRY);
        match error {
            StoreError::Damaged(reason) => match self.file.put_aside(reason) {
                Ok(put_aside) => self.tell_put_aside(put_aside),
                Err(error) => tracing::error!(%error, "the damaged spool cannot be put aside"),
            },
            StoreError::Unusable(reason) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(reason, "the spool cannot be written: records wait in memory");
                    self.tell(Notice::Unwritable { reason });
                }
            }
        }
    }

    fn tell_losses(&mut self, is_stopping: bool) {
        let lost_flows = self.shared.late_flows.load(Ordering::Relaxed);
        let has_late = lost_flows > self.late_flows_told;
        let now = Instant::now();
        if !has_late {
            self.late_flows_since = now;
        }
        if !has_late && !self.queues.values().any(Queue::has_untold_losses) {
            self.losses_due = None;
            return;
        }
        let due_at = self.losses_told_at + LOSS_INTERVAL;
        if now < due_at && !is_stopping {
            self.losses_due = Some(due_at);
            return;
        }
        (self.losses_due, self.losses_told_at) = (None, now);
        let mut found: Vec<_> = self.queues.values_mut().flat_map(Queue::tell_losses).collect();
        if has_late {
            found.push(Notice::Lost {
                output: "spool".to_owned(),
                reason: LossReason::Late,
                count: lost_flows - self.late_flows_told,
                total: lost_flows,
                within: self.late_flows_since.elapsed(),
            });
            self.late_flows_told = lost_flows;
        }
        for notice in found {
            self.tell(notice);
        }
    }

    /// Answers who reads, as far as there is something to read.
    fn serve(&mut self) {
        let mut failure = None;
        for request in std::mem::take(&mut self.reads) {
            if request.answer.is_closed() {
                continue;
            }
            let Some(queue) = self.queues.get_mut(&request.output) else {
                // Before the queues are known; afterwards nobody reads what is none.
                if self.awaited.is_some() && !self.is_closed {
                    self.reads.push(request);
                }
                continue;
            };
            let from = request.from.max(queue.confirmed_below);
            let items = match self.store.as_ref().filter(|_| failure.is_none()) {
                Some(store) => match store.read(&request.output, from, request.limits) {
                    Ok((items, damaged)) => {
                        if !items.is_empty() {
                            queue.lose(LossReason::Damaged, damaged);
                        }
                        items
                    }
                    Err(error) => {
                        failure = Some(error);
                        Vec::new()
                    }
                },
                None => queue.read_memory(from, request.limits).unwrap_or_default(),
            };
            if let Some((last, _)) = items.last() {
                queue.on_way_below = queue.on_way_below.max(last + 1);
            } else if !self.is_closed || (self.store.is_some() && !queue.inserts.is_empty()) {
                self.reads.push(request);
                continue;
            }
            // An output that has ended meanwhile reads again when it comes back.
            let _ = request.answer.send(items);
        }
        if let Some(error) = failure {
            self.failed(error);
        }
    }
}

/// `record` in `format`, without its last newline.
fn encode(record: &Record, format: RecordFormat) -> Result<Bytes, serde_json::Error> {
    let mut bytes = Vec::new();
    format.encoding().write(record, &mut bytes)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    debug_assert!(record.event.dataset != Dataset::Alert || !bytes.is_empty());
    Ok(bytes.into())
}
