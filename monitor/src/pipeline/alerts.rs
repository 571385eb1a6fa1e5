//! From what is known of a flow to its alerts: lists and rules judge it, and what they decide is told when it may be.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::{
    describe::Details,
    held::{Due, Held},
    writer::Writer,
};
use crate::{
    alert::{Record, WallClock},
    event::{BootTime, Flow, FlowKey},
    policy::{
        self, ContactKey, Observation, Tracker,
        rules::{Baseline, Engine, EngineStats, Learnt, RuleCause, Rules, Sighting},
    },
    units::Duration,
};

/// What an alert is rendered from.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) flow: Flow,
    pub(super) details: Arc<Details>,
}

/// The policy, and the alerts that it has due.
pub(super) struct Alerts {
    tracker: Tracker<Arc<Context>>,
    rules: Engine<Arc<Context>>,
    /// Alerts that wait for what is read of an executable or a container.
    held: Held,
    told: u64,
}

impl Alerts {
    pub(super) fn new(policy: &policy::Config) -> Self {
        Self {
            tracker: Tracker::new(policy),
            rules: Engine::new(Rules::default(), Baseline::default(), TimeZone::UTC),
            held: Held::default(),
            told: 0,
        }
    }

    /// Lets each alert wait at most this long for its executable.
    pub(super) fn wait(&mut self, wait: Duration) {
        self.held = Held::new(wait.as_ns());
    }

    /// Judges by these rules, which have judged nothing yet.
    pub(super) fn begin_rules(&mut self, rules: Rules, baseline: Baseline, zone: TimeZone) {
        self.rules = Engine::new(rules, baseline, zone);
    }

    /// Judges by another policy from now on. What was told and counted stays.
    pub(super) fn reconfigure(&mut self, policy: &policy::Config, rules: Rules) {
        self.tracker.reconfigure(policy);
        self.rules.set_rules(rules);
    }

    /// Whether rules ask for what is read of executables.
    pub(super) fn need_files(&self) -> bool {
        self.rules.rules().needs_files()
    }

    /// Knows other contacts from now on.
    pub(super) fn set_baseline(&mut self, baseline: Baseline) {
        self.rules.set_baseline(baseline);
    }

    /// What was learnt since the last call.
    pub(super) fn take_learnt(&mut self) -> Learnt {
        self.rules.baseline_mut().take_fresh()
    }

    /// The rules in force.
    pub(super) const fn rules(&self) -> &Rules {
        self.rules.rules()
    }

    /// What rules did not tell.
    pub(super) const fn rule_stats(&self) -> EngineStats {
        self.rules.stats()
    }

    /// Alerts told.
    pub(super) const fn told(&self) -> u64 {
        self.told
    }

    /// When the policy has something to tell next.
    pub(super) fn next_due(&self) -> Option<BootTime> {
        [self.tracker.next_due(), self.rules.next_due()].into_iter().flatten().min()
    }

    /// When an alert that waits is told at the latest.
    pub(super) fn held_due(&self) -> Option<BootTime> {
        self.held.due_at()
    }

    /// Judges a flow that is new, or of which there is news.
    pub(super) fn observe(
        &mut self,
        flow: &Flow,
        details: &Arc<Details>,
        writer: &Writer,
        outputs: &mut Vec<Arc<Record>>,
    ) {
        if !self.judge(flow, details, writer, outputs) {
            self.observe_lists(flow, details, writer, outputs);
        }
    }

    /// Judges a flow by another policy than the one by which it was `known`.
    pub(super) fn observe_anew(
        &mut self,
        flow: &Flow,
        details: &Arc<Details>,
        known: &Details,
        writer: &Writer,
        outputs: &mut Vec<Arc<Record>>,
    ) {
        let is_ignored = self.judge(flow, details, writer, outputs);
        if !is_ignored && (details.matches != known.matches || details.owner != known.owner) {
            self.observe_lists(flow, details, writer, outputs);
        }
    }

    /// The next flow that rules judge again by `now`, whether there is news of it or not.
    pub(super) fn pop_waiting(&mut self, now: BootTime) -> Option<FlowKey> {
        self.rules.pop_waiting(now)
    }

    /// Whether there is one.
    pub(super) fn is_waiting(&self, now: BootTime) -> bool {
        self.rules.is_waiting(now)
    }

