//! One pool serves every agent of its harness: what one is, the other's sessions know nothing of. For each harness of the chart.

use std::time::Duration;

use paddock_api::Session;
use paddock_e2e::git_host::{GitHost, Repository};
use paddock_e2e::model::Call;
use paddock_e2e::scenario::name_of;
use paddock_e2e::terminal::Terminal;
use paddock_e2e::{LIVENESS, Scenario, Share, measure, pool, scenario, wait};
use serde_json::{Value, json};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(1200);
/// How long a person waits before Enter is pressed again.
const PATIENCE: Duration = Duration::from_secs(10);

/// A harness, and what is its own about it.
#[derive(Clone, Copy)]
struct Harness {
    name: &'static str,
    /// The file with a repository's instructions that it reads.
    instructions: &'static str,
    /// How it names the tool of an MCP server to the model: by both, or by the server alone.
    tool: fn(&str, &str) -> String,
    /// It is used through a terminal, and shows this once it waits for its user.
    waits: Option<&'static str>,
}

const OPENCODE: Harness = Harness {
    name: "opencode",
    instructions: "AGENTS.md",
    tool: |server, tool| format!("{server}_{tool}"),
    waits: None,
};
const CLAUDE_AGENT_SDK: Harness = Harness {
    name: "claude-agent-sdk",
    instructions: "CLAUDE.md",
    tool: |server, tool| format!("mcp__{server}__{tool}"),
    waits: None,
};
const CLAUDE_CODE: Harness =
    Harness { name: "claude-code", waits: Some("bypass permissions on"), ..CLAUDE_AGENT_SDK };
const CODEX: Harness = Harness {
    name: "codex",
    instructions: "AGENTS.md",
    tool: |server, _| format!("mcp__{server}"),
    waits: Some("Ask Codex to do anything"),
};

/// A program that speaks MCP. Its one tool is named by its environment.
const PROGRAM: &str = r#"select(.id != null) | {jsonrpc: "2.0", id, result: (
  if .method == "initialize" then {protocolVersion: .params.protocolVersion, capabilities: {tools: {}}, serverInfo: {name: "t", version: "1"}}
  elif .method == "tools/list" then {tools: [{name: env.TOOL, description: "Tells.", inputSchema: {type: "object", properties: {}}}]}
  elif .method == "tools/call" then {content: [{type: "text", text: env.TOOL}]}
  else {} end)}"#;

/// What a session's shell shows.
const SHOW: &str =
    "{ env; cat README.md notes.md; git config --list; ls -a ~ /tmp; } >/tmp/shown 2>&1; echo shown\n";

/// An agent and the words by which it is known.
struct Side {
    harness: Harness,
    agent: String,
    prompt: String,
    value: String,
    file: String,
    skill: String,
    instructions: String,
    content: String,
    stdio_tool: String,
    /// Names of its MCP servers, which the other's do not have.
    servers: [String; 2],
    repository: Repository,
}

/// Two agents of one pool, of which nothing is the same.
async fn two_agents(s: &Scenario, harness: Harness, pool: &str) -> [Side; 2] {
    let words = ["red", "blue"].map(|what| {
        let word = |of: &str| s.word(&format!("{what}{of}"));
        (what, word("repo"), word("text"), word("told"), word(""))
    });
    let files = words.each_ref().map(|(_, _, content, instructions, _)| {
        [("README.md", content.as_str()), (harness.instructions, instructions.as_str())]
    });
    let repositories: Vec<(&str, &[(&str, &str)])> =
        words.iter().zip(&files).map(|((_, name, ..), files)| (name.as_str(), &files[..])).collect();
    let (_, made) = GitHost::start(s, &repositories).await;
    let mut sides = Vec::new();
    for ((what, _, content, instructions, short), repository) in words.into_iter().zip(made) {
        let word = |of: &str| s.word(&format!("{what}{of}"));
        let mut side = Side {
            harness,
            agent: String::new(),
            prompt: word("prompt"),
            value: word("value"),
            file: word("file"),
            skill: word("skill"),
            instructions,
            content,
            stdio_tool: word("whoami"),
            servers: [format!("docs{short}"), format!("local{short}")],
            repository,
        };
        side.agent = s.agent(what, side.spec(pool, what)).await;
        sides.push(side);
    }
    sides.try_into().unwrap_or_else(|_| unreachable!("two agents"))
}

