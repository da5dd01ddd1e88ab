//! What losses tell of the path: bounds on the rate and on what is in flight.
//!
//! Source: draft-ietf-ccwg-bbr, "Updating the Model Upon Packet Loss" (section 5.5.10).

use std::time::Duration;

use super::delivery::{Delivery, Sample};

/// Share of a flight whose loss says that the flight was too large (`BBR.LossThresh`).
const LOSS_THRESHOLD: f64 = 0.02;
/// What is left of a bound when it is cut (`BBR.Beta`).
pub(super) const BETA: f64 = 0.7;
/// Share of the long-term bound that is left to others (`BBR.Headroom`).
const HEADROOM: f64 = 0.15;
/// No bound.
pub(super) const UNBOUNDED: u64 = u64::MAX;

/// Whether losing `lost` of `flight` bytes, in packets of `mtu` bytes, is more than the threshold.
///
/// The draft compares the share alone. A share of few packets says little: where 1 % is lost at
/// random, each 25th flight of 250 packets loses more than 2 % of them. So it has to be more than
/// what a rate of loss at the threshold gives by chance, by two standard deviations of a Poisson
/// distribution.
pub(super) fn is_too_high(lost: u64, flight: u64, mtu: u64) -> bool {
    let mtu = mtu.max(1) as f64;
    let at_threshold = LOSS_THRESHOLD * flight as f64 / mtu;
    lost as f64 / mtu > at_threshold + 2.0 * at_threshold.sqrt()
}

/// How much of a flight of `flight` bytes fitted into the path, when `lost` bytes since and the
/// `last` ones among them carried the loss over the threshold (`InflightAtLoss` in the draft).
pub(super) fn flight_that_fitted(flight: u64, lost: u64, last: u64) -> u64 {
    let before = flight.saturating_sub(last) as f64;
    let lost_before = lost.saturating_sub(last) as f64;
    let prefix = (LOSS_THRESHOLD * before - lost_before) / (1.0 - LOSS_THRESHOLD);
    (before + prefix.max(0.0)) as u64
}

/// The bounds, and the round trips in which losses are counted.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// Most bytes in flight that were carried without too much loss; [`UNBOUNDED`] before any.
    pub(super) long_term: u64,
    /// Most bytes in flight, and rate, since the last round that lost too much, until the next
    /// probe.
    pub(super) short_term: u64,
    pub(super) bw_short_term: f64,
    /// Most of the round so far.
    bw_latest: f64,
    pub(super) inflight_latest: u64,
    /// What had been delivered and lost when the round began.
    round: (u64, u64),
    round_ends_at: u64,
    /// The last acknowledgement ended a round.
    round_ended: bool,
    /// Times that losses were found in the round.
    losses: u32,
    /// A router marked a packet in the round (RFC 3168).
    marked: bool,
    /// Shortest round trip of the round.
    rtt: Option<Duration>,
}

/// What was lost in a round that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LossRound {
    /// More than the threshold was lost, or a packet was marked.
    pub(super) congested: bool,
    /// Times that losses were found.
    pub(super) losses: u32,
    pub(super) marked: bool,
    /// Shortest round trip.
    pub(super) rtt: Duration,
}

impl Bounds {
    pub(super) fn new() -> Self {
        Self {
            long_term: UNBOUNDED,
            short_term: UNBOUNDED,
            bw_short_term: f64::INFINITY,
            bw_latest: 0.0,
            inflight_latest: 0,
            round: (0, 0),
            round_ends_at: 0,
            round_ended: false,
            losses: 0,
            marked: false,
            rtt: None,
        }
    }

    /// `lost` bytes, now counted in `delivery`, were lost; zero if a packet was marked.
    pub(super) fn on_loss(&mut self, delivery: &Delivery, lost: u64) {
        if self.losses == 0 && !self.marked {
            self.round_ends_at = delivery.delivered;
            self.round = (delivery.delivered, delivery.lost - lost);
            self.rtt = None;
        }
        self.losses += u32::from(lost > 0);
        self.marked |= lost == 0;
    }

    /// Near the start of an acknowledgement (`UpdateLatestDeliverySignals`). Answers what was lost
    /// in the round if it ended one.
    pub(super) fn on_ack(
        &mut self,
        delivery: &Delivery,
        sample: &Sample,
        mtu: u64,
    ) -> Option<LossRound> {
        self.bw_latest = self.bw_latest.max(sample.rate);
        self.inflight_latest = self.inflight_latest.max(sample.delivered);
        let rtt = self.rtt.map_or(sample.rtt, |least| least.min(sample.rtt));
        self.rtt = Some(rtt);
        self.round_ended = sample.prior_delivered >= self.round_ends_at;
        if !self.round_ended {
            return None;
        }
        let lost = delivery.lost - self.round.1;
        let flight = delivery.delivered - self.round.0 + lost;
        let ended = LossRound {
            congested: self.marked || is_too_high(lost, flight, mtu),
            losses: self.losses,
            marked: self.marked,
            rtt,
        };
        self.round_ends_at = delivery.delivered;
        self.round = (delivery.delivered, delivery.lost);
        self.losses = 0;
        self.marked = false;
        self.rtt = None;
        Some(ended)
    }

    /// Near the end of an acknowledgement (`AdvanceLatestDeliverySignals`).
    pub(super) fn on_end_ack(&mut self, sample: &Sample) {
        if self.round_ended {
            self.bw_latest = sample.rate;
            self.inflight_latest = sample.delivered;
        }
    }

    /// A round outside a probe lost too much: what was delivered in it is what there is to have
    /// (`AdaptLowerBoundsFromCongestion`).
    ///
    /// The draft does this after any loss. On a path that loses 1 % at random the rate would fall
    /// by 1 % in each round, by a third between two probes at 50 ms; the draft says so in "Design
    /// Considerations for Choosing Constant Parameters" and accepts it. Here only a round that lost
    /// more than the threshold counts.
    pub(super) fn cut_short_term(&mut self, max_bw: f64, cwnd: u64) {
        if self.bw_short_term.is_infinite() {
            self.bw_short_term = max_bw;
        }
        if self.short_term == UNBOUNDED {
            self.short_term = cwnd;
        }
        self.bw_short_term = self.bw_latest.max(BETA * self.bw_short_term);
        let cut = (BETA * self.short_term as f64) as u64;
        self.short_term = self.inflight_latest.max(cut);
    }

    /// Forgets the short-term bounds: a probe begins.
    pub(super) fn reset_short_term(&mut self) {
        self.short_term = UNBOUNDED;
        self.bw_short_term = f64::INFINITY;
    }

    /// Forgets the round so far: what is sent from now on is of another kind.
    pub(super) fn reset_round(&mut self) {
        self.losses = 0;
        self.marked = false;
        self.bw_latest = 0.0;
        self.inflight_latest = 0;
    }

    /// The long-term bound less what is left to others, in bytes.
    pub(super) fn with_headroom(&self, mtu: u64, least: u64) -> u64 {
        if self.long_term == UNBOUNDED {
            return UNBOUNDED;
        }
        let headroom = ((HEADROOM * self.long_term as f64) as u64).max(mtu);
        self.long_term.saturating_sub(headroom).max(least)
    }
}
