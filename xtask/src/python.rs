//! Packages of Python, each in an environment of its own below the target directory.

use std::path::PathBuf;

use anyhow::Result;

use crate::process;
use crate::ui;
use crate::workspace::Workspace;

/// A package in exactly the version this project was tried with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its name in the registry.
    pub(crate) name: &'static str,
    /// The exact version.
    pub(crate) version: &'static str,
    /// The program it brings.
    pub(crate) program: &'static str,
}

impl Package {
    /// Where its program lies once it is installed.
    pub(crate) fn program(&self, workspace: &Workspace) -> PathBuf {
        self.environment(workspace).join("bin").join(self.program)
    }

    /// Installs it unless it is there in its version, and returns the path of its program.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> Result<PathBuf> {
        let environment = self.environment(workspace);
        let requirement = format!("{}=={}", self.name, self.version);
        let pip = environment.join("bin/pip");
        let is_there = process::output(process::command(&pip).arg("freeze"))
            .is_ok_and(|list| list.lines().any(|line| line == requirement));
        if !is_there {
            ui::step(&format!("install {requirement}"), || {
                process::run(process::command("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
                process::run(process::command(&pip).args([
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    &requirement,
                ]))
            })?;
        }
        Ok(self.program(workspace))
    }

    fn environment(&self, workspace: &Workspace) -> PathBuf {
        workspace.tools().join(self.name)
    }
}
