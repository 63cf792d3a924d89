//! Files of the agent's description, written into a folder that may hold anything, links included.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use paddock_runnerapi::{Skill, TextFile};
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::equip::StepError;

/// The name that a file has until it is whole.
const PARTIAL: &str = ".paddock-partial";
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether the path stays within its folder as far as its text tells.
pub(super) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.ends_with('/') {
        return Err("names no file");
    }
    if path.contains('\0') {
        return Err("holds a zero byte");
    }
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if plain { Ok(()) } else { Err("must be relative, without . or .. in it") }
}

/// Writes files below `root` and tells whether anything has changed. No link below `root` is followed.
pub(super) fn write_all(root: &Path, files: &[TextFile]) -> Result<bool, StepError> {
    let mut changed = false;
    for file in files {
        let failed = |why: String| StepError(format!("writing the file {:?}: {why}", file.path));
        check_path(&file.path).map_err(|why| failed(format!("its path {why}")))?;
        changed |= write(root, file).map_err(failed)?;
    }
    Ok(changed)
}

/// Writes skills where the harness looks for them, a folder for each.
pub(super) fn write_skills(dir: &Path, skills: &[Skill]) -> Result<bool, StepError> {
    let mut changed = false;
    for skill in skills {
        let failed = |why: String| StepError(format!("writing the skill {}: {why}", skill.name));
        let folder = dir.join(&skill.name);
        fs::create_dir_all(&folder).map_err(|error| failed(error.to_string()))?;
        changed |= write_all(&folder, &skill.files).map_err(|StepError(why)| failed(why))?;
    }
    Ok(changed)
}

fn write(root: &Path, file: &TextFile) -> Result<bool, String> {
    let (folders, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let said = |error: Errno| match error {
        Errno::LOOP | Errno::NOTDIR => {
            "a part of its path is a link or no folder; choose another path".to_owned()
        }
        Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY => {
            "a folder has that name; choose another path".to_owned()
        }
        Errno::NOSPC | Errno::DQUOT => {
            "the disk is full; give the workspace a larger volume, or it fewer files".to_owned()
        }
        error => error.to_string(),
    };
    let mut folder = open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(said)?;
    for part in folders.split('/').filter(|part| !part.is_empty()) {
        match mkdirat(&folder, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(said(error)),
        }
        folder = openat(&folder, part, FOLDER, Mode::empty()).map_err(said)?;
    }
    if holds(&folder, name, &file.content) {
        return Ok(false);
    }
    // One that was left half-written.
    let _ = unlinkat(&folder, PARTIAL, AtFlags::empty());
    let mode = if file.content.starts_with("#!") { 0o755 } else { 0o644 };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let partial = openat(&folder, PARTIAL, flags, Mode::from_raw_mode(mode)).map_err(said)?;
    let of_io = |error: std::io::Error| Errno::from_io_error(&error).map_or_else(|| error.to_string(), said);
    File::from(partial).write_all(file.content.as_bytes()).map_err(of_io)?;
    renameat(&folder, PARTIAL, &folder, name).map_err(|error| {
        let _ = unlinkat(&folder, PARTIAL, AtFlags::empty());
        said(error)
    })?;
    Ok(true)
}

fn holds(folder: &OwnedFd, name: &str, content: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(found) = openat(folder, name, flags, Mode::empty()) else { return false };
    let mut found = File::from(found);
    let same_length =
        found.metadata().is_ok_and(|about| about.is_file() && about.len() == content.len() as u64);
    let mut text = Vec::new();
    same_length && found.read_to_end(&mut text).is_ok() && text == content.as_bytes()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn file(path: &str, content: &str) -> TextFile {
        TextFile { path: path.into(), content: content.into() }
    }

    fn folder(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("paddock-files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn files_are_written_once_and_replaced_whole() {
        let dir = folder("write");
        let files = [file("a/b/c.txt", "one"), file("run.sh", "#!/bin/sh\n")];
        assert!(write_all(&dir, &files).unwrap());
        assert!(!write_all(&dir, &files).unwrap(), "nothing has changed");
        assert!(write_all(&dir, &[file("a/b/c.txt", "two")]).unwrap());
        assert_eq!(fs::read_to_string(dir.join("a/b/c.txt")).unwrap(), "two");
        let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o111;
        assert!(mode("run.sh") != 0 && mode("a/b/c.txt") == 0);
        let names: Vec<_> =
            fs::read_dir(dir.join("a/b")).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, ["c.txt"]);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        let (dir, outside) = (folder("in"), folder("out"));
        symlink(&outside, dir.join("link")).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        symlink(outside.join("kept"), dir.join("file")).unwrap();
        for path in ["", "/etc/x", "../x", "a/../../x", "./x", "a\0b", "a/", "link/x", "file/x"] {
            let refused = write_all(&dir, &[file(path, "bad")]).unwrap_err().0;
            assert!(refused.contains("path"), "{path:?}: {refused}");
        }
        // A link in the file's own place is replaced, not written through.
        assert!(write_all(&dir, &[file("file", "new")]).unwrap());
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        fs::create_dir(dir.join("folder")).unwrap();
        assert!(write_all(&dir, &[file("folder", "x")]).unwrap_err().0.contains("a folder has that name"));
        for dir in [dir, outside] {
            fs::remove_dir_all(&dir).unwrap();
        }
    }
}
