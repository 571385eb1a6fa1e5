//! How flows end: which ends are known, which flows fell silent, and what is done at an end.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{FlowTable, Pipeline, RECORDS_AT_ONCE};
use crate::{
    alert::{Record, input::FlowMoment},
    event::{BootTime, Flow, FlowKey, Protocol, ReportReason},
    units::Duration,
};

/// How many reported ends are remembered: more than the kernel side can report before it removes the first of them.
const REPORTED_ENDS: usize = 1_024;
/// How long the end of a flow that was read from the table is remembered, in ns: longer than a report waits in a ring.
const COLLECTED_NS: u64 = 10_000_000_000;
/// Most ends read from the table that are remembered.
const COLLECTED: usize = 32_768;
/// A released TCP flow whose end nobody reports has ended when it is silent for this long, in ns.
const RELEASED_SILENCE_NS: u64 = 5_000_000_000;

/// The ends that are known.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Flows that have ended, or fell silent, and are still to be written: with the time of the end, if it is one.
    waiting: VecDeque<(FlowKey, Option<BootTime>)>,
    /// Flows whose end was read from the table, with their first sight and when that was: reports on them may still wait
    /// in a ring, and must not make them anew.
    collected: HashMap<FlowKey, (BootTime, BootTime)>,
    /// The last flows whose end was reported, with their first sight: the kernel side removes an entry after its last
    /// report, so that it may still be found in the table for a moment.
    reported: VecDeque<(FlowKey, BootTime)>,
}

impl Ends {
    /// The flows of a socket that was released have ended.
    pub(super) fn released(&mut self, keys: Vec<FlowKey>, at: BootTime) {
        self.waiting.extend(keys.into_iter().map(|key| (key, Some(at))));
    }

    /// Notes the flows that fell silent, unless those of the last time are not done yet.
    fn fell_silent(&mut self, keys: Vec<FlowKey>) {
        if self.waiting.is_empty() {
            self.waiting.extend(keys.into_iter().map(|key| (key, None)));
        }
    }

    /// The next flow that is still to be written.
    fn pop(&mut self) -> Option<(FlowKey, Option<BootTime>)> {
        self.waiting.pop_front()
    }

    /// Whether some are still to be written.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// An end was reported.
    pub(super) fn note_reported(&mut self, key: FlowKey, first_at: BootTime) {
        if self.reported.len() == REPORTED_ENDS {
            self.reported.pop_front();
        }
        self.reported.push_back((key, first_at));
    }

    /// The last flows whose end was reported, with their first sight.
    pub(super) fn reported(&self) -> HashSet<(FlowKey, BootTime)> {
        self.reported.iter().copied().collect()
    }

    /// An end was read from the table at `at`.
    pub(super) fn collect(&mut self, key: FlowKey, first_at: BootTime, at: BootTime) {
        self.collected.insert(key, (first_at, at));
    }

    /// Whether an end was read from the table.
    pub(super) fn is_collected(&self, key: &FlowKey, first_at: BootTime) -> bool {
        self.collected.get(key).is_some_and(|(of, _)| *of == first_at)
    }

    /// Forgets the ends on which no report waits any more.
    fn forget_old(&mut self, now: BootTime) {
        self.collected.retain(|_, (_, at)| now.since_ns(*at) < COLLECTED_NS);
    }

    /// Forgets ends before their time if there are too many: a report on one of them that still waits in a ring would then
    /// make a flow that falls silent.
    fn make_room(&mut self, now: BootTime) {
        if self.collected.len() < COLLECTED {
            return;
        }
        self.collected.retain(|_, (_, at)| now.since_ns(*at) < COLLECTED_NS / 10);
        if self.collected.len() >= COLLECTED {
            self.collected.clear();
        }
    }
}

impl Pipeline {
    /// Ends the flows that have no end of their own and fell silent. Called every few seconds.
    pub fn sweep(&mut self, now: BootTime, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        self.ends.forget_old(now);
        let idle = self.config.idle;
        let silent =
            self.live.iter().filter(|(_, live)| fell_silent(&live.flow, now, idle)).map(|(key, _)| *key).collect();
        self.ends.fell_silent(silent);
        self.end_some(now, table, outputs);
    }

    /// Ends flows that are known to have ended, or fell silent, until there are many records.
    pub(super) fn end_some(&mut self, now: BootTime, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        while outputs.len() < RECORDS_AT_ONCE
            && let Some((key, ended_at)) = self.ends.pop()
        {
            let last = table.read(&key, ended_at.unwrap_or(now));
            // One that fell silent may have moved since its last report.
            let has_moved = |last: &Flow| now.since_ns(last.last_at) < RELEASED_SILENCE_NS;
            if ended_at.is_none() && last.as_ref().is_some_and(has_moved) {
                continue;
            }
            self.end(&key, last, ended_at.unwrap_or(now), table, outputs);
        }
    }

    /// Ends a flow: `last` is its entry, if it was still there.
    pub(super) fn end(
        &mut self,
        key: &FlowKey,
        last: Option<Flow>,
        at: BootTime,
        table: &mut impl FlowTable,
        outputs: &mut Vec<Arc<Record>>,
    ) {
        if let Some(mut last) = last {
            table.forget(key);
            self.ends.make_room(at);
            self.ends.collect(*key, last.first_at, at);
            last.facts.closed = true;
            last.at = at;
            last.reason = ReportReason::Closed;
            self.take_in(&last, outputs);
        }
        if let Some(live) = self.live.remove(key) {
            self.totals.ended_flows += 1;
            self.describer.names.forget(key);
            self.writer.flow(&live.flow, &live.details, FlowMoment::Ended, outputs);
        }
    }

    /// Ends everything, for the end of the program: flows are written as they stand, and what was held back is told. To be
    /// called until it says that nothing is left.
    pub fn finish(&mut self, now: BootTime, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) -> bool {
        let keys: Vec<FlowKey> = self.live.iter().map(|(key, _)| *key).take(RECORDS_AT_ONCE).collect();
        for key in keys {
            if let Some(last) = table.read(&key, now) {
                self.take_in(&last, outputs);
            }
            if let Some(live) = self.live.remove(&key) {
                self.writer.flow(&live.flow, &live.details, FlowMoment::Progress, outputs);
            }
        }
        if self.live.len() > 0 {
            return true;
        }
        self.alerts.drain(now, &self.writer, outputs);
        false
    }
}

/// Whether a flow without an end of its own, or one whose end nobody reports, has ended by falling silent.
pub(super) fn fell_silent(flow: &Flow, now: BootTime, idle: Duration) -> bool {
    let silence_ns = now.since_ns(flow.last_at);
    let has_end = matches!(flow.key.protocol, Protocol::Tcp);
    if has_end {
        flow.facts.released && flow.facts.midstream && silence_ns >= RELEASED_SILENCE_NS
    } else {
        silence_ns >= idle.as_ns()
    }
}
