//! Starting other programs: every command is printed before it runs, and a failure names the command.

use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::ui;

/// A command that reads nothing: no step may wait for a keyboard.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// The cargo that started this program, so that the toolchain stays the same.
pub(crate) fn cargo() -> Command {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Prints the command, runs it with its output on the terminal, and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    ui::say(&format!("$ {}", describe(command)));
    let status = command.status().with_context(|| format!("cannot start `{}`", describe(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", describe(command));
    }
    Ok(())
}

/// Runs the command silently and returns what it printed; its complaints are part of the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{}`", describe(command)))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{}", describe(command), output.status, complaint.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no UTF-8", describe(command)))
}

/// The SHA-256 of a file in hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let printed = output(command("sha256sum").arg("--").arg(path))?;
    // A name with a backslash or newline would be printed with a backslash before the sum.
    Ok(printed.trim_start_matches('\\').split_whitespace().next().unwrap_or_default().to_owned())
}

/// Looks a program up in `PATH` and in the system folders an ordinary user's `PATH` lacks.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// How a command can run as root here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// This process is root.
    Already,
    /// `sudo` may ask for a password on the terminal.
    SudoAsking,
    /// `sudo` works without a password.
    SudoSilent,
}

impl Root {
    /// How to become root, or why it is not possible.
    pub(crate) fn obtain() -> Result<Self> {
        if effective_user()? == 0 {
            return Ok(Self::Already);
        }
        if find_program("sudo").is_none() {
            bail!("this needs root and `sudo` is not installed: run the command as root");
        }
        if command("sudo").args(["-n", "true"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Ok(Self::SudoSilent);
        }
        if io::stdin().is_terminal() && env::var_os("CI").is_none() {
            return Ok(Self::SudoAsking);
        }
        bail!(
            "this needs root, and `sudo` wants a password but there is no terminal to ask on: run the command as root"
        )
    }

    /// A command that runs `program` as root with the variables of `environment` set.
    pub(crate) fn command(self, program: impl AsRef<OsStr>, environment: &[(&str, &OsStr)]) -> Command {
        let sudo: &[&str] = match self {
            Self::Already => {
                let mut direct = command(program);
                direct.envs(environment.iter().copied());
                return direct;
            }
            // A password prompt reads the terminal itself, not standard input.
            Self::SudoAsking => &["--"],
            Self::SudoSilent => &["-n", "--"],
        };
        let mut through_sudo = command("sudo");
        through_sudo.args(sudo);
        if !environment.is_empty() {
            // `sudo` clears the environment, so the variables travel as arguments of `env`.
            through_sudo.arg("env");
            for (name, value) in environment {
                let mut assignment = std::ffi::OsString::from(name);
                assignment.push("=");
                assignment.push(value);
                through_sudo.arg(assignment);
            }
        }
        through_sudo.arg(program);
        through_sudo
    }
}

/// The effective user id of this process, from `/proc`, which spares a crate for one call.
fn effective_user() -> Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1)?.parse().ok())
        .context("/proc/self/status has no effective user id")
}

/// The command line as one would type it, quoted where a shell needs it.
pub(crate) fn describe(command: &Command) -> String {
    // Where a program lies says less than its name.
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut words = vec![quote(program)];
    words.extend(command.get_args().map(quote));
    words.join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_=/.,:+@%~".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_described_as_a_shell_would_read_it() {
        for (arguments, expected) in [
            (&["build", "--locked"][..], "tool build --locked"),
            (&["two words"], "tool 'two words'"),
            (&["it's"], r"tool 'it'\''s'"),
            (&[""], "tool ''"),
        ] {
            assert_eq!(describe(Command::new("tool").args(arguments)), expected);
        }
    }

    #[test]
    fn root_through_sudo_carries_the_environment_as_arguments() {
        let value = OsStr::new("noninteractive");
        let command = Root::SudoSilent.command("apt-get", &[("DEBIAN_FRONTEND", value)]);
        assert_eq!(describe(&command), "sudo -n -- env DEBIAN_FRONTEND=noninteractive apt-get");
    }
}
