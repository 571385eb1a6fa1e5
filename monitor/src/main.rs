//! The command line of `egresswatch`.

use std::process::ExitCode;

fn main() -> ExitCode {
    egresswatch::cli::main()
}
