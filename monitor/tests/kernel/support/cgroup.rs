//! Cgroups of a test's own in the unified hierarchy.

use std::{
    fs::{self, File},
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// A cgroup, removed with every parent that the test made.
pub(crate) struct Cgroup {
    /// The folders made, outermost first.
    made: Vec<PathBuf>,
    processes: File,
}

impl Cgroup {
    /// Makes the cgroup at `path`, which begins with a slash, and its parents.
    pub(crate) fn new(path: &str) -> Result<Self> {
        let mut folder = mount_point()?;
        let mut made = Vec::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            folder.push(name);
            if !folder.exists() {
                fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
                made.push(folder.clone());
            }
        }
        let processes = File::options().write(true).open(folder.join("cgroup.procs"))?;
        Ok(Self { made, processes })
    }

    /// Where a process writes 0 to enter.
    pub(super) fn processes(&self) -> BorrowedFd<'_> {
        self.processes.as_fd()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in self.made.iter().rev() {
            remove(folder);
        }
    }
}

/// A cgroup stays busy for a moment after its last process ended.
fn remove(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::remove_dir(folder).is_err() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Where the unified hierarchy is mounted, by `/proc/self/mountinfo`.
fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        if kind.starts_with("cgroup2 ") { place.split(' ').nth(4) } else { None }
    });
    mount.map(PathBuf::from).context("cgroup v2 is not mounted")
}
