//! Where container runtimes describe their containers on the host's disk, and who may describe which.
//!
//! What a file says decides which rules match, so it must not be anybody's: a container whose cgroup lies below that of
//! a user's own service manager is described by that user's files and by no other, every other container by root's. A
//! user's files say nothing about Kubernetes. Each path has the container's id in it, so that nobody's process can point
//! at the description of another container.

use std::{
    io::Read as _,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::fstat;
use serde::{Deserialize, de::DeserializeOwned};

use super::{ContainerGap, DescribedBy, Description, Wanted, docker, oci, storage};
use crate::{inside, process, procfs};

/// A description is refused beyond this. Real ones have 10 kB to 100 kB; the lists of containers/storage have some 600
/// bytes for each container.
const LIMIT_BYTES: u64 = 1 << 20;
/// Names and the like are at most this long; what is longer is none.
const TEXT_BYTES: usize = 1_024;
/// Namespaces of a containerd that are looked through.
const NAMESPACES: usize = 64;

/// containerd's state directories: its own, k3s' and RKE2's, k0s', `MicroK8s`', and that of the one that Docker starts.
const CONTAINERD: [&str; 5] = [
    "run/containerd",
    "run/k3s/containerd",
    "run/k0s/containerd",
    "var/snap/microk8s/common/run/containerd",
    "run/docker/containerd/daemon",
];
/// Below them, the bundles of each version of containerd's shim, as `<namespace>/<id>`.
const TASKS: [&str; 2] = ["io.containerd.runtime.v2.task", "io.containerd.runtime.v1.linux"];
/// Docker's data directories.
const DOCKER: [&str; 2] = ["var/lib/docker", "var/snap/docker/common/var-lib-docker"];
/// The run and data directories of containers/storage.
const STORAGE: [&str; 2] = ["run/containers/storage", "var/lib/containers/storage"];
/// Storage drivers, which name the folder of containers.
const DRIVERS: [&str; 4] = ["overlay-containers", "vfs-containers", "btrfs-containers", "zfs-containers"];

/// The user below whose own service manager a cgroup lies; 0 where it lies below none.
pub(super) fn owner(cgroup: &str) -> u32 {
    let manager = |component: &str| component.strip_prefix("user@")?.strip_suffix(".service")?.parse().ok();
    cgroup.split('/').find_map(manager).unwrap_or_default()
}

/// Whether a process of this name may know where a container's files are.
pub(super) fn is_supervisor(name: &str) -> bool {
    name == "conmon" || name.starts_with("containerd-shim")
}

/// Whether a text may be an id in a path.
pub(super) fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// A text that says something and is no longer than such texts are.
pub(super) fn known(text: &str) -> Option<String> {
    let text = text.trim();
    (1..=TEXT_BYTES).contains(&text.len()).then(|| text.to_owned())
}

/// What is wrong, and with which file.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) gap: ContainerGap,
    pub(super) path: PathBuf,
    pub(super) what: String,
}

impl Trouble {
    const fn absence() -> Self {
        Self { gap: ContainerGap::NotFound, path: PathBuf::new(), what: String::new() }
    }

    pub(super) fn is_absence(&self) -> bool {
        self.gap == ContainerGap::NotFound
    }
}

/// Files below a root.
pub(super) struct Disk<'a> {
    pub(super) root: BorrowedFd<'a>,
    /// The user whose files are read: no others are.
    pub(super) owner: u32,
}

