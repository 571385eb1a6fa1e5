//! The stages in order, synchronous and without a clock of their own: events in, records out.
//!
//! The kernel's flow table is the truth and its reports are hints: each report is a whole snapshot, a later one replaces
//! an earlier one, and a report that found no room in a ring is made up for by reading the table again. After each
//! report of an open flow its entry is read once more, so that the totals of a flow that falls silent are exact within
//! [`READ_DELAY_NS`] and one report interval of its last byte.

mod beyond;
mod held;
mod live;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    alert::{
        Record, RecordBuilder, WallClock,
        input::{FlowMoment, Subject},
    },
    containers::{self, ContainerFacts, Containers},
    event::{BootTime, Capture, Event, Flow, FlowKey, ReportReason},
    executables::Executables,
    limits::{Demand, FlowBounds},
    names::{self, Asker, FlowNames, NameLosses, Names, Proxied},
    ownership::{Owner, OwnerLookup},
    policy::{
        self, ContactKey, Lists, Match, Observation, Tracker,
        rules::{Baseline, Engine, EngineStats, Rules, Sighting},
    },
    process::{Process, Table as ProcessTable},
    units::Duration,
};

pub use beyond::Released;

use beyond::Beyond;
use held::{Due, Held};
use live::{Details, LiveFlow, LiveFlows};

/// How long after a report an open flow's entry is read again, in ns.
const READ_DELAY_NS: u64 = 2_000_000_000;
/// How many reported ends are remembered: more than the kernel side can report before it removes the first of them.
const REPORTED_ENDS: usize = 1_024;
/// How long the end of a flow that was read from the table is remembered, in ns: longer than a report waits in a ring.
const COLLECTED_NS: u64 = 10_000_000_000;
/// Records that are made at once, before the outputs get their turn: each takes some kilobytes.
pub(crate) const RECORDS_AT_ONCE: usize = 512;
/// Flows given up at once while memory is short, as a part of those that there are.
const SHED_PART: usize = 8;
/// Most ends read from the table that are remembered.
const COLLECTED: usize = 32_768;
/// A released TCP flow whose end nobody reports has ended when it is silent for this long, in ns.
const RELEASED_SILENCE_NS: u64 = 5_000_000_000;

/// Settings of the pipeline: `[flows]` in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Write a record of each flow that ends, and of long ones on a schedule, beside the alerts.
    pub write: bool,
    /// A flow that goes on and moves bytes is written at least this often.
    #[schemars(with = "String")]
    pub interval: Duration,
    /// A flow without a handshake (UDP, ICMP) has ended when nothing moved for this long.
    #[schemars(with = "String")]
    pub idle: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { write: false, interval: Duration::from_secs(60), idle: Duration::from_secs(120) }
    }
}

/// The kernel's flow table, as the pipeline needs it.
pub trait FlowTable {
    /// A flow's present totals; `None` if the kernel side has forgotten it.
    fn read(&self, key: &FlowKey, at: BootTime) -> Option<Flow>;
    /// Makes the kernel side forget a flow.
    fn forget(&mut self, key: &FlowKey);
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Flows that ended or are open.
    pub flows: u64,
    /// Flows that ended.
    pub ended_flows: u64,
    /// Alerts told.
    pub alerts: u64,
    /// Open flows.
    pub live_flows: u64,
    /// Flows whose process nothing could tell.
    pub unattributed_flows: u64,
}

/// The stages after `decode`.
pub struct Pipeline {
    config: Config,
    processes: ProcessTable,
    executables: Option<Executables>,
    containers: Option<Containers>,
    names: Names,
    ownership: Box<dyn OwnerLookup>,
    lists: Lists,
    tracker: Tracker<Arc<Context>>,
    rules: Engine<Arc<Context>>,
    /// Alerts that wait for what is read of an executable or a container.
    held: Held,
    records: Arc<RecordBuilder>,
    /// Makes what [`Self::live_record`] returns.
    answers: RecordBuilder,
    clock: WallClock,
    live: LiveFlows,
    /// Open flows for which there was no room.
    beyond: Beyond,
    /// Flows that have ended, or fell silent, and are still to be written: with the time of the end, if it is one.
    ending: VecDeque<(FlowKey, Option<BootTime>)>,
    /// Flows whose end was read from the table, with their first sight and when that was: reports on them may still wait
    /// in a ring, and must not make them anew.
    collected: HashMap<FlowKey, (BootTime, BootTime)>,
    /// The last flows whose end was reported, with their first sight: the kernel side removes an entry after its last
    /// report, so that it may still be found in the table for a moment.
    reported_ends: VecDeque<(FlowKey, BootTime)>,
    /// Open flows whose entries are to be read again, by when.
    reads: VecDeque<(BootTime, FlowKey)>,
    totals: Totals,
}

