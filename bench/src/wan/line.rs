//! One direction of a link, as arithmetic over times: a rate, a queue before it, a delay, and loss.

use crate::rng::Rng;

/// Bytes of the IPv4 and UDP headers that a datagram has on a link.
const HEADER_BYTES: usize = 20 + 8;

/// What a link is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Link {
    /// Rate in bits of IP packets per second, of each direction.
    pub(crate) rate_bps: f64,
    /// Delay of each direction in seconds.
    pub(crate) delay_s: f64,
    /// Longest time in seconds that a packet waits before the link; those that would wait longer
    /// are dropped.
    pub(crate) queue_s: f64,
    /// Share of packets that is lost, in each direction, at random.
    pub(crate) loss: f64,
    /// Largest IP packet in bytes; larger ones are dropped without a word.
    pub(crate) mtu: usize,
}

/// What one direction saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// IP bytes that were handed to it, whatever became of them; without those that were too large.
    pub(crate) offered_bytes: u64,
    /// IP bytes that arrived, or will.
    pub(crate) passed_bytes: u64,
    /// Packets lost at random.
    pub(crate) lost: u64,
    /// Packets that the queue had no room for.
    pub(crate) dropped: u64,
}

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Line {
    link: Link,
    rng: Rng,
    /// When the link has sent all that it took so far, in seconds.
    free_at: f64,
    counters: Counters,
}

impl Line {
    /// A direction that is idle; `seed` says what is lost.
    pub(super) fn new(link: Link, seed: u64) -> Self {
        Self { link, rng: Rng::new(seed), free_at: 0.0, counters: Counters::default() }
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes a datagram with so much payload at time `now`, in seconds; answers when it arrives, or
    /// `None` if it does not.
    pub(super) fn offer(&mut self, now: f64, payload: usize) -> Option<f64> {
        let bytes = payload + HEADER_BYTES;
        if bytes > self.link.mtu {
            return None;
        }
        self.counters.offered_bytes += bytes as u64;
        // 53 bits make a number of [0, 1) without rounding.
        let dice = (self.rng.next() >> 11) as f64 / (1_u64 << 53) as f64;
        if dice < self.link.loss {
            self.counters.lost += 1;
            return None;
        }
        let begins = self.free_at.max(now);
        if begins - now > self.link.queue_s {
            self.counters.dropped += 1;
            return None;
        }
        self.counters.passed_bytes += bytes as u64;
        self.free_at = begins + bytes as f64 * 8.0 / self.link.rate_bps;
        Some(self.free_at + self.link.delay_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link { rate_bps: 8e6, delay_s: 0.01, queue_s: 0.002, loss: 0.0, mtu: 1500 };

    #[test]
    fn a_packet_takes_its_turn_its_time_and_the_delay() {
        let mut line = Line::new(LINK, 1);
        // 1,000 bytes take 1 ms at 8 Mb/s.
        let near =
            |found: Option<f64>, ms: f64| found.is_some_and(|at| (at * 1e3 - ms).abs() < 1e-6);
        assert!(near(line.offer(0.0, 972), 11.0));
        assert!(near(line.offer(0.0, 972), 12.0));
        assert!(near(line.offer(0.0, 972), 13.0));
        assert_eq!(line.offer(0.0, 972), None, "3 ms of queue, and 2 are allowed");
        assert!(near(line.offer(0.1, 972), 111.0), "it was idle");
        assert_eq!(line.offer(0.2, 1473), None, "too large");
        assert!(line.offer(0.2, 1472).is_some());
        let expected = Counters { offered_bytes: 6500, passed_bytes: 5500, lost: 0, dropped: 1 };
        assert_eq!(line.counters(), expected);
    }

    #[test]
    fn loss_has_its_share_and_its_seed() {
        let lost = |seed| {
            let mut line = Line::new(Link { loss: 0.01, ..LINK }, seed);
            let gone = |n: &u32| line.offer(f64::from(*n), 100).is_none();
            (0..100_000).filter(gone).collect::<Vec<u32>>()
        };
        let one = lost(1);
        assert!((900..1100).contains(&one.len()), "{}", one.len());
        assert_eq!(one, lost(1));
        assert_ne!(one, lost(2));
    }
}
