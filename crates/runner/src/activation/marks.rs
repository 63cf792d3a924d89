//! What was done to the workspace already, kept beside the journal: a container that restarts in the middle must know.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

/// Something that is done once for a workspace.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// A clone has begun; what is there is half of it.
    Cloning,
    /// The repository is there, and what is done to it since is the agent's.
    Cloned,
}

impl Mark {
    const fn name(self) -> &'static str {
        match self {
            Self::Cloning => "cloning",
            Self::Cloned => "cloned",
        }
    }
}

/// See the module.
pub(super) struct Marks(pub(super) PathBuf);

impl Marks {
    pub(super) fn has(&self, mark: Mark) -> bool {
        self.0.join(mark.name()).exists()
    }

    /// Whether it was set for this very thing.
    pub(super) fn is_of(&self, mark: Mark, what: &str) -> bool {
        fs::read_to_string(self.0.join(mark.name())).is_ok_and(|found| found == what)
    }

    pub(super) fn set(&self, mark: Mark, what: &str) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let mut file = fs::File::create(self.0.join(mark.name()))?;
        file.write_all(what.as_bytes())?;
        file.sync_all()
    }
}
