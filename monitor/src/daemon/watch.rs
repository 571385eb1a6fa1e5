//! The loop between the kernel side and the outputs: what is done when, and what waits for what.

mod answers;
mod figures;
mod handover;
mod losses;
mod news;
mod rings;
mod status;
mod stop;
mod troubles;
mod walks;

use std::{sync::Arc, time::Duration};

use prometheus_client::metrics::histogram::Histogram;
use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use self::{
    answers::Answers, figures::Figures, handover::Handover, losses::ToldLosses, rings::Rings, troubles::Troubles,
    walks::Walks,
};
use super::{outputs::Outputs, reload::News, start::Stages};
use crate::{
    alert::{
        Record,
        input::{Degradation, Phase},
    },
    control::{AlertLog, Question},
    event::{BootTime, Flow, FlowKey},
    host,
    kernel::{Kernel, Ring},
    limits::{Demand, Pressure},
    memory,
    pipeline::FlowTable,
};

/// Ordinary reports wait at most this long: a wake-up for each would cost more than the report.
const FLOW_INTERVAL: Duration = Duration::from_millis(100);
/// The same after a look that found nothing. A ring that fills wakes the loop before that.
const IDLE_INTERVAL: Duration = Duration::from_millis(500);
/// A flagged report waits this long for those that belong to it: the sender's follows the first payload at once.
const GATHER: Duration = Duration::from_millis(1);
/// How often losses are counted and what is due is done.
const TICK: Duration = Duration::from_millis(500);
/// How often silent flows are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// How often the wall clock is compared with the boot clock, and free memory is given back.
const CLOCK: Duration = Duration::from_mins(1);

impl FlowTable for Kernel {
    fn read(&self, key: &FlowKey, at: BootTime) -> Option<Flow> {
        self.flow(key, at)
    }

    fn forget(&mut self, key: &FlowKey) {
        Kernel::forget(self, key);
    }
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// A signal asked for it.
    Signal,
    /// Nobody reads the output any more.
    ReaderGone,
}

impl Ended {
    const fn as_token(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::ReaderGone => "reader_gone",
        }
    }
}

/// The loop's state.
pub(super) struct Watch {
    stages: Stages,
    rings: Rings,
    /// Records that were made and are not handed on yet.
    ready: Vec<Arc<Record>>,
    handover: Handover,
    losses: ToldLosses,
    walks: Walks,
    answers: Answers,
    pressure: Pressure,
    started_at: BootTime,
    /// Number of the policy in force.
    generation: u64,
    /// Settings that wait for a restart.
    needs_restart: Vec<String>,
    troubles: Troubles,
    figures: Figures,
}

impl Watch {
    pub(super) fn new(
        stages: Stages,
        outputs: Outputs,
        alerts: Arc<AlertLog>,
        alert_latency: Histogram,
        pressure: Pressure,
    ) -> Self {
        let started_at = host::boot_time();
        let figures = Figures::new(stages.lists.clone());
        Self {
            stages,
            rings: Rings::default(),
            ready: Vec::new(),
            handover: Handover::new(outputs, alerts, alert_latency),
            losses: ToldLosses::new(started_at),
            walks: Walks::new(),
            answers: Answers::default(),
            pressure,
            started_at,
            generation: 1,
            needs_restart: Vec::new(),
            troubles: Troubles::default(),
            figures,
        }
    }

