//! One output's queue as the spool's thread sees it.

use std::{collections::VecDeque, sync::atomic::Ordering, time::Instant};

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{
    ConfirmedLosses, LossReason, Notice, QueueSettings, item,
    store::{ITEM_OVERHEAD_BYTES, Insert, Outcome, Totals},
};
use crate::sink::delivery::{BatchLimits, Item};

/// Numbers that are given before the database is known begin here: far beyond all that it can have.
const PROVISIONAL: u64 = 1 << 63;

/// Room in memory that a record takes until it is on the disk, or delivered.
pub(super) type Room = Option<Arc<OwnedSemaphorePermit>>;

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) settings: QueueSettings,
    /// Number of the next item.
    pub(super) next: u64,
    /// Items that are not on the disk yet.
    pub(super) inserts: Vec<Insert>,
    /// Their room, item by item.
    rooms: VecDeque<Room>,
    /// Everything below is delivered.
    pub(super) confirmed_below: u64,
    /// Everything below is removed from the disk.
    removed_below: u64,
    /// Everything below is on its way.
    pub(super) on_way_below: u64,
    numbering: Numbering,
    /// The configuration names it no more; it stays until the disk has what is in memory.
    pub(super) is_retired: bool,
    stored: Totals,
    losses: [Losses; 4],
}

/// What the numbers of items are.
#[derive(Clone, Copy, Debug)]
enum Numbering {
    /// Those of the database.
    Known,
    /// From [`PROVISIONAL`] on, until the database is known.
    Provisional,
    /// Those of the database; a task may still know provisional ones. They are so much less now; `None` where older items
    /// were found on the disk, which what such a number confirms must not sweep away.
    Moved { by: Option<u64> },
}

/// What was lost for one reason, and what of it is told.
#[derive(Debug)]
struct Losses {
    reason: LossReason,
    total: u64,
    told: u64,
    complete_until: Instant,
}

impl Losses {
    fn new(reason: LossReason) -> Self {
        Self { reason, total: 0, told: 0, complete_until: Instant::now() }
    }
}

impl Queue {
    /// The queue of an output of which the disk has `stored`; `None` while the database is not known, so that the output is
    /// fed from memory.
    pub(super) fn new(settings: QueueSettings, stored: Option<Totals>) -> Self {
        let losses = [LossReason::SpoolFull, LossReason::Refused, LossReason::DeadLetterFull, LossReason::Damaged]
            .map(Losses::new);
        let mut queue = Self {
            settings,
            next: 0,
            inserts: Vec::new(),
            rooms: VecDeque::new(),
            confirmed_below: 0,
            removed_below: 0,
            on_way_below: 0,
            numbering: Numbering::Known,
            is_retired: false,
            stored: Totals::default(),
            losses,
        };
        if let Some(stored) = stored {
            queue.take_in(stored);
        } else {
            queue.numbering = Numbering::Provisional;
            (queue.next, queue.confirmed_below, queue.removed_below) = (PROVISIONAL, PROVISIONAL, PROVISIONAL);
            queue.publish();
        }
        queue
    }

    /// Goes on from what the disk has, after it was opened.
    pub(super) fn take_in(&mut self, stored: Totals) {
        if matches!(self.numbering, Numbering::Provisional) {
            self.renumber(stored);
        }
        self.next = self.next.max(stored.next);
        self.stored = stored;
        if stored.records == 0 {
            let below = self.inserts.first().map_or(self.next, |insert| insert.number);
            self.confirmed_below = self.confirmed_below.max(below);
            self.removed_below = self.confirmed_below;
        }
        self.publish();
    }

    /// Puts what is in memory behind what the disk has.
    fn renumber(&mut self, stored: Totals) {
        let first = self.inserts.first().map_or(self.next, |insert| insert.number);
        let by = first.saturating_sub(stored.next);
        for insert in &mut self.inserts {
            insert.number -= by;
        }
        self.next -= by;
        let is_first = stored.records == 0;
        self.on_way_below = if is_first { self.on_way_below.max(first) - by } else { 0 };
        (self.confirmed_below, self.removed_below) = (0, 0);
        self.numbering = Numbering::Moved { by: is_first.then_some(by) };
    }

    /// What `number`, which a task has from an earlier read, is now. `None`: items on the disk come before it, so that what
    /// it stands for is delivered once more, after them.
    pub(super) fn current(&self, number: u64) -> Option<u64> {
        match self.numbering {
            Numbering::Moved { by } if number >= PROVISIONAL => by.map(|by| number.saturating_sub(by)),
            _ => Some(number),
        }
    }

