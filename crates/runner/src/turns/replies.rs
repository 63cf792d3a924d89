//! Which outcomes stay in memory: the latest, within two bounds. Older ones are read from the journal.

use std::collections::VecDeque;

/// How many outcomes are kept.
const MOST: usize = 64;
/// How many bytes they may have together.
const LARGEST: usize = 32 << 20;

/// The ids of the outcomes that are in memory, oldest first.
#[derive(Default)]
pub(super) struct Kept {
    order: VecDeque<(String, usize)>,
    bytes: usize,
}

impl Kept {
    /// Adds the latest outcome and returns those that must leave memory.
    pub(super) fn add(&mut self, turn: &str, size: usize) -> Vec<String> {
        self.order.push_back((turn.to_owned(), size));
        self.bytes += size;
        let mut leaving = Vec::new();
        while self.order.len() > MOST || self.bytes > LARGEST {
            let Some((turn, size)) = self.order.pop_front() else { break };
            self.bytes -= size;
            leaving.push(turn);
        }
        leaving
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_leave_when_there_are_too_many() {
        let mut kept = Kept::default();
        for number in 0..MOST {
            assert!(kept.add(&number.to_string(), 1).is_empty());
        }
        assert_eq!(kept.add("next", 1), ["0"]);
    }

    #[test]
    fn large_ones_push_out_others_or_do_not_stay_at_all() {
        let mut kept = Kept::default();
        assert!(kept.add("a", LARGEST / 2).is_empty());
        assert_eq!(kept.add("b", LARGEST), ["a"]);
        assert_eq!(kept.add("c", LARGEST + 1), ["b", "c"]);
    }
}