/// What an alert is rendered from.
#[derive(Clone, Debug)]
struct Context {
    flow: Flow,
    details: Arc<Details>,
}

impl Pipeline {
    /// A pipeline that has seen nothing yet.
    #[must_use]
    pub fn new(
        config: Config,
        processes: ProcessTable,
        ownership: Box<dyn OwnerLookup>,
        lists: Lists,
        policy: &policy::Config,
        records: Arc<RecordBuilder>,
        clock: WallClock,
    ) -> Self {
        Self {
            config,
            processes,
            executables: None,
            containers: None,
            names: Names::new(&names::Config::default()),
            ownership,
            lists,
            tracker: Tracker::new(policy),
            rules: Engine::new(Rules::default(), Baseline::default(), TimeZone::UTC),
            held: Held::default(),
            answers: records.for_answers(),
            records,
            clock,
            live: LiveFlows::default(),
            beyond: Beyond::default(),
            ending: VecDeque::new(),
            collected: HashMap::new(),
            reported_ends: VecDeque::new(),
            reads: VecDeque::new(),
            totals: Totals::default(),
        }
    }

    /// Lets alerts tell the hash and the package of executables, for which each waits at most `wait`.
    #[must_use]
    pub fn with_executables(mut self, executables: Executables, wait: Duration) -> Self {
        self.executables = Some(executables);
        self.held = Held::new(wait.as_ns());
        self
    }

    /// Lets records and rules tell what containers are.
    #[must_use]
    pub fn with_containers(mut self, containers: Containers) -> Self {
        self.containers = Some(containers);
        self
    }

    /// Bounds what is remembered of names by the configuration, not by the defaults.
    #[must_use]
    pub fn with_names(mut self, names: Names) -> Self {
        self.names = names;
        self
    }

    /// Judges flows by rules as well. Their times of maintenance are those of `zone`.
    #[must_use]
    pub fn with_rules(mut self, rules: Rules, baseline: Baseline, zone: TimeZone) -> Self {
        self.rules = Engine::new(rules, baseline, zone);
        self
    }

    /// The contacts learnt since the last call, to be kept for the next run.
    pub fn take_fresh_contacts(&mut self) -> Vec<Arc<str>> {
        self.rules.baseline_mut().take_fresh()
    }

    /// What rules did not tell, since the start.
    #[must_use]
    pub const fn rule_stats(&self) -> EngineStats {
        self.rules.stats()
    }

    /// Keeps no more open flows than these.
    #[must_use]
    pub fn with_flow_bounds(mut self, bounds: FlowBounds) -> Self {
        self.live = LiveFlows::new(bounds);
        self.beyond = Beyond::new(bounds.beyond);
        self
    }

    /// Takes one event in.
    pub fn handle(&mut self, event: Event, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        match event {
            Event::Flow(flow) => self.flow(&flow, table, outputs),
            Event::FlowHint { key, reason, at } => {
                // One that is not there any more has its last report in the ring, or had no room for it and is counted.
                if let Some(flow) = table.read(&key, at).filter(|flow| !flow.facts.closed) {
                    self.flow(&Flow { reason, ..flow }, table, outputs);
                }
            }
            Event::SocketReleased { socket_cookie, at } => {
                self.beyond.socket_released(socket_cookie, at);
                self.ending.extend(self.live.of_socket(socket_cookie).into_iter().map(|key| (key, Some(at))));
                self.end_some(at, table, outputs);
            }
            Event::Exec(exec) => self.processes.exec(&exec),
            Event::Fork(fork) => self.processes.fork(&fork),
            Event::Exit { process, at } => self.processes.exit(process, at),
            Event::CgroupCreated(created) => {
                if let Some(containers) = self.containers.as_mut().filter(|_| created.hierarchy_id == 0) {
                    containers.expect(&created.path.to_string_lossy(), created.at);
                }
                self.processes.cgroup_created(&created);
            }
            Event::Capture(capture) => self.learn(&capture, outputs),
        }
    }

