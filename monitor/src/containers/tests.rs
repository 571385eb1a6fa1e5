//! Files in the layouts that the runtimes write. Podman's and runc's were compared with what Podman 4.3 and runc 1.1 wrote,
//! the others with the code that writes them: containerd `internal/cri` and `core/runtime/v2`, moby `container`, CRI-O
//! `internal/factory/container` and `server/sandbox_run_linux.go`, containers/storage `containers.go`, crun
//! `src/libcrun/container.c`, nerdctl `pkg/labels`.

use std::{
    ffi::CString,
    fs::{self, File},
    os::{fd::AsFd as _, unix::fs::symlink},
    path::Path,
    thread::{self, JoinHandle},
    time::Instant,
};

use nix::unistd::geteuid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    places::{Disk, describe, is_id, owner},
    *,
};
use crate::process::{Account, Ancestor, Container, Matching};

const ID: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const SANDBOX: &str = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752";
const K8S: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
const PODMAN: &str = "var/lib/containers/storage/overlay-containers";
const MINUTE: BootTime = BootTime(60_000_000_000);

/// A host's file system with nothing but what a test puts there.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder above")).expect("folders");
        fs::write(path, content).expect("written");
    }

    fn put(&self, path: &str, content: &Value) {
        self.write(path, content.to_string());
    }

    fn describe_for(&self, wanted: &Wanted, owner: u32) -> Result<Description, ContainerGap> {
        let root = File::open(self.0.path()).expect("the root");
        let disk = Disk { root: root.as_fd(), owner };
        describe(&disk, &self.path("proc"), wanted).map_err(|trouble| trouble.gap)
    }

    fn describe(&self, runtime: Option<&str>) -> Result<Description, ContainerGap> {
        self.describe_for(&wanted(runtime), geteuid().as_raw())
    }
}

fn wanted(runtime: Option<&str>) -> Wanted {
    Wanted { id: ID.to_owned(), runtime: runtime.map(str::to_owned), owner: 0, supervisors: Vec::new() }
}

#[expect(clippy::unnecessary_wraps, reason = "what is expected is optional everywhere")]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "what is expected is optional everywhere")]
fn labels(pairs: &[(&str, &str)]) -> Option<Labels> {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Some(Labels { pairs, left_out: 0 })
}

fn pod() -> Pod {
    Pod { name: some("web-0"), namespace: some("shop"), uid: some("2f5c1f9a-6b1e-4a58-9a3b-0d9b2c1f7e10") }
}

fn cri() -> Value {
    json!({
        "ociVersion": "1.1.0",
        "process": { "args": ["/bin/web"], "env": ["SECRET=x"] },
        "mounts": [{ "destination": "/etc/hosts", "type": "bind", "source": "/var/lib/kubelet/pods/x/etc-hosts" }],
        "annotations": {
            "io.kubernetes.cri.container-name": "web",
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.image-name": "registry.example/shop/web:1.25",
            "io.kubernetes.cri.sandbox-id": SANDBOX,
            "io.kubernetes.cri.sandbox-name": "web-0",
            "io.kubernetes.cri.sandbox-namespace": "shop",
            "io.kubernetes.cri.sandbox-uid": "2f5c1f9a-6b1e-4a58-9a3b-0d9b2c1f7e10",
        },
        "linux": { "cgroupsPath": "kubepods-besteffort.slice:cri-containerd:x" },
    })
}

#[test]
fn containerd_tells_the_pod_and_no_labels() {
    let expected = Description {
        runtime: Some("containerd"),
        name: some("web"),
        image: some("registry.example/shop/web:1.25"),
        pod: Some(pod()),
        ..Description::by(DescribedBy::Containerd)
    };
    // The standard place, those of distributions, and whether or not the cgroup tells the runtime.
    for folder in [
        K8S,
        "run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io",
        "var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/k8s.io",
    ] {
        let host = Host::new();
        host.put(&format!("{folder}/{ID}/config.json"), &cri());
        assert_eq!(host.describe(Some("containerd")).as_ref(), Ok(&expected), "{folder}");
        assert_eq!(host.describe(None).as_ref(), Ok(&expected), "{folder}");
        assert_eq!(host.describe(Some("docker")), Err(ContainerGap::NotFound));
    }
}

