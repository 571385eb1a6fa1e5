//! The thread that owns the database.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Condition, Confirmation, Describe, Inbox, LossReason, Notice, QueueSettings, ReadRequest, Shared, item,
    queue::{Queue, Room},
    store::{Change, PutAside, Store, StoreError, StoreFile, Totals},
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
/// How often it is looked whether somebody has removed a database that was put aside.
const PUT_ASIDE_LOOK: Duration = Duration::from_secs(10);

pub(super) struct Appender {
    shared: Arc<Shared>,
    describe: Describe,
    file: StoreFile,
    store: Option<Store>,
    queues: BTreeMap<String, Queue>,
    reads: Vec<ReadRequest>,
    /// When the disk is tried again.
    retry_at: Option<Instant>,
    retry_pause: Duration,
    /// Why the disk takes nothing, which was told.
    failing: Option<String>,
    /// The database that was put aside last, while it is there.
    put_aside: Option<PutAside>,
    put_aside_look: Option<Instant>,
    /// What the disk has for outputs that the configuration does not name.
    unclaimed: BTreeMap<String, u64>,
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
        let queues = queues.into_iter().map(|settings| (settings.output.clone(), Queue::new(settings, None)));
        Self {
            shared,
            describe,
            file,
            store: None,
            queues: queues.collect(),
            reads: Vec::new(),
            retry_at: Some(Instant::now()),
            retry_pause: FIRST_RETRY,
            failing: None,
            put_aside: None,
            put_aside_look: None,
            unclaimed: BTreeMap::new(),
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
            self.look_for_put_aside();
            if self.store.is_none() {
                self.queues.values().for_each(Queue::publish);
            }
            let is_left =
                self.queues.values().any(|queue| !queue.inserts.is_empty()) || !self.shared.inbox().records.is_empty();
            if is_stopping && (self.store.is_none() || !is_left) {
                break;
            }
        }
        // Where the disk takes nothing, there may be more than were taken in at the end.
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
        let due_at =
            [self.retry_at, self.removals_due, self.losses_due, self.put_aside_look].into_iter().flatten().min();
        let mut inbox = self.shared.inbox();
        loop {
            let has_work = !inbox.records.is_empty()
                || !inbox.reads.is_empty()
                || !inbox.confirmations.is_empty()
                || inbox.queues.is_some()
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
        let count = inbox.records.len().min(GROUP_RECORDS);
        let records: Vec<_> = inbox.records.drain(..count).collect();
        self.reads.append(&mut inbox.reads);
        let confirmations = std::mem::take(&mut inbox.confirmations);
        let queues = inbox.queues.take();
        self.is_closed = inbox.is_closed && inbox.records.is_empty();
        let is_stopping = inbox.is_stopping;
        drop(inbox);
        for Confirmation { output, below, losses } in confirmations {
            if let Some(queue) = self.queues.get_mut(&output) {
                queue.confirm(below, losses);
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
            if queue.is_retired || !queue.settings.filter.takes(record) {
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
        self.note_unclaimed(stored);
        if let Some(put_aside) = put_aside {
            self.tell_put_aside(put_aside);
        }
    }

    fn tell_put_aside(&mut self, put_aside: PutAside) {
        let condition = put_aside_condition(&put_aside);
        tracing::error!(path = %put_aside.path.display(), reason = put_aside.reason, "the spool was damaged: it is put aside and a new one begun");
        self.put_aside = Some(put_aside);
        self.put_aside_look = Some(Instant::now() + PUT_ASIDE_LOOK);
        self.publish_conditions();
        self.tell(Notice::Began(condition));
    }

    /// Whoever has seen to a damaged database removes it.
    fn look_for_put_aside(&mut self) {
        if self.put_aside_look.is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.put_aside.take_if(|put_aside| !put_aside.path.exists());
        self.put_aside_look = self.put_aside.is_some().then(|| Instant::now() + PUT_ASIDE_LOOK);
        self.publish_conditions();
    }

    /// Changes the queues; what others have on the disk stays there, and what they have in memory gets there.
    fn set_queues(&mut self, settings: Vec<QueueSettings>) {
        let stored = self.store.as_ref().map(Store::queues).transpose().unwrap_or_else(|error| {
            self.failed(error);
            None
        });
        let totals: Option<BTreeMap<_, _>> = stored.as_ref().map(|stored| stored.iter().cloned().collect());
        let mut before = std::mem::take(&mut self.queues);
        for settings in settings {
            let output = settings.output.clone();
            let queue = if let Some(mut queue) = before.remove(&output) {
                (queue.settings, queue.is_retired) = (settings, false);
                queue
            } else {
                let totals = totals.as_ref().map(|totals| totals.get(&output).copied().unwrap_or_default());
                Queue::new(settings, totals)
            };
            self.queues.insert(output, queue);
        }
        for (output, mut queue) in before.into_iter().filter(|(_, queue)| !queue.is_settled()) {
            queue.is_retired = true;
            self.queues.insert(output, queue);
        }
        if let Some(stored) = stored {
            self.note_unclaimed(stored);
        }
    }

    /// Tells of what the disk has for outputs that are not there.
    fn note_unclaimed(&mut self, stored: Vec<(String, Totals)>) {
        let is_unclaimed =
            |(output, totals): &(String, Totals)| totals.records > 0 && !self.queues.contains_key(output);
        let now: BTreeMap<_, _> =
            stored.into_iter().filter(is_unclaimed).map(|(output, totals)| (output, totals.records)).collect();
        let before = std::mem::replace(&mut self.unclaimed, now.clone());
        self.publish_conditions();
        for (output, records) in now.into_iter().filter(|(output, _)| !before.contains_key(output)) {
            tracing::warn!(output, records, "the spool keeps records of an output that is gone");
            self.tell(Notice::Began(Condition::Unclaimed { output, records }));
        }
    }

    /// Lets the queues go that the configuration names no more and of which the disk has everything.
    fn drop_retired(&mut self) {
        let before = self.queues.len();
        self.queues.retain(|_, queue| !queue.is_retired || !queue.is_settled());
        if self.queues.len() == before {
            return;
        }
        match self.store.as_ref().map(Store::queues).transpose() {
            Ok(stored) => self.note_unclaimed(stored.unwrap_or_default()),
            Err(error) => self.failed(error),
        }
    }

    /// Says what does not work now.
    fn publish_conditions(&self) {
        let unwritable = self.failing.iter().map(|reason| Condition::Unwritable { reason: reason.clone() });
        let put_aside = self.put_aside.iter().map(put_aside_condition);
        let unclaimed = self.unclaimed.iter();
        let unclaimed = unclaimed.map(|(output, &records)| Condition::Unclaimed { output: output.clone(), records });
        self.shared.set_conditions(unwritable.chain(put_aside).chain(unclaimed).collect());
    }

    fn commit_if_due(&mut self, is_stopping: bool) {
        let has_inserts = self.queues.values().any(|queue| !queue.inserts.is_empty());
        let has_removals = self.queues.values().any(Queue::has_removals);
        let now = Instant::now();
        if has_removals && self.removals_due.is_none() {
            self.removals_due = Some(now + REMOVAL_DELAY);
        }
        // A disk that failed is good again once it takes a commit, and be it an empty one.
        let is_due = has_inserts
            || self.failing.is_some()
            || (has_removals && (is_stopping || self.removals_due.is_some_and(|due| due <= now)));
        if !is_due || self.store.is_none() {
            if self.store.is_none() || !has_removals {
                self.removals_due = None;
            }
            return;
        }
        // Where the disk is full, what is removed first makes the room.
        if self.failing.is_some() && has_removals && !self.commit(false) {
            return;
        }
        if !self.commit(true) {
            return;
        }
        if self.failing.take().is_some() {
            self.retry_pause = FIRST_RETRY;
            tracing::info!("the spool is written again");
            self.publish_conditions();
        }
        self.drop_retired();
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
        let reason = match error {
            StoreError::Damaged(reason) => match self.file.put_aside(reason) {
                Ok(put_aside) => return self.tell_put_aside(put_aside),
                Err(error) => format!("it is damaged and cannot be put aside: {error}"),
            },
            StoreError::Unusable(reason) => reason,
        };
        if self.failing.is_none() {
            tracing::error!(reason, "the spool cannot be written: records wait in memory");
            self.failing = Some(reason.clone());
            self.publish_conditions();
            self.tell(Notice::Began(Condition::Unwritable { reason }));
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
            // Nobody reads what is none.
            let Some(queue) = self.queues.get_mut(&request.output) else { continue };
            let from = queue.current(request.from).unwrap_or(0).max(queue.confirmed_below);
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

fn put_aside_condition(put_aside: &PutAside) -> Condition {
    Condition::PutAside { path: put_aside.path.display().to_string(), reason: put_aside.reason.clone() }
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