    /// Does what is due at `now`: reads entries again, ends what fell silent, tells what the tracker held back.
    pub fn tick(&mut self, now: BootTime, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        self.end_some(now, table, outputs);
        while outputs.len() < RECORDS_AT_ONCE
            && let Some((due_at, key)) = self.reads.pop_front()
        {
            if due_at > now {
                self.reads.push_front((due_at, key));
                break;
            }
            self.read_again(&key, now, table, outputs);
        }
        for decision in self.tracker.tick(now) {
            self.alert(Due::Lists(decision), outputs);
        }
        for decision in self.rules.tick(now, self.clock.at(now).into()) {
            self.alert(Due::Rule(decision), outputs);
        }
        self.tell_held(now, outputs);
    }

    /// Ends the flows that have no end of their own and fell silent. Called every few seconds.
    pub fn sweep(&mut self, now: BootTime, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        self.collected.retain(|_, (_, at)| now.since_ns(*at) < COLLECTED_NS);
        let idle_ns = self.config.idle.as_ns();
        let silent: Vec<FlowKey> = self
            .live
            .iter()
            .filter(|(key, live)| {
                let silence_ns = now.since_ns(live.flow.last_at);
                let has_end = matches!(key.protocol, crate::event::Protocol::Tcp);
                (!has_end && silence_ns >= idle_ns)
                    || (has_end
                        && live.flow.facts.released
                        && live.flow.facts.midstream
                        && silence_ns >= RELEASED_SILENCE_NS)
            })
            .map(|(key, _)| *key)
            .collect();
        // Those of the last time are not done yet, or there is nothing in between.
        if self.ending.is_empty() {
            self.ending.extend(silent.into_iter().map(|key| (key, None)));
        }
        self.end_some(now, table, outputs);
    }

    /// Whether [`Self::tick`] left something that is due at `now` for the next time, because it made many records.
    #[must_use]
    pub fn is_behind(&self, now: BootTime) -> bool {
        !self.ending.is_empty() || self.reads.front().is_some_and(|(due_at, _)| *due_at <= now)
    }

    /// Ends flows that are known to have ended, or fell silent, until there are many records.
    fn end_some(&mut self, now: BootTime, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        while outputs.len() < RECORDS_AT_ONCE
            && let Some((key, ended_at)) = self.ending.pop_front()
        {
            let last = table.read(&key, ended_at.unwrap_or(now));
            // One that fell silent may have moved since its last report.
            let has_moved = |last: &Flow| now.since_ns(last.last_at) < RELEASED_SILENCE_NS;
            if ended_at.is_none() && last.as_ref().is_some_and(has_moved) {
                continue;
            }
            self.end(&key, last, ended_at.unwrap_or(now), table, outputs);
        }
    }

    /// Whether there are open flows that are not kept, so that the kernel's table has to be walked for their ends.
    #[must_use]
    pub fn has_flows_beyond(&self) -> bool {
        self.beyond.is_any()
    }

    /// Open flows for which there was no room so far.
    #[must_use]
    pub const fn flows_beyond(&self) -> u64 {
        self.beyond.count()
    }

    /// Whether sockets were released whose flows a walk has to end.
    #[must_use]
    pub fn has_released(&self) -> bool {
        self.beyond.has_released()
    }

    /// A walk through the kernel's table begins: what is known to have been released.
    #[must_use]
    pub fn begin_walk(&mut self, now: BootTime) -> Released {
        self.beyond.begin_walk(now)
    }

    /// A walk that began with `released` has come to its end: the flows of those sockets were ended.
    pub fn walked(&mut self, released: &Released) {
        self.beyond.walked(released);
    }

    /// Does what the resident memory asks for.
    pub fn relieve(&mut self, demand: Demand) {
        let fewer = match demand {
            Demand::Ease if self.live.is_held_down() => return self.live.ease(),
            Demand::Ease => return,
            Demand::Hold => 0,
            Demand::Shed => self.live.len() / SHED_PART,
        };
        for key in self.live.hold_down(fewer) {
            if let Some(live) = self.live.remove(&key) {
                self.beyond.note_kept(&key, live.flow.first_at);
            }
        }
    }

