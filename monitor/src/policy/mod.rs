//! Does it matter: lists of flagged infrastructure, matches, and when an alert is due.

mod config;
mod contact;
pub mod feeds;
mod history;
mod hits;
mod index;
mod list;
mod lists;
pub mod rules;
mod tracker;
mod value;

use std::sync::Arc;

use ipnet::IpNet;

pub use self::{
    config::{Config, DEFAULT_RULES, RollupSchedule, ScheduleError},
    contact::{Actor, Cause, ContactKey, Decision, Increase, Level, Observation, OwnerKey, Totals},
    history::MAX_DESTINATIONS,
    list::{Entity, List, ListError, instead},
    lists::{EntryCounts, ListSummary, Lists, Switches},
    tracker::{Tracker, TrackerStats},
};

use crate::ownership::CountryCode;

/// How much a match matters. Numbers follow ECS `event.severity` use: higher is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a line in a report.
    Low,
    /// Worth a look.
    Medium,
    /// Worth a look now.
    High,
}

/// How an entry's holder relates to the entity that the list names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    /// The list names it.
    Named,
    /// A parent of what the list names.
    Parent,
    /// A subsidiary, branch or affiliate of what the list names.
    Affiliate,
    /// A curated set without a legal act behind it.
    Topical,
}

/// Which key of a flow hit an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MatchKey {
    /// The origin AS of the address.
    Asn(u32),
    /// A prefix that holds the address.
    Cidr(IpNet),
    /// A domain that is, or is a parent of, a name of the flow.
    Domain(Arc<str>),
    /// The name, or part of the name, of the organisation that holds the autonomous system.
    Organisation(Arc<str>),
    /// The country of the autonomous system.
    AsCountry(CountryCode),
    /// The country of the registration.
    RegisteredCountry(CountryCode),
}

/// A list's title page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListHeader {
    /// Stable id, such as `us-fcc-covered`.
    pub id: Arc<str>,
    /// Title for people.
    pub title: Arc<str>,
    /// Legal act or `None` for a topical list.
    pub legal_basis: Option<Arc<str>>,
    /// What a match on this list means and what it does not mean, in a sentence or two.
    pub about: Arc<str>,
    /// Where it can be read.
    pub source: Arc<str>,
    /// State of the list: the date up to which it was read; `None` where nothing says it.
    pub as_of: Option<jiff::civil::Date>,
    /// Default severity of its matches.
    pub severity: Severity,
    /// Whether its matches count.
    pub enabled: bool,
    /// What its matches do.
    pub action: Action,
}

/// What is done about what a rule or a list matches.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Tell it.
    #[default]
    Alert,
    /// It is known to be good: a rule silences rules and lists about the flow, a list spares the matches of other lists.
    Ignore,
}

/// One hit of a flow, a name or an address on a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The list.
    pub list: Arc<ListHeader>,
    /// The entity the entry belongs to.
    pub entity: Arc<str>,
    /// Its relation to the list's act.
    pub relation: Relation,
    /// Legal act and date for this entity, where the list tells them apart.
    pub authority: Option<Arc<str>>,
    /// Which key hit.
    pub key: MatchKey,
    /// Severity of this entry.
    pub severity: Severity,
    /// `false` where the entry rests on the press or on common knowledge and was not checked at the source.
    pub verified: bool,
}
