//! When is an alert due. Time comes in with reports and ticks; memory is bounded.
//!
//! A *contact* is a program and an owner. Its first alert tells the highest level that its flows reach: `sent` at the
//! first payload, `attempted` and `established` when the flow ends or had time to get further ([`Config::settle`]).
//! A level that rises later, or an entity of a list that was not hit before, is told again. Everything else is summed up
//! and told at growing pauses, never once per connection.
//!
//! Ceiling with the default options: a contact takes at most about 6 kB beside the caller's context (4,096 of them:
//! 24 MB), a flow about 350 bytes with its share of the maps (65,536 of them: 23 MB). What is given up is counted; a
//! contact is given up with a last decision, so that its sums are told. A flow that was given up while it lived counts
//! its bytes a second time when it is reported again.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Config, ContactKey, Decision, Level, Observation, RollupSchedule,
    history::{History, Progress},
};
use crate::{
    event::{BootTime, FlowKey},
    recent::Recent,
};

/// How long a closed flow is remembered, so that a report that was overtaken by the last one is not taken for a new flow.
const LINGER_NS: u64 = 10_000_000_000;

/// Decides when an alert is due. `C` is what the caller needs to render one.
#[derive(Clone, Debug)]
pub struct Tracker<C> {
    min_level: Level,
    settle_ns: u64,
    schedule: RollupSchedule,
    growth: u64,
    contacts: Recent<ContactKey, History<C>>,
    flows: Recent<FlowKey, FlowState>,
    /// Contacts with something to tell, by when.
    due: BTreeMap<(BootTime, u64), ContactKey>,
    /// Closed flows, by when they closed.
    closed: VecDeque<(BootTime, FlowKey, BootTime)>,
    next_serial: u64,
    stats: TrackerStats,
}

/// What the tracker holds and gave up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerStats {
    /// Contacts remembered now.
    pub contacts: usize,
    /// Flows remembered now.
    pub flows: usize,
    /// Contacts forgotten for others, each after its last decision.
    pub evicted_contacts: u64,
    /// Flows forgotten for others; their bytes may be counted twice.
    pub evicted_flows: u64,
    /// Reports older than one that was seen already.
    pub stale_reports: u64,
    /// Matches that a contact had no room for.
    pub dropped_matches: u64,
}

#[derive(Clone, Debug)]
struct FlowState {
    contact: ContactKey,
    contact_serial: u64,
    first_at: BootTime,
    at: BootTime,
    level: Level,
    live: bool,
    closed: bool,
    payload_out_bytes: u64,
    payload_in_bytes: u64,
}

