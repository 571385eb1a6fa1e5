//! containers/storage, the store of CRI-O and Podman: below `<driver>-containers/` of its run or data directory each
//! container has a folder with its bundle in `userdata/`, and a list of all has their names and their makers' notes
//! (`containers.json`, and `volatile-containers.json` for those that need not survive a crash).

use std::path::Path;

use serde::Deserialize;

use super::{
    DescribedBy, Description, oci,
    places::{Disk, Trouble, is_id, known},
};

/// An entry of the lists.
#[derive(Debug, Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    /// JSON in JSON.
    #[serde(default)]
    metadata: Option<String>,
}

/// What makers note of a container.
#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(rename = "image-name", default)]
    image: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

/// Describes the container `id` by a folder `<driver>-containers`.
pub(super) fn describe(disk: &Disk<'_>, folder: &Path, id: &str) -> Result<Description, Trouble> {
    let bundle = |id: &str| folder.join(id).join("userdata/config.json");
    let spec = disk.json::<oci::Spec>(&bundle(id));
    let annotations = spec.as_ref().ok().and_then(|spec| spec.annotations.as_ref());
    let of_bundle = annotations.map(|annotations| (annotations, oci::describe(annotations, DescribedBy::Storage)));
    if let Some((annotations, mut description)) =
        of_bundle.filter(|(_, description)| description.by == DescribedBy::Crio)
    {
        // A container's annotation has the kubelet's labels alone; the pod's are those of its sandbox.
        description.labels = match annotations.get("io.kubernetes.cri-o.SandboxID") {
            Some(sandbox) if sandbox != id && is_id(sandbox) => {
                let sandbox = disk.json::<oci::Spec>(&bundle(sandbox)).ok();
                sandbox.and_then(|sandbox| oci::pod_labels(sandbox.annotations.as_ref()?))
            }
            _ => oci::pod_labels(annotations),
        };
        return Ok(description);
    }
    for list in ["containers.json", "volatile-containers.json"] {
        let entries = match disk.json::<Vec<Entry>>(&folder.join(list)) {
            Ok(entries) => entries,
            Err(trouble) if trouble.is_absence() => continue,
            Err(trouble) => return Err(trouble),
        };
        if let Some(entry) = entries.into_iter().find(|entry| entry.id == id) {
            return Ok(of_entry(entry));
        }
    }
    // A bundle, or what is wrong with it.
    spec.map(|spec| oci::describe(&spec.annotations.unwrap_or_default(), DescribedBy::Storage))
}

fn of_entry(entry: Entry) -> Description {
    let metadata: Metadata =
        entry.metadata.and_then(|metadata| serde_json::from_str(&metadata).ok()).unwrap_or_default();
    let first_name = || known(entry.names.as_deref()?.first()?);
    Description {
        runtime: Some("podman"),
        name: metadata.name.as_deref().and_then(known).or_else(first_name),
        image: metadata.image.as_deref().and_then(known),
        ..Description::by(DescribedBy::Storage)
    }
}
