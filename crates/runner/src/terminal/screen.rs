//! What the program has painted, so that a viewer who comes late sees it too.
//!
//! Viewers get the program's output as it is: titles, links and what their own terminal scrolls back to are in it. Two things
//! make that safe. It is cut only where a sequence has ended, so that the picture of the screen and the output after it can be
//! joined anywhere. And what a program asks of its terminal (where the cursor is, for example) is answered here and not passed
//! on: there may be no viewer to answer it, or several. Nor is how keys are to be reported.

use std::num::NonZeroU16;

use bytes::Bytes;
use paddock_runnerapi::terminal::RESET;
use vte::{Params, Perform};

/// The longest sequence that is waited for to end, in bytes. A longer one is given up.
const LONGEST_SEQUENCE: usize = 256 << 10;
const ENTER_ALTERNATE: &str = "\x1b[?1049h";
const LEAVE_ALTERNATE: &str = "\x1b[?1049l";
const CANCEL: u8 = 0x18;
const ESCAPE: u8 = 0x1b;

/// How large a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub cols: NonZeroU16,
    /// Rows.
    pub rows: NonZeroU16,
}

impl Size {
    /// The most columns and rows there may be: each cell takes memory here.
    const MOST: (u16, u16) = (500, 200);

    /// As large as that, or as near to it as may be. Nothing for a terminal without room.
    pub fn of(cols: u16, rows: u16) -> Option<Self> {
        let cols = NonZeroU16::new(cols.min(Self::MOST.0))?;
        Some(Self { cols, rows: NonZeroU16::new(rows.min(Self::MOST.1))? })
    }
}

impl Default for Size {
    fn default() -> Self {
        Self { cols: vt100::Parser::<()>::DEFAULT_COLS, rows: vt100::Parser::<()>::DEFAULT_ROWS }
    }
}

/// What came of a piece of output.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// What viewers get.
    pub output: Bytes,
    /// What the program gets, to what it has asked.
    pub answers: Vec<u8>,
}

/// See the module.
pub struct Screen {
    emulator: vt100::Parser,
    cutter: vte::Parser,
    cut: Cut,
    /// The beginning of a sequence that has not ended.
    held: Vec<u8>,
}

impl Screen {
    /// An empty one.
    pub fn new(size: Size) -> Self {
        Self {
            emulator: vt100::Parser::new(size.rows, size.cols, 0),
            cutter: vte::Parser::new(),
            cut: Cut::default(),
            held: Vec::new(),
        }
    }

    /// Takes what the program has printed.
    pub fn feed(&mut self, bytes: &[u8]) -> Fed {
        let mut output = Vec::with_capacity(self.held.len() + bytes.len());
        let mut shown = 0;
        let mut answers = Vec::new();
        for &byte in bytes {
            self.held.push(byte);
            self.cutter.advance(&mut self.cut, &[byte]);
            // An escape ends a string, and begins the two bytes that are its proper end.
            if self.cut.ended && byte != ESCAPE {
                self.cut.ended = false;
                match self.cut.query.take() {
                    None => output.append(&mut self.held),
                    Some(query) => {
                        self.held.clear();
                        self.emulator.process(&output[shown..]);
                        shown = output.len();
                        answers.extend(query.answer(self.emulator.screen()));
                    }
                }
            } else if self.held.len() > LONGEST_SEQUENCE {
                self.cutter = vte::Parser::new();
                self.cut = Cut::default();
                self.held.clear();
                output.push(CANCEL);
            }
        }
        self.emulator.process(&output[shown..]);
        Fed { output: output.into(), answers }
    }

    /// The program has ended, in whatever state: makes the terminal one that a person can read, and says `text`.
    pub fn end(&mut self, text: &str) -> Fed {
        self.cutter = vte::Parser::new();
        self.cut = Cut::default();
        self.held.clear();
        let leave = if self.emulator.screen().alternate_screen() { LEAVE_ALTERNATE } else { "" };
        self.feed(format!("{leave}{RESET}\r\n[{text}]\r\n").as_bytes())
    }

