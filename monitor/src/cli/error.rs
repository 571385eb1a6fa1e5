//! What can go wrong in a command, and the exit code that says so.

use std::{io, process::ExitCode};

use super::Output;
use crate::{
    config,
    control::{ClientError, ServerError},
    daemon, data,
    kernel::{LoadError, StartError, system::CgroupMistake},
    ownership::OwnershipError,
};

/// Exit codes: an interface, listed in `egresswatch --help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Success = 0,
    /// Something failed while running.
    Failure = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// The configuration, a list or a rule is wrong.
    Configuration = 3,
    /// A privilege is missing.
    Privilege = 4,
    /// This kernel or system cannot run the monitor.
    Unsupported = 5,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The embedded ownership data.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// Data that were not imported.
    #[error(transparent)]
    Import(#[from] data::ImportError),
    /// An address where a file is wanted.
    #[error("{address} is an address: fetch it yourself, or write it to data.sources for `egresswatch data update`")]
    NotAFile {
        /// Without its query.
        address: String,
    },
    /// Data that were not updated.
    #[error(transparent)]
    Update(#[from] data::UpdateError),
    /// The monitor.
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
    /// No list has this id.
    #[error("there is no list {id:?}; there are {known}")]
    NoSuchList {
        /// What was asked for.
        id: String,
        /// The ids there are.
        known: String,
    },
    /// A running daemon could not be asked.
    #[error(transparent)]
    Control(#[from] ClientError),
    /// A running daemon did not take its files in anew.
    #[error("not reloaded, what was in force stays: {error}")]
    NotReloaded {
        /// Everything that is wrong.
        error: String,
        /// It is a file that is wrong, and not the monitor.
        is_configuration: bool,
    },
    /// Recorded flows could not be read.
    #[error("cannot read the recorded flows in {}: {source}", path.display())]
    Replay {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What connects cannot be started.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// The answer could not be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// The exit code.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Config(_)
            | Self::NotReloaded { is_configuration: true, .. }
            | Self::Update(data::UpdateError::NoSources) => Status::Configuration,
            Self::Control(ClientError::Forbidden { .. }) => Status::Privilege,
            Self::Daemon(error) => daemon_status(error),
            Self::Import(data::ImportError::Store(error))
            | Self::Update(data::UpdateError::Import(data::ImportError::Store(error)))
                if error.is_forbidden() =>
            {
                Status::Privilege
            }
            // The reader has seen enough (`egresswatch lists | head`): that is no failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Status::Success,
            Self::Control(_)
            | Self::Import(_)
            | Self::NotAFile { .. }
            | Self::Update(_)
            | Self::Output(_)
            | Self::Runtime(_)
            | Self::Ownership(_)
            | Self::Replay { .. }
            | Self::NoSuchList { .. }
            | Self::NotReloaded { .. } => Status::Failure,
        }
    }

    /// Tells the person at the terminal.
    pub(super) fn report(&self, output: &mut Output<'_>) {
        if self.status() == Status::Success {
            return;
        }
        let label = output.bad("error:");
        // Nobody is left to tell if this fails.
        let _ = output.line(format_args!("{label} {self}"));
    }
}

/// The exit code of a daemon that did not start, or did not stop well. Where trying again would give the same answer the
/// code is one on which the unit file does not restart.
fn daemon_status(error: &daemon::Error) -> Status {
    let is_forbidden = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    match error {
        daemon::Error::Kernel(StartError::Load(error)) => match error {
            LoadError::Privilege { .. } => Status::Privilege,
            LoadError::Cgroup(CgroupMistake::Unreadable { error, .. }) if is_forbidden(error) => Status::Privilege,
            LoadError::Cgroup(_) => Status::Configuration,
            _ => Status::Unsupported,
        },
        daemon::Error::Kernel(_) | daemon::Error::Process(_) => Status::Unsupported,
        daemon::Error::Config(_) => Status::Configuration,
        daemon::Error::Control(ServerError::Bind { source, .. }) if is_forbidden(source) => Status::Privilege,
        daemon::Error::Ownership(_)
        | daemon::Error::Baseline(_)
        | daemon::Error::Control(_)
        | daemon::Error::Metrics(_)
        | daemon::Error::Runtime(_)
        | daemon::Error::File(_)
        | daemon::Error::Output(_)
        | daemon::Error::Stopping
        | daemon::Error::Open(_)
        | daemon::Error::Spool(_)
        | daemon::Error::Unkept(_)
        | daemon::Error::Deadline => Status::Failure,
    }
}
