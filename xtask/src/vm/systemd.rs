//! `cargo xtask systemd-test`: the shipped unit under a real systemd, in a guest.
//!
//! The guest is Debian's smallest installation with systemd, booted from memory: a base archive that is made once as
//! root, and behind it a small one with the monitor, its unit and the test. The kernel unpacks both, one over the other.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::guest;
use super::initramfs::Archive;
use super::kernel::{Kernel, Line};
use crate::apt::{self, Suite};
use crate::process::{self, Root};
use crate::root_test::RootTest;
use crate::setup::{self, Part};
use crate::ui;
use crate::workspace::Workspace;

/// The release whose systemd runs the unit; the kernel is the one it comes with.
const SUITE: Suite = Suite { name: "trixie" };

/// Its C library, which must not be older than that the monitor was linked with.
const SUITE_LIBRARY: (u32, u32) = (2, 41);

/// What the guest has beyond the essential packages.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,iproute2";

/// A guest that takes longer hangs: emulated, the test takes a minute.
const TIMEOUT: Duration = Duration::from_mins(10);

/// What the guest does, and says.
const TEST: &str = include_str!("systemd.sh");

/// Starts [`TEST`] once the monitor has been started.
const TEST_UNIT: &str = "[Unit]\nAfter=egresswatch.service multi-user.target\n[Service]\nType=oneshot\n\
                         ExecStart=/usr/local/lib/egresswatch-test\n";

/// Runs the command.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    super::ensure_host()?;
    setup::ensure(workspace, &[Part::Vm])?;
    let daemon = ui::step("build the monitor", || daemon(workspace))?;
    let kernel = Kernel::fetch(workspace, Line::V6_12, false)?;
    let folder = workspace.target("vm/systemd");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let base = base(&folder)?;
    let image = image(workspace, &folder, &base, &daemon)?;
    let report = ui::step("run the unit under systemd in a guest", || guest::boot(&folder, &kernel, &image, TIMEOUT))?;
    if let Some(line) = &report.crash {
        bail!("the kernel crashed: {line} (whole console: {})", report.console.display());
    }
    ensure!(
        report.exit_code == Some(0),
        "the unit did not do under systemd what it should (whole console: {})",
        report.console.display()
    );
    Ok(())
}

/// The monitor that the other tests run, so that nothing is built twice.
fn daemon(workspace: &Workspace) -> Result<PathBuf> {
    let version = process::output(process::command("getconf").arg("GNU_LIBC_VERSION"))?;
    let library = library_version(&version).with_context(|| format!("getconf named no C library: {version:?}"))?;
    ensure!(
        library <= SUITE_LIBRARY,
        "the monitor that is built here needs {}, newer than the one of {} in the guest: run this on {} or older",
        version.trim(),
        SUITE.name,
        SUITE.name
    );
    Ok(RootTest::build(workspace, "kernel")?.daemon)
}

/// The numbers in `glibc 2.36`.
fn library_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

/// The base archive, made at the first time.
fn base(folder: &Path) -> Result<PathBuf> {
    let archive = folder.join(format!("{}.cpio", SUITE.name));
    if archive.is_file() {
        return Ok(archive);
    }
    ui::step(&format!("install {} with systemd into an archive", SUITE.name), || {
        let root = Root::obtain().context("a Debian installation is made as root")?;
        let tree = folder.join("tree");
        remove(root, &tree)?;
        let mut debootstrap = root.command("debootstrap", &[]);
        debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE.name]).arg(&tree);
        debootstrap.arg(apt::mirror(SUITE)?).stdout(Stdio::null());
        process::run(&mut debootstrap)?;
        // Only a complete archive gets the name that later runs look for.
        let unfinished = folder.join("unfinished.cpio");
        let output = File::create(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?;
        let list = "cd \"$1\" && find . -path ./var/cache/apt -prune -o -path ./var/lib/apt/lists -prune -o \
                    -path ./usr/share/doc -prune -o -path ./usr/share/locale -prune -o -print0 \
                    | cpio --null --create --format=newc --quiet";
        process::run(root.command("sh", &[]).args(["-c", list, "sh"]).arg(&tree).stdout(output))?;
        fs::rename(&unfinished, &archive).with_context(|| format!("cannot create {}", archive.display()))?;
        remove(root, &tree)?;
        Ok(archive.clone())
    })
}

/// Removes a tree that belongs to root.
fn remove(root: Root, tree: &Path) -> Result<()> {
    process::run(root.command("rm", &[]).args(["-rf", "--one-file-system"]).arg(tree))
}

/// The base archive with what is tested behind it.
fn image(workspace: &Workspace, folder: &Path, base: &Path, daemon: &Path) -> Result<PathBuf> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let units = "etc/systemd/system";
    let mut archive = Archive::default();
    archive.link("init", "sbin/init");
    archive.file("usr/local/bin/egresswatch", 0o755, &read(daemon)?);
    archive.file("usr/local/lib/egresswatch-test", 0o755, TEST.as_bytes());
    archive.file("etc/egresswatch/config.toml", 0o644, &read(&workspace.path("deploy/config.toml"))?);
    let unit = read(&workspace.path("deploy/systemd/egresswatch.service"))?;
    archive.file(&format!("{units}/egresswatch.service"), 0o644, &unit);
    archive.file(&format!("{units}/egresswatch-test.service"), 0o644, TEST_UNIT.as_bytes());
    // What `systemctl enable` would do.
    archive.link(&format!("{units}/sysinit.target.wants/egresswatch.service"), "../egresswatch.service");
    archive.link(&format!("{units}/multi-user.target.wants/egresswatch-test.service"), "../egresswatch-test.service");
    // Nothing else should start on its own.
    for timer in ["apt-daily.timer", "apt-daily-upgrade.timer", "fstrim.timer"] {
        archive.link(&format!("{units}/{timer}"), "/dev/null");
    }

    let path = folder.join("image.cpio");
    let mut image = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut base = File::open(base).with_context(|| format!("cannot read {}", base.display()))?;
    let written = io::copy(&mut base, &mut image).and_then(|_| image.write_all(&archive.finish()));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_c_library_is_read() {
        assert_eq!(library_version("glibc 2.36\n"), Some((2, 36)));
        assert_eq!(library_version("glibc 2.41.9000\n"), Some((2, 41)));
        assert_eq!(library_version("musl 1.2"), None);
    }
}
