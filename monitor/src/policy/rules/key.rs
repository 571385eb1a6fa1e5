//! What alerts and thresholds of a rule are counted by.

use std::{net::IpAddr, path::Path, sync::Arc};

use serde::Deserialize;

use super::facts::Facts;
use crate::policy::Actor;

/// Which facts make a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Per {
    /// One executable and one owner.
    #[default]
    ExecutableOwner,
    /// One executable.
    Executable,
    /// One owner.
    Owner,
    /// One executable, one address and one port.
    ExecutableDestination,
    /// Everything together.
    Host,
}

impl Per {
    /// Whether everything on one key is the doing of one executable.
    pub(super) const fn is_of_one_executable(self) -> bool {
        matches!(self, Self::ExecutableOwner | Self::Executable | Self::ExecutableDestination)
    }
}

/// Whose address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum OwnerId {
    Asn(u32),
    /// An address of no known autonomous system stands for itself.
    Address(IpAddr),
}

/// One thing that is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) actor: Option<Actor>,
    owner: Option<OwnerId>,
    destination: Option<(Option<IpAddr>, Option<u16>)>,
}

impl Key {
    pub(super) fn new(per: Per, facts: &Facts<'_>) -> Self {
        let (with_actor, with_owner, with_destination) = match per {
            Per::ExecutableOwner => (true, true, false),
            Per::Executable => (true, false, false),
            Per::Owner => (false, true, false),
            Per::ExecutableDestination => (true, false, true),
            Per::Host => (false, false, false),
        };
        Self {
            actor: with_actor.then(|| actor(facts)),
            owner: if with_owner { owner(facts) } else { None },
            destination: with_destination.then(|| (facts.address(), facts.port)),
        }
    }

    /// The owner of the flow, whether it is part of the key or not.
    #[expect(clippy::unused_self, reason = "reads as a question to the key")]
    pub(super) fn owner_of(&self, facts: &Facts<'_>) -> Option<OwnerId> {
        owner(facts)
    }

    /// As text that stays the same over restarts.
    pub(super) fn as_text(&self) -> String {
        let actor = match &self.actor {
            Some(Actor::Executable(path)) => path.to_string_lossy().into_owned(),
            Some(Actor::Named(name)) => format!("({name})"),
            Some(Actor::Unknown) | None => "?".to_owned(),
        };
        let owner = match &self.owner {
            Some(OwnerId::Asn(asn)) => format!("AS{asn}"),
            Some(OwnerId::Address(address)) => address.to_string(),
            None => "?".to_owned(),
        };
        format!("{actor}\t{owner}")
    }
}

/// The program of a flow.
pub(super) fn actor(facts: &Facts<'_>) -> Actor {
    match (&facts.executable, &facts.process_name) {
        (Some(path), _) => Actor::Executable(Path::new(&**path).into()),
        (None, Some(name)) => Actor::Named(Arc::from(&**name)),
        (None, None) => Actor::Unknown,
    }
}

fn owner(facts: &Facts<'_>) -> Option<OwnerId> {
    match (facts.asn, facts.address()) {
        (Some(asn), _) => Some(OwnerId::Asn(asn)),
        (None, address) => address.map(OwnerId::Address),
    }
}
