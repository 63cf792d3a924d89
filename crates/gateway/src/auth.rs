//! The master key: who may use the API.
//!
//! Keys are compared as digests in constant time, so that neither content nor length can be measured. The file
//! is read again while the gateway runs: a rotated Secret takes effect without a restart, and a file that is
//! missing or empty for a moment leaves the old key in place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use paddock_api::http::ErrorCode;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::ApiError;

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

#[derive(Clone, Copy)]
struct Hashed([u8; 32]);

impl Hashed {
    fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }
}

/// The key and the file it comes from.
pub struct MasterKey {
    path: PathBuf,
    current: RwLock<Hashed>,
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
        if bool::from(current.0.ct_eq(&read.0)) {
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

    /// Checks the bearer key of a request.
    ///
    /// # Errors
    /// `unauthorized`, with nothing said about why.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let presented = match (values.next(), values.next()) {
            (Some(value), None) => bearer(value.as_bytes()),
            _ => None,
        };
        let matches = presented.is_some_and(|key| Hashed::of(key).0.ct_eq(&self.current.read().0).into());
        if matches { Ok(()) } else { Err(ApiError::new(ErrorCode::Unauthorized, "unauthorized")) }
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

fn read(path: &Path) -> Result<Hashed, KeyError> {
    let bytes =
        std::fs::read(path).map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })?;
    match bytes.trim_ascii() {
        [] => Err(KeyError::Empty(path.to_owned())),
        key => Ok(Hashed::of(key)),
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(key: &MasterKey, authorization: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        key.check(&headers).is_ok()
    }

    #[test]
    fn the_key_opens_and_nothing_else_does() {
        let file = crate::testing::TempFile::new("auth", "s3cret\n");
        let key = MasterKey::from_file(file.path()).unwrap();
        assert!(allowed(&key, &["Bearer s3cret"]));
        assert!(allowed(&key, &["bearer s3cret"]));
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer", "Bearer ", "Basic s3cret", "s3cret"] {
            assert!(!allowed(&key, &[wrong]), "{wrong}");
        }
        assert!(!allowed(&key, &[]));
        assert!(!allowed(&key, &["Bearer s3cret", "Bearer s3cret"]));
        assert!(!format!("{key:?}").contains("s3cret"));
    }

    #[test]
    fn a_changed_file_is_taken_and_an_emptied_one_is_not() {
        let file = crate::testing::TempFile::new("reload", "old");
        let key = MasterKey::from_file(file.path()).unwrap();
        assert_eq!(key.reload().unwrap(), Changed::No);
        file.write("new");
        assert_eq!(key.reload().unwrap(), Changed::Yes);
        assert!(allowed(&key, &["Bearer new"]) && !allowed(&key, &["Bearer old"]));
        file.write("  \n");
        assert!(matches!(key.reload(), Err(KeyError::Empty(_))));
        assert!(allowed(&key, &["Bearer new"]));
    }
}
