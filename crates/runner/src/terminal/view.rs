//! What one viewer sees: the screen as it is, then what is printed, and the screen again where that was too fast.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use paddock_runnerapi::{ErrorBody, ErrorCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Piece, Terminal, VIEWERS, lock};

/// See the module.
pub struct View {
    terminal: Arc<Terminal>,
    output: Receiver<Piece>,
    /// The screen, where it has to be shown next.
    picture: Option<Bytes>,
    /// Whether the viewer has seen the screen that the alternate one hides.
    knows_main: bool,
    _room: OwnedSemaphorePermit,
}

impl Terminal {
    /// A new viewer's.
    ///
    /// # Errors
    /// `too_many_streams`, `quiesced`, `shutting_down`.
    pub fn view(self: &Arc<Self>) -> Result<View, ErrorBody> {
        let refuse = |code, error: &str| Err(ErrorBody { code, error: format!("attaching: {error}") });
        if let Some(why) = *self.closed.borrow() {
            return refuse(ErrorCode::ShuttingDown, why);
        }
        if self.quiesced.load(Ordering::SeqCst) {
            return refuse(ErrorCode::Quiesced, "the session is being suspended; attach to its next pod");
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return refuse(ErrorCode::TooManyStreams, &format!("{VIEWERS} viewers are attached already"));
        };
        let output = lock(&self.stage).output.subscribe();
        let terminal = Arc::clone(self);
        let mut view = View { terminal, output, picture: None, knows_main: false, _room: room };
        view.look();
        Ok(view)
    }
}

impl View {
    /// Whose it is.
    pub fn terminal(&self) -> Arc<Terminal> {
        Arc::clone(&self.terminal)
    }

    /// What to show next. It may be dropped while it waits.
    pub async fn next(&mut self) -> Bytes {
        loop {
            if let Some(picture) = self.picture.take() {
                return picture;
            }
            match self.output.recv().await {
                Ok(Piece::Printed(bytes)) => return bytes,
                Ok(Piece::Repaint) if self.knows_main => {}
                Ok(Piece::Repaint) | Err(RecvError::Lagged(_)) => self.look(),
                // The sender lives as long as the terminal.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Takes the screen as it is, and what is printed from then on.
    fn look(&mut self) {
        let stage = lock(&self.terminal.stage);
        self.output = stage.output.subscribe();
        self.knows_main = !stage.screen.is_alternate();
        self.picture = Some(stage.screen.picture());
    }
}
