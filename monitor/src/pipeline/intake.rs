//! From a report on a flow, or a name, to what is known of the flow: described, kept if there is room, judged, written.

use std::sync::Arc;

use super::{FlowTable, Pipeline, describe::Details, live::LiveFlow};
use crate::{
    alert::{Record, input::FlowMoment},
    event::{BootTime, Capture, Flow, FlowKey, ReportReason},
};

impl Pipeline {
    /// Takes in a report on a flow.
    pub(super) fn flow(&mut self, flow: &Flow, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        let (key, at) = (flow.key, flow.at);
        if self.ends.is_collected(&key, flow.first_at) {
            return;
        }
        if flow.facts.untracked {
            self.totals.flows += 1;
            let details = self.describe(flow);
            self.alerts.observe(flow, &details, &self.writer, outputs);
            self.writer.flow(flow, &details, FlowMoment::Ended, outputs);
            return;
        }
        if flow.reason == ReportReason::Closed {
            self.ends.note_reported(key, flow.first_at);
            if self.live.get_mut(&key).is_none() {
                self.flow_that_was(flow, outputs);
                return;
            }
            self.take_in(flow, outputs);
            self.end(&key, None, at, table, outputs);
            return;
        }
        self.take_in(flow, outputs);
        self.plan_read(key, at);
        self.write_if_due(&key, at, outputs);
    }

    /// Takes in a flow whose end is the first that is told of it: most are over before anybody looks.
    fn flow_that_was(&mut self, flow: &Flow, outputs: &mut Vec<Arc<Record>>) {
        let details = self.describe(flow);
        self.totals.flows += 1;
        self.totals.ended_flows += 1;
        if details.actor.is_none() {
            self.totals.unattributed_flows += 1;
        }
        self.alerts.observe(flow, &details, &self.writer, outputs);
        self.describer.names.forget(&flow.key);
        self.writer.flow(flow, &details, FlowMoment::Ended, outputs);
    }

    /// Makes `flow` what is known of its flow, and tells the policy. An older snapshot than the known one is ignored.
    pub(super) fn take_in(&mut self, flow: &Flow, outputs: &mut Vec<Arc<Record>>) {
        let key = flow.key;
        let (details, is_news) = match self.live.get_mut(&key) {
            Some(live) if flow.at < live.flow.at && flow.reason != ReportReason::Closed => return,
            Some(live) => {
                let is_news = live.flow.counters != flow.counters || live.flow.facts != flow.facts;
                // A process that executes another file is another actor.
                let acting = |flow: &Flow| flow.actor().map(|actor| (actor.process, actor.executable));
                let same_actor = acting(&live.flow) == acting(flow);
                let same_address = live.flow.translated == flow.translated;
                let known = [live.flow.connector.take(), live.flow.sender.take()];
                live.flow.clone_from(flow);
                for (identity, known) in [&mut live.flow.connector, &mut live.flow.sender].into_iter().zip(known) {
                    if *identity == known {
                        *identity = known;
                    }
                }
                (
                    if same_actor && same_address { Some(Arc::clone(&live.details)) } else { None },
                    is_news || !same_actor,
                )
            }
            None => (None, true),
        };
        let details = details.unwrap_or_else(|| self.describe_live(flow));
        if is_news {
            self.alerts.observe(flow, &details, &self.writer, outputs);
        }
    }

    /// Takes names in. They belong to the flow from its beginning, so a flow that was told of already is described anew.
    pub(super) fn learn(&mut self, capture: &Capture, outputs: &mut Vec<Arc<Record>>) {
        if !self.describer.names.take_in(capture).of_flow {
            return;
        }
        let Some(flow) = self.live.get_mut(&capture.key).map(|live| live.flow.clone()) else { return };
        let details = self.describe_live(&flow);
        self.alerts.observe(&flow, &details, &self.writer, outputs);
    }

    /// What is found out about a flow, shared with flows of which the same was found out.
    fn describe(&mut self, flow: &Flow) -> Arc<Details> {
        let details = self.describer.describe(flow, self.writer.clock, self.alerts.need_files());
        self.live.share_details(details)
    }

    /// Describes a flow that is new, or whose sender or address changed, and keeps it.
    fn describe_live(&mut self, flow: &Flow) -> Arc<Details> {
        let details = self.describe(flow);
        if self.live.describe(&flow.key, &details) {
            return details;
        }
        let is_ending = flow.reason == ReportReason::Closed;
        let is_kept = is_ending || self.live.has_room(!details.matches.is_empty());
        let is_counted = if is_kept {
            self.beyond.forget(&flow.key, flow.first_at)
        } else {
            self.beyond.note(&flow.key, flow.first_at)
        };
        if !is_counted {
            self.totals.flows += 1;
            if details.actor.is_none() {
                self.totals.unattributed_flows += 1;
            }
        }
        if !is_kept {
            return details;
        }
        let live = LiveFlow {
            flow: self.live.share_identities(flow.clone()),
            details: Arc::clone(&details),
            is_read_planned: false,
            written_at: flow.first_at,
            written_bytes: 0,
        };
        self.live.insert(flow.key, live);
        details
    }

    /// Writes an open flow that goes on, if it moved and was not written for the interval.
    pub(super) fn write_if_due(&mut self, key: &FlowKey, at: BootTime, outputs: &mut Vec<Arc<Record>>) {
        let interval_ns = self.config.interval.as_ns();
        let Some(live) = self.live.get_mut(key) else { return };
        let moved_bytes = live.moved_bytes();
        if at.since_ns(live.written_at) < interval_ns || moved_bytes == live.written_bytes {
            return;
        }
        live.written_at = at;
        live.written_bytes = moved_bytes;
        let (flow, details) = (live.flow.clone(), Arc::clone(&live.details));
        self.writer.flow(&flow, &details, FlowMoment::Progress, outputs);
    }
}
