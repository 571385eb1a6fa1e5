//! Cgroups of the unified hierarchy: id to path, and what the path tells.

use std::{
    fs,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Container, container::container, proc::ProcFs, unit::unit};
use crate::{bounded::BoundedMap, event::CgroupCreated, procfs};

/// The unified hierarchy's id in the kernel.
const UNIFIED_HIERARCHY: u32 = 0;

/// A cgroup, and what its path tells. Read once per cgroup, shared by all of its processes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cgroup {
    pub(super) path: String,
    pub(super) unit: Option<String>,
    pub(super) container: Option<Container>,
}

impl Cgroup {
    fn new(path: &Path) -> Self {
        let path = path.to_string_lossy().into_owned();
        Self { unit: unit(&path), container: container(&path), path }
    }
}

/// The cgroups by id. Removed ones stay until newer ones need the room, because reports arrive after the removal; an
/// id is not used twice between two starts of the host.
#[derive(Debug)]
pub(super) struct Cgroups {
    root: Option<PathBuf>,
    known: BoundedMap<u64, Arc<Cgroup>>,
    interval: Duration,
    walked: Option<Instant>,
    walks: u64,
    misses: u64,
}

impl Cgroups {
    /// `root` is the mount point of the unified hierarchy, `interval` the least time between two walks through it.
    pub(super) fn new(root: Option<PathBuf>, capacity: usize, interval: Duration) -> Self {
        Self { root, known: BoundedMap::new(capacity), interval, walked: None, walks: 0, misses: 0 }
    }

