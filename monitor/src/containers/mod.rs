//! What a container is: its name, image, pod, namespace and labels, as its runtime left them on the host's disk.
//!
//! The cgroup's path tells that a process is in a container, and which. The rest is in files that the runtimes write
//! before a container starts. [`Containers`] asks for them when a container's cgroup is made, or at its first flow if that
//! was missed, once per container, and a [`Reader`] reads them in a thread of its own. Neither the network nor a runtime's
//! socket is asked. See `places.rs` for the files, and for why a file has to be the right user's to be believed.

mod docker;
mod image;
mod oci;
mod places;
mod reader;
mod storage;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock, mpsc},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    image::ImageName,
    reader::{Counts, Figures, Reader},
};

use crate::{
    bounded::BoundedMap,
    event::{BootTime, ProcessKey},
    process::{self, Process},
    units::Duration,
};

/// Containers that wait to be read.
const QUEUE: usize = 64;
/// Containers whose facts are remembered, each a few kilobytes at most.
const REMEMBERED: usize = 2_048;
/// What could not be told is looked for again after this, in ns: the file may have come, or been mended.
const AGAIN_NS: u64 = 60_000_000_000;

/// Settings of what is read of containers: `[containers]` in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Read the files in which container runtimes (containerd, Docker, CRI-O, Podman, runc, crun) describe their
    /// containers on this host: name, image, pod, namespace, labels. No runtime's socket and no API server is asked.
    pub enabled: bool,
    /// Where the host's file system is. Unset: what process 1 has as its root, which is the host's for a service and for
    /// a pod in the host's pid namespace; where that is not permitted, the monitor's own root. Set it where the host's
    /// root is mounted elsewhere, such as `/host`.
    #[schemars(example = "/host")]
    pub root: Option<PathBuf>,
    /// The first flow of a container waits at most this long for them, and everything behind it. What is read later stands
    /// in the next record. A container that has ended within half a second may be gone, and its files with it, before it
    /// was looked at.
    #[schemars(with = "String")]
    pub wait: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, root: None, wait: Duration::from_millis(50) }
    }
}

/// Why nothing is told of a container but what its cgroup says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContainerGap {
    /// Its description was still being read.
    Pending,
    /// The configuration says not to read descriptions.
    Disabled,
    /// No runtime that is known keeps a description of it where it is looked for.
    NotFound,
    /// Its description could not be read.
    Unreadable,
    /// Its description is larger than any real one.
    TooLarge,
    /// Its description is not what this runtime writes.
    Malformed,
    /// Too many containers were waiting to be read.
    Busy,
}

/// Which file described a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DescribedBy {
    /// The cgroup's path alone: the names of LXC and systemd-nspawn are the containers' ids.
    Cgroup,
    /// containerd's bundle: annotations of the CRI plug-in or of nerdctl.
    Containerd,
    /// Docker's `config.v2.json`.
    Docker,
    /// CRI-O's bundle.
    Crio,
    /// The store of Podman, and of others that use containers/storage.
    Storage,
    /// runc's `state.json`.
    Runc,
    /// crun's copy of the bundle's configuration.
    Crun,
}

/// What is known of a container. What its runtime does not write is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The file that said so.
    pub by: DescribedBy,
    /// What made it, where that shows.
    pub runtime: Option<&'static str>,
    /// Name: in Kubernetes that of the container in its pod.
    pub name: Option<String>,
    /// Image, as the runtime names it.
    pub image: Option<String>,
    /// The Kubernetes pod.
    pub pod: Option<Pod>,
    /// Labels: in Kubernetes the pod's, elsewhere the container's. `None` where the runtime does not write them.
    pub labels: Option<Labels>,
}

/// A Kubernetes pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Name.
    pub name: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Uid.
    pub uid: Option<String>,
}

/// Labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Names and values, in the order of the names.
    pub pairs: Vec<(String, String)>,
    /// More than are kept.
    pub left_out: usize,
}

