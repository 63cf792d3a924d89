//! What the gateway logs. All tests of this binary log into one place, so a test looks for what only it can have caused.

use std::io::{self, Write};
use std::sync::LazyLock;

use parking_lot::Mutex;
use serde_json::Value;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Keeps all that is logged from now on, at every level, as the gateway writes it with `--log-format json`.
pub fn keep() {
    static ONCE: LazyLock<()> = LazyLock::new(|| {
        tracing_subscriber::fmt().json().with_max_level(LevelFilter::TRACE).with_writer(Kept).init();
    });
    LazyLock::force(&ONCE);
}

/// All of it.
pub fn all() -> String {
    String::from_utf8(LINES.lock().clone()).unwrap()
}

/// The fields of the audit lines of a request.
pub fn audit(request_id: &str) -> Vec<Value> {
    let lines = all();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["target"] == "audit" && line["fields"]["request_id"] == request_id)
        .map(|line| line["fields"].clone())
        .collect()
}

struct Kept;

impl<'a> MakeWriter<'a> for Kept {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
