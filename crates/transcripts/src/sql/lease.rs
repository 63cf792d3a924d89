//! A connection in use, together with the right to use one.
//!
//! The right is given back when the connection is: a statement that hangs on a disk can't be called off, and as long as
//! it does, SQLite's thread for it is there. So a store never has more of them than connections, however many calls
//! give up waiting.

use std::time::Duration;

use sqlx::{AnyConnection, Connection, Error};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::DatabaseUrl;
use crate::url::Database;

/// The right to use a connection.
pub(super) struct Permits {
    pub(super) _connection: OwnedSemaphorePermit,
    pub(super) _writer: Option<OwnedSemaphorePermit>,
}

/// A connection in use. Dropped, it is closed.
pub(super) struct Lease {
    /// Until it is taken apart.
    held: Option<(AnyConnection, Permits)>,
    /// How long closing may take. SQLite is waited for; a server can do without.
    closing_limit: Duration,
}

impl Lease {
    pub(super) fn new(
        connection: AnyConnection,
        permits: Permits,
        url: &DatabaseUrl,
        limit: Duration,
    ) -> Self {
        let closing_limit = match url.database() {
            Database::Sqlite(_) => Duration::MAX,
            Database::Postgres => limit,
        };
        Self { held: Some((connection, permits)), closing_limit }
    }

    /// The connection. The error is for the types.
    pub(super) fn connection(&mut self) -> Result<&mut AnyConnection, Error> {
        self.held.as_mut().map(|(connection, _)| connection).ok_or(Error::WorkerCrashed)
    }

    /// The connection, to be kept, and the right to use one.
    pub(super) fn into_parts(mut self) -> Option<(AnyConnection, Permits)> {
        self.held.take()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some((connection, permits)), Ok(runtime)) = (self.held.take(), Handle::try_current()) else {
            return;
        };
        let limit = self.closing_limit;
        runtime.spawn(async move {
            // It was of no use any more; how it ends does not matter.
            let _ = timeout(limit, connection.close()).await;
            drop(permits);
        });
    }
}
