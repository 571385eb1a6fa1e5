//! Reading the kernel side's rings: what explains flows before the flows, and of several reports on one flow the last.

use std::{collections::HashMap, sync::Arc};

use crate::{
    alert::Record,
    daemon::start::Stages,
    decode::DecodeError,
    event::{Event, FlowKey, ReportReason},
    kernel::Ring,
};

/// Records read from a ring before the outputs and the other rings get their turn.
const BATCH: usize = 4_096;
/// Flows handled before what explains flows is read again: a batch takes long enough to fill the other rings.
const SHARE: usize = 256;
/// Batches of process events and captures read before the flows that they explain: more than their rings hold.
const EXPLANATION_BATCHES: usize = 64;

/// What is known of the rings from the last look into them.
#[derive(Debug, Default)]
pub(super) struct Rings {
    /// Room for events, kept from one look to the next.
    events: Vec<Event>,
    /// The ring of ordinary flows held more than was read.
    pub(super) more_flows: bool,
    /// The ring of flagged flows held more than was read.
    pub(super) more_flagged: bool,
    /// The last look into the rings found nothing.
    pub(super) is_idle: bool,
    /// Records of the kernel side that could not be decoded.
    pub(super) refused: u64,
}

impl Rings {
    /// Reads a ring of flows, after the rings that explain them, and lets the stages work.
    pub(super) fn read(&mut self, ring: Ring, stages: &mut Stages, ready: &mut Vec<Arc<Record>>) {
        let mut flows = std::mem::take(&mut self.events);
        let refused = &mut self.refused;
        let count = stages.kernel.read_ring(ring, BATCH, &mut flows, |error| refuse(refused, error));
        let explanations = self.explain(stages, ready);
        self.is_idle = count + explanations == 0;
        for (index, event) in latest_of_each(&mut flows).enumerate() {
            if index > 0 && index % SHARE == 0 {
                self.explain(stages, ready);
            }
            let Stages { kernel, pipeline, .. } = &mut *stages;
            pipeline.handle(event, kernel, ready);
        }
        self.events = flows;
        // What was made has to be handed on before more is read.
        let more = if ring == Ring::Flow { &mut self.more_flows } else { &mut self.more_flagged };
        *more = count == BATCH;
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
        while self.more_flows {
            self.read(Ring::Flow, stages, ready);
        }
    }
}

/// Of several reports on one flow in a batch only the last matters, because each is a whole snapshot, and of a hint
/// nothing once the end is told; the order of everything else stays. The end of a flagged flow does not stand for what
/// was before it: that it was attempted, and that it sent, are facts of their own.
fn latest_of_each(events: &mut Vec<Event>) -> impl Iterator<Item = Event> + use<'_> {
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
    events.drain(..).enumerate().filter_map(move |(index, event)| {
        let is_overtaken = |key| last.get(key).is_some_and(|last| *last > index);
        match &event {
            Event::FlowHint { key, .. } if is_overtaken(key) => None,
            Event::Flow(flow) if flow.reason != ReportReason::Closed && is_overtaken(&flow.key) => None,
            _ => Some(event),
        }
    })
}

fn refuse(count: &mut u64, error: DecodeError) {
    *count += 1;
    // The first one says it all; the count goes on.
    if *count == 1 {
        tracing::error!(%error, "a kernel record was refused");
    }
}
