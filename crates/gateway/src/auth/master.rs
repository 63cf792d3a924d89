//! The master key: it allows everything.
//!
//! It is compared as a digest in constant time, so that neither content nor length can be measured. The file
//! is read again while the gateway runs: a rotated Secret takes effect without a restart, and a file that is
//! missing or empty for a moment leaves the old key in place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::RwLock;

use super::digest::Digest;

/// How often the file is looked at. A kubelet takes up to a minute to renew a mounted Secret.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error(
        "cannot read the master key from {path}: {source}; mount the Secret there, or name another file with --master-key-file"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file has no key in it.
    #[error("the master key file {0} is empty; put the key clients shall send into it")]
    Empty(PathBuf),
}

/// The key and the file it comes from.
pub struct MasterKey {
    path: PathBuf,
    current: RwLock<Digest>,
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterKey").field("path", &self.path).field("key", &"***").finish()
    }
}

impl MasterKey {
    /// Reads the key; white space around it does not count.
    ///
    /// # Errors
    /// There is none.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Ok(Self { path: path.to_owned(), current: RwLock::new(read(path)?) })
    }

    /// Looks at the file again.
    ///
    /// # Errors
    /// There is no key in it; the old one stays.
    pub fn reload(&self) -> Result<Changed, KeyError> {
        let read = read(&self.path)?;
        let mut current = self.current.write();
        if current.is(&read) {
            return Ok(Changed::No);
        }
        *current = read;
        Ok(Changed::Yes)
    }

    /// Looks at the file from time to time, for ever.
    pub async fn follow(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.reload() {
                Ok(Changed::Yes) => tracing::info!(path = %self.path.display(), "the master key has changed"),
                Ok(Changed::No) => {}
                Err(error) => tracing::warn!(%error, "the old master key stays in use"),
            }
        }
    }

    /// Whether it has this digest.
    pub(super) fn is(&self, digest: &Digest) -> bool {
        self.current.read().is(digest)
    }
}

/// Whether the key is another than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is.
    Yes,
    /// It is not.
    No,
}

fn read(path: &Path) -> Result<Digest, KeyError> {
    let bytes =
        std::fs::read(path).map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })?;
    match bytes.trim_ascii() {
        [] => Err(KeyError::Empty(path.to_owned())),
        key => Ok(Digest::of(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_taken_and_an_emptied_one_is_not() {
        let file = crate::testing::TempFile::new("reload", "old");
        let key = MasterKey::from_file(file.path()).unwrap();
        assert_eq!(key.reload().unwrap(), Changed::No);
        file.write("new");
        assert_eq!(key.reload().unwrap(), Changed::Yes);
        assert!(key.is(&Digest::of(b"new")) && !key.is(&Digest::of(b"old")));
        file.write("  \n");
        assert!(matches!(key.reload(), Err(KeyError::Empty(_))));
        assert!(key.is(&Digest::of(b"new")));
    }
}