#[test]
fn a_sandbox_and_a_bundle_without_annotations_tell_less() {
    let host = Host::new();
    let path = format!("{K8S}/{ID}/config.json");
    let annotations = json!({
        "io.kubernetes.cri.container-type": "sandbox",
        "io.kubernetes.cri.sandbox-name": "web-0",
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.container-name": "",
    });
    host.put(&path, &json!({ "annotations": annotations }));
    let described = host.describe(Some("containerd")).expect("a description");
    assert_eq!((described.name, described.image), (None, None));
    assert_eq!(described.pod, Some(Pod { uid: None, ..pod() }));
    // What `ctr run` makes, and null where a map is expected.
    for bare in [json!({ "ociVersion": "1.1.0" }), json!({ "annotations": null, "mounts": null })] {
        host.put(&path, &bare);
        let described = host.describe(Some("containerd"));
        assert_eq!(
            described,
            Ok(Description { runtime: Some("containerd"), ..Description::by(DescribedBy::Containerd) })
        );
    }
}

#[test]
fn nerdctl_tells_the_name_and_labels() {
    let host = Host::new();
    let annotations = json!({ "nerdctl/name": "web", "nerdctl/namespace": "default", "team": "blue" });
    let folder = "run/containerd/io.containerd.runtime.v2.task/default";
    host.put(&format!("{folder}/{ID}/config.json"), &json!({ "annotations": annotations }));
    let described = host.describe(Some("containerd")).expect("a description");
    assert_eq!((described.name, described.labels), (some("web"), labels(&[("team", "blue")])));
    assert_eq!((described.image, described.pod), (None, None));
}

#[test]
fn cri_o_tells_the_pods_labels_by_its_sandbox() {
    let host = Host::new();
    let of_kubelet = json!({
        "io.kubernetes.container.name": "web",
        "io.kubernetes.pod.name": "web-0",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": "2f5c1f9a-6b1e-4a58-9a3b-0d9b2c1f7e10",
    });
    let mut of_container = json!({
        "io.container.manager": "cri-o",
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.cri-o.Image": "8fa169c53ac4656ec93fd5d7da78f6a8e0368ed71a212626a277735601e72cc3",
        "io.kubernetes.cri-o.ImageName": "registry.example/shop/web:1.25",
        "io.kubernetes.cri-o.Labels": of_kubelet.to_string(),
        "io.kubernetes.cri-o.SandboxID": SANDBOX,
    });
    for (name, value) in of_kubelet.as_object().expect("an object") {
        of_container[name] = value.clone();
    }
    let of_pod = json!({ "io.kubernetes.container.name": "POD", "io.kubernetes.pod.name": "web-0", "app": "web" });
    let of_sandbox = json!({
        "io.container.manager": "cri-o",
        "io.kubernetes.cri-o.ContainerType": "sandbox",
        "io.kubernetes.cri-o.Labels": of_pod.to_string(),
        "io.kubernetes.cri-o.SandboxID": SANDBOX,
    });
    let folder = "run/containers/storage/overlay-containers";
    host.put(&format!("{folder}/{ID}/userdata/config.json"), &json!({ "annotations": of_container }));
    let mut expected = Description {
        runtime: Some("cri-o"),
        name: some("web"),
        image: some("registry.example/shop/web:1.25"),
        pod: Some(pod()),
        ..Description::by(DescribedBy::Crio)
    };
    assert_eq!(host.describe(Some("cri-o")).as_ref(), Ok(&expected));
    host.put(&format!("{folder}/{SANDBOX}/userdata/config.json"), &json!({ "annotations": of_sandbox }));
    expected.labels = labels(&[("app", "web")]);
    assert_eq!(host.describe(Some("cri-o")).as_ref(), Ok(&expected));
    // An image without a name has an id, which is none.
    of_container["io.kubernetes.cri-o.ImageName"] = json!("");
    host.put(&format!("{folder}/{ID}/userdata/config.json"), &json!({ "annotations": of_container }));
    assert_eq!(host.describe(None), Ok(Description { image: None, ..expected }));
}

fn docker(labels: &Value) -> Value {
    json!({
        "State": { "Running": true, "Pid": 4242 },
        "ID": ID,
        "Config": { "Hostname": "web", "Image": "nginx:1.27", "Labels": labels, "Env": ["SECRET=x"] },
        "Image": "sha256:8fa169c53ac4656ec93fd5d7da78f6a8e0368ed71a212626a277735601e72cc3",
        "Name": "/web",
        "RestartCount": 0,
    })
}

