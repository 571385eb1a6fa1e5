//! The compiler wrapper that makes the kernel object independent of where things are on a machine.
//!
//! Cargo gives each crate a metadata hash that takes in the absolute path of crates outside the workspace, such as
//! `monitor-common` and the toolchain's own `core`. The hash ends up in symbol names and in the order of functions. Here
//! it is replaced by the crate's name, version and features, which say the same and hold on every machine.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::ui;

/// Set for the build of the kernel programs, where this program stands in front of the compiler.
pub(crate) const MODE_VARIABLE: &str = "EGRESSWATCH_REPRODUCIBLE_RUSTC";

/// Whether this process was started by cargo in the compiler's place.
pub(crate) fn is_asked_for() -> bool {
    env::var_os(MODE_VARIABLE).is_some()
}

/// Becomes the compiler that cargo named, with its arguments made independent of the machine.
pub(crate) fn run() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let Some(compiler) = arguments.next() else {
        ui::say("error: cargo named no compiler to run");
        return ExitCode::FAILURE;
    };
    let arguments = stabilise(arguments.collect(), env::var("CARGO_PKG_VERSION").ok().as_deref());
    // `exec` only returns when it failed.
    let error = Command::new(&compiler).args(arguments).env_remove(MODE_VARIABLE).exec();
    ui::say(&format!("error: cannot start {}: {error}", compiler.display()));
    ExitCode::FAILURE
}

/// Replaces the value of `-C metadata=…`; everything else stays.
fn stabilise(mut arguments: Vec<OsString>, version: Option<&str>) -> Vec<OsString> {
    let Some(crate_name) = value_after(&arguments, "--crate-name") else { return arguments };
    let mut identity = format!("{crate_name}-{}", version.unwrap_or_default());
    for pair in arguments.windows(2) {
        if let [flag, value] = pair
            && flag == "--cfg"
        {
            identity.push('-');
            identity.push_str(&value.to_string_lossy());
        }
    }
    for argument in &mut arguments {
        if argument.to_str().is_some_and(|argument| argument.starts_with("metadata=")) {
            *argument = OsString::from(format!("metadata={identity}"));
        }
    }
    arguments
}

fn value_after(arguments: &[OsString], flag: &str) -> Option<String> {
    let position = arguments.iter().position(|argument| argument == OsStr::new(flag))?;
    arguments.get(position + 1).map(|value| value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stabilised(line: &str) -> String {
        let arguments = line.split(' ').map(OsString::from).collect();
        let words: Vec<_> =
            stabilise(arguments, Some("1.2.3")).into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
        words.join(" ")
    }

    #[test]
    fn only_the_metadata_changes_and_tells_crates_apart() {
        for (line, expected) in [
            (
                "--crate-name core src/lib.rs -C metadata=0123 -C extra-filename=-0123",
                "--crate-name core src/lib.rs -C metadata=core-1.2.3 -C extra-filename=-0123",
            ),
            (
                "--crate-name core --cfg feature=\"a\" -C metadata=0123",
                "--crate-name core --cfg feature=\"a\" -C metadata=core-1.2.3-feature=\"a\"",
            ),
            // Cargo's questions to the compiler have no crate.
            ("-vV", "-vV"),
        ] {
            assert_eq!(stabilised(line), expected);
        }
    }
}
