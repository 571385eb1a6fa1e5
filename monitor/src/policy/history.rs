//! What is known of one contact, and when something of it is to be told.

use std::net::IpAddr;

use super::{Cause, ContactKey, Decision, Increase, Level, Match, Observation, RollupSchedule, Severity, Totals};
use crate::event::BootTime;

/// Distinct remote addresses that a contact remembers.
pub const MAX_DESTINATIONS: usize = 32;

/// Matches with entities not seen before that a contact remembers.
pub(super) const MAX_MATCHES: usize = 32;

/// Matches that only bring another key for an entity are remembered up to here, so that they leave room for entities.
const MAX_MATCH_KEYS: usize = 16;

/// Sums of a contact and what was told of them.
#[derive(Clone, Debug)]
pub(super) struct History<C> {
    /// Tells this contact from an earlier one with the same key.
    pub(super) serial: u64,
    level: Level,
    totals: Totals,
    destinations: Vec<IpAddr>,
    matches: Vec<Match>,
    /// Flows that may still get further.
    pub(super) live_flows: usize,
    context: C,
    /// How far the flow of `context` got, among the reports since the last decision.
    context_level: Level,
    told: Option<Told>,
    /// When the level or a new match is to be told.
    urgent_at: Option<BootTime>,
    /// First change since the last decision.
    changed_at: Option<BootTime>,
    /// When the bytes sent had grown enough not to wait for the pause.
    grown_at: Option<BootTime>,
    /// Reports since the last decision.
    reports: u64,
    /// Where the tracker has it in its schedule.
    pub(super) due_at: Option<BootTime>,
}

/// The last decision on a contact.
#[derive(Clone, Copy, Debug)]
struct Told {
    level: Level,
    totals: Totals,
    matches: usize,
    at: BootTime,
    rollups: usize,
}

/// What a report adds to what was known of its flow.
pub(super) struct Progress {
    /// The contact that it counts for.
    pub(super) contact: ContactKey,
    /// The report names another program, which has sent nothing on the flow yet.
    pub(super) is_bystander: bool,
    /// The flow is new to the contact.
    pub(super) joins: bool,
    pub(super) payload_out_bytes: u64,
    pub(super) payload_in_bytes: u64,
}

impl<C: Clone> History<C> {
    pub(super) fn new(serial: u64, observation: &Observation<C>) -> Self {
        Self {
            serial,
            level: observation.level,
            totals: Totals { first_at: observation.first_at, last_at: observation.at, ..Totals::default() },
            destinations: Vec::new(),
            matches: Vec::new(),
            live_flows: 0,
            context: observation.context.clone(),
            context_level: observation.level,
            told: None,
            urgent_at: None,
            changed_at: None,
            grown_at: None,
            reports: 0,
            due_at: None,
        }
    }

    /// Adds a report; returns how many matches there was no room for.
    pub(super) fn take_in(&mut self, observation: Observation<C>, progress: &Progress, settle_ns: u64) -> u64 {
        let at = observation.at;
        let level = observation.level;
        let settles_at = if level == Level::Sent { at } else { BootTime(at.0.saturating_add(settle_ns)) };
        self.reports += 1;
        self.count(&observation, progress);
        let (is_new_entity, dropped) = self.add_matches(observation.matches);
        let is_untold = self.told.is_none() && self.urgent_at.is_none();
        if level > self.level || is_untold {
            self.level = self.level.max(level);
            self.urgent_at = Some(settles_at);
        } else if is_new_entity && self.told.is_some() {
            self.urgent_at = Some(self.urgent_at.map_or(settles_at, |urgent_at| urgent_at.min(settles_at)));
        }
        if self.live_flows == 0 && self.urgent_at.is_some() {
            self.urgent_at = Some(at);
        }
        // While something is to be told, a flow that got less far must not take the place of the one that is meant.
        if !progress.is_bystander && (self.urgent_at.is_none() || level >= self.context_level) {
            self.context = observation.context;
            self.context_level = level;
        }
        dropped
    }

