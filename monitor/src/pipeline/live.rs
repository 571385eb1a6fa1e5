//! The flows that are open, as the pipeline knows them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::describe::Details;
use crate::{
    event::{BootTime, Flow, FlowKey, Identity, ProcessKey},
    limits::FlowBounds,
};

/// An open flow.
#[derive(Debug)]
pub(super) struct LiveFlow {
    pub(super) flow: Flow,
    pub(super) details: Arc<Details>,
    /// Its entry will be read again.
    pub(super) is_read_planned: bool,
    /// When it was last written as a record.
    pub(super) written_at: BootTime,
    /// What moved when it was last written.
    pub(super) written_bytes: u64,
}

impl LiveFlow {
    /// Whether a list names its remote side.
    pub(super) fn is_flagged(&self) -> bool {
        !self.details.matches.is_empty()
    }

    /// Payload moved both ways.
    pub(super) const fn moved_bytes(&self) -> u64 {
        self.flow.counters.payload_out_bytes + self.flow.counters.payload_in_bytes
    }
}

/// Identities that are shared by flows at most; one a process is enough.
const IDENTITIES: usize = 1_024;
/// Descriptions that later flows are compared with.
const RECENT_DETAILS: usize = 32;

/// Open flows, and which of them share a socket. Bounded: see [`Self::has_room`].
#[derive(Debug)]
pub(super) struct LiveFlows {
    /// Boxed, so that a table that grows moves little.
    flows: HashMap<FlowKey, Box<LiveFlow>>,
    /// Sockets with more than one flow.
    shared: HashMap<u64, HashSet<FlowKey>>,
    /// The first flow of each socket.
    first: HashMap<u64, FlowKey>,
    flagged: usize,
    bounds: FlowBounds,
    /// The bound that holds now: less than `bounds.live` while memory is short.
    limit: usize,
    identities: HashMap<ProcessKey, Arc<Identity>>,
    recent: VecDeque<Arc<Details>>,
}

impl Default for LiveFlows {
    fn default() -> Self {
        Self::new(FlowBounds::default())
    }
}

impl LiveFlows {
    pub(super) fn new(bounds: FlowBounds) -> Self {
        Self {
            flows: HashMap::new(),
            shared: HashMap::new(),
            first: HashMap::new(),
            flagged: 0,
            bounds,
            limit: bounds.live,
            identities: HashMap::new(),
            recent: VecDeque::new(),
        }
    }

    /// Whether one more flow may be kept. Flagged ones may take all the room, ordinary ones leave the reserve.
    pub(super) fn has_room(&self, is_flagged: bool) -> bool {
        if is_flagged {
            return self.flows.len() < self.bounds.live;
        }
        let ordinary = self.flows.len().saturating_sub(self.flagged);
        self.flows.len() < self.limit && ordinary < self.limit.saturating_sub(self.bounds.reserved).max(1)
    }

    /// Whether the bound is lower than it was set.
    pub(super) const fn is_held_down(&self) -> bool {
        self.limit < self.bounds.live
    }

    /// Keeps no more than there are now, or so many fewer, and names the ordinary flows that have to go for it.
    pub(super) fn hold_down(&mut self, fewer: usize) -> Vec<FlowKey> {
        self.limit = self.limit.min(self.flows.len().saturating_sub(fewer));
        let over = self.flows.len().saturating_sub(self.limit);
        let ordinary = self.flows.iter().filter(|(_, live)| !live.is_flagged());
        ordinary.map(|(key, _)| *key).take(over).collect()
    }

    /// Lets more flows in again, step by step.
    pub(super) fn ease(&mut self) {
        self.limit = self.limit.saturating_add(self.limit / 8).saturating_add(256).min(self.bounds.live);
    }

    /// The flow with identities that other flows share already.
    pub(super) fn share_identities(&mut self, mut flow: Flow) -> Flow {
        for identity in [&mut flow.connector, &mut flow.sender].into_iter().flatten() {
            match self.identities.get(&identity.process) {
                Some(known) if known == identity => *identity = Arc::clone(known),
                _ => {
                    if self.identities.len() >= IDENTITIES {
                        self.identities.clear();
                    }
                    self.identities.insert(identity.process, Arc::clone(identity));
                }
            }
        }
        flow
    }

