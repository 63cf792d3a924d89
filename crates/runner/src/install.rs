//! Puts the runner's binary where the harness container finds it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The binary could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("installing the runner into {dir}: {source}; is the volume mounted and writable for this user?")]
pub struct InstallError {
    dir: PathBuf,
    source: io::Error,
}

/// Copies the running program to `dir/paddock-runner`, mode 0755, replacing an older one in one step.
///
/// # Errors
/// Where the folder cannot be written.
pub fn install(dir: &Path) -> Result<PathBuf, InstallError> {
    let copy = || -> io::Result<PathBuf> {
        let target = dir.join("paddock-runner");
        let partial = dir.join(".paddock-runner.partial");
        fs::copy(std::env::current_exe()?, &partial)?;
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o755))?;
        // An init container may run again: a rename also replaces a binary that is being executed.
        fs::rename(&partial, &target)?;
        Ok(target)
    };
    copy().map_err(|source| InstallError { dir: dir.to_owned(), source })
}
