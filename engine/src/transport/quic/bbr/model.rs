//! The model of the path: its bandwidth, its round trip, and how acknowledgements gather on it.
//!
//! Source: draft-ietf-ccwg-bbr, "Updating Network Path Model Parameters" (section 5.5).

use std::time::{Duration, Instant};

/// Rounds in one half of the window in which the most data acknowledged at once is kept; the
/// whole window is 10 rounds (`BBR.ExtraAckedFilterLen`).
const EXTRA_ACKED_HALF_ROUNDS: u64 = 5;
/// How long the shortest round trip is believed (`BBR.MinRTTFilterLen`).
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);
/// How often an empty queue has to be seen (`BBR.ProbeRTTInterval`).
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);

/// Most bandwidth seen in this cycle of probing and in the one before, in bytes per second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MaxBandwidth {
    before: f64,
    current: f64,
}

impl MaxBandwidth {
    pub(super) fn get(&self) -> f64 {
        self.before.max(self.current)
    }

    pub(super) fn update(&mut self, rate: f64) {
        self.current = self.current.max(rate);
    }

    /// A cycle ends. One without a sample is none, so that nothing is forgotten for silence.
    pub(super) fn advance(&mut self) {
        if self.current > 0.0 {
            self.before = self.current;
            self.current = 0.0;
        }
    }
}

/// The shortest round trip lately, and when the next look at an empty queue is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct MinRtt {
    shortest: Option<Duration>,
    seen_at: Instant,
    /// The shortest one since the last look at an empty queue.
    probed: Option<Duration>,
    probed_at: Instant,
    probe_due: bool,
}

impl MinRtt {
    pub(super) fn new(now: Instant) -> Self {
        Self { shortest: None, seen_at: now, probed: None, probed_at: now, probe_due: false }
    }

    /// The shortest round trip; zero before the first one.
    pub(super) fn get(&self) -> Duration {
        self.shortest.unwrap_or_default()
    }

    pub(super) fn is_known(&self) -> bool {
        self.shortest.is_some()
    }

    pub(super) fn is_probe_due(&self) -> bool {
        self.probe_due
    }

    pub(super) fn update(&mut self, now: Instant, rtt: Duration) {
        self.probe_due = now.saturating_duration_since(self.probed_at) > PROBE_RTT_INTERVAL;
        if self.probe_due || self.probed.is_none_or(|least| rtt < least) {
            self.probed = Some(rtt);
            self.probed_at = now;
        }
        let expired = now.saturating_duration_since(self.seen_at) > MIN_RTT_WINDOW;
        if expired || self.shortest.is_none_or(|least| self.probed.is_some_and(|p| p < least)) {
            self.shortest = self.probed;
            self.seen_at = self.probed_at;
        }
    }

    /// The queue was empty until now, as far as this flow can tell.
    pub(super) fn on_probed(&mut self, now: Instant) {
        self.probed_at = now;
    }
}

/// The most data acknowledged beyond what the bandwidth explains, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExtraAcked {
    since: Instant,
    acked: u64,
    halves: [u64; 2],
    half_ends_at: u64,
}

impl ExtraAcked {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, acked: 0, halves: [0; 2], half_ends_at: 0 }
    }

    pub(super) fn get(&self) -> u64 {
        self.halves[0].max(self.halves[1])
    }

    /// Begins anew after silence.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
        self.acked = 0;
    }

    /// `acked` bytes were acknowledged in round `round`, at a bandwidth of `bw` bytes per second.
    /// In start-up only the last round counts. No more than `most` is believed.
    pub(super) fn update(
        &mut self,
        now: Instant,
        acked: u64,
        bw: f64,
        round: u64,
        startup: bool,
        most: u64,
    ) {
        if round >= self.half_ends_at {
            self.half_ends_at = round + if startup { 1 } else { EXTRA_ACKED_HALF_ROUNDS };
            self.halves = [if startup { 0 } else { self.halves[1] }, 0];
        }
        let expected =
            |since: Instant| (bw * now.saturating_duration_since(since).as_secs_f64()) as u64;
        if self.acked <= expected(self.since) {
            self.restart(now);
        }
        self.acked += acked;
        let extra = self.acked.saturating_sub(expected(self.since)).min(most);
        self.halves[1] = self.halves[1].max(extra);
    }
}

/// Mean time from sending a byte to its acknowledgement, lately, in seconds.
///
/// By Little's law the bytes in flight are the rate times this time, whatever it consists of: the
/// path, its queue, and acknowledgements that wait for each other. So a bound on what is in flight
/// is a bound on the rate.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sojourn {
    mean: f64,
}

impl Sojourn {
    pub(super) fn get(self) -> f64 {
        self.mean
    }

    /// `acked` bytes took `mean` seconds on average, and a round trip carries `flight` bytes.
    /// The weight of the past falls to 1/e over a quarter of a round trip.
    pub(super) fn update(&mut self, mean: f64, acked: u64, flight: u64) {
        if self.mean == 0.0 {
            self.mean = mean;
            return;
        }
        let weight = (4.0 * acked as f64 / flight.max(1) as f64).min(1.0);
        self.mean += (mean - self.mean) * weight;
    }
}

/// Looks for a plateau of the delivery rate while the sender accelerates ("full pipe" in the
/// draft, "Exiting Acceleration Based on Bandwidth Plateau").
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FullPipe {
    base: f64,
    rounds: u32,
    /// The pipe is full, as far as this acceleration can tell.
    pub(super) now: bool,
    /// It was full at least once.
    pub(super) ever: bool,
}

impl FullPipe {
    /// Growth of the rate in a round that shows that the pipe was not full.
    const GROWTH: f64 = 1.25;
    /// Rounds without growth that show that it is.
    const ROUNDS: u32 = 3;

    /// A new acceleration begins at `rate` bytes per second.
    pub(super) fn reset(&mut self, rate: f64) {
        *self = Self { base: rate, ever: self.ever, ..Self::default() };
    }

    /// A round ended, and its last sample was `rate`.
    pub(super) fn update(&mut self, rate: f64) {
        if self.now {
            return;
        }
        if rate >= self.base * Self::GROWTH {
            self.reset(rate);
            return;
        }
        self.rounds += 1;
        self.now = self.rounds >= Self::ROUNDS;
        self.ever |= self.now;
    }
}
