//! One entry of the keys' Secret: a key and what it allows, as a small JSON document.
//!
//! It is read strictly. A misspelt limit that was passed over would leave a key that may more than its maker meant, so
//! an entry with anything unknown or doubtful in it is no key at all. What is wrong is told without any value.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::access::Rights;
use super::digest::Digest;
use super::quota::QuotaSpec;
use crate::routes::router::ObjectName;

/// What audit lines say in place of a scoped key's name, so no key may be called so.
const RESERVED: [&str; 2] = ["master", "-"];
/// Shorter keys are guessed.
const MIN_KEY: usize = 16;
/// Requests a second that a limit may name. Slower than one in a quarter of an hour is no rate.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;
/// Requests at once that a limit may name.
const COUNTS: std::ops::RangeInclusive<u32> = 1..=1_000_000;

/// An entry that can be used.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    pub(super) rights: Rights,
    pub(super) quota: QuotaSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    sha256: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    agents: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    read_only: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    requests_per_second: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    burst: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    max_in_flight: Option<&'a RawValue>,
}

/// A field that is there is given, also as null: "agents: null" must not stand for all of them.
fn given<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

impl Entry {
    /// Reads the entry `name` of the Secret, or says what is wrong with it.
    pub(super) fn read(name: &str, document: &[u8]) -> Result<Self, String> {
        if RESERVED.contains(&name) {
            return Err("the name is taken; give the entry another one".to_owned());
        }
        const EXPECTED: &str = "not a JSON object that has, each at most once, sha256 or key, agents, readOnly, \
                                requestsPerSecond, burst and maxInFlight, and nothing else";
        // A list would be read as the values of the fields in their order.
        if document.trim_ascii_start().first() != Some(&b'{') {
            return Err(EXPECTED.to_owned());
        }
        // The error's own text may quote a value.
        let fields: Fields<'_> = serde_json::from_slice(document)
            .map_err(|error| format!("line {}, column {}: {EXPECTED}", error.line(), error.column()))?;
        Ok(Self {
            digest: digest(&fields)?,
            rights: Rights {
                agents: fields.agents.map(agents).transpose()?,
                read_only: value(fields.read_only, "readOnly: must be true or false")?.unwrap_or(false),
            },
            quota: quota(&fields)?,
        })
    }
}

fn digest(fields: &Fields<'_>) -> Result<Digest, String> {
    let digest = match (fields.sha256, fields.key) {
        (Some(sha256), None) => {
            const EXPECTED: &str =
                "sha256: must be the 64 hexadecimal digits that sha256sum prints for the key";
            let text: Option<String> = value(Some(sha256), EXPECTED)?;
            text.and_then(|text| Digest::from_hex(text.trim())).ok_or(EXPECTED)?
        }
        (None, Some(key)) => {
            const EXPECTED: &str =
                "key: must be a text of at least 16 printable ASCII characters without spaces";
            let text: String = value(Some(key), EXPECTED)?.unwrap_or_default();
            let text = text.trim().as_bytes();
            if text.len() < MIN_KEY || !text.iter().all(u8::is_ascii_graphic) {
                return Err(EXPECTED.to_owned());
            }
            Digest::of(text)
        }
        (Some(_), Some(_)) => return Err("has both sha256 and key; keep one".to_owned()),
        (None, None) => return Err("has no sha256, and so no key".to_owned()),
    };
    if digest.is(&Digest::of(b"")) {
        return Err("sha256: is the digest of nothing; the variable with the key was empty".to_owned());
    }
    Ok(digest)
}

fn agents(raw: &RawValue) -> Result<BTreeSet<String>, String> {
    const EXPECTED: &str = "agents: must be a list of one or more names of Agents; leave it out for all";
    let names: Vec<String> = value(Some(raw), EXPECTED)?.unwrap_or_default();
    if names.is_empty() || names.iter().any(|name| ObjectName::parse(name).is_none()) {
        return Err(EXPECTED.to_owned());
    }
    Ok(names.into_iter().collect())
}

fn quota(fields: &Fields<'_>) -> Result<QuotaSpec, String> {
    const RATE: &str = "requestsPerSecond: must be a number from 0.001 to 1000000";
    const BURST: &str = "burst: must be a whole number from 1 to 1000000, beside requestsPerSecond";
    const IN_FLIGHT: &str = "maxInFlight: must be a whole number from 1 to 1000000";
    let per_second: Option<f64> = value(fields.requests_per_second, RATE)?;
    let burst: Option<u32> = value(fields.burst, BURST)?;
    let max_in_flight: Option<u32> = value(fields.max_in_flight, IN_FLIGHT)?;
    if per_second.is_some_and(|rate| !RATES.contains(&rate)) {
        return Err(RATE.to_owned());
    }
    if burst.is_some_and(|burst| !COUNTS.contains(&burst) || per_second.is_none()) {
        return Err(BURST.to_owned());
    }
    if max_in_flight.is_some_and(|max| !COUNTS.contains(&max)) {
        return Err(IN_FLIGHT.to_owned());
    }
    Ok(QuotaSpec::new(per_second, burst, max_in_flight))
}

