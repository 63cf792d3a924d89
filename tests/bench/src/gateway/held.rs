//! Connections on which nothing happens, for a long time: what each costs in memory.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::proxies::{KEY, Proxy};
use crate::Result;
use paddock_runnerapi::PORT;

/// Open files of a proxy beside its connections.
const OTHERS: u64 = 500;
/// How long connections that were given up may linger at the upstream: longer than its signs of life are apart.
const RELEASE: Duration = Duration::from_secs(40);
/// How long it may take until all are held.
const PATIENCE: Duration = Duration::from_secs(120);

/// Raises the limit of open files for this program and those it starts as far as it goes, and makes sure that so many
/// connections can be held: a proxy has two for each.
pub fn allow_many_files(held: usize) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let needed = 2 * held as u64 + OTHERS;
    let most = limit.maximum.unwrap_or(needed);
    // Beyond the hard limit only some may go.
    let wanted = Rlimit { current: Some(needed), maximum: Some(most.max(needed)) };
    if most < needed && setrlimit(Resource::Nofile, wanted).is_err() {
        return Err(format!(
            "{held} connections at a proxy need {needed} open files and {most} are allowed; raise the hard limit (ulimit -Hn), \
             or hold fewer (--held)"
        )
        .into());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(most.max(needed)), maximum: Some(most.max(needed)) })
        .map_err(|error| format!("cannot open {needed} files at a time: {error}").into())
}

/// What a connection is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The reply to a turn, which does not come.
    Turn,
    /// Events of a session, of which there are none.
    Stream,
    /// A terminal, on which nothing is typed or printed.
    Terminal,
}

impl Hold {
    /// The request that asks for it.
    fn request(self, proxy: &Proxy, n: usize) -> Vec<u8> {
        let head = |method: &str, path: &str| {
            format!("{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {KEY}\r\n")
        };
        match self {
            Self::Turn => {
                let length = proxy.wait.len();
                let head = head("POST", &proxy.message_path(n));
                let text =
                    format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n");
                [text.as_bytes(), &proxy.wait].concat()
            }
            Self::Stream => format!("{}\r\n", head("GET", &proxy.events_path(n))).into_bytes(),
            Self::Terminal => {
                // The key of RFC 6455.
                let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                               sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
                format!("{}{upgrade}", head("GET", &proxy.terminal_path(n))).into_bytes()
            }
        }
    }
}

/// Memory that the proxy takes for each of `count` connections that are held, in KiB.
pub async fn kib_each(proxy: &Proxy, hold: Hold, count: usize) -> Result<f64> {
    let process = proxy.process.as_ref().ok_or("there is no program")?;
    let others = left_of_before().await?;
    let before = process.rss_of_all_mib()?;
    let mut held = Vec::with_capacity(count);
    for n in 0..count {
        let mut connection = TcpStream::connect(proxy.address).await?;
        connection.write_all(&hold.request(proxy, n)).await?;
        held.push(connection);
    }
    until_held(others + count).await?;
    let after = process.rss_of_all_mib()?;
    drop(held);
    Ok((after - before) * 1024.0 / count as f64)
}

/// How many are still held once those of before had time to be gone: a proxy may notice a client's end only when it writes.
async fn left_of_before() -> Result<usize> {
    let begun = Instant::now();
    loop {
        let left = held_now().await?;
        if left == 0 || begun.elapsed() > RELEASE {
            return Ok(left);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn until_held(count: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let held = held_now().await?;
        if held >= count {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{held} of {count} connections are held").into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn held_now() -> Result<usize> {
    let mut upstream = TcpStream::connect(("127.0.0.1", PORT)).await?;
    upstream.write_all(b"GET /held HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    upstream.read_to_string(&mut answer).await?;
    let body = answer.rsplit_once("\r\n\r\n").ok_or("a strange answer")?.1;
    Ok(body.trim().parse()?)
}
