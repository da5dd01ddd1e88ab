//! What is billed by rate: the 95th percentile of all five minutes of a month.
//!
//! It is the usual burstable billing: the bytes of each five minutes are a sample, the highest twentieth
//! of a month's samples is forgotten, and the highest of the rest is billed.

use std::collections::BTreeMap;

use super::money::Money;
use super::period::Per;

/// Length of a sample, in seconds.
pub const SAMPLE_S: i64 = 300;
/// Of so many samples one is forgotten.
const FORGOTTEN: i64 = 20;
/// Most samples of a month: 31 days.
const SAMPLES_MAX: i64 = 31 * 86_400 / SAMPLE_S;

/// What one link sent, by five minutes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples(BTreeMap<i64, u64>);

impl Samples {
    /// Notes `bytes` that were sent evenly between two times, in seconds since 1970.
    pub fn add(&mut self, (from, to): (i64, i64), bytes: u64) {
        let (first, last) = (from.min(to).div_euclid(SAMPLE_S), to.div_euclid(SAMPLE_S));
        // What took longer than a month was not measured.
        let first = first.max(last.saturating_sub(SAMPLES_MAX));
        let parts = (last - first + 1).unsigned_abs();
        let (each, rest) = (bytes / parts, bytes % parts);
        for sample in first..=last {
            let more = if sample == last { each + rest } else { each };
            let sum = self.0.entry(sample).or_default();
            *sum = sum.saturating_add(more);
        }
    }

    /// The months in which something was sent, by when they began.
    pub fn months(&self) -> Vec<i64> {
        let mut months: Vec<i64> =
            self.0.keys().map(|sample| Per::Month.began(sample * SAMPLE_S)).collect();
        months.dedup();
        months
    }

    /// The 95th percentile of the month that began at `began`, or of the part of it until `now`, in bits
    /// per second.
    pub fn p95_bps(&self, began: i64, now: i64) -> u64 {
        let next = Per::Month.began(began + 31 * 86_400 + 86_400);
        let last = now.min(next - 1).div_euclid(SAMPLE_S);
        let (first, end) = (began.div_euclid(SAMPLE_S), last + 1);
        let mut sent: Vec<u64> = self.0.range(first..end.max(first)).map(|it| *it.1).collect();
        sent.sort_unstable_by(|a, b| b.cmp(a));
        let forgotten = (end - first).max(0) / FORGOTTEN;
        // Samples that are not there are zero.
        let highest = usize::try_from(forgotten).ok().and_then(|at| sent.get(at)).copied();
        highest.unwrap_or(0).saturating_mul(8) / SAMPLE_S.unsigned_abs()
    }
}

/// What a month costs at `price` for a Mb/s: the rate that is billed is at least the committed one.
/// Rounded up to a millionth.
pub fn month_price(price: Money, p95_bps: u64, commit_mbps: u64) -> Money {
    let bps = u128::from(p95_bps).max(u128::from(commit_mbps) * 1_000_000);
    Money(u64::try_from((u128::from(price.0) * bps).div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-01T00:00:00Z.
    const NOVEMBER: i64 = 1_793_491_200;
    const DAY: i64 = 86_400;

    #[test]
    fn a_twentieth_of_the_month_is_forgotten() {
        let mut samples = Samples::default();
        // 30 days have 8,640 samples, of which 432 are forgotten.
        for i in 0..432 {
            samples.add((NOVEMBER + i * SAMPLE_S, NOVEMBER + i * SAMPLE_S), 3_750_000_000);
        }
        let end = NOVEMBER + 40 * DAY;
        assert_eq!(samples.p95_bps(NOVEMBER, end), 0);
        let next = NOVEMBER + 432 * SAMPLE_S;
        samples.add((next, next), 375_000_000);
        assert_eq!(samples.p95_bps(NOVEMBER, end), 10_000_000);
        assert_eq!(samples.months(), [NOVEMBER]);
    }

    #[test]
    fn of_a_month_that_runs_what_is_over_counts() {
        let mut samples = Samples::default();
        samples.add((NOVEMBER, NOVEMBER + 99 * SAMPLE_S), 100 * 37_500_000);
        assert_eq!(samples.p95_bps(NOVEMBER, NOVEMBER + 99 * SAMPLE_S), 1_000_000);
        assert_eq!(samples.p95_bps(NOVEMBER, NOVEMBER + 29 * DAY), 0);
    }

    #[test]
    fn no_byte_is_lost_between_samples() {
        let mut samples = Samples::default();
        samples.add((NOVEMBER - 10, NOVEMBER + 1000), 1_000_003);
        assert_eq!(samples.0.values().sum::<u64>(), 1_000_003);
        assert_eq!(samples.months(), [NOVEMBER - 31 * DAY, NOVEMBER]);
        samples.add((i64::MIN, 5), 7);
        assert_eq!(samples.0.values().sum::<u64>(), 1_000_010);
    }

    #[test]
    fn the_commit_is_paid_whatever_is_sent() {
        let price = Money(2_500_000);
        assert_eq!(month_price(price, 0, 200), Money(500_000_000));
        assert_eq!(month_price(price, 200_000_001, 200), Money(500_000_003));
        assert_eq!(month_price(Money(u64::MAX), u64::MAX, 0), Money(u64::MAX));
    }
}
