//! Which executable reached whom before. It is kept across restarts by whoever holds the engine.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

/// Most contacts that are remembered: with 120 bytes each about 12 MB.
const CONTACTS: usize = 100_000;

/// The contacts that are known, and since when each rule learns.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    known: HashSet<Arc<str>>,
    /// When each rule began to learn, by its id.
    began: HashMap<Arc<str>, Timestamp>,
    /// How long a rule only learns. Zero, as by default, tells of everything.
    learning: SignedDuration,
    /// Learnt since [`Self::take_fresh`].
    fresh: Learnt,
    /// Contacts that found no room; they do not alert.
    dropped: u64,
}

/// What is kept of a baseline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// Contacts: the rule's id, the executable and the owner.
    pub contacts: Vec<Arc<str>>,
    /// When rules began to learn, by their ids.
    pub began: Vec<(Arc<str>, Timestamp)>,
}

impl Learnt {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contacts.is_empty() && self.began.is_empty()
    }

    /// Takes everything of another one.
    pub fn append(&mut self, mut other: Self) {
        self.contacts.append(&mut other.contacts);
        self.began.append(&mut other.began);
    }
}

impl Baseline {
    /// With what was kept of earlier runs. Each rule only learns for the time `learning`.
    #[must_use]
    pub fn new(kept: Learnt, learning: SignedDuration) -> Self {
        let known = kept.contacts.into_iter().take(CONTACTS).collect();
        Self { known, began: kept.began.into_iter().collect(), learning, ..Self::default() }
    }

    /// What was learnt since the last call, to be kept.
    pub fn take_fresh(&mut self) -> Learnt {
        std::mem::take(&mut self.fresh)
    }

    /// Contacts that found no room, since the start.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// A rule is in force at `now`: it begins to learn, unless it did so before.
    pub(super) fn begin(&mut self, rule: &Arc<str>, now: Timestamp) {
        if !self.began.contains_key(rule) {
            self.began.insert(Arc::clone(rule), now);
            self.fresh.began.push((Arc::clone(rule), now));
        }
    }

    /// Learns a contact; whether it is new and the rule's time of learning is over.
    pub(super) fn is_first(&mut self, rule: &str, contact: &str, now: Timestamp) -> bool {
        let contact = format!("{rule}\t{contact}");
        if self.known.contains(contact.as_str()) {
            return false;
        }
        if self.known.len() >= CONTACTS {
            self.dropped += 1;
            return false;
        }
        let contact: Arc<str> = contact.into();
        self.known.insert(Arc::clone(&contact));
        self.fresh.contacts.push(contact);
        self.has_learnt(rule, now)
    }

    fn has_learnt(&self, rule: &str, now: Timestamp) -> bool {
        let is_over = |began: &Timestamp| began.saturating_add(self.learning).is_ok_and(|end| now >= end);
        self.learning.is_zero() || self.began.get(rule).is_some_and(is_over)
    }
}
