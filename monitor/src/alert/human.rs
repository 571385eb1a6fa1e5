//! Records as lines for people.
//!
//! One line says what happened; after a first contact or a new match one dim line per list says on which legal basis and as of which
//! date. Sizes are decimal: 1 kB is 1,000 bytes.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;

use super::{
    Record,
    record::{Cause, Dataset, Direction, EventAction, KeyKind, ListMatch},
    sentence,
    text::{humane_bytes, humane_duration, printable},
    time::Timestamp,
};
use crate::policy::{Relation, Severity};

/// Writes records as lines for people.
#[derive(Clone, Debug)]
pub struct HumanFormat {
    /// Whether to use ANSI colours.
    pub colors: bool,
    /// Columns of the terminal: quiet lines are cut to fit. Lines that claim something are never cut.
    pub columns: Option<usize>,
    /// Zone of the times shown.
    pub time_zone: TimeZone,
    /// Times with their date and the offset of the zone, for lines that are read on another day or elsewhere.
    pub has_dates: bool,
}

impl HumanFormat {
    /// Without colours, of any width, in UTC.
    #[must_use]
    pub const fn plain() -> Self {
        Self { colors: false, columns: None, time_zone: TimeZone::UTC, has_dates: false }
    }

    /// For what is kept: without colours, of any width, with dates.
    #[must_use]
    pub const fn kept(time_zone: TimeZone) -> Self {
        Self { colors: false, columns: None, time_zone, has_dates: true }
    }

    /// Appends the record's lines, each with its newline.
    pub fn write(&self, record: &Record, buffer: &mut Vec<u8>) {
        let mut lines = String::new();
        match record.event.dataset {
            Dataset::Alert => self.alert(record, &mut lines),
            Dataset::Flow => self.flow(record, &mut lines),
            Dataset::Executable => self.notice(record, "executable", DIM, &record.message, &mut lines),
            Dataset::Loss => self.notice(record, "LOSS", LOSS, &record.message, &mut lines),
            Dataset::Degradation => {
                self.notice(record, "DEGRADED", DEGRADED, &sentence::degradation(&record.egresswatch), &mut lines);
            }
            Dataset::Status => self.notice(record, "status", DIM, &record.message, &mut lines),
        }
        buffer.extend_from_slice(lines.as_bytes());
    }

    fn alert(&self, record: &Record, lines: &mut String) {
        let own = &record.egresswatch;
        let severity = own.severity.unwrap_or(Severity::Low);
        let (word, style) = match severity {
            Severity::High => ("high", HIGH),
            Severity::Medium => ("medium", MEDIUM),
            Severity::Low => ("low", LOW),
        };
        let mut line = vec![
            self.painted(DIM, &self.time(record)),
            self.painted(style, &format!("ALERT {word}")),
            self.painted(BOLD, &sentence::actor(record)) + &remote(record) + &sentence::proxied(record),
        ];
        line.extend(sentence::domain(record).map(|domain| self.painted(BOLD, &domain)));
        line.extend(sentence::owner(own));
        line.push(self.painted(BOLD, &sentence::claim(record)));
        let grounds = sentence::findings(record).unwrap_or_else(|| printable(&own.lists.join(", ")));
        line.push(self.painted(style, &grounds));
        if own.cause == Some(Cause::Rollup) {
            let since = own.totals.as_ref().map(|totals| self.moment(totals.first_contact));
            line.extend(since.map(|since| self.painted(DIM, &format!("since {since}"))));
        }
        lines.push_str(&line.join("  "));
        lines.push('\n');
        if matches!(own.cause, Some(Cause::FirstContact | Cause::NewMatch)) {
            self.provenance(record, lines);
        }
    }

    /// One dim line per list, and one for the date of the ownership data.
    fn provenance(&self, record: &Record, lines: &mut String) {
        let own = &record.egresswatch;
        for list in &own.lists {
            let entries: Vec<_> = own.matches.iter().filter(|entry| entry.list == *list).collect();
            if let Some(first) = entries.first() {
                self.quiet(&format!("{}{}", INDENT, list_line(first, &entries)), lines);
            }
        }
        if let Some(container) = sentence::container(record) {
            self.quiet(&format!("{INDENT}{container}"), lines);
        }
        if let Some(names) = sentence::names(record) {
            self.quiet(&format!("{INDENT}names: {names}"), lines);
        }
        if let Some(owner) = &own.owner {
            self.quiet(&format!("{INDENT}ownership data of {}", owner.data_date), lines);
        }
    }

