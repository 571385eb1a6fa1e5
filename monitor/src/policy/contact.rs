//! The words of the tracker: who is in contact with whom, what was seen of it, and what is to be told.

use std::{net::IpAddr, path::Path, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Match, MatchKey, Severity};
use crate::{
    event::{BootTime, Flow, FlowKey, Protocol, ReportReason},
    ownership::{CountryCode, Owner},
    process::Process,
};

/// How far a flow got. Three different facts, in rising order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A process asked for it.
    #[default]
    Attempted,
    /// The handshake completed.
    Established,
    /// Payload left the host.
    Sent,
}

impl Level {
    /// How far a flow got.
    #[must_use]
    pub const fn of(flow: &Flow) -> Self {
        if flow.facts.sent || flow.counters.payload_out_bytes > 0 {
            Self::Sent
        } else if flow.facts.established {
            Self::Established
        } else {
            Self::Attempted
        }
    }

    /// The stable token.
    #[must_use]
    pub const fn as_token(self) -> &'static str {
        match self {
            Self::Attempted => "attempted",
            Self::Established => "established",
            Self::Sent => "sent",
        }
    }
}

/// Why a decision was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// First time that this executable is in contact with this owner.
    FirstContact,
    /// A known contact got further than was told.
    LevelRaised,
    /// A known contact hit an entity of a list that was not told yet.
    NewMatch,
    /// Further traffic of a known contact, summed up.
    Rollup,
}

/// Which program, which owner. The user and the container are not part of it: the same program in ten containers is one
/// finding, and the alert shows the latest of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContactKey {
    /// The program.
    pub actor: Actor,
    /// Whose network.
    pub owner: OwnerKey,
}

/// A program, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// By the path of its executable.
    Executable(Arc<Path>),
    /// By its task name, where the executable is not known.
    Named(Arc<str>),
    /// Nothing is known: a flow older than the probes.
    Unknown,
}

/// Whose network, by the best key that is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OwnerKey {
    /// Origin AS of the address.
    Asn(u32),
    /// Listed prefix that holds an address of no known AS.
    Prefix(IpNet),
    /// Listed entity whose name was asked for, at an address of no known AS.
    Entity {
        /// Id of the list.
        list: Arc<str>,
        /// Name of the entity.
        entity: Arc<str>,
    },
    /// Listed country of an address of no known AS.
    Country(CountryCode),
}

/// One report on one flow that hit a list. Counters and facts are those of the flow so far, not since the last report.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation<C> {
    /// The contact that it belongs to.
    pub contact: ContactKey,
    /// The flow.
    pub flow: FlowKey,
    /// First sight of the flow: tells a flow from an earlier one with the same key.
    pub first_at: BootTime,
    /// How far it got.
    pub level: Level,
    /// What it did so far is no news by itself; only payload makes it so.
    pub quiet: bool,
    /// It will get no further: refused, timed out or closed.
    pub settled: bool,
    /// The report is the flow's last.
    pub closed: bool,
    /// Payload sent so far.
    pub payload_out_bytes: u64,
    /// Payload received so far.
    pub payload_in_bytes: u64,
    /// What it hit.
    pub matches: Vec<Match>,
    /// What the caller needs to render an alert: the flow and its process at this time.
    pub context: C,
    /// Time of the report.
    pub at: BootTime,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<C> {
    /// Which contact.
    pub contact: ContactKey,
    /// Why now.
    pub cause: Cause,
    /// The highest level of the contact.
    pub level: Level,
    /// The highest severity among the matches.
    pub severity: Severity,
    /// What the contact hit so far, oldest first; bounded.
    pub matches: Vec<Match>,
    /// How many of the last matches were not in an earlier decision.
    pub new_matches: usize,
    /// Sums since the contact's first sight.
    pub totals: Totals,
    /// What of the sums is new since the last decision on this contact.
    pub increase: Increase,
    /// Reports that this decision stands for, beside the one that caused it.
    pub folded_reports: u64,
    /// The caller's context of the report that matters most: the latest of the highest level.
    pub context: C,
    /// When it was taken.
    pub at: BootTime,
}

