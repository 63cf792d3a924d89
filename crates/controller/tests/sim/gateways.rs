//! Gateways: they save the transcripts that are asked for, and say so. The store behind them may take nothing for a while.

use paddock_api::labels;
use paddock_runnerapi::Saved;
use paddock_testkit::apiserver::{ApiServer, Call, Verb};
use serde_json::json;

use crate::dice::Dice;
use crate::objects::{NS, name, phase, text};

#[derive(Debug)]
pub struct Gateways {
    dice: Dice,
    /// Their store takes what they save.
    pub can_save: bool,
}

impl Gateways {
    pub fn new(dice: Dice) -> Self {
        Self { dice, can_save: true }
    }

    /// Saves some of what is asked for.
    pub fn live(&mut self, server: &ApiServer) {
        for session in server.objects("sessions") {
            let Ok(through) = text(&session, "/status/transcriptWanted").parse() else { continue };
            if phase(&session) != "Ready" || !self.can_save || !self.dice.one_in(3) {
                continue;
            }
            let saved = Saved { pod_uid: text(&session, "/status/pod/uid").to_owned(), through }.to_string();
            if session["metadata"]["annotations"][labels::TRANSCRIPT_SAVED] != saved {
                let call = Call::to(server, Verb::Patch, "sessions", NS, name(&session)).unwrap();
                let patch = json!({"metadata": {"annotations": {labels::TRANSCRIPT_SAVED: saved}}});
                // It may be gone by now.
                let _ = server.request("gateway", &call, patch);
            }
        }
    }
}
