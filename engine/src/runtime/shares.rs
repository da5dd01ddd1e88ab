//! Who goes first on a node: what transfers of a lower priority leave to those of a higher one.
//!
//! Transfers say on a board when they move and whether the link is full of what they send. All
//! processes of a home have the same board: a small file. Those of a lower priority look at it: while
//! one of a higher priority moves they share a rate, which falls while that one has no room or the
//! processors are busy, and rises while there is some left. While none moves nothing holds them.

mod rate;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::rate::{Left, Seen};
use super::effort::now_ns;
use super::idle::IdleClock;
use crate::base::{Priority, Rate};
use crate::transport::{Pace, Paces, Waits};

/// How long that content moves, and that it had no room, counts as now, in nanoseconds.
const NOW_NS: u64 = 1_000_000_000;
const FULL_NS: u64 = 400_000_000;
/// How long processors are watched at a time, and after how long that says nothing of now.
const WATCH: Duration = Duration::from_millis(200);
const STALE: Duration = Duration::from_secs(2);
/// Part of the processors that must be idle for there to be something left.
const IDLE_SCARCE: f64 = 0.15;
/// Less than this between two looks are signs of life, not content, in bytes.
const MOVED_BYTES_MIN: u64 = 1024;
/// A transfer that is received this close to its own cap is not held back by the link.
const OWN_CAP: f64 = 0.8;
/// Nor is one that is sent, as long as it waits for its own cap in this part of all looks: one that the
/// link holds back falls behind its cap and never waits for it.
const OWN_WAITS: f64 = 0.15;
/// What the last look counts in that part, so that it is that of half a second.
const OWN_WEIGHT: f64 = 0.1;

/// Which way content goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It leaves this node.
    Out = 0,
    /// It comes to this node.
    In = 1,
}

/// Slots of the board: for each priority that others yield to and each direction, when content moved
/// and when it had no room.
const SLOTS: usize = 8;

/// What is held, and the file of its cap: each priority that yields, in each direction.
const HELD: [&str; 4] = ["staging-out", "staging-in", "bulk-out", "bulk-in"];

fn slot(priority: Priority, direction: Direction) -> usize {
    (usize::from(priority.code()) * 2 + direction as usize) * 2
}

/// The board, the rates and the caps of all transfers of a home in this process.
pub struct Shares {
    slots: [AtomicU64; SLOTS],
    /// What other processes see of them.
    file: Option<File>,
    /// In the order of [`HELD`].
    held: [Held; 4],
    idle: Mutex<(IdleClock, Option<f64>)>,
    processors: f64,
}

/// What holds the transfers of one priority and direction.
struct Held {
    pace: Arc<Pace>,
    left: Mutex<Left>,
}

impl Default for Shares {
    /// Shares of this process alone.
    fn default() -> Self {
        Self::with(None, HELD.map(|_| Pace::own(None)))
    }
}

impl Shares {
    /// Shares of all processes that name the same directory.
    ///
    /// # Errors
    /// Its files cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut options = File::options();
        let board = options.read(true).write(true).create(true).truncate(false);
        let board = board.open(dir.join("board"))?;
        let [a, b, c, d] = HELD.map(|name| Pace::shared(&dir.join(name), None));
        Ok(Self::with(Some(board), [a?, b?, c?, d?]))
    }

    fn with(file: Option<File>, paces: [Pace; 4]) -> Self {
        Self {
            slots: Default::default(),
            file,
            held: paces.map(|pace| Held { pace: Arc::new(pace), left: Mutex::default() }),
            idle: Mutex::default(),
            processors: std::thread::available_parallelism().map_or(1, usize::from) as f64,
        }
    }

    /// Says that content of a transfer moves, and whether there is no room for more of it.
    fn say(&self, priority: Priority, direction: Direction, full: bool) {
        if priority == Priority::Bulk {
            return;
        }
        let (first, now) = (slot(priority, direction), now_ns());
        for slot in first..=first + usize::from(full) {
            self.slots[slot].store(now, Relaxed);
            if let Some(file) = &self.file {
                // Who cannot be told does not yield, and nothing else is lost.
                let _ = file.write_all_at(&now.to_le_bytes(), slot as u64 * 8);
            }
        }
    }

    /// What those that come before `priority` do now.
    fn seen(&self, priority: Priority, direction: Direction, now: u64) -> Seen {
        let mut told = [0; SLOTS * 8];
        if let Some(file) = &self.file {
            // A board that is new is shorter.
            let _ = file.read_at(&mut told, 0);
        }
        let at = |slot: usize| {
            let mut theirs = [0; 8];
            theirs.copy_from_slice(&told[slot * 8..slot * 8 + 8]);
            self.slots[slot].load(Relaxed).max(u64::from_le_bytes(theirs))
        };
        // Nothing was said yet where there is nothing.
        let said = |slot| Some(at(slot)).filter(|at| *at > 0);
        let ago = |slot| said(slot).and_then(|at| now.checked_sub(at));
        let within = |slot, ns: u64| ago(slot).is_some_and(|ago| ago < ns);
        let before = Priority::ALL.iter().filter(|it| **it < priority);
        let mut seen = Seen::default();
        for higher in before {
            for way in [Direction::Out, Direction::In] {
                let first = slot(*higher, way);
                seen.moves |= within(first, NOW_NS);
                seen.full |= way == direction && within(first + 1, FULL_NS);
            }
        }
        seen
    }

    /// Whether processors are short.
    fn is_busy(&self) -> bool {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (clock, last) = &mut *idle;
        if let Some(now) = clock.idle(Instant::now(), WATCH, STALE) {
            *last = Some(now);
        }
        last.is_some_and(|idle| idle < IDLE_SCARCE * self.processors)
    }

    fn held(&self, priority: Priority, direction: Direction) -> Option<&Held> {
        let of = usize::from(priority.code()).checked_sub(1)?;
        self.held.get(of * 2 + direction as usize)
    }

    /// Sets the rate of a priority anew, from what is seen.
    fn adapt(&self, priority: Priority, direction: Direction) {
        let Some(held) = self.held(priority, direction) else { return };
        let now = now_ns();
        let seen = Seen { busy: self.is_busy(), ..self.seen(priority, direction, now) };
        let mut left = held.left.lock().unwrap_or_else(PoisonError::into_inner);
        let before = left.rate();
        left.step(now, seen);
        match (before, left.rate()) {
            (before, after) if before == after => {}
            (Some(_), Some(after)) => held.pace.set(Some(after)),
            // What was booked at a rate that is no more would hold for long.
            (_, after) => held.pace.begin(after),
        }
    }
}

