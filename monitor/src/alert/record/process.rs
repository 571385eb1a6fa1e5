//! ECS `process.*`, `package.*`, `user.*`, `group.*`, `container.*` and `orchestrator.*`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::Timestamp;

/// ECS `process.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Process {
    /// Stable id over host, boot, pid and start: the same in every record of this process, never that of another.
    pub entity_id: String,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// File name of the executable, or the task name where the executable is not known.
    pub name: String,
    /// Path of the executable in the process's mount namespace; `egresswatch.process` says how it became known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// Digests of the executable's content; only for flows that lists flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hash>,
    /// Arguments; the first is the name that the program was called by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Number of arguments; absent where not all were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_count: Option<u64>,
    /// Arguments as one line, quoted for a POSIX shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// When the process started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// The thread that acted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<Thread>,
    /// Effective user; the real one where the effective one is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Account>,
    /// Real user, where it is another one, as in a setuid program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real_user: Option<Account>,
    /// Real group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Account>,
    /// Parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Relative>,
}

/// ECS `process.hash.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Hash {
    /// SHA-256 of the file that the process ran, in lower-case hexadecimal digits; never that of another file that is
    /// found under the same path.
    pub sha256: String,
}

/// ECS `package.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version, as the package manager writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Architecture, as the package manager writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Whose database told, in the process's own root directory: `dpkg`, `apk` or `pacman`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// ECS `process.thread.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Thread {
    /// Thread id in the initial pid namespace.
    pub id: u32,
    /// Task name at the time. A program may choose it itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// ECS `process.parent.*`, and the ancestors above it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Relative {
    /// Stable id.
    pub entity_id: String,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// File name of the executable, or the task name.
    pub name: String,
    /// Path of the executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
}

/// ECS `user.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct User {
    /// The real user.
    #[serde(flatten)]
    pub real: Account,
    /// The effective user, where it is another one, as in a setuid program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<Account>,
}

/// ECS `group.*` and the users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Account {
    /// Number in the initial user namespace.
    pub id: String,
    /// Name in the host's database; absent where the host knows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// ECS `container.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Container {
    /// Full id.
    pub id: String,
    /// Name; in Kubernetes that of the container in its pod. `egresswatch.container` says where this and what follows was
    /// read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What made it: `docker`, `containerd`, `cri-o`, `podman`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ContainerImage>,
    /// Labels of a container outside Kubernetes, with `_` for the dots in names, so that no name is a part of another one;
    /// `egresswatch.container.labels` has them as they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// ECS `container.image.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ContainerImage {
    /// Name with its registry, without tag and digest; absent where the runtime names the image by its digest alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tag in the name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<String>,
    /// Digests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<ImageHash>,
}

/// ECS `container.image.hash.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ImageHash {
    /// The digest in the name, such as `sha256:…`.
    pub all: Vec<String>,
}

/// ECS `orchestrator.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Orchestrator {
    /// Always `kubernetes`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Namespace of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod.
    pub resource: OrchestratorResource,
}

/// ECS `orchestrator.resource.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OrchestratorResource {
    /// Always `pod`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The pod's uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The pod's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The pod's labels, as `name:value`; `egresswatch.container.labels` has them too. Known with CRI-O and cri-dockerd:
    /// containerd does not write them where they can be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub label: Vec<String>,
}
