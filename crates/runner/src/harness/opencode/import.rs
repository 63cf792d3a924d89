//! Puts an earlier pod's messages into a conversation, by opencode's own `import`.
//!
//! It is a second process beside the one that serves, on the same database; the serving one reads what it has written.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::harness::HarnessError;
use crate::harness::home::write_private;
use crate::process::{Exit, Reaper};

const ATTEMPT: &str = "take over the conversation of an earlier pod";
/// How long it may take; a start of opencode takes a second or two.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts `opencode import` as the serving process was started.
pub(super) struct Importer {
    program: OsString,
    env: Vec<(OsString, OsString)>,
    workspace: PathBuf,
    file: PathBuf,
    reaper: Arc<Reaper>,
}

impl Importer {
    /// As `serve`, which has an environment of its own; `file` is written for each import.
    pub(super) fn like(serve: &Command, workspace: &Path, file: PathBuf, reaper: Arc<Reaper>) -> Self {
        let set = |(name, value): (&std::ffi::OsStr, Option<&std::ffi::OsStr>)| {
            Some((name.to_owned(), value?.to_owned()))
        };
        let (program, env) = (serve.get_program().to_owned(), serve.get_envs().filter_map(set).collect());
        Self { program, env, workspace: workspace.to_owned(), file, reaper }
    }

    /// Imports `messages` into the conversation that `info` describes.
    ///
    /// # Errors
    /// Where opencode does not take them.
    pub(super) async fn import(&self, info: Value, messages: Vec<Box<RawValue>>) -> Result<(), HarnessError> {
        let session = info["id"].as_str().unwrap_or_default().to_owned();
        let messages =
            messages.iter().map(|message| moved(message, &session)).collect::<Option<Vec<Value>>>();
        let unlike = HarnessError::Unusable { attempt: ATTEMPT, what: "the messages are not of its form" };
        let document = serde_json::json!({"info": info, "messages": messages.ok_or(unlike)?});
        let prepare = |source| HarnessError::Prepare { what: "import of a conversation", source };
        write_private(&self.file, &document.to_string()).map_err(prepare)?;
        let ended = self.run().await;
        // It holds what was said; opencode has it now.
        fs::remove_file(&self.file).map_err(prepare)?;
        match ended.map_err(prepare)? {
            Some(Exit::Code(0)) => Ok(()),
            Some(exit) => {
                tracing::error!(%exit, "opencode does not take a conversation over");
                Err(HarnessError::Unusable {
                    attempt: ATTEMPT,
                    what: "opencode import failed; the pod's log says why",
                })
            }
            None => {
                Err(HarnessError::Unusable { attempt: ATTEMPT, what: "opencode import did not end in time" })
            }
        }
    }

    async fn run(&self) -> io::Result<Option<Exit>> {
        let mut command = Command::new(&self.program);
        command
            .arg("import")
            .arg(&self.file)
            .current_dir(&self.workspace)
            .env_clear()
            .envs(self.env.iter().cloned());
        let mut process = self.reaper.spawn(&mut command)?;
        process.log_output();
        let ended = timeout(LIMIT, process.ended()).await.ok();
        process.kill_group();
        Ok(ended)
    }
}

/// The message as one of this session.
fn moved(message: &RawValue, session: &str) -> Option<Value> {
    let mut message: Value = serde_json::from_str(message.get()).ok()?;
    message.get_mut("info")?.as_object_mut()?.insert("sessionID".to_owned(), session.into());
    for part in message.get_mut("parts")?.as_array_mut()? {
        part.as_object_mut()?.insert("sessionID".to_owned(), session.into());
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use serde_json::value::to_raw_value;

    #[test]
    fn a_message_is_moved_with_its_parts() {
        let part = json!({"id": "p", "sessionID": "old", "type": "text", "text": "hi"});
        let message =
            to_raw_value(&json!({"info": {"id": "m", "sessionID": "old"}, "parts": [part]})).unwrap();
        let moved = moved(&message, "new").unwrap();
        assert_eq!(
            (&moved["info"]["sessionID"], &moved["parts"][0]["sessionID"]),
            (&json!("new"), &json!("new"))
        );
        assert_eq!((&moved["info"]["id"], &moved["parts"][0]["text"]), (&json!("m"), &json!("hi")));
        for unlike in [
            json!(1),
            json!({"info": {}}),
            json!({"info": 1, "parts": []}),
            json!({"info": {}, "parts": [1]}),
        ] {
            assert!(super::moved(&to_raw_value(&unlike).unwrap(), "new").is_none(), "{unlike}");
        }
    }
}
