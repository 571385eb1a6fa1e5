//! OCSF objects of who acted: actor, process, container, device.

use serde_json::{Value, json};

use super::{Object, milliseconds};
use crate::alert::record::{Account, Process, Record, Relative};

/// `actor`: the process and its real user; `None` where no process is known.
pub(super) fn actor(record: &Record) -> Option<Value> {
    let process = record.process.as_ref()?;
    let mut object = Object::default();
    object.set("process", self::process(process, record));
    object.set_some("user", record.user.as_ref().map(|user| self::user(&user.real)));
    Some(object.into())
}

fn process(process: &Process, record: &Record) -> Object {
    let mut object = Object::default();
    object.set("uid", process.entity_id.as_str());
    object.set("pid", process.pid);
    object.set("name", process.name.as_str());
    object.set_some("path", process.executable.clone());
    object.set_some("cmd_line", process.command_line.clone());
    object.set_some("created_time", process.start.map(milliseconds));
    object.set_some("tid", process.thread.as_ref().map(|thread| thread.id));
    // The effective user is the one whose rights the process has.
    object.set_some("user", process.user.as_ref().map(user));
    if let Some(path) = &process.executable {
        let mut file = Object::default();
        // A regular file.
        file.set("type_id", 1);
        file.set("type", "Regular File");
        file.set("name", path.rsplit('/').next().unwrap_or(path));
        file.set("path", path.as_str());
        let hashes = process.hash.iter();
        let hashes = hashes.map(|hash| json!({ "algorithm_id": 3, "algorithm": "SHA-256", "value": hash.sha256 }));
        file.set_filled("hashes", hashes.collect());
        if let Some(package) = &record.package {
            let mut product = Object::default();
            product.set("name", package.name.as_str());
            product.set_some("version", package.version.clone());
            file.set("product", product);
        }
        object.set("file", file);
    }
    object.set_some("parent_process", process.parent.as_ref().map(relative));
    let ancestors = record.egresswatch.process.iter().flat_map(|fields| &fields.ancestors);
    object.set_filled("ancestry", process.parent.iter().chain(ancestors).map(relative).collect());
    object
}

fn relative(relative: &Relative) -> Value {
    let mut object = Object::default();
    object.set("uid", relative.entity_id.as_str());
    object.set("pid", relative.pid);
    object.set("name", relative.name.as_str());
    object.set_some("path", relative.executable.clone());
    object.into()
}

fn user(account: &Account) -> Value {
    let mut object = Object::default();
    object.set("uid", account.id.as_str());
    object.set_some("name", account.name.clone());
    object.into()
}

/// `container`.
pub(super) fn container(record: &Record) -> Option<Value> {
    let container = record.container.as_ref()?;
    let mut object = Object::default();
    object.set("uid", container.id.as_str());
    object.set_some("name", container.name.clone());
    object.set_some("runtime", container.runtime.clone());
    if let Some(image) = &container.image {
        let mut fields = Object::default();
        let digest = image.hash.as_ref().and_then(|hash| hash.all.first());
        // An image must have a unique id there: its digest, else its name.
        let whole = record.egresswatch.container.as_ref().and_then(|fields| fields.image.as_ref());
        fields.set_some("uid", digest.or(whole).cloned());
        fields.set_some("name", image.name.clone());
        fields.set_some("tag", image.tag.first().cloned());
        object.set("image", fields);
    }
    let labels = record.egresswatch.container.iter().flat_map(|fields| &fields.labels);
    object.set_filled("labels", labels.cloned().map(Value::from).collect());
    object.set_some("tag", container.image.as_ref().and_then(|image| image.tag.first().cloned()));
    object.set_some("orchestrator", record.orchestrator.as_ref().map(|orchestrator| orchestrator.kind));
    object.set_some("pod_uuid", record.orchestrator.as_ref().and_then(|orchestrator| orchestrator.resource.id.clone()));
    Some(object.into())
}

/// `device`: this host.
pub(super) fn device(record: &Record) -> Value {
    let host = &record.host;
    let mut os = Object::default();
    os.set("type_id", 200);
    os.set("type", "Linux");
    os.set("name", host.os.name.as_deref().unwrap_or("Linux"));
    os.set_some("version", host.os.version.clone());
    os.set_some("kernel_release", host.os.kernel.clone());
    let mut object = Object::default();
    // What kind of machine it is, nobody said.
    object.set("type_id", 0);
    object.set("type", "Unknown");
    object.set("hostname", host.hostname.as_str());
    object.set("name", host.name.as_str());
    object.set_some("uid", host.id.clone());
    object.set_some("boot_uid", host.boot.as_ref().map(|boot| boot.id.clone()));
    object.set("os", os);
    object.into()
}
