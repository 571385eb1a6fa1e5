//! Ancestors, as they were when they forked.

use std::{iter, sync::Arc};

use super::Ancestor;

/// Most ancestors told of a process.
pub(super) const ANCESTORS: usize = 16;

/// A chain of ancestors that siblings and their descendants share. It holds what an ancestor was when it forked, so it
/// neither changes when that one replaces its program nor goes when it is forgotten; and as a chain is only ever put
/// onto an older one, there are no cycles.
#[derive(Debug)]
pub(super) struct Lineage {
    nearest: Ancestor,
    farther: Option<Arc<Lineage>>,
    depth: usize,
}

impl Lineage {
    /// A chain that starts with `nearest`. Programs that fork and let the parent exit, over and over, make chains
    /// without end: one that has twice the length that is told is cut to it.
    pub(super) fn new(nearest: Ancestor, farther: Option<Arc<Self>>) -> Arc<Self> {
        let farther = match farther {
            Some(long) if long.depth >= 2 * ANCESTORS => long.shortened(),
            other => other,
        };
        let depth = 1 + farther.as_ref().map_or(0, |farther| farther.depth);
        Arc::new(Self { nearest, farther, depth })
    }

    /// The nearest ancestors, parent first.
    pub(super) fn ancestors(&self) -> Vec<Ancestor> {
        self.iter().take(ANCESTORS).cloned().collect()
    }

    fn shortened(&self) -> Option<Arc<Self>> {
        self.ancestors().into_iter().rev().fold(None, |farther, nearest| {
            let depth = 1 + farther.as_ref().map_or(0, |farther: &Arc<Self>| farther.depth);
            Some(Arc::new(Self { nearest, farther, depth }))
        })
    }

    fn iter(&self) -> impl Iterator<Item = &Ancestor> {
        iter::successors(Some(self), |lineage| lineage.farther.as_deref()).map(|lineage| &lineage.nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ProcessKey;

    #[test]
    fn an_endless_chain_of_forks_is_bounded_and_keeps_the_nearest() {
        let mut lineage = None;
        for pid in 1..=1000 {
            let key = ProcessKey { pid, start_ticks: u64::from(pid) };
            let nearest = Ancestor { key, entity_id: String::new(), name: String::new(), executable: None };
            let next = Lineage::new(nearest, lineage);
            assert!(next.depth <= 2 * ANCESTORS && next.iter().count() == next.depth);
            let pids: Vec<u32> = next.ancestors().iter().map(|ancestor| ancestor.key.pid).collect();
            let expected: Vec<u32> = (1..=pid).rev().take(ANCESTORS).collect();
            assert_eq!(pids, expected);
            lineage = Some(next);
        }
    }
}
