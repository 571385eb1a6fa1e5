//! The end: what is left in the rings, the flows that are still open, and the goodbye.

use std::sync::Arc;

use super::{Ended, Watch};
use crate::{
    alert::input::{Phase, Status},
    daemon::{outputs::Outputs, start::Stages},
    host,
};

impl Watch {
    /// Reads what is left. It takes the longer the more flows are open, and no output has a part in it.
    pub(in crate::daemon) fn collect(&mut self) {
        // What was in flight when the signal came is in the rings by now.
        self.read_all();
        self.count_losses();
        // Many records are made: they are handed over as they are.
        if self.walks.is_under_way() || self.stages.pipeline.has_flows_beyond() {
            self.walks.begin(&mut self.stages.pipeline);
        }
    }

    /// Makes some of the last records and hands them on; says whether there are more. An output that takes none for a
    /// while is not waited for again.
    pub(in crate::daemon) async fn hand_over(&mut self) -> bool {
        let now = host::boot_time();
        let mut has_more = true;
        if self.walks.is_under_way() {
            self.walks.finish_on(now, &mut self.stages, &mut self.ready);
        } else {
            let Stages { kernel, pipeline, .. } = &mut self.stages;
            has_more = pipeline.finish(now, kernel, &mut self.ready);
        }
        self.deliver().await;
        self.handover.hand_over(&mut self.figures).await;
        has_more
    }

    /// Hands the outputs what was collected, and says goodbye.
    pub(in crate::daemon) async fn finish(mut self, ended: Ended) -> Outputs {
        self.deliver().await;
        self.handover.hand_over_last(&mut self.figures).await;
        let status = Status { reason: Some(ended.as_token().to_owned()), ..self.status(Phase::Stopped) };
        let at = host::wall_clock().at(host::boot_time());
        let mut outputs = self.handover.outputs;
        outputs.leave_goodbye(&Arc::new(self.stages.records.status(at, status)));
        outputs
    }
}
