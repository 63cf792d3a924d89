//! The terminal of a session: one program, its screen, and any number of viewers.
//!
//! The program never waits for a viewer. Its output goes into the screen and into a ring of the latest pieces; a viewer who
//! falls behind that ring gets the screen again and goes on from there, so none takes memory of its own. What viewers type is
//! written in the order it comes, and waits in their connections where the program does not read.
//!
//! The program stays when viewers leave. When it ends its screen says how, and a key starts it again.

mod program;
mod rest;
mod screen;
mod view;
mod viewer;
mod work;

use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::program::Program;
use self::screen::Screen;
use self::work::Work;
use crate::activity::Meter;
use crate::process::{Exit, Reaper};

pub use self::screen::Size;
pub use self::view::View;
pub use self::viewer::serve;

/// Viewers at once.
pub const VIEWERS: usize = 32;
/// How many pieces of output a viewer may be behind.
const PIECES: usize = 256;
/// The largest piece that is read at once.
const PIECE: usize = 16 << 10;
/// How many messages of viewers wait for a program that does not read.
const WAITING: usize = 4;
/// Answers to a program that asks and does not read are dropped beyond this.
const MOST_ANSWERS: usize = 64 << 10;
/// How long the last output of a program that has ended is waited for, where others still have its terminal open.
const LAST_OUTPUT: Duration = Duration::from_millis(200);
/// What the program gets to end by itself when the pod stops.
const HANG_UP_GRACE: Duration = Duration::from_millis(500);

/// Makes the command that is started, again and again.
pub type MakeCommand = Box<dyn Fn() -> Command + Send + Sync>;

/// See the module.
pub struct Terminal {
    stage: Mutex<Stage>,
    size: watch::Sender<Size>,
    keys: mpsc::Sender<Bytes>,
    /// Where the program's task takes them.
    typed: Mutex<Option<mpsc::Receiver<Bytes>>>,
    /// Why there is no terminal any more.
    closed: watch::Sender<Option<&'static str>>,
    task: Mutex<Option<JoinHandle<()>>>,
    room: Arc<Semaphore>,
    quiesced: AtomicBool,
    meter: Arc<Meter>,
    work: Mutex<Work>,
    reaper: Arc<Reaper>,
}

/// The screen and what was printed last: always of the same moment.
struct Stage {
    screen: Screen,
    output: broadcast::Sender<Piece>,
}

/// What viewers get.
#[derive(Clone, Debug)]
enum Piece {
    /// What was printed.
    Printed(Bytes),
    /// The screen that viewers see again is one that those who came late have never seen.
    Repaint,
}

impl Terminal {
    /// One without a program. `meter` hears of what is typed, and of what is printed while somebody looks or the program works on
    /// what was typed.
    pub fn new(reaper: Arc<Reaper>, meter: Arc<Meter>) -> Arc<Self> {
        let size = Size::default();
        let (keys, typed) = mpsc::channel(WAITING);
        let stage = Stage { screen: Screen::new(size), output: broadcast::Sender::new(PIECES) };
        Arc::new(Self {
            stage: Mutex::new(stage),
            size: watch::Sender::new(size),
            keys,
            typed: Mutex::new(Some(typed)),
            closed: watch::Sender::new(None),
            task: Mutex::default(),
            room: Arc::new(Semaphore::new(VIEWERS)),
            quiesced: AtomicBool::new(false),
            meter,
            work: Mutex::default(),
            reaper,
        })
    }

    /// Starts the program, which works on what is typed for no longer than `limit`. Does nothing where it was started already.
    ///
    /// # Errors
    /// It cannot be started. It may be tried again.
    pub fn start(self: &Arc<Self>, make: MakeCommand, limit: Duration) -> std::io::Result<()> {
        let mut typed = lock(&self.typed);
        if typed.is_none() {
            return Ok(());
        }
        lock(&self.work).is_limited_to(limit);
        let program = Program::start(make(), self.size(), &self.reaper)?;
        if let Some(typed) = typed.take() {
            *lock(&self.task) = Some(tokio::spawn(Arc::clone(self).run(make, program, typed)));
        }
        Ok(())
    }

    /// Ends the program and sends the viewers away.
    pub async fn close(&self, why: &'static str) {
        self.closed.send_replace(Some(why));
        let task = lock(&self.task).take();
        if let Some(task) = task {
            // It ends by itself, and does not panic.
            let _ = task.await;
        }
    }

    /// A viewer types. Waits where the program does not read.
    async fn press(&self, keys: Bytes) {
        self.meter.touch();
        lock(&self.work).is_given(Instant::now());
        // An error means that the program's task has ended, and the terminal with it.
        let _ = self.keys.send(keys).await;
    }