impl Description {
    const fn by(by: DescribedBy) -> Self {
        Self { by, runtime: None, name: None, image: None, pod: None, labels: None }
    }

    /// Whether its labels are those of a pod.
    #[must_use]
    pub const fn is_in_pod(&self) -> bool {
        self.pod.is_some()
    }
}

impl Labels {
    /// Labels kept.
    const LIMIT: usize = 64;
    /// Bytes of names and values kept.
    const LIMIT_BYTES: usize = 4_096;

    /// As many as are kept.
    fn new(labels: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut pairs: Vec<_> = labels.into_iter().collect();
        pairs.sort();
        let (all, mut room) = (pairs.len(), Self::LIMIT_BYTES);
        pairs.retain(|(name, value)| {
            let fits = room.checked_sub(name.len() + value.len());
            room = fits.unwrap_or(room);
            fits.is_some() && !name.is_empty()
        });
        pairs.truncate(Self::LIMIT);
        Self { left_out: all - pairs.len(), pairs }
    }

    /// The value of a label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self.pairs.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        self.pairs.get(index).map(|(_, value)| value.as_str())
    }
}

/// What is known of a container, as far as it has been read. All its flows hold the same facts.
#[derive(Clone, Debug, Default)]
pub struct ContainerFacts(OnceLock<Result<Description, ContainerGap>>);

impl ContainerFacts {
    /// Facts that are known, or known to be unknown.
    #[must_use]
    pub fn new(description: Result<Description, ContainerGap>) -> Self {
        Self(description.into())
    }

    /// What its runtime wrote.
    pub fn description(&self) -> Result<&Description, ContainerGap> {
        match self.0.get() {
            Some(Ok(description)) => Ok(description),
            Some(Err(gap)) => Err(*gap),
            None => Err(ContainerGap::Pending),
        }
    }

    /// Whether there is nothing more to wait for.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.0.get().is_some()
    }
}

/// A container to be read, and where what is found goes.
#[derive(Debug)]
struct Job {
    wanted: Wanted,
    facts: Arc<ContainerFacts>,
    done: mpsc::SyncSender<()>,
}

/// Which container.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    id: String,
    /// What made it, as the cgroup's path tells.
    runtime: Option<String>,
    /// Whose files are believed.
    owner: u32,
    /// Processes above it that know where its files are: conmon and containerd's shim.
    supervisors: Vec<ProcessKey>,
}

/// Facts and when they were asked for.
#[derive(Debug)]
struct Remembered {
    facts: Arc<ContainerFacts>,
    asked_at: BootTime,
    /// Tells that it was read, where it was asked for before the container's first flow.
    early: Option<mpsc::Receiver<()>>,
}

/// Asks for what containers are, and remembers it.
#[derive(Debug)]
pub struct Containers {
    remembered: BoundedMap<(String, u32), Remembered>,
    jobs: Option<mpsc::SyncSender<Job>>,
    counts: Arc<Counts>,
    patience: Patience,
}

/// How the reader is waited for.
#[derive(Debug)]
struct Patience {
    most: std::time::Duration,
    /// What was not read in time: until it is, nobody waits for the reader.
    late: Option<Arc<ContainerFacts>>,
}

impl Patience {
    /// Waits until the facts were read, which `read` tells.
    fn wait(&mut self, facts: &Arc<ContainerFacts>, read: &mpsc::Receiver<()>) {
        self.late.take_if(|late| late.is_settled());
        if self.late.is_none() && !facts.is_settled() && read.recv_timeout(self.most).is_err() {
            self.late = Some(Arc::clone(facts));
        }
    }
}

impl Containers {
    /// Reads below the configuration's root, with `proc` as a `/proc` of the initial pid namespace. The reader ends when
    /// this is dropped.
    #[must_use]
    pub fn new(config: &Config, proc: PathBuf) -> (Self, Reader) {
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let containers = Self {
            remembered: BoundedMap::new(REMEMBERED),
            jobs: config.enabled.then_some(sender),
            counts: Arc::default(),
            patience: Patience { most: std::time::Duration::from_nanos(config.wait.as_ns()), late: None },
        };
        let reader = Reader::new(config, proc, receiver, Arc::clone(&containers.counts));
        (containers, reader)
    }

