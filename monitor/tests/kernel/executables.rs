//! What ran: files that are replaced, deleted, elsewhere under the same path, nameless, or in a container.

use std::{
    fs::{self, File},
    io::Write as _,
    net::SocketAddr,
    os::{
        fd::AsRawFd as _,
        unix::fs::{PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    fcntl::OFlag,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::Mode,
        statvfs::{FsFlags, statvfs},
    },
    unistd::{Uid, chown},
};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    Case,
    support::{
        Launch, Monitor, Network, Program, Record, Rung, Settings, TcpServer, Traffic, View, copy_generator, digest,
        installed, watch,
    },
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("a_replaced_executable_is_the_one_that_runs", |rung| changed(rung, true)),
    Case::new("a_deleted_executable_is_the_one_that_runs", |rung| changed(rung, false)),
    Case::new("an_executable_of_another_mount_namespace_is_not_taken_for_the_hosts", other_mount_namespace),
    Case::new("an_executable_on_an_overlay_is_hashed", |rung| overlay(rung, true)),
    Case::new("an_executable_on_an_overlay_of_two_file_systems_is_hashed", |rung| overlay(rung, false)),
    Case::new("an_executable_in_memory_is_hashed", in_memory),
    Case::new("a_setuid_program_has_two_users", setuid),
    Case::new("a_script_is_told_with_its_interpreter", script),
    Case::new("a_thread_that_renamed_itself_does_not_rename_its_process", renamed_thread),
    Case::new("a_program_of_a_package_names_it", packaged).needs("curl"),
    Case::new("a_container_has_its_own_files_and_packages", runc_container).needs("runc"),
];

const BYTES: u64 = 321;

/// An address on a list.
fn listed(server: &TcpServer) -> Result<SocketAddr> {
    Ok(SocketAddr::new("120.232.0.1".parse()?, server.port))
}

fn sending(to: SocketAddr) -> Traffic {
    Traffic::Tcp { to, connections: 1, send: BYTES, receive: 0, hold: true }
}

/// The alert on a process, or the record that follows one that could not wait for its executable.
fn identified(view: &View<'_>, what: &str, wanted: impl Fn(&Record) -> bool) -> Result<Arc<Record>> {
    view.one(&format!("what {what} is"), |record| {
        let tells = record.is_alert() || record.text("/event/dataset") == Some("egresswatch.executable");
        let pending = ["hash_gap", "package_gap"]
            .iter()
            .any(|gap| record.text(&format!("/egresswatch/process/{gap}")) == Some("pending"));
        tells && !pending && wanted(record)
    })
}

fn of_process(view: &View<'_>, pid: u32) -> Result<Arc<Record>> {
    identified(view, &format!("process {pid}"), |record| record.number("/process/pid") == Some(u64::from(pid)))
}

fn hash(record: &Record) -> Option<&str> {
    record.text("/process/hash/sha256")
}

/// The file is changed between the exec and the first flow.
fn changed(rung: Rung, replaced: bool) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::start(&network, BYTES, 0)?;
    let (program, other) = (Program::new("changing")?, Program::new("replacement")?);
    let digest = program.digest()?;
    watch(rung, |view| {
        let traffic = Traffic::OnCue { then: Box::new(sending(listed(&server)?)) };
        let mut running = Launch::inside(&network).start(&program, &traffic)?;
        if replaced {
            fs::rename(&other.path, &program.path)?;
            ensure!(program.digest()? != digest, "the file was not replaced");
        } else {
            fs::remove_file(&program.path)?;
        }
        running.cue()?;
        let record = of_process(&view, running.pid())?;
        running.finish()?;
        ensure!(record.executable() == Some(program.name()), "another path: {}", record.pretty());
        ensure!(hash(&record) == Some(&digest), "not {digest}: {}", record.pretty());
        Ok(())
    })
}

