//! BBR version 3: a model of the path says how much to send.
//!
//! Source: draft-ietf-ccwg-bbr (the successor of draft-cardwell-iccrg-bbr-congestion-control-02),
//! "BBR Congestion Control". Sections are named here by their headings, which stay while their
//! numbers move. What differs is said where it does.
//!
//! # Pacing without a pacing rate
//!
//! The draft controls a pacing rate and a window. quinn asks a [`Controller`] for a window alone,
//! which bounds what is in flight, and paces at 1.25 times the window per round trip, which
//! smooths bursts and bounds nothing. So the rate is bounded by what is in flight: by Little's law
//! a flow that keeps `rate * sojourn` bytes in flight sends at `rate`, where `sojourn` is the mean
//! time from sending a byte to its acknowledgement, and is measured. The window is therefore the
//! lesser of the draft's window and `pacing_gain * bandwidth * sojourn`. It acts as the pacing rate
//! does: at a gain of 1.25 the queue grows by a quarter of what is in flight with each round trip,
//! at 0.9 it shrinks by a tenth, and it is indifferent at 1.

mod bounds;
mod delivery;
mod model;
mod phase;
#[cfg(test)]
mod tests;
mod window;

use std::any::Any;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};

use bounds::{Bounds, LossRound, UNBOUNDED};
use delivery::{Delivery, Sample};
use model::{ExtraAcked, FullPipe, MaxBandwidth, MinRtt, Sojourn};
use phase::{Feedback, Phase};
use window::FastStart;

use super::past::Past;

/// Packets in the first flight: what QUIC servers of Google use, where RFC 9002 (section 7.2)
/// recommends 10 and quinn's own BBR sends 200.
const INITIAL_WINDOW_PACKETS: u64 = 100;
/// Size of a packet before more is known of the path, in bytes (RFC 9000, section 14).
const INITIAL_PACKET_BYTES: u64 = 1200;
/// The first flight, in bytes.
const FIRST_FLIGHT: u64 = INITIAL_WINDOW_PACKETS * INITIAL_PACKET_BYTES;
/// Least window, in packets (`BBR.MinPipeCwnd`).
const WINDOW_MIN_PACKETS: u64 = 4;
/// What is sent is this share of the bandwidth, so that a queue shrinks on average
/// (`BBR.PacingMarginPercent`).
const PACING_MARGIN: f64 = 0.99;
/// A queue stands where no packet of a round was faster than this times the shortest round trip.
const STANDING_QUEUE: f64 = 1.25;

/// Builds [`Bbr`] controllers.
#[derive(Debug, Default)]
pub(super) struct BbrConfig {
    /// The path as it was before.
    pub(super) past: Option<Past>,
}

impl ControllerFactory for BbrConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        // Flows that probe at different times find their shares sooner.
        let seed = RandomState::new().build_hasher().finish();
        Box::new(Bbr::new(now, current_mtu, seed).after(self.past))
    }
}

/// The congestion control of one path.
#[derive(Debug, Clone)]
pub(super) struct Bbr {
    mtu: u64,
    delivery: Delivery,
    max_bw: MaxBandwidth,
    min_rtt: MinRtt,
    extra_acked: ExtraAcked,
    sojourn: Sojourn,
    full_pipe: FullPipe,
    fast_start: FastStart,
    bounds: Bounds,
    phase: Phase,
    /// The window of the draft, in bytes.
    cwnd: u64,
    /// What it was before it was cut for a look at an empty queue.
    cwnd_before: u64,
    /// In this round what was in flight reached the window.
    cwnd_limited: bool,
    /// Rounds that ended, and how much will have been delivered when the present one does.
    rounds: u64,
    round_ends_at: u64,
    round_started: bool,
    /// Nothing was in flight when the application had something to send again.
    idle_restart: bool,
    /// When the present cycle of probing began, and how long it waits before it probes.
    cycle_began: Instant,
    probe_wait: Duration,
    rounds_since_probe: u64,
    feedback: Feedback,
    /// What is acknowledged was sent while probing, and no loss was answered yet in this probe.
    probe_sample: bool,
    /// The last probe lost too much.
    probe_too_high: bool,
    /// The last probe was ended before it could lose anything.
    probe_precautionary: bool,
    /// Rounds in which the long-term bound grew, and the bytes acknowledged since it last did, of
    /// those that make it grow by a packet.
    probe_up_rounds: u32,
    probe_up_acked: u64,
    probe_up_step: u64,
    /// Time in flight when the probe began, in seconds.
    probe_up_sojourn: f64,
    /// The round in which the queue of the start began to be drained.
    drain_began: u64,
    /// Since when the queue is kept empty, and whether a whole round passed since.
    empty_since: Option<Instant>,
    empty_round_done: bool,
    /// State of the random numbers.
    dice: u64,
    /// The path as an earlier flow found it, until the first round trip is known.
    past: Option<Past>,
}

