//! `egresswatch lookup`: what the embedded data and the lists say about an address, a network or a name.
//!
//! Nothing is ever resolved: asking the network about a listed name would itself be a contact.

use std::{net::IpAddr, str::FromStr};

use jiff::civil::Date;
use serde::Serialize;

use super::{
    Error, Output, Status,
    args::LookupArguments,
    matches::{self, MatchReport},
};
use crate::{
    alert::text::printable,
    config::{self, Config},
    data,
    doctor::age_days,
    ownership::{self, Owner, OwnerLookup as _, Scope, Table},
    policy::Lists,
};

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An address.
    Address(IpAddr),
    /// An autonomous system.
    System(u32),
    /// A domain name, in lower case and without a trailing dot.
    Name(String),
}

/// A text that is none of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoTarget(String);

impl FromStr for Target {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Self, NoTarget> {
        let text = text.trim();
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let digits =
            text.get(..2).filter(|prefix| prefix.eq_ignore_ascii_case("as")).and(text.get(2..)).unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = digits.parse().map_err(|_| NoTarget("an AS number is at most 4294967295".to_owned()))?;
            return Ok(Self::System(number));
        }
        name(text).map(Self::Name)
    }
}

/// Checks the form of a host name (RFC 1123, with the underscores that real names have).
fn name(text: &str) -> Result<String, NoTarget> {
    let refuse = |why: &str| Err(NoTarget(format!("{why}: write an address, an AS number (AS9808) or a domain name")));
    if !text.is_ascii() {
        return refuse("international names are looked up in their ASCII form (xn--…)");
    }
    if text.contains('/') {
        return refuse("prefixes and URLs are not looked up");
    }
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let last_is_number = name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if name.len() > 253 || last_is_number || !name.split('.').all(is_label) {
        return refuse("that is no address, network or name");
    }
    Ok(name)
}

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// What was asked about, in its usual form.
    query: String,
    /// `address`, `asn` or `name`.
    kind: &'static str,
    /// Of an address: where it can be reached (RFC 6890).
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    /// Of an address or a network: who owns it; parts that are not known are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<OwnerReport>,
    /// Every list entry that it hits, also those of lists that are switched off.
    matches: Vec<MatchReport>,
    /// The ownership data.
    data: DataReport,
}

#[derive(Debug, Serialize)]
struct OwnerReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    asn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organisation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_country: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registered_country: Option<String>,
}

#[derive(Debug, Serialize)]
struct DataReport {
    date: String,
    age_days: i64,
    /// The file of imported data; the embedded ones if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Why the embedded data answer and not the imported ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

impl From<Owner> for OwnerReport {
    fn from(owner: Owner) -> Self {
        Self {
            asn: owner.asn,
            organisation: owner.organisation.map(|organisation| organisation.to_string()),
            as_country: owner.as_country.map(|country| country.to_string()),
            registered_country: owner.registered_country.map(|country| country.to_string()),
        }
    }
}

/// Looks the target up and prints the answer.
pub(super) fn execute(arguments: &LookupArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let (config, _) = Config::load(arguments.config.as_deref())?;
    let lists = config.lists()?;
    // Whoever asks may not be allowed to read what the daemon reads.
    let (in_force, trouble) = data::load_or_embedded(&config.data.table).map_err(config::Error::from)?;
    let today = jiff::ZonedDateTime::now().date();
    let mut report = Report::new(&arguments.target, &in_force.table, &lists, today);
    report.data.file = in_force.file.map(|file| file.display().to_string());
    report.data.trouble = trouble.map(|error| error.to_string());
    if arguments.json {
        output.json(&report)?;
    } else {
        report.print(output)?;
    }
    Ok(Status::Success)
}

impl Report {
    pub(super) fn new(target: &Target, table: &Table, lists: &Lists, today: Date) -> Self {
        let (query, kind, scope, owner, matches) = match target {
            Target::Address(address) => {
                let owner = table.lookup(*address);
                let matches = lists.match_address_all(*address, &owner);
                (address.to_string(), "address", Some(scope_token(ownership::scope(*address))), Some(owner), matches)
            }
            Target::System(asn) => {
                let owner = Owner {
                    asn: Some(*asn),
                    organisation: table.organisation(*asn),
                    as_country: table.as_country(*asn),
                    registered_country: None,
                };
                (format!("AS{asn}"), "asn", None, Some(owner), lists.match_asn_all(*asn))
            }
            Target::Name(name) => (name.clone(), "name", None, None, lists.match_name_all(name)),
        };
        let date = table.data_date();
        Self {
            query,
            kind,
            scope,
            owner: owner.map(OwnerReport::from),
            matches: matches.iter().map(MatchReport::new).collect(),
            data: DataReport { date: date.to_string(), age_days: age_days(date, today), file: None, trouble: None },
        }
    }

    pub(super) fn print(&self, output: &mut Output<'_>) -> std::io::Result<()> {
        output.line(output.strong(&self.query))?;
        let mut row = |title: &str, value: &str| output.line(format_args!("  {title:<20} {value}"));
        if let Some(scope) = self.scope.filter(|scope| *scope != "global") {
            row("scope", scope)?;
        }
        if let Some(owner) = &self.owner {
            let network = match (owner.asn, &owner.organisation) {
                (Some(asn), Some(organisation)) => format!("AS{asn} {}", printable(organisation)),
                (Some(asn), None) => format!("AS{asn}, holder not in the data"),
                (None, _) => "not in the data".to_owned(),
            };
            row("network", &network)?;
            row("country of network", owner.as_country.as_deref().unwrap_or("not in the data"))?;
            if self.kind == "address" {
                row("registered in", owner.registered_country.as_deref().unwrap_or("not in the data"))?;
            }
            row("ownership data", &format!("of {}, {} days old", self.data.date, self.data.age_days))?;
            if let Some(trouble) = &self.data.trouble {
                row("embedded, because", trouble)?;
            }
        }
        output.line("")?;
        matches::print(&self.matches, output)
    }
}

/// Stable name of a scope.
fn scope_token(scope: Scope) -> &'static str {
    match scope {
        Scope::Global => "global",
        Scope::Loopback => "loopback",
        Scope::Private => "private",
        Scope::LinkLocal => "link-local",
        Scope::Multicast => "multicast",
        Scope::Reserved => "reserved",
    }
}
