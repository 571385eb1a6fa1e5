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
    key::{Key, Per},
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
    /// What it stands for may be of several executables, of which the context tells one.
    pub is_of_many: bool,
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
    /// Whether the baseline knows that these rules are in force.
    has_begun: bool,
    /// What was held back of rules that are not there any more, with them.
    gone: Vec<(Arc<RuleHeader>, Back<C>)>,
    /// List alerts that came during maintenance.
    lists_held: Option<Back<C>>,
    /// The lists that these were of.
    held_lists: BTreeSet<String>,
    due_at: Option<BootTime>,
    /// Flows that are to be judged again, and when: what makes them match may be that nothing comes.
    waiting: BTreeSet<(BootTime, FlowKey)>,
    stats: EngineStats,
}

/// What is remembered for one rule.
#[derive(Debug)]
struct RuleState<C> {
    header: Arc<RuleHeader>,
    per: Per,
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
            has_begun: false,
            gone: Vec::new(),
            lists_held: None,
            held_lists: BTreeSet::new(),
            due_at: None,
            waiting: BTreeSet::new(),
            stats: EngineStats::default(),
        }
    }

    /// Puts other rules in force. What rules that stay have counted stays, unless their threshold is another one. What
    /// was held back of others is told at the next tick.
    pub fn set_rules(&mut self, rules: Rules) {
        let is_gone = |id: &Arc<str>| !rules.headers().any(|header| header.id == *id);
        for (_, mut state) in self.states.extract_if(|id, _| is_gone(id)) {
            let rest = state.take_held();
            self.gone.extend(rest.map(|rest| (state.header, rest)));
        }
        if !self.gone.is_empty() {
            self.note_due(BootTime(0));
        }
        for rule in &rules.inner.rules {
            if let Some(state) = self.states.get_mut(&rule.header.id) {
                (state.header, state.per) = (Arc::clone(&rule.header), rule.per);
                if state.threshold != rule.threshold {
                    state.threshold.clone_from(&rule.threshold);
                    state.state = State::new();
                }
            }
        }
        self.rules = rules;
        self.has_begun = false;
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

    /// Knows other contacts from now on.
    pub fn set_baseline(&mut self, baseline: Baseline) {
        self.baseline = baseline;
        self.has_begun = false;
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

    /// When [`Self::tick`] or [`Self::pop_waiting`] has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<BootTime> {
        self.due_at.into_iter().chain(self.waiting.first().map(|(at, _)| *at)).min()
    }

    /// The next flow that is to be judged again by `now`, whether there is news of it or not.
    pub fn pop_waiting(&mut self, now: BootTime) -> Option<FlowKey> {
        if !self.is_waiting(now) {
            return None;
        }
        self.waiting.pop_first().map(|(_, flow)| flow)
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_waiting(&self, now: BootTime) -> bool {
        self.waiting.first().is_some_and(|(at, _)| *at <= now)
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
        // With the first flow, because there is no clock before.
        if !std::mem::replace(&mut self.has_begun, true) {
            for rule in enabled().filter(|rule| rule.learns()) {
                self.baseline.begin(&rule.header.id, facts.wall);
            }
        }
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
        if rule.learns() {
            let is_first = self.baseline.is_first(&rule.header.id, &counted.as_text(), facts.wall);
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
        let evidence = self.state(rule).state.take_in(threshold, &step);
        // Where there is no room, the flow's next report will do.
        if let Some(at) = threshold.judges_again_at(&step)
            && self.waiting.len() < FLOWS
        {
            self.waiting.insert((at, moment.flow));
        }
        Some((key, Some(evidence?)))
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
        let of_many = !rule.per.is_of_one_executable();
        decisions.extend(evicted.and_then(|(_, told)| told.back).map(|back| back.told(&rule.header, of_many, at)));
        decisions.push(RuleDecision {
            rule: Arc::clone(&rule.header),
            cause: RuleCause::Matched,
            evidence,
            folded,
            is_of_many: !rule.per.is_of_one_executable(),
            level: facts.level,
            context: context.clone(),
            at,
        });
    }

    fn state(&mut self, rule: &Rule) -> &mut RuleState<C> {
        self.states.entry(Arc::clone(&rule.header.id)).or_insert_with(|| RuleState {
            header: Arc::clone(&rule.header),
            per: rule.per,
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
        // Whether it stays, and then until when: what is not due yet keeps its time, whatever else is due.
        let stays = |held: &Back<C>, is_maintained: &dyn Fn() -> bool| match held.due_at {
            due_at if due_at > now => Some(due_at),
            _ => is_maintained().then_some(later),
        };
        decisions.extend(self.gone.drain(..).map(|(header, back)| back.told(&header, true, now)));
        for (id, state) in &mut self.states {
            if let Some(held) = state.held.take() {
                match stays(&held, &|| is_maintained(Ground::Rule(id))) {
                    Some(due_at) => {
                        note(due_at);
                        state.held = Some(Back { due_at, ..held });
                    }
                    None => decisions.push(held.told(&state.header, true, now)),
                }
            }
            for told in state.told.values_mut() {
                match told.back.take() {
                    Some(back) if back.due_at > now => {
                        note(back.due_at);
                        told.back = Some(back);
                    }
                    Some(back) => decisions.push(back.told(&state.header, !state.per.is_of_one_executable(), now)),
                    None => {}
                }
            }
        }
        if let Some(held) = self.lists_held.take() {
            let are_maintained = || self.held_lists.iter().any(|list| is_maintained(Ground::List(list)));
            if let Some(due_at) = stays(&held, &are_maintained) {
                note(due_at);
                self.lists_held = Some(Back { due_at, ..held });
            } else {
                self.held_lists.clear();
                decisions.push(held.told(&maintained_lists(), true, now));
            }
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

impl<C> RuleState<C> {
    /// Everything that was held back, as one with the latest of it.
    fn take_held(&mut self) -> Option<Back<C>> {
        let folded = self.told.values_mut().filter_map(|told| told.back.take());
        self.held.take().into_iter().chain(folded).reduce(|one, two| {
            let count = one.count + two.count;
            Back { count, ..if one.due_at >= two.due_at { one } else { two } }
        })
    }
}

impl<C: Clone> Back<C> {
    fn add(slot: &mut Option<Self>, evidence: Option<Evidence>, level: Level, context: &C, due_at: BootTime) {
        let count = slot.as_ref().map_or(0, |back| back.count) + 1;
        let due_at = slot.as_ref().map_or(due_at, |back| back.due_at.min(due_at));
        *slot = Some(Self { count, evidence, level, context: context.clone(), due_at });
    }

    fn told(self, rule: &Arc<RuleHeader>, is_of_many: bool, at: BootTime) -> RuleDecision<C> {
        let Self { count: folded, evidence, level, context, .. } = self;
        let (rule, cause) = (Arc::clone(rule), RuleCause::Folded);
        RuleDecision { rule, cause, evidence, folded, level, is_of_many, context, at }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
