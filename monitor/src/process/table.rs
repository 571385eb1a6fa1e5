//! The process table.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Ancestor, Config, Executable, HostFacts, Roots, SetupError,
    accounts::Accounts,
    cgroup::Cgroups,
    image::{Image, Running},
    lineage::Lineage,
    proc::{Miss, ProcFs, Snapshot},
};
use crate::{
    bounded::BoundedMap,
    event::{BootTime, CgroupCreated, Exec, FileId, Fork, ProcessKey},
};

mod resolve;
mod retention;
#[cfg(test)]
mod tests;

use resolve::Resolved;

/// Least time between two looks at files that may have changed, and between two walks through the cgroups.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Most ancestors read from `/proc` for one process: more than are told, because they are kept for others too.
const READ_DEPTH: usize = 64;

/// The processes of the host: those that run, and those that ended lately.
///
/// The kernel's events are the source; `/proc` is read at the start, and later only for what they do not explain. The
/// events need not be complete: a lost one costs quality, which is said, and never gives one process's path to another.
#[derive(Debug)]
pub struct Table {
    host: HostFacts,
    proc: ProcFs,
    proc_root: PathBuf,
    processes: HashMap<ProcessKey, Entry>,
    /// The last process seen with each pid; it may have ended.
    by_pid: HashMap<u32, ProcessKey>,
    running: usize,
    running_limit: usize,
    /// Ended processes, the one that ended first in front, with the number of that end.
    ended: VecDeque<(ProcessKey, u64)>,
    ended_limit: usize,
    ends: u64,
    swept: Option<Instant>,
    files: BoundedMap<FileId, Executable>,
    cgroups: Cgroups,
    accounts: Accounts,
    counters: TableCounters,
}

/// What the table holds, and what it could not hold or tell. All but the first four only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounters {
    /// Running processes held.
    pub running: u64,
    /// Ended processes held.
    pub ended: u64,
    /// Cgroups held.
    pub cgroups: u64,
    /// Executed files held.
    pub files: u64,
    /// Ended processes given up for newer ones.
    pub evicted: u64,
    /// Processes not held because too many run.
    pub not_recorded: u64,
    /// Processes read from `/proc`.
    pub proc_reads: u64,
    /// Reads of `/proc` that found the process gone.
    pub proc_gone: u64,
    /// Reads of `/proc` that found another process under the pid.
    pub proc_reused: u64,
    /// Look-ups that found a process running another file than the table had: its exec was lost, or is still to come.
    pub stale_programs: u64,
    /// Descriptions whose path is that of another process with the same file.
    pub same_file: u64,
    /// Descriptions without an executable.
    pub unknown_executables: u64,
    /// Look-ups of a cgroup that was not known yet.
    pub cgroup_misses: u64,
    /// Walks through the tree of cgroups.
    pub cgroup_walks: u64,
    /// Cgroups given up for newer ones.
    pub cgroups_evicted: u64,
    /// Executed files given up for newer ones.
    pub files_evicted: u64,
}

/// A process in the table.
#[derive(Debug)]
struct Entry {
    /// What it runs; `None` where neither an event nor `/proc` told.
    program: Option<Running>,
    /// What it ran before: a report may be older than the exec that was learnt before it.
    earlier_program: Option<Running>,
    /// Its ancestors.
    lineage: Option<Arc<Lineage>>,
    /// The lineage of its children, with itself in front, as long as it runs the same program.
    children_lineage: Option<Arc<Lineage>>,
    /// The start was taken from the time of an event, because the kernel side could not read it: it may be a tick late.
    start_estimated: bool,
    /// Number of its end.
    ended: Option<u64>,
    resolved: Option<Resolved>,
}

impl Entry {
    fn new(program: Option<Running>, lineage: Option<Arc<Lineage>>, start_estimated: bool) -> Self {
        Self {
            program,
            earlier_program: None,
            lineage,
            children_lineage: None,
            start_estimated,
            ended: None,
            resolved: None,
        }
    }

    fn replace_program(&mut self, program: Running) {
        self.earlier_program = self.program.replace(program);
        self.children_lineage = None;
        self.resolved = None;
    }
}

/// A process as a child or a look-up needs it, whether or not there was room to keep it.
struct Adopted {
    key: ProcessKey,
    program: Running,
    lineage: Option<Arc<Lineage>>,
}

