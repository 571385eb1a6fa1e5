//! Programs under names of their own, started inside a test's network.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd},
        unix::{fs::PermissionsExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::{Gid, Pid, Uid, setgid, setgroups, setuid},
};
use sha2::Digest as _;
use tempfile::TempDir;

use super::{Cgroup, Facts, Network, Traffic, generate::generator, is_emulated};

/// A copy of the test binary under a name that no other test uses.
pub(crate) struct Program {
    /// Its path, without symbolic links.
    pub(crate) path: PathBuf,
    _folder: Option<TempDir>,
}

impl Program {
    /// Copies the test binary to a folder of its own.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("egresswatch-test-").tempdir().context("cannot make a folder")?;
        // Other users execute it too.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let path = folder.path().canonicalize()?.join(name);
        copy_generator(&path)?;
        Ok(Self { path, _folder: Some(folder) })
    }

    /// A copy that is there already.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, _folder: None }
    }

    /// SHA-256 of the file that is now under its path, in hexadecimal digits.
    pub(crate) fn digest(&self) -> Result<String> {
        digest(&self.path)
    }

    /// The path as records have it.
    pub(crate) fn name(&self) -> &str {
        self.path.to_str().unwrap_or_default()
    }
}

/// Copies the test binary to `path`, with the path at its end, so that each copy has a content of its own.
pub(crate) fn copy_generator(path: &Path) -> Result<()> {
    fs::copy("/proc/self/exe", path).context("cannot copy the test binary")?;
    let mut file = fs::File::options().append(true).open(path)?;
    file.write_all(path.as_os_str().as_encoded_bytes()).context("cannot mark the copy")
}

/// SHA-256 of a file, in hexadecimal digits.
pub(crate) fn digest(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!("{:x}", sha2::Sha256::digest(bytes)))
}

/// How a program is started.
pub(crate) struct Launch<'a> {
    network: &'a Network,
    /// File and path of a bind mount.
    bind: Option<(&'a Path, &'a Path)>,
    user: Option<u32>,
    cgroup: Option<&'a Cgroup>,
}

/// A program that has made its traffic and lives on until it is told to end.
pub(crate) struct Finished {
    /// Its process id.
    pub(crate) pid: u32,
    /// What it told.
    pub(crate) facts: Facts,
}

/// A started program that still lives.
pub(crate) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    facts: Facts,
}

impl<'a> Launch<'a> {
    /// As root, in the cgroup of the tests, inside `network`.
    pub(crate) fn inside(network: &'a Network) -> Self {
        Self { network, bind: None, user: None, cgroup: None }
    }

    /// In a mount namespace of its own, in which `file` is what `path` leads to.
    pub(crate) fn binding(self, file: &'a Path, path: &'a Path) -> Self {
        Self { bind: Some((file, path)), ..self }
    }

    /// As another user, by number.
    pub(crate) fn user(self, user: u32) -> Self {
        Self { user: Some(user), ..self }
    }

    /// In a cgroup.
    pub(crate) fn cgroup(self, cgroup: &'a Cgroup) -> Self {
        Self { cgroup: Some(cgroup), ..self }
    }

    /// Lets `program` make `traffic` and waits for its end.
    pub(crate) fn run(&self, program: &Program, traffic: &Traffic) -> Result<Finished> {
        self.start(program, traffic)?.finish()
    }