impl Side {
    fn spec(&self, pool: &str, what: &str) -> Value {
        let skill = format!("---\nname: {0}\ndescription: How {0} is done.\n---\nAsk.\n", self.skill);
        let bearer = json!({ "secretKeyRef": { "name": self.repository.secret, "key": "bearer" } });
        let [remote, local] = &self.servers;
        json!({
            "harness": self.harness.name,
            "poolRef": { "name": pool },
            "prompt": format!("You are {what}. Your password is {}.", self.prompt),
            "env": [{ "name": "TEAM", "value": self.value }, { "name": format!("ONLY_{}", what.to_uppercase()), "value": "yes" }],
            "repo": self.repository.spec(),
            "files": [{ "path": "notes.md", "content": self.file }],
            "skills": [{ "name": self.skill, "files": [{ "path": "SKILL.md", "content": skill }] }],
            "mcpServers": [
                { "name": remote, "http": {
                    "url": self.repository.mcp_url,
                    "headers": [{ "name": "Authorization", "valueFrom": bearer }],
                } },
                { "name": local, "stdio": {
                    "command": ["jq", "--unbuffered", "--compact-output", PROGRAM],
                    "env": [{ "name": "TOOL", "value": self.stdio_tool }],
                } },
            ],
        })
    }

    /// Words of which none may be where the other's session is.
    fn words(&self) -> [&str; 11] {
        let of = &self.repository;
        [
            &self.prompt,
            &self.value,
            &self.file,
            &self.skill,
            &self.instructions,
            &self.content,
            &self.stdio_tool,
            &self.servers[0],
            &self.servers[1],
            &of.mcp_tool,
            &of.token,
        ]
    }

    fn tools(&self) -> [String; 2] {
        let name = self.harness.tool;
        [name(&self.servers[0], &self.repository.mcp_tool), name(&self.servers[1], &self.stdio_tool)]
    }

    /// A Ready session of this agent.
    async fn begins(&self, s: &Scenario, what: &str) -> Session {
        let session = s.ready_session(what, &self.agent).await;
        measure::startup(self.harness.name, &session);
        session
    }

    /// The session is what its agent is, and nothing of `other`.
    async fn is_its_own(&self, s: &Scenario, session: &Session, other: &Self) {
        let shown = self.works(s, session).await;
        for own in [&self.value, &self.content, &self.file, &self.repository.url] {
            assert!(shown.contains(own), "{own} is not in what the shell shows: {shown}");
        }
        let calls = self.calls(s).await;
        for word in other.words() {
            assert!(!shown.contains(word), "{word} of the other agent is in what the shell shows: {shown}");
            let call = calls.iter().find(|call| call.mentions(word));
            assert!(call.is_none(), "{word} of the other agent reached the model: {call:?}");
        }
        let traces = s.files_with(session, &other.words()).await;
        assert!(traces.is_empty(), "traces of the other agent in the pod: {traces:?}");
    }

    /// Has the session's shell show its environment, files and git's configuration.
    async fn works(&self, s: &Scenario, session: &Session) -> String {
        // Short enough for one line of a terminal.
        let script = format!("cat >/tmp/show <<'END'\n{SHOW}END");
        s.exec(session, &["sh", "-c", &script]).await.succeeded();
        let (id, show) = (name_of(session), "!run sh /tmp/show");
        match self.harness.waits {
            None => {
                s.http.say(&id, show).await.reply();
                self.is_offered(s, async |turn| {
                    s.http.say(&id, &format!("!say {turn}")).await.reply();
                })
                .await;
            }
            Some(waits) => {
                let mut terminal = s.attach(&id).await;
                terminal.shows(waits).await;
                // A space keeps `!` from being a command for the program itself.
                terminal.prompts(&format!(" {show}")).await;
                replies(&mut terminal, |text| text.contains("ran: ")).await;
                self.is_offered(s, async |turn| {
                    terminal.prompts(&format!(" !say {turn}")).await;
                    replies(&mut terminal, |text| text.matches(&turn).count() == 2).await;
                })
                .await;
            }
        }
        s.exec(session, &["cat", "/tmp/shown"]).await.succeeded()
    }

