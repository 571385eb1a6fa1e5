//! Real files and real processes: the test binary's own children.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use nix::sys::stat::{major, minor};

use super::*;
use crate::{
    event::FileId,
    process::{self, Account, Ancestor, Executable, Matching, PathQuality},
};

/// A program that waits until its standard input ends.
const WAITS: &str = "/bin/cat";

/// The stage with its thread.
struct Bench {
    executables: Option<Executables>,
    told: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Bench {
    fn new(config: &Config) -> Self {
        let (executables, reader) = Executables::new(config, "/proc".into());
        let (sender, told) = mpsc::channel();
        let tell = move || {
            // The receiver may have gone first.
            let _ = sender.send(());
        };
        let thread = thread::spawn(move || reader.run(tell));
        Self { executables: Some(executables), told, thread: Some(thread) }
    }

    fn identify(&mut self, process: &Process) -> Arc<FileFacts> {
        let facts = self.executables.as_mut().expect("not dropped").identify(process, now_ns());
        while !facts.is_settled() {
            self.told.recv_timeout(Duration::from_secs(20)).expect("the file is read");
        }
        facts
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.executables = None;
        self.thread.take().map(JoinHandle::join).expect("a thread").expect("no panic");
    }
}

/// A child that is ended with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a child");
        // `spawn` returns once the program runs.
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn now_ns() -> i128 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    i128::try_from(since_epoch.as_nanos()).expect("before the year 2500")
}

fn file_id(path: &Path) -> FileId {
    let metadata = fs::metadata(path).expect("a file");
    let device = metadata.dev();
    FileId { device: ((major(device) as u32) << 20) | minor(device) as u32, inode: metadata.ino() }
}

/// A process as the kernel side tells it.
fn process(pid: u32, path: &Path, file: FileId) -> Process {
    let start_ticks = process::start_ticks(Path::new("/proc"), pid).unwrap_or(1);
    let own = std::process::id();
    let own_key = ProcessKey { pid: own, start_ticks: 1 };
    let parent = Ancestor { key: own_key, entity_id: String::new(), name: String::new(), executable: None };
    Process {
        key: ProcessKey { pid, start_ticks },
        entity_id: String::new(),
        matching: Matching::Start,
        thread_id: pid,
        name: String::new(),
        comm: String::new(),
        executable: Some(Executable {
            path: path.to_owned(),
            quality: PathQuality::Exec,
            unlinked: false,
            truncated: false,
            file: Some(file),
        }),
        arguments: Vec::new(),
        arguments_truncated: false,
        ancestors: vec![parent],
        user: Account { id: 0, name: None },
        effective_user: None,
        group: Account { id: 0, name: None },
        cgroup: None,
        unit: None,
        container: None,
        start_wall_ns: None,
        is_own: false,
    }
}

/// What `sha256sum` says, so that the digest is not compared with itself.
fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().expect("sha256sum");
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned()
}

/// A copy of a program with `extra` bytes at its end, which make it another file.
fn program(folder: &Path, name: &str, extra: &[u8]) -> PathBuf {
    let path = folder.canonicalize().expect("a folder").join(name);
    fs::copy(WAITS, &path).expect("a copy");
    File::options().append(true).open(&path).and_then(|mut file| file.write_all(extra)).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

/// Waits until the clock that stamps files has moved past `path`'s change.
fn let_age(path: &Path) {
    let metadata = fs::metadata(path).expect("a file");
    let changed = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
    while now_ns() < changed + 20_000_000 {
        thread::yield_now();
    }
}

#[test]
fn a_file_is_hashed_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = program(folder.path(), "one", b"1");
    let running = Running::start(&mut Command::new(&path));
    let facts = Bench::new(&Config::default()).identify(&process(running.0.id(), &path, file_id(&path)));
    assert_eq!(facts.hash().expect("a digest").to_string(), sha256sum(&path));
    assert_ne!(facts.package().err(), None);
}

#[test]
fn a_replaced_and_a_deleted_file_are_the_ones_that_run() {
    let folder = tempfile::tempdir().expect("a folder");
    for replaced in [true, false] {
        let path = program(folder.path(), "changing", b"before");
        let (file, digest) = (file_id(&path), sha256sum(&path));
        let running = Running::start(&mut Command::new(&path));
        if replaced {
            let other = program(folder.path(), "other", b"after");
            fs::rename(other, &path).expect("replaced");
        } else {
            fs::remove_file(&path).expect("removed");
        }
        let facts = Bench::new(&Config::default()).identify(&process(running.0.id(), &path, file));
        assert_eq!(facts.hash().map(|hash| hash.to_string()), Ok(digest), "replaced: {replaced}");
    }
}

