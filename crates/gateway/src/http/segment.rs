//! One segment of a path that may hold any printable character.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` as a segment.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// What a segment says; nothing where an escape is malformed, or it is no UTF-8.
pub fn decode(segment: &str) -> Option<String> {
    let hex = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    // Text with a lone percent sign would be passed on as it is.
    if !segment.split('%').skip(1).all(hex) {
        return None;
    }
    percent_decode_str(segment).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_as_it_is_written() {
        for text in ["0197a1b2-0000", "a/b c?d#e", "100%", "%41", "~._-", "ä"] {
            let segment = encode(text);
            assert!(!segment.contains(['/', '?', '#', ' ']), "{segment}");
            assert_eq!(decode(&segment).as_deref(), Some(text));
        }
        assert_eq!(encode("0197a1b2-0000.x~y_z"), "0197a1b2-0000.x~y_z");
    }

    #[test]
    fn a_malformed_segment_says_nothing() {
        for segment in ["%", "a%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(segment), None, "{segment}");
        }
    }
}
