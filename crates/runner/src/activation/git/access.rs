//! git's configuration in the agent's home: who commits, and what the repository's host is shown.
//!
//! It is a file of ours that `~/.gitconfig` includes first, so what an image or an agent puts there counts more. The
//! credential lies in a file that only this user can read, and is shown to the repository's host alone. The agent can
//! read it too: it must be able to push.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use paddock_runnerapi::{GitCredential, Repo};

use super::address::Address;

/// Who commits, where neither image nor agent says.
const IDENTITY: &str = "[user]\n\tname = paddock agent\n\temail = agent@paddock.invalid\n";
const SYSTEM_CONFIG: &str = "/etc/gitconfig";

/// Our folder in the agent's home.
pub(in super::super) fn folder(home: &Path) -> PathBuf {
    home.join(".paddock")
}

/// Writes it all anew, as the session is described now.
pub(in super::super) fn write(home: &Path, repo: Option<&Repo>) -> io::Result<()> {
    let dir = folder(home);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let secret = dir.join("git-credential");
    let mut config = "# Written by Paddock whenever the session gets a pod.\n".to_owned();
    if !fs::read_to_string(SYSTEM_CONFIG).is_ok_and(|text| text.contains("[user]")) {
        config.push_str(IDENTITY);
    }
    let access =
        repo.and_then(|repo| Some((Address::parse(&repo.url).ok()?.server()?, repo.credential.as_ref()?)));
    match access {
        Some((server, GitCredential { username, password })) => {
            replace(&secret, &format!("username={username}\npassword={password}\n"), 0o600)?;
            config.push_str(&helper(&server, &secret));
        }
        None => match fs::remove_file(&secret) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        },
    }
    let ours = dir.join("gitconfig");
    replace(&ours, &config, 0o644)?;
    include(&home.join(".gitconfig"), &ours)
}

/// A helper that shows the file and forgets nothing: git tells helpers to forget what a host has refused once.
fn helper(server: &str, secret: &Path) -> String {
    let file = secret.display().to_string().replace('\'', r"'\''");
    let program = format!("!f() {{ test \"$1\" != get || cat '{file}'; }}; f");
    let quoted = program.replace('\\', "\\\\").replace('"', "\\\"");
    // The empty one takes away what others have set: they would store it elsewhere.
    format!("[credential \"{server}\"]\n\thelper =\n\thelper = \"{quoted}\"\n")
}

fn include(config: &Path, ours: &Path) -> io::Result<()> {
    let known = match fs::read_to_string(config) {
        Ok(known) => known,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let path = format!("\tpath = \"{}\"\n", ours.display());
    if known.contains(&path) {
        return Ok(());
    }
    replace(config, &format!("[include]\n{path}{known}"), 0o644)
}

/// Whoever reads it sees the old file or the new one. Nothing is written where nothing changes.
fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    let partial = path.with_extension("paddock-partial");
    let _ = fs::remove_file(&partial);
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial);
    file?.write_all(text.as_bytes())?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_credential_is_the_users_alone_and_goes_with_the_description() {
        let home = std::env::temp_dir().join(format!("paddock-access-{}", std::process::id()));
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join(".gitconfig"), "[user]\n\tname = me\n").unwrap();
        let credential = GitCredential { username: "u".into(), password: "p\"'\\".into() };
        let repo = Repo {
            url: "https://h/x".into(),
            branch: None,
            credential: Some(credential),
            full_history: false,
        };
        let secret = home.join(".paddock/git-credential");
        for _ in 0..2 {
            write(&home, Some(&repo)).unwrap();
            assert_eq!(fs::read_to_string(&secret).unwrap(), "username=u\npassword=p\"'\\\n");
            assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
            let config = fs::read_to_string(home.join(".gitconfig")).unwrap();
            assert!(config.starts_with("[include]") && config.ends_with("[user]\n\tname = me\n"), "{config}");
            assert_eq!(config.matches("[include]").count(), 1);
            let ours = fs::read_to_string(home.join(".paddock/gitconfig")).unwrap();
            assert!(ours.contains("[credential \"https://h\"]") && !ours.contains("p\""), "{ours}");
        }
        write(&home, None).unwrap();
        assert!(!secret.exists());
        assert!(!fs::read_to_string(home.join(".paddock/gitconfig")).unwrap().contains("credential"));
        fs::remove_dir_all(&home).unwrap();
    }
}
