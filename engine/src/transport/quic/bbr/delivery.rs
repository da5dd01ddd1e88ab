//! What the network delivered of what was sent: rate samples, one for each acknowledgement.
//!
//! The algorithm is that of draft-ietf-ccwg-bbr, "Delivery Rate Samples" (section 4.1): a packet
//! remembers how much had been delivered, and when, at the time it was sent; when it is
//! acknowledged, the difference is what was delivered over one round trip.
//!
//! The interface of quinn tells of what is sent in bursts and of what is acknowledged in packets,
//! each with the time it was sent at, and of what is lost in sums. So the memory here is of bursts,
//! found by time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is sent at once and is smaller holds acknowledgements alone, which are never acknowledged
/// themselves, in bytes.
const CARRIES_DATA_BYTES_MIN: u64 = 128;
/// Bursts less than this part of a round trip apart share one memory.
const GRAINS_IN_ROUND_TRIP: u32 = 512;
/// How many times the longest round trip lately a burst is remembered.
const MEMORY_ROUND_TRIPS: u32 = 4;

/// What was known when a burst was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) at: Instant,
    /// Bytes delivered until then, and when the last of them were.
    delivered: u64,
    delivered_at: Instant,
    /// When the packet was sent that was the newest one acknowledged then.
    first_sent_at: Instant,
    /// Bytes lost until then.
    pub(super) lost: u64,
    /// Bytes in flight, those of the burst among them.
    pub(super) in_flight: u64,
    /// Whether the application had nothing more to send.
    pub(super) app_limited: bool,
}

/// What one acknowledgement tells ("RS" in the draft).
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Bytes per second, if the sample spans a whole round trip; else 0.
    pub(super) rate: f64,
    /// Bytes delivered since the newest packet of this acknowledgement was sent.
    pub(super) delivered: u64,
    /// Bytes that had been delivered when that packet was sent.
    pub(super) prior_delivered: u64,
    /// Bytes in flight when that packet was sent.
    pub(super) in_flight_at_send: u64,
    /// Bytes lost since that packet was sent.
    pub(super) lost: u64,
    /// Whether the rate is what the application gave, not what the network took.
    pub(super) app_limited: bool,
    /// Bytes that this acknowledgement is about.
    pub(super) acked: u64,
    /// Shortest time between sending and acknowledgement of those.
    pub(super) rtt: Duration,
    /// Mean of that time, in seconds, by bytes.
    pub(super) sojourn: f64,
}

/// Packets of one acknowledgement, until it was seen whole.
#[derive(Debug, Clone, Default)]
struct Batch {
    newest: Option<(Instant, Sent)>,
    acked: u64,
    rtt: Option<Duration>,
    byte_seconds: f64,
}

/// Counts what is sent, delivered and lost, in bytes.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) in_flight: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// Until so much is delivered, samples have a time without anything to send in them.
    app_limited_until: u64,
    longest_rtt: Duration,
    sent: VecDeque<Sent>,
    batch: Batch,
}

impl Delivery {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            lost: 0,
            in_flight: 0,
            delivered_at: now,
            first_sent_at: now,
            app_limited_until: 0,
            longest_rtt: Duration::from_secs(1),
            sent: VecDeque::new(),
            batch: Batch::default(),
        }
    }

    /// A burst of `bytes` was sent. Answers whether it can have data in it.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64) -> bool {
        if bytes < CARRIES_DATA_BYTES_MIN {
            return false;
        }
        if self.in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        self.in_flight += bytes;
        let memory = self.longest_rtt * MEMORY_ROUND_TRIPS;
        while self.sent.front().is_some_and(|s| now.saturating_duration_since(s.at) > memory) {
            self.sent.pop_front();
        }
        let grain = self.longest_rtt / GRAINS_IN_ROUND_TRIP;
        if let Some(last) = self.sent.back_mut()
            && now.saturating_duration_since(last.at) < grain
        {
            last.in_flight = self.in_flight;
            return true;
        }
        self.sent.push_back(Sent {
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            lost: self.lost,
            in_flight: self.in_flight,
            app_limited: self.is_app_limited(),
        });
        true
    }

    /// A packet of `bytes`, sent at `sent`, was acknowledged.
    pub(super) fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
        let rtt = now.saturating_duration_since(sent);
        let burst = self.burst(sent);
        let batch = &mut self.batch;
        batch.acked += bytes;
        batch.byte_seconds += bytes as f64 * rtt.as_secs_f64();
        batch.rtt = Some(batch.rtt.map_or(rtt, |least| least.min(rtt)));
        if let Some(burst) = burst
            && batch.newest.is_none_or(|(newest, _)| sent >= newest)
        {
            batch.newest = Some((sent, burst));
        }
    }

    /// All packets of one acknowledgement were told of, and `in_flight` bytes are left.
    ///
    /// There is no sample where nothing is known of when the packets were sent. A rate over less
    /// than `min_rtt` is none: acknowledgements were held up and came at once.
    pub(super) fn on_end_acks(&mut self, in_flight: u64, min_rtt: Duration) -> Option<Sample> {
        let batch = std::mem::take(&mut self.batch);
        self.in_flight = in_flight;
        let (sent, burst) = batch.newest?;
        let rtt = batch.rtt?;
        self.longest_rtt = (self.longest_rtt * 7 / 8).max(rtt).max(Duration::from_micros(10));
        if sent >= self.first_sent_at {
            self.first_sent_at = sent;
        }
        let send_elapsed = sent.saturating_duration_since(burst.first_sent_at);
        let ack_elapsed = self.delivered_at.saturating_duration_since(burst.delivered_at);
        let interval = send_elapsed.max(ack_elapsed);
        let delivered = self.delivered - burst.delivered;
        let whole = interval >= min_rtt && !interval.is_zero();
        Some(Sample {
            rate: if whole { delivered as f64 / interval.as_secs_f64() } else { 0.0 },
            delivered,
            prior_delivered: burst.delivered,
            in_flight_at_send: burst.in_flight,
            lost: self.lost - burst.lost,
            app_limited: burst.app_limited,
            acked: batch.acked,
            rtt,
            sojourn: batch.byte_seconds / batch.acked.max(1) as f64,
        })
    }

    /// Packets of `bytes` were lost, the last of them sent at `sent`.
    pub(super) fn on_lost(&mut self, bytes: u64) {
        self.lost += bytes;
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// The application has nothing to send: what is in flight is less than could be.
    pub(super) fn mark_app_limited(&mut self) {
        self.app_limited_until = (self.delivered + self.in_flight).max(1);
    }

    pub(super) fn is_app_limited(&self) -> bool {
        self.app_limited_until > self.delivered
    }

    /// Bursts that are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.sent.len()
    }

    /// What was known when the packet sent at `sent` was.
    pub(super) fn burst(&self, sent: Instant) -> Option<Sent> {
        let after = self.sent.partition_point(|burst| burst.at <= sent);
        self.sent.get(after.checked_sub(1)?).copied()
    }
}
