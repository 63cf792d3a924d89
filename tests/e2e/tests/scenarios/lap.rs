//! The lap CLI of LiteLLM Agent Platform works unchanged: a client that makes its calls, in its order, and reads of the answers
//! what it reads. (The CLI itself is in no registry.)

use std::time::Duration;

use paddock_e2e::http::{BASE, Http};
use paddock_e2e::objects::Kind;
use paddock_e2e::terminal::Terminal;
use paddock_e2e::{Scenario, Share, scenario};
use reqwest::Method;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(600);
/// How often it looks whether its session is ready, and how many times.
const LOOKS: Duration = Duration::from_millis(1500);
const MOST_LOOKS: usize = 60;

/// An agent, as `lap` finds it in the list.
struct Found {
    id: String,
    has_terminal: bool,
}

/// `lap`, with a key.
struct Lap<'a> {
    s: &'a Scenario,
    http: Http,
}

impl<'a> Lap<'a> {
    fn new(s: &'a Scenario) -> Self {
        Self { s, http: s.http.clone() }
    }

    /// The agent of this name, of all that are listed.
    async fn find(&self, wanted: &str) -> Option<Found> {
        let list = self.http.get("/agents").await.with_status(200);
        let agents = list["data"].as_array().expect("a list of agents");
        // What it prints of each.
        for agent in agents {
            assert!(agent["name"].is_string() && agent["harness_id"].is_string(), "{agent}");
        }
        let agent = agents.iter().find(|agent| agent["name"] == wanted)?;
        Some(Found {
            id: text(agent, "id"),
            has_terminal: agent["supports_tui"].as_bool().expect("whether it has a terminal"),
        })
    }

    /// A new session of an agent, once it is ready.
    async fn start(&self, agent: &str) -> Value {
        let route = format!("/agents/{agent}/session");
        let made = self.http.post(&route, &json!({ "title": "lap-cli" })).await.with_status(200);
        let id = text(&made, "id");
        self.s.record(Kind::Session, &self.s.env.namespace, &id);
        let mut phases = Vec::new();
        for _ in 0..MOST_LOOKS {
            tokio::time::sleep(LOOKS).await;
            let session = self.session(&id).await;
            let phase = text(&session, "phase");
            if phases.last() != Some(&phase) {
                phases.push(phase);
            }
            match session["status"].as_str().expect("a status") {
                "ready" => {
                    self.s.log(&format!("lap shows: {}", phases.join(" → ")));
                    return session;
                }
                "creating" => {}
                _ => panic!("{session}"),
            }
        }
        panic!("lap has given up: {phases:?}");
    }

    async fn session(&self, id: &str) -> Value {
        self.http.get(&format!("/sessions/{id}")).await.with_status(200)
    }

    async fn attach(&self, session: &Value) -> Terminal {
        let (url, token) = (text(session, "tty_url"), text(session, "tty_token"));
        // It puts its gateway's address before a path.
        assert!(url.starts_with('/'), "{url}");
        Terminal::attach_as_lap(&self.s.env.url, &url, &token).await.expect("attached")
    }

    /// A line of its chat: what it prints.
    async fn say(&self, session: &str, conversation: &str, line: &str) -> String {
        let route = format!("/sessions/{session}/opencode/session/{conversation}/message");
        let body = json!({ "parts": [{ "type": "text", "text": line }] });
        let reply = self.http.post(&route, &body).await.with_status(200);
        // `cost` is formatted as a number without a second look.
        assert!(reply["info"]["tokens"]["output"].is_u64() && reply["info"]["cost"].is_number(), "{reply}");
        let parts = reply["parts"].as_array().expect("parts").iter();
        let texts: Vec<&str> =
            parts.filter(|part| part["type"] == "text").filter_map(|part| part["text"].as_str()).collect();
        texts.join("\n")
    }
}

fn text(object: &Value, name: &str) -> String {
    object[name].as_str().unwrap_or_else(|| panic!("no {name} in {object}")).to_owned()
}

/// What `lap --resume` takes for a session.
fn can_be_resumed(id: &str) -> bool {
    id.len() == 36 && id.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c) || c == '-')
}