    /// Lets `program` make `traffic` and waits until it has done so, or has ended.
    pub(crate) fn start(&self, program: &Program, traffic: &Traffic) -> Result<Running> {
        let mut running = Running::new(self.prepare(generator(&program.path, traffic)?).stdout(Stdio::piped()))?;
        let output = running.child.stdout.take().context("the generator has no output")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let (mut output, mut line) = (BufReader::new(output), String::new());
            let read = output.read_line(&mut line);
            // The test may have given up.
            let _ = sender.send(read.map(|_| line));
            // What it says later must find a reader.
            let _ = io::copy(&mut output, &mut io::sink());
        });
        let line = receiver.recv_timeout(deadline()).context("the generator hangs")??;
        if !line.is_empty() {
            running.facts = serde_json::from_str(&line).with_context(|| format!("the generator said {line}"))?;
        }
        Ok(running)
    }

    /// Starts a program of this machine, which ends when its standard input does.
    pub(crate) fn start_command(&self, command: Command) -> Result<Running> {
        Running::new(self.prepare(command).stdout(Stdio::null()))
    }

    /// Runs a program of this machine to its end; `input` is its standard input.
    pub(crate) fn run_command(&self, command: Command, input: &str) -> Result<Finished> {
        let mut running = Running::new(self.prepare(command).stdout(Stdio::null()))?;
        if let Some(pipe) = &mut running.input {
            pipe.write_all(input.as_bytes())?;
        }
        running.finish()
    }

    /// Starts a program of this machine that runs until it is killed.
    pub(crate) fn spawn(&self, command: Command) -> Result<Child> {
        let mut command = self.prepare(command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))
    }

    fn prepare(&self, mut command: Command) -> Command {
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let namespace = self.network.as_fd().as_raw_fd();
        let cgroup = self.cgroup.map(|cgroup| cgroup.processes().as_raw_fd());
        let user = self.user;
        let bind = self.bind.map(|(file, path)| (file.to_owned(), path.to_owned()));
        let enter = move || {
            // SAFETY: the parent keeps the descriptor open until the child runs its program.
            let namespace = unsafe { BorrowedFd::borrow_raw(namespace) };
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            if let Some((file, path)) = &bind {
                unshare(CloneFlags::CLONE_NEWNS)?;
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
                mount(Some(file), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            }
            if let Some(cgroup) = cgroup {
                // SAFETY: as above.
                let cgroup = unsafe { BorrowedFd::borrow_raw(cgroup) };
                nix::unistd::write(cgroup, b"0")?;
            }
            if let Some(user) = user {
                setgroups(&[])?;
                setgid(Gid::from_raw(user))?;
                setuid(Uid::from_raw(user))?;
            }
            Ok(())
        };
        // SAFETY: only system calls, as a child of a process with threads may.
        unsafe { command.pre_exec(enter) };
        command
    }
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn new(command: &mut Command) -> Result<Self> {
        let mut child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let input = child.stdin.take();
        Ok(Self { child, input, facts: Facts::default() })
    }

    /// Tells it to go on.
    pub(crate) fn cue(&mut self) -> Result<()> {
        self.input.as_mut().context("the generator has no input")?.write_all(b"\n").context("the generator has ended")
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn finish(mut self) -> Result<Finished> {
        drop(self.input.take());
        let pid = self.child.id();
        let killer = Watchdog::start(pid);
        let status = self.child.wait()?;
        drop(killer);
        let mut complaint = String::new();
        if let Some(mut output) = self.child.stderr.take() {
            // What cannot be read is not worth more than the exit code.
            let _ = output.read_to_string(&mut complaint);
        }
        ensure!(status.success(), "process {pid} ended with {status}: {complaint}");
        Ok(Finished { pid, facts: std::mem::take(&mut self.facts) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends a process that does not end by itself.
struct Watchdog(Option<mpsc::Sender<()>>);

impl Watchdog {
    fn start(pid: u32) -> Self {
        let (sender, receiver) = mpsc::channel::<()>();
        thread::spawn(move || {
            if receiver.recv_timeout(deadline()) == Err(mpsc::RecvTimeoutError::Timeout) {
                // The process has not been waited for, so the id is still its own.
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
        });
        Self(Some(sender))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// How long a program may take.
fn deadline() -> Duration {
    Duration::from_secs(if is_emulated() { 240 } else { 90 })
}

/// The installed program `name`, without symbolic links; `None` if this machine has none.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find_map(|path| path.canonicalize().ok())
        .filter(|path| path.file_name().is_some_and(|name| name != "busybox"))
}