    /// The same description, shared with another flow if one of the last was described alike.
    pub(super) fn share_details(&mut self, details: Details) -> Arc<Details> {
        if let Some(same) = self.recent.iter().find(|recent| recent.is_same(&details)) {
            return Arc::clone(same);
        }
        let details = Arc::new(details);
        if self.recent.len() == RECENT_DETAILS {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(&details));
        details
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn get(&self, key: &FlowKey) -> Option<&LiveFlow> {
        self.flows.get(key).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, key: &FlowKey) -> Option<&mut LiveFlow> {
        self.flows.get_mut(key).map(Box::as_mut)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&FlowKey, &LiveFlow)> {
        self.flows.iter().map(|(key, live)| (key, &**live))
    }

    pub(super) fn contains(&self, key: &FlowKey) -> bool {
        self.flows.contains_key(key)
    }

    /// Describes a kept flow anew.
    pub(super) fn describe(&mut self, key: &FlowKey, details: &Arc<Details>) -> bool {
        let Some(live) = self.flows.get_mut(key) else { return false };
        let was_flagged = live.is_flagged();
        live.details = Arc::clone(details);
        self.flagged = self.flagged - usize::from(was_flagged) + usize::from(live.is_flagged());
        true
    }

    pub(super) fn insert(&mut self, key: FlowKey, flow: LiveFlow) {
        let cookie = key.socket_cookie;
        match self.first.get(&cookie) {
            None => {
                self.first.insert(cookie, key);
            }
            Some(first) if *first != key => {
                self.shared.entry(cookie).or_insert_with(|| HashSet::from([*first])).insert(key);
            }
            Some(_) => {}
        }
        self.flagged += usize::from(flow.is_flagged());
        if let Some(old) = self.flows.insert(key, Box::new(flow)) {
            self.flagged -= usize::from(old.is_flagged());
        }
    }

    pub(super) fn remove(&mut self, key: &FlowKey) -> Option<LiveFlow> {
        let flow = *self.flows.remove(key)?;
        self.flagged -= usize::from(flow.is_flagged());
        let cookie = key.socket_cookie;
        if let Some(keys) = self.shared.get_mut(&cookie) {
            keys.remove(key);
            if let Some(other) = keys.iter().next() {
                self.first.insert(cookie, *other);
                return Some(flow);
            }
            self.shared.remove(&cookie);
        }
        self.first.remove(&cookie);
        Some(flow)
    }

    /// The flows of a socket.
    pub(super) fn of_socket(&self, cookie: u64) -> Vec<FlowKey> {
        match self.shared.get(&cookie) {
            Some(keys) => keys.iter().copied().collect(),
            None => self.first.get(&cookie).copied().into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{event::Protocol, names::FlowNames, ownership::Owner};

    fn key(cookie: u64, port: u16) -> FlowKey {
        FlowKey { socket_cookie: cookie, protocol: Protocol::Udp, remote: ([192, 0, 2, 1], port).into() }
    }

    fn flow(key: FlowKey) -> LiveFlow {
        LiveFlow {
            flow: super::super::tests::flow(key),
            details: Arc::new(Details {
                actor: None,
                connector: None,
                container: None,
                file: None,
                owner: Owner::default(),
                names: FlowNames::default(),
                target_owner: None,
                matches: Vec::new(),
            }),
            is_read_planned: false,
            written_at: BootTime(0),
            written_bytes: 0,
        }
    }

    proptest! {
        #[test]
        fn flows_of_a_socket_are_those_that_were_not_removed(steps in proptest::collection::vec((any::<bool>(), 0u64..3, 0u16..4), 0..60)) {
            let mut live = LiveFlows::default();
            let mut model = BTreeSet::new();
            for (adds, cookie, port) in steps {
                if adds {
                    live.insert(key(cookie, port), flow(key(cookie, port)));
                    model.insert((cookie, port));
                } else {
                    prop_assert_eq!(live.remove(&key(cookie, port)).is_some(), model.remove(&(cookie, port)));
                }
                for cookie in 0..3 {
                    let found: BTreeSet<_> = live.of_socket(cookie).iter().map(|key| (key.socket_cookie, key.remote.port())).collect();
                    let expected: BTreeSet<_> = model.iter().copied().filter(|(other, _)| *other == cookie).collect();
                    prop_assert_eq!(found, expected);
                }
                prop_assert_eq!(live.len(), model.len());
            }
        }
    }
}
