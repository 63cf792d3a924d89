//! The clone: into a workspace that is there already and that the harness knows (shared notes, "variant A"): it may be
//! a git repository with one empty commit, so that nothing has to be loaded again.

pub(super) mod access;
mod address;
mod failure;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use paddock_runnerapi::Repo;
use tokio::time::{Instant, sleep};

use super::child::{self, Unended};
use super::equip::{StepError, Tools};
use super::marks::Mark;
use super::quote::Secrets;
use crate::harness::PLACEHOLDER_COMMIT;
use crate::process::Exit;
use address::Address;
use failure::{Failure, Names};

/// How long a clone may take.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long a host that cannot be reached is waited for, before each further attempt.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// Nothing but these is spoken: neither programs nor ssh, which has no credential here.
const PROTOCOLS: &str = "https:http:file";

/// Whether a repository can be cloned as it is described.
pub(super) fn check(repo: &Repo) -> Result<(), StepError> {
    let failed = |why: String| StepError(format!("cloning the repository: {why}"));
    Address::parse(&repo.url).map_err(|why| failed(format!("its URL cannot be used: {why}")))?;
    let branch = repo.branch.as_deref().unwrap_or("main");
    let odd = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    if branch.is_empty() || branch.starts_with('-') || branch.contains("..") || branch.contains(odd) {
        return Err(failed(format!("{branch:?} cannot be the name of a branch or tag")));
    }
    let lines = |text: &str| text.contains(['\n', '\r', '\0']);
    if repo.credential.as_ref().is_some_and(|found| lines(&found.username) || lines(&found.password)) {
        return Err(failed("its credential has more than one line; a token has one".to_owned()));
    }
    Ok(())
}

/// What is checked out.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    Branch(String),
    Tag(String),
    /// The repository has nothing yet.
    Empty,
}

/// Clones into the workspace, unless that has been done. Returns whether it was done now. No agent has worked there yet: what
/// an earlier attempt has left, for another description maybe, is cleared away.
pub(super) async fn clone(
    tools: &Tools,
    env: &[(OsString, OsString)],
    repo: &Repo,
    secrets: &Secrets,
) -> Result<bool, StepError> {
    let what = format!("{}\n{}", repo.url, repo.branch.as_deref().unwrap_or_default());
    if tools.marks.is_of(Mark::Cloned, &what) {
        return Ok(false);
    }
    let address = Address::parse(&repo.url).map_err(|why| StepError(why.to_owned()))?;
    let names = Names {
        host: address.host(),
        branch: repo.branch.as_deref(),
        has_credential: repo.credential.is_some(),
        limit_minutes: LIMIT.as_secs() / 60,
    };
    let again = tools.marks.has(Mark::Cloning);
    let noted = |error: io::Error| StepError(format!("cloning the repository: noting that: {error}"));
    tools.marks.set(Mark::Cloning, &what).map_err(noted)?;
    let git = Git { tools, env, secrets, deadline: Instant::now() + LIMIT };
    git.clone(repo, &address, again).await.map_err(|failure| failure.told(&names))?;
    tools.marks.set(Mark::Cloned, &what).map_err(noted)?;
    Ok(true)
}

struct Git<'a> {
    tools: &'a Tools,
    env: &'a [(OsString, OsString)],
    secrets: &'a Secrets,
    deadline: Instant,
}

