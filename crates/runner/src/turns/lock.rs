//! One runner at a time on a state folder.
//!
//! The folder may be on a volume that outlives the pod, and the next pod may start before the last one has
//! ended. Two runners on one journal would mix their lines, and two harnesses on one home their databases. So
//! the lock is taken before anything else is touched, and it is the kernel's: it ends with the process,
//! however that ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::journal::JournalError;

const FILE_NAME: &str = "lock";
/// How often a lock that is taken is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How often the log says that it still is.
const REMIND: Duration = Duration::from_secs(10);

/// Whoever has it may write the journal in its folder.
#[derive(Debug)]
pub struct StateLock {
    dir: PathBuf,
    /// Open files of the program's own are not inherited by its children.
    _file: File,
}

impl StateLock {
    /// Waits until no other runner has the folder, which is made if need be.
    ///
    /// # Errors
    /// [`JournalError::Open`], and [`JournalError::Lock`] where the file system knows no locks.
    pub async fn acquire(dir: &Path) -> Result<Self, JournalError> {
        let begun = Instant::now();
        let mut told: Option<Instant> = None;
        loop {
            if let Some(lock) = Self::try_acquire(dir)? {
                if told.is_some() {
                    tracing::info!(waited = ?begun.elapsed(), "the other runner has ended; going on");
                }
                return Ok(lock);
            }
            if told.is_none_or(|told| told.elapsed() >= REMIND) {
                let (folder, waited) = (dir.display(), begun.elapsed());
                tracing::warn!(%folder, ?waited, "another pod's runner still uses the volume; waiting for its end");
                told = Some(Instant::now());
            }
            sleep(RETRY).await;
        }
    }

    /// The lock, if it is free.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub fn try_acquire(dir: &Path) -> Result<Option<Self>, JournalError> {
        let path = dir.join(FILE_NAME);
        let opened = || {
            // Other users have no business with what was said.
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)
        };
        let file = opened().map_err(|source| JournalError::Open { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { dir: dir.to_owned(), _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(JournalError::Lock { path, source }),
        }
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}
