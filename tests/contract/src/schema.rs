//! Schemas, closed: an object that the document describes member by member has no other members.

use std::sync::{Arc, OnceLock};

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

/// A schema of the document, ready to be used; made when it first is.
#[derive(Debug)]
pub struct Schema {
    schema: Value,
    components: Arc<Value>,
    validator: OnceLock<Result<Validator, String>>,
}

impl Schema {
    /// `schema`, whose references are into `components`.
    pub fn new(schema: &Value, components: &Arc<Value>) -> Self {
        Self { schema: schema.clone(), components: components.clone(), validator: OnceLock::new() }
    }

    /// The same where the schema itself is closed as well.
    pub fn closed(schema: &Value, components: &Arc<Value>) -> Self {
        let mut schema = schema.clone();
        close(&mut schema);
        Self::new(&schema, components)
    }

    fn validator(&self) -> Result<Validator, String> {
        let mut root = self.schema.clone();
        if let Value::Object(members) = &mut root {
            members.insert("components".to_owned(), Value::clone(&self.components));
        }
        let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
        options.build(&root).map_err(|error| format!("the schema cannot be used: {error}"))
    }

    /// Checks the text of a header or a query parameter.
    pub fn check_text(&self, text: &str) -> Result<(), String> {
        let number = text.parse::<u64>().ok().filter(|_| self.schema["type"] == "integer");
        self.check(&number.map_or_else(|| json!(text), |number| json!(number)))
    }

    /// Checks `value`.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        let validator = self.validator.get_or_init(|| self.validator()).as_ref().map_err(Clone::clone)?;
        let errors: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("at {:?}: {error}", error.instance_path().to_string()))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(format!("{} in {value}", errors.join("; "))) }
    }
}

/// The schemas that a document's others refer to.
#[derive(Debug)]
pub struct Components {
    /// As they are: clients may send more than is understood.
    pub of_requests: Arc<Value>,
    /// Closed.
    pub of_answers: Arc<Value>,
    /// None.
    pub nothing: Arc<Value>,
}

impl Components {
    /// Those of `document`.
    pub fn of(document: &Value) -> Result<Self, String> {
        let mut schemas = document["components"]["schemas"].clone();
        for (name, schema) in schemas.as_object().into_iter().flatten() {
            jsonschema::draft202012::meta::validate(schema)
                .map_err(|error| format!("{name} is no schema: {error}"))?;
        }
        let of_requests = Arc::new(json!({"schemas": schemas}));
        if let Value::Object(schemas) = &mut schemas {
            schemas.values_mut().for_each(close);
        }
        Ok(Self { of_requests, of_answers: Arc::new(json!({"schemas": schemas})), nothing: Arc::default() })
    }
}

/// Closes a schema and those in it.
fn close(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    for (keyword, inner) in members.iter_mut() {
        match (keyword.as_str(), inner) {
            ("properties" | "patternProperties" | "$defs", Value::Object(schemas)) => {
                schemas.values_mut().for_each(close);
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(close);
            }
            ("items" | "additionalProperties", inner) => close(inner),
            _ => {}
        }
    }
    if members.contains_key("properties") && !is_open_or_closed(members) {
        members.insert("unevaluatedProperties".to_owned(), Value::Bool(false));
    }
}

fn is_open_or_closed(schema: &Map<String, Value>) -> bool {
    schema.contains_key("additionalProperties") || schema.contains_key("unevaluatedProperties")
}