#[test]
fn a_file_outlives_its_process_only_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = program(folder.path(), "short", b"lived");
    let digest = sha256sum(&path);
    let_age(&path);
    let mut running = Running::start(&mut Command::new(&path));
    let process = process(running.0.id(), &path, file_id(&path));
    running.0.kill().and_then(|()| running.0.wait()).expect("ended");
    let mut bench = Bench::new(&Config::default());
    assert_eq!(bench.identify(&process).hash().map(|hash| hash.to_string()), Ok(digest));

    // The same inode with another content, which only the change time tells.
    let seen_ns = now_ns();
    fs::OpenOptions::new().append(true).open(&path).and_then(|mut file| file.write_all(b"!")).expect("written");
    let mut fresh = Bench::new(&Config::default());
    let executables = fresh.executables.as_mut().expect("not dropped");
    assert_eq!(executables.identify(&process, seen_ns).hash(), Err(Gap::FileChanged));

    // Another file under the same path.
    fs::remove_file(&path).expect("removed");
    File::create(folder.path().join("takes the free inode")).expect("created");
    program(folder.path(), "short", b"other");
    let mut fresh = Bench::new(&Config::default());
    let gap = fresh.identify(&process).hash().expect_err("no proof");
    assert!(matches!(gap, Gap::ProcessGone | Gap::FileChanged), "{gap:?}");
}

#[test]
fn another_process_with_the_same_pid_is_not_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, other) = (program(folder.path(), "a", b"a"), program(folder.path(), "b", b"b"));
    let running = Running::start(&mut Command::new(&other));
    // The pid was the one of a process that ran `path`, which is gone.
    let mut earlier = process(running.0.id(), &path, file_id(&path));
    earlier.key.start_ticks -= 1;
    fs::remove_file(&path).expect("removed");
    let facts = Bench::new(&Config::default()).identify(&earlier);
    assert_eq!(facts.hash(), Err(Gap::ProcessGone));
    // The right start, but its program was another one when it was seen.
    earlier.key.start_ticks += 1;
    let facts = Bench::new(&Config::default()).identify(&earlier);
    assert_eq!(facts.hash(), Err(Gap::ProcessGone));
}

#[test]
fn what_is_known_of_a_file_is_read_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = program(folder.path(), "twice", b"");
    let (first, second) = (Running::start(&mut Command::new(&path)), Running::start(&mut Command::new(&path)));
    let mut bench = Bench::new(&Config::default());
    let facts = bench.identify(&process(first.0.id(), &path, file_id(&path)));
    let again = bench.identify(&process(second.0.id(), &path, file_id(&path)));
    assert!(Arc::ptr_eq(&facts, &again));
}

#[test]
fn what_is_not_read_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = program(folder.path(), "large", b"");
    let running = Running::start(&mut Command::new(&path));
    let process = process(running.0.id(), &path, file_id(&path));
    let small = Config { max_size: ByteSize::from_bytes(1_000), ..Config::default() };
    assert_eq!(Bench::new(&small).identify(&process).hash(), Err(Gap::TooLarge));
    let off = Config { enabled: false, ..Config::default() };
    assert_eq!(Bench::new(&off).identify(&process).hash(), Err(Gap::Disabled));
    let unknown = Process { executable: None, ..process.clone() };
    assert_eq!(Bench::new(&Config::default()).identify(&unknown).hash(), Err(Gap::FileUnknown));

    // Nobody reads: the queue fills, and the file is tried again later.
    let (mut executables, reader) = Executables::new(&Config::default(), "/proc".into());
    let mut busy = 0;
    for start in 0..=QUEUE as u64 {
        let path = program(folder.path(), "next", &start.to_le_bytes());
        let running = Running::start(&mut Command::new(&path));
        let facts = executables.identify(&super::tests::process(running.0.id(), &path, file_id(&path)), now_ns());
        busy += u32::from(facts.hash() == Err(Gap::Busy));
        fs::remove_file(&path).expect("removed");
    }
    assert_eq!(busy, 1);
    drop((executables, reader));
}

#[test]
fn a_program_of_this_system_has_its_package() {
    let path = Path::new(WAITS).canonicalize().expect("a program");
    if !Path::new("/var/lib/dpkg/status").exists() {
        eprintln!("skipped: this system is not managed by dpkg");
        return;
    }
    let running = Running::start(Command::new(&path).arg0("renamed"));
    let facts = Bench::new(&Config::default()).identify(&process(running.0.id(), &path, file_id(&path)));
    let package = facts.package().expect("a package");
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version} ${Architecture}", &package.name]).output();
    let expected = String::from_utf8(output.expect("dpkg-query").stdout).expect("text");
    let found = [&package.version, &package.architecture].map(|text| text.clone().unwrap_or_default()).join(" ");
    assert_eq!((package.kind, found), ("dpkg", expected));
    assert_eq!(facts.hash().map(|hash| hash.to_string()), Ok(sha256sum(&path)));
}