    /// Asks early for the container of a cgroup that was made now: its files may be gone when its only flow, just before
    /// its end, is looked at.
    pub fn expect(&mut self, cgroup: &str, at: BootTime) {
        let Some(container) = process::container_of(cgroup) else { return };
        let owner = places::owner(cgroup);
        let key = (container.id.clone(), owner);
        if self.remembered.contains(&key) || is_named_by_its_id(container.runtime.as_deref()) {
            return;
        }
        let wanted = Wanted { id: container.id, runtime: container.runtime, owner, supervisors: Vec::new() };
        // Without room it is asked for at its first flow.
        if let Ok((facts, early)) = self.send(wanted) {
            self.remembered.insert(key, Remembered { facts, asked_at: at, early: Some(early) });
        }
    }

    /// The facts about the container that `process` is in; `None` for a process in no container. `at` is the present.
    ///
    /// The first process of a container waits for the reader for a bounded moment, which is a fraction of a millisecond
    /// where the files are local, so that already its first flow is judged and told with them. A reader that does not
    /// come back in time is not waited for again before it does.
    pub fn identify(&mut self, process: &Process, at: BootTime) -> Option<Arc<ContainerFacts>> {
        let container = process.container.as_ref()?;
        let owner = process.cgroup.as_deref().map_or(0, places::owner);
        let key = (container.id.clone(), owner);
        if let Some(Remembered { facts, asked_at, early }) = self.remembered.get(&key) {
            if let Some(early) = early {
                self.patience.wait(facts, early);
            }
            let may_have_changed = matches!(
                facts.description(),
                Err(ContainerGap::NotFound | ContainerGap::Unreadable | ContainerGap::Malformed)
            );
            // What was asked for early may have been asked for too early.
            if !may_have_changed || (early.is_none() && at.since_ns(*asked_at) < AGAIN_NS) {
                return Some(Arc::clone(facts));
            }
        }
        let facts = if is_named_by_its_id(container.runtime.as_deref()) {
            let name = Some(container.id.clone());
            Arc::new(ContainerFacts::new(Ok(Description { name, ..Description::by(DescribedBy::Cgroup) })))
        } else {
            let supervisors = process.ancestors.iter().filter(|ancestor| places::is_supervisor(&ancestor.name));
            let wanted = Wanted {
                id: container.id.clone(),
                runtime: container.runtime.clone(),
                owner,
                supervisors: supervisors.map(|ancestor| ancestor.key).collect(),
            };
            match self.send(wanted) {
                Ok((facts, read)) => {
                    self.patience.wait(&facts, &read);
                    facts
                }
                Err(gap) => {
                    self.counts.count(Some(gap));
                    // Not remembered: the next flow tries again.
                    return Some(Arc::new(ContainerFacts::new(Err(gap))));
                }
            }
        };
        self.remembered.insert(key, Remembered { facts: Arc::clone(&facts), asked_at: at, early: None });
        Some(facts)
    }

    /// How often what was found, since the start.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.counts.figures()
    }

    /// Has the reader read a container: where the facts will be, and what tells that they are.
    fn send(&self, wanted: Wanted) -> Result<(Arc<ContainerFacts>, mpsc::Receiver<()>), ContainerGap> {
        let jobs = self.jobs.as_ref().ok_or(ContainerGap::Disabled)?;
        let facts = Arc::<ContainerFacts>::default();
        let (done, read) = mpsc::sync_channel(1);
        let job = Job { wanted, facts: Arc::clone(&facts), done };
        jobs.try_send(job).map_err(|_| ContainerGap::Busy)?;
        Ok((facts, read))
    }
}

/// Whether the id in the cgroup's path is the name that people gave.
fn is_named_by_its_id(runtime: Option<&str>) -> bool {
    matches!(runtime, Some("lxc" | "libvirt-lxc" | "systemd-nspawn"))
}
