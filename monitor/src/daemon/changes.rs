//! Tells when files change.
//!
//! Directories are watched, not files: an editor puts another file in the place of the old one, and Kubernetes swaps a
//! symbolic link beside it. What happens in a directory is a hint; whether something changed is told by the files'
//! [`Fingerprint`].

use std::{
    collections::BTreeSet,
    fs, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, timeout_at},
};

/// Files that are written together are looked at together: after this long without news.
const QUIET: Duration = Duration::from_millis(300);
/// Where news do not cease, they are looked at after this long.
const LONGEST: Duration = Duration::from_secs(3);

/// Symbolic links that are followed from one file, as many as Linux follows (`path_resolution(7)`).
const LINKS: usize = 40;

/// Notices what happens in directories.
pub(super) struct Changes {
    inotify: Inotify,
    /// The same descriptor, for the runtime.
    readiness: AsyncFd<OwnedFd>,
    watches: Vec<WatchDescriptor>,
}

impl Changes {
    /// Watches nothing yet. Needs a running runtime.
    pub(super) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let descriptor = inotify.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by the value that is returned and stays open as long as it.
        let readiness = unsafe { AsyncFd::register(descriptor) }.map_err(io::Error::from)?;
        Ok(Self { inotify, readiness, watches: Vec::new() })
    }

    /// Watches what `paths` stand for from now on, and nothing else.
    pub(super) fn watch(&mut self, paths: &[PathBuf]) -> io::Result<()> {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let mut watches = Vec::new();
        for directory in directories(paths) {
            watches.push(self.inotify.add_watch(&directory, flags)?);
        }
        for old in std::mem::take(&mut self.watches) {
            if !watches.contains(&old) {
                // The directory may be gone, and its watch with it.
                let _ = self.inotify.rm_watch(old);
            }
        }
        self.watches = watches;
        Ok(())
    }

    /// Waits for news, and then until there are none for a moment.
    pub(super) async fn wait(&mut self) -> io::Result<()> {
        self.news().await?;
        let latest = Instant::now() + LONGEST;
        loop {
            let quiet_at = (Instant::now() + QUIET).min(latest);
            match timeout_at(quiet_at, self.news()).await {
                Ok(news) => news?,
                Err(_) => return Ok(()),
            }
            if Instant::now() >= latest {
                return Ok(());
            }
        }
    }

    async fn news(&mut self) -> io::Result<()> {
        loop {
            let mut guard = self.readiness.readable().await?;
            match self.inotify.read_events() {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The directories in which a change of `paths` shows: those that are directories themselves, those that hold them, and
/// those that hold what symbolic links lead to, also the links inside of directories. Of one that is missing, the nearest
/// that is there.
fn directories(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for path in paths {
        let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        for path in std::iter::once(path.clone()).chain(links.map(|entry| entry.path())) {
            for path in ways(path) {
                if path.is_dir() {
                    directories.insert(path.clone());
                }
                directories.extend(path.ancestors().skip(1).find(|parent| parent.is_dir()).map(Path::to_owned));
            }
        }
    }
    directories
}

/// A path, and each one that it leads to over a symbolic link: its own, or that of a directory on the way.
fn ways(path: PathBuf) -> Vec<PathBuf> {
    let mut ways = Vec::new();
    let mut next = Some(path);
    while let Some(path) = next.filter(|_| ways.len() < LINKS) {
        next = path.ancestors().find_map(|link| {
            let to = link.parent()?.join(fs::read_link(link).ok()?);
            let below = path.strip_prefix(link).ok()?;
            Some(if below.as_os_str().is_empty() { to } else { to.join(below) })
        });
        // Where a directory on the way is a link, another one may take its place.
        let link = path.ancestors().skip(1).find(|parent| parent.is_symlink()).map(Path::to_owned);
        ways.extend(link.into_iter().chain([path]));
    }
    ways
}

/// What tells one state of files from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<(PathBuf, Option<Stamp>)>);

/// What tells one state of a file from another, whatever links lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Fingerprint {
    /// Of files, and of the files in directories.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let mut stamps = Vec::new();
        for path in paths {
            stamps.push((path.clone(), stamp(path)));
            // What is no directory has no entries.
            let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
            let mut inside: Vec<_> =
                entries.map(|entry| entry.path()).map(|path| (path.clone(), stamp(&path))).collect();
            inside.sort_by(|left, right| left.0.cmp(&right.0));
            stamps.append(&mut inside);
        }
        Self(stamps)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    // A directory's own times change with each file that is made in it, of whatever kind.
    let (bytes, modified) =
        if metadata.is_dir() { (0, (0, 0)) } else { (metadata.len(), (metadata.mtime(), metadata.mtime_nsec())) };
    Some(Stamp { device: metadata.dev(), inode: metadata.ino(), bytes, modified })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    async fn notices(changes: &mut Changes) -> bool {
        tokio::time::timeout(Duration::from_secs(20), changes.wait()).await.is_ok_and(|waited| waited.is_ok())
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_noticed_and_has_another_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("one")).unwrap();
        fs::create_dir(at("two")).unwrap();
        fs::write(at("one/config.toml"), "a").unwrap();
        fs::write(at("two/config.toml"), "b").unwrap();
        symlink("one", at("data")).unwrap();
        symlink("data/config.toml", at("config.toml")).unwrap();
        let paths = [at("config.toml"), at("rules.d")];
        let mut changes = Changes::new().unwrap();
        let mut before = Fingerprint::of(&paths);
        let steps: [(&str, &dyn Fn()); 5] = [
            ("written in place", &|| fs::write(at("one/config.toml"), "aa").unwrap()),
            ("replaced", &|| {
                fs::write(at("one/new"), "cc").unwrap();
                fs::rename(at("one/new"), at("one/config.toml")).unwrap();
            }),
            ("a directory's link swapped, as Kubernetes does", &|| {
                symlink("two", at("tmp")).unwrap();
                fs::rename(at("tmp"), at("data")).unwrap();
            }),
            ("a directory that was missing", &|| fs::create_dir(at("rules.d")).unwrap()),
            ("a file in it", &|| fs::write(at("rules.d/mine.toml"), "").unwrap()),
        ];
        for (what, change) in steps {
            changes.watch(&paths).unwrap();
            change();
            assert!(notices(&mut changes).await, "{what}");
            let after = Fingerprint::of(&paths);
            assert_ne!(after, before, "{what}");
            before = after;
        }
        fs::write(at("stranger"), "").unwrap();
        assert_eq!(Fingerprint::of(&paths), before);
    }

    /// Entries of a watched directory that lead out of it, by a link of their own and by one on the way.
    #[tokio::test]
    async fn what_links_in_a_directory_lead_to_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for directory in ["rules.d", "plain", "store", "store/one", "store/two"] {
            fs::create_dir(at(directory)).unwrap();
        }
        fs::write(at("plain/a.toml"), "a").unwrap();
        fs::write(at("store/one/b.toml"), "b").unwrap();
        fs::write(at("store/two/b.toml"), "bb").unwrap();
        symlink("one", at("store/current")).unwrap();
        symlink(at("plain/a.toml"), at("rules.d/a.toml")).unwrap();
        symlink("../store/current/b.toml", at("rules.d/b.toml")).unwrap();
        let paths = [at("rules.d")];
        let mut changes = Changes::new().unwrap();
        let steps: [(&str, &dyn Fn()); 2] = [
            ("the file is replaced", &|| {
                fs::write(at("plain/new"), "aa").unwrap();
                fs::rename(at("plain/new"), at("plain/a.toml")).unwrap();
            }),
            ("a link on the way is swapped", &|| {
                symlink("two", at("store/new")).unwrap();
                fs::rename(at("store/new"), at("store/current")).unwrap();
            }),
        ];
        for (what, change) in steps {
            let before = Fingerprint::of(&paths);
            changes.watch(&paths).unwrap();
            change();
            assert!(notices(&mut changes).await, "{what}");
            assert_ne!(Fingerprint::of(&paths), before, "{what}");
        }
    }
}
