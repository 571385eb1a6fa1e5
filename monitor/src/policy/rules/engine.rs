//! Which flows alert by which rule. Time comes in with reports and ticks; memory is bounded.
//!
//! What is not told at once is counted, and the count is told: in the next alert on the same key, or in a summary when
//! the time to fold is over. An alert that is suppressed as known to be good is only counted ([`EngineStats`]).

use std::{
    collections::{BTreeSet, HashMap},
    num::NonZeroUsize,
    sync::Arc,
};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    Action, Baseline, Evidence, Rule, RuleHeader, Rules,
    facts::{Facts, Moment, Sighting},
    key::Key,
    suppress::Ground,
    threshold::{KEYS, State, Step, Threshold},
};
use crate::{
    event::{BootTime, FlowKey},
    policy::{Level, Severity},
    recent::Recent,
};

/// Most flows of which is remembered what rules counted. The longest silent one is forgotten first.
const FLOWS: usize = 65_536;
const HOUR_NS: u64 = 3_600_000_000_000;
/// How often is looked whether a time of maintenance is over.
const MAINTENANCE_CHECK_NS: u64 = 60_000_000_000;

/// Why a rule tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleCause {
    /// Its condition holds and its threshold is reached.
    Matched,
    /// Matches that were not told one by one, summed up.
    Folded,
}

/// Something to tell by a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleDecision<C> {
    /// The rule.
    pub rule: Arc<RuleHeader>,
    /// Why now.
    pub cause: RuleCause,
    /// What the threshold found.
    pub evidence: Option<Evidence>,
    /// Earlier matches that were not told: of the same key; for [`RuleCause::Folded`] those that it stands for.
    pub folded: u64,
    /// How far the flow got.
    pub level: Level,
    /// The caller's context of the flow; for a sum of the latest one.
    pub context: C,
    /// When it was taken.
    pub at: BootTime,
}

/// What is to be done about a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict<C> {
    /// A rule says to ignore the flow: lists do not tell of it either.
    pub is_ignored: bool,
    /// What is to be told.
    pub decisions: Vec<RuleDecision<C>>,
}

/// What the engine did not tell, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Reports on flows that a rule says to ignore.
    pub ignored: u64,
    /// Matches of rules and alerts of lists that are known to be good.
    pub suppressed: u64,
    /// Matches folded into the next alert on the same key, or into a sum.
    pub folded: u64,
    /// Matches folded because a rule had told enough in that hour.
    pub rate_limited: u64,
    /// Matches of rules and alerts of lists during maintenance.
    pub maintained: u64,
}

/// Judges flows by rules. `C` is what the caller needs to render an alert.
#[derive(Debug)]
pub struct Engine<C> {
    rules: Rules,
    zone: TimeZone,
    states: HashMap<Arc<str>, RuleState<C>>,
    flows: Recent<FlowKey, FlowMemory>,
    baseline: Baseline,
    /// List alerts that came during maintenance.
    lists_held: Option<Back<C>>,
    /// The lists that these were of.
    held_lists: BTreeSet<String>,
    due_at: Option<BootTime>,
    stats: EngineStats,
}

/// What is remembered for one rule.
#[derive(Debug)]
struct RuleState<C> {
    header: Arc<RuleHeader>,
    threshold: Option<Threshold>,
    state: State,
    told: Recent<Key, Told<C>>,
    hour_began: BootTime,
    told_in_hour: u32,
    /// What the limit of the hour or a time of maintenance held back.
    held: Option<Back<C>>,
}

/// The last alert on a key, and what came after it.
#[derive(Debug)]
struct Told<C> {
    until: BootTime,
    back: Option<Back<C>>,
}

/// What was not told.
#[derive(Debug)]
struct Back<C> {
    count: u64,
    evidence: Option<Evidence>,
    level: Level,
    context: C,
    due_at: BootTime,
}

#[derive(Debug)]
struct FlowMemory {
    first_at: BootTime,
    /// Rules whose condition held, with the payload that they counted.
    counted: Vec<(Arc<str>, u64)>,
}

impl<C: Clone> Engine<C> {
    /// An engine that has seen nothing yet. Times of maintenance and `time.local_…` are those of `zone`.
    #[must_use]
    pub fn new(rules: Rules, baseline: Baseline, zone: TimeZone) -> Self {
        Self {
            rules,
            zone,
            states: HashMap::new(),
            flows: Recent::new(NonZeroUsize::new(FLOWS).unwrap_or(NonZeroUsize::MIN)),
            baseline,
            lists_held: None,
            held_lists: BTreeSet::new(),
            due_at: None,
            stats: EngineStats::default(),
        }
    }