/// A transfer among those of its node. Cheap to clone.
#[derive(Clone)]
pub struct Share {
    shares: Arc<Shares>,
    priority: Priority,
    /// The transfer's own cap.
    limit: Option<Rate>,
}

impl Default for Share {
    /// A transfer that nobody yields to and that yields to nobody.
    fn default() -> Self {
        Self::new(Arc::default(), Priority::Interactive, None)
    }
}

impl Share {
    /// A transfer of this priority, with a cap of its own if it has one.
    pub fn new(shares: Arc<Shares>, priority: Priority, limit: Option<Rate>) -> Self {
        Self { shares, priority, limit }
    }

    /// Its own cap.
    pub fn limit(&self) -> Option<Rate> {
        self.limit
    }

    /// The cap on what it moves in a direction, which follows what others leave; `None` for the
    /// highest priority.
    pub fn pace(&self, direction: Direction) -> Option<Arc<Pace>> {
        self.shares.held(self.priority, direction).map(|held| Arc::clone(&held.pace))
    }

    /// The same for content that is received.
    pub(super) fn paces_in(&self) -> Paces {
        Paces::new(self.pace(Direction::In).into_iter().collect())
    }

    /// Says that content moves outside of a session of a transfer.
    pub fn moves(&self, direction: Direction) {
        self.shares.say(self.priority, direction, true);
    }

    /// Begins to look at a session of it.
    pub(super) fn look(&self, direction: Direction) -> Look {
        let (share, at_ns) = (self.clone(), now_ns());
        Look { share, direction, moved: 0, at_ns, bytes_per_s: 0.0, own_waits: 0.0 }
    }
}

/// What is seen of a session from one look to the next.
pub(super) struct Look {
    share: Share,
    direction: Direction,
    moved: u64,
    at_ns: u64,
    /// What moved lately.
    bytes_per_s: f64,
    /// The part of the last looks at which content waited for the transfer's own cap.
    own_waits: f64,
}

impl Look {
    /// Says what the session does and takes what others leave. `moved` counts all bytes so far; `waits`
    /// says for what that waits which is sent here.
    pub(super) fn again(&mut self, moved: u64, waits: Waits) {
        let Share { shares, priority, limit } = &self.share;
        let now = now_ns();
        let bytes = moved.saturating_sub(std::mem::replace(&mut self.moved, moved));
        let passed_ns = now.saturating_sub(std::mem::replace(&mut self.at_ns, now)).max(1);
        self.bytes_per_s += 0.2 * (bytes as f64 * 1e9 / passed_ns as f64 - self.bytes_per_s);
        let own = f64::from(u8::from(waits == Waits::OwnCap));
        self.own_waits += OWN_WEIGHT * (own - self.own_waits);
        if bytes >= MOVED_BYTES_MIN {
            let near = |cap: Rate| self.bytes_per_s > OWN_CAP * cap.bytes_per_s() as f64;
            let full = match self.direction {
                // What is received is as fast as its source and the link let it, but for its own cap.
                Direction::In => !limit.is_some_and(near),
                Direction::Out => waits == Waits::Network && self.own_waits < OWN_WAITS,
            };
            shares.say(*priority, self.direction, full);
        }
        shares.adapt(*priority, self.direction);
    }
}

#[cfg(test)]
mod tests;
