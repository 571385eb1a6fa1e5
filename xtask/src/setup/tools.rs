//! Programs that cargo itself installs, in exactly the version this project was tried with.

use std::path::PathBuf;

use anyhow::Result;

use super::Part;
use crate::process;
use crate::ui;
use crate::workspace::Workspace;

/// A program from the crates registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tool {
    /// The crate.
    pub(crate) name: &'static str,
    /// The program it installs.
    pub(crate) program: &'static str,
    /// The exact version.
    pub(crate) version: &'static str,
    part: Part,
    /// Optimised code takes minutes more to build than it saves in a check that runs for seconds.
    optimised: bool,
}

/// The linker of kernel programs. From 0.11 on it wants an LLVM of the system; this one uses the compiler's.
pub(crate) const BPF_LINKER: Tool =
    Tool { name: "bpf-linker", program: "bpf-linker", version: "0.10.3", part: Part::Ebpf, optimised: true };

/// Licences, bans and sources of the dependencies.
pub(crate) const CARGO_DENY: Tool =
    Tool { name: "cargo-deny", program: "cargo-deny", version: "0.20.2", part: Part::Ci, optimised: false };

const TOOLS: [Tool; 2] = [BPF_LINKER, CARGO_DENY];

impl Tool {
    /// Where the program is, if it is there in this version: this project's own folder first, then `PATH`.
    pub(crate) fn find(&self, workspace: &Workspace) -> Option<PathBuf> {
        let own = workspace.tools().join("bin").join(self.program);
        [Some(own), process::find_program(self.program)]
            .into_iter()
            .flatten()
            .find(|program| self.is_version_of(program))
    }

    fn is_version_of(&self, program: &PathBuf) -> bool {
        // Each of them prints `name version`, perhaps with more behind.
        process::output(process::command(program).arg("--version"))
            .is_ok_and(|printed| printed.split_whitespace().nth(1) == Some(self.version))
    }
}

/// The tools that are not there in their version.
pub(super) fn missing(workspace: &Workspace, parts: &[Part]) -> Vec<Tool> {
    TOOLS.iter().filter(|tool| parts.contains(&tool.part) && tool.find(workspace).is_none()).copied().collect()
}

/// Installs the missing tools below the target directory, where nothing else of the user's is disturbed.
pub(super) fn install(workspace: &Workspace, parts: &[Part]) -> Result<()> {
    for tool in missing(workspace, parts) {
        let into = workspace.tools();
        let title = format!("setup: build {} {} into {}", tool.name, tool.version, into.display());
        ui::step(&title, || {
            let mut cargo = process::cargo();
            // From the root folder no configuration or toolchain file of this checkout applies but the pinned compiler
            // the environment names.
            cargo.current_dir(workspace.root()).env_remove("RUSTFLAGS");
            cargo.args(["install", "--quiet", "--locked", "--force", "--version", tool.version, "--root"]).arg(&into);
            if !tool.optimised {
                cargo.args(["--debug", "--config", "profile.dev.debug=false"]);
            }
            process::run(cargo.arg(tool.name))
        })?;
    }
    Ok(())
}