    /// Tells what the policy held back until now.
    pub(super) fn tick(&mut self, now: BootTime, writer: &Writer, outputs: &mut Vec<Arc<Record>>) {
        for decision in self.tracker.tick(now) {
            self.alert(Due::Lists(decision), writer, outputs);
        }
        for decision in self.rules.tick(now, writer.clock.at(now).into()) {
            self.alert(Due::Rule(decision), writer, outputs);
        }
        self.tell(now, writer, outputs);
    }

    /// Tells everything that was held back, for the end of the program.
    pub(super) fn drain(&mut self, now: BootTime, writer: &Writer, outputs: &mut Vec<Arc<Record>>) {
        for decision in self.tracker.drain(now) {
            self.alert(Due::Lists(decision), writer, outputs);
        }
        for decision in self.rules.drain(now) {
            self.alert(Due::Rule(decision), writer, outputs);
        }
        self.tell(BootTime(u64::MAX), writer, outputs);
    }

    /// Tells the alerts that have waited long enough at `now`, or need not wait any more.
    pub(super) fn tell(&mut self, now: BootTime, writer: &Writer, outputs: &mut Vec<Arc<Record>>) {
        while let Some(decision) = self.held.pop(now) {
            let permitted = if self.is_permitted(&decision, writer.clock) { Some(decision) } else { decision.rest() };
            let Some(decision) = permitted else { continue };
            let record = writer.alert(&decision);
            self.told += 1;
            self.held.told(&record.event.id, decision);
            outputs.push(Arc::new(record));
        }
        while let Some((alert_id, decision)) = self.held.pop_owed() {
            outputs.push(Arc::new(writer.executable(&decision, alert_id)));
        }
    }

    /// Judges a flow by rules; whether one says to ignore it.
    pub(super) fn judge(
        &mut self,
        flow: &Flow,
        details: &Arc<Details>,
        writer: &Writer,
        outputs: &mut Vec<Arc<Record>>,
    ) -> bool {
        if self.rules.rules().is_empty() || details.actor.as_ref().is_some_and(|actor| actor.is_own) {
            return false;
        }
        let context = Arc::new(Context { flow: flow.clone(), details: Arc::clone(details) });
        let verdict = self.rules.observe(&sighting(writer.clock, flow, details), &context);
        for decision in verdict.decisions {
            self.alert(Due::Rule(decision), writer, outputs);
        }
        verdict.is_ignored
    }

    fn observe_lists(&mut self, flow: &Flow, details: &Arc<Details>, writer: &Writer, outputs: &mut Vec<Arc<Record>>) {
        if details.matches.is_empty() || details.actor.as_ref().is_some_and(|actor| actor.is_own) {
            return;
        }
        // Behind a proxy the owner that matters is that of the address the proxy was asked for, where one is known.
        let owner = details.target_owner.as_ref().unwrap_or(&details.owner);
        let Some(contact) = ContactKey::new(details.actor.as_deref(), owner, &details.matches) else { return };
        let context = Arc::new(Context { flow: flow.clone(), details: Arc::clone(details) });
        let observation = Observation::new(flow, contact, details.matches.clone(), context);
        for decision in self.tracker.observe(observation) {
            self.alert(Due::Lists(decision), writer, outputs);
        }
    }

    /// Whether an alert is not known to be good, by what is known now that it is to be told.
    fn is_permitted(&mut self, decision: &Due, clock: WallClock) -> bool {
        if !self.rules.rules().holds_back() {
            return true;
        }
        let Context { flow, details } = &**decision.context();
        let sighting = sighting(clock, flow, details);
        match decision {
            Due::Lists(told) => {
                let lists = told.matches.iter().map(|hit| &*hit.list.id);
                self.rules.permits_lists(&sighting, lists, told.level, &told.context)
            }
            // What is known of one says nothing about the others.
            Due::Rule(told) if told.cause == RuleCause::Folded && told.is_of_many => true,
            Due::Rule(told) => self.rules.permits_rule(&sighting, &told.rule),
        }
    }

    fn alert(&mut self, decision: Due, writer: &Writer, outputs: &mut Vec<Arc<Record>>) {
        let at = decision.at();
        // Where what is read may say that an alert is not to be told, each has its moment.
        self.held.push(decision, !self.rules.rules().holds_back());
        self.tell(at, writer, outputs);
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