/// Two files under one path: one in the host's mount namespace, the other one in the process's.
fn other_mount_namespace(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::start(&network, BYTES, 0)?;
    let (outside, inside) = (Program::new("same-path")?, Program::new("inside")?);
    watch(rung, |view| {
        let launch = Launch::inside(&network).binding(&inside.path, &outside.path);
        let running = launch.start(&outside, &sending(listed(&server)?))?;
        let record = of_process(&view, running.pid())?;
        running.finish()?;
        ensure!(record.executable() == Some(outside.name()), "another path: {}", record.pretty());
        ensure!(hash(&record) == Some(&inside.digest()?), "not that of the inner file: {}", record.pretty());
        // With the process its mount namespace goes: then nothing may be told but the truth.
        let vanish = Traffic::TcpAndVanish { to: listed(&server)?, send: BYTES };
        let pid = launch.run(&outside, &vanish)?.pid;
        let end = view.one("the end of a flow of this process", |record| {
            record.is_flow_end() && record.is_egress() && record.number("/process/pid") == Some(u64::from(pid))
        })?;
        let told = hash(&end);
        ensure!(told != Some(&outside.digest()?), "the hash of the host's file: {}", end.pretty());
        ensure!(told.is_some() || end.text("/egresswatch/process/hash_gap").is_some(), "no reason: {}", end.pretty());
        Ok(())
    })
}

/// An overlay, and the file systems that it is made of; taken down in the other order.
struct Overlay {
    mounts: Vec<PathBuf>,
    merged: PathBuf,
    _folder: TempDir,
}

impl Overlay {
    /// `None` where this kernel has no overlays.
    fn new(one_file_system: bool, lower_file: &str) -> Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("egresswatch-test-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let root = folder.path().canonicalize()?;
        let [memory, merged] = ["memory", "merged"].map(|name| root.join(name));
        let lower = if one_file_system { memory.join("lower") } else { root.join("lower") };
        let mut overlay = Self { mounts: Vec::new(), merged: merged.clone(), _folder: folder };
        fs::create_dir(&memory)?;
        mount(Some("tmpfs"), &memory, Some("tmpfs"), MsFlags::empty(), None::<&str>).context("cannot mount a tmpfs")?;
        overlay.mounts.push(memory.clone());
        let [upper, work] = ["upper", "work"].map(|name| memory.join(name));
        for folder in [&lower, &upper, &work, &merged] {
            fs::create_dir(folder)?;
        }
        copy_generator(&lower.join(lower_file))?;
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        match mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str())) {
            Ok(()) => overlay.mounts.push(merged),
            Err(nix::Error::ENODEV) => return Ok(None),
            Err(error) => return Err(error).context("cannot mount an overlay"),
        }
        Ok(Some(overlay))
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        for mount in self.mounts.iter().rev() {
            // A process that has just ended may still hold it.
            let _ = umount2(mount, MntFlags::MNT_DETACH);
        }
    }
}

fn overlay(rung: Rung, one_file_system: bool) -> Result<()> {
    let Some(overlay) = Overlay::new(one_file_system, "layered")? else {
        eprintln!("    skipped: this kernel has no overlay file system");
        return Ok(());
    };
    let network = Network::new()?;
    let server = TcpServer::start(&network, BYTES, 0)?;
    let program = Program::at(overlay.merged.join("layered"));
    let digest = program.digest()?;
    watch(rung, |view| {
        let running = Launch::inside(&network).start(&program, &sending(listed(&server)?))?;
        let record = of_process(&view, running.pid())?;
        running.finish()?;
        ensure!(record.executable() == Some(program.name()), "another path: {}", record.pretty());
        ensure!(hash(&record) == Some(&digest), "not {digest}: {}", record.pretty());
        Ok(())
    })
}