#[test]
fn docker_tells_the_name_the_image_and_labels() {
    let expected = Description {
        runtime: Some("docker"),
        name: some("web"),
        image: some("nginx:1.27"),
        labels: labels(&[("com.docker.compose.project", "shop"), ("empty", "")]),
        ..Description::by(DescribedBy::Docker)
    };
    let of_container = json!({ "empty": "", "com.docker.compose.project": "shop" });
    let host = Host::new();
    host.put(&format!("var/lib/docker/containers/{ID}/config.v2.json"), &docker(&of_container));
    assert_eq!(host.describe(Some("docker")).as_ref(), Ok(&expected));
    assert_eq!(host.describe(None).as_ref(), Ok(&expected));

    // Elsewhere, where only the bundle leads to.
    let host = Host::new();
    host.put(&format!("srv/docker/containers/{ID}/config.v2.json"), &docker(&of_container));
    assert_eq!(host.describe(Some("docker")), Err(ContainerGap::NotFound));
    let mounts = json!([
        { "destination": "/data", "source": "/srv/docker/volumes/x/_data" },
        { "destination": "/etc/hostname", "source": format!("/srv/docker/containers/{ID}/hostname") },
    ]);
    let bundle = format!("run/containerd/io.containerd.runtime.v2.task/moby/{ID}/config.json");
    host.put(&bundle, &json!({ "mounts": mounts }));
    assert_eq!(host.describe(Some("docker")).as_ref(), Ok(&expected));
}

#[test]
fn cri_dockerd_tells_the_pod_and_its_labels() {
    let host = Host::new();
    let of_container = json!({
        "io.kubernetes.container.name": "web",
        "io.kubernetes.docker.type": "container",
        "io.kubernetes.pod.name": "web-0",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": "2f5c1f9a-6b1e-4a58-9a3b-0d9b2c1f7e10",
        "io.kubernetes.sandbox.id": SANDBOX,
        "annotation.io.kubernetes.container.hash": "dead",
    });
    let of_sandbox = json!({ "app": "web", "io.kubernetes.pod.name": "web-0", "annotation.note": "x" });
    let folder = "var/lib/docker/containers";
    host.put(&format!("{folder}/{ID}/config.v2.json"), &docker(&of_container));
    let described = host.describe(None).expect("a description");
    assert_eq!((described.name, described.pod, described.labels), (some("web"), Some(pod()), None));
    host.put(&format!("{folder}/{SANDBOX}/config.v2.json"), &docker(&of_sandbox));
    assert_eq!(host.describe(None).expect("a description").labels, labels(&[("app", "web")]));
}

fn podman_entry() -> Value {
    let metadata = json!({
        "image-name": "localhost/shop/web:1.25",
        "image-id": "8fa169c53ac4656ec93fd5d7da78f6a8e0368ed71a212626a277735601e72cc3",
        "name": "web",
        "created-at": 1_795_759_175,
    });
    json!({
        "id": ID,
        "names": ["web"],
        "image": "8fa169c53ac4656ec93fd5d7da78f6a8e0368ed71a212626a277735601e72cc3",
        "layer": "80daacb827561ffc5695e04c478eac65f65688fa15703b0020d1559f612df674",
        "metadata": metadata.to_string(),
        "created": "2026-11-27T05:59:35.940808481Z",
        "flags": { "MountLabel": "", "ProcessLabel": "" },
    })
}

fn podman() -> Description {
    Description {
        runtime: Some("podman"),
        name: some("web"),
        image: some("localhost/shop/web:1.25"),
        ..Description::by(DescribedBy::Storage)
    }
}

#[test]
fn podman_tells_the_name_and_the_image() {
    for list in ["containers.json", "volatile-containers.json"] {
        let host = Host::new();
        let annotations = json!({ "io.container.manager": "libpod", "io.podman.annotations.privileged": "FALSE" });
        host.put(&format!("{PODMAN}/{ID}/userdata/config.json"), &json!({ "annotations": annotations }));
        let other = json!({ "id": SANDBOX, "names": null, "metadata": "{}" });
        host.put(&format!("{PODMAN}/{list}"), &json!([other, podman_entry()]));
        assert_eq!(host.describe(Some("podman")), Ok(podman()), "{list}");
        assert_eq!(host.describe(None), Ok(podman()), "{list}");
    }
    // Its bundle alone.
    let host = Host::new();
    let annotations = json!({ "io.container.manager": "libpod" });
    host.put(&format!("{PODMAN}/{ID}/userdata/config.json"), &json!({ "annotations": annotations }));
    assert_eq!(host.describe(Some("podman")), Ok(Description { name: None, image: None, ..podman() }));
}

