//! The latest events of a session, so many and so large at most. It knows no clock and no readers.

use std::collections::VecDeque;

use bytes::Bytes;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Events.
    pub(super) events: usize,
    /// Bytes of them.
    pub(super) bytes: usize,
}

/// What comes after a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This event, with this number.
    Event(u64, Bytes),
    /// Nothing yet.
    Nothing,
    /// Some are forgotten, or never were; what is there begins after this number.
    Missing(u64),
}

/// See the module. Events are numbered without holes.
pub(super) struct Ring {
    bounds: Bounds,
    kept: VecDeque<Bytes>,
    bytes: usize,
    /// The number of the next event.
    next: u64,
}

impl Ring {
    /// An empty one whose first event gets the number `first`, which is not 0.
    pub(super) fn new(first: u64, bounds: Bounds) -> Self {
        Self { bounds, kept: VecDeque::new(), bytes: 0, next: first }
    }

    /// The number of the latest event, or the one before the first.
    pub(super) fn latest(&self) -> u64 {
        self.next - 1
    }

    /// The number before the oldest that is kept.
    fn floor(&self) -> u64 {
        self.latest() - self.kept.len() as u64
    }

    /// Takes an event, made for its number, and forgets the oldest.
    pub(super) fn push(&mut self, event: impl FnOnce(u64) -> Bytes) -> u64 {
        let number = self.next;
        let event = event(number);
        self.bytes += event.len();
        self.kept.push_back(event);
        self.next += 1;
        while self.kept.len() > self.bounds.events || self.bytes > self.bounds.bytes {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.len();
        }
        number
    }

    /// What comes after the event of this number.
    pub(super) fn after(&self, number: u64) -> Next {
        if number == self.latest() {
            return Next::Nothing;
        }
        let place = number.checked_sub(self.floor()).and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| self.kept.get(place)) {
            Some(event) => Next::Event(number + 1, event.clone()),
            None => Next::Missing(self.floor()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64, size: usize) -> Bytes {
        format!("{number:0>size$}").into()
    }

    fn read_all(ring: &Ring, mut at: u64) -> (Vec<u64>, Vec<u64>) {
        let (mut read, mut missing) = (Vec::new(), Vec::new());
        loop {
            match ring.after(at) {
                Next::Event(number, bytes) => {
                    assert_eq!(String::from_utf8(bytes.to_vec()).unwrap().parse(), Ok(number));
                    read.push(number);
                    at = number;
                }
                Next::Missing(floor) => {
                    missing.push(floor);
                    at = floor;
                }
                Next::Nothing => return (read, missing),
            }
        }
    }

    #[test]
    fn the_oldest_are_forgotten_by_number_and_by_size() {
        let mut ring = Ring::new(100, Bounds { events: 3, bytes: 20 });
        assert_eq!((ring.latest(), read_all(&ring, 99)), (99, (vec![], vec![])));
        for number in 100..105 {
            assert_eq!(ring.push(|number| event(number, 4)), number);
        }
        assert_eq!(read_all(&ring, 101), (vec![102, 103, 104], vec![]));
        assert_eq!(read_all(&ring, 100), (vec![102, 103, 104], vec![101]));
        ring.push(|number| event(number, 13));
        assert_eq!(read_all(&ring, 102), (vec![104, 105], vec![103]), "4 + 13 bytes fit, 8 + 13 do not");
        ring.push(|number| event(number, 21));
        assert_eq!(
            read_all(&ring, 104),
            (vec![], vec![106]),
            "one that does not fit at all is forgotten too"
        );
    }

    #[test]
    fn places_that_never_were_are_told_apart_from_the_end() {
        let mut ring = Ring::new(100, Bounds { events: 3, bytes: 100 });
        ring.push(|number| event(number, 4));
        for unknown in [0, 98, 101, u64::MAX] {
            assert_eq!(ring.after(unknown), Next::Missing(99), "{unknown}");
        }
        assert_eq!(ring.after(100), Next::Nothing);
    }

    /// Whatever is pushed and read in whatever order: each reader gets every event once and in order, or a gap that covers
    /// exactly those that it did not get.
    #[test]
    fn no_reader_misses_an_event_without_being_told() {
        for seed in 0..200 {
            let mut dice = Dice(seed);
            let bounds = Bounds { events: dice.below(20) + 1, bytes: dice.below(300) + 1 };
            let mut ring = Ring::new(1, bounds);
            let mut readers = [0_u64; 4];
            for _ in 0..500 {
                if dice.below(2) == 0 {
                    let size = dice.below(40) + 1;
                    ring.push(|number| event(number, size));
                    assert!(ring.kept.len() <= bounds.events, "seed {seed}");
                    assert!(ring.kept.iter().map(Bytes::len).sum::<usize>() <= bounds.bytes, "seed {seed}");
                    continue;
                }
                let at = &mut readers[dice.below(4)];
                match ring.after(*at) {
                    Next::Event(number, _) => {
                        assert_eq!(number, *at + 1, "seed {seed}");
                        *at = number;
                    }
                    Next::Missing(floor) => {
                        assert!(floor > *at && floor <= ring.latest(), "seed {seed}");
                        *at = floor;
                    }
                    Next::Nothing => assert_eq!(*at, ring.latest(), "seed {seed}"),
                }
            }
        }
    }

    /// A small generator; the seed of a failure is in its message.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, most: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % most
        }
    }
}
