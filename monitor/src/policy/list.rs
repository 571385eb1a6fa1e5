//! One list: its file format, read and checked. The format is described in `lists/README.md`.

use std::{collections::HashMap, fmt, ops::Range, sync::Arc};

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::{
    Action, ListHeader, Relation, Severity,
    value::{Asn, CalendarDate, Country, Domain, ListId, Organisation, Prefix},
};
use crate::{
    mistakes::{line_and_column, nearest},
    ownership::CountryCode,
};

/// A list as its file gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Title page; `enabled` is the file's default.
    pub header: ListHeader,
    /// Name of the file it came from, for messages.
    pub file: String,
    /// Its entities in the file's order.
    pub entities: Vec<Entity>,
    /// Of an ignoring list, the ids of the lists whose matches it spares; none means all that are not embedded.
    pub applies_to: Vec<Arc<str>>,
    /// It is part of the program.
    pub is_embedded: bool,
}

/// One entity of a list with the keys that point to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// Name for people.
    pub name: Arc<str>,
    /// Relation to what the list names.
    pub relation: Relation,
    /// Legal act and date of the listing, as one text.
    pub authority: Option<Arc<str>>,
    /// Severity of its matches.
    pub severity: Severity,
    /// `false` where it rests on the press or on common knowledge.
    pub verified: bool,
    /// What a reader should know.
    pub note: Option<Arc<str>>,
    /// Autonomous systems.
    pub asns: Vec<u32>,
    /// Domains in lower case without a trailing dot; each holds for every name below it.
    pub domains: Vec<Arc<str>>,
    /// Countries of a network or of an address's registration.
    pub countries: Vec<CountryCode>,
    /// Prefixes, host bits zero, never IPv4-mapped.
    pub cidrs: Vec<IpNet>,
    /// Names, or parts of names, of organisations that hold networks.
    pub organisations: Vec<Arc<str>>,
}

/// Why lists cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A file is wrong at one place.
    #[error("{file}:{line}:{column}: {problem}")]
    File {
        /// The file as the caller named it.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// Two files have the same id.
    #[error("{second}: the list id {id:?} is taken by {first}: give one of the two another id")]
    DuplicateId {
        /// The id.
        id: String,
        /// The file that came first.
        first: String,
        /// The file that came later.
        second: String,
    },
    /// The configuration speaks of a list that does not exist.
    #[error("there is no list {id:?} to switch on or off or to give a severity: {instead}")]
    UnknownId {
        /// The id.
        id: String,
        /// What to write.
        instead: String,
    },
    /// A list spares matches of a list that does not exist.
    #[error("lists.{list}.applies_to: there is no list {id:?}: {instead}")]
    UnknownTarget {
        /// The ignoring list.
        list: String,
        /// The id.
        id: String,
        /// What to write.
        instead: String,
    },
    /// An output waits for matches of a list that does not exist.
    #[error("outputs.{output}.filter.lists: there is no list {id:?}: {instead}")]
    UnknownInFilter {
        /// The output.
        output: String,
        /// The id.
        id: String,
        /// What to write.
        instead: String,
    },
    /// The configuration switches a list both on and off.
    #[error("the list {id:?} is both enabled and disabled: keep it in one of the two")]
    Contradiction {
        /// The id.
        id: String,
    },
    /// Several of these.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<ListError>),
}

impl ListError {
    /// Itself, or what it consists of.
    #[must_use]
    pub fn into_parts(self) -> Vec<Self> {
        match self {
            Self::Several(parts) => parts,
            one => vec![one],
        }
    }

    /// Whether it is about a list that does not exist.
    #[must_use]
    pub const fn is_about_unknown(&self) -> bool {
        matches!(self, Self::UnknownId { .. } | Self::UnknownTarget { .. } | Self::UnknownInFilter { .. })
    }

    /// One of them, or all of them as one; `None` if there are none.
    pub(super) fn all(mut errors: Vec<Self>) -> Option<Self> {
        match errors.len() {
            0 => None,
            1 => errors.pop(),
            _ => Some(Self::Several(errors)),
        }
    }
}

/// What to write instead of an id that does not exist.
#[must_use]
pub fn instead<'a>(id: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(id, known.clone()) {
        Some(candidate) => format!("did you mean {candidate:?}?"),
        None => format!("write one of {}", known.collect::<Vec<_>>().join(", ")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListFile {
    id: ListId,
    title: Text,
    legal_basis: Option<Text>,
    about: Text,
    source: Text,
    as_of: CalendarDate,
    severity: Severity,
    #[serde(default = "yes")]
    enabled: bool,
    entity: Vec<Spanned<EntityTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntityTable {
    name: Spanned<Text>,
    relation: Option<Spanned<Relation>>,
    authority: Option<Text>,
    listed: Option<CalendarDate>,
    severity: Option<Severity>,
    #[serde(default = "yes")]
    verified: bool,
    note: Option<Text>,
    #[serde(default)]
    asns: Vec<Spanned<Asn>>,
    #[serde(default)]
    domains: Vec<Spanned<Domain>>,
    #[serde(default)]
    countries: Vec<Spanned<Country>>,
    #[serde(default)]
    cidrs: Vec<Spanned<Prefix>>,
    #[serde(default)]
    organisations: Vec<Spanned<Organisation>>,
}

const fn yes() -> bool {
    true
}

/// A text that is not empty.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Text(Arc<str>);

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = text.trim();
        if text.is_empty() { Err("this text is empty: fill it in or leave the key out") } else { Ok(Self(text.into())) }
    }
}

