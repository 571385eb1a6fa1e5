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
/// Events of flows handled before what explains flows is read again, and before the outputs and the other rings get their
/// turn: a batch takes long enough to fill the other rings, and a flagged flow waits for no more than these.
const SHARE: usize = 128;
/// Batches of process events and captures read before the flows that they explain: more than their rings hold.
const EXPLANATION_BATCHES: usize = 64;

/// What is known of the rings from the last look into them.
#[derive(Debug, Default)]
pub(super) struct Rings {
    flagged: Unhandled,
    ordinary: Unhandled,
    /// The last look into the rings found nothing.
    pub(super) is_idle: bool,
    /// Records of the kernel side that could not be decoded.
    pub(super) refused: u64,
}

/// What was read of a ring of flows and is not handled yet.
#[derive(Debug, Default)]
struct Unhandled {
    events: VecDeque<Event>,
    /// The ring held at least a batch when it was read last.
    may_hold_more: bool,
}

impl Rings {
    /// Lets the stages work on the next share of a ring of flows, after the rings that explain them. What was made has to be
    /// handed on before more is read.
    pub(super) fn read(&mut self, ring: Ring, stages: &mut Stages, ready: &mut Vec<Arc<Record>>) {
        let mut unhandled = std::mem::take(self.of(ring));
        if unhandled.events.is_empty() {
            unhandled.read(ring, stages, &mut self.refused);
        }
        let explanations = self.explain(stages, ready);
        self.is_idle = unhandled.events.is_empty() && explanations == 0;
        for event in unhandled.events.drain(..SHARE.min(unhandled.events.len())) {
            let Stages { kernel, pipeline, .. } = &mut *stages;
            pipeline.handle(event, kernel, ready);
        }
        *self.of(ring) = unhandled;
    }

    /// Whether there is more of flagged flows than was handled.
    pub(super) fn more_flagged(&self) -> bool {
        self.flagged.has_more()
    }

    /// Whether there is more of ordinary flows than was handled.
    pub(super) fn more_flows(&self) -> bool {
        self.ordinary.has_more()
    }

    fn of(&mut self, ring: Ring) -> &mut Unhandled {
        if ring == Ring::Flow { &mut self.ordinary } else { &mut self.flagged }
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
        while self.more_flagged() {
            self.read(Ring::Flagged, stages, ready);
        }
        self.read(Ring::Flow, stages, ready);
        while self.more_flows() {
            self.read(Ring::Flow, stages, ready);
        }
    }
}

impl Unhandled {
    /// Reads a batch, where nothing is left of the last one.
    fn read(&mut self, ring: Ring, stages: &mut Stages, refused: &mut u64) {
        let mut events = Vec::from(std::mem::take(&mut self.events));
        let count = stages.kernel.read_ring(ring, BATCH, &mut events, |error| refuse(refused, error));
        keep_latest_of_each(&mut events);
        *self = Self { events: events.into(), may_hold_more: count == BATCH };
    }

    fn has_more(&self) -> bool {
        self.may_hold_more || !self.events.is_empty()
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
