//! Who is held: running processes up to a ceiling, ended ones up to another.

use std::time::{Duration, Instant};

use super::{Entry, Table};
use crate::event::ProcessKey;

/// Least time between two sweeps for processes whose end was missed, each of which reads a file per process.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

impl Table {
    /// Adds a process that is not held. Whoever had its pid before has ended, even if nobody said so.
    pub(super) fn insert(&mut self, key: ProcessKey, entry: Entry) {
        let holder = self.by_pid.get(&key.pid).copied();
        let is_newest = holder.is_none_or(|holder| holder.start_ticks <= key.start_ticks);
        if let Some(holder) = holder
            && is_newest
        {
            self.retire(holder);
        }
        if self.running >= self.running_limit && !self.make_room() {
            self.counters.not_recorded += 1;
            return;
        }
        self.processes.insert(key, entry);
        self.running += 1;
        if is_newest {
            self.by_pid.insert(key.pid, key);
        } else {
            self.retire(key);
        }
    }

    /// Marks a process as ended and gives up those that ended first if there are too many.
    pub(super) fn retire(&mut self, key: ProcessKey) {
        let Some(entry) = self.processes.get_mut(&key).filter(|entry| entry.ended.is_none()) else { return };
        self.ends += 1;
        entry.ended = Some(self.ends);
        self.running -= 1;
        self.ended.push_back((key, self.ends));
        while self.ended.len() > self.ended_limit {
            let Some((oldest, end)) = self.ended.pop_front() else { return };
            // A process that turned out to run after all has left a place in the queue that is not its own any more.
            if self.processes.get(&oldest).is_some_and(|entry| entry.ended == Some(end)) {
                self.processes.remove(&oldest);
                if self.by_pid.get(&oldest.pid) == Some(&oldest) {
                    self.by_pid.remove(&oldest.pid);
                }
                self.counters.evicted += 1;
            }
        }
    }

    /// Marks a held process as running. One whose pid has gone to a later one stays ended, because this is late news
    /// of its past; so does one for which there is no room.
    pub(super) fn revive(&mut self, key: ProcessKey) {
        let is_newest = self.by_pid.get(&key.pid) == Some(&key);
        if !is_newest || self.processes.get(&key).is_none_or(|entry| entry.ended.is_none()) {
            return;
        }
        if self.running >= self.running_limit && !self.make_room() {
            self.counters.not_recorded += 1;
        } else if let Some(entry) = self.processes.get_mut(&key) {
            entry.ended = None;
            self.running += 1;
        }
    }

    /// The running process with this pid.
    pub(super) fn running_with_pid(&self, pid: u32) -> Option<ProcessKey> {
        let key = *self.by_pid.get(&pid)?;
        self.processes.get(&key)?.ended.is_none().then_some(key)
    }

    /// The held process that an event means: by pid alone if it has no start.
    pub(super) fn held(&self, key: ProcessKey) -> Option<ProcessKey> {
        let key = if key.start_ticks == 0 { *self.by_pid.get(&key.pid)? } else { key };
        self.processes.contains_key(&key).then_some(key)
    }

    /// Retires the processes that `/proc` does not show any more: their ends were lost.
    pub(super) fn retire_gone(&mut self) {
        let gone: Vec<ProcessKey> = self
            .processes
            .iter()
            .filter(|(key, entry)| entry.ended.is_none() && !self.is_shown(**key, entry))
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            self.retire(key);
        }
    }

    /// Whether there is room for one more running process, after a sweep if that is due.
    fn make_room(&mut self) -> bool {
        let now = Instant::now();
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_INTERVAL) {
            self.swept = Some(now);
            self.retire_gone();
        }
        self.running < self.running_limit
    }

    fn is_shown(&self, key: ProcessKey, entry: &Entry) -> bool {
        let tolerance_ticks = u64::from(entry.start_estimated);
        self.proc
            .stat(key.pid)
            .is_some_and(|stat| !stat.is_zombie && stat.start_ticks.abs_diff(key.start_ticks) <= tolerance_ticks)
    }
}
