//! `egresswatch lists`: what is flagged, on what ground, as of when.

use serde::Serialize;

use super::{Error, Output, Status, args::ListsArguments, matches};
use crate::{
    alert::text::printable,
    config::Config,
    policy::{
        Action, Entity, List, ListHeader, ListSummary, Relation, Severity,
        feeds::{self, State},
    },
};

/// Prints every list, or one with its entries.
pub(super) fn execute(arguments: &ListsArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let (config, _) = Config::load(arguments.config.as_deref())?;
    let feeds = config.feeds(feeds::BAD_LINES_TOLD);
    let Some(id) = &arguments.list else {
        let (lists, states) = config.lists_with(feeds)?;
        print_all(lists.headers(), &states, arguments.json, output)?;
        return Ok(Status::Success);
    };
    let list = feeds.iter().find(|feed| feed.state.name == *id).map(|feed| feed.list.clone());
    let (lists, states) = config.lists_with(feeds)?;
    let summary = lists.headers().iter().find(|summary| *summary.header.id == **id);
    let list = match list {
        Some(list) => Some(list),
        None => config.own_lists()?.into_iter().find(|list| *list.header.id == **id),
    };
    let (Some(summary), Some(list)) = (summary, list) else {
        let known: Vec<_> = lists.headers().iter().map(|summary| summary.header.id.to_string()).collect();
        return Err(Error::NoSuchList { id: id.clone(), known: known.join(", ") });
    };
    print_one(summary, &list, states.iter().find(|state| state.name == *id), arguments.json, output)?;
    Ok(Status::Success)
}

#[derive(Serialize)]
struct SummaryReport<'a> {
    id: &'a str,
    title: &'a str,
    enabled: bool,
    severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<String>,
    action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    legal_basis: Option<&'a str>,
    source: &'a str,
    file: &'a str,
    entities: usize,
    unverified: usize,
    asns: usize,
    cidrs: usize,
    domains: usize,
    countries: usize,
    organisations: usize,
    /// How a list of `[lists]` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a State>,
}

impl<'a> SummaryReport<'a> {
    fn new(summary: &'a ListSummary, state: Option<&'a State>) -> Self {
        let (header, counts) = (&summary.header, summary.counts);
        Self {
            id: &header.id,
            title: &header.title,
            enabled: header.enabled,
            severity: header.severity,
            as_of: header.as_of.map(|date| date.to_string()),
            action: header.action,
            legal_basis: header.legal_basis.as_deref(),
            source: &header.source,
            file: &summary.file,
            entities: counts.entities,
            unverified: counts.unverified,
            asns: counts.asns,
            cidrs: counts.cidrs,
            domains: counts.domains,
            countries: counts.countries,
            organisations: counts.organisations,
            state,
        }
    }
}

#[derive(Serialize)]
struct EntityReport<'a> {
    name: &'a str,
    relation: Relation,
    severity: Severity,
    verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    asns: &'a [u32],
    cidrs: Vec<String>,
    domains: Vec<&'a str>,
    countries: Vec<String>,
    organisations: Vec<&'a str>,
}

impl<'a> EntityReport<'a> {
    fn new(entity: &'a Entity) -> Self {
        Self {
            name: &entity.name,
            relation: entity.relation,
            severity: entity.severity,
            verified: entity.verified,
            authority: entity.authority.as_deref(),
            note: entity.note.as_deref(),
            asns: &entity.asns,
            cidrs: entity.cidrs.iter().map(ToString::to_string).collect(),
            domains: entity.domains.iter().map(|domain| &**domain).collect(),
            countries: entity.countries.iter().map(ToString::to_string).collect(),
            organisations: entity.organisations.iter().map(|name| &**name).collect(),
        }
    }

    /// Every key on one line.
    fn keys(&self) -> String {
        let asns = self.asns.iter().map(|asn| format!("AS{asn}"));
        let others = self.cidrs.iter().chain(&self.countries).cloned();
        let names = self.domains.iter().chain(&self.organisations).map(ToString::to_string);
        asns.chain(others).chain(names).collect::<Vec<_>>().join(", ")
    }
}

