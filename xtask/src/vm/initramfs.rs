//! The guest's file system: busybox, a few modules, the test programs and an init script, as one cpio archive.

mod cpio;
mod modules;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::kernel::Kernel;
use crate::process;
use crate::root_test::{DAEMON_VARIABLE, RootTest};
pub(super) use cpio::Archive;

/// Modules that the tests' networks and sockets need, where the kernel has them as modules.
const MODULES: [&str; 2] = ["veth", "sctp"];

/// Programs of this machine that go along with their libraries; busybox's own `ip` knows no namespaces.
const HOST_PROGRAMS: [&str; 1] = ["ip"];

/// Clients that the tests use where they find them.
const HOST_CLIENTS: [&str; 3] = ["curl", "nc", "ping"];

/// Prepares the machine, runs `/run-tests`, hands its exit code out over the second serial port and powers off.
const INIT: &str = include_str!("init.sh");

/// Writes the archive into the folder and returns its path.
pub(super) fn write(folder: &Path, kernel: &Kernel, payload: &RootTest, test_arguments: &[String]) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("initramfs.cpio");
    let mut archive = Archive::default();
    for empty in ["proc", "sys", "dev", "tmp", "run", "etc", "var"] {
        archive.folder(empty);
    }
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("run-tests", 0o755, test_script(test_arguments).as_bytes());
    archive.file("bin/busybox", 0o755, &static_busybox()?);
    // With this machine's libraries, so that the guests run the very programs that the tests here run.
    add_program(&mut archive, "host/kernel-tests", &payload.program)?;
    add_program(&mut archive, "host/egresswatch", &payload.daemon)?;
    for name in HOST_PROGRAMS {
        let program = process::find_program(name)
            .with_context(|| format!("`{name}` is not installed: run `cargo xtask setup --only vm`"))?;
        add_program(&mut archive, &format!("usr/bin/{name}"), &program)?;
    }
    for name in HOST_CLIENTS {
        if let Some(program) = process::find_program(name) {
            add_program(&mut archive, &format!("usr/bin/{name}"), &program)?;
        }
    }
    let mut order = String::new();
    for module in modules::with_dependencies(&kernel.modules, &MODULES)? {
        archive.file(&format!("lib/modules/{}.ko", module.name), 0o644, &module.content);
        order.push_str(&module.name);
        order.push('\n');
    }
    archive.file("lib/modules/order", 0o644, order.as_bytes());
    fs::write(&path, archive.finish()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The script that runs the tests, one at a time: each of them uses the one kernel there is.
fn test_script(arguments: &[String]) -> String {
    let mut script = format!(
        "#!/bin/sh\ncd /host\nexport {DAEMON_VARIABLE}=/host/egresswatch\nexec /host/kernel-tests --test-threads=1 --color=never"
    );
    for argument in arguments {
        script.push_str(" '");
        script.push_str(&argument.replace('\'', r"'\''"));
        script.push('\'');
    }
    script.push('\n');
    script
}

/// The guest has only the libraries that other programs brought, so busybox must need none.
fn static_busybox() -> Result<Vec<u8>> {
    let path =
        process::find_program("busybox").context("busybox is not installed: run `cargo xtask setup --only vm`")?;
    let content = read(&path)?;
    ensure!(
        !contains(&content, b"/ld-linux"),
        "{} is linked dynamically: install the package busybox-static in its place",
        path.display()
    );
    Ok(content)
}

/// Adds a program and the libraries it names, at the places where it looks for them.
fn add_program(archive: &mut Archive, place: &str, path: &Path) -> Result<()> {
    archive.file(place, 0o755, &read(path)?);
    // `ldd` fails for static programs, which need nothing.
    let listing = process::output(process::command("ldd").arg(path)).unwrap_or_default();
    for library in libraries_of_ldd(&listing) {
        let mode = fs::metadata(library).map_or(0o644, |metadata| metadata.permissions().mode() & 0o777);
        archive.file(library.trim_start_matches('/'), mode, &read(Path::new(library))?);
    }
    Ok(())
}

/// The absolute paths in ldd's lines: `name => /path (0x…)`, or `/path (0x…)` for the loader itself.
fn libraries_of_ldd(listing: &str) -> impl Iterator<Item = &str> {
    listing.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_a_program_are_read_from_ldd() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibbpf.so.1 => /lib/x86_64-linux-gnu/libbpf.so.1 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let libraries: Vec<_> = libraries_of_ldd(listing).collect();
        assert_eq!(libraries, ["/lib/x86_64-linux-gnu/libbpf.so.1", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn test_arguments_reach_the_program_as_they_are() {
        let script = test_script(&["it's".to_owned(), "--nocapture".to_owned()]);
        assert!(
            script.ends_with("/host/kernel-tests --test-threads=1 --color=never 'it'\\''s' '--nocapture'\n"),
            "{script}"
        );
    }
}
