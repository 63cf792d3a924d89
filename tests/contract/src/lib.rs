//! Holds answers of the gateway against its OpenAPI document.
//!
//! Tests put every answer through [`Contract::check`]. It is stricter than a client has to be: a member, header, status or kind of
//! body that the document does not have is a violation, so that neither the code nor the document can change alone. Schemas that
//! say of themselves that they are open (a harness's own objects) stay so.

mod answer;
mod operation;
mod schema;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

pub use operation::{Operation, Place};

use answer::Response;
use operation::Found;
use schema::Components;

/// A request, as far as its answer depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The body; empty where there is none.
    pub body: &'a [u8],
}

/// An answer, read to its end.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: &'a http::HeaderMap,
    /// The body; empty where there is none.
    pub body: &'a [u8],
}

/// What an answer has that the document does not, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {problem}")]
pub struct Violation {
    what: String,
    problem: String,
}

impl Violation {
    fn new(what: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self { what: what.to_string(), problem: problem.to_string() }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Contract {
    operations: Vec<Operation>,
    /// What a request is answered with that means no operation.
    refusal: Response,
}

impl Contract {
    /// Reads a document.
    ///
    /// # Errors
    /// It is no OpenAPI document as the gateway writes it.
    pub fn new(document: &Value) -> Result<Self, Violation> {
        let components = Components::of(document).map_err(|problem| Violation::new("document", problem))?;
        let refusal = Response::refusal(&components);
        let refusal = refusal.map_err(|problem| Violation::new("a refusal", problem))?;
        Ok(Self { operations: operation::all(document, &components)?, refusal })
    }

    /// The operations.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Checks an answer, and the request too where it was taken.
    ///
    /// # Errors
    /// The first thing that the document does not have.
    pub fn check(&self, asked: Asked<'_>, answered: Answered<'_>) -> Result<(), Violation> {
        let what = format!("{} {} -> {}", asked.method, asked.target, answered.status);
        let found = Found::of(&self.operations, asked);
        let checked = match &found {
            Found::Operation { operation, .. } => operation.check(asked, answered),
            Found::OtherMethods(methods) => self.refusal.check_other_methods(answered, methods),
            Found::Nothing => self.refusal.check_refusal(answered),
        };
        let checked = match (checked, &found) {
            // What is no name can name nothing, so the gateway knows no such path.
            (Err(_), Found::Operation { conforms: false, .. }) => self.refusal.check_refusal(answered),
            (checked, _) => checked,
        };
        checked.map_err(|problem| Violation::new(what, problem))
    }

    /// Checks the data of one event of a stream that `asked` was answered with.
    ///
    /// # Errors
    /// The document has no such event.
    pub fn check_event(&self, asked: Asked<'_>, data: &Value) -> Result<(), Violation> {
        let what = format!("an event of {} {}", asked.method, asked.target);
        match Found::of(&self.operations, asked) {
            Found::Operation { operation, .. } => operation.check_event(data),
            Found::OtherMethods(_) | Found::Nothing => Err("no such operation".to_owned()),
        }
        .map_err(|problem| Violation::new(what, problem))
    }
}
