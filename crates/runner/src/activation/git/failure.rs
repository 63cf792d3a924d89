//! Why git did not do what it was to do, as a bounded set: what git itself prints may hold anything.

use super::super::equip::StepError;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The image has no git.
    NoGit,
    /// The host wants a credential, or another one.
    Refused,
    /// The host has no such repository, or does not show it to strangers.
    NoRepository,
    /// The repository has neither a branch nor a tag of that name.
    NoBranch,
    /// The host's certificate is not trusted.
    Certificate,
    /// The host cannot be reached, or broke off.
    Unreachable,
    /// The disk is full.
    DiskFull,
    /// Files of the workspace would be overwritten.
    InTheWay,
    /// It took too long.
    TimedOut,
    /// Anything else; the log has what git said.
    Other,
}

/// What git prints (in English, `LC_ALL=C`), and what that means. The first that fits counts.
const SIGNS: [(&str, Failure); 29] = [
    ("No space left on device", Failure::DiskFull),
    ("Disk quota exceeded", Failure::DiskFull),
    ("Authentication failed", Failure::Refused),
    ("could not read Username", Failure::Refused),
    ("could not read Password", Failure::Refused),
    ("terminal prompts disabled", Failure::Refused),
    ("HTTP Basic: Access denied", Failure::Refused),
    ("returned error: 401", Failure::Refused),
    ("returned error: 403", Failure::Refused),
    ("returned error: 404", Failure::NoRepository),
    ("couldn't find remote ref", Failure::NoBranch),
    ("certificate", Failure::Certificate),
    ("Could not resolve host", Failure::Unreachable),
    ("Couldn't connect", Failure::Unreachable),
    ("Failed to connect", Failure::Unreachable),
    ("Connection refused", Failure::Unreachable),
    ("Connection reset", Failure::Unreachable),
    ("onnection timed out", Failure::Unreachable),
    ("Operation timed out", Failure::Unreachable),
    ("Operation too slow", Failure::Unreachable),
    ("Empty reply from server", Failure::Unreachable),
    ("early EOF", Failure::Unreachable),
    ("unexpected disconnect", Failure::Unreachable),
    ("hung up unexpectedly", Failure::Unreachable),
    ("returned error: 5", Failure::Unreachable),
    ("returned error: 429", Failure::Unreachable),
    ("would be overwritten by checkout", Failure::InTheWay),
    ("does not appear to be a git repository", Failure::NoRepository),
    ("not found", Failure::NoRepository),
];

/// What the sentences name.
pub(super) struct Names<'a> {
    pub(super) host: &'a str,
    pub(super) branch: Option<&'a str>,
    pub(super) has_credential: bool,
    pub(super) limit_minutes: u64,
}

impl Failure {
    pub(super) fn of(printed: &str) -> Self {
        let sign = SIGNS.iter().find(|(sign, _)| printed.contains(sign));
        sign.map_or(Self::Other, |(_, failure)| *failure)
    }

    /// For people: what to change.
    pub(super) fn told(self, names: &Names<'_>) -> StepError {
        let Names { host, branch, has_credential, limit_minutes } = names;
        let branch = branch.unwrap_or("(the default)");
        StepError(format!(
            "cloning the repository: {}",
            match self {
                Self::NoGit => "the harness's image has no git; install it in the image, or, where the runner has a container of its own, name one \
                            that has it (paddock.dev/runner-image)"
                .to_owned(),
                Self::Refused if *has_credential => {
                    format!(
                        "{host} refuses the credential; put one into the Secret that may read this repository"
                    )
                }
                Self::Refused => {
                    format!(
                        "{host} asks for a credential, and the agent has none for the repository; name a Secret with one"
                    )
                }
                Self::NoRepository => format!(
                    "{host} has no such repository, or does not show it to this credential; look at its URL and who may read it"
                ),
                Self::NoBranch => format!(
                    "it has neither a branch nor a tag named {branch:?}; name one that it has, or none for its default branch"
                ),
                Self::Certificate => format!(
                    "the certificate of {host} is not trusted in the pod; use one that is, or install its authority in the image"
                ),
                Self::Unreachable => format!(
                    "{host} cannot be reached from the pod, or breaks off; look at the host, its name and the network policy for the agent's pods"
                ),
                Self::DiskFull => {
                    "the disk is full; give the workspace a larger volume, or do not clone the full history"
                        .to_owned()
                }
                Self::InTheWay => {
                    "the workspace has files of its own that the repository has too; use an image and a volume that put none there".to_owned()
                }
                Self::TimedOut => format!(
                    "it was not done after {limit_minutes} minutes; do not clone the full history, or keep a copy in the cache of repositories"
                ),
                Self::Other =>
                    "git failed in a way that is not foreseen; the pod's log has what it said".to_owned(),
            }
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_prints_is_understood() {
        for (printed, failure) in [
            ("fatal: could not read Username for 'http://h': terminal prompts disabled", Failure::Refused),
            ("fatal: Authentication failed for 'http://h/x/'", Failure::Refused),
            ("fatal: repository 'http://h/x/' not found", Failure::NoRepository),
            ("fatal: '/x' does not appear to be a git repository", Failure::NoRepository),
            ("fatal: unable to access 'http://h/': Could not resolve host: h", Failure::Unreachable),
            (
                "fatal: unable to access 'http://h/': The requested URL returned error: 502",
                Failure::Unreachable,
            ),
            ("fatal: server certificate verification failed. CAfile: none", Failure::Certificate),
            ("error: file write error: No space left on device\nfatal: early EOF", Failure::DiskFull),
            ("fatal: something new", Failure::Other),
        ] {
            assert_eq!(Failure::of(printed), failure, "{printed}");
        }
    }
}
