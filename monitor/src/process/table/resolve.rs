//! From the identity that the kernel attached to a flow to a process.

use std::{sync::Arc, time::Instant};

use super::{
    super::{
        Executable, Matching, PathQuality, Process,
        image::{Image, Running, file_name},
        lineage::Lineage,
    },
    Adopted, Table,
};
use crate::event::{FileId, Identity, ProcessKey};

/// The last answer for a process, and what it holds for. A process's flows mostly come from the same thread, so the
/// next one costs a look-up and a comparison.
#[derive(Debug)]
pub(super) struct Resolved {
    process: Arc<Process>,
    file: Option<FileId>,
    cgroup_id: u64,
    accounts_generation: u64,
}

/// What is known of the process behind an identity.
struct Known {
    key: ProcessKey,
    matching: Matching,
    program: Option<Running>,
    lineage: Option<Arc<Lineage>>,
}

impl Table {
    /// The process behind an identity, as it was when it acted. What is not known is said to be unknown; another
    /// process's, or an earlier program's, path is never given for it.
    pub fn resolve(&mut self, identity: &Identity) -> Arc<Process> {
        let now = Instant::now();
        self.accounts.refresh(now);
        let held = self.held_for(identity.process);
        if let Some(process) = held.and_then(|key| self.resolved_before(key, identity, now)) {
            return process;
        }
        let known = self.look_up(held, identity);
        let key = known.key;
        let process = Arc::new(self.describe(known, identity, now));
        if let Some(entry) = self.processes.get_mut(&key) {
            entry.resolved = Some(Resolved {
                process: Arc::clone(&process),
                file: identity.executable,
                cgroup_id: identity.cgroup_id,
                accounts_generation: self.accounts.generation(),
            });
        }
        process
    }

    /// The held process that an identity means. By pid alone, one that has ended is only meant as long as no other
    /// process has the pid.
    fn held_for(&self, process: ProcessKey) -> Option<ProcessKey> {
        let key = self.held(process)?;
        let by_pid_alone = process.start_ticks == 0 && self.running_with_pid(key.pid).is_none();
        let reused = by_pid_alone && self.proc.stat(key.pid).is_some_and(|stat| stat.start_ticks > key.start_ticks + 1);
        (!reused).then_some(key)
    }

    fn resolved_before(&self, key: ProcessKey, identity: &Identity, now: Instant) -> Option<Arc<Process>> {
        let resolved = self.processes.get(&key)?.resolved.as_ref()?;
        let process = &resolved.process;
        let same = process.thread_id == identity.thread_id
            && process.user.id == identity.user_id
            && process.effective_user.as_ref().map(|user| user.id) == identity.effective_user_id
            && process.group.id == identity.group_id
            && process.comm == identity.comm
            && resolved.file == identity.executable
            && resolved.cgroup_id == identity.cgroup_id
            && resolved.accounts_generation == self.accounts.generation();
        let complete = process.cgroup.is_some() || identity.cgroup_id == 0 || !self.cgroups.may_walk(now);
        (same && complete).then(|| Arc::clone(process))
    }

    fn look_up(&mut self, held: Option<ProcessKey>, identity: &Identity) -> Known {
        let start_ticks = identity.process.start_ticks;
        let matching = if start_ticks == 0 { Matching::PidOnly } else { Matching::Start };
        let key = match held {
            Some(key) => key,
            None => match self.adopt(identity.process.pid, (start_ticks != 0).then_some(start_ticks)) {
                Some(Adopted { key, program, lineage }) if !self.processes.contains_key(&key) => {
                    let program = Some(program).filter(|program| program.image.runs(identity.executable));
                    return Known { key, matching, program, lineage };
                }
                Some(adopted) => adopted.key,
                None => {
                    return Known { key: identity.process, matching: Matching::Unknown, program: None, lineage: None };
                }
            },
        };
        let program = self.program_of(key, identity.executable);
        let lineage = self.processes.get(&key).and_then(|entry| entry.lineage.clone());
        Known { key, matching, program, lineage }
    }

    /// The program with which a held process runs, or lately ran, `file`.
    fn program_of(&mut self, key: ProcessKey, file: Option<FileId>) -> Option<Running> {
        let entry = self.processes.get(&key)?;
        let fits = |program: &&Running| program.image.runs(file);
        let program = entry.program.as_ref().filter(fits).or_else(|| entry.earlier_program.as_ref().filter(fits));
        if let Some(program) = program {
            return Some(program.clone());
        }
        if entry.program.as_ref().is_some_and(|program| program.image.executable.is_some()) {
            self.counters.stale_programs += 1;
        }
        let (has_ended, start_ticks) = (entry.ended.is_some(), (!entry.start_estimated).then_some(key.start_ticks));
        if has_ended {
            return None;
        }
        let snapshot = self.read_proc(key.pid, start_ticks).filter(|snapshot| snapshot.runs(file))?;
        let image = Image::from_snapshot(snapshot, file);
        self.remember_file(&image);
        let program = Running::own(image);
        self.processes.get_mut(&key)?.replace_program(program.clone());
        Some(program)
    }

    fn describe(&mut self, known: Known, identity: &Identity, now: Instant) -> Process {
        let Known { key, matching, program, lineage } = known;
        let executable = program.as_ref().and_then(Running::executable).or_else(|| self.same_file(identity.executable));
        let executable =
            executable.map(|executable| Executable { file: identity.executable.or(executable.file), ..executable });
        if executable.is_none() {
            self.counters.unknown_executables += 1;
        }
        let name = executable.as_ref().and_then(file_name).unwrap_or_else(|| identity.comm.clone());
        let (arguments, arguments_truncated) = program
            .map(|program| (program.image.arguments.clone(), program.image.arguments_truncated))
            .unwrap_or_default();
        let cgroup = self.cgroups.find(identity.cgroup_id, key.pid, &self.proc, now);
        let cgroup = cgroup.as_deref();
        let own = self.host.own;
        Process {
            key,
            entity_id: self.host.entity_id(key),
            matching,
            thread_id: identity.thread_id,
            name,
            comm: identity.comm.clone(),
            executable,
            arguments,
            arguments_truncated,
            ancestors: lineage.map(|lineage| lineage.ancestors()).unwrap_or_default(),
            user: self.accounts.user(identity.user_id),
            effective_user: identity.effective_user_id.map(|id| self.accounts.user(id)),
            group: self.accounts.group(identity.group_id),
            cgroup: cgroup.map(|cgroup| cgroup.path.clone()),
            unit: cgroup.and_then(|cgroup| cgroup.unit.clone()),
            container: cgroup.and_then(|cgroup| cgroup.container.clone()),
            start_wall_ns: self.host.start_wall_ns(key),
            is_own: key.pid == own.pid && (key.start_ticks == 0 || key.start_ticks == own.start_ticks),
        }
    }

    /// The path under which another process ran this file.
    fn same_file(&mut self, file: Option<FileId>) -> Option<Executable> {
        let executable = self.files.get(&file?)?.clone();
        self.counters.same_file += 1;
        Some(Executable { quality: PathQuality::SameFile, ..executable })
    }
}