#[test]
fn a_users_containers_are_described_by_the_users_files_and_not_as_pods() {
    let host = Host::new();
    host.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nada:x:1000:1000:Ada:/home/ada:/bin/sh\n");
    host.put("home/ada/.local/share/containers/storage/overlay-containers/containers.json", &json!([podman_entry()]));
    let of_user = Wanted { owner: 1_000, ..wanted(Some("podman")) };
    assert_eq!(host.describe_for(&of_user, geteuid().as_raw()), Ok(podman()));
    assert_eq!(host.describe(Some("podman")), Err(ContainerGap::NotFound));
    // Root's places are not looked at for a user, whatever the user's cgroup claims.
    host.put(&format!("{K8S}/{ID}/config.json"), &cri());
    host.put(
        &format!("run/runc/{ID}/state.json"),
        &json!({ "config": { "labels": ["io.kubernetes.pod.name=web-0"] } }),
    );
    let of_user = Wanted { owner: 1_000, ..wanted(None) };
    assert_eq!(host.describe_for(&of_user, geteuid().as_raw()), Ok(podman()));
    // A user may write anything about pods.
    let claims = json!({ "io.kubernetes.pod.namespace": "kube-system", "io.kubernetes.cri-o.ImageName": "x" });
    host.put(&format!("run/user/1000/crun/{ID}/config.json"), &json!({ "annotations": claims }));
    fs::remove_dir_all(host.path("home")).expect("removed");
    let described = host.describe_for(&of_user, geteuid().as_raw()).expect("a description");
    assert_eq!((described.by, described.pod, described.image), (DescribedBy::Crun, None, some("x")));
}

#[test]
fn files_of_others_are_not_believed() {
    let host = Host::new();
    host.put(&format!("{K8S}/{ID}/config.json"), &cri());
    let other = geteuid().as_raw() + 1;
    assert_eq!(host.describe_for(&wanted(Some("containerd")), other), Err(ContainerGap::Unreadable));
}

#[test]
fn runc_and_crun_tell_what_the_bundle_says() {
    let host = Host::new();
    let state = json!({
        "id": ID,
        "init_process_pid": 4242,
        "config": {
            "rootfs": "/x",
            "labels": [
                "io.kubernetes.pod.name=web-0",
                "io.kubernetes.pod.namespace=shop",
                "io.kubernetes.pod.uid=2f5c1f9a-6b1e-4a58-9a3b-0d9b2c1f7e10",
                "io.kubernetes.container.name=web",
                "no value",
                "bundle=/x",
            ],
        },
    });
    host.put(&format!("run/runc/{ID}/state.json"), &state);
    let expected = Description {
        runtime: Some("runc"),
        name: some("web"),
        pod: Some(pod()),
        ..Description::by(DescribedBy::Runc)
    };
    assert_eq!(host.describe(None), Ok(expected));
    let host = Host::new();
    host.put(&format!("run/crun/{ID}/config.json"), &json!({ "annotations": { "io.kubernetes.pod.name": "web-0" } }));
    let described = host.describe(None).expect("a description");
    assert_eq!((described.by, described.runtime), (DescribedBy::Crun, Some("crun")));
}

