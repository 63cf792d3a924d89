//! A database for one test, and what tests put into it.

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use paddock_transcripts::{
    Batch, DatabaseUrl, Entry, EntryKind, Position, SessionKey, SqlStore, StoreError, StoreOptions,
    TranscriptStore,
};
use sqlx::{AnyConnection, Connection, Executor};

use paddock_testkit::postgres::{PASSWORD, Server};

/// In every body that [`entry`] makes, and so in no error.
pub const SECRET: &str = "what-the-user-said";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// A database that is empty at first.
pub struct Place {
    pub kind: Kind,
    pub url: String,
    folder: Option<PathBuf>,
}

impl Place {
    pub async fn new(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => {
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let name = format!("paddock-transcripts-{}-{number}", std::process::id());
                let folder = std::env::temp_dir().join(name);
                let _ = fs::remove_dir_all(&folder);
                fs::create_dir_all(&folder).unwrap();
                let url = format!("sqlite://{}", folder.join("transcripts.db").display());
                Self { kind, url, folder: Some(folder) }
            }
            Kind::Postgres => {
                let server = tokio::task::spawn_blocking(Server::shared).await.unwrap();
                Self { kind, url: new_database(server).await, folder: None }
            }
        }
    }

    /// The folder of an SQLite database.
    pub fn folder(&self) -> &PathBuf {
        self.folder.as_ref().unwrap()
    }

    pub async fn open(&self) -> SqlStore {
        open(&self.url, Duration::from_secs(60)).await.unwrap()
    }

    /// A store whose calls give up soon.
    pub async fn open_impatient(&self, limit: Duration) -> SqlStore {
        open(&self.url, limit).await.unwrap()
    }

    /// A connection past the store.
    pub async fn connect(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        let parameters = if self.kind == Kind::Sqlite { "?mode=rwc" } else { "" };
        AnyConnection::connect(&format!("{}{parameters}", self.url)).await.unwrap()
    }

    /// Does something to the database past the store.
    pub async fn execute(&self, sql: &str) {
        let mut connection = self.connect().await;
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap();
        connection.close().await.unwrap();
    }

    pub async fn count(&self, table: &str) -> i64 {
        let mut connection = self.connect().await;
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")));
        count.fetch_one(&mut connection).await.unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

pub async fn open(url: &str, time_limit: Duration) -> Result<SqlStore, StoreError> {
    let url: DatabaseUrl = url.parse()?;
    let options = StoreOptions { time_limit, ..StoreOptions::default() };
    SqlStore::open(&url, options).await.map_err(discreet)
}

/// Runs a test in a place of its own.
pub fn with_place<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Place) -> F) {
    runtime().block_on(async { test(Place::new(kind).await).await });
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub fn session(uid: &str) -> SessionKey {
    SessionKey { namespace: "default".to_owned(), name: format!("session-{uid}"), uid: uid.to_owned() }
}

pub fn entry(journal: u32, seq: u64) -> Entry {
    let kind = [EntryKind::Accepted, EntryKind::Messages, EntryKind::Ended][(seq % 3) as usize];
    Entry {
        seq,
        turn: format!("turn-{}", seq / 3),
        kind,
        at: Timestamp::from_microsecond(1_700_000_000_000_000 + seq as i64).unwrap(),
        body: format!(r#"{{"text":"{SECRET}","journal":{journal},"seq":{seq}}}"#),
    }
}

/// All entries of a stretch.
pub fn batch(uid: &str, journal: u32, after: u64, through: u64) -> Batch {
    let entries = (after + 1..=through).map(|seq| entry(journal, seq)).collect();
    Batch { session: session(uid), journal, after, through, entries }
}

/// The whole transcript, page by page.
pub async fn transcript(store: &SqlStore, uid: &str) -> Vec<(Position, Entry)> {
    let mut whole: Vec<(Position, Entry)> = Vec::new();
    loop {
        let after = whole.last().map(|(position, _)| *position);
        let page = store.entries(uid, after, 500).await.unwrap();
        if page.is_empty() {
            return whole;
        }
        whole.extend(page);
    }
}

/// Makes sure that a transcript has these entries as [`entry`] makes them, each once and in order.
pub async fn assert_holds(store: &SqlStore, uid: &str, journal: u32, through: u64) {
    let expected: Vec<_> =
        (1..=through).map(|seq| (Position { journal, seq }, entry(journal, seq))).collect();
    let found = transcript(store, uid).await;
    let numbers: Vec<_> = found.iter().map(|(position, _)| position.to_string()).collect();
    assert!(found == expected, "{uid} holds {numbers:?}, and should {journal}/1 to {journal}/{through}");
    assert_eq!(store.stored_in(uid, journal).await.unwrap(), through);
}

/// The error, which must tell no secret.
pub fn discreet(error: StoreError) -> StoreError {
    let text = format!("{error} {error:?}");
    assert!(!text.contains(PASSWORD) && !text.contains(SECRET), "{text}");
    error
}

/// Makes a database that nobody else uses, and returns its URL.
async fn new_database(server: &Server) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("transcripts_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&server.url("postgres")).await.unwrap();
    let create = format!("CREATE DATABASE {name}");
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(create))).await.unwrap();
    connection.close().await.unwrap();
    server.url(&name)
}