impl List {
    /// Reads a list. `file` is the name that messages use, `text` the file's content.
    pub fn parse(file: &str, text: &str) -> Result<Self, ListError> {
        let place = Place { file, text };
        let raw: ListFile = toml::from_str(text)
            .map_err(|error| place.error(error.span().unwrap_or_default(), error.message().trim_end()))?;
        let header = ListHeader {
            id: raw.id.0,
            title: raw.title.0,
            legal_basis: raw.legal_basis.map(|text| text.0),
            about: raw.about.0,
            source: raw.source.0,
            as_of: Some(raw.as_of.0),
            severity: raw.severity,
            enabled: raw.enabled,
            action: Action::Alert,
        };
        let mut seen = Seen { place, first_offsets: HashMap::new() };
        let (mut entities, mut errors) = (Vec::new(), Vec::new());
        for table in raw.entity {
            match seen.entity(&header, table) {
                Ok(entity) => entities.push(entity),
                Err(error) => errors.push(error),
            }
        }
        if let Some(error) = ListError::all(errors) {
            return Err(error);
        }
        Ok(Self { header, file: file.to_owned(), entities, applies_to: Vec::new(), is_embedded: false })
    }
}

/// A file's text, to turn a byte offset into line and column.
#[derive(Clone, Copy)]
struct Place<'a> {
    file: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn error(&self, span: Range<usize>, problem: impl fmt::Display) -> ListError {
        let (line, column) = line_and_column(self.text, span.start);
        ListError::File { file: self.file.to_owned(), line, column, problem: problem.to_string() }
    }
}

/// What a list held so far: a key that stands twice is a slip of the editor, and one of the two entries is wrong.
struct Seen<'a> {
    place: Place<'a>,
    /// Byte offsets: counting lines for each of a million keys would take hours, and only a mistake needs one.
    first_offsets: HashMap<String, usize>,
}

impl Seen<'_> {
    fn entity(&mut self, header: &ListHeader, table: Spanned<EntityTable>) -> Result<Entity, ListError> {
        let table_span = table.span();
        let table = table.into_inner();
        let name_span = table.name.span();
        let name = table.name.into_inner().0;
        self.once(name_span, format!("the entity {name:?}"))?;
        if table.asns.is_empty()
            && table.domains.is_empty()
            && table.countries.is_empty()
            && table.cidrs.is_empty()
            && table.organisations.is_empty()
        {
            let problem =
                format!("{name:?} has nothing to match: give it asns, domains, countries, cidrs or organisations");
            return Err(self.place.error(table_span, problem));
        }
        let relation = self.relation(header, &name, table.relation, table_span)?;
        let authority = match (table.authority, table.listed) {
            (Some(act), Some(date)) => Some(format!("{}, {}", act.0, date.0).into()),
            (Some(act), None) => Some(act.0),
            (None, Some(date)) => Some(date.0.to_string().into()),
            (None, None) => None,
        };
        Ok(Entity {
            name,
            relation,
            authority,
            severity: table.severity.unwrap_or(header.severity),
            verified: table.verified,
            note: table.note.map(|text| text.0),
            asns: self.keys(table.asns, |asn| (asn.0, format!("AS{}", asn.0)))?,
            domains: self.keys(table.domains, |domain| (Arc::clone(&domain.0), domain.0.to_string()))?,
            countries: self.keys(table.countries, |country| (country.0, format!("the country {}", country.0)))?,
            cidrs: self.keys(table.cidrs, |prefix| (prefix.0, prefix.0.to_string()))?,
            organisations: self
                .keys(table.organisations, |name| (Arc::clone(&name.0), format!("the organisation {}", name.0)))?,
        })
    }

    fn relation(
        &self,
        header: &ListHeader,
        name: &str,
        given: Option<Spanned<Relation>>,
        table_span: Range<usize>,
    ) -> Result<Relation, ListError> {
        let span = given.as_ref().map_or(table_span, Spanned::span);
        match (given.map(Spanned::into_inner), header.legal_basis.is_some()) {
            (None | Some(Relation::Topical), false) => Ok(Relation::Topical),
            (Some(relation @ (Relation::Named | Relation::Parent | Relation::Affiliate)), true) => Ok(relation),
            (_, true) => Err(self.place.error(
                span,
                format!("say how {name:?} relates to the legal act: write relation = \"named\", \"parent\" or \"affiliate\""),
            )),
            (_, false) => Err(self.place.error(
                span,
                format!("{name:?} cannot be named by a list without legal_basis: write relation = \"topical\" or add legal_basis"),
            )),
        }
    }

    fn keys<V, T>(
        &mut self,
        values: Vec<Spanned<V>>,
        describe: impl Fn(&V) -> (T, String),
    ) -> Result<Vec<T>, ListError> {
        values
            .into_iter()
            .map(|value| {
                let (key, label) = describe(value.get_ref());
                self.once(value.span(), label)?;
                Ok(key)
            })
            .collect()
    }

    fn once(&mut self, span: Range<usize>, label: String) -> Result<(), ListError> {
        if let Some(&first) = self.first_offsets.get(&label) {
            let (first, _) = line_and_column(self.place.text, first);
            return Err(self.place.error(span, format!("{label} is already in line {first}: keep one of the two")));
        }
        self.first_offsets.insert(label, span.start);
        Ok(())
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
