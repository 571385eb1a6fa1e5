//! What is wrong with outputs, found before they are needed and without a word to anybody: files are looked at, no connection
//! is made and nothing is written. Only [`connect`] connects, when it is asked to.

mod connect;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    error::Error,
    fmt, fs, io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access, geteuid};

pub use self::connect::{Contact, connect, within};
use super::{
    OutputConfig, OutputKind, OutputName, OutputsConfig,
    http::HeaderSetting,
    secret::{Secret, SecretError},
    spool,
    syslog::Transport,
};
use crate::alert::input::Host;

/// Something that an output will fail on, or may.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The setting, such as `outputs.siem.token`.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
    /// It cannot be told from here whether it is a mistake: this process has less, or other variables, than the daemon.
    #[serde(skip)]
    pub is_unsure: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.key, self.message)
    }
}

/// Looks at every output, and at the spool if one needs it. `file` is `output.file`.
#[must_use]
pub fn outputs(outputs: &OutputsConfig, spool: &spool::Config, file: Option<&Path>, host: &Host) -> Vec<Finding> {
    let mut findings = Findings::new();
    if let Some(path) = file {
        findings.file("output.file", path, false);
    }
    for (name, output) in outputs {
        findings.output(name, output, host);
    }
    for (name, problem) in shared_files(outputs, file.into_iter()) {
        findings.add(&format!("outputs.{name}.path"), problem);
    }
    if !outputs.is_empty() {
        findings.directory("spool.directory", &spool.directory);
    }
    findings.found
}

/// The outputs whose file another output, or one of `files`, writes as well, by whatever path: the one would move away what
/// the other writes, and lines would mix.
#[must_use]
pub fn shared_files<'a>(outputs: &OutputsConfig, files: impl Iterator<Item = &'a Path>) -> Vec<(OutputName, String)> {
    let mut taken: BTreeMap<PathBuf, String> =
        files.map(|path| (super::file::place(path), "output.file".to_owned())).collect();
    let mut found = Vec::new();
    for (name, output) in outputs {
        let OutputKind::File(file) = &output.kind else { continue };
        match taken.entry(super::file::place(&file.path)) {
            Entry::Vacant(entry) => _ = entry.insert(format!("outputs.{name}")),
            Entry::Occupied(entry) => {
                let (path, other) = (file.path.display(), entry.get());
                found.push((name.clone(), format!("{path} is the file of {other} as well: name another one")));
            }
        }
    }
    found
}

/// What was found so far.
pub(crate) struct Findings {
    /// What cannot be read by others can be by the daemon, which is root.
    is_root: bool,
    pub(crate) found: Vec<Finding>,
}

impl Findings {
    pub(crate) fn new() -> Self {
        Self { is_root: geteuid().is_root(), found: Vec::new() }
    }

