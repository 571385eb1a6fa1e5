//! Gathers the keys of a source, and what could not be read of it.

use std::{collections::HashMap, fmt, net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use jiff::{Timestamp, civil::Date};

use super::super::{Entity, Relation, Severity, value};

/// Bad lines of a list that are told with their text where all of them would be too many; all are counted.
pub const BAD_LINES_TOLD: usize = 20;
/// Characters of a label that are kept.
const LABEL: usize = 200;
/// Characters of a bad value that a message shows.
const SHOWN: usize = 80;

/// A line that is no entry.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BadLine {
    /// The file.
    pub file: String,
    /// Line, from 1; 0 where the form has no lines.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, problem } = self;
        if *line == 0 { write!(formatter, "{file}: {problem}") } else { write!(formatter, "{file}:{line}: {problem}") }
    }
}

/// What a source held.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) groups: Vec<(Arc<str>, Keys)>,
    pub(super) by_label: HashMap<Arc<str>, usize>,
    /// The first bad lines.
    pub(super) bad: Vec<BadLine>,
    /// The moment at which the source is read: what has run out by then is left out.
    pub(super) now: Timestamp,
    /// How many of them are kept.
    pub(super) bad_kept: usize,
    /// All bad lines.
    pub(super) bad_count: u64,
    /// Date that the source gives itself.
    pub(super) as_of: Option<Date>,
    /// Title that the source gives itself.
    pub(super) title: Option<String>,
    /// What the source says of itself.
    pub(super) about: Option<String>,
}

/// Keys of one label.
#[derive(Debug, Default)]
pub(super) struct Keys {
    asns: Vec<u32>,
    domains: Vec<Arc<str>>,
    countries: Vec<crate::ownership::CountryCode>,
    cidrs: Vec<IpNet>,
    organisations: Vec<Arc<str>>,
}

impl Collected {
    /// Notes a bad line.
    pub(super) fn refuse(&mut self, file: &str, line: usize, problem: &str) {
        self.bad_count += 1;
        if self.bad.len() < self.bad_kept {
            self.bad.push(BadLine { file: file.to_owned(), line, problem: problem.chars().take(3 * SHOWN).collect() });
        }
    }

    /// The keys of a label; an empty label is the list itself.
    fn keys(&mut self, label: &str) -> &mut Keys {
        let label = label.trim();
        let label = label.char_indices().nth(LABEL).map_or(label, |(end, _)| label.get(..end).unwrap_or(label));
        let index = self.by_label.get(label).copied().unwrap_or_else(|| {
            let label: Arc<str> = label.into();
            self.groups.push((Arc::clone(&label), Keys::default()));
            self.by_label.insert(label, self.groups.len() - 1);
            self.groups.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the index was found or made in the lines above")]
        &mut self.groups[index].1
    }

    /// An address, a prefix, `first-last`, an `AS` number or a domain.
    pub(super) fn any(&mut self, label: &str, text: &str) -> Result<(), String> {
        let digits = text.get(..2).filter(|prefix| prefix.eq_ignore_ascii_case("as")).and(text.get(2..));
        if let Some(digits) =
            digits.filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return self.asn(label, digits);
        }
        if let Some((first, last)) = text.split_once('-')
            && let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse())
        {
            return self.range(label, first, last);
        }
        if text.parse::<IpAddr>().is_ok() || text.contains('/') {
            return self.cidr(label, text);
        }
        self.domain(label, text)
    }

    pub(super) fn asn(&mut self, label: &str, text: &str) -> Result<(), String> {
        let number = text
            .trim_start_matches(['A', 'S', 'a', 's'])
            .parse()
            .map_err(|_| format!("{} is no AS number", shown(text)))?;
        let asn = value::asn(number)?.0;
        self.keys(label).asns.push(asn);
        Ok(())
    }

    pub(super) fn domain(&mut self, label: &str, text: &str) -> Result<(), String> {
        let text = text.trim_start_matches("*.").trim_start_matches('.');
        let domain = value::domain(text)
            .map_err(|problem| if text.len() > SHOWN { format!("{} is no domain name", shown(text)) } else { problem })?
            .0;
        if !domain.contains('.') {
            return Err(format!("{} is a whole top-level domain", shown(text)));
        }
        self.keys(label).domains.push(domain);
        Ok(())
    }

