//! The loop between the kernel side and the outputs.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use monitor_common::loss::LossReason;
use prometheus_client::metrics::histogram::Histogram;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    figures::Figures,
    outputs::Outputs,
    reload::{NewPolicy, News},
    start::Stages,
};
use crate::{
    alert::{
        Record, Timestamp,
        input::{Degradation, Loss, LossStage, Phase, Status},
        record::Dataset,
    },
    control::{AlertLog, Question, Trigger},
    event::{BootTime, Event, Flow, FlowKey, ReportReason},
    host,
    kernel::{self, Cursor, Kernel, Losses, Ring},
    limits::{Demand, Pressure},
    memory,
    names::NameLosses,
    pipeline::{FlowTable, Released},
    policy::feeds,
};

/// Ordinary reports wait at most this long: a wake-up for each would cost more than the report.
const FLOW_INTERVAL: Duration = Duration::from_millis(100);
/// The same after a look that found nothing. A ring that fills wakes the loop before that.
const IDLE_INTERVAL: Duration = Duration::from_millis(500);
/// An output that takes no ordinary record for this long is stuck: what waits for it is dropped and counted.
const STUCK: Duration = Duration::from_secs(2);
/// How long the outputs may take for what is left at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// A flagged report waits this long for those that belong to it: the sender's follows the first payload at once.
const GATHER: Duration = Duration::from_millis(1);
/// How often losses are counted and what is due is done.
const TICK: Duration = Duration::from_millis(500);
/// How often silent flows are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// Walks through the flow table for flows that are not kept may take this part of the time.
const WALK_PART: u32 = 20;
/// The same where sockets were released whose flows are to be ended.
const RELEASED_WALK_PART: u32 = 2;
/// Flows of an answer that are made at a time.
const ANSWER_SHARE: usize = 256;
/// How often the wall clock is compared with the boot clock, and free memory is given back.
const CLOCK: Duration = Duration::from_mins(1);
/// Records read from a ring before the outputs and the other rings get their turn.
const BATCH: usize = 4_096;
/// Flows handled before what explains flows is read again: a batch takes long enough to fill the other rings.
const SHARE: usize = 256;
/// Batches of process events and captures read before the flows that they explain: more than their rings hold.
const EXPLANATION_BATCHES: usize = 64;

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

/// Reason of the loss of flows that are not kept, because of `limits.memory`.
const LIVE_FLOWS_FULL: &str = "live_flows_full";

/// The open flows that a client has not been told of, and where it is told.
type FlowsAnswer = (VecDeque<FlowKey>, mpsc::Sender<Vec<String>>);

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

/// Waits until a client takes more of its answer, or has gone.
async fn has_room(answering: Option<&FlowsAnswer>) {
    if let Some((_, answer)) = answering {
        // What was reserved is given back at once: nobody else sends.
        let _ = answer.reserve().await;
    }
}

