//! What a prompt tells the scripted model to do.
//!
//! A directive is a line of the last user text that starts with `!` and a known word; all other lines are
//! ordinary text, so a harness may add lines of its own.

use std::time::Duration;

/// One instruction to the scripted model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directive {
    /// `!run <shell command>`: call the harness's shell tool.
    Run(String),
    /// `!write <path> <content>`: write a file, with the harness's write tool if it offers one.
    Write {
        /// The file's path.
        path: String,
        /// Its new content.
        content: String,
    },
    /// `!think <text>`: reason before answering.
    Think(String),
    /// `!chunks <n> <ms>`: answer in this many pieces, with this pause before each.
    Chunks {
        /// How many pieces.
        count: usize,
        /// The pause before each.
        pause: Duration,
    },
    /// `!fail <code>`: answer with this HTTP status in the dialect's error shape.
    Fail(u16),
    /// `!hang <seconds>`: stay silent for so long, then answer `hung <seconds>`.
    Hang(String, Duration),
    /// `!say <text>`: answer this text.
    Say(String),
}

/// The directives of a text, in its order.
pub fn parse(text: &str) -> Vec<Directive> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Directive> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match word {
        "!run" => Some(Directive::Run(rest.to_owned())),
        "!write" => {
            let (path, content) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            Some(Directive::Write { path: path.to_owned(), content: content.to_owned() })
        }
        "!think" => Some(Directive::Think(rest.to_owned())),
        "!chunks" => {
            let (count, millis) = rest.split_once(char::is_whitespace)?;
            Some(Directive::Chunks {
                count: count.parse().ok().filter(|n| *n > 0)?,
                pause: Duration::from_millis(millis.trim().parse().ok()?),
            })
        }
        "!fail" => rest.parse().ok().filter(|code| (400..600).contains(code)).map(Directive::Fail),
        "!hang" => {
            let seconds: f64 = rest.parse().ok()?;
            Duration::try_from_secs_f64(seconds).ok().map(|wait| Directive::Hang(rest.to_owned(), wait))
        }
        "!say" => Some(Directive::Say(rest.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directive_is_understood_among_other_lines() {
        let text = "please\n!run ls -l\n  !write a.txt one two\n!think hard\n!chunks 3 20\n!fail 503\n!hang 1.5\n!say hello you\n!unknown x";
        assert_eq!(
            parse(text),
            vec![
                Directive::Run("ls -l".into()),
                Directive::Write { path: "a.txt".into(), content: "one two".into() },
                Directive::Think("hard".into()),
                Directive::Chunks { count: 3, pause: Duration::from_millis(20) },
                Directive::Fail(503),
                Directive::Hang("1.5".into(), Duration::from_millis(1500)),
                Directive::Say("hello you".into()),
            ]
        );
    }

    #[test]
    fn malformed_directives_are_ordinary_text() {
        assert_eq!(parse("!fail abc\n!fail 200\n!chunks 0 1\n!chunks x\n!hang soon\n!hang -1"), vec![]);
    }
}
