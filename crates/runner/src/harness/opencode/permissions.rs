//! What opencode's model may not do. Rules belong to a conversation, and the last one that fits counts; conversations that opencode
//! begins by itself take over what the one that they come from is denied.

use bytes::Bytes;
use http::{Method, Request};
use paddock_runnerapi::{Denial, Tool};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::harness::HarnessError;
use crate::harness::wire::client::Client;

const ATTEMPT: &str = "tell it what is denied";

/// A rule, in opencode's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rule {
    permission: String,
    pattern: String,
    action: String,
}

/// A conversation, as far as it matters here.
#[derive(Deserialize)]
pub(super) struct Conversation {
    pub(super) id: String,
    #[serde(default)]
    permission: Vec<Rule>,
}

/// The rules of an agent.
pub(super) fn rules(denied: &[Denial]) -> Vec<Rule> {
    let names = |tool: Tool| -> &[&str] {
        match tool {
            Tool::Shell => &["bash"],
            Tool::Edit => &["edit"],
            Tool::Read => &["read", "glob", "grep", "list"],
            Tool::Fetch => &["webfetch"],
            Tool::Search => &["websearch"],
        }
    };
    let rule = |name: &str, denial: &Denial| Rule {
        permission: name.to_owned(),
        pattern: denial.pattern.clone().unwrap_or_else(|| "*".to_owned()),
        action: "deny".to_owned(),
    };
    denied.iter().flat_map(|denial| names(denial.tool).iter().map(|name| rule(name, denial))).collect()
}

/// Adds to a conversation those that it does not have. None is taken away: opencode has no way to.
pub(super) async fn hold(client: &Client, conversation: &str, rules: &[Rule]) -> Result<(), HarnessError> {
    if rules.is_empty() {
        return Ok(());
    }
    let path = format!("/session/{conversation}");
    let known: Conversation = client.ask(ATTEMPT, Method::GET, &path, None).await?;
    let missing: Vec<&Rule> = rules.iter().filter(|rule| !known.permission.contains(rule)).collect();
    if !missing.is_empty() {
        client.call(ATTEMPT, Method::PATCH, &path, Some(&json!({ "permission": missing }))).await?;
    }
    Ok(())
}

/// Whether a client's request makes a conversation that nothing is denied in yet.
pub(super) fn makes_a_conversation(request: &Request<Bytes>) -> bool {
    let path = request.uri().path().trim_end_matches('/');
    let forks = path.strip_prefix("/session/").is_some_and(|rest| rest.ends_with("/fork"));
    request.method() == Method::POST && (path == "/session" || forks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_has_its_names_and_a_command_its_pattern() {
        let denied = [
            Denial { tool: Tool::Shell, pattern: Some("git push *".into()) },
            Denial { tool: Tool::Read, pattern: None },
        ];
        let told: Vec<String> =
            rules(&denied).iter().map(|rule| format!("{} {}", rule.permission, rule.pattern)).collect();
        assert_eq!(told, ["bash git push *", "read *", "glob *", "grep *", "list *"]);
    }

    #[test]
    fn conversations_that_a_client_makes_are_told_from_its_other_requests() {
        let makes = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
            makes_a_conversation(&request)
        };
        assert!(makes(Method::POST, "/session?directory=x") && makes(Method::POST, "/session/ses_1/fork"));
        assert!(!makes(Method::GET, "/session") && !makes(Method::POST, "/session/ses_1/message"));
    }
}
