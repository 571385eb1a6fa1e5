//! Embedded databases on disk: a file is checked whole when it is opened, and a damaged one is put aside.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, StorageError};

/// What opens databases, all of which is checked, because it is trusted from then on.
pub(crate) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_check_integrity_on_open(true);
    builder
}

/// Opens the database at `path`, which is made if it is not there.
pub(crate) fn create(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    // Where panics unwind (in tests), one in the crate about a damaged file is such a file.
    let opened = catch_unwind(AssertUnwindSafe(|| builder.create(path)));
    opened.unwrap_or_else(|_| Err(StorageError::Corrupted("it cannot be read".to_owned()).into()))
}

/// Moves the file at `path` to a name beside it that nothing else has, and returns that.
pub(crate) fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", jiff::Timestamp::now().as_second()));
    let mut now = PathBuf::from(&name);
    let mut number = 1;
    while now.exists() {
        let mut numbered = name.clone();
        numbered.push(format!("-{number}"));
        now = numbered.into();
        number += 1;
    }
    fs::rename(path, &now)?;
    Ok(now)
}