    /// Watches until `stop` is told to, or until the outputs have gone.
    pub(super) async fn run(
        &mut self,
        mut questions: mpsc::Receiver<Question>,
        mut news: mpsc::Receiver<News>,
        mut stop: mpsc::Receiver<Ended>,
    ) -> std::io::Result<Ended> {
        let flagged = self.stages.kernel.readiness(Ring::Flagged)?;
        let ordinary = self.stages.kernel.readiness(Ring::Flow)?;
        let captures = self.stages.kernel.readiness(Ring::Capture)?;
        let processes = self.stages.kernel.readiness(Ring::Process)?;
        let mut flow_timer = ticker(FLOW_INTERVAL);
        let mut tick_timer = ticker(TICK);
        let mut sweep_timer = ticker(SWEEP);
        let mut clock_timer = ticker(CLOCK);
        if let Some(missing) = self.stages.ownership_trouble.take() {
            self.trouble(
                "ownership_embedded",
                format!("imported ownership data are not in force, the embedded ones are: {missing}"),
                "mend what is named; `egresswatch data info` says which table is in force",
            );
        }
        if let Some(put_aside) = self.stages.baseline_put_aside.take() {
            self.tell_put_aside(&put_aside);
        }
        self.begin().await;
        memory::give_back();
        memory::let_go_of_program();
        let facts_read = Arc::clone(&self.stages.facts_read);
        loop {
            let held_until = self.held_until();
            // While something that must arrive finds no room, nothing is read that could make more of it: the kernel side
            // holds what comes meanwhile, or counts what it cannot hold. What a user asks or wants goes on.
            let takes_alerts = self.handover.takes_alerts();
            let takes_flows = takes_alerts && !self.handover.has_backlog();
            tokio::select! {
                // From what must not wait to what may. The tick is short and comes first: a flood of flagged flows would
                // starve it otherwise, and with it the count of what that flood loses.
                biased;
                ended = stop.recv() => return Ok(ended.unwrap_or(Ended::Signal)),
                _ = tick_timer.tick() => self.tick().await,
                () = std::future::ready(()), if takes_alerts && self.rings.more_flagged() => self.read(Ring::Flagged),
                guard = flagged.readable(), if takes_alerts => {
                    tokio::time::sleep(GATHER).await;
                    guard?.clear_ready();
                    self.read(Ring::Flagged);
                }
                () = facts_read.notified(), if takes_alerts => self.tell_held(),
                () = sleep_until(held_until.unwrap_or_else(Instant::now)), if takes_alerts && held_until.is_some() => self.tell_held(),
                // What explains flows waits for them, unless its ring fills up meanwhile.
                guard = captures.readable(), if takes_alerts => {
                    guard?.clear_ready();
                    self.explain();
                }
                guard = processes.readable(), if takes_alerts => {
                    guard?.clear_ready();
                    self.explain();
                }
                _ = sweep_timer.tick(), if takes_alerts => self.sweep(),
                _ = clock_timer.tick() => {
                    self.stages.pipeline.set_clock(host::wall_clock());
                    memory::give_back();
                }
                Some(news) = news.recv() => self.hear(news),
                Some(question) = questions.recv() => self.answer(question),
                () = self.answers.room(), if self.answers.are_waiting() => self.answers.go_on(&self.stages),
                () = self.handover.outputs.alert_room(), if !takes_alerts => {}
                () = self.handover.outputs.flow_room(), if self.handover.has_backlog() => {}
                () = sleep_until(self.handover.stuck_at()), if self.handover.has_backlog() => self.handover.give_up().await,
                () = std::future::ready(()), if takes_flows && self.walks.is_under_way() => self.walk_on(),
                () = std::future::ready(()), if takes_flows && self.is_behind() => self.catch_up(),
                guard = ordinary.readable(), if takes_flows => {
                    guard?.clear_ready();
                    self.read(Ring::Flow);
                }
                () = std::future::ready(()), if takes_flows && self.rings.more_flows() => self.read(Ring::Flow),
                _ = flow_timer.tick(), if takes_flows => {
                    self.read(Ring::Flow);
                    flow_timer.reset_after(if self.rings.is_idle { IDLE_INTERVAL } else { FLOW_INTERVAL });
                }
            }
            self.deliver().await;
            if self.handover.outputs.is_gone() {
                return Ok(Ended::ReaderGone);
            }
            // What goes on in shares would use up this task's budget, and with it the sight of what must not wait.
            yield_now().await;
        }
    }

