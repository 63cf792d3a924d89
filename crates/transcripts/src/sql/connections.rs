//! Connections to the database, each used by one call at a time, and the time limit of every call.
//!
//! A connection is kept for the next call only when its call ended well: after an error, after the time limit, and when
//! the caller went away, nothing is known about it, so it is closed, and the database rolls back what was open. That
//! is why sqlx's own pool is not used: it keeps such connections, and repeats a refused connect until the time is up
//! and then forgets the cause.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::{AnyConnection, Connection};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::StoreOptions;
use super::dialect;
use super::failure::{Failure, explain};
use super::lease::{Lease, Permits};
use crate::url::Database;
use crate::{DatabaseUrl, StoreError};

/// What a call does to the database.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    /// It looks.
    Read,
    /// It changes something.
    Write {
        /// How much it brings.
        bytes: usize,
    },
}

/// The connections of one store.
pub(super) struct Connections {
    url: DatabaseUrl,
    time_limit: Duration,
    setup: String,
    connections: Arc<Semaphore>,
    /// SQLite takes one writer at a time, and does not let those who wait take turns.
    writers: Arc<Semaphore>,
    idle: Mutex<Vec<AnyConnection>>,
}

impl Connections {
    /// Connects when needed.
    pub(super) fn new(url: DatabaseUrl, options: &StoreOptions, more_setup: &str) -> Self {
        let most = options.connections.max(1);
        let writers = match url.database() {
            Database::Sqlite(_) => 1,
            Database::Postgres => most,
        };
        Self {
            setup: dialect::setup(&url, options.time_limit) + more_setup,
            time_limit: options.time_limit,
            connections: Arc::new(Semaphore::new(most)),
            writers: Arc::new(Semaphore::new(writers)),
            idle: Mutex::new(Vec::new()),
            url,
        }
    }

    pub(super) fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.idle.lock().len()
    }

    /// Does work on a connection, within the time limit.
    pub(super) async fn run<T>(
        &self,
        doing: &'static str,
        access: Access,
        work: impl AsyncFnOnce(&mut AnyConnection) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let limit = match access {
            Access::Read => self.time_limit,
            Access::Write { bytes } => self.time_limit + dialect::time_for(bytes),
        };
        let within_limit = async {
            let mut lease = self.lease(access).await?;
            let result = work(lease.connection()?).await;
            if let Ok(_) | Err(Failure::Refused(_)) = result
                && let Some((connection, _permits)) = lease.into_parts()
            {
                // Before another call gets the right to use one.
                self.idle.lock().push(connection);
            }
            result
        };
        match timeout(limit, within_limit).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(Failure::Refused(error))) => Err(error),
            Ok(Err(Failure::Sql(error))) => Err(explain(doing, limit, &error)),
            Err(_) => {
                // What hangs there may have befallen the others, and asking each of them would cost a call.
                self.idle.lock().clear();
                Err(StoreError::Timeout { doing, limit })
            }
        }
    }

    /// A connection that works. One that was idle is asked first, since the server may have gone meanwhile.
    async fn lease(&self, access: Access) -> Result<Lease, sqlx::Error> {
        let permits = self.permits(access).await.map_err(io::Error::other)?;
        let (url, setup, limit) = (self.url.clone(), self.setup.clone(), self.time_limit);
        let idle = self.idle.lock().pop();
        let permits = match idle {
            None => permits,
            Some(connection) => {
                let mut lease = Lease::new(connection, permits, &url, limit);
                if lease.connection()?.ping().await.is_ok() {
                    return Ok(lease);
                }
                let Some((_, permits)) = lease.into_parts() else { return Err(sqlx::Error::WorkerCrashed) };
                permits
            }
        };
        // Nobody may be left to wait for it; then it holds the permits until it is known how it ends.
        let connecting = tokio::spawn(async move {
            let connection = dialect::connect(&url, &setup, limit).await?;
            Ok(Lease::new(connection, permits, &url, limit))
        });
        connecting.await.map_err(io::Error::other)?
    }

    async fn permits(&self, access: Access) -> Result<Permits, AcquireError> {
        let one_of = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).acquire_owned();
        let writer: Option<OwnedSemaphorePermit> = match access {
            Access::Read => None,
            Access::Write { .. } => Some(one_of(&self.writers).await?),
        };
        Ok(Permits { _writer: writer, _connection: one_of(&self.connections).await? })
    }
}
