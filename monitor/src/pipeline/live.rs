//! The flows that are open, as the pipeline knows them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    event::{BootTime, Flow, FlowKey},
    executables::FileFacts,
    names::FlowNames,
    ownership::Owner,
    policy::Match,
    process::Process,
};

/// What was found out about a flow when it was first reported, or when its sender changed.
#[derive(Debug)]
pub(super) struct Details {
    pub(super) actor: Option<Arc<Process>>,
    pub(super) connector: Option<Arc<Process>>,
    /// The actor's executable; only of a flow with matches.
    pub(super) file: Option<Arc<FileFacts>>,
    pub(super) owner: Owner,
    /// What the remote side was called.
    pub(super) names: FlowNames,
    /// Who owns the address that a proxy was asked for.
    pub(super) target_owner: Option<Owner>,
    pub(super) matches: Vec<Match>,
}

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
    /// Payload moved both ways.
    pub(super) const fn moved_bytes(&self) -> u64 {
        self.flow.counters.payload_out_bytes + self.flow.counters.payload_in_bytes
    }
}

/// Every open flow, and which of them share a socket. Bounded by the kernel's flow tables: a flow that found no room
/// there is reported once and not kept.
#[derive(Debug, Default)]
pub(super) struct LiveFlows {
    flows: HashMap<FlowKey, LiveFlow>,
    /// Sockets with more than one flow.
    shared: HashMap<u64, HashSet<FlowKey>>,
    /// The first flow of each socket.
    first: HashMap<u64, FlowKey>,
}

impl LiveFlows {
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn get_mut(&mut self, key: &FlowKey) -> Option<&mut LiveFlow> {
        self.flows.get_mut(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&FlowKey, &LiveFlow)> {
        self.flows.iter()
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
        self.flows.insert(key, flow);
    }

    pub(super) fn remove(&mut self, key: &FlowKey) -> Option<LiveFlow> {
        let flow = self.flows.remove(key)?;
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
    use crate::event::Protocol;

    fn key(cookie: u64, port: u16) -> FlowKey {
        FlowKey { socket_cookie: cookie, protocol: Protocol::Udp, remote: ([192, 0, 2, 1], port).into() }
    }

    fn flow(key: FlowKey) -> LiveFlow {
        LiveFlow {
            flow: super::super::tests::flow(key),
            details: Arc::new(Details {
                actor: None,
                connector: None,
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
