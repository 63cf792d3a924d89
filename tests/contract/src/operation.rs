//! The operations of a document, and which of them a request means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::answer::Response;
use crate::schema::{Components, Schema};
use crate::{Answered, Asked, Violation};

/// One operation.
#[derive(Debug)]
pub struct Operation {
    /// The method, in capital letters.
    pub method: String,
    /// The path's template.
    pub template: String,
    /// Bodies that the document gives as examples.
    pub examples: Vec<Value>,
    path_parameters: BTreeMap<String, Schema>,
    query_parameters: BTreeMap<String, Schema>,
    header_parameters: BTreeMap<String, Schema>,
    body: Option<Schema>,
    responses: BTreeMap<String, Arc<Response>>,
}

/// Where a parameter of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the query.
    Query,
    /// Among the headers.
    Header,
}

/// What a request means.
pub enum Found<'a> {
    /// This operation.
    Operation {
        /// The operation.
        operation: &'a Operation,
        /// Whether what stands in the path is as the document says.
        conforms: bool,
    },
    /// No operation, and the path has others, with these methods.
    OtherMethods(BTreeSet<&'a str>),
    /// Nothing.
    Nothing,
}

impl<'a> Found<'a> {
    /// What `asked` means.
    pub fn of(operations: &'a [Operation], asked: Asked<'_>) -> Self {
        let path = asked.target.split('?').next().unwrap_or_default();
        let at_path =
            || operations.iter().filter_map(|operation| Some((operation, operation.matches(path)?)));
        if let Some((operation, conforms)) = at_path().find(|(operation, _)| operation.method == asked.method)
        {
            return Self::Operation { operation, conforms };
        }
        let methods: BTreeSet<&str> = at_path()
            .filter(|(_, conforms)| *conforms)
            .map(|(operation, _)| operation.method.as_str())
            .collect();
        if methods.is_empty() { Self::Nothing } else { Self::OtherMethods(methods) }
    }
}

/// All operations of a document.
pub fn all(document: &Value, components: &Components) -> Result<Vec<Operation>, Violation> {
    let shared = Response::shared(document, components);
    let shared = shared.map_err(|problem| Violation::new("a shared answer", problem))?;
    let paths = document["paths"].as_object().ok_or_else(|| Violation::new("document", "it has no paths"))?;
    let each = paths.iter().flat_map(|(template, item)| {
        let operations = item.as_object().into_iter().flatten();
        operations.map(move |(method, operation)| (template, method, operation))
    });
    each.map(|(template, method, operation)| {
        Operation::read(components, &shared, template, method, operation)
            .map_err(|problem| Violation::new(format!("{method} {template}"), problem))
    })
    .collect()
}

