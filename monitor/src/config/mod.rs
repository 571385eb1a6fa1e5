//! The configuration file: the settings of every stage, read once and validated once.
//!
//! Each stage owns its settings and their rules; this module puts them side by side, finds the file, and turns
//! whatever is wrong with it into a message that names the line, the key and what to write instead.

mod check;
mod difference;
mod error;
mod hidden;
mod invalid;
mod reference;
mod source;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::Checked;
pub use error::{Error, Placed};
pub use invalid::{Invalid, Problem};
pub use reference::{default_toml, json_schema, reference_markdown};

use self::source::Reading;
use crate::{
    containers, control, data, executables, host, kernel, limits, metrics, names, pipeline,
    policy::{
        self, List, ListError, Lists, Switches,
        feeds::{self, Feed},
        rules::Rules,
    },
    process, sink,
};

/// Where the configuration is looked for unless the command line names a file.
pub const DEFAULT_PATH: &str = "/etc/egresswatch/config.toml";

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The kernel programs, their tables and rings.
    pub kernel: kernel::Config,
    /// How much memory the monitor may take.
    pub limits: limits::Config,
    /// Records of flows.
    pub flows: pipeline::Config,
    /// How much is remembered of processes.
    pub process: process::Config,
    /// What is read of the executables of processes that reach listed owners.
    pub executables: executables::Config,
    /// What is read of containers: their names, images, pods and labels.
    pub containers: containers::Config,
    /// How much is remembered of names. `kernel.capture_names` switches them off.
    pub names: names::Config,
    /// Which lists alert, and how often.
    pub policy: policy::Config,
    /// Where the data about owners of addresses are, and where `egresswatch data update` takes them from.
    pub data: data::Config,
    /// Lists of your own, each with a name that is its id: files, directories and addresses, in the forms in which others
    /// publish lists. Lines that are no entries are left out and told. A list that cannot be read, or that holds half as much
    /// as before or less, keeps its last good state and says so.
    pub lists: feeds::Config,
    /// Where records go at once: standard output and a file. Nothing of this is kept on the disk, and the monitor ends when
    /// nobody reads standard output any more. An output of type "stdout" in `[outputs]` takes its place there.
    pub output: sink::Config,
    /// Where records go for sure: each output has a name, keeps on the disk what its receiver has not confirmed, and delivers
    /// it in order and at least once.
    pub outputs: sink::OutputsConfig,
    /// What outputs keep on the disk.
    pub spool: sink::spool::Config,
    /// The socket through which a running daemon answers `egresswatch status`, `alerts`, `flows` and `reload`.
    pub control: control::Config,
    /// The monitor's own state for Prometheus, over HTTP.
    pub metrics: metrics::Config,
}

impl Config {
    /// Reads the configuration: `path` if one is given, which then must exist, else [`DEFAULT_PATH`], else defaults.
    ///
    /// Also returns the file that was read.
    pub fn load(path: Option<&Path>) -> Result<(Self, Option<PathBuf>), Error> {
        Self::load_or_default(path, Path::new(DEFAULT_PATH))
    }

    fn load_or_default(path: Option<&Path>, default_path: &Path) -> Result<(Self, Option<PathBuf>), Error> {
        let file = path.unwrap_or(default_path);
        match std::fs::read_to_string(file) {
            Ok(text) => Ok((Self::parse(&text, &file.display().to_string())?, Some(file.to_owned()))),
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok((Self::default(), None)),
            Err(source) => Err(Error::Unreadable { path: file.to_owned(), source }),
        }
    }

