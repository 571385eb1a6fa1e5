//! What was lost since it was last told: by the kernel side, for want of room for flows, and of names.

use std::sync::Arc;

use monitor_common::loss::LossReason;

use super::Watch;
use crate::{
    alert::{
        Record, Timestamp,
        input::{LIVE_FLOWS_FULL, Loss, LossStage},
    },
    daemon::start::Stages,
    event::BootTime,
    host,
    kernel::Losses,
    names::NameLosses,
};

/// The losses that were told.
pub(super) struct ToldLosses {
    kernel: Losses,
    names: NameLosses,
    /// Flows beyond the bound.
    flows_beyond: u64,
    at: Timestamp,
}

/// What is to be made up for.
#[derive(Clone, Copy, Debug, Default)]
struct Missed {
    flow_reports: bool,
    flagged_reports: bool,
    process_events: bool,
}

impl ToldLosses {
    /// Nothing was lost at a start.
    pub(super) fn new(started_at: BootTime) -> Self {
        Self {
            kernel: Losses::default(),
            names: NameLosses::default(),
            flows_beyond: 0,
            at: host::wall_clock().at(started_at),
        }
    }

    /// What the kernel side lost.
    pub(super) const fn kernel(&self) -> &Losses {
        &self.kernel
    }

    /// Turns new losses into records.
    fn count(&mut self, losses: Losses, stages: &Stages, ready: &mut Vec<Arc<Record>>) -> Missed {
        let at = host::wall_clock().at(host::boot_time());
        let since = self.at;
        let mut missed = Missed::default();
        let mut tell = |stage, reason: &'static str, before: u64, total: u64, recoverable| {
            let count = total - before;
            let loss = Loss { stage, reason: reason.into(), count, total, since, recoverable, output: None };
            ready.push(Arc::new(stages.records.loss(at, loss)));
        };
        for ((reason, total), (_, before)) in losses.iter().zip(self.kernel.iter()) {
            if total > before {
                missed.flow_reports |= reason.is_flow_report();
                missed.flagged_reports |= reason == LossReason::FlaggedRingFull;
                missed.process_events |= reason == LossReason::ProcessRingFull;
                tell(LossStage::Kernel, reason.as_token(), before, total, reason.is_recoverable());
            }
        }
        let flows_beyond = stages.pipeline.flows_beyond();
        if flows_beyond > self.flows_beyond {
            // Their ends are told with their totals.
            tell(LossStage::Pipeline, LIVE_FLOWS_FULL, self.flows_beyond, flows_beyond, true);
        }
        let names = stages.pipeline.name_losses();
        for ((reason, total), (_, before)) in names.by_reason().into_iter().zip(self.names.by_reason()) {
            if total > before {
                tell(LossStage::Pipeline, reason, before, total, false);
            }
        }
        *self = Self { kernel: losses, names, flows_beyond, at };
        missed
    }
}

impl Watch {
    /// Tells new losses, and makes up for those that the flow table and `/proc` can make up for.
    pub(super) fn count_losses(&mut self) {
        let losses = match self.stages.kernel.losses() {
            Ok(losses) => losses,
            Err(error) => {
                tracing::warn!(%error, "the loss counters cannot be read");
                return;
            }
        };
        let missed = self.losses.count(losses, &self.stages, &mut self.ready);
        if missed.process_events {
            self.stages.pipeline.reseed_processes();
        }
        if missed.flow_reports {
            self.read_all();
            self.walks.make_up(missed.flagged_reports, &mut self.stages.pipeline);
        }
    }
}
