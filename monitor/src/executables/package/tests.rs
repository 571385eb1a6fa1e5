//! Databases as the package managers write them, below folders.

use std::{fs, os::fd::AsFd as _, os::unix::fs::symlink, path::Path};

use super::*;

const DPKG: &[(&str, &str)] = &[
    ("var/lib/dpkg/info/coreutils.list", "/.\n/bin\n/bin/cat\n/usr/bin/env\n"),
    ("var/lib/dpkg/info/libfoo1:amd64.list", "/.\n/usr/lib/x86_64-linux-gnu/foo\n"),
    ("var/lib/dpkg/info/libfoo1:i386.list", "/.\n/usr/lib/i386-linux-gnu/foo\n"),
    ("var/lib/dpkg/info/coreutils.md5sums", "0123  usr/bin/other\n"),
    (
        "var/lib/dpkg/status",
        "Package: coreutils\nStatus: install ok installed\nArchitecture: amd64\nVersion: 9.1-1\nDescription: GNU core\n \
         Version: 0 in the text\n\nPackage: libfoo1\nArchitecture: i386\nVersion: 1.0-1+b1\n\nPackage: libfoo1\n\
         Version: 1.0-1\nArchitecture: amd64\n",
    ),
];

const APK: &[(&str, &str)] = &[(
    "lib/apk/db/installed",
    "C:Q1aaaa=\nP:musl\nV:1.2.5-r0\nA:x86_64\nF:lib\nR:libc.so\na:0:0:755\n\nC:Q1bbbb=\nP:busybox\nV:1.36.1-r29\nA:x86_64\n\
     F:bin\nR:busybox\na:0:0:755\nF:usr\nF:usr/share\nR:cat\n",
)];

const PACMAN: &[(&str, &str)] = &[
    ("var/lib/pacman/local/ALPM_DB_VERSION", "9\n"),
    ("var/lib/pacman/local/curl-8.10.1-1/files", "%FILES%\nusr/\nusr/bin/\nusr/bin/curl\n\n%BACKUP%\n"),
    ("var/lib/pacman/local/curl-8.10.1-1/desc", "%NAME%\ncurl\n\n%VERSION%\n8.10.1-1\n\n%ARCH%\nx86_64\n"),
];

fn found(files: &[(&str, &str)], path: &str) -> Result<String, Gap> {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().expect("below the root")).expect("a folder");
        fs::write(file, text).expect("written");
    }
    found_below(folder.path(), path)
}

fn found_below(root: &Path, path: &str) -> Result<String, Gap> {
    let root = fs::File::open(root).expect("a folder");
    let package = find(root.as_fd(), Path::new(path))?;
    let known = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    Ok(format!("{} {} {} {}", package.kind, package.name, known(package.version), known(package.architecture)))
}

#[test]
fn each_database_tells_who_put_a_file_there() {
    for (files, path, expected) in [
        (DPKG, "/usr/bin/cat", Ok("dpkg coreutils 9.1-1 amd64")),
        (DPKG, "/bin/cat", Ok("dpkg coreutils 9.1-1 amd64")),
        (DPKG, "/usr/bin/env", Ok("dpkg coreutils 9.1-1 amd64")),
        (DPKG, "/usr/lib/x86_64-linux-gnu/foo", Ok("dpkg libfoo1 1.0-1 amd64")),
        (DPKG, "/usr/lib/i386-linux-gnu/foo", Ok("dpkg libfoo1 1.0-1+b1 i386")),
        (DPKG, "/usr/bin/other", Err(Gap::NotPackaged)),
        (DPKG, "/usr/bin/ca", Err(Gap::NotPackaged)),
        (&DPKG[..1], "/usr/bin/env", Ok("dpkg coreutils ? ?")),
        (APK, "/bin/busybox", Ok("apk busybox 1.36.1-r29 x86_64")),
        (APK, "/usr/bin/busybox", Ok("apk busybox 1.36.1-r29 x86_64")),
        (APK, "/lib/libc.so", Ok("apk musl 1.2.5-r0 x86_64")),
        (APK, "/bin/cat", Err(Gap::NotPackaged)),
        (PACMAN, "/usr/bin/curl", Ok("pacman curl 8.10.1-1 x86_64")),
        (PACMAN, "/usr/bin/wget", Err(Gap::NotPackaged)),
        (&[], "/usr/bin/curl", Err(Gap::NoDatabase)),
    ] {
        assert_eq!(found(files, path), expected.map(str::to_owned), "{path}");
    }
}

/// A container chooses what its own database is: it must neither lead out of its root nor keep the reader waiting.
#[test]
fn a_hostile_root_reads_nothing_of_the_host() {
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("installed"), "P:secret\nF:bin\nR:x\n").expect("written");
    let root = tempfile::tempdir().expect("a folder");
    let database = root.path().join("lib/apk/db");
    fs::create_dir_all(&database).expect("a folder");
    let installed = database.join("installed");
    symlink(outside.path().join("installed"), &installed).expect("a link");
    assert_eq!(found_below(root.path(), "/bin/x"), Err(Gap::NoDatabase));
    fs::remove_file(&installed).expect("removed");
    nix::unistd::mkfifo(&installed, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert_eq!(found_below(root.path(), "/bin/x"), Err(Gap::NoDatabase));
}
