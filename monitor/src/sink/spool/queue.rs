//! One output's queue as the spool's thread sees it.

use std::{collections::VecDeque, sync::atomic::Ordering, time::Instant};

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{
    LossReason, Notice, QueueSettings, item,
    store::{ITEM_OVERHEAD_BYTES, Insert, Outcome, Totals},
};
use crate::sink::delivery::{BatchLimits, Item};

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
    stored: Totals,
    losses: [Losses; 3],
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
    /// The queue of an output of which the disk has `stored`.
    pub(super) fn new(settings: QueueSettings, stored: Totals) -> Self {
        let losses = [LossReason::SpoolFull, LossReason::Refused, LossReason::Damaged].map(Losses::new);
        let mut queue = Self {
            settings,
            next: 0,
            inserts: Vec::new(),
            rooms: VecDeque::new(),
            confirmed_below: 0,
            removed_below: 0,
            on_way_below: 0,
            stored: Totals::default(),
            losses,
        };
        queue.take_in(stored);
        queue
    }

    /// Goes on from what the disk has, after it was opened.
    pub(super) fn take_in(&mut self, stored: Totals) {
        self.next = self.next.max(stored.next);
        self.stored = stored;
        if stored.records == 0 {
            let below = self.inserts.first().map_or(self.next, |insert| insert.number);
            self.confirmed_below = self.confirmed_below.max(below);
            self.removed_below = self.confirmed_below;
        }
        self.publish();
    }

    pub(super) fn push(&mut self, value: bytes::Bytes, is_exempt: bool, room: Room) {
        self.inserts.push(Insert { number: self.next, value, is_exempt });
        self.rooms.push_back(room);
        self.next += 1;
    }

    pub(super) fn confirm(&mut self, below: u64, refused: u64) {
        self.confirmed_below = self.confirmed_below.max(below.min(self.next));
        self.lose(LossReason::Refused, refused);
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

    fn publish(&self) {
        let waiting_bytes: u64 =
            self.inserts.iter().map(|insert| insert.value.len() as u64 + ITEM_OVERHEAD_BYTES).sum();
        let records = self.stored.records + self.inserts.len() as u64;
        self.settings.counters.set_max(self.settings.bounds.max_bytes);
        self.settings.counters.set_depth(records, self.stored.bytes + waiting_bytes, self.stored.oldest);
    }
}
