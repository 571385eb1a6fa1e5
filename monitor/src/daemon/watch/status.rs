//! Records of the monitor's own life: that it watches, and how.

use super::Watch;
use crate::{
    alert::input::{Phase, Status},
    host, kernel,
};

impl Watch {
    pub(super) fn status(&self, phase: Phase) -> Status {
        let totals = self.stages.pipeline.totals();
        Status {
            rung: Some(self.stages.kernel.rung.as_token().to_owned()),
            ownership_date: Some(self.stages.ownership_date),
            lists: Some(self.stages.enabled_lists),
            uptime_ns: (phase != Phase::Started).then(|| host::boot_time().since_ns(self.started_at)),
            flows: Some(totals.flows),
            alerts: Some(totals.alerts),
            losses: Some(self.loss_figures().iter().map(|loss| loss.count).sum()),
            degradations: self.degradation_tokens(),
            generation: Some(self.generation),
            needs_restart: self.needs_restart.clone(),
            ..Status::new(phase)
        }
    }

    /// What does not work, each once: what the host does not give, and what went wrong since the start.
    fn degradation_tokens(&self) -> Vec<String> {
        let mut tokens: Vec<_> =
            self.stages.kernel.degradations.iter().map(kernel::degradation::Degradation::as_token).collect();
        tokens.extend(self.troubles.tokens());
        tokens.dedup();
        tokens.into_iter().map(ToOwned::to_owned).collect()
    }
}
