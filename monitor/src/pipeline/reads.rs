//! When the entries of open flows are read again: once after each report, so that a flow that falls silent has its totals.

use std::{collections::VecDeque, sync::Arc};

use super::{FlowTable, Pipeline, live::LiveFlow};
use crate::{
    alert::Record,
    event::{BootTime, FlowKey},
};

/// How long after a report an open flow's entry is read again, in ns.
const READ_DELAY_NS: u64 = 2_000_000_000;

/// Open flows whose entries are to be read again, by when.
#[derive(Debug, Default)]
pub(super) struct Reads(VecDeque<(BootTime, FlowKey)>);

impl Reads {
    /// Plans one for a flow that was reported, or moved, at `at`, unless one is planned.
    fn plan(&mut self, key: FlowKey, live: &mut LiveFlow, at: BootTime) {
        if !live.is_read_planned {
            live.is_read_planned = true;
            self.0.push_back((BootTime(at.0.saturating_add(READ_DELAY_NS)), key));
        }
    }

    /// The next flow whose entry is to be read by `now`.
    pub(super) fn pop(&mut self, now: BootTime) -> Option<FlowKey> {
        if !self.is_due(now) {
            return None;
        }
        self.0.pop_front().map(|(_, key)| key)
    }

    /// Whether there is one to be read by `now`.
    pub(super) fn is_due(&self, now: BootTime) -> bool {
        self.next_due().is_some_and(|due_at| due_at <= now)
    }

    /// When the next one is to be read.
    pub(super) fn next_due(&self) -> Option<BootTime> {
        self.0.front().map(|(due_at, _)| *due_at)
    }
}

impl Pipeline {
    pub(super) fn plan_read(&mut self, key: FlowKey, at: BootTime) {
        if let Some(live) = self.live.get_mut(&key) {
            self.reads.plan(key, live, at);
        }
    }

    pub(super) fn read_again(
        &mut self,
        key: &FlowKey,
        now: BootTime,
        table: &mut impl FlowTable,
        outputs: &mut Vec<Arc<Record>>,
    ) {
        let Some(live) = self.live.get_mut(key) else { return };
        live.is_read_planned = false;
        let before = live.flow.counters;
        // Gone from the table: its last report waits in a ring.
        let Some(flow) = table.read(key, now) else { return };
        let moved = flow.counters != before;
        if moved {
            self.take_in(&flow, outputs);
            self.plan_read(*key, now);
            self.write_if_due(key, now, outputs);
        }
    }
}
