//! The phases of a flow: find the rate, probe for more, give way, cruise.
//!
//! ```text
//!   Startup --plateau or loss--> Drain --empty queue--> Down
//!                                                        |  empty queue
//!      Down <--plateau or loss-- Up <--1 round-- Refill <--2 to 3 s-- Cruise
//!   any --no empty queue for 5 s--> ProbeRtt --200 ms--> Cruise (Startup, if not done with it)
//! ```
//!
//! Source: draft-ietf-ccwg-bbr, "State Machine Operation" (section 5.3). The gains are those of
//! "Summary of Control Behavior in the State Machine".

use std::time::{Duration, Instant};

use super::Bbr;
use super::bounds::{self, LossRound, UNBOUNDED};
use super::delivery::Sample;

/// How long the queue is kept empty (`BBR.ProbeRTTDuration`).
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);
/// Rounds after which an empty queue is no longer waited for ("Drain").
const DRAIN_ROUNDS_MAX: u64 = 3;
/// Times that losses have to be found in a round before they end start-up
/// (`BBR.StartupFullLossCnt`).
const STARTUP_LOSSES_MIN: u32 = 6;
/// Rounds after which a flow probes at the latest, which is how often Reno would fill a path
/// of as many packets ("A Dual-Time-Scale Approach for Coexistence").
const RENO_ROUNDS_MAX: u64 = 63;

/// A probe that adds this part of the shortest round trip to the time in flight fills the path.
const PROBE_SEEN: f64 = 0.125;

/// What the flow is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Doubles the rate with each round.
    Startup,
    /// Lets the queue of the start run empty.
    Drain,
    /// Sends less than the path carries, so that the queue shrinks and others find room.
    Down,
    /// Sends what the path carries.
    Cruise,
    /// Fills the path, before it is overfilled.
    Refill,
    /// Sends more than the path is known to carry.
    Up,
    /// Holds back, so that the queue runs empty and the round trip shows itself.
    ProbeRtt,
}

impl Phase {
    pub(super) fn pacing_gain(self) -> f64 {
        match self {
            Self::Startup => 2.77,
            Self::Drain => 0.5,
            Self::Down => 0.9,
            Self::Cruise | Self::Refill | Self::ProbeRtt => 1.0,
            Self::Up => 1.25,
        }
    }

    pub(super) fn window_gain(self) -> f64 {
        match self {
            Self::Startup | Self::Drain | Self::Down | Self::Cruise | Self::Refill => 2.0,
            Self::Up => 2.25,
            Self::ProbeRtt => 0.5,
        }
    }

    fn is_probe_bw(self) -> bool {
        matches!(self, Self::Down | Self::Cruise | Self::Refill | Self::Up)
    }
}

/// Which phase what is acknowledged now was sent in (`BBR.ack_phase`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feedback {
    None,
    Refilling,
    ProbeStarting,
    Probe,
    ProbeStopping,
}

impl Bbr {
    /// Advances the state machine by one acknowledgement.
    pub(super) fn step(&mut self, now: Instant, sample: &Sample) {
        if self.phase == Phase::Startup && self.full_pipe.ever {
            self.enter_drain();
        }
        if self.phase == Phase::Drain
            && (self.delivery.in_flight <= self.flight(self.bw(), 1.0)
                || self.rounds > self.drain_began + DRAIN_ROUNDS_MAX)
        {
            self.enter_down(now);
        }
        self.step_cycle(now, sample);
        self.check_probe_rtt(now);
        if self.round_started {
            self.cwnd_limited = false;
        }
    }

    fn enter_drain(&mut self) {
        self.phase = Phase::Drain;
        self.drain_began = self.rounds;
    }

    /// `CheckStartupHighLoss`. A round of losses begins with its first one, so that the flow lost
    /// packets for a whole round when this is asked.
    pub(super) fn leave_startup_on_loss(&mut self, round: LossRound) {
        if round.losses >= STARTUP_LOSSES_MIN || round.marked {
            self.full_pipe.ever = true;
            let flight = self.flight(self.bw(), 1.0);
            self.bounds.long_term = flight.max(self.bounds.inflight_latest);
        }
    }