    fn flow(&self, record: &Record, lines: &mut String) {
        let own = &record.egresswatch;
        let mut line = vec![self.time(record), "flow".to_owned(), sentence::actor(record) + &remote(record)];
        line.extend(sentence::domain(record));
        line.extend(sentence::owner(own));
        if let Some(flow) = &own.flow {
            line.push(match (&flow.out, &flow.inward) {
                (Some(out), Some(inward)) => {
                    format!("↑ {} ↓ {}", humane_bytes(out.payload_bytes), humane_bytes(inward.payload_bytes))
                }
                _ => "not counted".to_owned(),
            });
        }
        line.extend(record.event.duration.map(humane_duration));
        line.push(if record.event.action == EventAction::FlowEnded { "ended" } else { "goes on" }.to_owned());
        if !own.lists.is_empty() {
            line.push(printable(&own.lists.join(", ")));
        }
        self.quiet(&line.join("  "), lines);
    }

    /// A line about the monitor itself.
    fn notice(&self, record: &Record, word: &str, style: Style, text: &str, lines: &mut String) {
        let time = self.painted(DIM, &self.time(record));
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{time}  {}  {}", self.painted(style, word), text.trim_end_matches('.'));
    }

    /// A dim line, cut to the terminal's width.
    fn quiet(&self, line: &str, lines: &mut String) {
        let line = match self.columns {
            Some(columns) if line.chars().count() > columns => {
                line.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
            }
            _ => line.to_owned(),
        };
        lines.push_str(&self.painted(DIM, &line));
        lines.push('\n');
    }

    fn time(&self, record: &Record) -> String {
        self.moment(record.timestamp)
    }

    fn moment(&self, timestamp: Timestamp) -> String {
        if self.has_dates { timestamp.with_offset(&self.time_zone) } else { timestamp.time_of_day(&self.time_zone) }
    }

    fn painted(&self, style: Style, text: &str) -> String {
        if self.colors { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// Continuation lines stand under the text, right of the time.
const INDENT: &str = "          ";

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const HIGH: Style = AnsiColor::Red.on_default().bold();
const MEDIUM: Style = AnsiColor::Yellow.on_default().bold();
const LOW: Style = AnsiColor::Cyan.on_default();
const LOSS: Style = AnsiColor::Magenta.on_default().bold();
const DEGRADED: Style = AnsiColor::Yellow.on_default();

/// The remote address, with an arrow from the side that opened the flow.
fn remote(record: &Record) -> String {
    let arrow = match record.network.as_ref().map(|network| network.direction) {
        Some(Direction::Ingress) => "←",
        _ => "→",
    };
    format!(" {arrow} {}", sentence::remote(record))
}

/// What hit, with which country it is where a country hit: the network's and the registration's are two facts.
fn key(entry: &ListMatch) -> String {
    let value = &entry.key.value;
    match entry.key.kind {
        KeyKind::AsCountry => format!("network of {value}"),
        KeyKind::RegisteredCountry => format!("registered in {value}"),
        KeyKind::Asn | KeyKind::Cidr | KeyKind::Domain | KeyKind::Organisation => value.clone(),
    }
}

/// `us-fcc-covered: cmpassport.com, AS9808 · China Mobile (parent) · 47 CFR 1.50002 · as of 2026-07-07`.
fn list_line(first: &ListMatch, entries: &[&ListMatch]) -> String {
    let keys: Vec<_> = entries.iter().map(|entry| key(entry)).collect();
    let relation = match first.relation {
        Relation::Named => "named",
        Relation::Parent => "parent of what it names",
        Relation::Affiliate => "affiliate of what it names",
        Relation::Topical => "topical",
    };
    let basis = first.authority.as_deref().or(first.legal_basis.as_deref()).unwrap_or("no legal act");
    let doubt = if entries.iter().any(|entry| entry.verified) { "" } else { " · not verified at the source" };
    printable(&format!(
        "{}: {} · {} ({relation}) · {basis} · as of {}{doubt}",
        first.list,
        keys.join(", "),
        first.entity,
        first.as_of.as_deref().unwrap_or("an unknown date")
    ))
}
