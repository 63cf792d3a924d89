//! What was done to the workspace already, kept beside the journal: a container that restarts in the middle must know.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Something that is done once for a workspace.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// A clone has begun; what is there is half of it.
    Cloning,
    /// The repository is there, and what is done to it since is the agent's.
    Cloned,
    /// The files are there, likewise.
    FilesWritten,
}

impl Mark {
    const fn name(self) -> &'static str {
        match self {
            Self::Cloning => "cloning",
            Self::Cloned => "cloned",
            Self::FilesWritten => "files-written",
        }
    }
}

/// See the module.
pub(super) struct Marks(pub(super) PathBuf);

impl Marks {
    pub(super) fn has(&self, mark: Mark) -> bool {
        self.0.join(mark.name()).exists()
    }

    pub(super) fn set(&self, mark: Mark) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        fs::File::create(self.0.join(mark.name()))?.sync_all()
    }
}
