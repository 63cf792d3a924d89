//! The URL of a database. It holds a password, so nothing prints it: what is shown is which database it is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::any::AnyConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::StoreError;

/// What sqlx understands. It would write any other parameter into the log, with its value.
const POSTGRES_PARAMETERS: &[&str] = &[
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Which database, and how to get in.
#[derive(Clone)]
pub struct DatabaseUrl {
    options: AnyConnectOptions,
    database: Database,
}

/// What kind of database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    /// A file, for one program at a time as a rule.
    Sqlite(PathBuf),
    /// A server, for any number of programs.
    Postgres,
}

impl DatabaseUrl {
    pub(crate) fn options(&self) -> &AnyConnectOptions {
        &self.options
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }
}

impl FromStr for DatabaseUrl {
    type Err = StoreError;

    /// Reads `sqlite:` and `postgres:` URLs. No error repeats a piece of the text.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let wrong = |why: &str| StoreError::Url { why: why.to_owned() };
        let not_a_url = |error: sqlx::Error| match error {
            sqlx::Error::Configuration(why) => StoreError::Url { why: why.to_string() },
            _ => wrong("it is not a URL"),
        };
        let options: AnyConnectOptions = text.parse().map_err(not_a_url)?;
        let url = &options.database_url;
        let database = match url.scheme() {
            "sqlite" => {
                // A transcript must outlive the program, and how the file is opened is decided here.
                if url.query().is_some() || url.fragment().is_some() {
                    return Err(wrong("a sqlite URL takes no parameters"));
                }
                if matches!(url.path(), "" | "/" | ":memory:") {
                    return Err(wrong("it names no file"));
                }
                let file = SqliteConnectOptions::from_url(url);
                let file = file.map_err(|_| wrong("the file's name is not UTF-8"))?;
                Database::Sqlite(file.get_filename().to_owned())
            }
            "postgres" | "postgresql" => {
                let known = |key: &str| POSTGRES_PARAMETERS.contains(&key);
                if url.query_pairs().any(|(key, _)| !known(&key) && !key.starts_with("options[")) {
                    return Err(wrong("it has a parameter that is not known"));
                }
                // Its errors quote values, and which of them are secret is hard to say.
                let parsed = PgConnectOptions::from_url(url);
                parsed.map_err(|_| wrong("one of its parameters has a value that is not understood"))?;
                Database::Postgres
            }
            _ => return Err(wrong("it begins with neither sqlite: nor postgres:")),
        };
        // Statements are of no interest, and the slow ones tell about themselves by their time limit.
        Ok(Self { options: options.disable_statement_logging(), database })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.database {
            Database::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Database::Postgres => {
                let url = &self.options.database_url;
                write!(f, "postgres://{}", url.host_str().unwrap_or_default())?;
                if let Some(port) = url.port() {
                    write!(f, ":{port}")?;
                }
                f.write_str(url.path())
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DatabaseUrl {
        text.parse().unwrap()
    }

    #[test]
    fn files_are_named_as_sqlx_names_them() {
        for (text, path) in [
            ("sqlite:///data/transcripts.db", "/data/transcripts.db"),
            ("sqlite:/data/transcripts.db", "/data/transcripts.db"),
            ("sqlite:transcripts.db", "transcripts.db"),
            ("sqlite:///data/a%20b.db", "/data/a b.db"),
        ] {
            assert_eq!(parse(text).database, Database::Sqlite(path.into()), "{text}");
        }
        assert_eq!(parse("sqlite:///data/transcripts.db").to_string(), "sqlite:/data/transcripts.db");
    }

    #[test]
    fn no_password_is_shown() {
        for text in [
            "postgres://paddock:hunter2@db.example:5433/transcripts?sslmode=require",
            "postgresql://db.example:5433/transcripts?user=paddock&password=hunter2",
        ] {
            let url = parse(text);
            assert_eq!(url.to_string(), "postgres://db.example:5433/transcripts");
            assert_eq!(format!("{url:?}"), url.to_string());
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_being_repeated() {
        for text in [
            "",
            "hunter2",
            "mysql://paddock:hunter2@db/x",
            "postgres://paddock:hunter2@db:notaport/x",
            "postgres://paddock:hunter2@db/x?sslmode=hunter2",
            "postgres://db/x?pasword=hunter2",
            "sqlite::memory:",
            "sqlite:",
            "sqlite://",
            "sqlite:///data/x.db?mode=memory",
            "sqlite:///data/x.db?mode=hunter2",
        ] {
            let error = text.parse::<DatabaseUrl>().unwrap_err();
            assert_eq!(error.reason(), "url", "{text}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