    /// Tells when the terminal is gone, and why.
    fn closed(&self) -> watch::Receiver<Option<&'static str>> {
        self.closed.subscribe()
    }

    fn size(&self) -> Size {
        *self.size.borrow()
    }

    fn resize(&self, size: Size) {
        let is_new = self.size.send_if_modified(|now| std::mem::replace(now, size) != size);
        if is_new {
            lock(&self.stage).screen.resize(size);
        }
    }

    async fn run(self: Arc<Self>, make: MakeCommand, program: Program, mut typed: mpsc::Receiver<Bytes>) {
        let mut closed = self.closed.subscribe();
        let mut program = Some(program);
        let life = async {
            loop {
                let Some(running) = &mut program else { return };
                let exit = self.attend(running, &mut typed).await;
                program = None;
                self.shows_the_end(&format!("the program has ended: {exit}; press a key to start it again"));
                while program.is_none() {
                    // The key is spent on this. The sender lives as long as the terminal.
                    let Some(_) = typed.recv().await else { return };
                    match Program::start(make(), self.size(), &self.reaper) {
                        Ok(started) => program = Some(started),
                        Err(error) => {
                            tracing::warn!(%error, "the terminal's program cannot be started again");
                            self.shows_the_end(&format!(
                                "the program cannot be started: {error}; press a key to try again"
                            ));
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = life => {}
            _ = closed.wait_for(Option::is_some) => {}
        }
        if let Some(program) = &mut program {
            program.process.hang_up_group();
            let ended = timeout(HANG_UP_GRACE, program.process.ended()).await;
            program.process.kill_group();
            tracing::info!(ended = ended.is_ok(), "the terminal's program was told to end");
        }
    }

    /// Passes on what is printed and typed until the program has ended.
    async fn attend(&self, program: &mut Program, typed: &mut mpsc::Receiver<Bytes>) -> Exit {
        let Program { master, process } = program;
        let mut buffer = vec![0; PIECE];
        let mut input = Vec::new();
        let mut sizes = self.size.subscribe();
        master.resize(self.size());
        // Whether anybody has the other end open; the program itself may have closed it.
        let mut is_open = true;
        loop {
            tokio::select! {
                // A viewer that says its size and then types is to be heard in this order; and a program that prints without
                // end keeps nothing else from being done.
                biased;
                _ = sizes.changed() => master.resize(self.size()),
                exit = process.ended() => {
                    let rest = async {
                        while let Ok(length @ 1..) = master.read(&mut buffer).await {
                            self.prints(&buffer[..length]);
                        }
                    };
                    // Where others still have the terminal open there may be no end of it.
                    let _ = timeout(LAST_OUTPUT, rest).await;
                    return exit;
                }
                written = master.write(&input), if !input.is_empty() => match written {
                    Ok(length) => drop(input.drain(..length)),
                    Err(error) => {
                        tracing::debug!(%error, "the program's terminal takes no keys");
                        input.clear();
                    }
                },
                Some(keys) = typed.recv(), if input.is_empty() => input.extend_from_slice(&keys),
                read = master.read(&mut buffer), if is_open => match read {
                    Ok(0) => is_open = false,
                    Ok(length) => {
                        let answers = self.prints(&buffer[..length]);
                        if input.len() < MOST_ANSWERS {
                            input.extend(answers);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the program's terminal cannot be read");
                        is_open = false;
                    }
                },
            }
        }
    }

    /// The program has printed something. Returns what it is to be answered.
    fn prints(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stage = lock(&self.stage);
        if stage.output.receiver_count() > 0 || lock(&self.work).goes_on(Instant::now()) {
            self.meter.touch();
        }
        let was_alternate = stage.screen.is_alternate();
        let fed = stage.screen.feed(bytes);
        stage.show(fed.output, was_alternate);
        fed.answers
    }

    fn shows_the_end(&self, text: &str) {
        tracing::info!(text, "the terminal tells its viewers");
        let mut stage = lock(&self.stage);
        let was_alternate = stage.screen.is_alternate();
        let fed = stage.screen.end(text);
        stage.show(fed.output, was_alternate);
    }
}

impl Stage {
    /// Gives viewers what is on the screen already. There may be none, which is no error.
    fn show(&self, output: Bytes, was_alternate: bool) {
        if !output.is_empty() {
            let _ = self.output.send(Piece::Printed(output));
        }
        if was_alternate && !self.screen.is_alternate() {
            let _ = self.output.send(Piece::Repaint);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
