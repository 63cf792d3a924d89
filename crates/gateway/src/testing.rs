//! Helpers of the unit tests.

use std::path::{Path, PathBuf};

use paddock_runnerapi::SigningKey;

/// A test key: the one of RFC 8037, appendix A.
pub fn signing_key() -> SigningKey {
    let der = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
    SigningKey::from_pem(pem.as_bytes()).unwrap()
}

/// A file that is gone when this is dropped.
pub struct TempFile(PathBuf);

impl TempFile {
    /// A file with this content; `label` tells the files of a test run apart.
    pub fn new(label: &str, content: &str) -> Self {
        let file = Self(std::env::temp_dir().join(format!("paddock-{label}-{}", uuid::Uuid::now_v7())));
        file.write(content);
        file
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Replaces its content.
    pub fn write(&self, content: &str) {
        std::fs::write(&self.0, content).unwrap();
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
