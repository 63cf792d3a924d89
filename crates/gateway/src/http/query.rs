//! Query parameters: read once, each at most once, with errors that name the parameter.

use std::str::FromStr;

use crate::error::ApiError;

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

    /// The value of `name` as a number in `range`, or `default`.
    ///
    /// # Errors
    /// It is no number, or out of range.
    pub fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<usize>,
        default: usize,
    ) -> Result<usize, ApiError> {
        let expected = match *range.end() {
            usize::MAX => format!("a number from {} on", range.start()),
            end => format!("a number from {} to {end}", range.start()),
        };
        match self.read::<usize>(name, &expected)? {
            None => Ok(default),
            Some(number) if range.contains(&number) => Ok(number),
            Some(_) => Err(invalid(name, &expected)),
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

    #[test]
    fn values_are_decoded_and_checked() {
        let query = Query::parse(Some("limit=5&search=a%20b+c&x=1&x=2"));
        assert_eq!(query.number("limit", 1..=200, 50).unwrap(), 5);
        assert_eq!(query.get("search").unwrap(), Some("a b c"));
        assert_eq!(query.number("offset", 0..=usize::MAX, 0).unwrap(), 0);
        assert!(query.get("x").unwrap_err().message.contains("x is given more than once"));
    }

    #[test]
    fn what_is_out_of_range_or_no_number_names_the_parameter() {
        for text in ["limit=0", "limit=201", "limit=x", "limit=-1", "limit="] {
            let error = Query::parse(Some(text)).number("limit", 1..=200, 50).unwrap_err();
            assert_eq!(error.message, "query parameter limit must be a number from 1 to 200", "{text}");
        }
    }
}
