//! Storage for unit tests: in memory, shared, and failing on demand.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::journal::{Journal, Span, Storage};
use super::record::Record;
use super::restore::Restored;

/// How the disk behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Disk {
    #[default]
    Good,
    /// Takes half of each write.
    Full,
    /// Full, and cannot even cut off what it took.
    Stuck,
    /// Takes writes and then cannot say whether they are there.
    FailingSync,
    /// Takes writes, and keeps the writer waiting until it is another; fails where that never comes.
    Slow,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    disk: Disk,
}

#[derive(Clone, Default)]
pub(crate) struct MemoryStorage(Arc<(Mutex<State>, Condvar)>);

impl MemoryStorage {
    pub(crate) fn journal(&self) -> Journal {
        Journal::on(Box::new(self.clone()), 0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }

    pub(crate) fn becomes(&self, disk: Disk) {
        self.state().disk = disk;
        self.0.1.notify_all();
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        let state = self.state();
        let text = std::str::from_utf8(&state.bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The journal and its past, as after a restart.
    pub(crate) fn reopened(&self) -> (Journal, Restored) {
        let mut restored = Restored::default();
        let mut offset = 0;
        for record in self.records() {
            let length = serde_json::to_string(&record).unwrap().len();
            restored.see(record, Span::at(offset, length));
            offset += length as u64 + 1;
        }
        (Journal::on(Box::new(self.clone()), offset), restored)
    }

    /// The records in short: kind and turn.
    pub(crate) fn story(&self) -> Vec<String> {
        let tell = |record: &Record| match record {
            Record::Activated(activation) => format!("activated {}", activation.request.session.uid),
            Record::Continued { messages, .. } => format!("continued {messages} messages"),
            Record::Accepted { turn, .. } => format!("accepted {turn}"),
            Record::Started { turn, .. } => format!("started {turn}"),
            Record::Messages { turn, messages, .. } => format!("{} messages {turn}", messages.len()),
            Record::Ended { turn, state, .. } => format!("{state:?} {turn}").to_lowercase(),
        };
        self.records().iter().map(tell).collect()
    }
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl Storage for MemoryStorage {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if matches!(state.disk, Disk::Full | Disk::Stuck) {
            state.bytes.extend_from_slice(&bytes[..bytes.len() / 2]);
            return Err(full());
        }
        state.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let is_slow = |state: &mut State| state.disk == Disk::Slow;
        let waited = self.0.1.wait_timeout_while(self.state(), Duration::from_secs(20), is_slow);
        match waited.unwrap().0.disk {
            Disk::FailingSync => Err(io::Error::other("bad sector")),
            Disk::Slow => Err(io::Error::other("nobody went on meanwhile")),
            _ => Ok(()),
        }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.disk == Disk::Stuck {
            return Err(full());
        }
        state.bytes.truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&state.bytes[start..start + buffer.len()]);
        Ok(())
    }
}