#[test]
fn supervisors_know_where_the_files_are() {
    let host = Host::new();
    let process = |pid: u32, line: &str| {
        host.write(&format!("proc/{pid}/cmdline"), line.replace(' ', "\0"));
        let fields = "0 ".repeat(17);
        host.write(&format!("proc/{pid}/stat"), format!("{pid} (x) S 1 {fields}77 0 0\n"));
    };
    process(
        7,
        &format!("/usr/bin/conmon --api-version 1 -c {ID} -b /srv/store/overlay-containers/{ID}/userdata -n web"),
    );
    process(8, "/x/containerd-shim-runc-v2 -namespace k8s.io -id x -address /srv/containerd/containerd.sock");
    host.put("srv/store/overlay-containers/containers.json", &json!([podman_entry()]));
    host.put(&format!("srv/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"), &cri());
    let start_ticks = crate::process::start_ticks(&host.path("proc"), 7).expect("a start");
    let by = |runtime, pid, start_ticks| {
        let supervisors = vec![ProcessKey { pid, start_ticks }];
        host.describe_for(&Wanted { supervisors, ..wanted(Some(runtime)) }, geteuid().as_raw())
    };
    assert_eq!(by("podman", 7, start_ticks), Ok(podman()));
    assert_eq!(by("containerd", 8, start_ticks).map(|described| described.pod), Ok(Some(pod())));
    // Another process has its pid, or it has ended.
    assert_eq!(by("podman", 7, start_ticks + 1), Err(ContainerGap::NotFound));
    assert_eq!(by("podman", 9, start_ticks), Err(ContainerGap::NotFound));
    // A path without the container's id leads to another container.
    process(7, &format!("/usr/bin/conmon -c {ID} -b /srv/store/overlay-containers/{SANDBOX}/userdata"));
    assert_eq!(by("podman", 7, start_ticks), Err(ContainerGap::NotFound));
}

#[test]
fn what_is_no_description_says_why() {
    let path = format!("{K8S}/{ID}/config.json");
    let described = |content: &[u8]| {
        let host = Host::new();
        host.write(&path, content);
        host.describe(Some("containerd"))
    };
    for malformed in [
        &b""[..],
        b"{",
        b"null",
        b"\xff\xfe",
        b"{\"annotations\": []}",
        b"{\"annotations\": {\"io.kubernetes.cri.image-name\": 7}}",
        b"{\"annotations\": {}, \"annotations\": {}}",
        "[".repeat(100_000).as_bytes(),
        format!("{{\"x\": {}}}", "[".repeat(1_000)).as_bytes(),
    ] {
        let shown = String::from_utf8_lossy(malformed.get(..40.min(malformed.len())).unwrap_or_default());
        assert_eq!(described(malformed), Err(ContainerGap::Malformed), "{shown}");
    }
    assert_eq!(described(&vec![b' '; (1 << 20) + 1]), Err(ContainerGap::TooLarge));
    let mut large = cri();
    large["process"]["env"] = vec!["X=".to_owned() + &"x".repeat(1_000); 1_000].into();
    assert_eq!(described(large.to_string().as_bytes()).map(|described| described.pod), Ok(Some(pod())));
    // A name that nobody gives is none.
    let mut long = cri();
    long["annotations"]["io.kubernetes.cri.container-name"] = "x".repeat(1_025).into();
    assert_eq!(described(long.to_string().as_bytes()).map(|described| described.name), Ok(None));
}