    /// Takes in the whole flow table: for what is there at start, and after reports found no room in a ring.
    pub fn resync(&mut self, flows: Vec<Flow>, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        let reported: HashSet<_> = self.reported_ends.iter().copied().collect();
        for mut flow in flows {
            if reported.contains(&(flow.key, flow.first_at)) {
                continue;
            }
            if flow.facts.closed {
                // As one that ends it is described whether there is room or not.
                flow.reason = ReportReason::Closed;
                let (key, at) = (flow.key, flow.at);
                // Its last report may have come between the reading of the ring and that of the table.
                if self.collected.get(&key).is_none_or(|(first_at, _)| *first_at != flow.first_at) {
                    self.collected.insert(key, (flow.first_at, at));
                    self.take_in(&flow, outputs);
                    self.end(&key, None, at, table, outputs);
                }
                table.forget(&key);
            } else if self.beyond.is_any() && !self.live.contains(&flow.key) {
                self.look_beyond(flow, table, outputs);
            } else {
                self.flow(&flow, table, outputs);
            }
        }
    }

    /// Ends an open flow that is not kept, if its socket was released or it fell silent; keeps it if there is room now. One
    /// that is not known is taken in like a new one: it may be.
    fn look_beyond(&mut self, flow: Flow, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        let (key, at) = (flow.key, flow.at);
        let silence_ns = at.since_ns(flow.last_at);
        let has_end = matches!(key.protocol, crate::event::Protocol::Tcp);
        let has_ended = self.beyond.is_released(key.socket_cookie)
            || (!has_end && silence_ns >= self.config.idle.as_ns())
            || (has_end && flow.facts.released && flow.facts.midstream && silence_ns >= RELEASED_SILENCE_NS);
        if has_ended {
            self.end(&key, Some(flow), at, table, outputs);
        } else if !self.beyond.is_known(&key, flow.first_at) || self.live.has_room(flow.facts.flagged) {
            self.flow(&flow, table, outputs);
        } else {
            self.beyond.note(&key, flow.first_at);
        }
    }

    /// Writes open flows that are not kept as they stand, for the end of the program; before [`Self::finish`].
    pub fn finish_beyond(&mut self, flows: Vec<Flow>, outputs: &mut Vec<Arc<Record>>) {
        let reported: HashSet<_> = self.reported_ends.iter().copied().collect();
        for mut flow in flows {
            let is_told = reported.contains(&(flow.key, flow.first_at))
                || self.collected.get(&flow.key).is_some_and(|(first_at, _)| *first_at == flow.first_at);
            if is_told || self.live.contains(&flow.key) {
                continue;
            }
            let moment = if flow.facts.closed { FlowMoment::Ended } else { FlowMoment::Progress };
            // As one that ends it is described whether there is room or not.
            flow.reason = ReportReason::Closed;
            self.take_in(&flow, outputs);
            if let Some(live) = self.live.remove(&flow.key) {
                self.write(&live.flow, &live.details, moment, outputs);
            }
        }
    }

    /// Ends everything, for the end of the program: flows are written as they stand, and what was held back is told. To be
    /// called until it says that nothing is left.
    pub fn finish(&mut self, now: BootTime, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) -> bool {
        let keys: Vec<FlowKey> = self.live.iter().map(|(key, _)| *key).take(RECORDS_AT_ONCE).collect();
        for key in keys {
            if let Some(last) = table.read(&key, now) {
                self.take_in(&last, outputs);
            }
            if let Some(live) = self.live.remove(&key) {
                self.write(&live.flow, &live.details, FlowMoment::Progress, outputs);
            }
        }
        if self.live.len() > 0 {
            return true;
        }
        for decision in self.tracker.drain(now) {
            self.alert(Due::Lists(decision), outputs);
        }
        for decision in self.rules.drain(now) {
            self.alert(Due::Rule(decision), outputs);
        }
        self.tell_held(BootTime(u64::MAX), outputs);
        false
    }

    /// Tells the alerts that have waited long enough at `now`, or need not wait any more.
    pub fn tell_held(&mut self, now: BootTime, outputs: &mut Vec<Arc<Record>>) {
        while let Some(decision) = self.held.pop(now) {
            if !self.is_permitted(&decision) {
                continue;
            }
            let Context { flow, details } = &**decision.context();
            let subject = self.subject(flow, details);
            let record = match &decision {
                Due::Lists(decision) => self.records.alert(self.clock, &subject, decision),
                Due::Rule(decision) => self.records.rule_alert(self.clock, &subject, decision),
            };
            self.totals.alerts += 1;
            self.held.told(&record.event.id, decision);
            outputs.push(Arc::new(record));
        }
        while let Some((alert_id, decision)) = self.held.pop_owed() {
            let Context { flow, details } = &**decision.context();
            outputs.push(Arc::new(self.records.executable(self.clock, &self.subject(flow, details), alert_id)));
        }
    }

