//! The claim protocol as numbers: what is true, what each controller believes, what it has under way.
//!
//! Everything that concerns one session and one sandbox is a link, a few bits wide. So sessions, sandboxes and
//! controllers can change names by moving bits about, and of all states that differ only in names one is kept.

/// The most sessions and sandboxes.
pub const MOST: usize = 3;

/// Bits of a [`Row::links`] entry: what is true between a sandbox and a session.
pub mod link {
    /// The Sandbox object is assigned to the session.
    pub const OWNER: u32 = 1;
    /// The pod's runner serves the session.
    pub const SERVES: u32 = 1 << 1;
    /// The session's status is Ready and names the pod.
    pub const ROUTED: u32 = 1 << 2;

    // From here on of one controller.

    /// It has seen the assignment.
    pub const SEEN: u32 = 1;
    /// It holds the sandbox for the session.
    pub const RESERVED: u32 = 1 << 1;
    /// It has the runner's confirmation.
    pub const CONFIRMED: u32 = 1 << 2;
    /// It was told that the runner serves another session.
    pub const REFUSED: u32 = 1 << 3;
    /// Under way: the assignment.
    pub const PATCH: u32 = 1 << 4;
    /// Under way: the activation.
    pub const ACTIVATE: u32 = 1 << 5;
    /// Under way: the deletion of the sandbox.
    pub const DELETE: u32 = 1 << 6;
    /// The version that the deletion is for, two bits.
    pub const DELETE_VERSION: u32 = 7;
    /// Under way: the status that says Ready.
    pub const STATUS: u32 = 1 << 9;
    /// For the check only: it made the assignment itself, or its term began after it was made.
    pub const KNOWN: u32 = 1 << 10;

    /// Anything under way.
    pub const UNDER_WAY: u32 = PATCH | ACTIVATE | DELETE | STATUS;
    /// First bit of controller 0, and bits for each.
    pub const FIRST: u32 = 4;
    /// See [`FIRST`].
    pub const WIDTH: u32 = 11;
}

/// Bits of [`Row::base`]: a sandbox by itself.
pub mod base {
    /// It exists, and so does its pod.
    pub const ALIVE: u32 = 1;
    /// Its resourceVersion, two bits.
    pub const VERSION: u32 = 1;
    /// There is no such sandbox. Sorts last, so that the first rows are always those that count.
    pub const ABSENT: u32 = 1 << 15;

    // From here on of one controller: the version it has seen, two bits, and:

    /// It has seen that the sandbox is gone.
    pub const SEEN_GONE: u32 = 1 << 2;
    /// First bit of controller 0, and bits for each.
    pub const FIRST: u32 = 4;
    /// See [`FIRST`].
    pub const WIDTH: u32 = 4;
}

/// Bits of [`World::sessions`]: a session by itself.
pub mod session {
    /// Its status says Ready.
    pub const READY: u32 = 1;

    // From here on of one controller.

    /// It has seen that.
    pub const SEEN_READY: u32 = 1;
    /// It need not ask for assignments of earlier leaders: it has asked, or leads since before the session.
    pub const ASKED: u32 = 1 << 1;
    /// First bit of controller 0, and bits for each.
    pub const FIRST: u32 = 4;
    /// See [`FIRST`].
    pub const WIDTH: u32 = 2;
}

/// One sandbox with its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    /// See [`base`].
    pub base: u16,
    /// See [`link`]; one for each session.
    pub links: [u32; MOST],
}

impl Row {
    /// True when the sandbox exists.
    pub fn is_alive(&self) -> bool {
        u32::from(self.base) & base::ALIVE != 0
    }

    /// The resourceVersion.
    pub fn version(&self) -> u32 {
        u32::from(self.base) >> base::VERSION & 3
    }

    /// Goes on to the next version; mutated models may write more often than there is room to count.
    pub fn bump(&mut self) {
        let next = (self.version() + 1).min(3) as u16;
        self.base = self.base & !(3 << base::VERSION) | next << base::VERSION;
    }

    /// The session that it is assigned to.
    pub fn owner(&self) -> Option<usize> {
        self.links.iter().position(|link| link & link::OWNER != 0)
    }

    /// Sessions that its runner has accepted.
    pub fn served(&self) -> usize {
        self.links.iter().filter(|link| *link & link::SERVES != 0).count()
    }

    /// True when its runner serves a session other than `s`.
    pub fn serves_other(&self, s: usize) -> bool {
        self.links.iter().enumerate().any(|(other, link)| other != s && link & link::SERVES != 0)
    }

    /// A bit of controller `c` and session `s`.
    pub fn has(&self, c: usize, s: usize, bit: u32) -> bool {
        self.links[s] >> shift(c) & bit != 0
    }

    /// Sets a bit of controller `c` and session `s`.
    pub fn set(&mut self, c: usize, s: usize, bit: u32) {
        self.links[s] |= bit << shift(c);
    }

    /// Clears bits of controller `c` and session `s`.
    pub fn clear(&mut self, c: usize, s: usize, bits: u32) {
        self.links[s] &= !(bits << shift(c));
    }

    /// The version that controller `c` has seen.
    pub fn seen_version(&self, c: usize) -> u32 {
        u32::from(self.base) >> (base::FIRST + base::WIDTH * c as u32) & 3
    }

    /// Whether controller `c` knows that it is gone.
    pub fn seen_gone(&self, c: usize) -> bool {
        u32::from(self.base) >> (base::FIRST + base::WIDTH * c as u32) & base::SEEN_GONE != 0
    }