    fn count(&mut self, observation: &Observation<C>, progress: &Progress) {
        let totals = &mut self.totals;
        totals.payload_out_bytes = totals.payload_out_bytes.saturating_add(progress.payload_out_bytes);
        totals.payload_in_bytes = totals.payload_in_bytes.saturating_add(progress.payload_in_bytes);
        if progress.joins {
            totals.connections += 1;
            let address = observation.remote_address();
            if !self.destinations.contains(&address) {
                if self.destinations.len() < MAX_DESTINATIONS {
                    self.destinations.push(address);
                } else {
                    totals.more_destinations = true;
                }
            }
            totals.destinations = self.destinations.len();
        }
        if progress.joins || progress.payload_out_bytes > 0 || progress.payload_in_bytes > 0 {
            totals.last_at = totals.last_at.max(observation.at);
            self.changed_at.get_or_insert(observation.at);
        }
    }

    fn add_matches(&mut self, matches: Vec<Match>) -> (bool, u64) {
        let mut is_new_entity = false;
        let mut dropped = 0;
        for hit in matches.into_iter().filter(|hit| hit.list.enabled) {
            let is_same_entity = |known: &Match| known.list.id == hit.list.id && known.entity == hit.entity;
            if self.matches.iter().any(|known| is_same_entity(known) && known.key == hit.key) {
                continue;
            }
            let is_new = !self.matches.iter().any(is_same_entity);
            if self.matches.len() >= if is_new { MAX_MATCHES } else { MAX_MATCH_KEYS } {
                dropped += 1;
                continue;
            }
            is_new_entity |= is_new;
            self.matches.push(hit);
        }
        (is_new_entity, dropped)
    }

    pub(super) fn notice_growth(&mut self, growth: u64, at: BootTime) {
        if let Some(told) = &self.told
            && growth > 1
            && told.totals.payload_out_bytes > 0
            && self.totals.payload_out_bytes / growth >= told.totals.payload_out_bytes
        {
            self.grown_at.get_or_insert(at);
        }
    }

    pub(super) fn next_due(&self, schedule: &RollupSchedule) -> Option<BootTime> {
        let rollup_at = self.told.as_ref().zip(self.changed_at).map(|(told, changed_at)| {
            let after = |start: BootTime, step| BootTime(start.0.saturating_add(schedule.pause_ns(step)));
            let scheduled = after(told.at, told.rollups);
            // After a long silence the pause is over already: wait a little, for more will come with the first.
            let scheduled = if changed_at <= scheduled { scheduled } else { after(changed_at, 0) };
            self.grown_at.map_or(scheduled, |grown_at| scheduled.min(grown_at.max(after(told.at, 0))))
        });
        [self.urgent_at, rollup_at].into_iter().flatten().min()
    }

    pub(super) fn decide(&mut self, contact: ContactKey, at: BootTime) -> Decision<C> {
        let told_matches = self.told.as_ref().map_or(0, |told| told.matches);
        let new_matches = self.matches.len() - told_matches.min(self.matches.len());
        let (cause, rollups) = match &self.told {
            None => (Cause::FirstContact, 0),
            Some(told) if self.level > told.level => (Cause::LevelRaised, 0),
            Some(_) if self.urgent_at.is_some() => (Cause::NewMatch, 0),
            Some(told) => (Cause::Rollup, told.rollups + 1),
        };
        let before = self.told.as_ref().map_or_else(Totals::default, |told| told.totals);
        let increase = Increase {
            payload_out_bytes: self.totals.payload_out_bytes - before.payload_out_bytes,
            payload_in_bytes: self.totals.payload_in_bytes - before.payload_in_bytes,
            connections: self.totals.connections - before.connections,
        };
        let decision = Decision {
            contact,
            cause,
            level: self.level,
            severity: self.matches.iter().map(|hit| hit.severity).max().unwrap_or(Severity::Low),
            matches: self.matches.clone(),
            new_matches,
            totals: self.totals,
            increase,
            folded_reports: self.reports.saturating_sub(1),
            context: self.context.clone(),
            at,
        };
        self.told = Some(Told { level: self.level, totals: self.totals, matches: self.matches.len(), at, rollups });
        self.urgent_at = None;
        self.changed_at = None;
        self.grown_at = None;
        self.reports = 0;
        self.context_level = Level::Attempted;
        decision
    }
}