    pub(super) fn country(&mut self, label: &str, text: &str) -> Result<(), String> {
        let country = value::country(text)?.0;
        self.keys(label).countries.push(country);
        Ok(())
    }

    pub(super) fn organisation(&mut self, label: &str, text: &str) -> Result<(), String> {
        let organisation = value::organisation(text)?.0;
        self.keys(label).organisations.push(organisation);
        Ok(())
    }

    /// An address or a prefix; bits beyond the length are dropped, mapped addresses are IPv4.
    pub(super) fn cidr(&mut self, label: &str, text: &str) -> Result<(), String> {
        let net = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address.to_canonical()),
            Err(_) => text.parse::<IpNet>().map_err(|_| format!("{} is no address or prefix", shown(text)))?.trunc(),
        };
        let net = value::canonical(net);
        if net.prefix_len() == 0 {
            return Err(format!("{net} holds every address"));
        }
        self.keys(label).cidrs.push(net);
        Ok(())
    }

    /// All addresses from the first to the last.
    pub(super) fn range(&mut self, label: &str, first: IpAddr, last: IpAddr) -> Result<(), String> {
        let keys = match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect::<Vec<_>>()
            }
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
                Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
            }
            _ => return Err(format!("{first} to {last} is no range")),
        };
        if keys.iter().any(|net| net.prefix_len() == 0) {
            return Err(format!("{first} to {last} holds every address"));
        }
        self.keys(label).cidrs.extend(keys);
        Ok(())
    }

    /// Leaves out the prefixes of a family that hold every address between them: a list that names everybody names nobody.
    pub(super) fn refuse_everything(&mut self, file: &str) {
        for (is_v4, family) in [(true, "IPv4"), (false, "IPv6")] {
            let is_of_it = |net: &IpNet| matches!(net, IpNet::V4(_)) == is_v4;
            let nets = || self.groups.iter().flat_map(|(_, keys)| &keys.cidrs).filter(|net| is_of_it(net));
            // To join them takes its time: they must be large enough first.
            let share: f64 = nets().map(|net| 0.5_f64.powi(net.prefix_len().into())).sum();
            let joined = || IpNet::aggregate(&nets().copied().collect());
            if share < 1.0 || joined().iter().all(|net| net.prefix_len() > 0) {
                continue;
            }
            for (_, keys) in &mut self.groups {
                keys.cidrs.retain(|net| !is_of_it(net));
            }
            self.refuse(file, 0, &format!("its prefixes hold every address of {family} between them"));
        }
    }

    /// How many keys there are, before overlaps are joined.
    pub(super) fn len(&self) -> usize {
        let count = |keys: &Keys| {
            keys.asns.len() + keys.domains.len() + keys.countries.len() + keys.cidrs.len() + keys.organisations.len()
        };
        self.groups.iter().map(|(_, keys)| count(keys)).sum()
    }

    /// The entities, one a label; what stands in it twice is there once and overlapping prefixes are joined.
    pub(super) fn into_entities(self, title: &Arc<str>, relation: Relation, severity: Severity) -> Vec<Entity> {
        let entity = |(label, mut keys): (Arc<str>, Keys)| {
            sort(&mut keys.asns);
            sort(&mut keys.domains);
            sort(&mut keys.countries);
            sort(&mut keys.organisations);
            keys.cidrs = IpNet::aggregate(&keys.cidrs);
            Entity {
                name: if label.is_empty() { Arc::clone(title) } else { label },
                relation,
                authority: None,
                severity,
                verified: true,
                note: None,
                asns: keys.asns,
                domains: keys.domains,
                countries: keys.countries,
                cidrs: keys.cidrs,
                organisations: keys.organisations,
            }
        };
        self.groups.into_iter().map(entity).collect()
    }
}

fn sort<T: Ord>(keys: &mut Vec<T>) {
    keys.sort_unstable();
    keys.dedup();
}

/// The beginning of a value, for a message.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(SHOWN).collect::<String>())
}