impl Git<'_> {
    async fn clone(&self, repo: &Repo, address: &Address<'_>, again: bool) -> Result<(), Failure> {
        let dot_git = self.tools.workspace.join(".git");
        if again {
            tracing::info!("an earlier clone was not finished; it is done again");
            clear_locks(&dot_git);
        }
        if !dot_git.exists() {
            self.run(&["init", "--quiet"]).await?;
        }
        self.run(&["config", "remote.origin.url", &repo.url]).await?;
        let head = self.find(repo.branch.as_deref()).await?;
        let wanted = match &head {
            Head::Branch(_) if repo.full_history => "+refs/heads/*:refs/remotes/origin/*".to_owned(),
            Head::Branch(name) => format!("+refs/heads/{name}:refs/remotes/origin/{name}"),
            Head::Tag(name) => format!("+refs/tags/{name}:refs/tags/{name}"),
            Head::Empty => "+refs/heads/*:refs/remotes/origin/*".to_owned(),
        };
        let followed = match &head {
            Head::Branch(_) => wanted.as_str(),
            Head::Tag(_) | Head::Empty => "+refs/heads/*:refs/remotes/origin/*",
        };
        self.run(&["config", "--replace-all", "remote.origin.fetch", followed]).await?;
        if head == Head::Empty {
            return Ok(());
        }
        let borrows = self.borrow(&dot_git, address).map_err(|_| Failure::Other)?;
        let mut fetch = vec!["fetch", "--quiet"];
        fetch.extend(if repo.full_history { &["--tags"][..] } else { &["--no-tags", "--depth=1"] });
        self.patiently(&[&fetch[..], &["origin", &wanted]].concat()).await?;
        self.check_out(&head, again).await?;
        if borrows {
            // The cache is another's: from here on the repository needs nothing of it.
            self.run(&["repack", "--quiet", "-a", "-d"]).await?;
            fs::remove_file(dot_git.join("objects/info/alternates")).map_err(|_| Failure::Other)?;
        }
        Ok(())
    }

    /// Asks the host what there is: it is also the first to tell that it refuses us.
    async fn find(&self, branch: Option<&str>) -> Result<Head, Failure> {
        let (as_branch, as_tag) = match branch {
            Some(name) => (format!("refs/heads/{name}"), format!("refs/tags/{name}")),
            None => ("HEAD".to_owned(), "HEAD".to_owned()),
        };
        let told = self.patiently(&["ls-remote", "--symref", "origin", &as_branch, &as_tag]).await?;
        head(&told, branch).ok_or(Failure::NoBranch)
    }

    async fn check_out(&self, head: &Head, again: bool) -> Result<(), Failure> {
        let before = self.run(&["symbolic-ref", "--short", "--quiet", "HEAD"]).await.unwrap_or_default();
        let before = before.trim();
        // What a clone that broke off has left is ours, and half of it.
        if again {
            self.run(&["clean", "--quiet", "-ffdx"]).await?;
        }
        let force: &[&str] = if again { &["--force"] } else { &[] };
        match head {
            Head::Branch(name) => {
                let upstream = format!("origin/{name}");
                let to = ["-B", name, "--track", &upstream];
                self.run(&[&["checkout", "--quiet"], force, &to].concat()).await?;
            }
            Head::Tag(name) => {
                let tag = format!("refs/tags/{name}");
                self.run(&[&["checkout", "--quiet"], force, &["--detach", &tag]].concat()).await?;
            }
            Head::Empty => {}
        }
        // The commit that stood for the repository until it came.
        let stays = matches!(head, Head::Branch(name) if name == before);
        if !before.is_empty() && !stays {
            let branch = format!("refs/heads/{before}");
            let subject = self.run(&["log", "-1", "--format=%s", &branch]).await.unwrap_or_default();
            if subject.trim() == PLACEHOLDER_COMMIT {
                self.run(&["branch", "--quiet", "-D", before]).await?;
            }
        }
        Ok(())
    }

    /// Lets git take objects from the cache, where that has this repository.
    fn borrow(&self, dot_git: &Path, address: &Address<'_>) -> io::Result<bool> {
        let alternates = dot_git.join("objects/info/alternates");
        let cached = self.tools.git_cache.as_ref().zip(address.cached());
        let Some(objects) = cached.map(|(cache, path)| cache.join(path).join("objects")) else {
            return Ok(false);
        };
        if !objects.is_dir() {
            tracing::info!(folder = %objects.display(), "the cache of repositories does not have this one");
            return Ok(false);
        }
        fs::write(alternates, format!("{}\n", objects.display()))?;
        Ok(true)
    }

    /// As [`Self::run`], and tries again a little where the host cannot be reached.
    async fn patiently(&self, args: &[&str]) -> Result<String, Failure> {
        for pause in PATIENCE {
            match self.run(args).await {
                Err(Failure::Unreachable) => sleep(pause).await,
                ended => return ended,
            }
        }
        self.run(args).await
    }

    async fn run(&self, args: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new("git");
        command
            .args(["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60", "-c", "gc.auto=0"])
            .args(args)
            .current_dir(&self.tools.workspace)
            .env_clear()
            .envs(self.env.iter().cloned())
            .env("HOME", &self.tools.home)
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
            .env_remove("GIT_ASKPASS")
            .env_remove("SSH_ASKPASS");
        let left = self.deadline.saturating_duration_since(Instant::now());
        match child::run(&self.tools.reaper, &mut command, left).await {
            Ok(ended) if ended.exit == Exit::Code(0) => Ok(ended.out),
            Ok(ended) => {
                let failure = Failure::of(&ended.err);
                let said = self.secrets.quote(&ended.err);
                tracing::info!(command = args[0], exit = %ended.exit, ?failure, said, "git failed");
                Err(failure)
            }
            Err(Unended::TimedOut) => Err(Failure::TimedOut),
            Err(Unended::Missing) => Err(Failure::NoGit),
            Err(Unended::NotStarted(error)) => {
                tracing::warn!(%error, "git cannot be started");
                Err(Failure::Other)
            }
        }
    }
}

