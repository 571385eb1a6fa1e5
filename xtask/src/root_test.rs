//! Tests that need root, as programs: they are built as the user and run elsewhere, as root or in a guest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process;
use crate::workspace::Workspace;

/// The variable by which the tests are told which daemon to start.
pub(crate) const DAEMON_VARIABLE: &str = "EGRESSWATCH_BIN";

/// Where the programs are put, below the target directory.
const FOLDER: &str = "root-tests";

/// The daemon, once [`RootTest::build`] has built it.
pub(crate) fn built_daemon(workspace: &Workspace) -> PathBuf {
    workspace.target(FOLDER).join("egresswatch")
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
    pub(crate) fn build(workspace: &Workspace, name: &str) -> Result<Self> {
        let mut cargo = process::cargo();
        cargo
            .current_dir(workspace.root())
            .args(["test", "--no-run", "--locked", "--package", "egresswatch", "--test", name])
            .args(["--message-format", "json-render-diagnostics"])
            .stderr(std::process::Stdio::inherit());
        let messages = process::output(&mut cargo)?;
        let program =
            executable(&messages, "test", name).with_context(|| format!("cargo built no test program `{name}`"))?;
        let daemon = executable(&messages, "bin", "egresswatch").context("cargo built no program `egresswatch`")?;
        let folder = workspace.target(FOLDER);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self {
            program: without_debug_information(&program, &folder.join(format!("{name}-tests")))?,
            daemon: without_debug_information(&daemon, &built_daemon(workspace))?,
        })
    }
}

/// A copy of the program that is a quarter as large: the tests copy themselves and have their copies hashed, in guests with
/// all of it in memory.
fn without_debug_information(program: &Path, copy: &Path) -> Result<PathBuf> {
    process::run(process::command("strip").arg("--strip-debug").arg("-o").arg(copy).arg(program))?;
    Ok(copy.to_owned())
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
