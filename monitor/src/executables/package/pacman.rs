//! pacman: `/var/lib/pacman/local/<name>-<version>/` has `files` (paths below `%FILES%`) and `desc` (a `%KEY%` line and
//! its values, up to an empty line), as libalpm's `be_local.c` reads them.

use std::{os::fd::BorrowedFd, path::Path};

use super::{DATABASE_BYTES, Gap, PACKAGES, Package, text};
use crate::inside::{Directory, lines, relative};

pub(super) fn find(root: BorrowedFd<'_>, path: &Path) -> Result<Package, Gap> {
    let directory = Directory::open(root, Path::new("/var/lib/pacman/local"), PACKAGES).ok_or(Gap::NoDatabase)?;
    let wanted = relative(path);
    for name in &directory.names {
        let entry = Path::new(name);
        let Some(files) = directory.read(&entry.join("files"), DATABASE_BYTES) else { continue };
        if !lines(&files).any(|line| line == wanted) {
            continue;
        }
        let description = directory.read(&entry.join("desc"), DATABASE_BYTES).unwrap_or_default();
        let value = |key: &[u8]| {
            let mut rest = lines(&description).skip_while(move |line| *line != key).skip(1);
            rest.next().filter(|value| !value.is_empty()).map(text)
        };
        return Ok(Package {
            name: value(b"%NAME%").unwrap_or_else(|| name.to_string_lossy().into_owned()),
            version: value(b"%VERSION%"),
            architecture: value(b"%ARCH%"),
            kind: "pacman",
        });
    }
    Err(Gap::NotPackaged)
}
