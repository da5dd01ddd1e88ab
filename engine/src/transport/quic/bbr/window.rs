//! What may be in flight: the window of the draft, what makes the rate right, and the start.
//!
//! # The start
//!
//! The draft doubles what is in flight with each round trip of start-up. Here it grows faster while
//! nothing shows that the path fills: each acknowledgement opens the window by twice what it is
//! about, which makes it grow 2.6 times in a round trip, as paced by quinn. The first acknowledgements
//! that tell of a queue or of too many losses end that for good: the window falls to what the draft
//! would have for what is known, and the flow goes on as in the draft.

use std::time::Duration;

use super::bounds::{self, UNBOUNDED};
use super::delivery::Sample;
use super::phase::Phase;
use super::{Bbr, FIRST_FLIGHT, PACING_MARGIN};

/// By how many times what is acknowledged a fast start opens the window.
const FAST_GROWTH: u64 = 2;
/// How far the window may lead what is known of the path in a fast start: what 2.6 times in a round
/// trip needs, since what is known is a round trip old, and quinn keeps 0.76 windows in flight then.
const FAST_WINDOW_GAIN: f64 = 3.5;
/// Acknowledgements in a row that have to tell of a queue (`N_RTT_SAMPLE` of `HyStart++`, RFC 9406).
const LATE_ACKS: u32 = 8;
/// A queue that is told of adds this part of the shortest round trip, and so much at least and at
/// most. `HyStart++` has an eighth and 4 ms; what grows faster has to see a shorter queue, since it
/// has outgrown the path by more when the news is there. A queue that is not there costs no more
/// than the fast start.
const LATE_PART: u32 = 32;
const LATE_MIN: Duration = Duration::from_millis(2);
const LATE_MAX: Duration = Duration::from_millis(16);

/// A start while nothing shows that the path fills.
#[derive(Debug, Clone, Copy)]
pub(super) struct FastStart {
    pub(super) on: bool,
    /// Acknowledgements in a row that told of a queue.
    late: u32,
}

impl FastStart {
    pub(super) fn new() -> Self {
        Self { on: true, late: 0 }
    }

    /// Whether this acknowledgement, of packets that took `rtt`, ends it.
    pub(super) fn ends(&mut self, rtt: Duration, shortest: Duration) -> bool {
        let queue = (shortest / LATE_PART).clamp(LATE_MIN, LATE_MAX);
        self.late = if rtt > shortest + queue { self.late + 1 } else { 0 };
        self.on && self.late >= LATE_ACKS
    }
}

impl Bbr {
    /// Looks whether an acknowledgement tells of a queue.
    pub(super) fn feel_queue(&mut self, sample: &Sample) {
        if self.fast_start.on && self.fast_start.ends(sample.rtt, self.min_rtt.get()) {
            self.end_fast_start();
        }
    }

    /// Looks whether `lost` bytes of a flight are too many for a fast start.
    pub(super) fn feel_loss(&mut self, lost: u64, flight: u64) {
        if self.fast_start.on && bounds::is_too_high(lost, flight, self.mtu) {
            self.end_fast_start();
        }
    }

    fn end_fast_start(&mut self) {
        self.fast_start.on = false;
        let known = self.flight(self.bw(), Phase::Startup.window_gain());
        self.cwnd = self.cwnd.min(known).max(FIRST_FLIGHT);
    }

    /// "cwnd Adjustment Mechanism": towards what the model allows, by no more than was
    /// acknowledged, or twice that in a fast start.
    pub(super) fn set_window(&mut self, acked: u64) {
        let fast = self.fast_start.on && self.phase == Phase::Startup;
        let gain = if fast { FAST_WINDOW_GAIN } else { self.phase.window_gain() };
        let target = self.flight(self.bw(), gain) + self.extra_acked.get();
        if self.full_pipe.ever {
            self.cwnd = (self.cwnd + acked).min(target);
        } else if self.cwnd < target || self.delivery.delivered < FIRST_FLIGHT {
            self.cwnd += if fast { FAST_GROWTH * acked } else { acked };
        }
        let least = self.window_min();
        let most = match self.phase {
            Phase::Startup | Phase::Drain => UNBOUNDED,
            Phase::Down | Phase::Refill | Phase::Up => self.bounds.long_term,
            Phase::Cruise => self.bounds.with_headroom(self.mtu, least),
            Phase::ProbeRtt => {
                self.bounds.with_headroom(self.mtu, least).min(self.probe_rtt_window())
            }
        };
        self.cwnd = self.cwnd.min(most.min(self.bounds.short_term)).max(least);
    }

    /// What may be in flight, in bytes: the window, and what makes the rate right.
    pub(super) fn window_now(&self) -> u64 {
        if self.phase == Phase::Startup {
            return self.cwnd;
        }
        let paced = self.pacing_rate() * self.sojourn.get();
        // quinn stops a packet before the window.
        let paced = paced as u64 + 2 * self.mtu;
        self.cwnd.min(paced).max(self.window_min())
    }

    /// Bytes per second.
    pub(super) fn pacing_rate(&self) -> f64 {
        self.phase.pacing_gain() * PACING_MARGIN * self.bw()
    }
}
