//! apk: `/lib/apk/db/installed` has a paragraph per package with `P:` name, `V:` version, `A:` architecture, `F:`
//! directory and `R:` file in it (`apk-v2(5)` and the format's page in the Alpine wiki).

use std::{os::fd::BorrowedFd, path::Path};

use super::{DATABASE_BYTES, Gap, Package, text};
use crate::inside::{self, lines, relative};

pub(super) fn find(root: BorrowedFd<'_>, path: &Path) -> Result<Package, Gap> {
    // The newer place first.
    let database = ["/usr/lib/apk/db/installed", "/lib/apk/db/installed"]
        .iter()
        .find_map(|file| inside::read(root, Path::new(file), DATABASE_BYTES))
        .ok_or(Gap::NoDatabase)?;
    let wanted = relative(path);
    let split = wanted.iter().rposition(|byte| *byte == b'/');
    let (folder, file) = split.map_or((&b""[..], wanted), |at| {
        (wanted.get(..at).unwrap_or_default(), wanted.get(at + 1..).unwrap_or_default())
    });
    // Where /bin and the like are links into /usr, packages made before that list the old path.
    let before_merge = folder.strip_prefix(b"usr/");
    let mut package = Paragraph::default();
    let mut is_folder = false;
    for line in lines(&database) {
        match line.split_at_checked(2) {
            Some((b"P:", name)) => package = Paragraph { name, ..Paragraph::default() },
            Some((b"V:", version)) => package.version = version,
            Some((b"A:", architecture)) => package.architecture = architecture,
            Some((b"F:", name)) => is_folder = name == folder || Some(name) == before_merge,
            Some((b"R:", name)) if is_folder && name == file => {
                let known = |bytes: &[u8]| (!bytes.is_empty()).then(|| text(bytes));
                return Ok(Package {
                    name: text(package.name),
                    version: known(package.version),
                    architecture: known(package.architecture),
                    kind: "apk",
                });
            }
            _ => {}
        }
    }
    Err(Gap::NotPackaged)
}

#[derive(Default)]
struct Paragraph<'a> {
    name: &'a [u8],
    version: &'a [u8],
    architecture: &'a [u8],
}