impl Disk<'_> {
    /// The JSON in the file at `path`, if it is the user's.
    pub(super) fn json<T: DeserializeOwned>(&self, path: &Path) -> Result<T, Trouble> {
        let bytes = self.read(path)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            // Not the error itself, which shows what is in the file.
            let what = format!("{:?} error at line {}, column {}", error.classify(), error.line(), error.column());
            Trouble { gap: ContainerGap::Malformed, path: path.to_owned(), what }
        })
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Trouble> {
        let trouble = |gap, what: String| Trouble { gap, path: path.to_owned(), what };
        let place = inside::open_path(self.root, path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Trouble::absence(),
            _ => trouble(ContainerGap::Unreadable, error.to_string()),
        })?;
        let unreadable = |what: String| trouble(ContainerGap::Unreadable, what);
        let status = fstat(&place).map_err(|error| unreadable(error.to_string()))?;
        if status.st_uid != self.owner {
            return Err(unreadable(format!("it belongs to user {} and not to {}", status.st_uid, self.owner)));
        }
        let file = inside::open(place.as_fd()).ok_or_else(|| unreadable("it cannot be opened".to_owned()))?;
        let mut bytes = Vec::new();
        file.take(LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
        if bytes.len() as u64 > LIMIT_BYTES {
            return Err(trouble(ContainerGap::TooLarge, format!("it has more than {LIMIT_BYTES} bytes")));
        }
        Ok(bytes)
    }

    /// Where a user's home is, by the host's own database of users.
    fn home(&self, user: u32) -> Option<PathBuf> {
        let users = inside::read(self.root, Path::new("etc/passwd"), LIMIT_BYTES)?;
        inside::lines(&users).find_map(|line| {
            let mut fields = line.split(|byte| *byte == b':');
            let uid = std::str::from_utf8(fields.nth(2)?).ok()?;
            let home = fields.nth(2)?;
            let is_whose = uid.parse() == Ok(user);
            (is_whose && home.starts_with(b"/")).then(|| PathBuf::from(std::ffi::OsStr::from_bytes(home)))
        })
    }
}

/// Describes a container by the first file that does. `proc` is where its supervisors are asked.
pub(super) fn describe(disk: &Disk<'_>, proc: &Path, wanted: &Wanted) -> Result<Description, Trouble> {
    let hints = Hints::ask(proc, wanted);
    let mut described = Err(Trouble::absence());
    let ways: &[Way] = match wanted.runtime.as_deref() {
        Some("docker") => &[Way::Docker],
        Some("containerd") => &[Way::Containerd],
        Some("cri-o" | "podman") => &[Way::Storage],
        _ => &[Way::Docker, Way::Storage, Way::Containerd, Way::Runc, Way::Crun],
    };
    for way in ways {
        for place in way.places(disk, &hints) {
            match way.describe(disk, &place, &wanted.id) {
                Ok(description) => return Ok(believed(description, wanted.owner)),
                Err(trouble) if trouble.is_absence() => {}
                Err(trouble) => described = Err(trouble),
            }
        }
    }
    described
}

/// A user's word about Kubernetes is not believed.
fn believed(mut description: Description, owner: u32) -> Description {
    if owner != 0 && description.pod.take().is_some() {
        description.labels = None;
    }
    description
}

/// A kind of file.
#[derive(Clone, Copy)]
enum Way {
    Docker,
    Storage,
    Containerd,
    Runc,
    Crun,
}

impl Way {
    /// The folders in which it may be, those that a supervisor named first.
    fn places(self, disk: &Disk<'_>, hints: &Hints) -> Vec<PathBuf> {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let runtime_directory = PathBuf::from(format!("run/user/{}", hints.user));
        let is_user = hints.user != 0;
        match self {
            Self::Docker if is_user => {
                disk.home(hints.user).map(|home| home.join(".local/share/docker/containers")).into_iter().collect()
            }
            Self::Docker => {
                let standard = DOCKER.iter().map(|folder| Path::new(folder).join("containers"));
                standard.chain(docker_by_bundle(disk, hints)).collect()
            }
            Self::Storage => {
                let standard = if is_user {
                    let home = disk.home(hints.user).map(|home| home.join(".local/share/containers/storage"));
                    [Some(runtime_directory.join("containers")), home].into_iter().flatten().collect()
                } else {
                    paths(&STORAGE)
                };
                let standard = standard.iter().flat_map(|root| DRIVERS.map(|driver| root.join(driver)));
                hints.storage.iter().cloned().chain(standard).collect()
            }
            Self::Containerd => bundles(disk, hints),
            Self::Runc if is_user => vec![runtime_directory.join("runc")],
            Self::Runc => paths(&["run/runc"]),
            Self::Crun if is_user => vec![runtime_directory.join("crun")],
            Self::Crun => paths(&["run/crun"]),
        }
    }

