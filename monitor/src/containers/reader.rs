//! The slow part: reads files, in a thread of its own.

use std::{
    collections::HashSet,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::Serialize;

use super::{
    Config, ContainerGap, Description, Job, Wanted,
    places::{self, Disk, Trouble},
};

/// How often what was found of containers, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// A description was read.
    pub described: u64,
    /// None was found.
    pub not_found: u64,
    /// One could not be read.
    pub unreadable: u64,
    /// One was larger than any real one.
    pub too_large: u64,
    /// One was not what the runtime writes.
    pub malformed: u64,
    /// Too many were waiting.
    pub busy: u64,
}

impl Figures {
    /// How often there was a description and it could not be used.
    #[must_use]
    pub const fn unusable(&self) -> u64 {
        self.unreadable + self.too_large + self.malformed
    }

    /// The same with their names.
    #[must_use]
    pub const fn by_outcome(&self) -> [(&'static str, u64); 6] {
        [
            ("described", self.described),
            ("not_found", self.not_found),
            ("unreadable", self.unreadable),
            ("too_large", self.too_large),
            ("malformed", self.malformed),
            ("busy", self.busy),
        ]
    }
}

/// The same while they are counted.
#[derive(Debug, Default)]
pub struct Counts {
    described: AtomicU64,
    not_found: AtomicU64,
    unreadable: AtomicU64,
    too_large: AtomicU64,
    malformed: AtomicU64,
    busy: AtomicU64,
}

impl Counts {
    pub(super) fn count(&self, gap: Option<ContainerGap>) {
        let counter = match gap {
            None => &self.described,
            Some(ContainerGap::NotFound) => &self.not_found,
            Some(ContainerGap::Unreadable) => &self.unreadable,
            Some(ContainerGap::TooLarge) => &self.too_large,
            Some(ContainerGap::Malformed) => &self.malformed,
            Some(ContainerGap::Busy) => &self.busy,
            // Nothing was looked for.
            Some(ContainerGap::Pending | ContainerGap::Disabled) => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn figures(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            described: read(&self.described),
            not_found: read(&self.not_found),
            unreadable: read(&self.unreadable),
            too_large: read(&self.too_large),
            malformed: read(&self.malformed),
            busy: read(&self.busy),
        }
    }
}

/// Reads the descriptions that are asked for, one after another.
#[derive(Debug)]
pub struct Reader {
    root: Option<PathBuf>,
    proc: PathBuf,
    jobs: mpsc::Receiver<Job>,
    counts: Arc<Counts>,
    /// Kinds of trouble that were told.
    told: HashSet<ContainerGap>,
}

impl Reader {
    pub(super) fn new(config: &Config, proc: PathBuf, jobs: mpsc::Receiver<Job>, counts: Arc<Counts>) -> Self {
        Self { root: config.root.clone(), proc, jobs, counts, told: HashSet::new() }
    }

    /// Reads until [`super::Containers`] is dropped; `tell` is called after each container.
    pub fn run(mut self, tell: impl Fn()) {
        while let Ok(Job { wanted, facts, done }) = self.jobs.recv() {
            let described = self.describe(&wanted).map_err(|trouble| {
                self.tell_once(&trouble, &wanted);
                trouble.gap
            });
            self.counts.count(described.as_ref().err().copied());
            // Nobody else sets it.
            let _ = facts.0.set(described).is_ok();
            // Whoever waited may have given up.
            let _ = done.try_send(());
            tell();
        }
    }

    fn describe(&self, wanted: &Wanted) -> Result<Description, Trouble> {
        let root = self.open_root()?;
        places::describe(&Disk { root: root.as_fd(), owner: wanted.owner }, &self.proc, wanted)
    }

    fn open_root(&self) -> Result<OwnedFd, Trouble> {
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::empty()).map_err(|error| Trouble {
                gap: ContainerGap::Unreadable,
                path: path.to_owned(),
                what: error.to_string(),
            })
        };
        match &self.root {
            Some(root) => open(root),
            None => open(&self.proc.join("1/root")).or_else(|_| open(Path::new("/"))),
        }
    }

    /// Says what is wrong, once for each kind: the records and the metrics go on telling how often.
    fn tell_once(&mut self, Trouble { gap, path, what }: &Trouble, wanted: &Wanted) {
        let container = &wanted.id;
        if *gap == ContainerGap::NotFound {
            tracing::debug!(container, "no runtime describes it");
        } else if self.told.insert(*gap) {
            tracing::warn!(
                container,
                file = %path.display(),
                what,
                "a container's description cannot be used, so its image, pod and labels stay unknown; more of this kind \
                 are only counted"
            );
        }
    }
}
