//! The stages in order, synchronous and without a clock of their own: events in, records out.
//!
//! The kernel's flow table is the truth and its reports are hints: each report is a whole snapshot, a later one replaces
//! an earlier one, and a report that found no room in a ring is made up for by reading the table again. After each
//! report of an open flow its entry is read once more, so that the totals of a flow that falls silent are exact within
//! `READ_DELAY_NS` and one report interval of its last byte.

mod alerts;
mod beyond;
mod describe;
mod ends;
mod held;
mod intake;
mod live;
mod reads;
mod walk;
mod writer;

use std::sync::Arc;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    alert::{Record, RecordBuilder, WallClock},
    containers::{self, Containers},
    event::{BootTime, Event, Flow, FlowKey},
    executables::Executables,
    limits::FlowBounds,
    names::{NameLosses, Names},
    ownership::OwnerLookup,
    policy::{
        self, Lists,
        rules::{Baseline, EngineStats, Learnt, Rules},
    },
    process::Table as ProcessTable,
    units::Duration,
};

pub use beyond::Released;

use alerts::Alerts;
use beyond::Beyond;
use describe::Describer;
use ends::Ends;
use live::LiveFlows;
use reads::Reads;
use writer::Writer;

/// Records that are made at once, before the outputs get their turn: each takes some kilobytes.
const RECORDS_AT_ONCE: usize = 512;

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
    describer: Describer,
    alerts: Alerts,
    writer: Writer,
    live: LiveFlows,
    /// Open flows for which there was no room.
    beyond: Beyond,
    ends: Ends,
    /// Open flows whose entries are to be read again.
    reads: Reads,
    totals: Totals,
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
        let describer = Describer::new(processes, ownership, lists);
        Self {
            writer: Writer::new(records, clock, config.write, describer.ownership_date()),
            config,
            describer,
            alerts: Alerts::new(policy),
            live: LiveFlows::default(),
            beyond: Beyond::default(),
            ends: Ends::default(),
            reads: Reads::default(),
            totals: Totals::default(),
        }
    }

    /// Lets alerts tell the hash and the package of executables, for which each waits at most `wait`.
    #[must_use]
    pub fn with_executables(mut self, executables: Executables, wait: Duration) -> Self {
        self.describer.executables = Some(executables);
        self.alerts.wait(wait);
        self
    }

    /// Lets records and rules tell what containers are.
    #[must_use]
    pub fn with_containers(mut self, containers: Containers) -> Self {
        self.describer.containers = Some(containers);
        self
    }

    /// Bounds what is remembered of names by the configuration, not by the defaults.
    #[must_use]
    pub fn with_names(mut self, names: Names) -> Self {
        self.describer.names = names;
        self
    }

    /// Judges flows by rules as well. Their times of maintenance are those of `zone`.
    #[must_use]
    pub fn with_rules(mut self, rules: Rules, baseline: Baseline, zone: TimeZone) -> Self {
        self.alerts.begin_rules(rules, baseline, zone);
        self
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
                self.ends.released(self.live.of_socket(socket_cookie), at);
                self.end_some(at, table, outputs);
            }
            Event::Exec(exec) => self.describer.processes.exec(&exec),
            Event::Fork(fork) => self.describer.processes.fork(&fork),
            Event::Exit { process, at } => self.describer.processes.exit(process, at),
            Event::CgroupCreated(created) => self.describer.cgroup_created(&created),
            Event::Capture(capture) => self.learn(&capture, outputs),
        }
    }

    /// Does what is due at `now`: reads entries again, ends what fell silent, tells what the tracker held back.
    pub fn tick(&mut self, now: BootTime, table: &mut impl FlowTable, outputs: &mut Vec<Arc<Record>>) {
        self.end_some(now, table, outputs);
        while outputs.len() < RECORDS_AT_ONCE
            && let Some(key) = self.reads.pop(now)
        {
            self.read_again(&key, now, table, outputs);
        }
        while outputs.len() < RECORDS_AT_ONCE
            && let Some(key) = self.alerts.pop_waiting(now)
        {
            let Some(live) = self.live.get(&key) else { continue };
            let (flow, details) = (Flow { at: now, ..live.flow.clone() }, Arc::clone(&live.details));
            // Lists decide by what is known of a flow, and not by the time.
            self.alerts.judge(&flow, &details, &self.writer, outputs);
        }
        self.alerts.tick(now, &self.writer, outputs);
    }

    /// Whether [`Self::tick`] left something that is due at `now` for the next time, because it made many records.
    #[must_use]
    pub fn is_behind(&self, now: BootTime) -> bool {
        self.ends.are_waiting() || self.reads.is_due(now) || self.alerts.is_waiting(now)
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
        let before = self.describer.replace(lists, ownership);
        self.alerts.reconfigure(policy, rules);
        self.writer.writes_flows = config.write;
        self.writer.ownership_date = self.describer.ownership_date();
        self.config = config;
        let needs_file = self.alerts.need_files();
        let flows: Vec<_> = self.live.iter().map(|(_, live)| (live.flow.clone(), Arc::clone(&live.details))).collect();
        for (flow, known) in flows {
            let details = self.describer.describe_anew(&flow, &known, self.writer.clock, needs_file);
            let details = self.live.share_details(details);
            self.live.describe(&flow.key, &details);
            self.alerts.observe_anew(&flow, &details, &known, &self.writer, outputs);
        }
        before
    }

    /// Tells the alerts that have waited long enough at `now`, or need not wait any more.
    pub fn tell_held(&mut self, now: BootTime, outputs: &mut Vec<Arc<Record>>) {
        self.alerts.tell(now, &self.writer, outputs);
    }

    /// When [`Self::tell_held`] has something to do next, unless an executable is read before that.
    #[must_use]
    pub fn held_due(&self) -> Option<BootTime> {
        self.alerts.held_due()
    }

    /// When [`Self::tick`] has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<BootTime> {
        [self.reads.next_due(), self.alerts.next_due()].into_iter().flatten().min()
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
        Some(self.writer.answer(flow, &live.details))
    }

    /// Renews the way from boot time to wall-clock time, which changes when the wall clock is set.
    pub fn set_clock(&mut self, clock: WallClock) {
        self.writer.clock = clock;
    }

    /// What happened so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals { live_flows: self.live.len() as u64, alerts: self.alerts.told(), ..self.totals }
    }

    /// Knows these contacts, and no others, from now on.
    pub fn set_baseline(&mut self, baseline: Baseline) {
        self.alerts.set_baseline(baseline);
    }

    /// What rules learnt since the last call, to be kept for the next run.
    pub fn take_learnt(&mut self) -> Learnt {
        self.alerts.take_learnt()
    }

    /// The rules in force.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        self.alerts.rules()
    }

    /// What rules did not tell, since the start.
    #[must_use]
    pub const fn rule_stats(&self) -> EngineStats {
        self.alerts.rule_stats()
    }

    /// How often what was found of containers, since the start.
    #[must_use]
    pub fn container_figures(&self) -> containers::Figures {
        self.describer.container_figures()
    }

    /// The process table, for its figures.
    #[must_use]
    pub const fn processes(&self) -> &ProcessTable {
        &self.describer.processes
    }

    /// Names that could not be kept, since the start.
    #[must_use]
    pub fn name_losses(&self) -> NameLosses {
        self.describer.names.losses()
    }

    /// How full the tables of names are: name, entries, capacity.
    #[must_use]
    pub fn name_tables(&self) -> [(&'static str, usize, usize); 2] {
        self.describer.names.occupancy()
    }

    /// Reads the running processes again, after events about processes were lost.
    pub fn reseed_processes(&mut self) {
        if let Err(error) = self.describer.processes.seed() {
            tracing::warn!(%error, "the process table cannot be read again");
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_rules;