impl Operation {
    fn read(
        components: &Components,
        shared: &BTreeMap<String, Arc<Response>>,
        template: &str,
        method: &str,
        operation: &Value,
    ) -> Result<Self, String> {
        let parameters = |place: &str| -> BTreeMap<String, Schema> {
            let all = operation["parameters"].as_array().into_iter().flatten();
            all.filter(|parameter| parameter["in"] == place)
                .map(|parameter| {
                    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
                    (name, Schema::new(&parameter["schema"], &components.of_requests))
                })
                .collect()
        };
        let path_parameters = parameters("path");
        if let Some(name) =
            template.split('/').filter_map(parameter).find(|name| !path_parameters.contains_key(*name))
        {
            return Err(format!("the path's {name} is no parameter"));
        }
        let body = &operation["requestBody"]["content"]["application/json"];
        let examples = body["examples"].as_object().into_iter().flatten();
        let responses = operation["responses"].as_object().ok_or("it has no responses")?;
        let responses = responses
            .iter()
            .map(|(status, response)| {
                let response = match response["$ref"].as_str() {
                    None => Arc::new(Response::read(components, response)?),
                    Some(reference) => shared
                        .get(reference)
                        .ok_or_else(|| format!("{reference} is not in the document"))?
                        .clone(),
                };
                Ok((status.clone(), response))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self {
            method: method.to_ascii_uppercase(),
            template: template.to_owned(),
            examples: examples.map(|(_, example)| example["value"].clone()).collect(),
            path_parameters,
            query_parameters: parameters("query"),
            header_parameters: parameters("header"),
            body: body.get("schema").map(|schema| Schema::new(schema, &components.of_requests)),
            responses,
        })
    }

    /// Whether `path` is one of this operation's, and whether what stands for its parameters is as it should be.
    fn matches(&self, path: &str) -> Option<bool> {
        let mut conforms = true;
        let mut rest = path.split('/');
        let mut template = self.template.split('/').peekable();
        while let Some(expected) = template.next() {
            let segment = rest.next()?;
            match parameter(expected) {
                // The one parameter that may hold several segments, as it says of itself.
                Some("path") if template.peek().is_none() => return Some(conforms),
                Some(name) => {
                    let value = Value::String(segment.to_owned());
                    conforms &=
                        self.path_parameters.get(name).is_some_and(|schema| schema.check(&value).is_ok());
                }
                None if expected == segment => {}
                None => return None,
            }
        }
        rest.next().is_none().then_some(conforms)
    }

    /// Checks an answer to a request that means this operation.
    pub fn check(&self, asked: Asked<'_>, answered: Answered<'_>) -> Result<(), String> {
        let status = answered.status.to_string();
        let relayed = self.responses.get("default");
        let checked = match self.responses.get(&status) {
            Some(response) => response.check(answered),
            None => Err("the operation has no such status".to_owned()),
        };
        // What is relayed may have any status, also one that the gateway itself answers with.
        match (checked, relayed) {
            (Err(_), Some(relayed)) => relayed.check(answered)?,
            (checked, _) => checked?,
        }
        if answered.status >= 300 {
            return Ok(());
        }
        self.check_request(asked).map_err(|problem| format!("its request was taken: {problem}"))
    }

    /// Checks a request. What the document does not name is ignored by the gateway.
    fn check_request(&self, asked: Asked<'_>) -> Result<(), String> {
        let query = asked.target.split_once('?').map_or("", |(_, query)| query);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if let Some(schema) = self.query_parameters.get(name.as_ref()) {
                schema.check_text(&value).map_err(|problem| format!("{name}: {problem}"))?;
            }
        }
        match &self.body {
            Some(schema) if !asked.body.is_empty() => {
                schema.check(&serde_json::from_slice(asked.body).map_err(|error| error.to_string())?)
            }
            _ => Ok(()),
        }
    }

    /// Each parameter that not every text is right for, with one that is wrong.
    pub fn wrong_parameters(&self) -> Vec<(Place, &str, String)> {
        let places = [(Place::Query, &self.query_parameters), (Place::Header, &self.header_parameters)];
        let all = places.into_iter().flat_map(|(place, all)| all.iter().map(move |one| (place, one)));
        all.filter_map(|(place, (name, schema))| {
            // Nothing but printable characters, or too many of them.
            let texts = ["!".to_owned(), "!".repeat(1000)];
            let wrong = texts.into_iter().find(|text| schema.check_text(text).is_err())?;
            Some((place, name.as_str(), wrong))
        })
        .collect()
    }

    /// Whether it answers with a stream of events.
    pub fn streams(&self) -> bool {
        self.responses.get("200").is_some_and(|response| response.streams())
    }

    /// Checks the data of an event.
    pub fn check_event(&self, data: &Value) -> Result<(), String> {
        match self.responses.get("200") {
            Some(response) => response.check_event(data),
            None if self.responses.contains_key("default") => Ok(()),
            None => Err("the operation has no such status".to_owned()),
        }
    }
}

/// The name of the parameter that stands in a template as this segment.
fn parameter(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}
