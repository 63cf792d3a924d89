//! Where a repository is.

/// A repository's URL in its parts. It holds no user and no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address<'a> {
    scheme: &'a str,
    /// Host and port; empty for a folder.
    host: &'a str,
    path: &'a str,
}

impl<'a> Address<'a> {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it: it may hold a password.
    pub(super) fn parse(url: &'a str) -> Result<Self, &'static str> {
        let (scheme, rest) =
            url.split_once("://").ok_or("it must begin with https://, http:// or file://")?;
        if !matches!(scheme, "https" | "http" | "file") {
            return Err("it must begin with https://, http:// or file://");
        }
        let at = rest.find('/').ok_or("it names no repository")?;
        let (host, path) = rest.split_at(at);
        if host.contains('@') {
            return Err("it must hold no user and no password; give them as the repository's credential");
        }
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        if !host.chars().all(is_host) || host.is_empty() != (scheme == "file") {
            return Err("its host cannot be read");
        }
        if path.trim_matches('/').is_empty() || path.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("it names no repository");
        }
        Ok(Self { scheme, host, path })
    }

    /// The server, as git's configuration names it; nothing where there is none.
    pub(super) fn server(&self) -> Option<String> {
        (!self.host.is_empty()).then(|| format!("{}://{}", self.scheme, self.host))
    }

    /// For people.
    pub(super) fn host(&self) -> &str {
        if self.host.is_empty() { "this pod" } else { self.host }
    }

    /// Where a cache has a copy, relative to its folder; nothing where that would lead out of it.
    pub(super) fn cached(&self) -> Option<String> {
        let path = self.path.trim_matches('/').trim_end_matches(".git");
        let plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        plain.then(|| format!("{}/{path}.git", self.host).trim_start_matches('/').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let address = Address::parse("https://git.example.com:8443/team/app.git").unwrap();
        assert_eq!(address.server().unwrap(), "https://git.example.com:8443");
        assert_eq!(address.cached().unwrap(), "git.example.com:8443/team/app.git");
        assert_eq!(address, Address { path: "/team/app.git", ..address.clone() });
        let folder = Address::parse("file:///srv/app").unwrap();
        assert_eq!((folder.server(), folder.cached().unwrap().as_str()), (None, "srv/app.git"));
        assert_eq!(Address::parse("http://h/../x").unwrap().cached(), None);
    }

    #[test]
    fn what_is_no_url_of_a_repository_is_refused_and_not_quoted() {
        for url in [
            "git@host:x",
            "ssh://host/x",
            "ext::sh -c id",
            "ext://x/y",
            "https://me:secret@host/x",
            "https:///x",
            "https://host",
            "https://host/",
            "https://ho st/x",
            "https://host/a b",
            "file://host/x",
            "--upload-pack=x",
            "",
        ] {
            let why = Address::parse(url).expect_err(url);
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
