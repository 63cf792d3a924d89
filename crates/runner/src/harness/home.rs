//! What harnesses need in their home, whichever they are.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A volume's root belongs to root, and git works in nobody else's folder unless it is told to.
pub(super) fn trust_git(home: &Path, workspace: &Path) -> io::Result<()> {
    let path = home.join(".gitconfig");
    let known = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
    let directory = format!("\tdirectory = \"{}\"\n", workspace.display());
    if known.contains(&directory) {
        return Ok(());
    }
    let border = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
    let file = fs::OpenOptions::new().append(true).create(true).open(&path);
    // A section may come twice.
    file?.write_all(format!("{border}[safe]\n{directory}").as_bytes())
}

/// Writes a file that only this user can read.
pub(super) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file?.write_all(text.as_bytes())
}
