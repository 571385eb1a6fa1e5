//! Reading the kernel side's rings: what explains flows before the flows, and of several reports on one flow the last.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    alert::Record,
    daemon::start::Stages,
    decode::DecodeError,
    event::{Event, FlowKey, ReportReason},
    kernel::Ring,
};

/// Records read from a ring at once.
const BATCH: usize = 4_096;
/// Of ordinary flows, those handled before the outputs and the other rings get their turn: a flagged flow waits for no more
/// than these.
const SHARE: usize = 128;
/// Batches of process events and captures read before the flows that they explain: more than their rings hold.
const EXPLANATION_BATCHES: usize = 64;

/// What is known of the rings from the last look into them.
#[derive(Debug, Default)]
pub(super) struct Rings {
    /// Room for events of flagged flows, kept from one look to the next.
    flagged: Vec<Event>,
    /// What was read of ordinary flows and is not handled yet.
    unhandled: VecDeque<Event>,
    /// The ring of ordinary flows held at least a batch when it was read last.
    may_hold_more: bool,
    /// The ring of flagged flows held more than was read.
    pub(super) more_flagged: bool,
    /// The last look into the rings found nothing.
    pub(super) is_idle: bool,
    /// Records of the kernel side that could not be decoded.
    pub(super) refused: u64,
}

impl Rings {
    /// Reads a ring of flows, after the rings that explain them, and lets the stages work. What was made has to be handed on
    /// before more is read.
    pub(super) fn read(&mut self, ring: Ring, stages: &mut Stages, ready: &mut Vec<Arc<Record>>) {
        if ring == Ring::Flow {
            self.read_flows(stages, ready);
            return;
        }
        let mut events = std::mem::take(&mut self.flagged);
        self.more_flagged = self.read_batch(ring, stages, &mut events);
        self.explain(stages, ready);
        for event in events.drain(..) {
            let Stages { kernel, pipeline, .. } = &mut *stages;
            pipeline.handle(event, kernel, ready);
        }
        self.flagged = events;
    }

    fn read_flows(&mut self, stages: &mut Stages, ready: &mut Vec<Arc<Record>>) {
        if self.unhandled.is_empty() {
            let mut events = Vec::from(std::mem::take(&mut self.unhandled));
            self.may_hold_more = self.read_batch(Ring::Flow, stages, &mut events);
            self.unhandled = events.into();
        }
        let explanations = self.explain(stages, ready);
        self.is_idle = self.unhandled.is_empty() && explanations == 0;
        for event in self.unhandled.drain(..SHARE.min(self.unhandled.len())) {
            let Stages { kernel, pipeline, .. } = &mut *stages;
            pipeline.handle(event, kernel, ready);
        }
    }

    /// Whether there is more of ordinary flows than was handled.
    pub(super) fn more_flows(&self) -> bool {
        self.may_hold_more || !self.unhandled.is_empty()
    }

    /// Reads a batch of a ring of flows, and says whether the ring may hold more.
    fn read_batch(&mut self, ring: Ring, stages: &mut Stages, events: &mut Vec<Event>) -> bool {
        let refused = &mut self.refused;
        let count = stages.kernel.read_ring(ring, BATCH, events, |error| refuse(refused, error));
        keep_latest_of_each(events);
        count == BATCH
    }

    /// Reads what explains flows: process events, then captured payload. Says how much there was.
    pub(super) fn explain(&mut self, stages: &mut Stages, ready: &mut Vec<Arc<Record>>) -> usize {
        let Stages { kernel, pipeline, .. } = stages;
        let mut explanations = Vec::new();
        for ring in [Ring::Process, Ring::Capture] {
            for _ in 0..EXPLANATION_BATCHES {
                let refused = &mut self.refused;
                if kernel.read_ring(ring, BATCH, &mut explanations, |error| refuse(refused, error)) < BATCH {
                    break;
                }
            }
        }
        let count = explanations.len();
        for event in explanations {
            pipeline.handle(event, kernel, ready);
        }
        count
    }

    /// Reads until both rings of flows are empty: at the end, or before the flow table is read.
    pub(super) fn read_all(&mut self, stages: &mut Stages, ready: &mut Vec<Arc<Record>>) {
        self.read(Ring::Flagged, stages, ready);
        while self.more_flagged {
            self.read(Ring::Flagged, stages, ready);
        }
        self.read(Ring::Flow, stages, ready);
        while self.more_flows() {
            self.read(Ring::Flow, stages, ready);
        }
    }
}

/// Of several reports on one flow in a batch only the last matters, because each is a whole snapshot, and of a hint
/// nothing once the end is told; the order of everything else stays. The end of a flagged flow does not stand for what
/// was before it: that it was attempted, and that it sent, are facts of their own.
fn keep_latest_of_each(events: &mut Vec<Event>) {
    let mut last: HashMap<FlowKey, usize> = HashMap::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        match event {
            Event::FlowHint { key, .. } => drop(last.insert(*key, index)),
            Event::Flow(flow) if flow.reason != ReportReason::Closed || !flow.facts.flagged => {
                last.insert(flow.key, index);
            }
            _ => {}
        }
    }
    let mut index = 0;
    events.retain(|event| {
        let is_overtaken = |key| last.get(key).is_some_and(|last| *last > index);
        let keeps = match event {
            Event::FlowHint { key, .. } => !is_overtaken(key),
            Event::Flow(flow) => flow.reason == ReportReason::Closed || !is_overtaken(&flow.key),
            _ => true,
        };
        index += 1;
        keeps
    });
}

fn refuse(count: &mut u64, error: DecodeError) {
    *count += 1;
    // The first one says it all; the count goes on.
    if *count == 1 {
        tracing::error!(%error, "a kernel record was refused");
    }
}
