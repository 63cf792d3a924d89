//! The journal: one JSON object a line, appended and synced before anyone is told.
//!
//! A line is either whole or absent: a failed write is cut off again, and what a crash left half-written at
//! the end is cut off at the next start. After a failed sync nothing is known about the file any more, so
//! the journal refuses all further lines until the container restarts.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use paddock_runnerapi::{ErrorBody, ErrorCode};

use tokio::sync::Mutex;

use super::lock::StateLock;
use super::record::Record;

const FILE_NAME: &str = "journal.jsonl";

/// Where a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    offset: u64,
    length: usize,
}

#[cfg(test)]
impl Span {
    pub(crate) fn at(offset: u64, length: usize) -> Self {
        Self { offset, length }
    }
}

/// The journal cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be opened.
    #[error("opening the journal {path}: {source}; is the volume mounted and writable for this user?")]
    Open {
        /// Its path.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// Nobody can say whether another runner uses it.
    #[error("locking {path}: {source}; the volume's file system must support file locks (flock)")]
    Lock {
        /// The lock's path.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// A line before the last is not ours.
    #[error(
        "reading the journal {path}: the line at byte {offset} is damaged; the session cannot go on in this pod"
    )]
    Damaged {
        /// Its path.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// A line could not be written; it is not there.
    #[error("writing to the journal: {0}; is the disk full?")]
    Write(io::Error),
    /// A sync failed earlier.
    #[error("writing to the journal: an earlier write may be lost; the container must restart")]
    Broken,
    /// It holds as many turns as the runner can remember.
    #[error(
        "writing to the journal: it holds {0} turns, as many as a session may have; begin another session"
    )]
    Full(usize),
    /// A line could not be read again.
    #[error("reading a reply from the journal: {0}")]
    Read(io::Error),
    /// No line ends there.
    #[error(
        "reading the journal from byte {0} on: no line ends there; take a place that an earlier answer named, or 0"
    )]
    NoSuchPlace(u64),
}

impl From<JournalError> for ErrorBody {
    fn from(error: JournalError) -> Self {
        let code = match error {
            JournalError::NoSuchPlace(_) => ErrorCode::BadRequest,
            _ => ErrorCode::JournalFailed,
        };
        Self { code, error: error.to_string() }
    }
}

/// The file below the journal, so that tests can make it fail.
pub trait Storage: Send {
    /// Writes at the end.
    ///
    /// # Errors
    /// Where not all was written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    ///
    /// # Errors
    /// Where it may not be.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts off everything from here.
    ///
    /// # Errors
    /// Where it is still there.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Reads bytes that were written.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A real file, in a folder that is ours for as long as this is.
pub struct FileStorage {
    file: File,
    _lock: StateLock,
}

impl Storage for FileStorage {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

struct Inner {
    storage: Box<dyn Storage>,
    length: Arc<AtomicU64>,
    broken: Arc<AtomicBool>,
}

/// The journal of one session.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Mutex<Inner>>,
    /// Apart from the rest, because a probe must not wait for the disk.
    broken: Arc<AtomicBool>,
    /// How many bytes are whole, durable lines.
    length: Arc<AtomicU64>,
}

impl Journal {
    /// Opens the journal in a locked folder and shows every whole line to `see`.
    ///
    /// # Errors
    /// [`JournalError::Open`], [`JournalError::Damaged`].
    pub fn open(lock: StateLock, mut see: impl FnMut(Record, Span)) -> Result<Self, JournalError> {
        let path = lock.dir().join(FILE_NAME);
        let failed = |source| JournalError::Open { path: path.clone(), source };
        // Other users have no business with what was said.
        let options = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        let file = options.map_err(failed)?;
        let length = replay(&file, &path, &mut see)?;
        file.set_len(length).and_then(|()| file.sync_all()).map_err(failed)?;
        // The file's name must survive too.
        File::open(lock.dir()).and_then(|dir| dir.sync_all()).map_err(failed)?;
        Ok(Self::on(Box::new(FileStorage { file, _lock: lock }), length))
    }

    /// A journal on any storage that holds `length` bytes of whole lines.
    pub fn on(storage: Box<dyn Storage>, length: u64) -> Self {
        let broken = Arc::new(AtomicBool::new(false));
        let length = Arc::new(AtomicU64::new(length));
        let inner = Inner { storage, length: Arc::clone(&length), broken: Arc::clone(&broken) };
        Self { inner: Arc::new(Mutex::new(inner)), broken, length }
    }

    /// Appends lines, all or none, and returns where they are once they are durable.
    ///
    /// # Errors
    /// [`JournalError::Write`], [`JournalError::Broken`]: none of the lines is there.
    pub async fn append(&self, records: Vec<Record>) -> Result<Vec<Span>, JournalError> {
        self.blocking(move |inner| inner.append(&records)).await
    }