/// What a field says; `expected` is the error, which names the field and not what it holds.
fn value<T: DeserializeOwned>(raw: Option<&RawValue>, expected: &str) -> Result<Option<T>, String> {
    raw.map(|raw| serde_json::from_str(raw.get()).map_err(|_| expected.to_owned())).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn read(document: &str) -> Result<Entry, String> {
        Entry::read("ci", document.as_bytes())
    }

    #[test]
    fn an_entry_says_what_its_key_allows() {
        let all = read(&format!(r#"{{"sha256": "{ABC}"}}"#)).unwrap();
        assert!(all.digest.is(&Digest::of(b"abc")));
        assert_eq!(all.rights, Rights { agents: None, read_only: false });
        assert_eq!(all.quota, QuotaSpec::new(None, None, None));

        let some = read(&format!(
            r#"{{"sha256": "{ABC}", "agents": ["b", "a"], "readOnly": true,
                "requestsPerSecond": 0.5, "burst": 3, "maxInFlight": 2}}"#
        ))
        .unwrap();
        let names = ["a", "b"].map(str::to_owned).into();
        assert_eq!(some.rights, Rights { agents: Some(names), read_only: true });
        assert_eq!(some.quota, QuotaSpec::new(Some(0.5), Some(3), Some(2)));

        let plain = read("{\"key\": \"sixteen-or-longer\\n\"}").unwrap();
        assert!(plain.digest.is(&Digest::of(b"sixteen-or-longer")));
    }

    #[test]
    fn what_is_doubtful_is_no_key_and_the_value_is_not_told() {
        let sha = format!(r#""sha256": "{ABC}""#);
        let empty = r#""sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855""#;
        for (document, told) in [
            (String::new(), "not a JSON object"),
            ("sesame".to_owned(), "not a JSON object"),
            (r#"["sesame-sesame-sesame"]"#.to_owned(), "not a JSON object"),
            (r#"{"key": sesame}"#.to_owned(), "line 1, column 9"),
            ("{}".to_owned(), "has no sha256"),
            (r#"{"key": 5550123}"#.to_owned(), "key: must"),
            (r#"{"key": "sesame"}"#.to_owned(), "key: must"),
            (r#"{"key": "sesame sesame sesame"}"#.to_owned(), "key: must"),
            (r#"{"key": null}"#.to_owned(), "key: must"),
            (r#"{"sha256": "sesame"}"#.to_owned(), "sha256: must"),
            (format!("{{{empty}}}"), "digest of nothing"),
            (format!(r#"{{{sha}, "key": "sesame-sesame-sesame"}}"#), "both"),
            (format!("{{{sha}, {sha}}}"), "each at most once"),
            (format!(r#"{{{sha}, "readonly": true}}"#), "nothing else"),
            (format!(r#"{{{sha}, "readOnly": "true"}}"#), "readOnly: must"),
            (format!(r#"{{{sha}, "readOnly": null}}"#), "readOnly: must"),
            (format!(r#"{{{sha}, "agents": null}}"#), "agents: must"),
            (format!(r#"{{{sha}, "agents": []}}"#), "agents: must"),
            (format!(r#"{{{sha}, "agents": "sesame"}}"#), "agents: must"),
            (format!(r#"{{{sha}, "agents": ["Sesame"]}}"#), "agents: must"),
            (format!(r#"{{{sha}, "requestsPerSecond": 0}}"#), "requestsPerSecond: must"),
            (format!(r#"{{{sha}, "requestsPerSecond": -5550123}}"#), "requestsPerSecond: must"),
            (format!(r#"{{{sha}, "requestsPerSecond": "sesame"}}"#), "requestsPerSecond: must"),
            (format!(r#"{{{sha}, "requestsPerSecond": null}}"#), "requestsPerSecond: must"),
            (format!(r#"{{{sha}, "burst": 5}}"#), "beside requestsPerSecond"),
            (format!(r#"{{{sha}, "requestsPerSecond": 1, "burst": 0}}"#), "burst: must"),
            (format!(r#"{{{sha}, "maxInFlight": 1.5}}"#), "maxInFlight: must"),
            (format!(r#"{{{sha}, "maxInFlight": 0}}"#), "maxInFlight: must"),
        ] {
            let problem = read(&document).unwrap_err();
            assert!(problem.contains(told), "{document}: {problem}");
            for value in ["esame", "5550123", ABC] {
                assert!(!problem.contains(value), "{document}: {problem}");
            }
        }
    }

    #[test]
    fn no_key_can_pass_for_another_in_the_log() {
        let document = format!(r#"{{"sha256": "{ABC}"}}"#);
        for name in ["master", "-"] {
            assert!(Entry::read(name, document.as_bytes()).unwrap_err().contains("name is taken"));
        }
    }
}
