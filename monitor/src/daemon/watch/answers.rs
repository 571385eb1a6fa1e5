//! Answers to clients of the control socket and of the metrics endpoint. Open flows are told in shares, as clients take them.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::Watch;
use crate::{control::Question, daemon::start::Stages, event::FlowKey, host};

/// Flows of an answer that are made at a time.
const ANSWER_SHARE: usize = 256;

/// The open flows that a client has not been told of, and where it is told.
type FlowsAnswer = (VecDeque<FlowKey>, mpsc::Sender<Vec<String>>);

/// Clients that are told of the open flows, the first of them at the moment.
#[derive(Debug, Default)]
pub(super) struct Answers(VecDeque<FlowsAnswer>);

impl Answers {
    /// Whether there are clients that are not told of all.
    pub(super) fn are_waiting(&self) -> bool {
        !self.0.is_empty()
    }

    /// Waits until the first client takes more of its answer, or has gone.
    pub(super) async fn room(&self) {
        if let Some((_, answer)) = self.0.front() {
            // What was reserved is given back at once: nobody else sends.
            let _ = answer.reserve().await;
        }
    }

    /// Tells a client of some more live flows.
    pub(super) fn go_on(&mut self, stages: &Stages) {
        let now = host::boot_time();
        let Some((keys, answer)) = self.0.front_mut() else { return };
        let share: Vec<FlowKey> = keys.drain(..keys.len().min(ANSWER_SHARE)).collect();
        let (pipeline, kernel) = (&stages.pipeline, &stages.kernel);
        let records = share.iter().filter_map(|key| pipeline.live_record(key, now, kernel));
        // A record serialises by construction; one that does not is left out.
        let lines = records.filter_map(|record| serde_json::to_string(&record).ok()).collect();
        // The client may have gone meanwhile.
        if answer.try_send(lines).is_err() || keys.is_empty() {
            self.0.pop_front();
        }
    }
}

impl Watch {
    /// Whoever asked may have gone meanwhile.
    pub(super) fn answer(&mut self, question: Question) {
        match question {
            Question::Flows(answer) => self.answers.0.push_back((self.stages.pipeline.live_keys().into(), answer)),
            Question::Snapshot(answer) => drop(answer.send(Box::new(self.snapshot(host::boot_time())))),
        }
    }
}
