//! The configuration of an OCI bundle, `config.json`, and the annotations by which its maker describes a container.
//!
//! The keys are those of containerd's CRI plug-in (its package `annotations`), of CRI-O (its package of the same name),
//! of the kubelet, which hands them to CRI-O as labels (its package `types`), and of nerdctl (its package `labels`).

use std::collections::HashMap;

use serde::Deserialize;

use super::{DescribedBy, Description, Labels, Pod, places::known};

/// What is read of `config.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Spec {
    #[serde(default)]
    pub(super) annotations: Option<Annotations>,
    #[serde(default)]
    pub(super) mounts: Option<Vec<Mount>>,
}

/// A mount of the container.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Mount {
    #[serde(default)]
    pub(super) source: Option<String>,
}

/// Annotations by name.
pub(super) type Annotations = HashMap<String, String>;

/// What the annotations say. What kind of file they came from decides what they are when nothing in them does.
pub(super) fn describe(annotations: &Annotations, by: DescribedBy) -> Description {
    let first = |keys: &[&str]| keys.iter().find_map(|key| known(annotations.get(*key)?));
    let manager = annotations.get("io.container.manager").map(String::as_str);
    let is_cri = annotations.keys().any(|key| key.starts_with("io.kubernetes.cri."));
    let is_nerdctl = annotations.contains_key("nerdctl/name") || annotations.contains_key("nerdctl/namespace");
    let (by, runtime) = match manager {
        Some("cri-o") => (DescribedBy::Crio, Some("cri-o")),
        Some("libpod") => (by, Some("podman")),
        _ if is_cri || is_nerdctl || by == DescribedBy::Containerd => (by, Some("containerd")),
        _ if by == DescribedBy::Runc => (by, Some("runc")),
        _ if by == DescribedBy::Crun => (by, Some("crun")),
        _ => (by, None),
    };
    let pod = Pod {
        name: first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name", "io.kubernetes.cri-o.KubeName"]),
        namespace: first(&[
            "io.kubernetes.cri.sandbox-namespace",
            "io.kubernetes.pod.namespace",
            "io.kubernetes.cri-o.Namespace",
        ]),
        uid: first(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]),
    };
    // nerdctl hands a container's labels to the bundle beside its own.
    let own_labels = || {
        let own = annotations.iter().filter(|(name, _)| !name.starts_with("nerdctl/"));
        Labels::new(own.map(|(name, value)| (name.clone(), value.clone())))
    };
    Description {
        by,
        runtime,
        name: first(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"]),
        image: first(&["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"])
            .or_else(|| first(&["io.kubernetes.cri-o.Image"]).filter(|image| !is_image_id(image))),
        pod: (pod != Pod::default()).then_some(pod),
        labels: is_nerdctl.then(own_labels),
    }
}

/// The labels in CRI-O's annotation: those of the pod, if the annotations are its sandbox's. `None` where they cannot be
/// read.
pub(super) fn pod_labels(annotations: &Annotations) -> Option<Labels> {
    let labels: HashMap<String, String> = serde_json::from_str(annotations.get("io.kubernetes.cri-o.Labels")?).ok()?;
    Some(Labels::new(labels.into_iter().filter(|(name, _)| !is_of_kubelet(name))))
}

/// The kubelet's own labels, which say what the other fields say.
pub(super) fn is_of_kubelet(name: &str) -> bool {
    ["io.kubernetes.pod.", "io.kubernetes.container.", "io.kubernetes.sandbox.", "io.kubernetes.docker."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// The id that an image has in the store: no name.
fn is_image_id(image: &str) -> bool {
    image.len() == 64 && image.bytes().all(|digit| digit.is_ascii_hexdigit())
}
