//! The description of the API for its clients: OpenAPI 3.1, made from the types, limits and names that the routes themselves use.
//!
//! `operations` says of each route what it takes and answers, in one match that the compiler wants complete; `operation` has the
//! words for that, and `write` makes the document of it. What every route has in common (its key, the errors of any request) is
//! added there and said once. Tests hold every answer they get against the document.

pub mod operation;
pub mod operations;
mod parameters;
mod write;

#[cfg(test)]
mod tests;

pub use write::document;