/// Sums over a contact since its first sight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Payload sent.
    pub payload_out_bytes: u64,
    /// Payload received.
    pub payload_in_bytes: u64,
    /// Flows.
    pub connections: u64,
    /// Distinct remote addresses; counted up to [`super::MAX_DESTINATIONS`].
    pub destinations: usize,
    /// There were more remote addresses than were counted.
    pub more_destinations: bool,
    /// First sight.
    pub first_at: BootTime,
    /// Last report that changed something.
    pub last_at: BootTime,
}

/// What was added since the last decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Increase {
    /// Payload sent.
    pub payload_out_bytes: u64,
    /// Payload received.
    pub payload_in_bytes: u64,
    /// Flows.
    pub connections: u64,
}

impl<C> Decision<C> {
    /// The matches that no earlier decision on this contact had.
    #[must_use]
    pub fn new_matches(&self) -> &[Match] {
        self.matches.len().checked_sub(self.new_matches).and_then(|start| self.matches.get(start..)).unwrap_or_default()
    }
}

impl ContactKey {
    /// The contact of a flow; `None` where neither the owner's AS nor any match is known.
    #[must_use]
    pub fn new(process: Option<&Process>, owner: &Owner, matches: &[Match]) -> Option<Self> {
        Some(Self { actor: Actor::new(process), owner: OwnerKey::new(owner, matches)? })
    }
}

impl Actor {
    /// The program of a process.
    #[must_use]
    pub fn new(process: Option<&Process>) -> Self {
        match process {
            Some(Process { executable: Some(executable), .. }) => Self::Executable(executable.path.as_path().into()),
            Some(process) => Self::Named(process.comm.as_str().into()),
            None => Self::Unknown,
        }
    }
}

impl OwnerKey {
    /// The AS where it is known, else what the first match names.
    #[must_use]
    pub fn new(owner: &Owner, matches: &[Match]) -> Option<Self> {
        if let Some(asn) = owner.asn {
            return Some(Self::Asn(asn));
        }
        let first = matches.first()?;
        Some(match &first.key {
            MatchKey::Asn(asn) => Self::Asn(*asn),
            MatchKey::Cidr(net) => Self::Prefix(*net),
            MatchKey::Domain(_) | MatchKey::Organisation(_) => {
                Self::Entity { list: Arc::clone(&first.list.id), entity: Arc::clone(&first.entity) }
            }
            MatchKey::AsCountry(country) | MatchKey::RegisteredCountry(country) => Self::Country(*country),
        })
    }
}

impl<C> Observation<C> {
    /// From a report of the kernel side.
    #[must_use]
    pub fn new(flow: &Flow, contact: ContactKey, matches: Vec<Match>, context: C) -> Self {
        let facts = flow.facts;
        let level = Level::of(flow);
        // A `connect` on a datagram socket sends nothing (the C library does it to choose among addresses), and what the
        // remote side began is no egress until it is answered. Without counters an attempt is all there is to tell.
        let has_handshake = matches!(flow.key.protocol, Protocol::Tcp | Protocol::Sctp);
        let quiet = level < Level::Sent && !facts.untracked && (facts.inbound || !has_handshake);
        // Where the kernel found no room for the last report, the flow is read from its table, marked as closed.
        let closed = facts.closed || flow.reason == ReportReason::Closed;
        Self {
            contact,
            flow: flow.key,
            first_at: flow.first_at,
            level,
            quiet,
            settled: closed || facts.failed,
            closed,
            payload_out_bytes: flow.counters.payload_out_bytes,
            payload_in_bytes: flow.counters.payload_in_bytes,
            matches,
            context,
            at: flow.at,
        }
    }

    /// The remote address.
    #[must_use]
    pub const fn remote_address(&self) -> IpAddr {
        self.flow.remote.ip()
    }
}
