//! The harness's own API, opened to clients: what passes as it is, what is a turn, and what stays closed.
//!
//! The paths are opencode's. Reading passes. What changes something passes where it is known: a path that a later version brings
//! could begin work that no journal knows of. Both sides use this: the gateway to choose the route, the runner to hold to it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `ANY /v1/harness/<path>`: the harness's answer to the same request for `/<path>`, as it comes, with [`HARNESS_HEADER`].
/// Turns have a path of their own.
pub const HARNESS_API: &str = "/v1/harness";

/// Response header of an answer that is the harness's own, whatever its status. Other answers on [`HARNESS_API`] are the runner's.
pub const HARNESS_HEADER: &str = "x-paddock-harness";

/// Headers of a client's request that reach the harness.
pub const PASSED_ON: [&str; 3] = ["accept", "content-type", "x-opencode-directory"];

/// Headers of the harness's answer that reach the client.
pub const PASSED_BACK: [&str; 4] = ["content-type", "cache-control", "link", "x-next-cursor"];

/// A request to the harness's own API that begins a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HarnessCall {
    /// Its path there, a [`Passage::Turn`].
    pub path: String,
    /// Its body.
    pub body: Map<String, Value>,
}

/// What a turn has the harness do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer a message, whose sender waits for the reply.
    Message,
    /// Answer a message, whose sender does not wait.
    MessageAsync,
    /// Run one of the harness's commands.
    Command,
    /// Run a shell command and take its output into the conversation.
    Shell,
    /// Write down what there is to know about the workspace.
    Init,
    /// Shorten the conversation.
    Summarize,
}

/// What becomes of a request to the harness's own API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It reads, or steers what is at work: it passes as it is.
    Live,
    /// It changes something, and passes as it is. It is activity, and wakes a session that rests.
    Change,
    /// A change too, unless `conversation` is the session's own, which is not for clients to delete.
    Deletion {
        /// The conversation.
        conversation: String,
    },
    /// It is a turn.
    Turn {
        /// The conversation it is for.
        conversation: String,
        /// What it does.
        action: Action,
    },
    /// It does not pass.
    Closed,
    /// It is no path of an API.
    Malformed,
}

/// What becomes of `method` on `path`, which begins with a slash and has no query.
pub fn passage(method: &str, path: &str) -> Passage {
    let Some(segments) = segments(path) else { return Passage::Malformed };
    if matches!(segments[..], ["pty", _, "connect"]) {
        // A WebSocket; terminals have a route of their own.
        return Passage::Closed;
    }
    match (method, &segments[..]) {
        ("GET" | "HEAD", _) => Passage::Live,
        ("POST", ["session", conversation, action]) if action_of(action).is_some() => {
            let action = action_of(action).unwrap_or(Action::Message);
            Passage::Turn { conversation: (*conversation).to_owned(), action }
        }
        ("DELETE", ["session", conversation]) => {
            Passage::Deletion { conversation: (*conversation).to_owned() }
        }
        (
            "POST",
            ["session", _, "abort"]
            | ["session", _, "permissions", _]
            | ["permission", _, "reply"]
            | ["question", _, "reply" | "reject"]
            | ["tui", _]
            | ["tui", "control", "response"]
            | ["log"],
        ) => Passage::Live,
        (
            "POST",
            ["session"]
            | ["session", _, "fork" | "revert" | "unrevert" | "share"]
            | ["mcp"]
            | ["mcp", _, "connect" | "disconnect" | "auth"]
            | ["mcp", _, "auth", "callback" | "authenticate"]
            | ["project", "git", "init"]
            | ["vcs", "apply"],
        )
        | ("PATCH", ["session" | "project", _] | ["session", _, "message", _, "part", _])
        | (
            "DELETE",
            ["session", _, "share"]
            | ["session", _, "message", _]
            | ["session", _, "message", _, "part", _]
            | ["mcp", _, "auth"],
        ) => Passage::Change,
        _ => Passage::Closed,
    }
}

fn action_of(segment: &str) -> Option<Action> {
    Some(match segment {
        "message" => Action::Message,
        "prompt_async" => Action::MessageAsync,
        "command" => Action::Command,
        "shell" => Action::Shell,
        "init" => Action::Init,
        "summarize" => Action::Summarize,
        _ => return None,
    })
}

/// The segments of a path. One that another reader could take for another path is none: it could get past what is closed.
/// opencode's router, for one, ends a path at a semicolon.
fn segments(path: &str) -> Option<Vec<&str>> {
    let rest = path.strip_prefix('/')?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let plain = |segment: &&str| {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
        !segment.is_empty() && segment.bytes().all(safe) && !matches!(*segment, "." | "..")
    };
    let segments: Vec<&str> = rest.split('/').collect();
    (rest.is_empty() || segments.iter().all(plain)).then_some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_work_is_a_turn_and_nothing_else_is() {
        for (path, action) in [
            ("/session/ses_1/message", Action::Message),
            ("/session/ses_1/message/", Action::Message),
            ("/session/ses_1/prompt_async", Action::MessageAsync),
            ("/session/ses_1/command", Action::Command),
            ("/session/ses_1/shell", Action::Shell),
            ("/session/ses_1/init", Action::Init),
            ("/session/ses_1/summarize", Action::Summarize),
        ] {
            assert_eq!(
                passage("POST", path),
                Passage::Turn { conversation: "ses_1".into(), action },
                "{path}"
            );
        }
        for (method, path) in [
            ("GET", "/session/ses_1/message"),
            ("GET", "/"),
            ("GET", "/event"),
            ("GET", "/api/session"),
            ("POST", "/session/ses_1/abort"),
            ("POST", "/permission/per_1/reply"),
        ] {
            assert_eq!(passage(method, path), Passage::Live, "{method} {path}");
        }
        for (method, path) in [
            ("POST", "/session"),
            ("POST", "/session/"),
            ("PATCH", "/session/ses_1"),
            ("DELETE", "/session/ses_1/message/msg_1"),
            ("POST", "/mcp"),
        ] {
            assert_eq!(passage(method, path), Passage::Change, "{method} {path}");
        }
        assert_eq!(passage("DELETE", "/session/s"), Passage::Deletion { conversation: "s".into() });
    }

    #[test]
    fn what_is_not_known_to_be_harmless_stays_closed() {
        for (method, path) in [
            ("POST", "/api/session/ses_1/prompt"),
            ("POST", "/sync/replay"),
            ("POST", "/pty"),
            ("GET", "/pty/pty_1/connect"),
            ("PATCH", "/config"),
            ("PATCH", "/global/config"),
            ("POST", "/global/dispose"),
            ("POST", "/instance/dispose"),
            ("POST", "/global/upgrade"),
            ("PUT", "/auth/openai"),
            ("POST", "/experimental/worktree"),
            ("POST", "/session/ses_1/something_new"),
            ("OPTIONS", "/session"),
        ] {
            assert_eq!(passage(method, path), Passage::Closed, "{method} {path}");
        }
    }

    #[test]
    fn a_path_that_could_be_read_in_two_ways_is_none() {
        for path in [
            "",
            "session",
            "//session",
            "/session//message",
            "/session/../config",
            "/./session",
            "/session/ses_1/mess%61ge",
            "/session/a%2Fb/message",
            "/session/a\\b",
            "/session/a;x",
            "/session/a;/share",
            "/session/ä",
        ] {
            assert_eq!(passage("POST", path), Passage::Malformed, "{path}");
        }
    }
}