    /// Reads the configuration from `text`; `origin` names it in messages.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Invalid> {
        match source::read(text) {
            Reading { config: Some(config), problems } if problems.is_empty() => Ok(config),
            Reading { problems, .. } => Err(Invalid::new(origin, problems)),
        }
    }

    /// The embedded lists and those of the user, switched as the configuration says.
    ///
    /// # Errors
    /// A list file that cannot be read or is wrong, and switches for lists that do not exist.
    pub fn lists(&self) -> Result<Lists, Error> {
        self.lists_with(self.feeds(feeds::BAD_LINES_TOLD)).map(|(lists, _)| lists)
    }

    /// The same with the lists of `[lists]` as they were read, and how those are.
    ///
    /// # Errors
    /// As [`Self::lists`].
    pub fn lists_with(&self, feeds: Vec<Feed>) -> Result<(Lists, Vec<feeds::State>), Error> {
        let GatheredLists { lists, states, errors, .. } = self.gather_lists(feeds);
        match (lists, Error::all(errors)) {
            (_, Some(error)) => Err(error),
            (Some(lists), None) => Ok((lists, states)),
            // There is an error where there are no lists.
            (None, None) => Err(Error::Several(Vec::new())),
        }
    }

    fn gather_lists(&self, feeds: Vec<Feed>) -> GatheredLists {
        let (mut lists, mut errors) = self.own_format();
        let is_whole = errors.is_empty();
        let (of_feeds, states): (Vec<_>, Vec<_>) = feeds.into_iter().map(|feed| (feed.list, feed.state)).unzip();
        lists.extend(of_feeds);
        let ids: Vec<_> = lists.iter().map(|list| Arc::clone(&list.header.id)).collect();
        let policy::Config { enable, disable, severity, .. } = &self.policy;
        let lists = Lists::switched(lists, Switches { enable, disable, severity });
        let (lists, refused) = lists.map_or_else(|error| (None, error.into_parts()), |lists| (Some(lists), Vec::new()));
        let in_filters = self.outputs.iter().flat_map(|(name, output)| {
            let unknown = output.filter.lists.iter().filter(|id| !ids.iter().any(|known| **known == ***id));
            unknown.map(|id| ListError::UnknownInFilter {
                output: name.to_string(),
                id: id.clone(),
                instead: policy::instead(id, ids.iter().map(|id| &**id)),
            })
        });
        // What a file that cannot be read would have named is not known.
        let counts = |error: &ListError| is_whole || !error.is_about_unknown();
        errors.extend(refused.into_iter().chain(in_filters).filter(counts).map(Error::List));
        GatheredLists { lists: lists.filter(|_| errors.is_empty()), states, ids: is_whole.then_some(ids), errors }
    }

    /// What is to be said of the outputs beforehand; nothing is connected to and nothing written.
    #[must_use]
    pub fn output_findings(&self) -> Vec<sink::check::Finding> {
        let mut findings = sink::check::outputs(&self.outputs, &self.spool, self.output.file.as_deref(), &host::read());
        findings.extend(feeds::findings(&self.lists));
        findings
    }

    /// Connects to every output and every server of a list as the daemon would, without sending a record.
    ///
    /// # Errors
    /// The runtime cannot be started.
    pub fn contacts(&self) -> std::io::Result<Vec<sink::check::Contact>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(connect(self)))
    }

    /// The files and directories that the settings name and that are read with them.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let named = self.policy.files.iter().chain(&self.policy.rules).chain([&self.data.table]);
        named.chain(self.lists.paths()).cloned().collect()
    }

    /// The ownership data in force.
    ///
    /// # Errors
    /// A file of imported data that is there and cannot be used.
    pub fn ownership(&self) -> Result<data::InForce, Error> {
        Ok(data::load(&self.data.table)?)
    }

    /// The embedded rules and those of the user, switched as the configuration says. `lists` are those of [`Self::lists`]: a
    /// rule that speaks of another one is a mistake.
    ///
    /// # Errors
    /// A file that cannot be read, or everything that is wrong with all of them.
    pub fn rules(&self, lists: &Lists) -> Result<Rules, Error> {
        let (rules, errors) = self.gather_rules(Some(&lists.ids()));
        Error::all(errors).map_or(Ok(rules), Err)
    }

    /// The rules, and everything that is wrong. Where the ids of all lists are known, any other one in a rule is a mistake.
    fn gather_rules(&self, known_lists: Option<&[Arc<str>]>) -> (Rules, Vec<Error>) {
        let policy::Config { rules, enable_rules, disable_rules, .. } = &self.policy;
        let (files, mut errors) = read_rule_files(rules);
        match Rules::new(&files, enable_rules, disable_rules, known_lists) {
            Ok(rules) => (rules, errors),
            Err(mut wrong) => {
                // What a file that cannot be read would have named is not known.
                wrong.problems.retain(|problem| errors.is_empty() || !problem.is_about_unknown_rule);
                if !wrong.problems.is_empty() {
                    errors.push(wrong.into());
                }
                (Rules::default(), errors)
            }
        }
    }

    /// The embedded lists and those of the user, with all their entries.
    pub fn list_files(&self) -> Result<Vec<List>, Error> {
        let mut lists = self.own_lists()?;
        lists.extend(self.feeds(feeds::BAD_LINES_TOLD).into_iter().map(|feed| feed.list));
        Ok(lists)
    }

    /// The embedded lists and those of `policy.files`, with all their entries.
    pub(crate) fn own_lists(&self) -> Result<Vec<List>, Error> {
        let (lists, errors) = self.own_format();
        Error::all(errors).map_or(Ok(lists), Err)
    }

    /// The lists of `[lists]` with their state, and at most so many of the bad lines of each.
    #[must_use]
    pub fn feeds(&self, bad_lines: usize) -> Vec<Feed> {
        feeds::load(&self.lists, &self.policy.lists_directory, jiff::Timestamp::now(), bad_lines)
    }

    /// The same, and what is wrong with those that are left out.
    fn own_format(&self) -> (Vec<List>, Vec<Error>) {
        let (mut lists, mut errors) = (Vec::new(), Vec::new());
        match Lists::embedded_files() {
            Ok(embedded) => lists = embedded,
            Err(error) => errors.push(error.into()),
        }
        for path in &self.policy.files {
            match std::fs::read_to_string(path) {
                Ok(text) => match List::parse(&path.display().to_string(), &text) {
                    Ok(list) => lists.push(list),
                    Err(error) => errors.extend(error.into_parts().into_iter().map(Error::List)),
                },
                Err(source) => errors.push(Error::UnreadableList { path: path.clone(), source }),
            }
        }
        (lists, errors)
    }
}

