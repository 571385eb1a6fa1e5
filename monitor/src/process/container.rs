//! The container in a cgroup's path.
//!
//! Each container runtime names the cgroups of its containers in its own way, and Kubernetes puts them below a cgroup
//! of the pod. The shapes are those that the runtimes' own code makes: runc's systemd and cgroupfs drivers, the kubelet's
//! container manager, libpod, cri-o, containerd, `BuildKit`, liblxc and systemd-machined.

use super::{Container, unit::unescape};

/// Prefixes of `<prefix><id>.scope` (systemd driver) and `<prefix><id>` (cgroupfs driver), and who uses them.
const PREFIXES: [(&str, &str); 6] = [
    ("docker-", "docker"),
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("crio-", "cri-o"),
    ("libpod-payload-", "podman"),
    ("libpod-", "podman"),
];

/// Names that runtimes give themselves in `<slice>:<name>:<id>`, which runc makes when it is told to use the systemd
/// notation with the cgroupfs driver.
const NOTATIONS: [(&str, &str); 4] =
    [("docker", "docker"), ("cri-containerd", "containerd"), ("crio", "cri-o"), ("libpod", "podman")];

/// Parents of `<parent>/<id>`, and who uses them.
const PARENTS: [(&str, &str); 5] = [
    ("docker", "docker"),
    ("k8s.io", "containerd"),
    ("moby", "docker"),
    ("libpod_parent", "podman"),
    ("nerdctl", "containerd"),
];

/// The innermost container of a path, with the pod that it is in.
pub(super) fn container(path: &str) -> Option<Container> {
    let components: Vec<&str> = path.split('/').collect();
    components.iter().enumerate().rev().find_map(|(index, component)| {
        let (above, below) = (components.get(..index)?, components.get(index + 1).copied());
        let (id, runtime) = name_of_container(above.last().copied(), component, below)?;
        let pod_uid = above.iter().rev().chain([component]).find_map(|component| pod_uid(component));
        Some(Container { id, runtime: runtime.map(str::to_owned), pod_uid })
    })
}

/// Id and runtime of a container, if that is what `component` stands for.
fn name_of_container(
    parent: Option<&str>,
    component: &str,
    child: Option<&str>,
) -> Option<(String, Option<&'static str>)> {
    let stem = component.strip_suffix(".scope").unwrap_or(component);
    if is_hex_id(component) {
        let runtime = PARENTS.iter().find(|(name, _)| parent == Some(name)).map(|(_, runtime)| *runtime);
        return Some((component.to_owned(), runtime));
    }
    if let Some((id, runtime)) = PREFIXES.iter().find_map(|(prefix, runtime)| {
        let id = stem.strip_prefix(prefix)?;
        is_hex_id(id).then_some((id, *runtime))
    }) {
        return Some((id.to_owned(), Some(runtime)));
    }
    if let Some((rest, id)) = component.rsplit_once(':')
        && is_hex_id(id)
    {
        let name = rest.rsplit_once(':').map_or(rest, |(_, name)| name);
        let runtime = NOTATIONS.iter().find(|(notation, _)| *notation == name).map(|(_, runtime)| *runtime);
        return Some((id.to_owned(), runtime));
    }
    if parent == Some("buildkit") && is_buildkit_id(component) {
        return Some((component.to_owned(), Some("buildkit")));
    }
    lxc(parent, component)
        .map(|name| (name, Some("lxc")))
        .or_else(|| machine(component, child).map(|(name, runtime)| (name, Some(runtime))))
}

/// `lxc.payload.<name>` (LXC 4 and later, LXD, Incus), `lxc.payload/<name>` and `lxc/<name>` (earlier, and Proxmox).
/// The monitor of a container lives in `lxc.monitor…` and is not in it.
fn lxc(parent: Option<&str>, component: &str) -> Option<String> {
    let name = match parent {
        Some("lxc" | "lxc.payload") => component,
        _ => component.strip_prefix("lxc.payload.")?,
    };
    (!name.is_empty()).then(|| name.to_owned())
}

/// A container that systemd-machined knows. Virtual machines have scopes of the same shape: what libvirt started is
/// told by its driver's name in front (`machine-qemu…`), and only its LXC driver makes containers. The supervisor of a
/// systemd-nspawn container lives in a cgroup of its own beside the payload.
fn machine(component: &str, child: Option<&str>) -> Option<(String, &'static str)> {
    if child == Some("supervisor") {
        return None;
    }
    if let Some(name) = component.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service")) {
        return (!name.is_empty()).then(|| (unescape(name), "systemd-nspawn"));
    }
    let name = unescape(component.strip_prefix("machine-")?.strip_suffix(".scope")?);
    if let Some(name) = name.strip_prefix("lxc-") {
        return Some((name.to_owned(), "libvirt-lxc"));
    }
    let is_virtual = ["qemu-", "xen-", "ch-", "bhyve-", "vz-"].iter().any(|driver| name.starts_with(driver));
    (!is_virtual && !name.is_empty()).then_some((name, "systemd-nspawn"))
}

/// The uid in a pod's cgroup: `pod<uid>` below `kubepods` (cgroupfs driver) or `…kubepods-<class>-pod<uid>.slice` with
/// underscores for dashes (systemd driver), the latter also in front of a colon. Static pods have 32 hex digits.
fn pod_uid(component: &str) -> Option<String> {
    let slice = component.split_once(".slice").map(|(stem, _)| stem);
    let uid = match slice {
        Some(stem) if stem.contains("kubepods") => stem.rsplit_once("-pod")?.1,
        Some(_) => return None,
        None => component.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes: Vec<usize> =
        uid.bytes().enumerate().filter(|(_, byte)| *byte == b'-').map(|(index, _)| index).collect();
    let well_formed =
        digits == 32 && digits + dashes.len() == uid.len() && (dashes.is_empty() || dashes == [8, 13, 18, 23]);
    well_formed.then_some(uid)
}

/// The id of Docker, containerd's CRI, cri-o and podman: 32 random bytes in lower-case hex.
fn is_hex_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `BuildKit`'s `identity.NewID`: 17 random bytes in base 36, padded to 25 digits.
fn is_buildkit_id(text: &str) -> bool {
    text.len() == 25 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z'))
}

#[cfg(test)]
mod tests;