/// The loop's state.
pub(super) struct Watch {
    pub(super) stages: Stages,
    pub(super) outputs: Outputs,
    events: Vec<Event>,
    ready: Vec<Arc<Record>>,
    /// Ordinary records that wait for the outputs. While there are any, the ring of ordinary flows is not read: the
    /// kernel side holds what comes meanwhile, and alerts pass by.
    backlog: VecDeque<Arc<Record>>,
    /// The ring of ordinary flows held more than was read.
    more_flows: bool,
    /// The ring of flagged flows held more than was read.
    more_flagged: bool,
    /// The last look into the rings found nothing.
    is_idle: bool,
    /// How long an output is waited for at the end: no more once one took nothing for that long.
    patience: Duration,
    /// When the outputs last took one of them.
    progress_at: Instant,
    pub(super) losses: Losses,
    losses_at: Timestamp,
    name_losses: NameLosses,
    /// Flows beyond the bound that were told.
    flows_beyond: u64,
    pressure: Pressure,
    /// A walk through the flow table that is under way.
    walk: Option<Walk>,
    /// When the last walk ended, and how long it worked: the next one for flows that are not kept waits in proportion.
    last_walk: (Instant, Duration),
    /// Clients that are told of the open flows, the first of them at the moment.
    answering: VecDeque<FlowsAnswer>,
    pub(super) refused: u64,
    pub(super) started_at: BootTime,
    /// Number of the policy in force.
    pub(super) generation: u64,
    /// Settings that wait for a restart.
    pub(super) needs_restart: Vec<String>,
    /// What does not work since the start, beside what the host does not give.
    pub(super) troubles: BTreeMap<&'static str, Degradation>,
    pub(super) figures: Figures,
    alerts: Arc<AlertLog>,
    /// From the kernel's report of a flow to the alert in the outputs' hands.
    alert_latency: Histogram,
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
            outputs,
            events: Vec::new(),
            ready: Vec::new(),
            backlog: VecDeque::new(),
            more_flows: false,
            more_flagged: false,
            is_idle: false,
            patience: FAREWELL,
            progress_at: Instant::now(),
            losses: Losses::default(),
            losses_at: host::wall_clock().at(started_at),
            name_losses: NameLosses::default(),
            flows_beyond: 0,
            pressure,
            walk: None,
            last_walk: (Instant::now(), Duration::ZERO),
            answering: VecDeque::new(),
            refused: 0,
            started_at,
            generation: 1,
            needs_restart: Vec::new(),
            troubles: BTreeMap::new(),
            figures,
            alerts,
            alert_latency,
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
        self.begin().await;
        memory::give_back();
        memory::let_go_of_program();
        let facts_read = Arc::clone(&self.stages.facts_read);
        loop {
            let held_until = self.held_until();
            tokio::select! {
                // From what must not wait to what may. The tick is short and comes first: a flood of flagged flows would
                // starve it otherwise, and with it the count of what that flood loses.
                biased;
                ended = stop.recv() => return Ok(ended.unwrap_or(Ended::Signal)),
                _ = tick_timer.tick() => self.tick().await,
                () = std::future::ready(()), if self.more_flagged => self.read(Ring::Flagged),
                guard = flagged.readable() => {
                    tokio::time::sleep(GATHER).await;
                    guard?.clear_ready();
                    self.read(Ring::Flagged);
                }
                () = facts_read.notified() => self.tell_held(),
                () = sleep_until(held_until.unwrap_or_else(Instant::now)), if held_until.is_some() => self.tell_held(),
                // What explains flows waits for them, unless its ring fills up meanwhile.
                guard = captures.readable() => {
                    guard?.clear_ready();
                    self.explain();
                }
                guard = processes.readable() => {
                    guard?.clear_ready();
                    self.explain();
                }
                _ = sweep_timer.tick() => self.sweep(),
                _ = clock_timer.tick() => {
                    self.stages.pipeline.set_clock(host::wall_clock());
                    memory::give_back();
                }
                Some(news) = news.recv() => self.hear(news),
                Some(question) = questions.recv() => self.answer(question),
                () = has_room(self.answering.front()), if !self.answering.is_empty() => self.answer_on(),
                () = self.outputs.flow_room(), if !self.backlog.is_empty() => {}
                () = sleep_until(self.progress_at + STUCK), if !self.backlog.is_empty() => self.give_up_backlog().await,
                () = std::future::ready(()), if self.walk.is_some() && self.backlog.is_empty() => self.walk_on(),
                () = std::future::ready(()), if self.is_behind() && self.backlog.is_empty() => self.catch_up(),
                guard = ordinary.readable(), if self.backlog.is_empty() => {
                    guard?.clear_ready();
                    self.read(Ring::Flow);
                }
                () = std::future::ready(()), if self.more_flows && self.backlog.is_empty() => self.read(Ring::Flow),
                _ = flow_timer.tick(), if self.backlog.is_empty() => {
                    self.read(Ring::Flow);
                    flow_timer.reset_after(if self.is_idle { IDLE_INTERVAL } else { FLOW_INTERVAL });
                }
            }
            self.deliver().await;
            if self.outputs.is_gone() {
                return Ok(Ended::ReaderGone);
            }
        }
    }

    /// Whoever asked may have gone meanwhile.
    fn answer(&mut self, question: Question) {
        match question {
            Question::Flows(answer) => self.answering.push_back((self.stages.pipeline.live_keys().into(), answer)),
            Question::Snapshot(answer) => drop(answer.send(Box::new(self.snapshot(host::boot_time())))),
        }
    }

    /// Takes in what the reloader has to tell.
    fn hear(&mut self, news: News) {
        if let News::Tries { occupancy, .. } = &news {
            self.figures.occupancy = *occupancy;
        }
        match news {
            News::Policy(policy) => self.replace_policy(*policy),
            News::Refused { trigger, error } => self.tell_refused(trigger, &error),
            News::Tries { left_out: 0, .. } => self.mend("prefixes_left_out"),
            News::Tries { left_out, .. } => {
                let degradation = kernel::degradation::Degradation::PrefixesLeftOut { count: left_out };
                self.trouble(degradation.as_token(), degradation.to_string(), degradation.remedy());
            }
            News::Blind { cause } => self.trouble(
                "file_changes_unseen",
                format!("changes of configuration and list files are not noticed ({cause})"),
                "run `egresswatch reload` after a change; see fs.inotify.max_user_watches and max_user_instances",
            ),
        }
    }

    /// Judges by another policy from the next event on.
    fn replace_policy(&mut self, new: NewPolicy) {
        self.stages.ownership_date = new.ownership.data_date();
        self.stages.enabled_lists = new.enabled_lists;
        let pipeline = &mut self.stages.pipeline;
        let lacks_baseline = new.rules.needs_baseline() && self.stages.baseline.is_none();
        let NewPolicy { lists, rules, ownership, policy, flows, .. } = new;
        let before = pipeline.replace_policy(lists, rules, ownership, &policy, flows, &mut self.ready);
        if lacks_baseline {
            self.trouble(
                "baseline_not_open",
                "rules of the kind first_contact know no earlier contacts, and none are kept".to_owned(),
                "restart the monitor, which opens policy.baseline for them",
            );
        }
        self.figures.lists = new.list_states;
        self.note_feeds(new.feeds);
        self.note_reload(new.trigger, None);
        self.generation = new.generation;
        self.needs_restart = new.needs_restart;
        self.mend("reload_failed");
        self.mend("ownership_embedded");
        match self.outputs.reconfigure(new.outputs) {
            Ok(()) => self.mend("outputs_not_started"),
            Err(error) => {
                self.trouble(
                    "outputs_not_started",
                    error.to_string(),
                    "mend what is named and run `egresswatch reload`",
                );
            }
        }
        let status = Status { reason: Some(new.trigger.as_token().to_owned()), ..self.status(Phase::Reloaded) };
        let at = host::wall_clock().at(host::boot_time());
        self.ready.push(Arc::new(self.stages.records.status(at, status)));
        tracing::info!(generation = new.generation, trigger = new.trigger.as_token(), "policy reloaded");
        // The reloader takes it apart; if it has gone, that happens here.
        let _ = new.done.send(before);
    }

    /// Tells what is wrong with lists of `[lists]` as a whole, once.
    fn note_feeds(&mut self, feeds: Vec<feeds::State>) {
        const TOLD: usize = 5;
        let troubles: Vec<String> = feeds.iter().flat_map(feeds::State::troubles).collect();
        self.figures.feeds = feeds;
        if troubles.is_empty() {
            return self.mend("lists_not_good");
        }
        let mut missing = troubles.iter().take(TOLD).cloned().collect::<Vec<_>>().join("; ");
        if troubles.len() > TOLD {
            let _ = write!(missing, "; and {} more", troubles.len() - TOLD);
        }
        if self.troubles.get("lists_not_good").is_none_or(|before| before.missing != missing) {
            self.trouble(
                "lists_not_good",
                missing,
                "see whether the sources are right; `egresswatch lists` shows each list",
            );
        }
    }

    fn tell_refused(&mut self, trigger: Trigger, error: &str) {
        tracing::error!(trigger = trigger.as_token(), error, "not reloaded: the policy in force stays");
        self.note_reload(trigger, Some(error.to_owned()));
        let missing = format!("what was changed is not in force, policy number {} stays ({error})", self.generation);
        self.trouble("reload_failed", missing, "mend what is named; `egresswatch check` finds every mistake");
    }

    fn note_reload(&mut self, trigger: Trigger, error: Option<String>) {
        let reloads = &mut self.figures.reloads;
        *(if error.is_none() { &mut reloads.done } else { &mut reloads.failed }) += 1;
        reloads.last_at = Some(host::wall_clock().at(host::boot_time()));
        reloads.last_trigger = Some(trigger.as_token());
        reloads.last_error = error;
    }

    /// Says what does not work any more.
    fn trouble(&mut self, token: &'static str, missing: String, remedy: &str) {
        let trouble = Degradation { token: token.into(), missing, remedy: Some(remedy.to_owned()) };
        let at = host::wall_clock().at(host::boot_time());
        self.ready.push(Arc::new(self.stages.records.degradation(at, trouble.clone())));
        self.troubles.insert(token, trouble);
    }

    /// Notes that something works again; the next status says so.
    fn mend(&mut self, token: &str) {
        self.troubles.remove(token);
    }

    /// Reads what is left. It takes the longer the more flows are open, and no output has a part in it.
    pub(super) fn collect(&mut self) {
        // What was in flight when the signal came is in the rings by now.
        self.read_all();
        self.count_losses();
        // Many records are made: they are handed over as they are.
        if self.walk.is_some() || self.stages.pipeline.has_flows_beyond() {
            self.begin_walk();
        }
    }

    /// Makes some of the last records and hands them on; says whether there are more. An output that takes none for a
    /// while is not waited for again.
    pub(super) async fn hand_over(&mut self) -> bool {
        let now = host::boot_time();
        let Stages { kernel, pipeline, .. } = &mut self.stages;
        let mut has_more = true;
        if let Some(walk) = &mut self.walk {
            match kernel.next_flows(&mut walk.cursor, now) {
                Some(flows) => pipeline.finish_beyond(flows, &mut self.ready),
                None => self.walk = None,
            }
        } else {
            has_more = pipeline.finish(now, kernel, &mut self.ready);
        }
        self.deliver().await;
        let deadline = Instant::now() + self.patience;
        for record in std::mem::take(&mut self.backlog) {
            self.outputs.send(record, deadline).await;
        }
        if Instant::now() >= deadline {
            self.patience = Duration::ZERO;
        }
        has_more
    }

    /// Hands the outputs what was collected, and says goodbye.
    pub(super) async fn finish(mut self, ended: Ended) -> Outputs {
        self.deliver().await;
        let deadline = Instant::now() + FAREWELL;
        for record in std::mem::take(&mut self.backlog) {
            self.outputs.send(record, deadline).await;
        }
        let status = Status { reason: Some(ended.as_token().to_owned()), ..self.status(Phase::Stopped) };
        let at = host::wall_clock().at(host::boot_time());
        self.outputs.leave_goodbye(&Arc::new(self.stages.records.status(at, status)));
        self.outputs
    }

    /// Says what runs and what does not.
    async fn begin(&mut self) {
        let at = host::wall_clock().at(self.started_at);
        let status = self.status(Phase::Started);
        self.write_status(status).await;
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
        self.begin_walk();
        while self.walk.is_some() {
            self.walk_on();
            self.deliver().await;
        }
    }

    /// Reads a ring of flows, after the rings that explain them, and lets the stages work.
    fn read(&mut self, ring: Ring) {
        let mut flows = std::mem::take(&mut self.events);
        let refused = &mut self.refused;
        let count = self.stages.kernel.read_ring(ring, BATCH, &mut flows, |error| refuse(refused, error));
        let explanations = self.explain();
        self.is_idle = count + explanations == 0;
        for (index, event) in latest_of_each(&mut flows).enumerate() {
            if index > 0 && index % SHARE == 0 {
                self.explain();
            }
            let Stages { kernel, pipeline, .. } = &mut self.stages;
            pipeline.handle(event, kernel, &mut self.ready);
        }
        self.events = flows;
        // What was made has to be handed on before more is read.
        let more = if ring == Ring::Flow { &mut self.more_flows } else { &mut self.more_flagged };
        *more = count == BATCH;
    }

    /// Reads what explains flows: process events, then captured payload. Says how much there was.
    fn explain(&mut self) -> usize {
        let mut explanations = Vec::new();
        for ring in [Ring::Process, Ring::Capture] {
            for _ in 0..EXPLANATION_BATCHES {
                let refused = &mut self.refused;
                let kernel = &mut self.stages.kernel;
                if kernel.read_ring(ring, BATCH, &mut explanations, |error| refuse(refused, error)) < BATCH {
                    break;
                }
            }
        }
        let count = explanations.len();
        let Stages { kernel, pipeline, .. } = &mut self.stages;
        for event in explanations {
            pipeline.handle(event, kernel, &mut self.ready);
        }
        count
    }

    /// Reads until both rings of flows are empty: at the end, or before the flow table is read.
    fn read_all(&mut self) {
        self.read(Ring::Flagged);
        while self.more_flagged {
            self.read(Ring::Flagged);
        }
        self.read(Ring::Flow);
        while self.more_flows {
            self.read(Ring::Flow);
        }
    }

    async fn tick(&mut self) {
        let now = host::boot_time();
        let Stages { kernel, pipeline, .. } = &mut self.stages;
        pipeline.tick(now, kernel, &mut self.ready);
        if let Some(resident_bytes) = memory::resident_bytes() {
            let demand = self.pressure.demand(resident_bytes);
            pipeline.relieve(demand);
            // What ended flows took is free, but resident until it is given back: no flows would be let in for it.
            if demand != Demand::Ease {
                memory::give_back();
            }
        }
        self.keep_contacts();
        self.tell_of_containers();
        self.count_losses();
        if let Some(logger) = &mut self.stages.kernel.logger {
            logger.flush();
        }
        self.outputs.tell_notices().await;
        self.deliver().await;
    }

    /// Says once that descriptions of containers cannot be used; the metrics say how many.
    fn tell_of_containers(&mut self) {
        let unusable = self.stages.pipeline.container_figures().unusable();
        if unusable > 0 && !self.troubles.contains_key("containers_unusable") {
            self.trouble(
                "containers_unusable",
                "what some containers are is not known: their runtime's files cannot be read, or are not what it writes"
                    .to_owned(),
                "look for the first of these files in the monitor's log, and see [containers] in the configuration",
            );
        }
    }

    /// Hands the contacts that rules learnt to who keeps them.
    fn keep_contacts(&mut self) {
        if let Some(keeper) = &mut self.stages.baseline {
            keeper.keep(self.stages.pipeline.take_fresh_contacts());
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

    fn sweep(&mut self) {
        let now = host::boot_time();
        let Stages { kernel, pipeline, .. } = &mut self.stages;
        pipeline.sweep(now, kernel, &mut self.ready);
        let part = if pipeline.has_released() { RELEASED_WALK_PART } else { WALK_PART };
        let (ended_at, worked) = self.last_walk;
        if pipeline.has_flows_beyond() && self.walk.is_none() && ended_at.elapsed() >= worked * part {
            self.begin_walk();
        }
    }

    /// Turns new losses into records, and makes up for those that the flow table can make up for.
    fn count_losses(&mut self) {
        let losses = match self.stages.kernel.losses() {
            Ok(losses) => losses,
            Err(error) => {
                tracing::warn!(%error, "the loss counters cannot be read");
                return;
            }
        };
        let at = host::wall_clock().at(host::boot_time());
        let (mut must_resync, mut must_resync_flagged, mut must_reseed) = (false, false, false);
        for ((reason, total), (_, before)) in losses.iter().zip(self.losses.iter()) {
            if total <= before {
                continue;
            }
            must_resync |= reason.is_flow_report();
            must_resync_flagged |= reason == LossReason::FlaggedRingFull;
            must_reseed |= reason == LossReason::ProcessRingFull;
            let loss = Loss {
                stage: LossStage::Kernel,
                reason: reason.as_token().into(),
                count: total - before,
                total,
                since: self.losses_at,
                recoverable: reason.is_recoverable(),
                output: None,
            };
            self.ready.push(Arc::new(self.stages.records.loss(at, loss)));
        }
        self.losses = losses;
        self.count_flows_beyond(at);
        self.count_name_losses(at);
        self.losses_at = at;
        if must_reseed {
            self.stages.pipeline.reseed_processes();
        }
        if must_resync {
            self.read_all();
            // Flagged flows do not wait for the end of a walk: each begins with them.
            match &mut self.walk {
                Some(walk) if !must_resync_flagged => walk.must_be_followed = true,
                _ => self.begin_walk(),
            }
        }
    }

    /// Turns flows for which there was no room into a record.
    fn count_flows_beyond(&mut self, at: Timestamp) {
        let total = self.stages.pipeline.flows_beyond();
        if total > self.flows_beyond {
            let loss = Loss {
                stage: LossStage::Pipeline,
                reason: LIVE_FLOWS_FULL.into(),
                count: total - self.flows_beyond,
                total,
                since: self.losses_at,
                // Their ends are told with their totals.
                recoverable: true,
                output: None,
            };
            self.ready.push(Arc::new(self.stages.records.loss(at, loss)));
        }
        self.flows_beyond = total;
    }

    /// Turns names that could not be kept into records.
    fn count_name_losses(&mut self, at: Timestamp) {
        let losses = self.stages.pipeline.name_losses();
        for ((reason, total), (_, before)) in losses.by_reason().into_iter().zip(self.name_losses.by_reason()) {
            if total > before {
                let loss = Loss {
                    stage: LossStage::Pipeline,
                    reason: reason.into(),
                    count: total - before,
                    total,
                    since: self.losses_at,
                    recoverable: false,
                    output: None,
                };
                self.ready.push(Arc::new(self.stages.records.loss(at, loss)));
            }
        }
        self.name_losses = losses;
    }

    /// Begins to take in the whole flow table, after the rings were read.
    fn begin_walk(&mut self) {
        self.walk = Some(Walk::new(self.stages.pipeline.begin_walk(host::boot_time())));
    }

    /// Takes in the next share of the flow table.
    fn walk_on(&mut self) {
        self.explain();
        let Some(walk) = &mut self.walk else { return };
        let Stages { kernel, pipeline, .. } = &mut self.stages;
        let begun_at = Instant::now();
        if let Some(flows) = kernel.next_flows(&mut walk.cursor, host::boot_time()) {
            pipeline.resync(flows, kernel, &mut self.ready);
            walk.worked += begun_at.elapsed();
            return;
        }
        pipeline.walked(&walk.released);
        self.last_walk = (Instant::now(), walk.worked);
        let must_be_followed = walk.must_be_followed;
        self.walk = None;
        if must_be_followed {
            self.begin_walk();
        }
    }

    /// Whether more is due than was done, because it made many records.
    fn is_behind(&self) -> bool {
        self.stages.pipeline.is_behind(host::boot_time())
    }

    fn catch_up(&mut self) {
        let Stages { kernel, pipeline, .. } = &mut self.stages;
        pipeline.tick(host::boot_time(), kernel, &mut self.ready);
    }

    /// Tells a client of some more live flows.
    fn answer_on(&mut self) {
        let now = host::boot_time();
        let Some((keys, answer)) = self.answering.front_mut() else { return };
        let share: Vec<FlowKey> = keys.drain(..keys.len().min(ANSWER_SHARE)).collect();
        let (pipeline, kernel) = (&self.stages.pipeline, &self.stages.kernel);
        let records = share.iter().filter_map(|key| pipeline.live_record(key, now, kernel));
        // A record serialises by construction; one that does not is left out.
        let lines = records.filter_map(|record| serde_json::to_string(&record).ok()).collect();
        // The client may have gone meanwhile.
        if answer.try_send(lines).is_err() || keys.is_empty() {
            self.answering.pop_front();
        }
    }

    /// Hands on what must arrive, and as many of the ordinary records as the outputs take at once.
    async fn deliver(&mut self) {
        for record in std::mem::take(&mut self.ready) {
            if record.event.dataset == Dataset::Alert {
                self.outputs.send(Arc::clone(&record), Instant::now()).await;
                self.note_alert(&record);
            } else if record.must_arrive() {
                self.outputs.send(record, Instant::now()).await;
            } else {
                if self.backlog.is_empty() {
                    self.progress_at = Instant::now();
                }
                self.backlog.push_back(record);
            }
        }
        while self.outputs.have_flow_room()
            && let Some(record) = self.backlog.pop_front()
        {
            self.outputs.send(record, Instant::now()).await;
            self.progress_at = Instant::now();
        }
    }

    /// Counts an alert that every output has, and keeps it for who asks.
    fn note_alert(&mut self, alert: &Arc<Record>) {
        self.figures.count_alert(alert);
        let now = host::wall_clock().at(host::boot_time());
        let delay_ns = now.unix_ns().saturating_sub(alert.timestamp.unix_ns());
        self.alert_latency.observe(Duration::from_nanos(u64::try_from(delay_ns).unwrap_or(0)).as_secs_f64());
        self.alerts.push(alert);
    }

    /// Drops what an output does not take; the others get it, and the output counts what it missed.
    async fn give_up_backlog(&mut self) {
        self.outputs.give_up_pace();
        for record in std::mem::take(&mut self.backlog) {
            self.outputs.send(record, Instant::now()).await;
        }
    }

    /// What does not work, each once: what the host does not give, and what went wrong since the start.
    fn degradation_tokens(&self) -> Vec<String> {
        let mut tokens: Vec<_> =
            self.stages.kernel.degradations.iter().map(kernel::degradation::Degradation::as_token).collect();
        tokens.extend(self.troubles.keys());
        tokens.dedup();
        tokens.into_iter().map(ToOwned::to_owned).collect()
    }

    async fn write_status(&mut self, status: Status) {
        let at = host::wall_clock().at(host::boot_time());
        let record = self.stages.records.status(at, status);
        self.outputs.send(Arc::new(record), Instant::now()).await;
    }

    fn status(&self, phase: Phase) -> Status {
        let totals = self.stages.pipeline.totals();
        Status {
            rung: Some(self.stages.kernel.rung.as_token().to_owned()),
            ownership_date: Some(self.stages.ownership_date),
            lists: Some(self.stages.enabled_lists),
            uptime_ns: (phase != Phase::Started).then(|| host::boot_time().since_ns(self.started_at)),
            flows: Some(totals.flows),
            alerts: Some(totals.alerts),
            losses: Some(self.losses.iter().map(|(_, count)| count).sum()),
            degradations: self.degradation_tokens(),
            generation: Some(self.generation),
            needs_restart: self.needs_restart.clone(),
            ..Status::new(phase)
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

fn refuse(count: &mut u64, error: crate::decode::DecodeError) {
    *count += 1;
    // The first one says it all; the count goes on.
    if *count == 1 {
        tracing::error!(%error, "a kernel record was refused");
    }
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut timer = interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}