    /// Reads the whole tree. A directory's inode number is the cgroup's id (kernfs, on 64-bit hosts).
    pub(super) fn walk(&mut self, now: Instant) {
        self.walked = Some(now);
        let Some(root) = self.root.clone() else { return };
        self.walks += 1;
        if let Ok(metadata) = fs::metadata(&root) {
            self.add(metadata.ino(), Path::new("/"));
        }
        let mut waiting = vec![PathBuf::from("/")];
        let mut seen = 1;
        while let Some(parent) = waiting.pop() {
            // A cgroup may go while it is read; the others are still to be read.
            let Ok(entries) = fs::read_dir(procfs::below(&root, &parent)) else { continue };
            for entry in entries.flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                // Beyond the ceiling each new cgroup would only push out another one.
                seen += 1;
                if seen > self.known.capacity() {
                    return;
                }
                let path = parent.join(entry.file_name());
                self.add(entry.ino(), &path);
                waiting.push(path);
            }
        }
    }

    /// Learns a cgroup that was just made. Other hierarchies have ids of their own and are not kept.
    pub(super) fn created(&mut self, created: &CgroupCreated) {
        if created.hierarchy_id == UNIFIED_HIERARCHY {
            self.known.insert(created.cgroup_id, Arc::new(Cgroup::new(&created.path)));
        }
    }

    /// The cgroup with this id. One that is not known is looked for where the process says it is, and then by a walk
    /// if the last one is long enough ago.
    pub(super) fn find(&mut self, id: u64, pid: u32, proc: &ProcFs, now: Instant) -> Option<Arc<Cgroup>> {
        if id == 0 {
            return None;
        }
        if let Some(cgroup) = self.known.get(&id) {
            return Some(Arc::clone(cgroup));
        }
        self.misses += 1;
        if let Some(path) = proc.unified_cgroup(pid)
            && self.root.as_deref().and_then(|root| procfs::cgroup_id(root, &path)) == Some(id)
        {
            self.add(id, &path);
        } else if self.may_walk(now) {
            self.walk(now);
        }
        self.known.get(&id).cloned()
    }

    /// Whether looking for an unknown cgroup again may bring more than it did the last time.
    pub(super) fn may_walk(&self, now: Instant) -> bool {
        self.root.is_some() && self.walked.is_none_or(|walked| now.saturating_duration_since(walked) >= self.interval)
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) const fn walks(&self) -> u64 {
        self.walks
    }

    pub(super) const fn misses(&self) -> u64 {
        self.misses
    }

    pub(super) const fn evicted(&self) -> u64 {
        self.known.evicted()
    }

    fn add(&mut self, id: u64, path: &Path) {
        if !self.known.contains(&id) {
            self.known.insert(id, Arc::new(Cgroup::new(path)));
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::event::BootTime;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn fixture(directories: &[&str]) -> (TempDir, ProcFs) {
        let directory = tempfile::tempdir().expect("temporary directory");
        for name in directories {
            fs::create_dir_all(directory.path().join("cgroup").join(name)).expect("directory");
        }
        let proc = ProcFs::new(directory.path().join("proc"));
        (directory, proc)
    }

    fn id(directory: &TempDir, path: &str) -> u64 {
        fs::metadata(directory.path().join("cgroup").join(path)).expect("metadata").ino()
    }

    fn cgroups(directory: &TempDir, capacity: usize) -> Cgroups {
        Cgroups::new(Some(directory.path().join("cgroup")), capacity, INTERVAL)
    }

    #[test]
    fn a_walk_finds_each_directory() {
        let (directory, proc) = fixture(&["system.slice/sshd.service", "a/b/c"]);
        fs::write(directory.path().join("cgroup/a/cgroup.procs"), "1\n").expect("write");
        let mut cgroups = cgroups(&directory, 100);
        let now = Instant::now();
        cgroups.walk(now);
        for path in ["/", "/a", "/a/b", "/a/b/c", "/system.slice", "/system.slice/sshd.service"] {
            let found = cgroups.find(id(&directory, path.trim_start_matches('/')), 1, &proc, now).expect(path);
            assert_eq!(found.path, path);
        }
        assert_eq!((cgroups.len(), cgroups.walks(), cgroups.misses()), (6, 1, 0));
        let service = cgroups.find(id(&directory, "system.slice/sshd.service"), 1, &proc, now).expect("known");
        assert_eq!(service.unit.as_deref(), Some("sshd.service"));
    }

    #[test]
    fn a_miss_walks_at_most_once_per_interval_and_removed_ones_stay() {
        let (directory, proc) = fixture(&["old"]);
        let mut cgroups = cgroups(&directory, 100);
        let start = Instant::now();
        cgroups.walk(start);
        let old = id(&directory, "old");
        fs::create_dir(directory.path().join("cgroup/new")).expect("directory");
        let new = id(&directory, "new");
        fs::remove_dir(directory.path().join("cgroup/old")).expect("remove");

        assert_eq!(cgroups.find(new, 1, &proc, start + INTERVAL / 2), None);
        assert_eq!(cgroups.find(new, 1, &proc, start + INTERVAL).expect("found by a walk").path, "/new");
        assert_eq!(cgroups.find(old, 1, &proc, start).expect("kept").path, "/old");
        assert_eq!((cgroups.walks(), cgroups.misses()), (2, 2));
        assert_eq!(cgroups.find(0, 1, &proc, start + 9 * INTERVAL), None);
    }

    #[test]
    fn the_process_leads_to_its_cgroup_without_a_walk_if_the_id_agrees() {
        let (directory, proc) = fixture(&["new", "other"]);
        let mut cgroups = cgroups(&directory, 100);
        let now = Instant::now();
        cgroups.walked = Some(now);
        let (new, other) = (id(&directory, "new"), id(&directory, "other"));
        for (pid, line) in [(1, "0::/new"), (2, "0::/../new"), (3, "0::/new (deleted)"), (4, "1:cpu:/new")] {
            let process = directory.path().join(format!("proc/{pid}"));
            fs::create_dir_all(&process).expect("directory");
            fs::write(process.join("cgroup"), format!("3:memory:/x\n{line}\n")).expect("write");
        }
        for pid in [2, 3, 4, 5] {
            assert_eq!(cgroups.find(new, pid, &proc, now), None, "{pid}");
        }
        assert_eq!(cgroups.find(other, 1, &proc, now), None);
        assert_eq!(cgroups.find(new, 1, &proc, now).expect("led by the process").path, "/new");
        assert_eq!(cgroups.walks(), 0);
    }

    #[test]
    fn only_the_unified_hierarchys_events_count() {
        let (_directory, proc) = fixture(&[]);
        let mut cgroups = Cgroups::new(None, 2, INTERVAL);
        for (cgroup_id, hierarchy_id, path) in [(7, 0, "/docker.service"), (8, 4, "/x"), (9, 0, "/y"), (10, 0, "/z")] {
            cgroups.created(&CgroupCreated { cgroup_id, hierarchy_id, path: path.into(), at: BootTime(0) });
        }
        let now = Instant::now();
        let found: Vec<bool> = [7, 8, 9, 10].map(|id| cgroups.find(id, 1, &proc, now).is_some()).into();
        assert_eq!(found, [false, false, true, true]);
        assert_eq!(cgroups.evicted(), 1);
    }

    #[test]
    fn a_tree_beyond_the_ceiling_is_read_in_part() {
        let (directory, _) = fixture(&["a", "b", "c", "d"]);
        let mut cgroups = cgroups(&directory, 3);
        cgroups.walk(Instant::now());
        assert_eq!((cgroups.len(), cgroups.evicted()), (3, 0));
    }
}