#[tokio::test]
async fn opens_a_terminal_and_comes_back_to_it() {
    scenario("lap: a terminal", Share::Shared, LIMIT, async |s| {
        let pool = s.private_pool("lap").harness("terminal").replicas(1).create().await;
        let name = format!("Terminal of {}", s.name("lap"));
        let spec = json!({ "harness": "terminal", "poolRef": { "name": pool }, "displayName": name });
        s.agent("lap", spec).await;
        let lap = Lap::new(s);
        let found = lap.find(&name).await.expect("its agent, by a name with spaces");
        assert!(found.has_terminal);
        let session = lap.start(&found.id).await;
        let id = text(&session, "id");
        assert!(can_be_resumed(&id), "{id}");

        let word = s.word("lap");
        let mut terminal = lap.attach(&session).await;
        terminal.pings().await;
        terminal.enter(&format!("echo {}\"\"{}", &word[..3], &word[3..])).await;
        terminal.shows(&word).await;
        // A program that takes the whole screen and the mouse, and asks for kitty's keys.
        terminal.enter("printf '\\033[?1049h\\033[?1003h\\033[?25l\\033[>7u'; echo fu\"\"ll").await;
        terminal.shows("full").await;
        assert!(terminal.screen().alternate_screen() && terminal.screen().hide_cursor());
        let left = terminal.detach().await;
        assert!(!left.alternate_screen() && !left.hide_cursor());
        assert_eq!(left.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        // It says how to come back only to a session that is alive.
        assert_eq!(lap.session(&id).await["status"], "ready");

        let session = lap.session(&id).await;
        assert_eq!(session["supports_tui"], true);
        let mut terminal = lap.attach(&session).await;
        terminal.shows("full").await;
        terminal.enter("printf '\\033[?1049l'").await;
        terminal.shows(&word).await;
        terminal.detach().await;

        s.http.delete(&format!("/sessions/{id}")).await.with_status(200);
        // What it says then, instead of attaching.
        assert_eq!(lap.session(&id).await["status"], "dead");
    })
    .await;
}

#[tokio::test]
async fn chats_with_an_agent_that_takes_messages() {
    scenario("lap: a chat", Share::Shared, LIMIT, async |s| {
        let name = format!("Chat of {}", s.name("lap"));
        s.agent("lap", json!({ "displayName": name })).await;
        let lap = Lap::new(s);
        let found = lap.find(&name).await.expect("its agent, by a name with spaces");
        assert!(!found.has_terminal);
        let id = text(&lap.start(&found.id).await, "id");
        // It asks for skills, and goes on without where there are none.
        let skills = s.http.anonymous(Method::GET, "/api/v1/skills").bearer_auth(&s.env.key).send().await;
        assert_eq!(skills.expect("an answer").status(), 404);
        let conversation = text(&lap.session(&id).await, "harness_session_id");
        let word = s.word("lap");
        for line in [&word, "and again"] {
            assert_eq!(lap.say(&id, &conversation, line).await, format!("echo: {line}"));
        }
        assert_eq!(s.model.calls_with(&word).await.len(), 1);

        // With `--resume` it goes on.
        let session = lap.session(&id).await;
        assert_eq!((&session["status"], &session["supports_tui"]), (&json!("ready"), &json!(false)));
        assert_eq!(lap.say(&id, &conversation, "back").await, "echo: back");
        let said = s.http.get(&format!("/sessions/{id}/messages")).await.with_status(200);
        assert_eq!(said.as_array().map(Vec::len), Some(6), "{said}");
    })
    .await;
}

#[tokio::test]
async fn is_told_what_is_wrong() {
    scenario("lap: mistakes", Share::Shared, LIMIT, async |s| {
        let lap = Lap::new(s);
        assert!(lap.find(&s.name("none")).await.is_none());
        let none = "00000000-0000-0000-0000-000000000000";
        let body = json!({ "title": "lap-cli" });
        lap.http.post(&format!("/agents/{none}/session"), &body).await.error(404, Some("not_found"));
        lap.http.get(&format!("/sessions/{none}")).await.error(404, Some("not_found"));
        let stranger = s.http.with_key("wrong");
        stranger.get("/agents").await.error(401, Some("unauthorized"));
        let url = format!("{BASE}/sessions/{none}/tty");
        let refused = Terminal::attach_as_lap(&s.env.url, &url, "wrong").await.err().expect("refused");
        assert_eq!(refused.status, 401);
    })
    .await;
}
