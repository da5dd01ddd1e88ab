//! How much is left: a rate that falls fast and rises slowly.

use crate::base::Rate;

/// The least that transfers of a lower priority move, so that their sessions live: half a megabit
/// per second.
const LEAST_BYTES_PER_S: f64 = 65_536.0;
/// Time from one step to the next, in nanoseconds.
const STEP_NS: u64 = 200_000_000;
/// What a step up and a step down multiply the rate by: a thousand times as much takes four seconds,
/// and a half is given back at once.
const UP: f64 = 1.4;
const DOWN: f64 = 0.5;
/// A rate that nothing here can reach, 400 Gb/s: it rises no further.
const MOST_BYTES_PER_S: f64 = 5e10;

/// What is seen of transfers that come first, and of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Content of theirs moves.
    pub(super) moves: bool,
    /// It has no room.
    pub(super) full: bool,
    /// Processors are short.
    pub(super) busy: bool,
}

/// What is left of a link and of processors.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// `None` while nothing has to be left to others.
    bytes_per_s: Option<f64>,
    stepped_ns: u64,
}

impl Left {
    pub(super) fn rate(&self) -> Option<Rate> {
        self.bytes_per_s.and_then(|rate| Rate::from_bytes_per_s(rate as u64))
    }

    /// Takes in what is seen at a time of the monotonic clock.
    pub(super) fn step(&mut self, now_ns: u64, seen: Seen) {
        if !seen.moves {
            self.bytes_per_s = None;
            return;
        }
        let Some(rate) = self.bytes_per_s else {
            // Whoever comes first has everything, until it is known what it does not need.
            (self.bytes_per_s, self.stepped_ns) = (Some(LEAST_BYTES_PER_S), now_ns);
            return;
        };
        if now_ns.saturating_sub(self.stepped_ns) < STEP_NS {
            return;
        }
        self.stepped_ns = now_ns;
        let change = if seen.full || seen.busy { DOWN } else { UP };
        self.bytes_per_s = Some((rate * change).clamp(LEAST_BYTES_PER_S, MOST_BYTES_PER_S));
    }
}