/// The state of a list in words.
fn as_of(header: &ListHeader) -> String {
    header.as_of.map_or("unknown".to_owned(), |date| date.to_string())
}

/// Prints the table of lists, or one JSON object a list.
pub(super) fn print_all(
    summaries: &[ListSummary],
    states: &[State],
    json: bool,
    output: &mut Output<'_>,
) -> std::io::Result<()> {
    if json {
        let state = |id: &str| states.iter().find(|state| state.name == *id);
        let report = |summary: &ListSummary| output.json(&SummaryReport::new(summary, state(&summary.header.id)));
        return summaries.iter().try_for_each(report);
    }
    let header = format!(
        "{:<17} {:<4} {:<7} {:<10} {:>8} {:>8} {:>7} {:>9}  {}",
        "LIST", "ON", "LEVEL", "AS OF", "ENTITIES", "NETWORKS", "DOMAINS", "COUNTRIES", "TITLE"
    );
    output.line(output.strong(header))?;
    for summary in summaries {
        let (header, counts) = (&summary.header, summary.counts);
        let enabled = if header.enabled { output.good("yes") } else { output.faint("no") };
        output.line(format_args!(
            "{:<17} {enabled:<4} {:<7} {:<10} {:>8} {:>8} {:>7} {:>9}  {}",
            printable(&header.id),
            matches::severity(header.severity),
            as_of(header),
            counts.entities,
            counts.asns + counts.cidrs + counts.organisations,
            counts.domains,
            counts.countries,
            printable(&header.title),
        ))?;
    }
    for state in states {
        output.line("")?;
        print_state(state, output)?;
    }
    Ok(())
}

/// Where a list of `[lists]` comes from, how old it is, and what is to be known of it.
fn print_state(state: &State, output: &mut Output<'_>) -> std::io::Result<()> {
    let moment = |at: jiff::Timestamp| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    output.line(output.strong(format_args!("{} from {}", printable(&state.name), printable(&state.source))))?;
    let good = state.good_at.map_or("never good so far".to_owned(), |at| format!("good as of {}", moment(at)));
    let expires = state.expires_at.map(|at| format!(", counts until {}", moment(at))).unwrap_or_default();
    output.line(format_args!("  {good}{expires}: {} keys, {} bad lines", state.keys, state.bad_lines))?;
    for notice in state.notices() {
        output.line(format_args!("  {} {}", output.fair("note:"), printable(&notice)))?;
    }
    Ok(())
}

/// Prints one list with its entities, or one JSON object.
pub(super) fn print_one(
    summary: &ListSummary,
    list: &List,
    state: Option<&State>,
    json: bool,
    output: &mut Output<'_>,
) -> std::io::Result<()> {
    #[derive(Serialize)]
    struct ListReport<'a> {
        #[serde(flatten)]
        summary: SummaryReport<'a>,
        entries: Vec<EntityReport<'a>>,
    }
    let entries: Vec<_> = list.entities.iter().map(EntityReport::new).collect();
    if json {
        return output.json(&ListReport { summary: SummaryReport::new(summary, state), entries });
    }
    let header = &summary.header;
    let enabled = if header.enabled { output.good("on") } else { output.faint("off: does not alert") };
    output.line(format_args!("{}  {enabled}", output.strong(printable(&header.title))))?;
    let legal_basis = header.legal_basis.as_deref().unwrap_or("none: a topical list");
    let mut row = |title: &str, value: &str| output.line(format_args!("  {title:<12} {}", printable(value)));
    row("legal basis", legal_basis)?;
    row("source", &header.source)?;
    row("as of", &as_of(header))?;
    if let Some(state) = state {
        output.line("")?;
        print_state(state, output)?;
    }
    for entry in &entries {
        output.line("")?;
        let unverified = if entry.verified { "" } else { ", not checked at the source" };
        let severity = matches::severity(entry.severity);
        let relation = matches::relation(entry.relation);
        output.line(format_args!("{} ({relation}, {severity}{unverified})", output.strong(printable(entry.name))))?;
        for text in [entry.authority, entry.note].into_iter().flatten() {
            output.line(output.faint(format_args!("  {}", printable(text))))?;
        }
        output.line(format_args!("  {}", printable(&entry.keys())))?;
    }
    Ok(())
}