    fn enter_down(&mut self, now: Instant) {
        self.bounds.reset_round();
        self.probe_up_step = UNBOUNDED;
        self.rounds_since_probe = self.roll(2);
        self.probe_wait = Duration::from_millis(2000 + self.roll(1000));
        self.cycle_began = now;
        self.feedback = Feedback::ProbeStopping;
        self.start_round();
        self.phase = Phase::Down;
    }

    fn enter_refill(&mut self) {
        self.bounds.reset_short_term();
        self.probe_up_rounds = 0;
        self.probe_up_acked = 0;
        self.probe_precautionary = false;
        self.feedback = Feedback::Refilling;
        self.start_round();
        self.phase = Phase::Refill;
    }

    fn enter_up(&mut self, rate: f64) {
        self.probe_sample = true;
        self.feedback = Feedback::ProbeStarting;
        self.start_round();
        self.full_pipe.reset(rate);
        self.phase = Phase::Up;
        self.probe_up_sojourn = self.sojourn.get();
        self.raise_slope();
    }

    /// `UpdateProbeBWCyclePhase`.
    fn step_cycle(&mut self, now: Instant, sample: &Sample) {
        if !self.full_pipe.ever || self.adapt_long_term(sample) {
            return;
        }
        let phase = self.phase;
        match phase {
            Phase::Down | Phase::Cruise if self.is_time_to_probe(now) => self.enter_refill(),
            Phase::Down if self.is_time_to_cruise() => self.phase = Phase::Cruise,
            Phase::Refill if self.round_started => self.enter_up(sample.rate),
            Phase::Up if self.is_time_to_go_down(sample) => {
                self.probe_too_high = false;
                self.enter_down(now);
            }
            _ => {}
        }
    }

    fn is_time_to_probe(&self, now: Instant) -> bool {
        let reno = self.flight(self.bw(), 1.0).min(self.cwnd) / self.mtu.max(1);
        now.saturating_duration_since(self.cycle_began) > self.probe_wait
            || self.rounds_since_probe >= reno.min(RENO_ROUNDS_MAX)
    }

    fn is_time_to_cruise(&self) -> bool {
        let room = self.bounds.with_headroom(self.mtu, self.window_min());
        self.delivery.in_flight <= room.min(self.flight(self.max_bw.get(), 1.0))
    }

    /// `IsTimeToGoDown`, and earlier where the probe can be seen in the time in flight.
    ///
    /// The draft ends a probe at a plateau of three rounds, by when a flow that is alone has
    /// doubled what is in flight; a buffer of one bandwidth-delay product overflows, and CUBIC
    /// beside it is left an eighth of the link. The version before
    /// (draft-cardwell-iccrg-bbr-congestion-control-02) ends it once 1.25 times the product is in
    /// flight, which is fair to CUBIC, but small flows beside a large one do not grow. Here a flow
    /// ends it when its own probe made the queue: one that has most of the link sees that within a
    /// round, and a small one probes to the plateau.
    fn is_time_to_go_down(&mut self, sample: &Sample) -> bool {
        if self.probe_too_high && self.delivery.in_flight >= self.bounds.long_term {
            self.probe_precautionary = true;
            return true;
        }
        if self.cwnd_limited && self.cwnd >= self.bounds.long_term {
            self.full_pipe.reset(sample.rate);
            return false;
        }
        let added = self.sojourn.get() - self.probe_up_sojourn;
        let seen = added > PROBE_SEEN * self.min_rtt.get().as_secs_f64();
        self.full_pipe.now || (seen && self.feedback == Feedback::Probe)
    }