    /// Makes sure that all that was appended is durable.
    ///
    /// # Errors
    /// [`JournalError::Write`], [`JournalError::Broken`]: it may not be.
    pub async fn sync(&self) -> Result<(), JournalError> {
        // Every append ends with a sync of the whole file, that of nothing too.
        self.append(Vec::new()).await.map(drop)
    }

    /// Reads one line again.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub async fn read(&self, span: Span) -> Result<Record, JournalError> {
        self.blocking(move |inner| {
            let line = inner.read(span.offset, span.length)?;
            serde_json::from_slice(&line).map_err(|error| JournalError::Read(error.into()))
        })
        .await
    }

    /// How long it is, in bytes: where its last durable line ends.
    pub fn length(&self) -> u64 {
        self.length.load(Ordering::SeqCst)
    }

    /// The lines after the byte `after`, with where each ends: about `most` bytes, and at least one line if there is one.
    ///
    /// # Errors
    /// [`JournalError::NoSuchPlace`], [`JournalError::Read`].
    pub async fn lines(&self, after: u64, most: usize) -> Result<Vec<(u64, Record)>, JournalError> {
        self.blocking(move |inner| inner.lines(after, most)).await
    }

    /// Whether lines can still be written.
    pub fn is_usable(&self) -> bool {
        !self.broken.load(Ordering::SeqCst)
    }

    /// A disk may take its time; requests and probes must not wait for it. Whoever must wait for the journal
    /// does so before it takes one of the few threads for blocking work: names are looked up there too.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let mut inner = Arc::clone(&self.inner).lock_owned().await;
        tokio::task::spawn_blocking(move || work(&mut inner)).await.unwrap_or_else(|_| {
            // It broke off somewhere.
            self.broken.store(true, Ordering::SeqCst);
            Err(JournalError::Broken)
        })
    }
}

impl Inner {
    fn append(&mut self, records: &[Record]) -> Result<Vec<Span>, JournalError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(JournalError::Broken);
        }
        let length = self.length.load(Ordering::SeqCst);
        let mut bytes = Vec::new();
        let mut spans = Vec::with_capacity(records.len());
        for record in records {
            let start = bytes.len();
            serde_json::to_writer(&mut bytes, record).map_err(|error| JournalError::Write(error.into()))?;
            spans.push(Span { offset: length + start as u64, length: bytes.len() - start });
            bytes.push(b'\n');
        }
        if let Err(error) = self.storage.append(&bytes) {
            // Half a line in the middle would make all after it unreadable.
            if self.storage.truncate(length).is_err() {
                self.broken.store(true, Ordering::SeqCst);
            }
            return Err(JournalError::Write(error));
        }
        if let Err(error) = self.storage.sync() {
            self.broken.store(true, Ordering::SeqCst);
            return Err(JournalError::Write(error));
        }
        self.length.store(length + bytes.len() as u64, Ordering::SeqCst);
        Ok(spans)
    }

    fn lines(&self, after: u64, most: usize) -> Result<Vec<(u64, Record)>, JournalError> {
        let length = self.length.load(Ordering::SeqCst);
        let is_a_place = match after {
            0 => true,
            after if after > length => false,
            after => self.read(after - 1, 1)? == b"\n",
        };
        if !is_a_place {
            return Err(JournalError::NoSuchPlace(after));
        }
        let left = usize::try_from(length - after).unwrap_or(usize::MAX);
        let mut bytes = self.read(after, left.min(most))?;
        while !bytes.contains(&b'\n') && bytes.len() < left {
            let at = after + bytes.len() as u64;
            let more = self.read(at, (left - bytes.len()).min(most.max(1)))?;
            bytes.extend(more);
        }
        let mut lines = Vec::new();
        let mut offset = after;
        // What follows the last line end is the beginning of a line that is for the next page.
        for line in bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            offset += line.len() as u64;
            let record = serde_json::from_slice(line).map_err(|error| JournalError::Read(error.into()))?;
            lines.push((offset, record));
        }
        Ok(lines)
    }

    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, JournalError> {
        let mut bytes = vec![0; length];
        self.storage.read(offset, &mut bytes).map_err(JournalError::Read)?;
        Ok(bytes)
    }
}

/// Reads all lines and returns how many bytes are whole lines.
fn replay(file: &File, path: &Path, see: &mut impl FnMut(Record, Span)) -> Result<u64, JournalError> {
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut offset = 0;
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        let read = read.map_err(|source| JournalError::Open { path: path.to_owned(), source })?;
        let whole = line.strip_suffix(b"\n");
        let record = whole.and_then(|line| serde_json::from_slice::<Record>(line).ok());
        match (record, whole) {
            (Some(record), Some(whole)) => see(record, Span { offset, length: whole.len() }),
            // The end, or what a crash left of the last line.
            _ if is_last(&mut reader) => return Ok(offset),
            _ => return Err(JournalError::Damaged { path: path.to_owned(), offset }),
        }
        offset += read as u64;
    }
}

fn is_last(reader: &mut impl BufRead) -> bool {
    reader.fill_buf().is_ok_and(<[u8]>::is_empty)
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
