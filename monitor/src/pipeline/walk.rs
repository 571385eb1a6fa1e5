//! Open flows that are not kept, for want of room or memory: they are given up here, and walks through the kernel's table
//! meet them again, for their ends. A walk also takes in the flows that nothing was known of yet.

use std::sync::Arc;

use super::{FlowTable, Pipeline, Released, ends::fell_silent};
use crate::{
    alert::{Record, input::FlowMoment},
    event::{BootTime, Flow, ReportReason},
    limits::Demand,
};

/// Flows given up at once while memory is short, as a part of those that there are.
const SHED_PART: usize = 8;

impl Pipeline {
    /// Whether there are open flows that are not kept, so that the kernel's table has to be walked for their ends.
    #[must_use]
    pub fn has_flows_beyond(&self) -> bool {
        self.beyond.is_any()
    }

    /// Open flows for which there was no room so far.
    #[must_use]
    pub const fn flows_beyond(&self) -> u64 {
        self.beyond.count()
    }

    /// Whether sockets were released whose flows a walk has to end.
    #[must_use]
    pub fn has_released(&self) -> bool {
        self.beyond.has_released()
    }

    /// A walk through the kernel's table begins: what is known to have been released.
    #[must_use]
    pub fn begin_walk(&mut self, now: BootTime) -> Released {
        self.beyond.begin_walk(now)
    }

    /// A walk that began with `released` has come to its end: the flows of those sockets were ended.
    pub fn walked(&mut self, released: &Released) {
        self.beyond.walked(released);
    }

    /// Does what the resident memory asks for.
    pub fn relieve(&mut self, demand: Demand) {
        let fewer = match demand {
            Demand::Ease if self.live.is_held_down() => return self.live.ease(),
            Demand::Ease => return,
            Demand::Hold => 0,
            Demand::Shed => self.live.len() / SHED_PART,
        };
        for key in self.live.hold_down(fewer) {
            if let Some(live) = self.live.remove(&key) {
                self.beyond.note_kept(&key, live.flow.first_at);
            }
        }
    }

    /// Takes in the whole flow table: for what is there at start, and after reports found no room in a ring.
    pub fn resync(&mut self, flows: Vec<Flow>, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        let reported = self.ends.reported();
        for mut flow in flows {
            if reported.contains(&(flow.key, flow.first_at)) {
                continue;
            }
            if flow.facts.closed {
                // As one that ends it is described whether there is room or not.
                flow.reason = ReportReason::Closed;
                let (key, at) = (flow.key, flow.at);
                // Its last report may have come between the reading of the ring and that of the table.
                if !self.ends.is_collected(&key, flow.first_at) {
                    self.ends.collect(key, flow.first_at, at);
                    self.take_in(&flow, outputs);
                    self.end(&key, None, at, table, outputs);
                }
                table.forget(&key);
            } else if self.beyond.is_any() && !self.live.contains(&flow.key) {
                self.look_beyond(flow, table, outputs);
            } else {
                self.flow(&flow, table, outputs);
            }
        }
    }

    /// Ends an open flow that is not kept, if its socket was released or it fell silent; keeps it if there is room now. One
    /// that is not known is taken in like a new one: it may be.
    fn look_beyond(&mut self, flow: Flow, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        let (key, at) = (flow.key, flow.at);
        let has_ended = self.beyond.is_released(key.socket_cookie) || fell_silent(&flow, at, self.config.idle);
        if has_ended {
            self.end(&key, Some(flow), at, table, outputs);
        } else if !self.beyond.is_known(&key, flow.first_at) || self.live.has_room(flow.facts.flagged) {
            self.flow(&flow, table, outputs);
        } else {
            self.beyond.note(&key, flow.first_at);
        }
    }

    /// Writes open flows that are not kept as they stand, for the end of the program; before [`Self::finish`].
    pub fn finish_beyond(&mut self, flows: Vec<Flow>, outputs: &mut Vec<Arc<Record>>) {
        let reported = self.ends.reported();
        for mut flow in flows {
            let is_told =
                reported.contains(&(flow.key, flow.first_at)) || self.ends.is_collected(&flow.key, flow.first_at);
            if is_told || self.live.contains(&flow.key) {
                continue;
            }
            let moment = if flow.facts.closed { FlowMoment::Ended } else { FlowMoment::Progress };
            // As one that ends it is described whether there is room or not.
            flow.reason = ReportReason::Closed;
            self.take_in(&flow, outputs);
            if let Some(live) = self.live.remove(&flow.key) {
                self.writer.flow(&live.flow, &live.details, moment, outputs);
            }
        }
    }
}