    /// What paints this screen on any terminal, whatever that shows.
    pub fn picture(&self) -> Bytes {
        let screen = self.emulator.screen();
        let buffer = if screen.alternate_screen() { ENTER_ALTERNATE } else { LEAVE_ALTERNATE };
        format!("{buffer}{RESET}{}", screen.state_formatted()).into()
    }

    /// Whether the program uses the alternate screen. A viewer's own picture of the other one may be none.
    pub fn is_alternate(&self) -> bool {
        self.emulator.screen().alternate_screen()
    }

    /// Its viewer has another size now.
    pub fn resize(&mut self, size: Size) {
        self.emulator.set_size(size.rows, size.cols);
    }

    /// The text on it.
    #[cfg(test)]
    pub fn text(&self) -> String {
        self.emulator.screen().contents()
    }
}

/// What a program asks of its terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Query {
    /// Whether all is well.
    Status,
    /// Where the cursor is.
    Cursor,
    /// What the terminal can do.
    Attributes,
    /// Which terminal it is.
    SecondaryAttributes,
    /// Whether a private mode is set.
    Mode(u16),
    /// How large the terminal is, in cells.
    Size,
    /// Something that has no answer here. Programs take that for "no".
    Other,
    /// Nothing, but that keys be reported in another way. Who comes later would not know of it, and the key by which a client
    /// leaves may be no such key then.
    Keys,
}

impl Query {
    fn answer(self, screen: &vt100::Screen) -> Vec<u8> {
        match self {
            Self::Status => "\x1b[0n".into(),
            Self::Cursor => {
                let (row, col) = screen.cursor_position();
                format!("\x1b[{};{}R", row + 1, col + 1).into()
            }
            // A VT220 with colours.
            Self::Attributes => "\x1b[?62;22c".into(),
            Self::SecondaryAttributes => "\x1b[>1;0;0c".into(),
            // Not known.
            Self::Mode(mode) => format!("\x1b[?{mode};0$y").into(),
            Self::Size => {
                let (rows, cols) = screen.size();
                format!("\x1b[8;{rows};{cols}t").into()
            }
            Self::Other | Self::Keys => Vec::new(),
        }
    }
}

/// Sees where output may be cut.
#[derive(Debug, Default)]
struct Cut {
    ended: bool,
    query: Option<Query>,
}

impl Perform for Cut {
    fn print(&mut self, _: char) {
        self.ended = true;
    }

    fn execute(&mut self, _: u8) {
        self.ended = true;
    }

    fn hook(&mut self, _: &Params, intermediates: &[u8], _: bool, action: char) {
        // A question about a setting or a capability.
        if action == 'q' && matches!(intermediates, [b'$' | b'+']) {
            self.query = Some(Query::Other);
        }
    }

