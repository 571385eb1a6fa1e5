//! Which executable reached whom before. It is kept across restarts by whoever holds the engine.

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;

/// Most contacts that are remembered: with 120 bytes each about 12 MB.
const CONTACTS: usize = 100_000;

/// The contacts that are known, and until when new ones are only learnt.
#[derive(Clone, Debug)]
pub struct Baseline {
    known: HashSet<Arc<str>>,
    /// Learnt since [`Self::take_fresh`].
    fresh: Vec<Arc<str>>,
    learns_until: Timestamp,
    /// Contacts that found no room; they do not alert.
    dropped: u64,
}

impl Baseline {
    /// With what was kept of earlier runs.
    #[must_use]
    pub fn new(known: impl IntoIterator<Item = Arc<str>>, learns_until: Timestamp) -> Self {
        Self { known: known.into_iter().take(CONTACTS).collect(), fresh: Vec::new(), learns_until, dropped: 0 }
    }

    /// What was learnt since the last call, to be kept.
    pub fn take_fresh(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.fresh)
    }

    /// Contacts that found no room, since the start.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Learns a contact; whether it is new and the time of learning is over.
    pub(super) fn is_first(&mut self, contact: String, now: Timestamp) -> bool {
        if self.known.contains(contact.as_str()) {
            return false;
        }
        if self.known.len() >= CONTACTS {
            self.dropped += 1;
            return false;
        }
        let contact: Arc<str> = contact.into();
        self.known.insert(Arc::clone(&contact));
        self.fresh.push(contact);
        now >= self.learns_until
    }
}

impl Default for Baseline {
    /// Knows nothing and tells of everything.
    fn default() -> Self {
        Self::new([], Timestamp::MIN)
    }
}