impl Table {
    /// An empty table; [`Table::seed`] fills it with what runs already.
    #[must_use]
    pub fn new(roots: Roots, host: HostFacts, config: &Config) -> Self {
        Self {
            host,
            proc: ProcFs::new(roots.proc.clone()),
            proc_root: roots.proc,
            processes: HashMap::new(),
            by_pid: HashMap::new(),
            running: 0,
            running_limit: config.running_processes,
            ended: VecDeque::new(),
            ended_limit: config.ended_processes,
            ends: 0,
            swept: None,
            files: BoundedMap::new(config.executed_files),
            cgroups: Cgroups::new(roots.cgroup, config.cgroups, RECHECK_INTERVAL),
            accounts: Accounts::new(roots.passwd, roots.group, RECHECK_INTERVAL),
            counters: TableCounters::default(),
        }
    }

    /// Reads the processes that run, and the cgroups. To be called once the kernel's events are being collected, so
    /// that nothing falls in between, and again whenever some of them were lost. Returns how many processes run.
    pub fn seed(&mut self) -> Result<usize, SetupError> {
        self.cgroups.walk(Instant::now());
        let pids = self.proc.pids().map_err(|source| SetupError::List { path: self.proc_root.clone(), source })?;
        self.retire_gone();
        for pid in pids {
            if self.running_with_pid(pid).is_none() {
                self.adopt(pid, None);
            }
        }
        Ok(self.running)
    }

    /// A process replaced its program.
    pub fn exec(&mut self, exec: &Exec) {
        let given = exec.identity.process;
        let held = if given.start_ticks == 0 { self.running_with_pid(given.pid) } else { Some(given) };
        let (key, start_estimated) = held.map_or_else(|| stamped(given, exec.at), |key| (key, false));
        let mut image = Image::from_exec(exec);
        if image.executable.is_none()
            && let Some(snapshot) = self.read_proc(key.pid, (given.start_ticks != 0).then_some(given.start_ticks))
        {
            // Without the kernel's layout there is no path in the event, but the process may still be there to ask.
            image = Image::from_snapshot(snapshot, exec.identity.executable);
        }
        self.remember_file(&image);
        let program = Running::own(image);
        if self.processes.contains_key(&key) {
            self.revive(key);
            if let Some(entry) = self.processes.get_mut(&key) {
                entry.replace_program(program);
            }
            return;
        }
        let parent = exec.parent_pid.filter(|pid| *pid != key.pid);
        let lineage = parent.and_then(|pid| match self.running_with_pid(pid) {
            Some(parent) => self.children_lineage(parent),
            None => self.adopt(pid, None).and_then(|parent| self.lineage_below(&parent)),
        });
        self.insert(key, Entry::new(Some(program), lineage, start_estimated));
    }

    /// A process made another one, which runs the same program until it replaces it.
    pub fn fork(&mut self, fork: &Fork) {
        let (child, start_estimated) = stamped(fork.child, fork.at);
        let (program, lineage) = if let Some(parent) = self.held(fork.parent) {
            let program = self.processes.get(&parent).and_then(|entry| entry.program.as_ref());
            (program.map(Running::inherit), self.children_lineage(parent))
        } else {
            let start_ticks = (fork.parent.start_ticks != 0).then_some(fork.parent.start_ticks);
            let parent = self.adopt(fork.parent.pid, start_ticks);
            let lineage = parent.as_ref().and_then(|parent| self.lineage_below(parent));
            (parent.map(|parent| parent.program.inherit()), lineage)
        };
        match self.processes.get_mut(&child) {
            // It was read from `/proc` before this event came, and may already run something else.
            Some(entry) => {
                entry.program = entry.program.take().or(program);
                entry.lineage = entry.lineage.take().or(lineage);
                entry.resolved = None;
            }
            None => self.insert(child, Entry::new(program, lineage, start_estimated)),
        }
    }

    /// A process ended. It is kept for a while, because reports of its flows may still come.
    pub fn exit(&mut self, process: ProcessKey, at: BootTime) {
        let key = if process.start_ticks == 0 {
            // An event about an earlier process with this pid must not end the one that has it now.
            self.running_with_pid(process.pid).filter(|key| key.start_ticks <= ticks(at))
        } else {
            Some(process)
        };
        if let Some(key) = key {
            self.retire(key);
        }
    }

    /// A cgroup was made.
    pub fn cgroup_created(&mut self, created: &CgroupCreated) {
        self.cgroups.created(created);
    }

    /// Sizes and losses so far.
    #[must_use]
    pub fn counters(&self) -> TableCounters {
        TableCounters {
            running: self.running as u64,
            ended: (self.processes.len() - self.running) as u64,
            cgroups: self.cgroups.len() as u64,
            files: self.files.len() as u64,
            cgroup_misses: self.cgroups.misses(),
            cgroup_walks: self.cgroups.walks(),
            cgroups_evicted: self.cgroups.evicted(),
            files_evicted: self.files.evicted(),
            ..self.counters
        }
    }

