//! A scripted model for tests: it speaks the dialects that harnesses speak to models, and what it answers
//! is written in the prompt.
//!
//! It serves OpenAI's chat completions and responses and Anthropic's messages, streaming and not, with
//! tool calls and usage numbers. A test writes [`directive`]s such as `!run make test` into its message and
//! gets a tool call of whatever shell tool the harness offers. Everything asked is kept in a log that
//! `GET /log` returns; credentials are never kept.
//!
//! It is for tests only: it has no limits and no authentication.

pub mod apiserver;
pub mod conversation;
pub mod dialect;
pub mod directive;
mod log;
pub mod postgres;
pub mod reply;
mod server;

pub use log::Seen;
pub use server::ScriptedModel;
