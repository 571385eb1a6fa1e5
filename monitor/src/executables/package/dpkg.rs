//! dpkg: `/var/lib/dpkg/info/<package>[:<architecture>].list` has the paths, `/var/lib/dpkg/status` the versions
//! (`dpkg(1)`, section "Files"; `deb-control(5)` for the fields).

use std::{
    ffi::OsString,
    os::{fd::BorrowedFd, unix::ffi::OsStrExt as _},
    path::Path,
};

use super::{DATABASE_BYTES, Gap, PACKAGES, Package, text};
use crate::inside::{self, Directory, lines};

pub(super) fn find(root: BorrowedFd<'_>, path: &Path) -> Result<Package, Gap> {
    let directory = Directory::open(root, Path::new("/var/lib/dpkg/info"), PACKAGES).ok_or(Gap::NoDatabase)?;
    let wanted = path.as_os_str().as_bytes();
    // Where /bin and the like are links into /usr, packages made before that list the old path.
    let before_merge = wanted
        .strip_prefix(b"/usr")
        .filter(|rest| [&b"/bin/"[..], b"/sbin/", b"/lib"].iter().any(|directory| rest.starts_with(directory)));
    // Mostly the package is called much like the program. The others come after, because the list of paths of each
    // package is a file of its own, and a host has a thousand of them.
    let program = path.file_name().map(|name| name.as_bytes().to_ascii_lowercase()).unwrap_or_default();
    let is_likely = |name: &OsString| name.as_bytes().windows(program.len().max(1)).any(|part| part == program);
    let (likely, others): (Vec<_>, Vec<_>) = directory.names.iter().partition(|name| is_likely(name));
    for name in likely.into_iter().chain(others) {
        let Some(package) = name.as_bytes().strip_suffix(b".list") else { continue };
        let Some(list) = directory.read(Path::new(name), DATABASE_BYTES) else { continue };
        if !lines(&list).any(|line| line == wanted || Some(line) == before_merge) {
            continue;
        }
        let mut parts = package.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default();
        let status = inside::read(root, Path::new("/var/lib/dpkg/status"), DATABASE_BYTES).unwrap_or_default();
        let (version, architecture) = version(&status, name, parts.next());
        return Ok(Package { name: text(name), version, architecture, kind: "dpkg" });
    }
    Err(Gap::NotPackaged)
}

/// Version and architecture of a package by its paragraph in `status`.
fn version(status: &[u8], name: &[u8], architecture: Option<&[u8]>) -> (Option<String>, Option<String>) {
    let (mut is_package, mut version, mut found) = (false, None, None);
    // An empty line ends the last paragraph too.
    for line in lines(status).chain([&b""[..]]) {
        if let Some(value) = line.strip_prefix(b"Package: ") {
            is_package = value == name;
        } else if let Some(value) = line.strip_prefix(b"Version: ") {
            version = Some(text(value));
        } else if let Some(value) = line.strip_prefix(b"Architecture: ") {
            found = Some(value);
        } else if line.is_empty() {
            if is_package && architecture.is_none_or(|wanted| found == Some(wanted)) {
                return (version, found.map(text));
            }
            (is_package, version, found) = (false, None, None);
        }
    }
    (None, architecture.map(text))
}
