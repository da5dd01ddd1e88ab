//! Rates and remaining time from successive snapshots.

use std::collections::VecDeque;

use portway::metrics::Snapshot;

/// Rates are taken over this long, in milliseconds: steady to read, quick to follow a change.
const WINDOW_MS: u64 = 5000;
/// Most snapshots that are kept; with more in the window, the oldest go.
const SAMPLES_MAX: usize = 256;

struct Sample {
    elapsed_ms: u64,
    done: u64,
    sent: u64,
}

/// The last few seconds of a transfer.
#[derive(Default)]
pub(crate) struct Meter {
    samples: VecDeque<Sample>,
}

impl Meter {
    /// Takes a snapshot in. Snapshots come in the order of their time.
    pub(crate) fn add(&mut self, now: &Snapshot) {
        let sample =
            Sample { elapsed_ms: now.elapsed_ms, done: now.bytes_done(), sent: now.bytes_sent };
        if self.samples.back().is_some_and(|last| last.elapsed_ms == sample.elapsed_ms) {
            self.samples.pop_back();
        }
        self.samples.push_back(sample);
        // The one before the window stays: the window is between it and now.
        while self.samples.len() > SAMPLES_MAX
            || self.samples.get(1).is_some_and(|s| s.elapsed_ms + WINDOW_MS <= now.elapsed_ms)
        {
            self.samples.pop_front();
        }
    }

    /// Content bytes per second that crossed between the nodes.
    pub(crate) fn sent_per_s(&self) -> f64 {
        self.rate(|sample| sample.sent)
    }

    /// Seconds until all content is settled, or `None` while that cannot be told.
    pub(crate) fn eta_s(&self, now: &Snapshot) -> Option<f64> {
        let rate = self.rate(|sample| sample.done);
        let left = now.bytes_total.saturating_sub(now.bytes_done());
        (now.scan_done && rate >= 1.0).then(|| left as f64 / rate)
    }

    fn rate(&self, pick: impl Fn(&Sample) -> u64) -> f64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return 0.0;
        };
        let ms = last.elapsed_ms.saturating_sub(first.elapsed_ms);
        if ms == 0 {
            return 0.0;
        }
        // Counters go down when an object changed and its bytes no longer count.
        pick(last).saturating_sub(pick(first)) as f64 * 1e3 / ms as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::text::test::snapshot;

    fn at(elapsed_ms: u64, sent: u64) -> Snapshot {
        Snapshot { elapsed_ms, bytes_sent: sent, ..snapshot() }
    }

    #[test]
    fn the_rate_follows_the_last_seconds() {
        let mut meter = Meter::default();
        assert!(meter.sent_per_s() < 1.0);
        for s in 0..=10 {
            meter.add(&at(s * 1000, s * 1_000_000));
        }
        assert!((meter.sent_per_s() - 1e6).abs() < 1.0);
        for s in 11..=20 {
            meter.add(&at(s * 1000, 10_000_000));
        }
        assert!(meter.sent_per_s() < 1.0, "a stall shows within the window");
    }

    #[test]
    fn snapshots_of_one_moment_and_counters_that_go_down_do_no_harm() {
        let mut meter = Meter::default();
        meter.add(&at(5, 100));
        meter.add(&at(5, 200));
        assert!(meter.sent_per_s() < 1.0);
        meter.add(&at(1005, 0));
        assert!(meter.sent_per_s() < 1.0);
        for ms in 0..10_000 {
            meter.add(&at(2000 + ms, 0));
        }
        assert!(meter.samples.len() <= SAMPLES_MAX);
    }

    #[test]
    fn the_time_left_is_told_once_the_scan_is_through() {
        let mut meter = Meter::default();
        meter.add(&Snapshot { elapsed_ms: 0, ..snapshot() });
        let mut now = at(1000, 500_000_000);
        meter.add(&now);
        let left = meter.eta_s(&now).expect("known");
        assert!((0.0..60.0).contains(&left));
        now.scan_done = false;
        assert_eq!(meter.eta_s(&now), None);
    }
}
