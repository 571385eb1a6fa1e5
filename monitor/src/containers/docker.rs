//! Docker's own description of a container: `containers/<id>/config.v2.json` below its data directory (moby, package
//! `container`). With cri-dockerd the kubelet's labels are among the container's.

use std::{collections::HashMap, path::Path};

use serde::Deserialize;

use super::{
    DescribedBy, Description, Labels, Pod, oci,
    places::{Disk, Trouble, known},
};

#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(rename = "Name", default)]
    name: Option<String>,
    #[serde(rename = "Config", default)]
    config: Option<Config>,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(rename = "Image", default)]
    image: Option<String>,
    #[serde(rename = "Labels", default)]
    labels: Option<HashMap<String, String>>,
}

/// Describes the container `id` by what is in the folder of Docker's containers.
pub(super) fn describe(disk: &Disk<'_>, containers: &Path, id: &str) -> Result<Description, Trouble> {
    let file: File = disk.json(&containers.join(id).join("config.v2.json"))?;
    let config = file.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let of_kubelet = |name: &str| known(labels.get(name)?);
    let pod = Pod {
        name: of_kubelet("io.kubernetes.pod.name"),
        namespace: of_kubelet("io.kubernetes.pod.namespace"),
        uid: of_kubelet("io.kubernetes.pod.uid"),
    };
    let name =
        of_kubelet("io.kubernetes.container.name").or_else(|| known(file.name.as_deref()?.trim_start_matches('/')));
    let pod = (pod != Pod::default()).then_some(pod);
    let labels = match (&pod, labels.get("io.kubernetes.sandbox.id")) {
        (None, _) => Some(Labels::new(labels)),
        // The pod's labels are those of the container that holds its namespaces.
        (Some(_), Some(sandbox)) if super::places::is_id(sandbox) => {
            let sandbox = disk.json::<File>(&containers.join(sandbox).join("config.v2.json"));
            let labels = sandbox.ok().and_then(|sandbox| sandbox.config?.labels);
            labels.map(|labels| {
                let is_pods = |name: &str| !oci::is_of_kubelet(name) && !name.starts_with("annotation.");
                Labels::new(labels.into_iter().filter(|(name, _)| is_pods(name)))
            })
        }
        (Some(_), _) => None,
    };
    Ok(Description {
        by: DescribedBy::Docker,
        runtime: Some("docker"),
        name,
        image: config.image.as_deref().and_then(known),
        pod,
        labels,
    })
}
