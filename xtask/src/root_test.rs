//! Tests that need root, as programs: they are built as the user and run elsewhere, as root or in a guest.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process;
use crate::workspace::Workspace;

/// The target whose C library can be linked statically without another toolchain.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// The variable by which the tests are told which daemon to start.
pub(crate) const DAEMON_VARIABLE: &str = "EGRESSWATCH_BIN";

/// How the programs are linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linking {
    /// As every other build of this checkout, which it shares.
    Dynamic,
    /// With everything inside, for guests that have no libraries.
    Static,
}

/// A test program and the daemon it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootTest {
    /// The test program, with the command line of a libtest harness.
    pub(crate) program: PathBuf,
    /// The daemon.
    pub(crate) daemon: PathBuf,
}

impl RootTest {
    /// Programs that somebody else built: `kernel-tests` and `egresswatch`.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self> {
        let test = Self { program: folder.join("kernel-tests"), daemon: folder.join("egresswatch") };
        for program in [&test.program, &test.daemon] {
            ensure!(program.is_file(), "{} is not there", program.display());
        }
        Ok(test)
    }

    /// Builds the test target of this name, and the daemon with it.
    pub(crate) fn build(workspace: &Workspace, name: &str, linking: Linking) -> Result<Self> {
        let mut cargo = process::cargo();
        cargo
            .current_dir(workspace.root())
            .args(["test", "--no-run", "--locked", "--package", "egresswatch", "--test", name])
            .args(["--message-format", "json-render-diagnostics"])
            .stderr(std::process::Stdio::inherit());
        if linking == Linking::Static {
            link_statically(&mut cargo, workspace);
        }
        let messages = process::output(&mut cargo)?;
        Ok(Self {
            program: executable(&messages, "test", name)
                .with_context(|| format!("cargo built no test program `{name}`"))?,
            daemon: executable(&messages, "bin", "egresswatch").context("cargo built no program `egresswatch`")?,
        })
    }
}

/// Builds the daemon alone, with everything inside.
pub(crate) fn static_daemon(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = process::cargo();
    cargo
        .current_dir(workspace.root())
        .args(["build", "--locked", "--package", "egresswatch", "--bin", "egresswatch"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(std::process::Stdio::inherit());
    link_statically(&mut cargo, workspace);
    let messages = process::output(&mut cargo)?;
    executable(&messages, "bin", "egresswatch").context("cargo built no program `egresswatch`")
}

fn link_statically(cargo: &mut Command, workspace: &Workspace) {
    // Flags of its own need a target directory of their own, or every build would undo the other's.
    cargo
        .args(["--target", STATIC_TARGET])
        // A guest copies the programs into memory, and nobody debugs there.
        .args(["--config", "profile.dev.strip=\"debuginfo\""])
        // Emulation makes slow code ten times slower, and every test starts the daemon anew.
        .args(["--config", "profile.dev.opt-level=2"])
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env("CARGO_TARGET_DIR", workspace.target("static"));
}

/// The path of one executable among cargo's messages, one JSON object a line.
fn executable(messages: &str, kind: &str, name: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let target = message.get("target")?;
        let is_kind = target.get("kind")?.as_array()?.iter().any(|value| value == kind);
        let is_name = target.get("name")? == name;
        let path = message.get("executable")?.as_str()?;
        (is_kind && is_name).then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executables_are_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"egresswatch"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"egresswatch"},"executable":"/t/egresswatch"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel"},"executable":"/t/deps/kernel-1"}"#,
            "\nnot JSON\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages, "bin", "egresswatch"), Some(PathBuf::from("/t/egresswatch")));
        assert_eq!(executable(messages, "test", "kernel"), Some(PathBuf::from("/t/deps/kernel-1")));
        assert_eq!(executable(messages, "test", "egresswatch"), None);
        assert_eq!(executable("", "test", "kernel"), None);
    }
}