    /// Notes an error and what of the system is behind it.
    pub(crate) fn add_cause(&mut self, key: &str, error: &(dyn Error + 'static)) {
        self.add_error(key, error.to_string(), io_kind(error));
    }

    pub(crate) fn add(&mut self, key: &str, message: impl Into<String>) {
        self.found.push(Finding { key: key.to_owned(), message: message.into(), is_unsure: false });
    }

    /// Notes an error. What only root may look at is no mistake where another looks.
    pub(crate) fn add_error(&mut self, key: &str, message: String, kind: Option<io::ErrorKind>) {
        let is_unsure = !self.is_root && kind == Some(io::ErrorKind::PermissionDenied);
        let message = if is_unsure { format!("{message}: run the check as root to look at it") } else { message };
        self.found.push(Finding { key: key.to_owned(), message, is_unsure });
    }

    fn output(&mut self, name: &OutputName, output: &OutputConfig, host: &Host) {
        let key = format!("outputs.{name}");
        match &output.kind {
            // To open it would make the file.
            OutputKind::File(file) => {
                let moves = file.rotate_size.is_some() || file.rotate_every.is_some();
                self.file(&format!("{key}.path"), &file.path, moves);
                // Where it is none, output.file may still be written to.
                if let Ok(facts) = fs::metadata(&file.path)
                    && !facts.is_file()
                    && !facts.is_dir()
                {
                    let problem = super::file::not_regular(facts.file_type());
                    self.add(&format!("{key}.path"), format!("{}: {problem}", file.path.display()));
                }
            }
            // Certificates, templates and whatever else is read from files.
            kind => {
                if let Err(error) = kind.open(name, host) {
                    self.add_cause(&key, &*error.source);
                }
            }
        }
        match &output.kind {
            OutputKind::Journald(journald) => self.socket(&format!("{key}.socket"), &journald.socket),
            OutputKind::Syslog(syslog) if matches!(syslog.transport, Transport::Unix | Transport::UnixStream) => {
                self.socket(&format!("{key}.socket"), &syslog.socket);
            }
            _ => {}
        }
        for (setting, secret) in secrets(&output.kind) {
            self.secret(&format!("{key}.{setting}"), secret);
        }
    }

    /// A file that is appended to, and whose directory is written if it `moves`.
    pub(crate) fn file(&mut self, key: &str, path: &Path, moves: bool) {
        match fs::metadata(path) {
            Ok(facts) if facts.is_dir() => {
                self.add(key, format!("{} is a directory: name a file in it", path.display()));
            }
            Ok(_) => {
                self.access(key, path, AccessFlags::W_OK);
                if moves && let Some(parent) = path.parent() {
                    self.access(key, parent, AccessFlags::W_OK | AccessFlags::X_OK);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                if parent.is_dir() {
                    self.access(key, parent, AccessFlags::W_OK | AccessFlags::X_OK);
                } else {
                    self.add(key, format!("there is no directory {}: make it", parent.display()));
                }
            }
            Err(error) => {
                self.add_error(key, format!("cannot look at {}: {error}", path.display()), Some(error.kind()));
            }
        }
    }

    /// A directory that is made where it is missing.
    pub(crate) fn directory(&mut self, key: &str, path: &Path) {
        let existing = path.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok()).unwrap_or(path);
        if existing.is_dir() {
            self.access(key, existing, AccessFlags::W_OK | AccessFlags::X_OK);
        } else {
            self.add(key, format!("{} is no directory: name another place", existing.display()));
        }
    }

    fn access(&mut self, key: &str, path: &Path, flags: AccessFlags) {
        if let Err(error) = access(path, flags) {
            let error = io::Error::from(error);
            self.add_error(key, format!("{} cannot be written: {error}", path.display()), Some(error.kind()));
        }
    }

    fn socket(&mut self, key: &str, path: &PathBuf) {
        match fs::metadata(path) {
            Ok(facts) if facts.file_type().is_socket() => {}
            Ok(_) => self.add(key, format!("{} is no socket: write the path of the receiver's", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.add(key, format!("there is no socket {}: start the receiver, or write its path", path.display()));
            }
            Err(error) => {
                self.add_error(key, format!("cannot look at {}: {error}", path.display()), Some(error.kind()));
            }
        }
    }

    /// Reads a secret.
    pub(crate) fn secret(&mut self, key: &str, secret: &Secret) {
        match secret.read() {
            Ok(_) => {}
            // The daemon may have what this process has not.
            Err(error @ (SecretError::Environment { .. } | SecretError::NoCredentials { .. })) => {
                let message = format!("not to be told from here: {error}");
                self.found.push(Finding { key: key.to_owned(), message, is_unsure: true });
            }
            Err(error) => self.add_cause(key, &error),
        }
    }
}

/// Every secret of an output, by its setting.
fn secrets(kind: &OutputKind) -> Vec<(String, &Secret)> {
    let mut found: Vec<(String, &Secret)> = Vec::new();
    let headers = match kind {
        OutputKind::Webhook(webhook) => {
            if let HeaderSetting::Secret(secret) = &webhook.url {
                found.push(("url".to_owned(), secret));
            }
            Some(&webhook.headers)
        }
        OutputKind::SplunkHec(splunk) => {
            found.push(("token".to_owned(), &splunk.token));
            Some(&splunk.headers)
        }
        OutputKind::Elasticsearch(elasticsearch) => {
            found.extend(elasticsearch.api_key.iter().map(|secret| ("api_key".to_owned(), secret)));
            found.extend(elasticsearch.password.iter().map(|secret| ("password".to_owned(), secret)));
            Some(&elasticsearch.headers)
        }
        OutputKind::Loki(loki) => {
            found.extend(loki.password.iter().map(|secret| ("password".to_owned(), secret)));
            found.extend(loki.token.iter().map(|secret| ("token".to_owned(), secret)));
            Some(&loki.headers)
        }
        OutputKind::Otlp(otlp) => Some(&otlp.headers),
        OutputKind::Kafka(kafka) => {
            found.extend(kafka.sasl.iter().map(|sasl| ("sasl.password".to_owned(), &sasl.password)));
            None
        }
        OutputKind::File(_) | OutputKind::Stdout(_) | OutputKind::Journald(_) | OutputKind::Syslog(_) => None,
    };
    found.extend(
        headers
            .into_iter()
            .flat_map(super::http::Headers::secrets)
            .map(|(name, secret)| (format!("headers.{name}"), secret)),
    );
    found
}

/// The kind of the error of the system behind `error`, if there is one.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests;