impl Bbr {
    /// A controller of a path whose packets have `mtu` bytes; `seed` spreads its probes in time.
    pub(super) fn new(now: Instant, mtu: u16, seed: u64) -> Self {
        Self {
            mtu: mtu.into(),
            delivery: Delivery::new(now),
            max_bw: MaxBandwidth::default(),
            min_rtt: MinRtt::new(now),
            extra_acked: ExtraAcked::new(now),
            sojourn: Sojourn::default(),
            full_pipe: FullPipe::default(),
            fast_start: FastStart::new(),
            bounds: Bounds::new(),
            phase: Phase::Startup,
            cwnd: FIRST_FLIGHT,
            cwnd_before: 0,
            cwnd_limited: false,
            rounds: 0,
            round_ends_at: 0,
            round_started: false,
            idle_restart: false,
            cycle_began: now,
            probe_wait: Duration::ZERO,
            rounds_since_probe: 0,
            feedback: Feedback::None,
            probe_sample: false,
            probe_too_high: false,
            probe_precautionary: false,
            probe_up_rounds: 0,
            probe_up_acked: 0,
            probe_up_sojourn: 0.0,
            probe_up_step: UNBOUNDED,
            drain_began: 0,
            empty_since: None,
            empty_round_done: false,
            dice: seed,
            past: None,
        }
    }

    /// The same with what an earlier flow found.
    pub(super) fn after(mut self, past: Option<Past>) -> Self {
        self.past = past;
        self
    }

    /// The path as this flow found it, once it did.
    pub(super) fn found(&self) -> Option<Past> {
        let bandwidth = self.max_bw.get() as u64;
        (self.full_pipe.ever && bandwidth > 0).then(|| Past { bandwidth, rtt: self.min_rtt.get() })
    }

    /// Takes up where an earlier flow was, if this is its path and nothing was lost so far.
    fn resume(&mut self) {
        let Some(past) = self.past.take().filter(|_| self.delivery.lost == 0) else { return };
        if let Some(flight) = past.flight(self.min_rtt.get()) {
            self.cwnd = self.cwnd.max(flight);
        }
    }

    fn window_min(&self) -> u64 {
        WINDOW_MIN_PACKETS * self.mtu
    }

    /// The bandwidth that is used, in bytes per second.
    fn bw(&self) -> f64 {
        self.max_bw.get().min(self.bounds.bw_short_term)
    }

    /// `gain` times what the path holds at bandwidth `bw`, in bytes.
    fn flight(&self, bw: f64, gain: f64) -> u64 {
        if !self.min_rtt.is_known() || bw == 0.0 {
            return FIRST_FLIGHT;
        }
        let flight = (gain * bw * self.min_rtt.get().as_secs_f64()) as u64;
        flight.max(self.window_min())
    }

    /// A random number below `n`: the high bits of a linear congruential generator (Knuth's MMIX).
    fn roll(&mut self, n: u64) -> u64 {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % n
    }

    fn on_burst(&mut self, now: Instant, bytes: u64) {
        let idle = self.delivery.in_flight == 0 && self.delivery.is_app_limited();
        if !self.delivery.on_sent(now, bytes) {
            return;
        }
        if idle {
            self.idle_restart = true;
            self.extra_acked.restart(now);
            if self.phase == Phase::ProbeRtt {
                self.leave_probe_rtt_if_done(now);
            }
        }
        // quinn stops a packet before the window.
        self.cwnd_limited |= self.delivery.in_flight + 2 * self.mtu >= self.cwnd;
    }