impl<C: Clone> Tracker<C> {
    /// A tracker that knows nothing yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            min_level: config.min_level,
            settle_ns: config.settle.as_ns(),
            schedule: config.rollup.clone(),
            growth: config.rollup_growth,
            contacts: Recent::new(config.max_contacts),
            flows: Recent::new(config.max_flows),
            due: BTreeMap::new(),
            closed: VecDeque::new(),
            next_serial: 0,
            stats: TrackerStats::default(),
        }
    }

    /// Follows other settings from now on, except for how much is remembered at most.
    pub fn reconfigure(&mut self, config: &Config) {
        self.min_level = config.min_level;
        self.settle_ns = config.settle.as_ns();
        self.schedule = config.rollup.clone();
        self.growth = config.rollup_growth;
    }

    /// Takes a report in and says what is to be told at once: at most one decision on its contact, and one on a contact
    /// that had to be forgotten for it.
    pub fn observe(&mut self, observation: Observation<C>) -> Vec<Decision<C>> {
        let mut decisions = Vec::new();
        let at = observation.at;
        self.forget_closed(at);
        if !observation.matches.iter().any(|hit| hit.list.enabled) {
            return decisions;
        }
        let Some(progress) = self.progress(&observation) else {
            return decisions;
        };
        let key = progress.contact.clone();
        if self.contacts.peek(&key).is_none() {
            self.add_contact(&key, &observation, &mut decisions);
        }
        self.record_flow(&key, &observation);
        self.contacts.touch(&key);
        if let Some(contact) = self.contacts.peek_mut(&key) {
            self.stats.dropped_matches += contact.take_in(observation, &progress, self.settle_ns);
            contact.notice_growth(self.growth, at);
        }
        self.reschedule(&key);
        decisions.extend(self.decide_if_due(&key, at));
        decisions
    }

    /// What is due at `now`.
    pub fn tick(&mut self, now: BootTime) -> Vec<Decision<C>> {
        self.forget_closed(now);
        let mut decisions = Vec::new();
        while let Some(((due_at, _), key)) = self.due.first_key_value()
            && *due_at <= now
        {
            let key = key.clone();
            decisions.extend(self.decide(&key, now));
        }
        decisions
    }

    /// When [`Self::tick`] has something to tell next.
    #[must_use]
    pub fn next_due(&self) -> Option<BootTime> {
        self.due.first_key_value().map(|((due_at, _), _)| *due_at)
    }

    /// Everything that would be told later, told now: for the end of the program.
    pub fn drain(&mut self, now: BootTime) -> Vec<Decision<C>> {
        let keys: Vec<ContactKey> = self.due.values().cloned().collect();
        keys.iter().filter_map(|key| self.decide(key, now)).collect()
    }

    /// What the tracker holds and gave up.
    #[must_use]
    pub fn stats(&self) -> TrackerStats {
        TrackerStats { contacts: self.contacts.len(), flows: self.flows.len(), ..self.stats }
    }

    /// What the report adds; `None` if it is old or no news. A flow that is no news yet is not remembered: once it is, its
    /// counters still hold everything.
    fn progress(&mut self, observation: &Observation<C>) -> Option<Progress> {
        let known = self.flows.peek(&observation.flow);
        if let Some(known) = known
            && (observation.first_at, observation.at) < (known.first_at, known.at)
        {
            self.stats.stale_reports += 1;
            return None;
        }
        let Some(known) = known.filter(|known| known.first_at == observation.first_at) else {
            let is_news = !observation.quiet && observation.level >= self.min_level;
            return is_news.then(|| Progress {
                contact: observation.contact.clone(),
                is_bystander: false,
                joins: true,
                payload_out_bytes: observation.payload_out_bytes,
                payload_in_bytes: observation.payload_in_bytes,
            });
        };
        let payload_out_bytes = observation.payload_out_bytes.saturating_sub(known.payload_out_bytes);
        let payload_in_bytes = observation.payload_in_bytes.saturating_sub(known.payload_in_bytes);
        // Who merely holds a socket that another program made has done nothing: it takes the flow over by sending.
        let is_bystander = known.contact != observation.contact && payload_out_bytes == 0;
        let contact = if is_bystander { &known.contact } else { &observation.contact };
        let serial = self.contacts.peek(contact).map(|contact| contact.serial);
        if serial.is_none() && payload_out_bytes == 0 && payload_in_bytes == 0 && observation.level <= known.level {
            // Its contact was given up and the flow brings nothing that would make it one again.
            return None;
        }
        Some(Progress {
            contact: contact.clone(),
            is_bystander,
            joins: *contact != known.contact || serial != Some(known.contact_serial),
            payload_out_bytes,
            payload_in_bytes,
        })
    }

    fn add_contact(&mut self, key: &ContactKey, observation: &Observation<C>, decisions: &mut Vec<Decision<C>>) {
        self.next_serial += 1;
        let contact = History::new(self.next_serial, observation);
        let Some((evicted_key, mut evicted)) = self.contacts.insert(key.clone(), contact) else {
            return;
        };
        self.stats.evicted_contacts += 1;
        if let Some(due_at) = evicted.due_at {
            self.due.remove(&(due_at, evicted.serial));
            decisions.push(evicted.decide(evicted_key, observation.at));
        }
    }

    fn record_flow(&mut self, key: &ContactKey, observation: &Observation<C>) {
        let before = self.flows.remove(&observation.flow);
        if let Some(before) = &before {
            self.release(before);
        }
        // Counters only grow: of two reports of the same moment the one that says less must not turn them back.
        let before = before.filter(|before| before.first_at == observation.first_at);
        let was_closed = before.as_ref().is_some_and(|before| before.closed);
        let (out_before, in_before, level_before) = before.map_or((0, 0, Level::Attempted), |before| {
            (before.payload_out_bytes, before.payload_in_bytes, before.level)
        });
        let live = !observation.settled;
        let mut contact_serial = 0;
        if let Some(contact) = self.contacts.peek_mut(key) {
            contact_serial = contact.serial;
            contact.live_flows += usize::from(live);
        }
        let state = FlowState {
            contact: key.clone(),
            contact_serial,
            first_at: observation.first_at,
            at: observation.at,
            level: observation.level.max(level_before),
            live,
            closed: was_closed || observation.closed,
            payload_out_bytes: observation.payload_out_bytes.max(out_before),
            payload_in_bytes: observation.payload_in_bytes.max(in_before),
        };
        if let Some((_, evicted)) = self.flows.insert(observation.flow, state) {
            self.stats.evicted_flows += 1;
            self.release(&evicted);
        }
        if observation.closed && !was_closed {
            self.closed.push_back((observation.at, observation.flow, observation.first_at));
        }
    }

    /// A flow no longer counts as live for its contact.
    fn release(&mut self, flow: &FlowState) {
        if flow.live
            && let Some(contact) = self.contacts.peek_mut(&flow.contact)
            && contact.serial == flow.contact_serial
        {
            contact.live_flows = contact.live_flows.saturating_sub(1);
        }
    }

    fn forget_closed(&mut self, now: BootTime) {
        while let Some(&(closed_at, flow, first_at)) = self.closed.front() {
            if now.since_ns(closed_at) < LINGER_NS && self.closed.len() <= self.flows.capacity() {
                break;
            }
            self.closed.pop_front();
            if self.flows.peek(&flow).is_some_and(|state| state.first_at == first_at) {
                self.flows.remove(&flow);
            }
        }
    }

    fn reschedule(&mut self, key: &ContactKey) {
        let Some(contact) = self.contacts.peek_mut(key) else {
            return;
        };
        if let Some(due_at) = contact.due_at.take() {
            self.due.remove(&(due_at, contact.serial));
        }
        contact.due_at = contact.next_due(&self.schedule);
        if let Some(due_at) = contact.due_at {
            self.due.insert((due_at, contact.serial), key.clone());
        }
    }

    fn decide_if_due(&mut self, key: &ContactKey, now: BootTime) -> Option<Decision<C>> {
        let is_due = self.contacts.peek(key)?.due_at.is_some_and(|due_at| due_at <= now);
        if is_due { self.decide(key, now) } else { None }
    }

    fn decide(&mut self, key: &ContactKey, now: BootTime) -> Option<Decision<C>> {
        let decision = self.contacts.peek_mut(key)?.decide(key.clone(), now);
        self.reschedule(key);
        Some(decision)
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
