//! List matches, for people and for machines.

use serde::Serialize;

use super::Output;
use crate::{
    alert::text::printable,
    policy::{Action, Match, MatchKey, Relation, Severity},
};

/// One hit on a list.
#[derive(Debug, Serialize)]
pub(super) struct MatchReport {
    /// Id of the list.
    list: String,
    /// Title of the list.
    title: String,
    /// Whether matches of the list alert.
    enabled: bool,
    /// The entity that the entry belongs to.
    entity: String,
    relation: Relation,
    severity: Severity,
    /// Which key hit: `asn`, `cidr`, `domain`, `organisation`, `as_country` or `registered_country`.
    key: &'static str,
    /// The key's value.
    value: String,
    /// Legal act and date of the entry, else of the list; left out for topical lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
    /// State of the list; left out where nothing says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<String>,
    /// Whether the list alerts or spares matches of others.
    action: Action,
    /// Whether the entry was checked at its source.
    verified: bool,
}

impl MatchReport {
    pub(super) fn new(found: &Match) -> Self {
        let (key, value) = match &found.key {
            MatchKey::Asn(asn) => ("asn", asn.to_string()),
            MatchKey::Cidr(prefix) => ("cidr", prefix.to_string()),
            MatchKey::Domain(domain) => ("domain", domain.to_string()),
            MatchKey::Organisation(name) => ("organisation", name.to_string()),
            MatchKey::AsCountry(country) => ("as_country", country.to_string()),
            MatchKey::RegisteredCountry(country) => ("registered_country", country.to_string()),
        };
        Self {
            list: found.list.id.to_string(),
            title: found.list.title.to_string(),
            enabled: found.list.enabled,
            entity: found.entity.to_string(),
            relation: found.relation,
            severity: found.severity,
            key,
            value,
            authority: found.authority.as_ref().or(found.list.legal_basis.as_ref()).map(ToString::to_string),
            as_of: found.list.as_of.map(|date| date.to_string()),
            action: found.list.action,
            verified: found.verified,
        }
    }

    fn is_same_entry(&self, other: &Self) -> bool {
        (&self.list, &self.entity, self.relation) == (&other.list, &other.entity, other.relation)
    }

    /// The key in words.
    fn key_in_words(&self) -> String {
        let value = &self.value;
        match self.key {
            "asn" => format!("network AS{value}"),
            "cidr" => format!("prefix {value}"),
            "domain" => format!("domain {value}"),
            "organisation" => format!("organisation {value}"),
            "as_country" => format!("country of network {value}"),
            _ => format!("registered in {value}"),
        }
    }
}

/// Prints matches, three lines for each entry that was hit, by whatever keys.
pub(super) fn print(matches: &[MatchReport], output: &mut Output<'_>) -> std::io::Result<()> {
    if matches.is_empty() {
        return output.line("On no list.");
    }
    for hits in matches.chunk_by(MatchReport::is_same_entry) {
        let Some(found) = hits.first() else { continue };
        let severity = severity(found.severity);
        let severity = match found.severity {
            Severity::High => output.bad(severity),
            Severity::Medium => output.fair(severity),
            Severity::Low => output.faint(severity),
        };
        let disabled = match (found.enabled, found.action) {
            (false, _) => " (list switched off: does not alert)",
            (true, Action::Ignore) => " (spares matches of other lists)",
            (true, Action::Alert) => "",
        };
        output.line(format_args!("{} {severity}{disabled}", output.strong(printable(&found.list))))?;
        let unverified = if found.verified { "" } else { ", not checked at the source" };
        let (entity, relation) = (printable(&found.entity), relation(found.relation));
        let keys: Vec<_> = hits.iter().map(MatchReport::key_in_words).collect();
        output.line(format_args!("  {entity} ({relation}{unverified}), by {}", printable(&keys.join(" and "))))?;
        let authority = found.authority.as_deref().map_or("topical, no legal act".to_owned(), printable);
        let as_of = found.as_of.as_deref().unwrap_or("an unknown date");
        output.line(output.faint(format_args!("  {authority}; list as of {as_of}")))?;
    }
    Ok(())
}

pub(super) const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::High => "high",
        Severity::Medium => "medium",
        Severity::Low => "low",
    }
}

pub(super) const fn relation(relation: Relation) -> &'static str {
    match relation {
        Relation::Named => "named by the list",
        Relation::Parent => "parent of what the list names",
        Relation::Affiliate => "affiliate of what the list names",
        Relation::Topical => "topical entry",
    }
}