    fn describe(self, disk: &Disk<'_>, place: &Path, id: &str) -> Result<Description, Trouble> {
        let of_bundle = |by| {
            let spec: oci::Spec = disk.json(&place.join(id).join("config.json"))?;
            Ok(oci::describe(&spec.annotations.unwrap_or_default(), by))
        };
        match self {
            Self::Docker => docker::describe(disk, place, id),
            Self::Storage => storage::describe(disk, place, id),
            Self::Containerd => of_bundle(DescribedBy::Containerd),
            Self::Runc => {
                let state: RuncState = disk.json(&place.join(id).join("state.json"))?;
                let labels = state.config.and_then(|config| config.labels).unwrap_or_default();
                let pairs = labels.iter().filter_map(|label| label.split_once('='));
                let annotations = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                Ok(oci::describe(&annotations, DescribedBy::Runc))
            }
            Self::Crun => of_bundle(DescribedBy::Crun),
        }
    }
}

/// What is read of runc's `state.json`: the labels are the bundle's annotations as `name=value` (runc, package
/// `specconv`).
#[derive(Debug, Deserialize)]
struct RuncState {
    #[serde(default)]
    config: Option<RuncConfig>,
}

#[derive(Debug, Deserialize)]
struct RuncConfig {
    #[serde(default)]
    labels: Option<Vec<String>>,
}

/// The folders of containerd's bundles, one for each of its namespaces.
fn bundles(disk: &Disk<'_>, hints: &Hints) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    // A user's containerd has its state in a mount namespace of its own.
    let standard: &[&str] = if hints.user == 0 { &CONTAINERD } else { &[] };
    for state in hints.containerd.iter().cloned().chain(standard.iter().map(PathBuf::from)) {
        for tasks in TASKS.iter().map(|tasks| state.join(tasks)) {
            let Some(directory) = inside::Directory::open(disk.root, &tasks, NAMESPACES) else { continue };
            folders.extend(directory.names.iter().map(|namespace| tasks.join(namespace)));
        }
    }
    folders
}

/// The folder of Docker's containers, wherever its data directory is: the container's own host name and the like are
/// mounted from there.
fn docker_by_bundle(disk: &Disk<'_>, hints: &Hints) -> Option<PathBuf> {
    bundles(disk, hints).into_iter().filter(|folder| folder.ends_with("moby")).find_map(|folder| {
        let spec: oci::Spec = disk.json(&folder.join(&hints.id).join("config.json")).ok()?;
        spec.mounts?.iter().find_map(|mount| {
            let folder = Path::new(mount.source.as_deref()?).parent()?;
            let containers = folder.parent()?;
            (folder.ends_with(&hints.id) && containers.ends_with("containers")).then(|| containers.to_owned())
        })
    })
}

/// Where a container's supervisors say that its files are.
#[derive(Debug, Default)]
struct Hints {
    id: String,
    /// Whose container it is.
    user: u32,
    /// A state directory of containerd.
    containerd: Vec<PathBuf>,
    /// A folder of containers of containers/storage.
    storage: Vec<PathBuf>,
}

impl Hints {
    fn ask(proc: &Path, wanted: &Wanted) -> Self {
        let mut hints = Self { id: wanted.id.clone(), user: wanted.owner, ..Self::default() };
        for supervisor in &wanted.supervisors {
            let folder = proc.join(supervisor.pid.to_string());
            let Some(line) = procfs::read(&folder.join("cmdline")) else { continue };
            // Asked last: a process that is still the same one now was so above.
            if process::start_ticks(proc, supervisor.pid) == Some(supervisor.start_ticks) {
                hints.take_in(&line);
            }
        }
        hints
    }

    /// `conmon … -b <store>/<driver>-containers/<id>/userdata …`, and `containerd-shim… -address <state>/containerd.sock`.
    fn take_in(&mut self, line: &[u8]) {
        let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        for pair in arguments.windows(2) {
            let [option, value] = pair else { continue };
            let value = Path::new(std::ffi::OsStr::from_bytes(value));
            match *option {
                b"-b" | b"--bundle" => {
                    let bundle = value.parent().filter(|folder| folder.ends_with(&self.id));
                    self.storage.extend(bundle.and_then(Path::parent).map(Path::to_owned));
                }
                b"-address" | b"--address" => {
                    self.containerd.extend(value.parent().map(Path::to_owned));
                }
                _ => {}
            }
        }
    }
}
