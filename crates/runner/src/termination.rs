//! The last words of a container that failed. Kubernetes shows them in the pod's status, which is where the
//! controller learns why a session's harness crashed.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Kubernetes takes 4096 bytes of one container.
const LONGEST: usize = 1024;

/// Writes why the container ends. The text must hold no secret. The kubelet has made the file; where it is not
/// there, or cannot be written, nothing happens: the end must not wait for it.
pub fn tell(path: &Path, why: &str) {
    let told = OpenOptions::new().write(true).truncate(true).open(path);
    let told = told.and_then(|mut file| file.write_all(cut(why).as_bytes()));
    if let Err(error) = told {
        tracing::debug!(path = %path.display(), %error, "no termination message");
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_written_where_the_file_is_and_nowhere_else() {
        let path = std::env::temp_dir().join(format!("paddock-termination-{}", std::process::id()));
        tell(&path, "lost");
        assert!(!path.exists());
        std::fs::write(&path, "an older and longer text").unwrap();
        tell(&path, "harness ended: signal 9");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "harness ended: signal 9");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = format!("a{}", "ä".repeat(LONGEST));
        assert_eq!(cut(&long).len(), LONGEST - 1);
        assert_eq!(cut("short"), "short");
    }
}