    /// How full the table is: name, entries, capacity.
    #[must_use]
    pub fn occupancy(&self) -> [(&'static str, usize, usize); 2] {
        [
            ("running_processes", self.running, self.running_limit),
            ("ended_processes", self.processes.len() - self.running, self.ended_limit),
        ]
    }

    /// Takes a process, and those of its ancestors that are not held, from `/proc`.
    fn adopt(&mut self, pid: u32, start_ticks: Option<u64>) -> Option<Adopted> {
        let mut chain: Vec<(ProcessKey, Snapshot)> = Vec::new();
        let mut lineage = None;
        let (mut next, mut expected) = (pid, start_ticks);
        while let Some(snapshot) = self.read_proc(next, expected) {
            let key = ProcessKey { pid: next, start_ticks: snapshot.stat.start_ticks };
            let parent = snapshot.stat.parent_pid;
            chain.push((key, snapshot));
            let cyclic = chain.iter().any(|(seen, _)| seen.pid == parent);
            if parent == 0 || cyclic || chain.len() == READ_DEPTH {
                break;
            }
            if let Some(parent) = self.running_with_pid(parent) {
                // A parent that started later is another process: the pid was reused in between.
                lineage = if parent.start_ticks <= key.start_ticks { self.children_lineage(parent) } else { None };
                break;
            }
            (next, expected) = (parent, None);
        }
        let mut adopted = None;
        for (key, snapshot) in chain.into_iter().rev() {
            let image = Image::from_snapshot(snapshot, None);
            self.remember_file(&image);
            let program = Running::own(image);
            if let Some(entry) = self.processes.get_mut(&key) {
                entry.replace_program(program.clone());
                entry.lineage = entry.lineage.take().or(lineage.take());
                self.revive(key);
            } else {
                self.insert(key, Entry::new(Some(program.clone()), lineage.clone(), false));
            }
            let next = Adopted { key, program, lineage };
            lineage = self.lineage_below(&next);
            adopted = Some(next);
        }
        adopted
    }

    fn read_proc(&mut self, pid: u32, start_ticks: Option<u64>) -> Option<Snapshot> {
        match self.proc.read(pid, start_ticks) {
            Ok(snapshot) => {
                self.counters.proc_reads += 1;
                return Some(snapshot);
            }
            Err(Miss::Gone) => self.counters.proc_gone += 1,
            Err(Miss::Reused) => self.counters.proc_reused += 1,
        }
        None
    }

    /// The lineage of the children of an adopted process, which may not have found room in the table.
    fn lineage_below(&mut self, process: &Adopted) -> Option<Arc<Lineage>> {
        if self.processes.contains_key(&process.key) {
            return self.children_lineage(process.key);
        }
        Some(Lineage::new(self.ancestor(process.key, &process.program.image), process.lineage.clone()))
    }

    /// The lineage of the children of a process; `None` if nothing is known of it but its pid.
    fn children_lineage(&mut self, key: ProcessKey) -> Option<Arc<Lineage>> {
        let entry = self.processes.get(&key)?;
        if let Some(lineage) = &entry.children_lineage {
            return Some(Arc::clone(lineage));
        }
        let ancestor = self.ancestor(key, &entry.program.as_ref()?.image);
        let lineage = Lineage::new(ancestor, entry.lineage.clone());
        self.processes.get_mut(&key)?.children_lineage = Some(Arc::clone(&lineage));
        Some(lineage)
    }

    fn ancestor(&self, key: ProcessKey, image: &Image) -> Ancestor {
        Ancestor {
            key,
            entity_id: self.host.entity_id(key),
            name: image.name(),
            executable: image.executable.as_ref().map(|executable| executable.path.clone()),
        }
    }

    /// Keeps the executable under its file, for processes whose exec is missed.
    fn remember_file(&mut self, image: &Image) {
        let Some(executable) = &image.executable else { return };
        let Some(file) = executable.file else { return };
        if self.files.get(&file).is_none_or(|known| known.path != executable.path) {
            self.files.insert(file, executable.clone());
        }
    }
}

/// The key of a new process. Where the kernel side could not read the start, the time of the event, which is raised
/// within microseconds of it, stands in, so that the processes of a reused pid stay apart; `true` says so.
const fn stamped(key: ProcessKey, at: BootTime) -> (ProcessKey, bool) {
    if key.start_ticks == 0 { (ProcessKey::from_start_ns(key.pid, at.0), true) } else { (key, false) }
}

const fn ticks(at: BootTime) -> u64 {
    ProcessKey::from_start_ns(0, at.0).start_ticks
}
