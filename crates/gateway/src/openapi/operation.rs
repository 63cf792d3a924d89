//! What one route takes and answers.

use http::Method;
use paddock_api::http::ErrorCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

/// How the schema of a type is had.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The schema of `T`.
pub fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What an operation is about; operations are grouped by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Tag {
    /// Agents.
    Agents,
    /// Sessions and their lives.
    Sessions,
    /// What is said in them.
    Messages,
    /// What happens in them, as it happens.
    Events,
    /// Why they do not do as they should.
    Looks,
    /// The gateway itself.
    Gateway,
}

/// Where a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the path.
    Path,
    /// In the query.
    Query,
    /// Among the headers.
    Header,
}

/// Whether answers name a turn in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamesTurn {
    /// They are about none.
    Never,
    /// Those do that come once it is known.
    OnceKnown,
    /// All do.
    Always,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpensTo {
    /// Everybody.
    Everybody,
    /// Who has a key.
    Keys,
    /// Who has a key or a `tty_token`, which may be in the query too.
    KeysAndTokens,
}

/// What a value looks like.
#[derive(Debug)]
pub enum Shape {
    /// As a type.
    Of(SchemaOf),
    /// As this schema says.
    Like(Value),
}

/// A parameter of a request.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub place: Place,
    /// What it does.
    pub description: String,
    /// What it looks like.
    pub shape: Shape,
}

/// A header of an answer.
#[derive(Debug)]
pub struct Header {
    /// Its name.
    pub name: &'static str,
    /// Whether it is always there.
    pub required: bool,
    /// What it says.
    pub description: &'static str,
    /// What it looks like.
    pub schema: Value,
}

/// The body of a request.
#[derive(Debug)]
pub struct Body {
    /// What it looks like.
    pub schema: SchemaOf,
    /// Members that must be there, beyond those that the schema requires.
    pub required_members: &'static [&'static str],
    /// Whether it must be there.
    pub required: bool,
    /// Bodies as clients send them, by name.
    pub examples: Vec<(&'static str, Value)>,
}

/// The body of an answer.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// There is none.
    Nothing,
    /// JSON.
    Json(SchemaOf),
    /// Server-sent events, whose data is JSON.
    Events(SchemaOf),
    /// Plain text.
    Text,
}

/// An answer that is no error, or no usual one.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// What it means.
    pub description: &'static str,
    /// Its body.
    pub content: Content,
    /// Its headers, beyond those of every answer.
    pub headers: Vec<Header>,
    /// A body as clients get it; of a stream, the data of an event.
    pub example: Option<Value>,
}

/// See the module.
#[derive(Debug)]
pub struct Operation {
    /// The methods that are taken.
    pub methods: Vec<Method>,
    /// The path's template, as the router names it.
    pub template: &'static str,
    /// What it is about.
    pub tag: Tag,
    /// A few words.
    pub summary: &'static str,
    /// Sentences.
    pub description: &'static str,
    /// What it takes beside its body.
    pub parameters: Vec<Parameter>,
    /// The body that it takes.
    pub body: Option<Body>,
    /// Its answers, errors apart.
    pub answers: Vec<Answer>,
    /// What else is answered, by somebody whom the gateway only relays.
    pub relayed: Option<&'static str>,
    /// Its errors, beyond those of any request.
    pub errors: Vec<(u16, ErrorCode)>,
    /// Whether answers name a turn.
    pub names_turn: NamesTurn,
    /// Who may ask.
    pub opens_to: OpensTo,
}

impl Operation {
    /// An operation that takes and answers nothing.
    pub fn new(method: Method, template: &'static str, tag: Tag, summary: &'static str) -> Self {
        Self {
            methods: vec![method],
            template,
            tag,
            summary,
            description: "",
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            relayed: None,
            errors: Vec::new(),
            names_turn: NamesTurn::Never,
            opens_to: OpensTo::Keys,
        }
    }

    /// The same, explained.
    #[must_use]
    pub fn explained(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// The same with these parameters.
    #[must_use]
    pub fn takes<const N: usize>(mut self, parameters: [Parameter; N]) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// The same with this body.
    #[must_use]
    pub fn reads(mut self, body: Body) -> Self {
        self.body = Some(body);
        self
    }

    /// The same with one more answer.
    #[must_use]
    pub fn answers(mut self, status: u16, content: Content, description: &'static str) -> Self {
        self.answers.push(Answer { status, description, content, headers: Vec::new(), example: None });
        self
    }

    /// The same, where whatever else is answered comes from somebody whom the gateway only relays.
    #[must_use]
    pub fn relays(mut self, description: &'static str) -> Self {
        self.relayed = Some(description);
        self
    }

    /// The same with headers of the answer that was named last.
    #[must_use]
    pub fn with<const N: usize>(mut self, headers: [Header; N]) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.extend(headers);
        }
        self
    }

    /// The same with an example of the answer that was named last.
    #[must_use]
    pub fn like(mut self, example: Value) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.example = Some(example);
        }
        self
    }

    /// The same with these errors, each at its own status.
    #[must_use]
    pub fn fails(mut self, codes: &[ErrorCode]) -> Self {
        self.errors.extend(codes.iter().map(|code| (code.status(), *code)));
        self
    }

    /// The same with these errors at another status than theirs.
    #[must_use]
    pub fn fails_with(mut self, status: u16, codes: &[ErrorCode]) -> Self {
        self.errors.extend(codes.iter().map(|code| (status, *code)));
        self
    }

    /// The same, where answers name a turn.
    #[must_use]
    pub fn names_turn(mut self, names_turn: NamesTurn) -> Self {
        self.names_turn = names_turn;
        self
    }

    /// The same, for everybody.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.opens_to = OpensTo::Everybody;
        self
    }

    /// The same, where key or token may be in the query too.
    #[must_use]
    pub fn token_in_query(mut self) -> Self {
        self.opens_to = OpensTo::KeysAndTokens;
        self
    }
}