    /// When [`Self::tell_held`] has something to do next, unless an executable is read before that.
    #[must_use]
    pub fn held_due(&self) -> Option<BootTime> {
        self.held.due_at()
    }

    /// The open flows, for [`Self::live_record`].
    #[must_use]
    pub fn live_keys(&self) -> Vec<FlowKey> {
        self.live.iter().map(|(key, _)| *key).collect()
    }

    /// An open flow as a record, brought up to date from the kernel's table; `None` if it has ended. One at a time,
    /// because a record takes some kilobytes.
    pub fn live_record(&self, key: &FlowKey, now: BootTime, table: &impl FlowTable) -> Option<Record> {
        let live = self.live.get(key)?;
        let flow = table.read(key, now);
        let flow = flow.as_ref().unwrap_or(&live.flow);
        Some(self.answers.flow(self.clock, &self.subject(flow, &live.details), FlowMoment::Progress))
    }

    /// Renews the way from boot time to wall-clock time, which changes when the wall clock is set.
    pub fn set_clock(&mut self, clock: WallClock) {
        self.clock = clock;
    }

    /// What happened so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals { live_flows: self.live.len() as u64, ..self.totals }
    }

    /// How often what was found of containers, since the start.
    #[must_use]
    pub fn container_figures(&self) -> containers::Figures {
        self.containers.as_ref().map(Containers::figures).unwrap_or_default()
    }

    /// The process table, for its figures.
    #[must_use]
    pub const fn processes(&self) -> &ProcessTable {
        &self.processes
    }

    /// Names that could not be kept, since the start.
    #[must_use]
    pub fn name_losses(&self) -> NameLosses {
        self.names.losses()
    }

    /// How full the tables of names are: name, entries, capacity.
    #[must_use]
    pub fn name_tables(&self) -> [(&'static str, usize, usize); 2] {
        self.names.occupancy()
    }

    /// Reads the running processes again, after events about processes were lost.
    pub fn reseed_processes(&mut self) {
        if let Err(error) = self.processes.seed() {
            tracing::warn!(%error, "the process table cannot be read again");
        }
    }

    /// When [`Self::tick`] has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<BootTime> {
        let read_at = self.reads.front().map(|(due_at, _)| *due_at);
        [read_at, self.tracker.next_due(), self.rules.next_due()].into_iter().flatten().min()
    }

    fn flow(&mut self, flow: &Flow, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        let (key, at) = (flow.key, flow.at);
        if self.collected.get(&key).is_some_and(|(first_at, _)| *first_at == flow.first_at) {
            return;
        }
        if flow.facts.untracked {
            self.totals.flows += 1;
            let details = self.describe(flow);
            self.observe(flow, &details, outputs);
            self.write(flow, &details, FlowMoment::Ended, outputs);
            return;
        }
        if flow.reason == ReportReason::Closed {
            if self.reported_ends.len() == REPORTED_ENDS {
                self.reported_ends.pop_front();
            }
            self.reported_ends.push_back((key, flow.first_at));
            if self.live.get_mut(&key).is_none() {
                self.flow_that_was(flow, outputs);
                return;
            }
            self.take_in(flow, outputs);
            self.end(&key, None, at, table, outputs);
            return;
        }
        self.take_in(flow, outputs);
        self.plan_read(key, at);
        self.write_if_due(&key, at, outputs);
    }

    /// Takes in a flow whose end is the first that is told of it: most are over before anybody looks.
    fn flow_that_was(&mut self, flow: &Flow, outputs: &mut Vec<Arc<Record>>) {
        let details = self.describe(flow);
        self.totals.flows += 1;
        self.totals.ended_flows += 1;
        if details.actor.is_none() {
            self.totals.unattributed_flows += 1;
        }
        self.observe(flow, &details, outputs);
        self.names.forget(&flow.key);
        self.write(flow, &details, FlowMoment::Ended, outputs);
    }

    /// Makes `flow` what is known of its flow, and tells the policy. An older snapshot than the known one is ignored.
    fn take_in(&mut self, flow: &Flow, outputs: &mut Vec<Arc<Record>>) {
        let key = flow.key;
        let (details, is_news) = match self.live.get_mut(&key) {
            Some(live) if flow.at < live.flow.at && flow.reason != ReportReason::Closed => return,
            Some(live) => {
                let is_news = live.flow.counters != flow.counters || live.flow.facts != flow.facts;
                // A process that executes another file is another actor.
                let acting = |flow: &Flow| flow.actor().map(|actor| (actor.process, actor.executable));
                let same_actor = acting(&live.flow) == acting(flow);
                let same_address = live.flow.translated == flow.translated;
                let known = [live.flow.connector.take(), live.flow.sender.take()];
                live.flow.clone_from(flow);
                for (identity, known) in [&mut live.flow.connector, &mut live.flow.sender].into_iter().zip(known) {
                    if *identity == known {
                        *identity = known;
                    }
                }
                (
                    if same_actor && same_address { Some(Arc::clone(&live.details)) } else { None },
                    is_news || !same_actor,
                )
            }
            None => (None, true),
        };
        let details = details.unwrap_or_else(|| self.describe_live(flow));
        if is_news {
            self.observe(flow, &details, outputs);
        }
    }

    /// Takes names in. They belong to the flow from its beginning, so a flow that was told of already is described anew.
    fn learn(&mut self, capture: &Capture, outputs: &mut Vec<Arc<Record>>) {
        if !self.names.take_in(capture).of_flow {
            return;
        }
        let Some(flow) = self.live.get_mut(&capture.key).map(|live| live.flow.clone()) else { return };
        let details = self.describe_live(&flow);
        self.observe(&flow, &details, outputs);
    }

    /// Describes a flow that is new, or whose sender or address changed, and keeps it.
    fn describe_live(&mut self, flow: &Flow) -> Arc<Details> {
        let details = self.describe(flow);
        if self.live.describe(&flow.key, &details) {
            return details;
        }
        let is_ending = flow.reason == ReportReason::Closed;
        let is_kept = is_ending || self.live.has_room(!details.matches.is_empty());
        let is_counted = if is_kept {
            self.beyond.forget(&flow.key, flow.first_at)
        } else {
            self.beyond.note(&flow.key, flow.first_at)
        };
        if !is_counted {
            self.totals.flows += 1;
            if details.actor.is_none() {
                self.totals.unattributed_flows += 1;
            }
        }
        if !is_kept {
            return details;
        }
        let live = LiveFlow {
            flow: self.live.share_identities(flow.clone()),
            details: Arc::clone(&details),
            is_read_planned: false,
            written_at: flow.first_at,
            written_bytes: 0,
        };
        self.live.insert(flow.key, live);
        details
    }

    /// Judges by another policy from now on, and returns the lists and the data that were in force. The flows that are
    /// open are described anew, so that one which only the new policy flags alerts now and not at its next report.
    /// What was told of contacts stays told, and what the thresholds of rules that stay have counted stays.
    pub fn replace_policy(
        &mut self,
        lists: Lists,
        rules: Rules,
        ownership: Box<dyn OwnerLookup>,
        policy: &policy::Config,
        config: Config,
        outputs: &mut Vec<Arc<Record>>,
    ) -> (Lists, Box<dyn OwnerLookup>) {
        let before = (std::mem::replace(&mut self.lists, lists), std::mem::replace(&mut self.ownership, ownership));
        self.tracker.reconfigure(policy);
        self.rules.set_rules(rules);
        self.config = config;
        let flows: Vec<_> = self.live.iter().map(|(_, live)| (live.flow.clone(), Arc::clone(&live.details))).collect();
        for (flow, known) in flows {
            // Its processes may have ended meanwhile, and have not changed.
            let details = self.details_with(&flow, known.actor.clone(), known.connector.clone());
            let details = self.live.share_details(details);
            self.live.describe(&flow.key, &details);
            let is_ignored = self.judge(&flow, &details, outputs);
            if !is_ignored && (details.matches != known.matches || details.owner != known.owner) {
                self.observe_lists(&flow, &details, outputs);
            }
        }
        before
    }

    /// Who sent it, who owns the address, what it was called, which lists it hits.
    fn describe(&mut self, flow: &Flow) -> Arc<Details> {
        let details = self.details(flow);
        self.live.share_details(details)
    }

    fn details(&mut self, flow: &Flow) -> Details {
        let connector = flow.connector.as_ref().map(|identity| self.processes.resolve(identity));
        let actor = match &flow.sender {
            Some(identity) => Some(self.processes.resolve(identity)),
            None => connector.clone(),
        };
        self.details_with(flow, actor, connector)
    }

    fn details_with(&mut self, flow: &Flow, actor: Option<Arc<Process>>, connector: Option<Arc<Process>>) -> Details {
        let container = self.container_of(actor.as_deref(), flow.at);
        let address = flow.remote_address();
        if flow.key.destination().is_none() {
            let (owner, names) = (Owner::default(), FlowNames::default());
            return Details {
                actor,
                connector,
                container,
                file: None,
                owner,
                names,
                target_owner: None,
                matches: Vec::new(),
            };
        }
        let owner = self.ownership.lookup(address);
        let mut matches = self.lists.match_address(address, &owner);
        if let Some(translated) = flow.translated.filter(|translated| translated.ip() != address) {
            let owner = self.ownership.lookup(translated.ip());
            matches.extend(self.lists.match_address(translated.ip(), &owner));
        }
        let names = self.names_of(flow);
        let target = names.proxied.as_ref().and_then(Proxied::address);
        let target_owner = target.map(|target| self.ownership.lookup(target));
        if let Some((target, owner)) = target.zip(target_owner.as_ref()) {
            add_new(&mut matches, self.lists.match_address(target, owner));
        }
        for named in names.names.iter().filter(|named| named.is_decisive) {
            add_new(&mut matches, self.lists.match_name(named.name.as_str()));
        }
        let file = match (&mut self.executables, &actor) {
            (Some(executables), Some(actor)) if !matches.is_empty() || self.rules.rules().needs_files() => {
                // At its first sight the flow's process was seen to run the file.
                Some(executables.identify(actor, self.clock.at(flow.first_at).unix_ns()))
            }
            _ => None,
        };
        Details { actor, connector, container, file, owner, names, target_owner, matches }
    }

    fn container_of(&mut self, actor: Option<&Process>, at: BootTime) -> Option<Arc<ContainerFacts>> {
        self.containers.as_mut()?.identify(actor?, at)
    }

    fn names_of(&mut self, flow: &Flow) -> FlowNames {
        let asker = Asker {
            key: &flow.key,
            processes: [&flow.sender, &flow.connector]
                .map(|identity| identity.as_ref().map(|identity| identity.process)),
            network_namespace_cookie: [&flow.sender, &flow.connector]
                .into_iter()
                .find_map(|identity| identity.as_ref()?.network_namespace_cookie),
            at: flow.at,
        };
        self.names.of(&asker)
    }

    fn observe(&mut self, flow: &Flow, details: &Arc<Details>, outputs: &mut Vec<Arc<Record>>) {
        if !self.judge(flow, details, outputs) {
            self.observe_lists(flow, details, outputs);
        }
    }

    /// Judges a flow by rules; whether one says to ignore it.
    fn judge(&mut self, flow: &Flow, details: &Arc<Details>, outputs: &mut Vec<Arc<Record>>) -> bool {
        if self.rules.rules().is_empty() || details.actor.as_ref().is_some_and(|actor| actor.is_own) {
            return false;
        }
        let context = Arc::new(Context { flow: flow.clone(), details: Arc::clone(details) });
        let verdict = self.rules.observe(&sighting(self.clock, flow, details), &context);
        for decision in verdict.decisions {
            self.alert(Due::Rule(decision), outputs);
        }
        verdict.is_ignored
    }

    fn observe_lists(&mut self, flow: &Flow, details: &Arc<Details>, outputs: &mut Vec<Arc<Record>>) {
        if details.matches.is_empty() || details.actor.as_ref().is_some_and(|actor| actor.is_own) {
            return;
        }
        // Behind a proxy the owner that matters is that of the address the proxy was asked for, where one is known.
        let owner = details.target_owner.as_ref().unwrap_or(&details.owner);
        let Some(contact) = ContactKey::new(details.actor.as_deref(), owner, &details.matches) else { return };
        let context = Arc::new(Context { flow: flow.clone(), details: Arc::clone(details) });
        let observation = Observation::new(flow, contact, details.matches.clone(), context);
        for decision in self.tracker.observe(observation) {
            self.alert(Due::Lists(decision), outputs);
        }
    }

    /// Whether an alert is not known to be good, by what is known now that it is to be told.
    fn is_permitted(&mut self, decision: &Due) -> bool {
        if !self.rules.rules().holds_back() {
            return true;
        }
        let Context { flow, details } = &**decision.context();
        let sighting = sighting(self.clock, flow, details);
        match decision {
            Due::Lists(told) => {
                let lists = told.matches.iter().map(|hit| &*hit.list.id);
                self.rules.permits_lists(&sighting, lists, told.level, &told.context)
            }
            Due::Rule(told) => self.rules.permits_rule(&sighting, &told.rule),
        }
    }

    fn alert(&mut self, decision: Due, outputs: &mut Vec<Arc<Record>>) {
        let at = decision.at();
        self.held.push(decision);
        self.tell_held(at, outputs);
    }

    /// Ends a flow: `last` is its entry, if it was still there.
    fn end(
        &mut self,
        key: &FlowKey,
        last: Option<Flow>,
        at: BootTime,
        table: &mut impl FlowTable,
        outputs: &mut Vec<Arc<Record>>,
    ) {
        if let Some(mut last) = last {
            table.forget(key);
            self.make_room_for_collected(at);
            self.collected.insert(*key, (last.first_at, at));
            last.facts.closed = true;
            last.at = at;
            last.reason = ReportReason::Closed;
            self.take_in(&last, outputs);
        }
        if let Some(live) = self.live.remove(key) {
            self.totals.ended_flows += 1;
            self.names.forget(key);
            self.write(&live.flow, &live.details, FlowMoment::Ended, outputs);
        }
    }

    /// Forgets ends before their time if there are too many: a report on one of them that still waits in a ring would then
    /// make a flow that falls silent.
    fn make_room_for_collected(&mut self, now: BootTime) {
        if self.collected.len() < COLLECTED {
            return;
        }
        self.collected.retain(|_, (_, at)| now.since_ns(*at) < COLLECTED_NS / 10);
        if self.collected.len() >= COLLECTED {
            self.collected.clear();
        }
    }

    fn read_again(&mut self, key: &FlowKey, now: BootTime, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        let Some(live) = self.live.get_mut(key) else { return };
        live.is_read_planned = false;
        let before = live.flow.counters;
        // Gone from the table: its last report waits in a ring.
        let Some(flow) = table.read(key, now) else { return };
        let moved = flow.counters != before;
        if moved {
            self.take_in(&flow, outputs);
            self.plan_read(*key, now);
            self.write_if_due(key, now, outputs);
        }
    }

    fn plan_read(&mut self, key: FlowKey, at: BootTime) {
        if let Some(live) = self.live.get_mut(&key)
            && !live.is_read_planned
        {
            live.is_read_planned = true;
            self.reads.push_back((BootTime(at.0.saturating_add(READ_DELAY_NS)), key));
        }
    }

    fn write_if_due(&mut self, key: &FlowKey, at: BootTime, outputs: &mut Vec<Arc<Record>>) {
        let interval_ns = self.config.interval.as_ns();
        let Some(live) = self.live.get_mut(key) else { return };
        let moved_bytes = live.moved_bytes();
        if at.since_ns(live.written_at) < interval_ns || moved_bytes == live.written_bytes {
            return;
        }
        live.written_at = at;
        live.written_bytes = moved_bytes;
        let (flow, details) = (live.flow.clone(), Arc::clone(&live.details));
        self.write(&flow, &details, FlowMoment::Progress, outputs);
    }

    fn write(&self, flow: &Flow, details: &Details, moment: FlowMoment, outputs: &mut Vec<Arc<Record>>) {
        if self.config.write {
            let record = self.records.flow(self.clock, &self.subject(flow, details), moment);
            outputs.push(Arc::new(record));
        }
    }

    fn subject<'a>(&self, flow: &'a Flow, details: &'a Details) -> Subject<'a> {
        Subject {
            flow,
            actor: details.actor.as_deref(),
            connector: details.connector.as_deref(),
            file: details.file.as_deref(),
            container: details.container.as_deref(),
            owner: &details.owner,
            ownership_date: self.ownership.data_date(),
            names: &details.names,
            target_owner: details.target_owner.as_ref(),
            matches: &details.matches,
        }
    }
}

/// A flow as rules ask for it.
fn sighting<'a>(clock: WallClock, flow: &'a Flow, details: &'a Details) -> Sighting<'a> {
    Sighting {
        flow,
        actor: details.actor.as_deref(),
        file: details.file.as_deref(),
        container: details.container.as_deref(),
        owner: details.target_owner.as_ref().unwrap_or(&details.owner),
        names: &details.names,
        matches: &details.matches,
        wall: clock.at(flow.at).into(),
    }
}

/// Adds the matches that are not there yet: several names of a flow may hit one entry.
fn add_new(matches: &mut Vec<Match>, more: Vec<Match>) {
    for hit in more {
        if !matches.contains(&hit) {
            matches.push(hit);
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_rules;