    /// Puts other rules in force. What rules that stay have counted stays, unless their threshold is another one.
    pub fn set_rules(&mut self, rules: Rules) {
        self.states.retain(|id, _| rules.headers().any(|header| header.id == *id));
        for rule in &rules.inner.rules {
            if let Some(state) = self.states.get_mut(&rule.header.id) {
                state.header = Arc::clone(&rule.header);
                if state.threshold != rule.threshold {
                    state.threshold.clone_from(&rule.threshold);
                    state.state = State::new();
                }
            }
        }
        self.rules = rules;
    }

    /// The rules in force.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Which contacts are known.
    pub const fn baseline_mut(&mut self) -> &mut Baseline {
        &mut self.baseline
    }

    /// What was not told.
    #[must_use]
    pub const fn stats(&self) -> EngineStats {
        self.stats
    }

    /// Judges a report on a flow.
    pub fn observe(&mut self, sighting: &Sighting<'_>, context: &C) -> Verdict<C> {
        if self.rules.is_empty() {
            return Verdict { is_ignored: false, decisions: Vec::new() };
        }
        let facts = Facts::of(sighting, &self.zone);
        self.judge(&facts, &Moment::of(sighting.flow), context)
    }

    /// Whether an alert of lists is to be told: `false` if it is known to be good or comes during maintenance.
    pub fn permits_lists<'l>(
        &mut self,
        sighting: &Sighting<'_>,
        lists: impl Iterator<Item = &'l str> + Clone,
        level: Level,
        context: &C,
    ) -> bool {
        if !self.rules.holds_back() {
            return true;
        }
        let facts = Facts::of(sighting, &self.zone);
        self.permits(&facts, sighting.flow.at, lists, level, context)
    }

    /// The same by the facts.
    pub(super) fn permits<'l>(
        &mut self,
        facts: &Facts<'_>,
        at: BootTime,
        lists: impl Iterator<Item = &'l str> + Clone,
        level: Level,
        context: &C,
    ) -> bool {
        let inner = Arc::clone(&self.rules.inner);
        let is_good = |list| inner.suppressions.iter().any(|known| known.fits(facts, Ground::List(list)));
        if lists.clone().all(is_good) {
            self.stats.suppressed += 1;
            return false;
        }
        let Some(local) = facts.local() else { return true };
        let is_maintained = |list| inner.maintenance.iter().any(|window| window.holds(&local, Ground::List(list)));
        if !lists.clone().all(is_maintained) {
            return true;
        }
        self.held_lists.extend(lists.map(str::to_owned));
        self.stats.maintained += 1;
        let due_at = BootTime(at.0.saturating_add(MAINTENANCE_CHECK_NS));
        Back::add(&mut self.lists_held, None, level, context, due_at);
        self.note_due(due_at);
        false
    }

    /// Whether an alert of a rule is still to be told, now that more may be known of its executable.
    pub fn permits_rule(&mut self, sighting: &Sighting<'_>, rule: &RuleHeader) -> bool {
        if !self.rules.inner.suppressions.iter().any(super::Suppression::needs_file) {
            return true;
        }
        let facts = Facts::of(sighting, &self.zone);
        let is_good = self.rules.inner.suppressions.iter().any(|known| known.fits(&facts, Ground::Rule(&rule.id)));
        self.stats.suppressed += u64::from(is_good);
        !is_good
    }

    /// When [`Self::tick`] has something to do next.
    #[must_use]
    pub const fn next_due(&self) -> Option<BootTime> {
        self.due_at
    }

    /// The sums that are due at `now`.
    pub fn tick(&mut self, now: BootTime, wall: Timestamp) -> Vec<RuleDecision<C>> {
        let mut decisions = Vec::new();
        if self.due_at.is_none_or(|due_at| due_at > now) {
            return decisions;
        }
        self.sum_up(now, Some(wall), &mut decisions);
        decisions
    }

    /// Everything that would be told later, told now: for the end of the program.
    pub fn drain(&mut self, now: BootTime) -> Vec<RuleDecision<C>> {
        let mut decisions = Vec::new();
        self.sum_up(BootTime(u64::MAX), None, &mut decisions);
        for decision in &mut decisions {
            decision.at = now;
        }
        decisions
    }

    pub(super) fn judge(&mut self, facts: &Facts<'_>, moment: &Moment, context: &C) -> Verdict<C> {
        let inner = Arc::clone(&self.rules.inner);
        let enabled = || inner.rules.iter().filter(|rule| rule.header.enabled);
        let mut verdict = Verdict { is_ignored: false, decisions: Vec::new() };
        if enabled().any(|rule| rule.header.action == Action::Ignore && rule.matches(facts)) {
            self.stats.ignored += 1;
            verdict.is_ignored = true;
            return verdict;
        }
        for rule in enabled().filter(|rule| rule.header.action == Action::Alert) {
            if rule.matches(facts)
                && let Some((key, evidence)) = self.reaches(rule, facts, moment)
            {
                self.tell(rule, key, evidence, facts, moment, context, &mut verdict.decisions);
            }
        }
        verdict
    }

    /// Whether the rule's threshold is reached, and what it found; without one each flow counts once.
    fn reaches(&mut self, rule: &Rule, facts: &Facts<'_>, moment: &Moment) -> Option<(Key, Option<Evidence>)> {
        let (new_bytes, is_new_flow) = self.count(rule, facts, moment);
        let key = Key::new(rule.per, facts);
        let Some(threshold) = &rule.threshold else { return is_new_flow.then_some((key, None)) };
        // What a threshold counts by is its own, whatever alerts are folded by.
        let counted = Key::new(threshold.per(), facts);
        if matches!(threshold, Threshold::FirstContact {}) {
            let contact = format!("{}\t{}", rule.header.id, counted.as_text());
            let is_first = self.baseline.is_first(contact, facts.wall);
            let evidence = || Evidence {
                kind: "first_contact",
                observed: 1,
                limit: None,
                window_s: None,
                text: "this executable was not seen to reach this owner before".to_owned(),
            };
            return is_first.then(|| (key, Some(evidence())));
        }
        let step = Step { facts, moment, key: &counted, new_bytes, is_new_flow };
        let state = self.state(rule);
        let evidence = state.state.take_in(threshold, &step)?;
        Some((key, Some(evidence)))
    }

    /// Payload that the rule has not counted of this flow yet, and whether it sees the flow for the first time.
    fn count(&mut self, rule: &Rule, facts: &Facts<'_>, moment: &Moment) -> (u64, bool) {
        self.flows.touch(&moment.flow);
        if self.flows.peek(&moment.flow).is_none_or(|memory| memory.first_at != moment.first_at) {
            self.flows.insert(moment.flow, FlowMemory { first_at: moment.first_at, counted: Vec::new() });
        }
        let sent = facts.bytes_out.unwrap_or_default();
        let Some(memory) = self.flows.peek_mut(&moment.flow) else { return (sent, true) };
        if let Some((_, counted)) = memory.counted.iter_mut().find(|(id, _)| *id == rule.header.id) {
            let new = sent.saturating_sub(*counted);
            *counted = sent.max(*counted);
            (new, false)
        } else {
            memory.counted.push((Arc::clone(&rule.header.id), sent));
            (sent, true)
        }
    }

    #[expect(clippy::too_many_arguments, reason = "everything that a decision is made of")]
    fn tell(
        &mut self,
        rule: &Rule,
        key: Key,
        evidence: Option<Evidence>,
        facts: &Facts<'_>,
        moment: &Moment,
        context: &C,
        decisions: &mut Vec<RuleDecision<C>>,
    ) {
        let ground = Ground::Rule(&rule.header.id);
        let inner = Arc::clone(&self.rules.inner);
        if inner.suppressions.iter().any(|known| known.fits(facts, ground)) {
            self.stats.suppressed += 1;
            return;
        }
        let at = moment.at;
        let local = facts.local();
        if local.is_some_and(|local| inner.maintenance.iter().any(|window| window.holds(&local, ground))) {
            self.stats.maintained += 1;
            let due_at = BootTime(at.0.saturating_add(MAINTENANCE_CHECK_NS));
            Back::add(&mut self.state(rule).held, evidence, facts.level, context, due_at);
            self.note_due(due_at);
            return;
        }
        let until = BootTime(at.0.saturating_add(rule.repeat_ns));
        let state = self.state(rule);
        state.told.touch(&key);
        if let Some(told) = state.told.peek_mut(&key)
            && at < told.until
        {
            let due_at = told.until;
            Back::add(&mut told.back, evidence, facts.level, context, due_at);
            self.stats.folded += 1;
            self.note_due(due_at);
            return;
        }
        if at.since_ns(state.hour_began) >= HOUR_NS {
            (state.hour_began, state.told_in_hour) = (at, 0);
        }
        if state.told_in_hour >= rule.max_alerts_per_hour {
            let due_at = BootTime(state.hour_began.0.saturating_add(HOUR_NS));
            Back::add(&mut state.held, evidence, facts.level, context, due_at);
            self.stats.rate_limited += 1;
            self.note_due(due_at);
            return;
        }
        state.told_in_hour += 1;
        let folded = state.told.remove(&key).and_then(|told| told.back).map_or(0, |back| back.count);
        let evicted = state.told.insert(key, Told { until, back: None });
        decisions.extend(evicted.and_then(|(_, told)| told.back).map(|back| back.told(&rule.header, at)));
        decisions.push(RuleDecision {
            rule: Arc::clone(&rule.header),
            cause: RuleCause::Matched,
            evidence,
            folded,
            level: facts.level,
            context: context.clone(),
            at,
        });
    }

    fn state(&mut self, rule: &Rule) -> &mut RuleState<C> {
        self.states.entry(Arc::clone(&rule.header.id)).or_insert_with(|| RuleState {
            header: Arc::clone(&rule.header),
            threshold: rule.threshold.clone(),
            state: State::new(),
            told: Recent::new(NonZeroUsize::new(KEYS).unwrap_or(NonZeroUsize::MIN)),
            hour_began: BootTime(0),
            told_in_hour: 0,
            held: None,
        })
    }

    fn note_due(&mut self, at: BootTime) {
        self.due_at = Some(self.due_at.map_or(at, |due_at| due_at.min(at)));
    }

    /// Tells what is due at `now`. Without a wall-clock time maintenance is over.
    fn sum_up(&mut self, now: BootTime, wall: Option<Timestamp>, decisions: &mut Vec<RuleDecision<C>>) {
        let inner = Arc::clone(&self.rules.inner);
        let local = wall.map(|wall| wall.to_zoned_datetime(self.zone.clone()));
        let is_maintained = |ground: Ground<'_>| {
            local.as_ref().is_some_and(|local| inner.maintenance.iter().any(|window| window.holds(local, ground)))
        };
        let mut next: Option<BootTime> = None;
        let mut note = |at: BootTime| next = Some(next.map_or(at, |next| next.min(at)));
        let later = BootTime(now.0.saturating_add(MAINTENANCE_CHECK_NS));
        for (id, state) in &mut self.states {
            match state.held.take() {
                Some(mut held) if held.due_at > now || is_maintained(Ground::Rule(id)) => {
                    held.due_at = held.due_at.max(later);
                    note(held.due_at);
                    state.held = Some(held);
                }
                Some(held) => decisions.push(held.told(&state.header, now)),
                None => {}
            }
            for told in state.told.values_mut() {
                match told.back.take() {
                    Some(back) if back.due_at > now => {
                        note(back.due_at);
                        told.back = Some(back);
                    }
                    Some(back) => decisions.push(back.told(&state.header, now)),
                    None => {}
                }
            }
        }
        let are_maintained = self.held_lists.iter().any(|list| is_maintained(Ground::List(list)));
        match self.lists_held.take() {
            Some(mut held) if held.due_at > now || are_maintained => {
                held.due_at = held.due_at.max(later);
                note(held.due_at);
                self.lists_held = Some(held);
            }
            Some(held) => {
                self.held_lists.clear();
                decisions.push(held.told(&maintained_lists(), now));
            }
            None => {}
        }
        self.due_at = next;
    }
}

/// Stands for the lists whose alerts came during maintenance.
fn maintained_lists() -> Arc<RuleHeader> {
    Arc::new(RuleHeader {
        id: "maintenance".into(),
        title: "Alerts of lists during maintenance".into(),
        description: None,
        severity: Severity::Low,
        tags: Vec::new(),
        references: Vec::new(),
        file: "built-in".into(),
        action: Action::Alert,
        enabled: true,
    })
}

impl<C: Clone> Back<C> {
    fn add(slot: &mut Option<Self>, evidence: Option<Evidence>, level: Level, context: &C, due_at: BootTime) {
        let count = slot.as_ref().map_or(0, |back| back.count) + 1;
        let due_at = slot.as_ref().map_or(due_at, |back| back.due_at.min(due_at));
        *slot = Some(Self { count, evidence, level, context: context.clone(), due_at });
    }

    fn told(self, rule: &Arc<RuleHeader>, at: BootTime) -> RuleDecision<C> {
        let Self { count, evidence, level, context, .. } = self;
        RuleDecision { rule: Arc::clone(rule), cause: RuleCause::Folded, evidence, folded: count, level, context, at }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
