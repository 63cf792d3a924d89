//! A PostgreSQL server of a test's own: its data in a folder that goes with it, its socket there too.
//!
//! A shell stands between: it stops the server and removes the folder as soon as its input ends, which happens when
//! the tests end, however they end. Where something does not work there is nothing to test with: it panics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "for tests only, see above")]

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::{fs, thread};

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// Its one user.
pub const USER: &str = "paddock";
/// That one's password. Must not be in any error.
pub const PASSWORD: &str = "hunter2";

/// $1 is the folder, the rest is the server. It writes to the shell's standard error.
const KEEPER: &str = r#"
folder=$1
shift
"$@" >&2 &
server=$!
trap '' INT TERM HUP
echo "$server"
cat >/dev/null
# Nobody is left to hear a complaint, and one would end this shell.
exec >/dev/null 2>&1
kill -QUIT "$server"
# Also where a test has stopped it.
kill -CONT "$server" $(cat "/proc/$server/task/$server/children")
wait "$server"
rm -rf "$folder"
"#;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A running server. It stops when this is dropped.
pub struct Server {
    folder: PathBuf,
    postmaster: Pid,
    keeper: Child,
    /// The keeper's input, open as long as the server is wanted.
    wanted: Option<ChildStdin>,
    /// Where it is reached from elsewhere.
    address: Option<SocketAddr>,
}

impl Server {
    /// The one that most tests of a process share. It stops when the tests end.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts one without a port.
    pub fn start() -> Self {
        Self::launch(None)
    }

    /// Starts one that others than this machine's programs can reach at `ip`, with the password.
    pub fn listening(ip: IpAddr) -> Self {
        // Free a moment ago; if somebody else takes it meanwhile, the server says so.
        let free = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
        Self::launch(Some(free))
    }

    fn launch(address: Option<SocketAddr>) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("paddock-postgres-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let password_file = folder.join("password");
        fs::write(&password_file, PASSWORD).unwrap();
        if geteuid().is_root() {
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
            chown(&password_file, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let programs = programs();
        let data = folder.join("data");
        let mut initdb = unprivileged(&programs.join("initdb"));
        initdb.args([
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--username",
            USER,
        ]);
        let made = initdb.arg("--pwfile").arg(&password_file).arg("--pgdata").arg(&data).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));

        let mut keeper = unprivileged(Path::new("/bin/sh"));
        keeper.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(programs.join("postgres"));
        keeper.arg("-D").arg(&data).arg("-k").arg(&folder);
        for setting in ["max_connections=200", "shared_buffers=32MB", "lc_messages=C"] {
            keeper.args(["-c", setting]);
        }
        match address {
            None => keeper.args(["-c", "listen_addresses="]),
            Some(address) => {
                let rules = data.join("pg_hba.conf");
                let before = fs::read_to_string(&rules).unwrap();
                fs::write(&rules, format!("{before}host all all all scram-sha-256\n")).unwrap();
                keeper.args(["-c", &format!("listen_addresses={}", address.ip())]);
                keeper.args(["-c", &format!("port={}", address.port())])
            }
        };
        // A group of its own: an interrupt from the keyboard is for the tests.
        keeper.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = keeper.spawn().unwrap();
        let mut first_line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut first_line).unwrap();
        wait_until_ready(BufReader::new(keeper.stderr.take().unwrap()));
        Self {
            folder,
            postmaster: Pid::from_raw(first_line.trim().parse().unwrap()).unwrap(),
            wanted: keeper.stdin.take(),
            keeper,
            address,
        }
    }

    /// The URL of a database of this server. There is one named `postgres` from the beginning.
    pub fn url(&self, database: &str) -> String {
        match self.address {
            None => {
                format!("postgres://{USER}:{PASSWORD}@localhost/{database}?host={}", self.folder.display())
            }
            Some(address) => format!("postgres://{USER}:{PASSWORD}@{address}/{database}"),
        }
    }

    /// Runs statements as its user, each by itself, and waits for their end. Returns what the server says to those that fail.
    pub fn sql(&self, database: &str, statements: &[&str]) -> Result<(), String> {
        let mut psql = unprivileged(&programs().join("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]).stdout(Stdio::null());
        for statement in statements {
            psql.args(["--command", statement]);
        }
        let ended = psql.arg(self.url(database)).output().unwrap();
        match ended.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&ended.stderr).into_owned()),
        }
    }

    /// A disk of its own with room for so many bytes, as the tablespace of this name. Needs root. It is gone when the result is
    /// dropped, so nothing that is wanted may be on it then.
    pub fn small_disk(&self, tablespace: &str, bytes: usize) -> SmallDisk {
        let path = self.folder.join(tablespace);
        fs::create_dir(&path).unwrap();
        let size = format!("size={bytes},uid={NOBODY},gid={NOBODY},mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status().unwrap();
        assert!(mounted.success(), "a disk of its own needs root");
        let disk = SmallDisk { path };
        let create = format!("CREATE TABLESPACE {tablespace} LOCATION '{}'", disk.path.display());
        self.sql("postgres", &[&create]).unwrap();
        disk
    }

    /// Stops all its processes where they are, until the result is dropped.
    pub fn freeze(&self) -> Frozen {
        let mut frozen = Frozen(vec![self.postmaster]);
        // First, so that it makes no more.
        kill_process(self.postmaster, Signal::STOP).unwrap();
        let postmaster = self.postmaster.as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap();
        for child in children.split_whitespace() {
            let child = Pid::from_raw(child.parse().unwrap()).unwrap();
            kill_process(child, Signal::STOP).unwrap();
            frozen.0.push(child);
        }
        frozen
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.wanted.take());
        let _ = self.keeper.wait();
    }
}

/// See [`Server::small_disk`].
pub struct SmallDisk {
    path: PathBuf,
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still have files of it open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

/// Processes that were stopped. They go on when this is dropped.
pub struct Frozen(Vec<Pid>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

/// Debian's user and group of that name. PostgreSQL does not run as root.
const NOBODY: u32 = 65534;

fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").env("LC_ALL", "C");
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Where the newest version's programs are.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|version| version.path()).max_by_key(|path| {
        path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()).unwrap_or_default()
    });
    newest
        .expect("there is no /usr/lib/postgresql: run hack/setup.sh, or install the package postgresql")
        .join("bin")
}

/// Reads what the server has to say, to the end; returns as soon as it says that it is ready.
fn wait_until_ready(output: BufReader<impl std::io::Read + Send + 'static>) {
    let (say, said) = mpsc::channel();
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let _ = say.send(line);
        }
    });
    let mut lines = Vec::new();
    for line in &said {
        if line.contains("ready to accept connections") {
            return;
        }
        lines.push(line);
    }
    panic!("the server did not start: {}", lines.join("\n"));
}
