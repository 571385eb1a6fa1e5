//! Everything that is wrong with a configuration and with what it names, in one go.

use std::{
    fs::Metadata,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{Config, DEFAULT_PATH, Error, GatheredLists, Invalid, Placed, feeds, source};
use crate::{
    kernel,
    sink::check::{Finding, Findings},
};

/// What can be said of a configuration before it is used.
#[derive(Debug)]
pub struct Checked {
    /// The file that was read; `None` where there is none and defaults hold.
    pub file: Option<PathBuf>,
    /// The settings, without those that were refused; `None` where the file cannot be read at all.
    pub config: Option<Config>,
    /// How the lists of `[lists]` are.
    pub lists: Vec<feeds::State>,
    /// What cannot be told from here.
    pub notes: Vec<Finding>,
    /// What should be known of rules that are good.
    pub rule_notes: Vec<String>,
    /// What is wrong.
    pub errors: Vec<Error>,
}

impl Config {
    /// Reads the configuration as [`Config::load`] does, and looks at everything that it names. What is wrong in its form does
    /// not keep the rest from being looked at. At most `bad_lines` of the bad lines of each list are told. Nothing is
    /// connected to and nothing written.
    #[must_use]
    pub fn check(path: Option<&Path>, bad_lines: usize) -> Checked {
        Self::check_or_default(path, Path::new(DEFAULT_PATH), bad_lines)
    }

    fn check_or_default(path: Option<&Path>, default_path: &Path, bad_lines: usize) -> Checked {
        let file = path.unwrap_or(default_path);
        let mut checked = Checked {
            file: None,
            config: None,
            lists: Vec::new(),
            notes: Vec::new(),
            rule_notes: Vec::new(),
            errors: Vec::new(),
        };
        let text = match std::fs::read_to_string(file) {
            Ok(text) => {
                checked.file = Some(file.to_owned());
                text
            }
            Err(error) if path.is_none() && error.kind() == ErrorKind::NotFound => String::new(),
            Err(source) => {
                checked.errors.push(Error::Unreadable { path: file.to_owned(), source });
                return checked;
            }
        };
        let origin = file.display().to_string();
        let source::Reading { config, problems } = source::read(&text);
        let refused: Vec<String> = problems.iter().filter_map(|problem| problem.key.clone()).collect();
        if !problems.is_empty() {
            checked.errors.push(Error::Invalid(Invalid::new(&origin, problems)));
        }
        if let Some(config) = &config {
            checked.look(config, &refused, bad_lines, &|finding| place(finding, &text, &origin));
        }
        checked.config = config;
        checked
    }
}

impl Checked {
    /// Looks at what `config` names. `refused` are the keys that were left out of it: what follows from that is no mistake of
    /// its own.
    fn look(&mut self, config: &Config, refused: &[String], bad_lines: usize, place: &dyn Fn(Finding) -> Placed) {
        let is_refused = |start: &str| refused.iter().any(|key| key.starts_with(start));
        let GatheredLists { states: lists, ids, errors, .. } = config.gather_lists(config.feeds(bad_lines));
        let has_all_lists = !is_refused("lists") && !is_refused("policy.files");
        self.errors.extend(errors.into_iter().filter(|error| match error {
            Error::List(error) => has_all_lists || !error.is_about_unknown(),
            _ => true,
        }));
        let (rules, errors) = config.gather_rules(ids.filter(|_| has_all_lists).as_deref());
        self.rule_notes = rules.notices(jiff::Timestamp::now()).collect();
        self.errors.extend(errors);
        self.errors.extend(config.ownership().err());
        let mut findings = config.output_findings();
        findings.extend(missing_places(config));
        findings.extend(state_places(config, rules.needs_baseline()));
        // One of an output of which a part was left out may come from that.
        findings.retain(|finding| !refused.iter().any(|key| is_of_the_same(key, &finding.key)));
        let (notes, mistakes): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.is_unsure);
        self.notes = notes;
        if !mistakes.is_empty() {
            self.errors.push(Error::Outputs(mistakes.into_iter().map(place).collect()));
        }
        if !self.errors.is_empty() {
            let empty = lists.iter().filter(|list| list.enabled && list.failed.is_some());
            self.errors.extend(empty.filter_map(|list| list.troubles().next()).map(Error::EmptyList));
        }
        self.lists = lists;
    }

    /// Everything that is wrong as one error.
    ///
    /// # Errors
    /// There is something wrong.
    pub fn into_good(mut self) -> Result<Self, Error> {
        Error::all(std::mem::take(&mut self.errors)).map_or(Ok(self), Err)
    }
}

/// Files and directories that settings name and that are not there, beside those of outputs, lists and rules.
fn missing_places(config: &Config) -> Vec<Finding> {
    let mut findings = Findings::new();
    if let Some(mistake) = config.kernel.cgroup.as_deref().and_then(kernel::system::cgroup_mistake) {
        findings.add_cause("kernel.cgroup", &mistake);
    }
    if let Some(ca) = &config.data.ca {
        exists(&mut findings, "data.ca", ca, Metadata::is_file, "file", "write the path of certificates in PEM");
    }
    if let Some(root) = &config.containers.root {
        let advice = "write where the host's root is mounted, or leave it out";
        exists(&mut findings, "containers.root", root, Metadata::is_dir, "directory", advice);
    }
    findings.found
}

/// Places in which the daemon keeps what it learnt and fetched, and that it cannot use.
fn state_places(config: &Config, needs_baseline: bool) -> Vec<Finding> {
    let mut findings = Findings::new();
    let (baseline, lists) = (&config.policy.baseline, &config.policy.lists_directory);
    match baseline.parent() {
        Some(folder) if needs_baseline && !folder.is_dir() => findings.directory("policy.baseline", folder),
        _ if needs_baseline => findings.file("policy.baseline", baseline, true),
        _ => {}
    }
    if config.lists.0.values().any(|list| list.enabled) {
        findings.directory("policy.lists_directory", lists);
    }
    findings.found
}

fn exists(findings: &mut Findings, key: &str, path: &Path, is: fn(&Metadata) -> bool, what: &str, advice: &str) {
    match std::fs::metadata(path) {
        Ok(facts) if is(&facts) => {}
        Ok(_) => findings.add(key, format!("{} is no {what}: {advice}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            findings.add(key, format!("there is no {what} {}: {advice}", path.display()));
        }
        Err(error) => {
            findings.add_error(key, format!("cannot look at {}: {error}", path.display()), Some(error.kind()));
        }
    }
}

/// Whether both keys are of one named table, such as `outputs.siem`.
fn is_of_the_same(key: &str, other: &str) -> bool {
    let name = |key: &str| {
        let mut parts = key.split('.');
        Some((parts.next()?.to_owned(), parts.next().map(str::to_owned)))
    };
    let (Some(key), Some(other)) = (name(key), name(other)) else { return false };
    key.0 == other.0 && (key.1 == other.1 || key.1.is_none())
}

fn place(finding: Finding, text: &str, origin: &str) -> Placed {
    match source::place_of(text, &finding.key) {
        Some((line, column)) => Placed { file: Some(origin.to_owned()), line, column, finding },
        None => Placed { file: None, line: 0, column: 0, finding },
    }
}