    pub(super) fn push(&mut self, value: bytes::Bytes, is_exempt: bool, room: Room) {
        self.inserts.push(Insert { number: self.next, value, is_exempt });
        self.rooms.push_back(room);
        self.next += 1;
    }

    pub(super) fn confirm(&mut self, below: u64, losses: ConfirmedLosses) {
        // Unlike a refusal, this does not happen again when the batch does.
        self.lose(LossReason::DeadLetterFull, losses.pushed_out);
        let Some(below) = self.current(below) else { return };
        self.confirmed_below = self.confirmed_below.max(below.min(self.next));
        self.lose(LossReason::Refused, losses.refused);
        // What was delivered from memory needs no place on the disk.
        let delivered = self.inserts.partition_point(|insert| insert.number < self.confirmed_below);
        self.inserts.drain(..delivered);
        self.rooms.drain(..delivered);
    }

    pub(super) const fn has_removals(&self) -> bool {
        self.removed_below < self.confirmed_below
    }

    /// Takes note of a commit: everything up to now is on the disk.
    pub(super) fn committed(&mut self, outcome: &Outcome, with_inserts: bool) {
        let has_removed = self.has_removals();
        // What tells of losses finds room beyond the bound.
        let had_inserts = with_inserts && self.inserts.iter().any(|insert| !insert.is_exempt);
        if with_inserts {
            self.inserts.clear();
            self.rooms.clear();
        }
        self.removed_below = self.confirmed_below;
        self.stored = outcome.totals;
        self.lose(LossReason::SpoolFull, outcome.dropped);
        self.settings.counters.dropped_records.fetch_add(outcome.dropped, Ordering::Relaxed);
        if had_inserts || has_removed {
            self.settings.counters.is_dropping.store(outcome.dropped > 0, Ordering::Relaxed);
        }
        self.publish();
    }

    /// What is not on the disk yet, from number `from` on; `None` if older items on the disk come before.
    pub(super) fn read_memory(&self, from: u64, limits: BatchLimits) -> Option<Vec<(u64, Item)>> {
        let from = from.max(self.confirmed_below);
        self.inserts.first().filter(|first| first.number <= from)?;
        let mut bytes = 0;
        let mut items = Vec::new();
        for insert in self.inserts.iter().filter(|insert| insert.number >= from) {
            let Some(item) = item::decode(&insert.value) else { continue };
            if !items.is_empty() && (items.len() >= limits.items || bytes + item.bytes.len() > limits.bytes) {
                break;
            }
            bytes += item.bytes.len();
            items.push((insert.number, item));
        }
        Some(items)
    }

    pub(super) fn lose(&mut self, reason: LossReason, count: u64) {
        if reason == LossReason::Damaged {
            self.settings.counters.damaged_records.fetch_add(count, Ordering::Relaxed);
        }
        for losses in self.losses.iter_mut().filter(|losses| losses.reason == reason) {
            if losses.total == losses.told {
                losses.complete_until = Instant::now();
            }
            losses.total += count;
        }
    }

    pub(super) fn has_untold_losses(&self) -> bool {
        self.losses.iter().any(|losses| losses.told < losses.total)
    }

    /// What is to be told of losses.
    pub(super) fn tell_losses(&mut self) -> Vec<Notice> {
        let output = &self.settings.output;
        let untold = self.losses.iter_mut().filter(|losses| losses.told < losses.total);
        untold
            .map(|losses| {
                let count = losses.total - losses.told;
                losses.told = losses.total;
                Notice::Lost {
                    output: output.clone(),
                    reason: losses.reason,
                    count,
                    total: losses.total,
                    within: losses.complete_until.elapsed(),
                }
            })
            .collect()
    }

    /// Whether nothing of it is in memory that the disk does not know.
    pub(super) fn is_settled(&self) -> bool {
        self.inserts.is_empty() && !self.has_removals()
    }

    /// Shows what waits.
    pub(super) fn publish(&self) {
        let waiting_bytes: u64 =
            self.inserts.iter().map(|insert| insert.value.len() as u64 + ITEM_OVERHEAD_BYTES).sum();
        let records = self.stored.records + self.inserts.len() as u64;
        self.settings.counters.set_max(self.settings.bounds.max_bytes);
        let in_memory = || self.inserts.first().and_then(|insert| item::decode(&insert.value)).map(|item| item.time);
        let oldest = self.stored.oldest.or_else(in_memory);
        self.settings.counters.set_depth(records, self.stored.bytes + waiting_bytes, oldest);
    }
}
