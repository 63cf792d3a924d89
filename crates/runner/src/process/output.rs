//! A child's output becomes log lines, bounded in length, so that it neither blocks nor floods.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The longest line kept; the rest of a longer one is dropped.
const LONGEST_LINE: usize = 4096;

/// Which output it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Reads until the other side closes, logs every line and shows it to `see` too.
pub async fn forward(source: impl AsyncRead + Unpin, stream: Stream, mut see: impl FnMut(&str)) {
    let mut reader = BufReader::with_capacity(LONGEST_LINE, source);
    let mut line = Vec::new();
    loop {
        let (used, complete) = match reader.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(bytes) => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let taken = &bytes[..end.unwrap_or(bytes.len())];
                let room = LONGEST_LINE.saturating_sub(line.len());
                line.extend_from_slice(&taken[..taken.len().min(room)]);
                (end.map_or(bytes.len(), |end| end + 1), end.is_some())
            }
        };
        reader.consume(used);
        if complete {
            emit(&line, stream, &mut see);
            line.clear();
        }
    }
    emit(&line, stream, &mut see);
}

fn emit(line: &[u8], stream: Stream, see: &mut impl FnMut(&str)) {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    if !text.is_empty() {
        tracing::info!(target: "harness", ?stream, "{text}");
        see(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8]) -> Vec<String> {
        let mut seen = Vec::new();
        forward(input, Stream::Out, |line| seen.push(line.to_owned())).await;
        seen
    }

    #[tokio::test]
    async fn lines_are_seen_whole_and_the_last_needs_no_end() {
        assert_eq!(lines(b"one\n\ntwo\xff\nthree").await, ["one", "two\u{fffd}", "three"]);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_is_whole() {
        let mut input = vec![b'x'; 3 * LONGEST_LINE];
        input.extend_from_slice(b"\nnext\n");
        let seen = lines(&input).await;
        assert_eq!((seen[0].len(), seen[1].as_str()), (LONGEST_LINE, "next"));
    }
}
