//! Decides what to answer: directives and the state of the conversation in, a reply out. No IO, no clock.

use std::time::Duration;

use serde_json::{Value, json};

use crate::conversation::{Conversation, Tool};
use crate::directive::{self, Directive};

/// Title given to every conversation whose harness asks for one.
pub const TITLE: &str = "Scripted session";

/// What the model says.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text, in the pieces a stream shall send.
    Text(Vec<String>),
    /// A call of one of the offered tools.
    Call {
        /// The tool's name.
        name: String,
        /// Its arguments.
        arguments: Value,
    },
}

/// An answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Reasoning before the answer.
    pub thinking: Option<String>,
    /// The answer.
    pub content: Content,
    /// Silence before the first byte.
    pub delay: Duration,
    /// Pause before each piece of text.
    pub pause: Duration,
}

impl Reply {
    /// The whole text, empty for a tool call.
    pub fn text(&self) -> String {
        match &self.content {
            Content::Text(pieces) => pieces.concat(),
            Content::Call { .. } => String::new(),
        }
    }

    /// How many tokens the answer is said to have.
    pub fn tokens(&self) -> usize {
        let content = match &self.content {
            Content::Text(_) => self.text().len(),
            Content::Call { arguments, .. } => arguments.to_string().len(),
        };
        (content + self.thinking.as_ref().map_or(0, String::len)).div_ceil(4).max(1)
    }
}

/// How a request is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With a reply.
    Reply(Reply),
    /// With this HTTP status, in the dialect's error shape.
    Fail(u16),
}

/// Answers a request.
pub fn decide(conversation: &Conversation) -> Outcome {
    // opencode asks a second agent, which gets no tools, for a title of each new conversation.
    if conversation.tools.is_empty() && conversation.system.to_lowercase().contains("title generator") {
        return Outcome::Reply(plain(TITLE.to_owned()));
    }
    let directives = directive::parse(&conversation.last_user_text);
    let mut reply = plain(String::new());
    let (mut calls, mut says, mut hung, mut pieces) = (Vec::new(), Vec::new(), None, 1);
    for directive in directives {
        match directive {
            Directive::Fail(code) => return Outcome::Fail(code),
            Directive::Think(text) => reply.thinking = Some(text),
            Directive::Say(text) => says.push(text),
            Directive::Chunks { count, pause } => {
                pieces = count;
                reply.pause = pause;
            }
            Directive::Hang(seconds, wait) => {
                hung = Some(format!("hung {seconds}"));
                reply.delay = wait;
            }
            call => calls.extend(tool_call(&call, &conversation.tools)),
        }
    }
    if let Some(call) = calls.into_iter().nth(conversation.tool_outputs.len()) {
        // Silence belongs to the final answer, or a script of three calls would hang three times.
        return Outcome::Reply(Reply { content: call, delay: Duration::ZERO, ..reply });
    }
    let text = if !says.is_empty() {
        says.join("\n")
    } else if !conversation.tool_outputs.is_empty() {
        let lines: Vec<String> = conversation.tool_outputs.iter().map(|out| format!("ran: {out}")).collect();
        lines.join("\n")
    } else if let Some(hung) = hung {
        hung
    } else {
        format!("echo: {}", conversation.last_user_text)
    };
    reply.content = Content::Text(split(&text, pieces));
    Outcome::Reply(reply)
}

fn plain(text: String) -> Reply {
    Reply { thinking: None, content: Content::Text(vec![text]), delay: Duration::ZERO, pause: Duration::ZERO }
}

fn tool_call(directive: &Directive, tools: &[Tool]) -> Option<Content> {
    match directive {
        Directive::Run(command) => shell_call(command, tools),
        Directive::Write { path, content } => {
            let write = tools.iter().find(|tool| tool.name.eq_ignore_ascii_case("write"));
            match write {
                Some(tool) => {
                    let field = if tool.takes("filePath") { "filePath" } else { "file_path" };
                    let arguments = json!({ field: path, "content": content });
                    Some(Content::Call { name: tool.name.clone(), arguments })
                }
                None => shell_call(&format!("printf %s {} > {}", quote(content), quote(path)), tools),
            }
        }
        _ => None,
    }
}

