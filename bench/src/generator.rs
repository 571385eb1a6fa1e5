//! Starts the load and the servers: this program again, inside a namespace and a cgroup.

use std::{
    env, fs,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    load::{Done, Load},
    network::{Network, Side},
};

/// The program that makes the load: this one.
pub(crate) const LOAD_PROGRAM: &str = "egresswatch-bench";

/// Where loads are made and served.
#[derive(Debug)]
pub(crate) struct Ground {
    network: Network,
    cgroup: Cgroup,
    _servers: [Running; 2],
}

impl Ground {
    /// The two namespaces, with a server in each, and the cgroup of the load.
    pub(crate) fn new() -> Result<Self> {
        let network = Network::new()?;
        let cgroup = Cgroup::new()?;
        let serve = |side| {
            let mut server = Running::start(&network, side, None, &["serve"])?;
            server.line().context("the server did not start")?;
            Ok::<_, anyhow::Error>(server)
        };
        let servers = [serve(Side::Client)?, serve(Side::Server)?];
        Ok(Self { network, cgroup, _servers: servers })
    }

    /// The cgroup that holds the load and nothing else.
    pub(crate) fn cgroup(&self) -> &Path {
        &self.cgroup.0
    }

    /// Lets the process that `command` will start live where loads are made.
    pub(crate) fn enter(&self, command: &mut Command) {
        self.network.enter(Side::Client, command);
    }

    /// Makes a load to its end.
    pub(crate) fn run(&self, load: &Load) -> Result<Done> {
        let (done, running) = self.hold(load)?;
        running.finish()?;
        Ok(done)
    }

    /// Makes a load; its sockets stay open until the process returned is dropped.
    pub(crate) fn hold(&self, load: &Load) -> Result<(Done, Running)> {
        let argument = serde_json::to_string(load)?;
        let mut running = Running::start(&self.network, Side::Client, Some(&self.cgroup.0), &["load", &argument])?;
        let line = running.line()?;
        let done: Done = serde_json::from_str(&line).with_context(|| format!("the load said {line:?}"))?;
        ensure!(done.operations > 0, "the load did nothing: {done:?}");
        Ok((done, running))
    }
}

/// This program, running again. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(network: &Network, side: Side, cgroup: Option<&Path>, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(env::current_exe().context("cannot tell where this program is")?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        network.enter(side, &mut command);
        if let Some(cgroup) = cgroup {
            let mut processes = File::options().write(true).open(cgroup.join("cgroup.procs"))?;
            let enter = move || processes.write_all(b"0");
            // SAFETY: only a system call, as a child of a process with threads may.
            unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, enter) };
        }
        let mut child = command.spawn().context("cannot start this program again")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, input, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the process ended without a word");
        Ok(line)
    }

    /// Lets it end, and waits until it has.
    pub(crate) fn finish(mut self) -> Result<()> {
        drop(self.input.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the load ended with {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cgroup of the unified hierarchy, removed at the end.
#[derive(Debug)]
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = mounts
            .lines()
            .map(|line| line.split_whitespace().skip(1))
            .find_map(|mut fields| fields.next().filter(|_| fields.next() == Some("cgroup2")))
            .context("no cgroup v2 hierarchy is mounted")?;
        let path = Path::new(root).join(format!("egresswatch-bench-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that was killed may take a moment to leave; then the empty folder stays.
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