fn in_memory(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::start(&network, BYTES, 0)?;
    let memory = memfd_create(c"nameless", MFdFlags::MFD_CLOEXEC)?;
    let link = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    let mut writer = File::options().write(true).open(&link)?;
    writer.write_all(&fs::read("/proc/self/exe")?)?;
    writer.write_all(b"in memory")?;
    drop(writer);
    // A file that is open for writing is not executed.
    let readable = nix::fcntl::open(&link, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    drop(memory);
    let program = Program::at(format!("/proc/self/fd/{}", readable.as_raw_fd()).into());
    let digest = program.digest()?;
    watch(rung, |view| {
        let running = Launch::inside(&network).start(&program, &sending(listed(&server)?))?;
        let record = of_process(&view, running.pid())?;
        running.finish()?;
        ensure!(record.executable() == Some("/memfd:nameless"), "another path: {}", record.pretty());
        ensure!(record.flag("/egresswatch/process/executable_unlinked") == Some(true), "named: {}", record.pretty());
        ensure!(hash(&record) == Some(&digest), "not {digest}: {}", record.pretty());
        let gap = record.text("/egresswatch/process/package_gap");
        ensure!(gap == Some("not_packaged"), "another package: {}", record.pretty());
        Ok(())
    })
}

fn setuid(rung: Rung) -> Result<()> {
    const OWNER: u32 = 64_200;
    const CALLER: u32 = 64_123;
    let network = Network::new()?;
    let server = TcpServer::start(&network, BYTES, 0)?;
    let program = Program::new("setuid")?;
    chown(&program.path, Some(Uid::from_raw(OWNER)), None)?;
    fs::set_permissions(&program.path, fs::Permissions::from_mode(0o4755))?;
    if statvfs(&program.path)?.flags().contains(FsFlags::ST_NOSUID) {
        eprintln!("    skipped: {} is mounted with nosuid", program.name());
        return Ok(());
    }
    watch(rung, |view| {
        let running = Launch::inside(&network).user(CALLER).start(&program, &sending(listed(&server)?))?;
        let record = of_process(&view, running.pid())?;
        running.finish()?;
        for (field, user) in [
            ("/user/id", CALLER),
            ("/user/effective/id", OWNER),
            ("/process/user/id", OWNER),
            ("/process/real_user/id", CALLER),
        ] {
            ensure!(record.text(field) == Some(&user.to_string()), "{field} is not {user}: {}", record.pretty());
        }
        ensure!(hash(&record) == Some(&program.digest()?), "another hash: {}", record.pretty());
        Ok(())
    })
}

/// The kernel runs the interpreter; the arguments say which script it interprets.
fn script(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::start(&network, BYTES, 0)?;
    let interpreter = Program::new("interprets")?;
    let script = interpreter.path.with_file_name("script");
    let traffic = serde_json::to_string(&sending(listed(&server)?))?;
    fs::write(&script, format!("#!{} generate\n{traffic}\n", interpreter.name()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    watch(rung, |view| {
        // What the interpreter's command line would be without a script is an argument of the script here.
        let running = Launch::inside(&network).start(&Program::at(script.clone()), &Traffic::Wait)?;
        let record = of_process(&view, running.pid())?;
        running.finish()?;
        ensure!(record.executable() == Some(interpreter.name()), "not the interpreter: {}", record.pretty());
        ensure!(hash(&record) == Some(&interpreter.digest()?), "not the interpreter's: {}", record.pretty());
        let arguments = record.texts("/process/args");
        let wanted = [interpreter.name(), "generate", script.to_str().unwrap_or_default()];
        ensure!(arguments.get(..3) == Some(&wanted[..]), "not {wanted:?}: {}", record.pretty());
        Ok(())
    })
}

fn renamed_thread(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::start(&network, BYTES, 0)?;
    let program = Program::new("threads")?;
    let name = "sshd: harmless";
    watch(rung, |view| {
        let traffic = Traffic::TcpFromThread { to: listed(&server)?, send: BYTES, name: name.to_owned() };
        let running = Launch::inside(&network).start(&program, &traffic)?;
        let record = of_process(&view, running.pid())?;
        let pid = u64::from(running.finish()?.pid);
        ensure!(record.text("/process/thread/name") == Some(name), "another thread: {}", record.pretty());
        ensure!(record.number("/process/thread/id") != Some(pid), "the main thread: {}", record.pretty());
        ensure!(record.text("/process/name") == Some("threads"), "another name: {}", record.pretty());
        ensure!(record.executable() == Some(program.name()), "another path: {}", record.pretty());
        Ok(())
    })
}

/// curl ends at once: its file must be told all the same, and its package.
fn packaged(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::http(&network)?;
    let path = installed("curl").context("curl has gone")?;
    watch(rung, |view| {
        let mut command = Command::new(&path);
        command.args(["--silent", "--max-time", "15", &format!("http://{}/", listed(&server)?)]);
        let pid = Launch::inside(&network).run_command(command, "")?.pid;
        let record = of_process(&view, pid)?;
        ensure!(hash(&record) == Some(&digest(&path)?), "another hash: {}", record.pretty());
        if Path::new("/var/lib/dpkg/status").exists() {
            ensure!(record.text("/package/name") == Some("curl"), "another package: {}", record.pretty());
            ensure!(record.text("/package/version").is_some(), "no version: {}", record.pretty());
        }
        Ok(())
    })
}

/// Asks for what only the container's description tells.
const OF_POD: &str = r#"
[[rule]]
id = "of-pod"
title = "A flow of the test's pod"
condition = 'process.namespace == "shop" && process.pod == "web-0" && process.container.image.endsWith("web:1.25")'
"#;

/// A shell in a container starts a client that ends at once. Its file is found in the container although the process has
/// gone, because the shell lives on. What the container is stands in runc's state, which it has from the bundle.
fn runc_container(rung: Rung) -> Result<()> {
    let id = "5b2e7c0d9a8f4e61b3c5d7e9f1a2b4c6d8e0f2a4b6c8d0e2f4a6b8c0d2e4f6a8";
    let network = Network::new()?;
    let server = TcpServer::http(&network)?;
    let folder = tempfile::Builder::new().prefix("egresswatch-test-").tempdir()?;
    let busybox = container_files(folder.path(), &["sh", "wget", "cat"])?;
    let packages = folder.path().join("rootfs/lib/apk/db");
    fs::create_dir_all(&packages)?;
    fs::write(packages.join("installed"), "P:busybox\nV:1.37.0-r12\nA:x86_64\nF:bin\nR:busybox\n")?;
    let client = format!("/bin/wget -q -O - http://{}/ && echo done && exec /bin/cat", listed(&server)?);
    fs::write(folder.path().join("config.json"), bundle(id, &client).to_string())?;
    let digest = digest(&busybox)?;
    let rules = folder.path().join("rules.toml");
    fs::write(&rules, OF_POD)?;
    let settings = format!("[containers]\nwait = \"20s\"\n[policy]\nrules = [{:?}]", rules.display().to_string());
    let monitor = Monitor::start(rung, Settings { rest: &settings, ..Settings::default() })?;
    let view = monitor.view();
    let mut command = Command::new("runc");
    command.arg("run").arg("--bundle").arg(folder.path()).arg(id);
    let running = Launch::inside(&network).start_command(command)?;
    let record = identified(&view, "the container's client", |record| record.text("/container/id") == Some(id));
    // Its standard input ends, and with it the container.
    let finished = running.finish();
    finished?;
    let record = record?;
    ensure!(record.executable() == Some("/bin/busybox"), "another path: {}", record.pretty());
    ensure!(record.texts("/process/args").first() == Some(&"/bin/wget"), "another client: {}", record.pretty());
    ensure!(hash(&record) == Some(&digest), "not {digest}: {}", record.pretty());
    for (field, value) in [("/package/name", "busybox"), ("/package/version", "1.37.0-r12"), ("/package/type", "apk")] {
        ensure!(record.text(field) == Some(value), "{field} is not {value}: {}", record.pretty());
    }
    let told = view.one("what the rule on the pod tells", |record| record.text("/rule/id") == Some("of-pod"))?;
    for record in [&record, &told] {
        for (field, value) in [
            ("/container/name", "web"),
            ("/container/image/name", "registry.example/shop/web"),
            ("/egresswatch/container/described_by", "runc"),
            ("/orchestrator/namespace", "shop"),
            ("/orchestrator/resource/name", "web-0"),
        ] {
            ensure!(record.text(field) == Some(value), "{field} is not {value}: {}", record.pretty());
        }
    }
    monitor.stop().map(drop)
}

/// Makes the root of a container in the bundle at `folder`, with a program of its own that serves as each of `tools`.
pub(crate) fn container_files(folder: &Path, tools: &[&str]) -> Result<PathBuf> {
    let root = folder.join("rootfs");
    for name in ["bin", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(name))?;
    }
    let busybox = root.join("bin/busybox");
    fs::copy("/usr/bin/busybox", &busybox).or_else(|_| fs::copy("/bin/busybox", &busybox))?;
    File::options().append(true).open(&busybox)?.write_all(b"of the container")?;
    for name in tools {
        symlink("busybox", root.join("bin").join(name))?;
    }
    Ok(busybox)
}

/// An OCI bundle's configuration: namespaces of its own, but the network of its caller.
pub(crate) fn bundle(id: &str, script: &str) -> serde_json::Value {
    let namespaces: Vec<_> = ["pid", "mount", "ipc", "uts"].iter().map(|kind| json!({ "type": kind })).collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": false },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "annotations": {
            "io.kubernetes.cri.container-name": "web",
            "io.kubernetes.cri.image-name": "registry.example/shop/web:1.25",
            "io.kubernetes.cri.sandbox-name": "web-0",
            "io.kubernetes.cri.sandbox-namespace": "shop",
        },
        "linux": { "cgroupsPath": format!("/egresswatch-test/{id}"), "namespaces": namespaces },
    })
}