/// What `ls-remote --symref` told of `branch`, or of the default one. Nothing where there is no such branch.
fn head(told: &str, branch: Option<&str>) -> Option<Head> {
    let names: Vec<(&str, &str)> = told.lines().filter_map(|line| line.split_once('\t')).collect();
    let has = |name: String| names.iter().any(|(_, found)| *found == name);
    match branch {
        Some(name) if has(format!("refs/heads/{name}")) => Some(Head::Branch(name.to_owned())),
        Some(name) if has(format!("refs/tags/{name}")) => Some(Head::Tag(name.to_owned())),
        Some(_) => None,
        None if !has("HEAD".to_owned()) => Some(Head::Empty),
        None => {
            let target = names.iter().find_map(|(value, _)| value.strip_prefix("ref: refs/heads/"));
            target.map(|name| Head::Branch(name.to_owned()))
        }
    }
}

/// A git that was killed leaves its locks, and they would stop the next one.
fn clear_locks(dot_git: &Path) {
    for dir in [dot_git.to_owned(), dot_git.join("refs/heads"), dot_git.join("objects/pack")] {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".lock") || name.starts_with("tmp_pack_") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_tag_and_default_are_told_apart() {
        let branch = |name: &str| Some(Head::Branch(name.into()));
        let told = "ref: refs/heads/trunk\tHEAD\n123\tHEAD\n";
        assert_eq!(head(told, None), branch("trunk"));
        assert_eq!(head("", None), Some(Head::Empty));
        assert_eq!(head("1\trefs/heads/v1\n2\trefs/tags/v1\n", Some("v1")), branch("v1"));
        assert_eq!(head("2\trefs/tags/v1\n", Some("v1")), Some(Head::Tag("v1".into())));
        // ls-remote takes the end of a name for the name.
        assert_eq!(head("2\trefs/heads/refs/heads/v1\n", Some("v1")), None);
        assert_eq!(head("", Some("v1")), None);
    }

    #[test]
    fn a_description_that_git_could_misread_is_refused() {
        let repo = |branch: &str| Repo {
            url: "https://h/x".into(),
            branch: Some(branch.into()),
            credential: None,
            full_history: false,
        };
        for branch in ["", "-f", "a..b", "a b", "a:b", "a\nb", "a^"] {
            assert!(check(&repo(branch)).is_err(), "{branch:?}");
        }
        assert!(check(&repo("feature/x-1")).is_ok());
        let credential = paddock_runnerapi::GitCredential { username: "u".into(), password: "a\nb".into() };
        let refused = check(&Repo { credential: Some(credential), ..repo("main") }).unwrap_err();
        assert!(refused.0.contains("more than one line") && !refused.0.contains("a\nb"));
    }
}
