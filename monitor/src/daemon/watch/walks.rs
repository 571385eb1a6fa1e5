//! Walks through the kernel's flow table, share by share: at the start, after lost reports, and for flows that are not kept.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    alert::Record,
    daemon::start::Stages,
    event::BootTime,
    host,
    kernel::Cursor,
    pipeline::{Pipeline, Released},
};

/// Walks through the flow table for flows that are not kept may take this part of the time.
const WALK_PART: u32 = 20;
/// The same where sockets were released whose flows are to be ended.
const RELEASED_WALK_PART: u32 = 2;

/// A walk through the flow table.
struct Walk {
    cursor: Cursor,
    /// The sockets whose flows it ends.
    released: Released,
    worked: Duration,
    /// Reports were lost since it began: another one follows it. With one begun anew at each loss, none would ever come to
    /// its end while losses go on.
    must_be_followed: bool,
}

impl Walk {
    fn new(released: Released) -> Self {
        Self { cursor: Cursor::default(), released, worked: Duration::ZERO, must_be_followed: false }
    }
}

/// The walk that is under way, and what the last one took.
pub(super) struct Walks {
    walk: Option<Walk>,
    /// When the last walk ended, and how long it worked: the next one for flows that are not kept waits in proportion.
    last: (Instant, Duration),
}

impl Walks {
    pub(super) fn new() -> Self {
        Self { walk: None, last: (Instant::now(), Duration::ZERO) }
    }

    /// Whether one is under way.
    pub(super) const fn is_under_way(&self) -> bool {
        self.walk.is_some()
    }

    /// Begins to take in the whole flow table, after the rings were read.
    pub(super) fn begin(&mut self, pipeline: &mut Pipeline) {
        self.walk = Some(Walk::new(pipeline.begin_walk(host::boot_time())));
    }

    /// Begins one for flows that are not kept, if there are any and the last one is long enough ago.
    pub(super) fn begin_if_due(&mut self, pipeline: &mut Pipeline) {
        let part = if pipeline.has_released() { RELEASED_WALK_PART } else { WALK_PART };
        let (ended_at, worked) = self.last;
        if pipeline.has_flows_beyond() && self.walk.is_none() && ended_at.elapsed() >= worked * part {
            self.begin(pipeline);
        }
    }

    /// Makes up for lost reports: by a walk that follows the one under way, or at once where `flagged` flows are among
    /// them. These do not wait for the end of a walk: each begins with them.
    pub(super) fn make_up(&mut self, flagged: bool, pipeline: &mut Pipeline) {
        match &mut self.walk {
            Some(walk) if !flagged => walk.must_be_followed = true,
            _ => self.begin(pipeline),
        }
    }

    /// Takes in the next share of the flow table.
    pub(super) fn go_on(&mut self, stages: &mut Stages, ready: &mut Vec<Arc<Record>>) {
        let Some(walk) = &mut self.walk else { return };
        let Stages { kernel, pipeline, .. } = stages;
        let begun_at = Instant::now();
        if let Some(flows) = kernel.next_flows(&mut walk.cursor, host::boot_time()) {
            pipeline.resync(flows, kernel, ready);
            walk.worked += begun_at.elapsed();
            return;
        }
        pipeline.walked(&walk.released);
        self.last = (Instant::now(), walk.worked);
        let must_be_followed = walk.must_be_followed;
        self.walk = None;
        if must_be_followed {
            self.begin(pipeline);
        }
    }

    /// Writes the next share of the flows that are not kept, at the end of the program.
    pub(super) fn finish_on(&mut self, now: BootTime, stages: &mut Stages, ready: &mut Vec<Arc<Record>>) {
        let Some(walk) = &mut self.walk else { return };
        match stages.kernel.next_flows(&mut walk.cursor, now) {
            Some(flows) => stages.pipeline.finish_beyond(flows, ready),
            None => self.walk = None,
        }
    }
}
