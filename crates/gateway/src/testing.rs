//! Helpers of the unit tests.

use std::path::{Path, PathBuf};

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
