//! Latency by an open loop: questions are due at times that do not depend on the answers, and an
//! answer's latency counts from when its question was due. So a stall hits every question that was
//! due in it, and not only the one that was under way ("coordinated omission", G. Tene).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::result::{Latency, Row, Unit};
use crate::rng::Rng;

/// Shortest and longest latency that is told apart, in nanoseconds.
const BOUNDS_NS: (u64, u64) = (1_000, 60_000_000_000);
/// Significant decimal digits.
const DIGITS: u8 = 3;

/// Times from the start on at which so many questions a second are due, for so long: at random
/// (exponential gaps), always the same ones for a seed.
pub(super) fn due(per_second: f64, time: Duration, seed: u64) -> Vec<Duration> {
    let (mut rng, mut at, mut due) = (Rng::named(seed, "arrivals"), 0.0, Vec::new());
    loop {
        // 53 bits make a number of [0, 1) without rounding; one minus it is never zero.
        let unit = (rng.next() >> 11) as f64 / (1_u64 << 53) as f64;
        at -= (1.0 - unit).ln() / per_second;
        if at >= time.as_secs_f64() {
            return due;
        }
        due.push(Duration::from_secs_f64(at));
    }
}

/// The answers to questions that are due at known times.
pub(super) struct Probe {
    began: Instant,
    due: Vec<Duration>,
    answered: Vec<bool>,
    histogram: Histogram<u64>,
}

impl Probe {
    /// Questions due at these times from `began` on.
    pub(super) fn new(began: Instant, due: Vec<Duration>) -> Result<Self> {
        let histogram = Histogram::new_with_bounds(BOUNDS_NS.0, BOUNDS_NS.1, DIGITS)?;
        Ok(Self { began, answered: vec![false; due.len()], due, histogram })
    }

    /// Takes an answer that came at `now`.
    pub(super) fn answer(&mut self, number: u64, now: Instant) {
        let number = number as usize;
        let Some(due) = self.due.get(number) else { return };
        if !std::mem::replace(&mut self.answered[number], true) {
            let latency = now.saturating_duration_since(self.began + *due);
            self.histogram.saturating_record(latency.as_nanos() as u64);
        }
    }

    /// Whether every question has its answer.
    pub(super) fn done(&self) -> bool {
        self.answered.iter().all(|answered| *answered)
    }

    /// The shortest latency in seconds.
    pub(super) fn least_s(&self) -> f64 {
        self.histogram.min() as f64 / 1e9
    }

    /// The latencies as a row: the median with the shortest and longest, and percentiles.
    pub(super) fn row(&self, case: &str) -> Result<Row> {
        let missing = self.answered.iter().filter(|answered| !**answered).count();
        ensure!(missing == 0, "{missing} of {} questions had no answer", self.due.len());
        ensure!(!self.histogram.is_empty(), "nothing was asked: --seconds is too short");
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1e9;
        let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
        let mut row = Row::of_runs("round trip", case, Unit::Seconds, vec![p50]);
        row.low = self.least_s().min(p50);
        row.high = (self.histogram.max() as f64 / 1e9).max(p50);
        row.latency_s = Some(Latency { p50, p90, p99, p999 });
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_have_their_rate_and_their_seed() {
        let time = Duration::from_secs(10);
        let one = due(1000.0, time, 1);
        assert!((9_500..10_500).contains(&one.len()), "{}", one.len());
        assert!(one.is_sorted() && one.last() < Some(&time));
        assert_eq!(one, due(1000.0, time, 1));
        assert_ne!(one, due(1000.0, time, 2));
    }

    #[test]
    fn a_stall_hits_every_question_that_was_due_in_it() {
        let began = Instant::now();
        let ms = Duration::from_millis;
        let mut probe = Probe::new(began, (0..10).map(|n| ms(n * 10)).collect()).unwrap();
        // The first answer takes 1 ms; all others come together after a stall of 200 ms.
        probe.answer(0, began + ms(1));
        assert!(!probe.done() && probe.row("x").is_err());
        (1..10).for_each(|number| probe.answer(number, began + ms(200)));
        probe.answer(3, began + ms(900));
        probe.answer(99, began + ms(900));
        assert!(probe.done());
        let latency = probe.row("x").unwrap().latency_s.unwrap();
        assert!((latency.p50 - 0.15).abs() < 0.011, "{latency:?}");
        assert!((latency.p99 - 0.19).abs() < 0.001, "{latency:?}");
        assert!((probe.least_s() - 0.001).abs() < 1e-5);
    }
}
