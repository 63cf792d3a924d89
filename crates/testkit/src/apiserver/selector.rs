//! Selectors of labels and fields.

use serde_json::Value;

use super::refusal::Refusal;

/// Both selectors of a list or a watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<(String, Demand)>,
    fields: Vec<(String, Demand)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Demand {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Demand {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::In(allowed) => value.is_some_and(|value| allowed.iter().any(|one| one == value)),
            Self::NotIn(refused) => value.is_none_or(|value| refused.iter().all(|one| one != value)),
        }
    }
}

impl Selector {
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self, Refusal> {
        let parse = |text| {
            terms(text).into_iter().map(|term| demand(term).ok_or(term)).collect::<Result<Vec<_>, _>>()
        };
        let wrong = |term: &str| Refusal::bad_request(format!("unable to parse requirement: {term}"));
        Ok(Self { labels: parse(labels).map_err(wrong)?, fields: parse(fields).map_err(wrong)? })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|(key, demand)| demand.holds(labels.get(key).and_then(Value::as_str)))
            && self.fields.iter().all(|(path, demand)| {
                let found = path.split('.').try_fold(object, |value, key| value.get(key));
                // A field that is not there is empty.
                demand.holds(Some(found.and_then(Value::as_str).unwrap_or_default()))
            })
    }
}

/// Cuts at commas outside of parentheses.
fn terms(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|term| !term.is_empty())
    .collect()
}

fn demand(term: &str) -> Option<(String, Demand)> {
    let key = |text: &str| text.trim().to_owned();
    if let Some((name, list)) = term.split_once('(') {
        let values = list.strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
        let (name, operator) = name.trim().rsplit_once(' ')?;
        return match operator {
            "in" => Some((key(name), Demand::In(values))),
            "notin" => Some((key(name), Demand::NotIn(values))),
            _ => None,
        };
    }
    if let Some((name, value)) = term.split_once("!=") {
        return Some((key(name), Demand::NotIn(vec![key(value)])));
    }
    if let Some((name, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Some((key(name), Demand::In(vec![key(value)])));
    }
    match term.strip_prefix('!') {
        Some(name) => Some((key(name), Demand::Absent)),
        None => Some((key(term), Demand::Exists)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn picks(labels: &str, fields: &str) -> bool {
        let object =
            json!({"metadata": {"name": "n", "labels": {"a": "1", "b": "2"}}, "spec": {"nodeName": "x"}});
        Selector::parse(labels, fields).unwrap().matches(&object)
    }

    #[test]
    fn labels_are_selected_in_kubectls_syntax() {
        for labels in ["a", "a=1", "a==1,b=2", "a in (1,2), b notin (3)", "!c", "c!=1", "a!=2", ""] {
            assert!(picks(labels, ""), "{labels}");
        }
        for labels in ["c", "a=2", "a=1,b=3", "a notin (1)", "!a", "c in (1)"] {
            assert!(!picks(labels, ""), "{labels}");
        }
    }

    #[test]
    fn fields_are_selected_by_their_path() {
        assert!(picks("", "metadata.name=n,spec.nodeName!=y"));
        assert!(!picks("", "metadata.name!=n"));
        assert!(picks("", "status.phase="));
    }
}