/// A call of the offered shell tool, whatever its name; none where no shell is offered.
fn shell_call(command: &str, tools: &[Tool]) -> Option<Content> {
    const NAMES: [&str; 5] = ["bash", "shell", "local_shell", "exec_command", "run_shell_command"];
    let tool =
        NAMES.iter().find_map(|name| tools.iter().find(|tool| tool.name.eq_ignore_ascii_case(name)))?;
    let as_list = tool.schema.pointer("/properties/command/type").and_then(Value::as_str) == Some("array");
    let mut arguments = match (as_list, tool.takes("cmd")) {
        (true, _) => json!({ "command": ["bash", "-c", command] }),
        (false, true) => json!({ "cmd": command }),
        (false, false) => json!({ "command": command }),
    };
    if tool.takes("description") {
        arguments["description"] = json!("Scripted command");
    }
    Some(Content::Call { name: tool.name.clone(), arguments })
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Splits at character borders into at most `pieces` parts of nearly the same length.
fn split(text: &str, pieces: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let length = characters.len().div_ceil(pieces).max(1);
    if characters.is_empty() {
        return vec![String::new()];
    }
    characters.chunks(length).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bash() -> Tool {
        Tool {
            name: "bash".into(),
            schema: json!({"properties": {"command": {"type": "string"}, "description": {"type": "string"}}}),
        }
    }

    fn ask(text: &str, tools: Vec<Tool>, outputs: &[&str]) -> Outcome {
        let mut conversation = Conversation { tools, ..Conversation::default() };
        conversation.user(text);
        conversation.tool_outputs = outputs.iter().map(|o| (*o).to_owned()).collect();
        decide(&conversation)
    }

    fn reply(outcome: Outcome) -> Reply {
        match outcome {
            Outcome::Reply(reply) => reply,
            Outcome::Fail(code) => panic!("failed with {code}"),
        }
    }

    #[test]
    fn two_commands_run_one_after_the_other() {
        let text = "!run one\n!run two";
        for (outputs, command) in [(&[][..], "one"), (&["1"][..], "two")] {
            let Content::Call { name, arguments } = reply(ask(text, vec![bash()], outputs)).content else {
                panic!("no call");
            };
            assert_eq!((name.as_str(), arguments["command"].as_str()), ("bash", Some(command)));
            assert!(arguments["description"].is_string());
        }
        assert_eq!(reply(ask(text, vec![bash()], &["1", "2"])).text(), "ran: 1\nran: 2");
    }

    #[test]
    fn a_file_is_written_with_the_write_tool_or_else_the_shell() {
        let write = Tool { name: "write".into(), schema: json!({"properties": {"filePath": {}}}) };
        let call = reply(ask("!write a.txt it's", vec![bash(), write], &[])).content;
        let arguments = json!({"filePath": "a.txt", "content": "it's"});
        assert_eq!(call, Content::Call { name: "write".into(), arguments });
        let Content::Call { arguments, .. } = reply(ask("!write a.txt it's", vec![bash()], &[])).content
        else {
            panic!("no call");
        };
        assert_eq!(arguments["command"], r"printf %s 'it'\''s' > 'a.txt'");
    }

    #[test]
    fn without_a_shell_the_command_is_echoed() {
        assert_eq!(reply(ask("!run x", vec![], &[])).text(), "echo: !run x");
    }

    #[test]
    fn titles_are_short_and_constant() {
        let mut conversation = Conversation::default();
        conversation.system("You are a title generator.");
        conversation.user("!hang 100");
        assert_eq!(reply(decide(&conversation)).text(), TITLE);
    }

    #[test]
    fn an_answer_comes_in_pieces() {
        let answer = reply(ask("!chunks 3 5\n!say abcdefg\n!think hm", vec![], &[]));
        assert_eq!(answer.content, Content::Text(vec!["abc".into(), "def".into(), "g".into()]));
        assert_eq!((answer.pause.as_millis(), answer.thinking.as_deref()), (5, Some("hm")));
    }

    #[test]
    fn failing_hanging_and_echoing() {
        assert_eq!(ask("!fail 429", vec![], &[]), Outcome::Fail(429));
        let hung = reply(ask("!hang 2", vec![], &[]));
        assert_eq!((hung.text().as_str(), hung.delay.as_secs()), ("hung 2", 2));
        assert_eq!(reply(ask("hello", vec![], &[])).text(), "echo: hello");
    }
}