#[test]
fn only_regular_files_below_the_root_are_read() {
    let host = Host::new();
    let path = format!("{K8S}/{ID}/config.json");
    host.write(&path, "");
    fs::remove_file(host.path(&path)).expect("removed");
    // A pipe would wait for a writer.
    let pipe = CString::new(host.path(&path).to_str().expect("a path")).expect("no zero");
    nix::unistd::mkfifo(pipe.as_c_str(), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert_eq!(host.describe(Some("containerd")), Err(ContainerGap::Unreadable));
    // Links stay below the root: one that is absolute there is followed there.
    fs::remove_file(host.path(&path)).expect("removed");
    symlink("/elsewhere/config.json", host.path(&path)).expect("a link");
    assert_eq!(host.describe(Some("containerd")), Err(ContainerGap::NotFound));
    host.put("elsewhere/config.json", &cri());
    assert_eq!(host.describe(Some("containerd")).map(|described| described.pod), Ok(Some(pod())));
}

#[test]
fn labels_are_bounded_and_told_to_be() {
    let many = Labels::new((0..100).map(|number| (format!("label-{number:03}"), "x".to_owned())));
    assert_eq!((many.pairs.len(), many.left_out), (64, 36));
    assert_eq!((many.get("label-007"), many.get("label-099")), (Some("x"), None));
    let long = Labels::new([("a".to_owned(), "x".repeat(5_000)), ("b".to_owned(), "y".to_owned())]);
    assert_eq!((long.pairs.len(), long.left_out, long.get("b")), (1, 1, Some("y")));
}

#[test]
fn the_cgroup_tells_whose_container_it_is() {
    for (path, expected) in [
        ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-x.scope", 0),
        ("/machine.slice/libpod-x.scope", 0),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-x.scope", 1_000),
        ("/user.slice/user-1000.slice/session-2.scope", 0),
        ("/user.slice/user-x.slice/user@x.service/y", 0),
    ] {
        assert_eq!(owner(path), expected, "{path}");
    }
    assert!(is_id(ID) && is_id("web_1.x-2") && !is_id("..") && !is_id("a/b") && !is_id(""));
}

/// The stage with its thread, below a host's root whose files are the test's own.
struct Bench {
    containers: Option<Containers>,
    thread: Option<JoinHandle<()>>,
}

impl Bench {
    fn new(config: &Config) -> Self {
        let (containers, reader) = Containers::new(config, "/proc".into());
        let thread = thread::spawn(move || reader.run(|| ()));
        Self { containers: Some(containers), thread: Some(thread) }
    }

    fn identify(&mut self, process: &Process, at: BootTime) -> Option<Arc<ContainerFacts>> {
        self.containers.as_mut().expect("not dropped").identify(process, at)
    }

    fn figures(&self) -> Figures {
        self.containers.as_ref().expect("not dropped").figures()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.containers = None;
        self.thread.take().map(JoinHandle::join).expect("a thread").expect("no panic");
    }
}

/// A process in a container whose files are the test's user's.
fn process(id: &str, runtime: &str) -> Process {
    let user = geteuid().as_raw();
    let cgroup = if user == 0 { format!("/x/{id}") } else { format!("/user.slice/user@{user}.service/{id}") };
    Process {
        key: ProcessKey { pid: 1, start_ticks: 1 },
        entity_id: String::new(),
        matching: Matching::Start,
        thread_id: 1,
        name: String::new(),
        comm: String::new(),
        executable: None,
        arguments: Vec::new(),
        arguments_truncated: false,
        ancestors: Vec::<Ancestor>::new(),
        user: Account { id: 0, name: None },
        effective_user: None,
        group: Account { id: 0, name: None },
        cgroup: Some(cgroup),
        unit: None,
        container: Some(Container { id: id.to_owned(), runtime: Some(runtime.to_owned()), pod_uid: None }),
        start_wall_ns: None,
        is_own: false,
    }
}

/// Where the stage finds the containers of the test's user.
fn own_store(host: &Host) -> PathBuf {
    let user = geteuid().as_raw();
    let store = if user == 0 { "var/lib/containers/storage".to_owned() } else { format!("run/user/{user}/containers") };
    host.path(&store).join("overlay-containers/containers.json")
}

fn below(host: &Host) -> Config {
    // Not bound by a machine that is busy: the test waits for the thread, not for a time.
    Config { root: Some(host.0.path().to_owned()), wait: Duration::from_secs(20), ..Config::default() }
}

#[test]
fn a_container_is_read_once_and_at_its_first_flow() {
    let host = Host::new();
    let store = own_store(&host);
    fs::create_dir_all(store.parent().expect("a folder")).expect("folders");
    fs::write(&store, json!([podman_entry()]).to_string()).expect("written");
    let mut bench = Bench::new(&below(&host));
    let facts = bench.identify(&process(ID, "podman"), BootTime(0)).expect("facts");
    assert_eq!(facts.description(), Ok(&podman()));
    fs::remove_file(&store).expect("removed");
    let again = bench.identify(&process(ID, "podman"), MINUTE).expect("facts");
    assert!(Arc::ptr_eq(&facts, &again));
    assert_eq!(bench.figures(), Figures { described: 1, ..Figures::default() });
    let outside = Process { container: None, ..process(ID, "podman") };
    assert!(bench.identify(&outside, BootTime(0)).is_none());
}

#[test]
fn what_is_asked_for_when_the_cgroup_is_made_outlives_the_files() {
    let host = Host::new();
    let store = own_store(&host);
    fs::create_dir_all(store.parent().expect("a folder")).expect("folders");
    let of_podman = process(ID, "podman");
    let cgroup = of_podman.cgroup.clone().expect("a cgroup").replace(ID, &format!("libpod-{ID}.scope"));
    let of_podman = Process { cgroup: Some(cgroup.clone()), ..of_podman };
    let expect = |bench: &mut Bench| bench.containers.as_mut().expect("not dropped").expect(&cgroup, BootTime(0));

    // Too early: the runtime has not written yet, which is not remembered for a minute.
    let mut bench = Bench::new(&below(&host));
    expect(&mut bench);
    while bench.figures().not_found == 0 {
        thread::yield_now();
    }
    fs::write(&store, json!([podman_entry()]).to_string()).expect("written");
    let facts = bench.identify(&of_podman, BootTime(1)).expect("facts");
    assert_eq!(facts.description(), Ok(&podman()));

    // In time: the files go before the first flow.
    let mut bench = Bench::new(&below(&host));
    expect(&mut bench);
    while bench.figures().described == 0 {
        thread::yield_now();
    }
    fs::remove_file(&store).expect("removed");
    let facts = bench.identify(&of_podman, BootTime(1)).expect("facts");
    assert_eq!(facts.description(), Ok(&podman()));
    expect(&mut bench);
    assert_eq!(bench.figures(), Figures { described: 1, ..Figures::default() });
}

#[test]
fn what_was_not_found_is_looked_for_again_after_a_minute() {
    let host = Host::new();
    let store = own_store(&host);
    fs::create_dir_all(store.parent().expect("a folder")).expect("folders");
    let mut bench = Bench::new(&below(&host));
    let describe = |bench: &mut Bench, at: BootTime| {
        let facts = bench.identify(&process(ID, "podman"), at).expect("facts");
        facts.description().cloned()
    };
    assert_eq!(describe(&mut bench, BootTime(0)), Err(ContainerGap::NotFound));
    fs::write(&store, b"{").expect("written");
    assert_eq!(describe(&mut bench, BootTime(MINUTE.0 - 1)), Err(ContainerGap::NotFound));
    assert_eq!(describe(&mut bench, MINUTE), Err(ContainerGap::Malformed));
    fs::write(&store, json!([podman_entry()]).to_string()).expect("written");
    assert_eq!(describe(&mut bench, BootTime(2 * MINUTE.0)), Ok(podman()));
    let expected = Figures { described: 1, not_found: 1, malformed: 1, ..Figures::default() };
    assert_eq!(bench.figures(), expected);
}

#[test]
fn names_of_system_containers_are_their_ids() {
    let mut bench = Bench::new(&below(&Host::new()));
    for runtime in ["lxc", "systemd-nspawn"] {
        let facts = bench.identify(&process("mail", runtime), BootTime(0)).expect("facts");
        let description = facts.description().expect("a description").clone();
        assert_eq!((description.name, description.by), (some("mail"), DescribedBy::Cgroup));
        assert_eq!((description.image, description.labels), (None, None));
    }
    let off = Config { enabled: false, ..Config::default() };
    let facts = Bench::new(&off).identify(&process(ID, "podman"), BootTime(0)).expect("facts");
    assert_eq!(facts.description(), Err(ContainerGap::Disabled));
}

#[test]
fn a_reader_that_hangs_is_waited_for_once() {
    let config = Config { wait: Duration::from_millis(50), ..Config::default() };
    // Nobody reads.
    let (mut containers, reader) = Containers::new(&config, "/proc".into());
    let begun = Instant::now();
    let gaps: Vec<_> = (0..=QUEUE)
        .map(|number| {
            let facts = containers.identify(&process(&format!("{number}"), "podman"), BootTime(0)).expect("facts");
            facts.description().expect_err("nobody reads")
        })
        .collect();
    let waited = begun.elapsed();
    assert_eq!(gaps.iter().filter(|gap| **gap == ContainerGap::Pending).count(), QUEUE);
    assert_eq!(gaps.last(), Some(&ContainerGap::Busy));
    assert_eq!(containers.figures().busy, 1);
    // Each of the others would have waited as long as the first.
    let all = std::time::Duration::from_millis(50 * QUEUE as u64);
    assert!(waited >= std::time::Duration::from_millis(50) && waited < all / 2, "{waited:?}");
    drop((containers, reader));
}

#[test]
fn nothing_is_read_of_a_root_that_is_not_there() {
    let config = Config { root: Some(Path::new("/nonexistent").into()), ..below(&Host::new()) };
    let facts = Bench::new(&config).identify(&process(ID, "podman"), BootTime(0)).expect("facts");
    assert_eq!(facts.description(), Err(ContainerGap::Unreadable));
}
