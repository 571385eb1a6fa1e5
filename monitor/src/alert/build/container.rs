//! The parts of a record that describe the container of a process.

use crate::{
    alert::{
        input::Subject,
        record::{Container, ContainerFields, ContainerImage, ImageHash, Orchestrator, OrchestratorResource, Record},
    },
    containers::{Description, ImageName},
};

/// Writes what is known of the container that the actor is in into `record`.
pub(super) fn describe(record: &mut Record, subject: &Subject<'_>) {
    let Some(container) = subject.actor.and_then(|actor| actor.container.as_ref()) else { return };
    let description = subject.container.map(|facts| facts.description());
    let known = description.and_then(Result::ok);
    let labels = known.and_then(|known| known.labels.as_ref());
    let pairs = labels.map_or(&[][..], |labels| labels.pairs.as_slice());
    let (of_container, of_pod) =
        if known.is_some_and(Description::is_in_pod) { (&[][..], pairs) } else { (pairs, &[][..]) };
    let image = known.and_then(|known| known.image.as_deref());
    record.container = Some(Container {
        id: container.id.clone(),
        name: known.and_then(|known| known.name.clone()),
        runtime: container.runtime.clone().or_else(|| Some(known?.runtime?.to_owned())),
        image: image.map(image_fields),
        labels: of_container.iter().map(|(name, value)| (name.replace('.', "_"), value.clone())).collect(),
    });
    let pod = known.and_then(|known| known.pod.as_ref());
    // The cgroup's path is the kubelet's word.
    let id = container.pod_uid.clone().or_else(|| pod?.uid.clone());
    record.orchestrator = (pod.is_some() || id.is_some()).then(|| Orchestrator {
        kind: "kubernetes",
        namespace: pod.and_then(|pod| pod.namespace.clone()),
        resource: OrchestratorResource {
            kind: "pod",
            id,
            name: pod.and_then(|pod| pod.name.clone()),
            label: of_pod.iter().map(|(name, value)| format!("{name}:{value}")).collect(),
        },
    });
    record.egresswatch.container = description.map(|description| ContainerFields {
        described_by: description.ok().map(|known| known.by),
        gap: description.err(),
        image: image.map(str::to_owned),
        labels: pairs.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        labels_left_out: labels.map(|labels| labels.left_out as u64).filter(|left_out| *left_out > 0),
    });
}

fn image_fields(image: &str) -> ContainerImage {
    let ImageName { name, tag, digest } = ImageName::parse(image);
    ContainerImage {
        name: name.map(str::to_owned),
        tag: tag.map(str::to_owned).into_iter().collect(),
        hash: digest.map(|digest| ImageHash { all: vec![digest.to_owned()] }),
    }
}
