//! What programs printed, made fit for an error that people read.

use paddock_runnerapi::AgentBinding;
use paddock_runnerapi::McpTransport;

/// How many characters of an output are told.
const LONGEST: usize = 600;
/// Shorter values are no secrets, and hiding them would make texts unreadable.
const SHORTEST_SECRET: usize = 6;

/// What must not be told.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// All values of the agent that may be secrets.
    pub(super) fn of(agent: &AgentBinding) -> Self {
        let equipment = &agent.equipment;
        let mut values: Vec<&str> = agent.env.iter().map(|variable| variable.value.as_str()).collect();
        values.extend(
            equipment.repo.iter().flat_map(|repo| &repo.credential).map(|found| found.password.as_str()),
        );
        for server in &equipment.mcp_servers {
            let (McpTransport::Http { headers: hidden, .. } | McpTransport::Stdio { env: hidden, .. }) =
                &server.transport;
            values.extend(hidden.iter().map(|variable| variable.value.as_str()));
        }
        let mut hidden: Vec<String> =
            values.into_iter().filter(|value| value.len() >= SHORTEST_SECRET).map(str::to_owned).collect();
        // One may be part of another.
        hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(hidden)
    }

    /// The end of an output, without secrets and without users and passwords of URLs.
    pub(super) fn quote(&self, output: &str) -> String {
        let mut text = output.trim().to_owned();
        for secret in &self.0 {
            text = text.replace(secret, "***");
        }
        let text: String =
            without_users(&text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let count = text.chars().count();
        match count > LONGEST {
            true => format!("...{}", text.chars().skip(count - LONGEST).collect::<String>()),
            false => text,
        }
    }
}

fn without_users(text: &str) -> String {
    let mut pieces = text.split("://");
    let mut safe = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        safe.push_str("://");
        let end = piece.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(piece.len());
        match piece[..end].rfind('@') {
            Some(at) => safe.push_str(&format!("***{}", &piece[at..])),
            None => safe.push_str(piece),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_users_of_urls_are_hidden_and_the_end_is_kept() {
        let secrets = Secrets(vec!["hunter2-long".into(), "hunter2".into()]);
        assert_eq!(
            secrets.quote("no hunter2-long at\nhttps://me:pw@x.org/a@b and http://y/z hunter2"),
            "no *** at https://***@x.org/a@b and http://y/z ***"
        );
        let long = format!("{}END", "ä".repeat(2000));
        let quoted = secrets.quote(&long);
        assert!(quoted.ends_with("END") && quoted.starts_with("..."));
        assert_eq!(quoted.chars().count(), LONGEST + 3);
    }
}