    /// `AdaptLongTermModel`. Answers whether it decided the phase.
    fn adapt_long_term(&mut self, sample: &Sample) -> bool {
        if self.round_started {
            match self.feedback {
                Feedback::ProbeStarting => self.feedback = Feedback::Probe,
                Feedback::ProbeStopping => {
                    self.probe_sample = false;
                    self.feedback = Feedback::None;
                    if self.phase.is_probe_bw() && !sample.app_limited {
                        self.max_bw.advance();
                    }
                    if self.phase.is_probe_bw() && self.probe_precautionary && !self.probe_too_high
                    {
                        self.enter_refill();
                        return true;
                    }
                }
                _ => {}
            }
        }
        if self.bounds.long_term != UNBOUNDED
            && !bounds::is_too_high(sample.lost, sample.in_flight_at_send, self.mtu)
        {
            self.bounds.long_term = self.bounds.long_term.max(sample.in_flight_at_send);
            if self.phase == Phase::Up {
                self.raise_long_term(sample.acked);
            }
        }
        false
    }

    /// `RaiseInflightLongtermSlope`: the bound grows by 1, 2, 4 and so on packets a round.
    fn raise_slope(&mut self) {
        let growth = 1 << self.probe_up_rounds;
        self.probe_up_rounds = (self.probe_up_rounds + 1).min(30);
        self.probe_up_step = (self.cwnd / growth).max(self.mtu);
    }

    /// `ProbeInflightLongtermUpward`.
    fn raise_long_term(&mut self, acked: u64) {
        if !self.cwnd_limited || self.cwnd < self.bounds.long_term {
            return;
        }
        self.probe_up_acked += acked;
        let steps = self.probe_up_acked / self.probe_up_step;
        self.probe_up_acked -= steps * self.probe_up_step;
        self.bounds.long_term += steps * self.mtu;
        if self.round_started {
            self.raise_slope();
        }
    }

    /// `HandleInflightTooHigh`: a probe lost too much, and `fitted` bytes in flight did not.
    pub(super) fn on_probe_too_high(&mut self, now: Instant, fitted: u64, app_limited: bool) {
        self.probe_too_high = true;
        self.probe_sample = false;
        if !app_limited {
            let least = self.flight(self.bw(), 1.0).min(self.cwnd) as f64 * bounds::BETA;
            self.bounds.long_term = fitted.max(least as u64);
        }
        if self.phase == Phase::Up {
            self.enter_down(now);
        }
    }

    /// `CheckProbeRTT`.
    fn check_probe_rtt(&mut self, now: Instant) {
        if self.phase != Phase::ProbeRtt && self.min_rtt.is_probe_due() && !self.idle_restart {
            self.phase = Phase::ProbeRtt;
            self.cwnd_before = self.cwnd;
            self.empty_since = None;
            self.feedback = Feedback::ProbeStopping;
            self.start_round();
        }
        if self.phase == Phase::ProbeRtt {
            // What is delivered now says nothing about the bandwidth.
            self.delivery.mark_app_limited();
            if self.empty_since.is_some() {
                self.empty_round_done |= self.round_started;
                self.leave_probe_rtt_if_done(now);
            } else if self.delivery.in_flight <= self.probe_rtt_window() {
                self.empty_since = Some(now);
                self.empty_round_done = false;
                self.start_round();
            }
        }
        self.idle_restart = false;
    }

    pub(super) fn probe_rtt_window(&self) -> u64 {
        self.flight(self.bw(), Phase::ProbeRtt.window_gain())
    }

    /// `CheckProbeRTTDone` and `ExitProbeRTT`.
    pub(super) fn leave_probe_rtt_if_done(&mut self, now: Instant) {
        let Some(since) = self.empty_since else { return };
        let idle = self.delivery.in_flight == 0;
        if now.saturating_duration_since(since) <= PROBE_RTT_DURATION
            || !(self.empty_round_done || idle)
        {
            return;
        }
        self.min_rtt.on_probed(now);
        self.cwnd = self.cwnd.max(self.cwnd_before);
        self.bounds.reset_short_term();
        if self.full_pipe.ever {
            self.enter_down(now);
            self.phase = Phase::Cruise;
        } else {
            self.phase = Phase::Startup;
        }
    }
}
