//! Query parameters: read once, each at most once, with errors that name the parameter.

use std::str::FromStr;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use crate::error::ApiError;

/// A parameter that is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Its name.
    pub name: &'static str,
    /// The smallest value.
    pub least: usize,
    /// The largest value.
    pub most: usize,
    /// The value where it is not given.
    pub default: usize,
}

/// The decoded parameters of a request. Names the route does not know are ignored.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part of a URL after `?`.
    pub fn parse(text: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The value of `name`.
    ///
    /// # Errors
    /// It is there more than once: which one counts would be a guess.
    pub fn get(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() {
            return Err(ApiError::bad_request(format!("query parameter {name} is given more than once")));
        }
        Ok(first)
    }

    /// The value of `name`, read as a `T`; `expected` says in an error what it should have been.
    ///
    /// # Errors
    /// It cannot be read as a `T`.
    pub fn read<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, ApiError> {
        self.get(name)?.map(|value| value.parse().map_err(|_| invalid(name, expected))).transpose()
    }

    /// The value of `name`, which is one of the words that `T` has a variant for; `expected` says them in an error.
    ///
    /// # Errors
    /// It is another word.
    pub fn word<'de, T: Deserialize<'de>>(
        &'de self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
        let read = |value: &'de str| {
            let word: StrDeserializer<'de, ValueError> = value.into_deserializer();
            T::deserialize(word).map_err(|_| invalid(name, expected))
        };
        self.get(name)?.map(read).transpose()
    }

    /// The value of a number, or its default.
    ///
    /// # Errors
    /// It is no number, or out of range.
    pub fn number(&self, of: &Number) -> Result<usize, ApiError> {
        let expected = match of.most {
            usize::MAX => format!("a number from {} on", of.least),
            most => format!("a number from {} to {most}", of.least),
        };
        match self.read::<usize>(of.name, &expected)? {
            None => Ok(of.default),
            Some(number) if (of.least..=of.most).contains(&number) => Ok(number),
            Some(_) => Err(invalid(of.name, &expected)),
        }
    }
}

/// The error for a value that is not what it should be.
pub fn invalid(name: &str, expected: &str) -> ApiError {
    ApiError::bad_request(format!("query parameter {name} must be {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Number = Number { name: "limit", least: 1, most: 200, default: 50 };

    #[test]
    fn values_are_decoded_and_checked() {
        let query = Query::parse(Some("limit=5&search=a%20b+c&x=1&x=2"));
        assert_eq!(query.number(&LIMIT).unwrap(), 5);
        assert_eq!(query.get("search").unwrap(), Some("a b c"));
        let offset = Number { name: "offset", least: 0, most: usize::MAX, default: 0 };
        assert_eq!(query.number(&offset).unwrap(), 0);
        assert!(query.get("x").unwrap_err().message.contains("x is given more than once"));
    }

    #[test]
    fn what_is_out_of_range_or_no_number_names_the_parameter() {
        for text in ["limit=0", "limit=201", "limit=x", "limit=-1", "limit="] {
            let error = Query::parse(Some(text)).number(&LIMIT).unwrap_err();
            assert_eq!(error.message, "query parameter limit must be a number from 1 to 200", "{text}");
        }
    }
}