    fn unhook(&mut self) {
        self.ended = true;
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        self.ended = true;
        if params.last() == Some(&&b"?"[..]) {
            self.query = Some(Query::Other);
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _: bool, action: char) {
        self.ended = true;
        let first = params.iter().next().and_then(|group| group.first().copied()).unwrap_or_default();
        self.query = match (intermediates, action, first) {
            ([], 'n', 5) => Some(Query::Status),
            ([], 'n', 6) => Some(Query::Cursor),
            ([] | [b'?'], 'n', _) => Some(Query::Other),
            ([], 'c', 0) => Some(Query::Attributes),
            ([b'>'], 'c', _) => Some(Query::SecondaryAttributes),
            ([b'='], 'c', _) | ([b'>'], 'q', _) | ([b'?'], 'u', _) => Some(Query::Other),
            ([b'>' | b'<' | b'='], 'u', _) | ([b'>'], 'm' | 'n', 4) => Some(Query::Keys),
            ([b'?', b'$'], 'p', mode) => Some(Query::Mode(mode)),
            ([b'$'], 'p', _) => Some(Query::Other),
            ([], 't', 18) => Some(Query::Size),
            ([], 't', 11..=21) => Some(Query::Other),
            _ => None,
        };
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, _: u8) {
        self.ended = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(screen: &mut Screen, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let fed = screen.feed(bytes);
        (fed.output.to_vec(), fed.answers)
    }

    fn screen() -> Screen {
        Screen::new(Size::of(20, 4).unwrap())
    }

    fn emulator() -> vt100::Parser {
        let size = Size::of(20, 4).unwrap();
        vt100::Parser::new(size.rows, size.cols, 0)
    }

    #[test]
    fn a_picture_and_what_comes_after_it_can_be_joined_anywhere() {
        let said = "plain \x1b[31mred\x1b[0m grüße 漢字\r\n\x1b]0;a title\x07x\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\\r\n\
                    \x1b[?1049h\x1b[2;2Halt\x1b[?1049l\x1b[?2004h\x1bP1;2|data\x1b\\end\x1b(B.";
        let mut whole = screen();
        assert_eq!(fed(&mut whole, said.as_bytes()).0, said.as_bytes());
        for at in 0..said.len() {
            let (first, second) = said.as_bytes().split_at(at);
            let mut theirs = screen();
            let begun = theirs.feed(first).output;
            let hides_main = theirs.is_alternate();
            let mut late = emulator();
            late.process(&theirs.picture());
            let rest = theirs.feed(second).output;
            late.process(&rest);
            assert_eq!([begun, rest].concat(), said.as_bytes());
            assert!(late.screen().bracketed_paste());
            // For one who came while the other screen was shown there is `Piece::Repaint`.
            if !hides_main {
                assert_eq!(late.screen().contents(), whole.text(), "cut at {at}");
            }
        }
    }

    #[test]
    fn what_a_program_asks_is_answered_once_and_here() {
        for (asked, answer) in [
            ("ab\x1b[6n", "\x1b[1;3R"),
            ("\r\n\x1b[6n", "\x1b[2;1R"),
            ("\x1b[5n", "\x1b[0n"),
            ("\x1b[c", "\x1b[?62;22c"),
            ("\x1b[>c", "\x1b[>1;0;0c"),
            ("\x1b[?2026$p", "\x1b[?2026;0$y"),
            ("\x1b[18t", "\x1b[8;4;20t"),
            ("\x1b]11;?\x07", ""),
            ("\x1b]11;?\x1b\\", ""),
            ("\x1bP+q544e\x1b\\", ""),
            ("\x1b[?u", ""),
            ("\x1b[>7u", ""),
            ("\x1b[<u", ""),
            ("\x1b[=5;1u", ""),
            ("\x1b[>4;2m", ""),
            ("\x1b[>4m", ""),
            ("\x1b[>4n", ""),
        ] {
            let (output, answers) = fed(&mut screen(), asked.as_bytes());
            assert_eq!(String::from_utf8(answers).unwrap(), answer, "{asked:?}");
            assert!(!output.contains(&ESCAPE), "{asked:?}");
        }
        let mut cut = screen();
        assert_eq!(fed(&mut cut, b"x\x1b[6"), (b"x".to_vec(), vec![]));
        assert_eq!(fed(&mut cut, b"ny"), (b"y".to_vec(), b"\x1b[1;2R".to_vec()));
    }

    #[test]
    fn bytes_that_are_no_text_pass_and_a_sequence_without_end_is_given_up() {
        let mut odd = screen();
        assert_eq!(fed(&mut odd, b"\xff\xc3(").0, b"\xff\xc3(");
        odd.feed(b"\x1b]0;");
        for _ in 0..100 {
            odd.feed(&[b'x'; 10_000]);
            assert!(odd.held.len() <= LONGEST_SEQUENCE);
        }
        odd.feed(b"\x1b[2J\x1b[Hafter");
        assert!(odd.text().starts_with("after"), "{:?}", odd.text());
    }

    #[test]
    fn after_the_end_a_person_can_read_it() {
        let mut left = screen();
        left.feed(b"shell$ \x1b[?1049h\x1b[?25l\x1b[?1000h\x1b[41mfull screen\x1b]0;unfinished");
        let end = left.end("exit code 3");
        assert!(left.text().contains("shell$") && left.text().contains("[exit code 3]"), "{:?}", left.text());
        let mut viewer = emulator();
        viewer.process(b"\x1b[?1000h\x1b[?25l");
        viewer.process(&end.output);
        assert!(!viewer.screen().hide_cursor());
        assert_eq!(viewer.screen().mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(Size::of(0, 10), None);
        assert_eq!(Size::of(10, 0), None);
        assert_eq!(Size::of(u16::MAX, u16::MAX), Size::of(500, 200));
    }
}
