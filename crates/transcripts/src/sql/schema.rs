//! The tables, and how they come to be.
//!
//! Versions are steps of SQL, each done once. All of it happens in one transaction under one lock, so any number of
//! gateways may start at once, and one that dies midway leaves nothing. sqlx's migrations are not used: they take no
//! lock on SQLite, and commit each step by itself.

use std::time::Duration;

use sqlx::{AnyConnection, Connection, Executor};
use tokio::time::timeout;

use super::dialect;
use super::failure::{Failure, explain};
use crate::url::Database;
use crate::{DatabaseUrl, StoreError};

/// The n-th leads from version n to version n + 1. What was released once must not be changed.
const STEPS: &[&str] = &[include_str!("schema/1.sql")];

const DOING: &str = "opening the database";

/// Makes the tables, or what is missing of them.
pub(super) async fn bring_up_to_date(url: &DatabaseUrl, limit: Duration) -> Result<(), StoreError> {
    let work = async {
        let mut connection = dialect::connect(url, &dialect::setup(url, limit), limit).await?;
        apply(&mut connection, url).await?;
        connection.close().await?;
        Ok(())
    };
    let result =
        timeout(limit, work).await.unwrap_or(Err(StoreError::Timeout { doing: DOING, limit }.into()));
    result.map_err(|failure| match failure {
        Failure::Refused(error) => error,
        Failure::Sql(error) => explain(DOING, limit, &error),
    })
}

async fn apply(connection: &mut AnyConnection, url: &DatabaseUrl) -> Result<(), Failure> {
    let mut transaction = connection.begin_with(dialect::begin_write(url)).await?;
    if *url.database() == Database::Postgres {
        let encoding: String = sqlx::query_scalar("SELECT current_setting('server_encoding')")
            .fetch_one(&mut *transaction)
            .await?;
        if encoding != "UTF8" {
            let cause = format!("its encoding is {encoding}, which can't hold every text; make it with UTF8");
            return Err(StoreError::Refused { doing: DOING, cause }.into());
        }
        // Any number will do that nobody else has a use for.
        transaction.execute("SELECT pg_advisory_xact_lock(7233184988)").await?;
    }
    transaction.execute("CREATE TABLE IF NOT EXISTS transcript_schema (version BIGINT PRIMARY KEY)").await?;
    let found: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM transcript_schema")
        .fetch_one(&mut *transaction)
        .await?;
    let known = STEPS.len() as i64;
    if found > known {
        return Err(StoreError::Newer { found, known }.into());
    }
    for (version, step) in (1..).zip(STEPS).skip_while(|(version, _)| *version <= found) {
        transaction.execute(sqlx::raw_sql(*step)).await?;
        let noted = sqlx::query("INSERT INTO transcript_schema (version) VALUES ($1)").bind(version);
        noted.execute(&mut *transaction).await?;
        tracing::info!(database = %url, version, "the database's schema has a new version");
    }
    transaction.commit().await?;
    Ok(())
}

/// Asks for something that is there in every version. A later version is fine here: while a new release is rolled out,
/// the old one goes on.
pub(super) async fn check(connection: &mut AnyConnection) -> Result<(), Failure> {
    sqlx::query("SELECT version FROM transcript_schema LIMIT 1").fetch_one(connection).await?;
    Ok(())
}