    /// Says what runs and what does not.
    async fn begin(&mut self) {
        let at = host::wall_clock().at(self.started_at);
        let status = self.status(Phase::Started);
        let record = self.stages.records.status(host::wall_clock().at(host::boot_time()), status);
        self.handover.outputs.send(Arc::new(record), Instant::now()).await;
        for degradation in &self.stages.kernel.degradations {
            let record = self.stages.records.degradation(
                at,
                Degradation {
                    token: degradation.as_token().into(),
                    missing: degradation.to_string(),
                    remedy: Some(degradation.remedy().to_owned()),
                },
            );
            self.ready.push(Arc::new(record));
        }
        let feeds = std::mem::take(&mut self.stages.feeds);
        self.note_feeds(feeds);
        // What the kernel side saw between its attachment and now, and the connections that it found.
        self.read_all();
        self.walks.begin(&mut self.stages.pipeline);
        while self.walks.is_under_way() && self.handover.takes_alerts() {
            self.walk_on();
            self.deliver().await;
        }
    }

    async fn tick(&mut self) {
        let now = host::boot_time();
        let takes_alerts = self.handover.takes_alerts();
        let Stages { kernel, pipeline, .. } = &mut self.stages;
        if takes_alerts {
            pipeline.tick(now, kernel, &mut self.ready);
        }
        if let Some(resident_bytes) = memory::resident_bytes() {
            let demand = self.pressure.demand(resident_bytes);
            pipeline.relieve(demand);
            // What ended flows took is free, but resident until it is given back: no flows would be let in for it.
            if demand != Demand::Ease {
                memory::give_back();
            }
        }
        self.keep_contacts();
        self.tell_of_alerts_held_up();
        self.note_outputs();
        if takes_alerts {
            self.tell_of_containers();
            self.count_losses();
        }
        if let Some(logger) = &mut self.stages.kernel.logger {
            logger.flush();
        }
        self.handover.outputs.tell_notices().await;
        self.deliver().await;
    }

    fn sweep(&mut self) {
        let now = host::boot_time();
        let Stages { kernel, pipeline, .. } = &mut self.stages;
        pipeline.sweep(now, kernel, &mut self.ready);
        self.walks.begin_if_due(pipeline);
    }

    /// Hands the contacts that rules learnt to who keeps them.
    fn keep_contacts(&mut self) {
        if let Some(keeper) = &mut self.stages.baseline {
            keeper.keep(self.stages.pipeline.take_learnt());
        }
    }

    /// When an alert that waits for its executable must be told.
    fn held_until(&self) -> Option<Instant> {
        let due_at = self.stages.pipeline.held_due()?;
        Some(Instant::now() + Duration::from_nanos(due_at.since_ns(host::boot_time())))
    }

    /// Tells the alerts that waited for their executables and containers, or waited long enough.
    fn tell_held(&mut self) {
        self.stages.pipeline.tell_held(host::boot_time(), &mut self.ready);
    }

    /// Whether more is due than was done, because it made many records.
    fn is_behind(&self) -> bool {
        self.stages.pipeline.is_behind(host::boot_time())
    }

    fn catch_up(&mut self) {
        let Stages { kernel, pipeline, .. } = &mut self.stages;
        pipeline.tick(host::boot_time(), kernel, &mut self.ready);
    }

    /// Reads a ring of flows, after the rings that explain them, and lets the stages work.
    fn read(&mut self, ring: Ring) {
        self.rings.read(ring, &mut self.stages, &mut self.ready);
    }

    /// Reads what explains flows.
    fn explain(&mut self) {
        self.rings.explain(&mut self.stages, &mut self.ready);
    }

    /// Reads until both rings of flows are empty: at the end, or before the flow table is read.
    fn read_all(&mut self) {
        self.rings.read_all(&mut self.stages, &mut self.ready);
    }

    /// Takes in the next share of the flow table.
    fn walk_on(&mut self) {
        self.explain();
        self.walks.go_on(&mut self.stages, &mut self.ready);
    }

    /// Hands on as much as the outputs take at once.
    async fn deliver(&mut self) {
        self.handover.deliver(&mut self.ready, &mut self.figures).await;
    }
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut timer = interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}
