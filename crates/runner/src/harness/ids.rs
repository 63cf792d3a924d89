//! Message and part ids that sort by time, in opencode's own format: prefix, 12 hex digits of time, 14 random
//! characters.
//!
//! The time is milliseconds × 4096 plus a counter, cut to 48 bits. opencode compares ids as text to tell
//! whether a message is already answered: an id that sorts before the conversation's last reply would make
//! it answer with that old reply. So ids are made when a turn starts, not when it is queued.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::harness::TurnNames;
use crate::random::{RandomError, base62};

const MASK: u64 = (1 << 48) - 1;
const MESSAGE: &str = "msg_";
const PART: &str = "prt_";

/// For [`IdMaker`], which has no clock of its own.
pub(super) fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// Makes ids, each later than the one before.
#[derive(Default)]
pub(super) struct IdMaker {
    last: Mutex<u64>,
}

impl IdMaker {
    /// Names for a message of so many parts, made at `now_ms` (milliseconds since 1970).
    pub(super) fn turn(&self, parts: usize, now_ms: u64) -> Result<TurnNames, RandomError> {
        Ok(TurnNames {
            conversation: None,
            message: self.next(MESSAGE, now_ms)?,
            parts: (0..parts).map(|_| self.next(PART, now_ms)).collect::<Result<_, _>>()?,
        })
    }

    /// Makes later ids sort after these, also where the clock was set back during a restart.
    pub(super) fn not_before(&self, names: &TurnNames) {
        let last = names.parts.last().unwrap_or(&names.message);
        let digits = last.split_once('_').and_then(|(_, rest)| rest.get(..12));
        if let Some(time) = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = time;
        }
    }

    /// As [`Self::not_before`], for messages of a conversation that is taken over.
    pub(super) fn not_before_any<T: Into<String>>(&self, messages: impl IntoIterator<Item = T>) {
        if let Some(message) = messages.into_iter().map(Into::into).max() {
            self.not_before(&TurnNames { conversation: None, message, parts: Vec::new() });
        }
    }

    fn next(&self, prefix: &str, now_ms: u64) -> Result<String, RandomError> {
        // Counter 0: opencode's own counter starts at 1, so its reply made in the same millisecond sorts
        // after our message.
        let now = now_ms.wrapping_mul(0x1000) & MASK;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = now.wrapping_sub(*last) & MASK;
        // The 48 bits wrap about every 795 days; what is less than half a round ahead is later.
        let is_later = *last == 0 || (ahead != 0 && ahead <= MASK / 2);
        *last = if is_later { now } else { (*last + 1) & MASK };
        Ok(format!("{prefix}{:012x}{}", *last, base62(14)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000_000;

    #[test]
    fn ids_have_opencodes_format_and_sort_by_time() {
        let maker = IdMaker::default();
        let first = maker.turn(2, NOW).unwrap();
        let time = (NOW * 4096) & MASK;
        assert_eq!(first.message[..16], format!("msg_{time:012x}"));
        assert_eq!((first.message.len(), first.parts[0].len()), (30, 30));
        assert!(first.parts[0].starts_with("prt_") && first.parts[0] < first.parts[1]);
        let second = maker.turn(1, NOW + 1).unwrap();
        assert!(second.message > first.message);
    }

    #[test]
    fn a_reply_of_the_same_millisecond_sorts_after_our_message() {
        let ours = IdMaker::default().turn(1, NOW).unwrap().message;
        let theirs = format!("msg_{:012x}00000000000000", (NOW * 4096 + 1) & MASK);
        assert!(theirs > ours);
    }

    #[test]
    fn a_clock_set_back_does_not_reorder_ids() {
        let maker = IdMaker::default();
        let first = maker.turn(1, NOW).unwrap();
        assert!(maker.turn(1, NOW - 60_000).unwrap().message > first.message);
        let restarted = IdMaker::default();
        restarted.not_before(&first);
        assert!(restarted.turn(1, NOW - 60_000).unwrap().message > first.message);
    }

    #[test]
    fn time_goes_on_where_the_48_bits_wrap() {
        let maker = IdMaker::default();
        let wrap = 1_u64 << 36;
        let before = maker.turn(0, 26 * wrap - 1).unwrap().message;
        let after = maker.turn(0, 26 * wrap + 5).unwrap().message;
        assert_eq!(before[4..16], *"fffffffff000");
        assert_eq!(after[4..16], *"000000005000");
    }
}
