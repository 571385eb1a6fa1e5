//! What is found out about a flow: who sent it, who owns the address, what it was called, which lists it hits.

use std::sync::Arc;

use jiff::civil::Date;

use crate::{
    alert::WallClock,
    containers::{self, ContainerFacts, Containers},
    event::{BootTime, CgroupCreated, Flow},
    executables::{Executables, FileFacts},
    names::{self, Asker, FlowNames, Names, Proxied},
    ownership::{Owner, OwnerLookup},
    policy::{Lists, Match},
    process::{Process, Table as ProcessTable},
};

/// What was found out about a flow when it was first reported, or when its sender changed.
#[derive(Debug)]
pub(super) struct Details {
    pub(super) actor: Option<Arc<Process>>,
    pub(super) connector: Option<Arc<Process>>,
    /// The container that the actor is in.
    pub(super) container: Option<Arc<ContainerFacts>>,
    /// The actor's executable; only of a flow with matches.
    pub(super) file: Option<Arc<FileFacts>>,
    pub(super) owner: Owner,
    /// What the remote side was called.
    pub(super) names: FlowNames,
    /// Who owns the address that a proxy was asked for.
    pub(super) target_owner: Option<Owner>,
    pub(super) matches: Vec<Match>,
}

impl Details {
    /// Whether another flow's description says the same and may stand for it.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        fn same<T>(one: Option<&Arc<T>>, two: Option<&Arc<T>>) -> bool {
            match (one, two) {
                (Some(one), Some(two)) => Arc::ptr_eq(one, two),
                (None, None) => true,
                _ => false,
            }
        }
        same(self.actor.as_ref(), other.actor.as_ref())
            && same(self.connector.as_ref(), other.connector.as_ref())
            && same(self.container.as_ref(), other.container.as_ref())
            && self.file.is_none()
            && other.file.is_none()
            && self.matches.is_empty()
            && other.matches.is_empty()
            && self.owner == other.owner
            && self.target_owner == other.target_owner
            && self.names == other.names
    }
}

/// The stages that know something about a flow, asked one after the other.
pub(super) struct Describer {
    pub(super) processes: ProcessTable,
    pub(super) executables: Option<Executables>,
    pub(super) containers: Option<Containers>,
    pub(super) names: Names,
    ownership: Box<dyn OwnerLookup>,
    lists: Lists,
}

impl Describer {
    pub(super) fn new(processes: ProcessTable, ownership: Box<dyn OwnerLookup>, lists: Lists) -> Self {
        Self {
            processes,
            executables: None,
            containers: None,
            names: Names::new(&names::Config::default()),
            ownership,
            lists,
        }
    }

    /// Asks these from now on; returns those that were asked so far.
    pub(super) fn replace(&mut self, lists: Lists, ownership: Box<dyn OwnerLookup>) -> (Lists, Box<dyn OwnerLookup>) {
        (std::mem::replace(&mut self.lists, lists), std::mem::replace(&mut self.ownership, ownership))
    }

    /// The date of the ownership data.
    pub(super) fn ownership_date(&self) -> Date {
        self.ownership.data_date()
    }

    pub(super) fn cgroup_created(&mut self, created: &CgroupCreated) {
        if let Some(containers) = self.containers.as_mut().filter(|_| created.hierarchy_id == 0) {
            containers.expect(&created.path.to_string_lossy(), created.at);
        }
        self.processes.cgroup_created(created);
    }

    pub(super) fn container_figures(&self) -> containers::Figures {
        self.containers.as_ref().map(Containers::figures).unwrap_or_default()
    }

    /// Describes a flow. Its executable is read if a list names the flow, or if `needs_file`.
    pub(super) fn describe(&mut self, flow: &Flow, clock: WallClock, needs_file: bool) -> Details {
        let connector = flow.connector.as_ref().map(|identity| self.processes.resolve(identity));
        let actor = match &flow.sender {
            Some(identity) => Some(self.processes.resolve(identity)),
            None => connector.clone(),
        };
        self.details(flow, [actor, connector], clock, needs_file)
    }

    /// The same of a flow that is known: its processes may have ended meanwhile, and have not changed.
    pub(super) fn describe_anew(
        &mut self,
        flow: &Flow,
        known: &Details,
        clock: WallClock,
        needs_file: bool,
    ) -> Details {
        self.details(flow, [known.actor.clone(), known.connector.clone()], clock, needs_file)
    }

    fn details(
        &mut self,
        flow: &Flow,
        [actor, connector]: [Option<Arc<Process>>; 2],
        clock: WallClock,
        needs_file: bool,
    ) -> Details {
        let container = self.container_of(actor.as_deref(), flow.at);
        let address = flow.remote_address();
        if flow.key.destination().is_none() {
            let (owner, names) = (Owner::default(), FlowNames::default());
            return Details {
                actor,
                connector,
                container,
                file: None,
                owner,
                names,
                target_owner: None,
                matches: Vec::new(),
            };
        }
        let owner = self.ownership.lookup(address);
        let translated = flow.translated.map(|translated| translated.ip()).filter(|translated| *translated != address);
        let translated = translated.map(|translated| (translated, self.ownership.lookup(translated)));
        let names = self.names_of(flow);
        let target = names.proxied.as_ref().and_then(Proxied::address);
        let target_owner = target.map(|target| self.ownership.lookup(target));
        let addresses = std::iter::once((address, &owner))
            .chain(translated.as_ref().map(|(translated, owner)| (*translated, owner)))
            .chain(target.zip(target_owner.as_ref()));
        let decisive = names.names.iter().filter(|named| named.is_decisive).map(|named| named.name.as_str());
        let matches = self.lists.match_flow(addresses, decisive);
        let file = match (&mut self.executables, &actor) {
            (Some(executables), Some(actor)) if needs_file || !matches.is_empty() => {
                // At its first sight the flow's process was seen to run the file.
                Some(executables.identify(actor, clock.at(flow.first_at).unix_ns()))
            }
            _ => None,
        };
        Details { actor, connector, container, file, owner, names, target_owner, matches }
    }

    fn container_of(&mut self, actor: Option<&Process>, at: BootTime) -> Option<Arc<ContainerFacts>> {
        self.containers.as_mut()?.identify(actor?, at)
    }

    fn names_of(&mut self, flow: &Flow) -> FlowNames {
        let asker = Asker {
            key: &flow.key,
            processes: [&flow.sender, &flow.connector]
                .map(|identity| identity.as_ref().map(|identity| identity.process)),
            network_namespace_cookie: [&flow.sender, &flow.connector]
                .into_iter()
                .find_map(|identity| identity.as_ref()?.network_namespace_cookie),
            at: flow.at,
        };
        self.names.of(&asker)
    }
}