    /// The model has the agent's prompt, instructions and tools. Claude does not wait for its servers: what they have may be offered
    /// in a later turn only; `turn` makes one.
    async fn is_offered(&self, s: &Scenario, mut turn: impl AsyncFnMut(String)) {
        wait::until("the model has all that is the agent's", LIVENESS, async || {
            let calls = self.calls(s).await;
            let missing = match calls.last() {
                None => "a call".to_owned(),
                Some(call) => match self.missing(call) {
                    None => return Ok(()),
                    Some(missing) => missing,
                },
            };
            turn(s.word("again")).await;
            Err(missing)
        })
        .await;
    }

    fn missing(&self, call: &Call) -> Option<String> {
        let offered = |tool: &String| call.tools.iter().any(|name| name.contains(tool.as_str()));
        let tool = self.tools().into_iter().find(|tool| !offered(tool));
        if let Some(tool) = tool {
            return Some(format!("{tool} among {:?}", call.tools));
        }
        let texts = [&self.instructions, &self.skill];
        texts.into_iter().find(|text| !call.mentions(text)).map(|text| format!("{text} in {call:?}"))
    }

    /// All calls of this agent's sessions: its prompt is in each.
    async fn calls(&self, s: &Scenario) -> Vec<Call> {
        s.model.calls_with(&self.prompt).await
    }
}

/// Waits for a reply. Enter may be overlooked while the program still starts its servers; a person presses it again.
async fn replies(terminal: &mut Terminal, is_reply: impl Fn(&str) -> bool) {
    while timeout(PATIENCE, terminal.sees("the reply", &is_reply)).await.is_err() {
        terminal.presses("\r").await;
    }
}

async fn share_a_pool(harness: Harness) {
    scenario("two agents, one pool", Share::Shared, LIMIT, async |s| {
        let pool = s.private_pool("shared").of(harness.name).replicas(2).create().await;
        let [red, blue] = two_agents(s, harness, &pool).await;
        pool::full(s, &s.env.namespace, &pool).await;
        s.log(&format!("{}: at the same time", harness.name));
        let (a, b) = tokio::join!(red.begins(s, "red1"), blue.begins(s, "blue1"));
        tokio::join!(red.is_its_own(s, &a, &blue), blue.is_its_own(s, &b, &red));
        for session in [a, b] {
            s.http.delete(&format!("/sessions/{}", name_of(&session))).await.with_status(200);
        }
        s.log(&format!("{}: one after the other", harness.name));
        for (own, other, what) in [(&blue, &red, "blue2"), (&red, &blue, "red2")] {
            pool::full(s, &s.env.namespace, &pool).await;
            let session = own.begins(s, what).await;
            own.is_its_own(s, &session, other).await;
            s.http.delete(&format!("/sessions/{}", name_of(&session))).await.with_status(200);
        }
    })
    .await;
}

#[tokio::test]
async fn of_opencode_keeps_its_agents_apart() {
    share_a_pool(OPENCODE).await;
}

#[tokio::test]
async fn of_claude_agent_sdk_keeps_its_agents_apart() {
    share_a_pool(CLAUDE_AGENT_SDK).await;
}

#[tokio::test]
async fn of_claude_code_keeps_its_agents_apart() {
    share_a_pool(CLAUDE_CODE).await;
}

#[tokio::test]
async fn of_codex_keeps_its_agents_apart() {
    share_a_pool(CODEX).await;
}
