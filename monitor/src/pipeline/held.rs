//! Alerts that wait, for a moment, for what is read of an executable and of a container.

use std::{collections::VecDeque, sync::Arc};

use super::alerts::Context;
use crate::{
    event::BootTime,
    policy::{
        Decision,
        rules::{RuleCause, RuleDecision},
    },
};

/// Alerts that wait at most; with more, the oldest is told without waiting any longer.
const WAITING: usize = 1_024;
/// Alerts that went out before their executable was read and are followed by what was found. Of more, the oldest is
/// not followed: what later alerts say of the same executable has to do.
const OWED: usize = 256;

/// A decision about a flow.
#[derive(Debug)]
pub(super) enum Due {
    /// By lists.
    Lists(Decision<Arc<Context>>),
    /// By a rule.
    Rule(RuleDecision<Arc<Context>>),
}

impl Due {
    /// The flow.
    pub(super) const fn context(&self) -> &Arc<Context> {
        match self {
            Self::Lists(decision) => &decision.context,
            Self::Rule(decision) => &decision.context,
        }
    }

    /// What is left to tell where the flow itself turned out to be known to be good: what was folded into its alert and may
    /// be the doing of others.
    pub(super) fn rest(self) -> Option<Self> {
        match self {
            Self::Rule(decision) if decision.is_of_many && decision.folded > 0 => {
                Some(Self::Rule(RuleDecision { cause: RuleCause::Folded, ..decision }))
            }
            _ => None,
        }
    }

    /// When it was taken.
    pub(super) const fn at(&self) -> BootTime {
        match self {
            Self::Lists(decision) => decision.at,
            Self::Rule(decision) => decision.at,
        }
    }
}

/// Alerts that wait, and those that could not.
#[derive(Debug, Default)]
pub(super) struct Held {
    wait_ns: u64,
    /// Until when, in the order of arrival.
    waiting: VecDeque<(BootTime, Due)>,
    /// With the id of the alert that went out.
    owed: VecDeque<(String, Due)>,
}

impl Held {
    pub(super) fn new(wait_ns: u64) -> Self {
        Self { wait_ns, ..Self::default() }
    }

    /// Takes an alert in. An `urgent` one does not wait for an executable for which another one waited in vain.
    pub(super) fn push(&mut self, decision: Due, urgent: bool) {
        let wait_ns = if urgent && self.waits_for_slow_one(&decision) { 0 } else { self.wait_ns };
        self.waiting.push_back((BootTime(decision.at().0.saturating_add(wait_ns)), decision));
    }

    /// Whether all that there is to wait for is an executable that alerts went out without.
    fn waits_for_slow_one(&self, decision: &Due) -> bool {
        let Some(file) = &decision.context().details.file else { return false };
        let is_same = |owed: &Due| owed.context().details.file.as_ref().is_some_and(|slow| Arc::ptr_eq(slow, file));
        is_described(decision) && self.owed.iter().any(|(_, owed)| is_same(owed))
    }

    /// The first alert that need not wait any longer. Alerts on one executable keep their order.
    pub(super) fn pop(&mut self, now: BootTime) -> Option<Due> {
        let index = if self.waiting.len() > WAITING {
            0
        } else {
            self.waiting.iter().position(|(due_at, decision)| *due_at <= now || is_settled(decision))?
        };
        self.waiting.remove(index).map(|(_, decision)| decision)
    }

    /// Notes that an alert went out; what was still pending in it is owed.
    pub(super) fn told(&mut self, id: &str, decision: Due) {
        if is_read(&decision) {
            return;
        }
        if self.owed.len() == OWED {
            self.owed.pop_front();
        }
        self.owed.push_back((id.to_owned(), decision));
    }

    /// An alert that went out before its executable was read, which now has been, with the alert's id.
    pub(super) fn pop_owed(&mut self) -> Option<(String, Due)> {
        let index = self.owed.iter().position(|(_, decision)| is_read(decision))?;
        self.owed.remove(index)
    }

    /// Until when the next alert waits.
    pub(super) fn due_at(&self) -> Option<BootTime> {
        self.waiting.iter().map(|(due_at, _)| *due_at).min()
    }
}

/// Whether there is nothing to wait for.
fn is_settled(decision: &Due) -> bool {
    is_read(decision) && is_described(decision)
}

/// Whether the container is described.
fn is_described(decision: &Due) -> bool {
    decision.context().details.container.as_ref().is_none_or(|container| container.is_settled())
}

/// Whether the executable is read.
fn is_read(decision: &Due) -> bool {
    decision.context().details.file.as_ref().is_none_or(|file| file.is_settled())
}