/// What came of reading every list.
struct GatheredLists {
    /// The lists, if all is good.
    lists: Option<Lists>,
    /// How those of `[lists]` are.
    states: Vec<feeds::State>,
    /// The ids of all, also of those that are switched off; `None` where a file cannot be read.
    ids: Option<Vec<Arc<str>>>,
    /// Everything that is wrong.
    errors: Vec<Error>,
}

/// The names and texts of rule files: those named, and `*.toml` of directories named, in the order of their names.
///
/// # Errors
/// Everything that cannot be read. [`policy::DEFAULT_RULES`] need not exist.
pub fn rule_files(paths: &[PathBuf]) -> Result<Vec<(String, String)>, Error> {
    let (files, errors) = read_rule_files(paths);
    Error::all(errors).map_or(Ok(files), Err)
}

/// Those that can be read, and why others cannot.
fn read_rule_files(paths: &[PathBuf]) -> (Vec<(String, String)>, Vec<Error>) {
    let unreadable = |path: &Path, source| Error::UnreadableRules { path: path.to_owned(), source };
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        if path.is_dir() {
            match toml_files(path) {
                Ok(found) => files.extend(found),
                Err(source) => errors.push(unreadable(path, source)),
            }
        } else if path.exists() || path != Path::new(policy::DEFAULT_RULES) {
            files.push(path.clone());
        }
    }
    let mut texts = Vec::new();
    for file in files {
        match std::fs::read_to_string(&file) {
            Ok(text) => texts.push((file.display().to_string(), text)),
            Err(source) => errors.push(unreadable(&file, source)),
        }
    }
    (texts, errors)
}

/// Every `*.toml` of a directory that is not hidden, in the order of their names.
fn toml_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let file = entry?.path();
        let is_hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && file.extension().is_some_and(|extension| extension == "toml") {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

async fn connect(config: &Config) -> Vec<sink::check::Contact> {
    let host = host::read();
    let (mut contacts, lists) =
        tokio::join!(sink::check::connect(&config.outputs, &host), feeds::connect(&config.lists));
    contacts.extend(lists);
    contacts
}

#[cfg(test)]
mod tests;
