//! What is said over a terminal's WebSocket, by clients to the gateway and by the gateway to a runner alike.
//!
//! To the program: binary messages are keystrokes. A text message that begins with `{` is a [`Control`] message in JSON, any
//! other is keystrokes. From the program: binary messages with the terminal's bytes; first those that paint the screen.

use serde::Deserialize;
use serde_json::Value;

/// Takes back what a program may leave behind in a client's terminal: colours, a hidden cursor, what keys, mouse, focus and
/// pasting send, a scroll region (between a saved and a restored cursor, which it would move).
pub const RESET: &str = concat!(
    "\x1b[0m\x1b[?25h\x1b[?1l\x1b>\x1b[?2004l",
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b7\x1b[r\x1b8",
);

/// What a client wants of a terminal beside typing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Control {
    /// Its window has this size now. The last one to say so decides.
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// Nothing: it only keeps the connection from looking idle.
    Ping,
}

/// What a text message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Keystrokes.
    Keys,
    /// A control message.
    Control(Control),
    /// A control message that is not known here, or that is malformed; to be ignored.
    Unknown,
}

impl Control {
    /// Reads a text message. A `{` that was typed begins no JSON object with a `type`, and so is a keystroke.
    pub fn of(text: &str) -> Typed {
        if !text.starts_with('{') {
            return Typed::Keys;
        }
        match serde_json::from_str::<Value>(text) {
            Ok(message) if message.get("type").is_some_and(Value::is_string) => {
                serde_json::from_value(message).map_or(Typed::Unknown, Typed::Control)
            }
            _ => Typed::Keys,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_are_told_from_keystrokes() {
        for (text, typed) in [
            ("ls\r", Typed::Keys),
            ("{", Typed::Keys),
            ("{ echo; }", Typed::Keys),
            ("{\"a\":1}", Typed::Keys),
            ("{\"type\":\"ping\"}", Typed::Control(Control::Ping)),
            (
                "{\"type\":\"resize\",\"cols\":80,\"rows\":24,\"x\":1}",
                Typed::Control(Control::Resize { cols: 80, rows: 24 }),
            ),
            ("{\"type\":\"resize\",\"cols\":-1,\"rows\":24}", Typed::Unknown),
            ("{\"type\":\"resize\"}", Typed::Unknown),
            ("{\"type\":\"later\"}", Typed::Unknown),
        ] {
            assert_eq!(Control::of(text), typed, "{text}");
        }
    }
}
