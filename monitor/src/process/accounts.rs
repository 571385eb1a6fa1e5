//! Names of users and groups.
//!
//! Read from the files, not through the C library: its name services may ask the network, and a monitor of outbound
//! traffic must neither block on it nor make traffic of its own. Users of a directory service stay numbers.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::Account;

/// Most bytes read of one file; a line that is cut there is dropped.
const FILE_BYTES: u64 = 16 << 20;

/// The host's users and groups.
#[derive(Debug)]
pub(super) struct Accounts {
    users: NameFile,
    groups: NameFile,
    interval: Duration,
    checked: Option<Instant>,
    generation: u64,
}

impl Accounts {
    /// `interval` is the least time between two looks at whether the files changed.
    pub(super) fn new(passwd: PathBuf, group: PathBuf, interval: Duration) -> Self {
        Self { users: NameFile::new(passwd), groups: NameFile::new(group), interval, checked: None, generation: 0 }
    }

    /// Reads the files again if they changed, at most once per interval.
    pub(super) fn refresh(&mut self, now: Instant) {
        if self.checked.is_some_and(|checked| now.saturating_duration_since(checked) < self.interval) {
            return;
        }
        self.checked = Some(now);
        let users_changed = self.users.refresh();
        let groups_changed = self.groups.refresh();
        if users_changed || groups_changed {
            self.generation += 1;
        }
    }

    /// Grows whenever a name may have changed.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn user(&self, id: u32) -> Account {
        Account { id, name: self.users.names.get(&id).cloned() }
    }

    pub(super) fn group(&self, id: u32) -> Account {
        Account { id, name: self.groups.names.get(&id).cloned() }
    }
}

/// A file of lines `name:password:id:…`, which `passwd(5)` and `group(5)` have in common.
#[derive(Debug)]
struct NameFile {
    path: PathBuf,
    state: Option<FileState>,
    names: HashMap<u32, String>,
}

/// What changes when a file is written in place or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
}

impl NameFile {
    fn new(path: PathBuf) -> Self {
        Self { path, state: None, names: HashMap::new() }
    }

    /// Whether the names were read again. A file that cannot be read leaves the names as they were: editors and
    /// `useradd` replace it by renaming, and a moment without it says nothing about its accounts.
    fn refresh(&mut self) -> bool {
        let Ok(mut file) = File::open(&self.path) else { return false };
        let Ok(metadata) = file.metadata() else { return false };
        let state = FileState {
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        if self.state == Some(state) {
            return false;
        }
        let mut bytes = Vec::new();
        if file.by_ref().take(FILE_BYTES).read_to_end(&mut bytes).is_err() {
            return false;
        }
        self.state = Some(state);
        self.names = parse(&bytes);
        true
    }
}

/// Names by id. The first of several names of an id counts, as for `getpwuid(3)`.
fn parse(bytes: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else { continue };
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        // Lines with + and - include other sources (nsswitch.conf's `compat`), # starts a comment.
        if let (Some(id), Some(first)) = (id, name.first())
            && !b"+-#".contains(first)
        {
            names.entry(id).or_insert_with(|| String::from_utf8_lossy(name).into_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_either_file_are_read_and_others_skipped() {
        let text = b"root:x:0:0:root:/root:/bin/bash\n# daemon:x:1:1\n+nis:x:7:\ntoor:x:0:0::/:/bin/sh\n\n:x:5:\nbad:x:-1:\nshort:x\nwide:x:4294967296:\nstaff:x:50:\nj\xf6rg:x:1000:1000::/:";
        let names = parse(text);
        let mut found: Vec<_> = names.iter().map(|(id, name)| (*id, name.as_str())).collect();
        found.sort_unstable();
        assert_eq!(found, [(0, "root"), (50, "staff"), (1000, "j\u{fffd}rg")]);
    }

    #[test]
    fn a_changed_file_is_read_again_but_not_before_the_interval() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (passwd, group) = (directory.path().join("passwd"), directory.path().join("group"));
        fs::write(&passwd, "alice:x:1000:1000::/:\n").expect("write");
        let start = Instant::now();
        let mut accounts = Accounts::new(passwd.clone(), group.clone(), Duration::from_secs(1));
        accounts.refresh(start);
        assert_eq!(accounts.user(1000).name.as_deref(), Some("alice"));
        assert_eq!(accounts.group(100).name, None);

        fs::write(&passwd, "alice:x:1000:1000::/:\nbob:x:1001:1001::/:\n").expect("write");
        fs::write(&group, "users:x:100:\n").expect("write");
        let generation = accounts.generation();
        accounts.refresh(start + Duration::from_millis(999));
        assert_eq!((accounts.user(1001).name, accounts.generation()), (None, generation));
        accounts.refresh(start + Duration::from_secs(1));
        assert_eq!(accounts.user(1001).name.as_deref(), Some("bob"));
        assert_eq!(accounts.group(100).name.as_deref(), Some("users"));
        assert_eq!(accounts.generation(), generation + 1);

        fs::remove_file(&passwd).expect("remove");
        accounts.refresh(start + Duration::from_secs(2));
        assert_eq!(accounts.user(1001).name.as_deref(), Some("bob"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for name in parse(&bytes).values() {
                prop_assert!(!name.is_empty() && !name.contains(':'));
            }
        }
    }
}