    /// `UpdateOnACK` of the draft ("Per-ACK Steps").
    fn on_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        let Some(sample) = self.delivery.on_end_acks(in_flight, self.min_rtt.get()) else { return };
        if app_limited {
            self.delivery.mark_app_limited();
        }
        self.update_model(now, &sample);
        self.step(now, &sample);
        self.bounds.on_end_ack(&sample);
        self.set_window(sample.acked);
        if self.past.is_some() && self.min_rtt.is_known() {
            self.resume();
        }
    }

    fn update_model(&mut self, now: Instant, sample: &Sample) {
        let loss_round = self.bounds.on_ack(&self.delivery, sample, self.mtu);
        self.round_started = sample.prior_delivered >= self.round_ends_at;
        if self.round_started {
            self.start_round();
            self.rounds += 1;
            self.rounds_since_probe += 1;
        }
        if sample.rate > 0.0 && (sample.rate >= self.max_bw.get() || !sample.app_limited) {
            self.max_bw.update(sample.rate);
        }
        if let Some(round) = loss_round {
            self.on_loss_round(round);
        }
        let flight = self.flight(self.bw(), 1.0);
        self.sojourn.update(sample.sojourn, sample.acked, flight);
        let startup = !self.full_pipe.ever;
        let (bw, rounds, most) = (self.bw(), self.rounds, self.cwnd);
        self.extra_acked.update(now, sample.acked, bw, rounds, startup, most);
        if self.round_started && !sample.app_limited && sample.rate > 0.0 {
            self.full_pipe.update(sample.rate);
        }
        self.min_rtt.update(now, sample.rtt);
        self.feel_queue(sample);
    }

    fn start_round(&mut self) {
        self.round_ends_at = self.delivery.delivered;
    }

    fn on_loss_round(&mut self, round: LossRound) {
        let queue = round.rtt > self.min_rtt.get().mul_f64(STANDING_QUEUE);
        match self.phase {
            Phase::Startup if round.congested => self.leave_startup_on_loss(round),
            Phase::Startup | Phase::Refill | Phase::Up => {}
            _ if !round.congested && (round.losses == 0 || !queue) => {}
            _ => self.bounds.cut_short_term(self.max_bw.get(), self.cwnd),
        }
    }

    /// "Updating the Model Upon Packet Loss" and `HandleLostPacket`: `bytes` were lost, the last of
    /// them sent at `sent`; zero bytes are a mark of congestion by a router.
    fn on_loss(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.delivery.on_lost(bytes);
        self.bounds.on_loss(&self.delivery, bytes);
        if !self.probe_sample && !self.fast_start.on {
            return;
        }
        let Some(burst) = self.delivery.burst(sent) else { return };
        let lost = self.delivery.lost - burst.lost;
        self.feel_loss(lost, burst.in_flight);
        if !self.probe_sample {
            return;
        }
        if bytes == 0 || bounds::is_too_high(lost, burst.in_flight, self.mtu) {
            let fitted = bounds::flight_that_fitted(burst.in_flight, lost, bytes);
            self.on_probe_too_high(now, fitted, burst.app_limited);
        }
    }
}

impl Controller for Bbr {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.on_burst(now, bytes);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        _app_limited: bool,
        _rtt: &RttEstimator,
    ) {
        self.delivery.on_ack(now, sent, bytes);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        _largest_packet_num_acked: Option<u64>,
    ) {
        self.on_acks(now, in_flight, app_limited);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.on_loss(now, sent, lost_bytes);
        if is_persistent_congestion {
            self.cwnd = self.window_min();
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        self.cwnd = self.cwnd.max(self.window_min());
    }

    fn window(&self) -> u64 {
        self.window_now()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics.pacing_rate = Some((self.pacing_rate() * 8.0) as u64);
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        FIRST_FLIGHT
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
