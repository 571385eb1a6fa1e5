//! Open flows for which there was no room: known by a number each, so that they are counted once, and ended by walking
//! through the kernel's table, which still counts their bytes.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
};

use crate::event::{BootTime, FlowKey};

/// Released sockets that are remembered. The flows of more end when they fell silent.
const RELEASED: usize = 16_384;

/// What began so shortly before a walk, in ns, may not have been in the table yet.
const MARGIN_NS: u64 = 1_000_000_000;

/// What is known of flows that are not kept.
#[derive(Debug, Default)]
pub(super) struct Beyond {
    hasher: RandomState,
    /// A number for each flow.
    known: HashSet<u64>,
    limit: usize,
    /// Some were forgotten, because there were too many: there may be more than are known.
    is_overrun: bool,
    /// The same, since the last walk began.
    is_overrun_again: bool,
    /// A walk met all flows that began before.
    walked_from: BootTime,
    count: u64,
    /// Sockets with several flows that were released, and when.
    released: HashMap<u64, BootTime>,
}

/// What was known when a walk began: the sockets that were released, and when it was.
#[derive(Debug)]
pub struct Released {
    sockets: HashMap<u64, BootTime>,
    at: BootTime,
}

impl Beyond {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Notes a flow; says whether it was known. With too many all are forgotten. Those that a walk has met since are
    /// known by their age; others are counted again when they are seen again: the count is then too high, never too low.
    pub(super) fn note(&mut self, key: &FlowKey, first_at: BootTime) -> bool {
        let number = self.number(key, first_at);
        if self.known.contains(&number) {
            return true;
        }
        if self.is_forgotten(first_at) {
            if self.known.len() < self.limit {
                self.known.insert(number);
            } else {
                self.is_overrun_again = true;
            }
            return true;
        }
        self.add(number);
        false
    }

    /// Notes a flow that was kept.
    pub(super) fn note_kept(&mut self, key: &FlowKey, first_at: BootTime) {
        let number = self.number(key, first_at);
        if !self.known.contains(&number) {
            self.add(number);
        }
    }

    fn add(&mut self, number: u64) {
        if self.known.len() >= self.limit {
            self.known.clear();
            self.is_overrun = true;
            self.is_overrun_again = true;
        }
        self.known.insert(number);
        self.count += 1;
    }

    /// A flow that is not kept has ended or is kept now; says whether it was known.
    pub(super) fn forget(&mut self, key: &FlowKey, first_at: BootTime) -> bool {
        let was_known = !self.known.is_empty() && self.known.remove(&self.number(key, first_at));
        was_known || self.is_forgotten(first_at)
    }

    /// Whether a flow that is not kept was met before.
    pub(super) fn is_known(&self, key: &FlowKey, first_at: BootTime) -> bool {
        self.is_forgotten(first_at) || (!self.known.is_empty() && self.known.contains(&self.number(key, first_at)))
    }

    /// Whether a flow of this age that is not kept was met, and may have been forgotten for want of room.
    fn is_forgotten(&self, first_at: BootTime) -> bool {
        self.is_overrun && first_at < self.walked_from
    }

    /// Whether there are any.
    pub(super) fn is_any(&self) -> bool {
        self.is_overrun || !self.known.is_empty()
    }

    /// How many there were since the start.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// A socket with several flows was released. It matters only if some of them may be here.
    pub(super) fn socket_released(&mut self, cookie: u64, at: BootTime) {
        if self.is_any() && self.released.len() < RELEASED {
            self.released.insert(cookie, at);
        }
    }

    pub(super) fn is_released(&self, cookie: u64) -> bool {
        self.released.contains_key(&cookie)
    }

    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// A walk begins.
    pub(super) fn begin_walk(&mut self, at: BootTime) -> Released {
        self.is_overrun_again = false;
        Released { sockets: self.released.clone(), at }
    }

    /// A walk has come to its end.
    pub(super) fn walked(&mut self, begun: &Released) {
        self.released.retain(|cookie, at| begun.sockets.get(cookie) != Some(at));
        // It noted all that are not kept, if there was room.
        self.is_overrun = self.is_overrun_again;
        self.walked_from = BootTime(begun.at.0.saturating_sub(MARGIN_NS));
        if self.known.is_empty() {
            self.known.shrink_to_fit();
        }
    }

    fn number(&self, key: &FlowKey, first_at: BootTime) -> u64 {
        self.hasher.hash_one((key, first_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Protocol;

    fn key(cookie: u64) -> FlowKey {
        FlowKey { socket_cookie: cookie, protocol: Protocol::Udp, remote: ([192, 0, 2, 1], 53).into() }
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_flow_is_counted_once_until_it_ends() {
        let mut beyond = Beyond::new(2);
        assert!(!beyond.note(&key(1), BootTime(1)));
        assert!(beyond.note(&key(1), BootTime(1)));
        assert!(!beyond.note(&key(1), BootTime(2)), "the same key later is another flow");
        assert_eq!(beyond.count(), 2);
        assert!(!beyond.note(&key(2), BootTime(1)), "forgets the others");
        assert!(!beyond.is_known(&key(1), BootTime(1)) && beyond.is_any());
        assert!(beyond.forget(&key(2), BootTime(1)) && !beyond.forget(&key(2), BootTime(1)));
        assert!(beyond.is_any(), "those that were forgotten may be there");
        let walk = beyond.begin_walk(BootTime(3));
        beyond.walked(&walk);
        assert!(!beyond.is_any(), "the walk met none");
    }

    #[test]
    fn flows_that_were_forgotten_are_counted_once_more_and_then_known_by_their_age() {
        let mut beyond = Beyond::new(2);
        let meet = |beyond: &mut Beyond| (1..=5).for_each(|cookie| _ = beyond.note(&key(cookie), BootTime(cookie)));
        meet(&mut beyond);
        assert_eq!(beyond.count(), 5);
        let mut counts = Vec::new();
        for second in 2..=4 {
            let walk = beyond.begin_walk(BootTime(second * SECOND));
            meet(&mut beyond);
            beyond.walked(&walk);
            counts.push(beyond.count());
        }
        assert!(counts[0] <= 10 && counts[1] == counts[0] && counts[2] == counts[0], "{counts:?}");
        assert!(beyond.is_known(&key(1), BootTime(1)) && !beyond.is_known(&key(1), BootTime(4 * SECOND)));
        beyond.note_kept(&key(6), BootTime(6));
        assert_eq!(beyond.count(), counts[0] + 1, "one that was kept was not counted");
        for cookie in 1..=6 {
            assert!(beyond.forget(&key(cookie), BootTime(cookie)));
        }
        let walk = beyond.begin_walk(BootTime(5 * SECOND));
        beyond.walked(&walk);
        assert!(!beyond.is_any() && !beyond.is_known(&key(1), BootTime(1)));
    }

    #[test]
    fn a_socket_released_during_a_walk_waits_for_the_next() {
        let mut beyond = Beyond::new(8);
        beyond.note(&key(1), BootTime(1));
        beyond.socket_released(1, BootTime(3));
        let walk = beyond.begin_walk(BootTime(3));
        beyond.socket_released(2, BootTime(4));
        beyond.walked(&walk);
        assert_eq!((beyond.is_released(1), beyond.is_released(2)), (false, true));
    }
}
