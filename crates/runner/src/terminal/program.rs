//! A program under a pseudo-terminal: a session of its own, whose controlling terminal that is.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;

use pty_process::blocking as pty;
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::screen::Size;
use crate::process::{Process, Reaper};

/// A program that was started.
pub(super) struct Program {
    /// Its terminal.
    pub(super) master: Master,
    /// Itself, as leader of its session.
    pub(super) process: Process,
}

/// The other end of a program's terminal.
pub(super) struct Master(AsyncFd<OwnedFd>);

impl Program {
    /// Starts a command.
    ///
    /// # Errors
    /// There is no such program, or no terminal for it.
    pub(super) fn start(command: Command, size: Size, reaper: &Reaper) -> io::Result<Self> {
        let (master, slave) = pty::open().map_err(unwrapped)?;
        let master = OwnedFd::from(master);
        rustix::io::ioctl_fionbio(&master, true)?;
        let master = Master::register(master)?;
        master.set_size(size)?;
        let process = reaper.adopt(|| pty::Command::from(command).spawn(slave).map_err(unwrapped))?;
        Ok(Self { master, process })
    }
}

fn unwrapped(error: pty_process::Error) -> io::Error {
    match error {
        pty_process::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

impl Master {
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types that may lose their descriptor; an OwnedFd keeps it"
    )]
    fn register(fd: OwnedFd) -> io::Result<Self> {
        AsyncFd::new(fd).map(Self)
    }

    /// Reads what was printed. Nothing where all who could print have ended. It may be dropped while it waits.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut *buffer)?)).await;
        match read {
            // That is how Linux tells that nobody has the other end open.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
            read => read,
        }
    }

    /// Types the beginning of `keys`, and tells how much that was. It may be dropped while it waits.
    pub(super) async fn write(&self, keys: &[u8]) -> io::Result<usize> {
        self.0.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, keys)?)).await
    }

    /// Makes the terminal so large.
    pub(super) fn resize(&self, size: Size) {
        if let Err(error) = self.set_size(size) {
            tracing::warn!(%error, "the program's terminal cannot be given another size");
        }
    }

    fn set_size(&self, size: Size) -> io::Result<()> {
        let size = Winsize { ws_row: size.rows.get(), ws_col: size.cols.get(), ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.0.get_ref(), size)?)
    }
}