    fn set_view(&mut self, c: usize, view: u32) {
        let at = base::FIRST + base::WIDTH * c as u32;
        self.base = self.base & !(0xf << at) | (view << at) as u16;
    }

    /// Controller `c` sees it as it is now.
    pub fn see(&mut self, c: usize) {
        if !self.is_alive() {
            self.see_gone(c);
            return;
        }
        self.set_view(c, self.version());
        for s in 0..MOST {
            self.clear(c, s, link::SEEN);
            if self.links[s] & link::OWNER != 0 {
                self.set(c, s, link::SEEN);
            }
        }
    }

    /// Controller `c` takes it as gone. What it remembered of the pod matters no more.
    pub fn see_gone(&mut self, c: usize) {
        self.set_view(c, base::SEEN_GONE);
        for s in 0..MOST {
            self.clear(c, s, link::SEEN | link::CONFIRMED | link::REFUSED | link::RESERVED);
        }
    }

    /// The next event of the watch; false when there is none.
    pub fn deliver(&mut self, c: usize) -> bool {
        if self.seen_gone(c) {
            return false;
        }
        if self.seen_version(c) < self.version() {
            let alive = self.base;
            self.base |= base::ALIVE as u16;
            self.see(c);
            self.base = self.base & !(base::ALIVE as u16) | alive & base::ALIVE as u16;
            return true;
        }
        if !self.is_alive() {
            self.see_gone(c);
            return true;
        }
        false
    }

    /// Controller `c` begins anew, with a list that is as old as a list can be.
    pub fn crash(&mut self, c: usize) {
        self.set_view(c, 0);
        for s in 0..MOST {
            self.clear(c, s, (1 << link::WIDTH) - 1);
            if self.is_alive() && self.links[s] & link::OWNER != 0 {
                self.set(c, s, link::KNOWN);
            }
        }
    }

    /// What was true of a sandbox that is gone is of no interest to anybody who knows that it is.
    pub fn forget_what_is_over(&mut self, controllers: usize) {
        if self.is_alive() {
            return;
        }
        let known = (0..controllers).all(|c| self.seen_gone(c));
        for link in &mut self.links {
            for c in 0..controllers {
                *link &= !(link::KNOWN << shift(c));
            }
            if known {
                *link &= !(link::OWNER | link::SERVES);
            }
        }
        if known {
            self.base &= !(3 << base::VERSION);
        }
    }

    fn renamed(&self, order: &[usize; MOST], swap: bool) -> Self {
        let mut links = [0; MOST];
        for (to, from) in order.iter().enumerate() {
            let link = self.links[*from];
            links[to] = if swap { swapped(link, link::FIRST, link::WIDTH) } else { link };
        }
        let base = u32::from(self.base);
        let base = if swap { swapped(base, base::FIRST, base::WIDTH) } else { base };
        Self { base: base as u16, links }
    }
}

fn shift(c: usize) -> u32 {
    link::FIRST + link::WIDTH * c as u32
}

/// Exchanges the bits of the two controllers.
fn swapped(bits: u32, first: u32, width: u32) -> u32 {
    let mask = (1 << width) - 1;
    let (zero, one) = (bits >> first & mask, bits >> (first + width) & mask);
    bits & !(mask << first | mask << (first + width)) | one << first | zero << (first + width)
}

/// One state of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct World {
    /// The sandboxes.
    pub rows: [Row; MOST],
    /// See [`session`].
    pub sessions: [u16; MOST],
    /// Crashes that may still happen.
    pub crashes: u8,
    /// Requests or answers that may still get lost.
    pub losses: u8,
}

impl World {
    /// Whether session `s` is Ready.
    pub fn is_ready(&self, s: usize) -> bool {
        u32::from(self.sessions[s]) & session::READY != 0
    }

    /// A bit of controller `c` about session `s`.
    pub fn has(&self, c: usize, s: usize, bit: u32) -> bool {
        u32::from(self.sessions[s]) >> (session::FIRST + session::WIDTH * c as u32) & bit != 0
    }

    /// Sets a bit of controller `c` about session `s`.
    pub fn set(&mut self, c: usize, s: usize, bit: u32) {
        self.sessions[s] |= (bit << (session::FIRST + session::WIDTH * c as u32)) as u16;
    }

    /// Clears bits of controller `c` about session `s`.
    pub fn clear(&mut self, c: usize, s: usize, bits: u32) {
        self.sessions[s] &= !((bits << (session::FIRST + session::WIDTH * c as u32)) as u16);
    }

    /// Whether controller `c` waits for answers about session `s`.
    pub fn is_busy(&self, c: usize, s: usize) -> bool {
        self.rows.iter().any(|row| row.has(c, s, link::UNDER_WAY))
    }

    /// The least of all states that differ from this one only in names. `orders` are the names that
    /// sessions may take; sandboxes are simply sorted.
    pub fn canonical(&self, orders: &[[usize; MOST]], controllers: usize) -> Self {
        let plain = *self;
        let mut least: Option<Self> = None;
        for order in orders {
            for swap in [false, true].into_iter().take(controllers) {
                let mut other = plain;
                other.rows = plain.rows.map(|row| row.renamed(order, swap));
                other.rows.sort_unstable();
                for (to, from) in order.iter().enumerate() {
                    let bits = u32::from(plain.sessions[*from]);
                    let bits = if swap { swapped(bits, session::FIRST, session::WIDTH) } else { bits };
                    other.sessions[to] = bits as u16;
                }
                if least.is_none_or(|least| other < least) {
                    least = Some(other);
                }
            }
        }
        least.unwrap_or(plain)
    }
}
