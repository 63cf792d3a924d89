//! `paddock-runner`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    paddock_runner::cli::main()
}
