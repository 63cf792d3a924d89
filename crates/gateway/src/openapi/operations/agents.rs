//! Agents.

use http::Method;
use paddock_api::http::{ApiAgent, ApiAgentList, ErrorCode};
use serde_json::json;

use super::OF_OBJECT;
use crate::openapi::operation::{Body, Content, Operation, Tag, schema_of};
use crate::openapi::parameters::{number, text, word};
use crate::routes::agent_body::Fields;
use crate::routes::agents::{LIMIT, OFFSET, Order, Sort};
use crate::routes::router::{AGENT, AGENTS};

const AGENT_JSON: Content = Content::Json(schema_of::<ApiAgent>);

pub fn list() -> Operation {
    Operation::new(Method::GET, AGENTS, Tag::Agents, "Lists agents")
        .takes([
            number(&LIMIT, "How many at most."),
            number(&OFFSET, "How many are left out."),
            word::<Sort>("sort", "By what they are sorted; `created_at` where nothing is said."),
            word::<Order>("order", "`desc` where nothing is said."),
            text("search", "Only those whose name, id or harness has this in it."),
        ])
        .answers(200, Content::Json(schema_of::<ApiAgentList>), "A page of them.")
}

pub fn get() -> Operation {
    Operation::new(Method::GET, AGENT, Tag::Agents, "Shows an agent")
        .answers(200, AGENT_JSON, "The agent.")
        .fails(OF_OBJECT)
}

pub fn create() -> Operation {
    Operation::new(Method::POST, AGENTS, Tag::Agents, "Makes an agent")
        .reads(Body {
            schema: schema_of::<Fields<'static>>,
            required_members: &["model"],
            required: true,
            examples: vec![
                ("small", json!({"model": "small"})),
                (
                    "with_variables",
                    json!({"model": "small", "name": "Coder", "prompt": "Be brief.", "env_vars": {"TOKEN": "t"}}),
                ),
            ],
        })
        .answers(200, AGENT_JSON, "The agent.")
        .fails(&[ErrorCode::Unsupported, ErrorCode::ClusterUnavailable])
}

pub fn update() -> Operation {
    Operation::new(Method::PATCH, AGENT, Tag::Agents, "Changes an agent, for new sessions at once")
        .explained("What the body does not name stays as it is; `null` or an empty text clears it.")
        .reads(Body {
            schema: schema_of::<Fields<'static>>,
            required_members: &[],
            required: true,
            examples: vec![("prompt", json!({"prompt": "Be verbose."}))],
        })
        .answers(200, AGENT_JSON, "The agent as it is now.")
        .fails(OF_OBJECT)
        .fails(&[ErrorCode::Unsupported])
}

pub fn delete() -> Operation {
    Operation::new(Method::DELETE, AGENT, Tag::Agents, "Stops an agent's sessions, then deletes it")
        .explained(
            "The records of its sessions stay. It can be sent again where not all of them could be stopped.",
        )
        .answers(204, Content::Nothing, "It is gone.")
        .fails(OF_OBJECT)
        .fails(&[ErrorCode::Superseded])
}
