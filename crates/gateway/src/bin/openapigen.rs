//! Writes the OpenAPI document into the file given as the only argument.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: openapigen FILE");
        return ExitCode::from(2);
    };
    match std::fs::write(&file, format!("{:#}\n", paddock_gateway::openapi::document())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("openapigen: writing {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}
