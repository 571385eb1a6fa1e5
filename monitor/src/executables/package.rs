//! Which package lists a path, by the databases that the distributions' package managers keep below a root.
//!
//! The answer is what the database says: that this package put a file there, not that the file is still that one.

mod apk;
mod dpkg;
mod pacman;
#[cfg(test)]
mod tests;

use std::{os::fd::BorrowedFd, path::Path};

use super::Gap;

/// A package of the distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version, as the package manager writes it.
    pub version: Option<String>,
    /// Architecture, as the package manager writes it.
    pub architecture: Option<String>,
    /// Whose database told: `dpkg`, `apk` or `pacman`.
    pub kind: &'static str,
}

/// Most bytes read of one database file: the largest known, a full Debian's `status`, has 10 MB.
const DATABASE_BYTES: u64 = 64 << 20;
/// Most packages looked at: a full Debian has 70,000.
const PACKAGES: usize = 1 << 17;

/// The package below `root` that lists `path`.
pub(super) fn find(root: BorrowedFd<'_>, path: &Path) -> Result<Package, Gap> {
    let mut gap = Gap::NoDatabase;
    for database in [dpkg::find, apk::find, pacman::find] {
        match database(root, path) {
            Err(Gap::NoDatabase) => {}
            Err(other) => gap = other,
            Ok(package) => return Ok(package),
        }
    }
    Err(gap)
}

/// The bytes of a database as text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
