//! When transfers come, and how large each is: weeks of them, from a seed.

use super::calendar::WEEK_S;
use super::workload::{Flow, Workload};
use crate::rng::Rng;

/// One transfer that must be there in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Job {
    /// Its flow, by number.
    pub(crate) flow: usize,
    /// When it comes, in seconds from a Monday 00:00.
    pub(crate) at: f64,
    /// When it must be there.
    pub(crate) due: f64,
    /// Content on the wire, of all its nodes together, in bytes.
    pub(crate) bytes: f64,
}

/// A week, and what is still under way when it begins.
#[derive(Debug, Clone)]
pub(crate) struct Week {
    /// When it begins, in seconds from a Monday 00:00.
    pub(crate) begins: f64,
    /// Transfers by arrival: of the week, and those before it that may last until it begins.
    pub(crate) jobs: Vec<Job>,
}

/// The weeks of a workload, of today's sizes.
pub(crate) fn weeks(workload: &Workload) -> Vec<Week> {
    let flows = &workload.flows;
    let lead_s = flows.iter().map(Flow::deadline_s).fold(0.0, f64::max);
    // Whole weeks before the first, so that what it finds under way is as in any other.
    let before = (lead_s / WEEK_S).ceil();
    let end = (before + workload.weeks as f64) * WEEK_S;
    let mut all = Vec::new();
    for (number, flow) in flows.iter().enumerate() {
        let mut rng = Rng::named(workload.seed, &flow.name);
        let bytes = flow.size.0 * flow.nodes as f64 * flow.wire_share();
        let spread = flow.spread.map_or(0.0, |spread| spread.0);
        let mut regular = flow.first.map_or(0.0, |first| first.0 % flow.every.0);
        let mut last = 0.0;
        loop {
            // 53 bits make a number of [0, 1) without rounding.
            let mut dice = || (rng.next() >> 11) as f64 / (1_u64 << 53) as f64;
            let at = if flow.random {
                last -= flow.every.0 * (1.0 - dice()).ln();
                last
            } else {
                regular + flow.jitter.map_or(0.0, |jitter| jitter.0 * dice())
            };
            regular += flow.every.0;
            let factor = 1.0 + spread * (2.0 * dice() - 1.0);
            if at >= end {
                break;
            }
            let due = at + flow.deadline_s();
            all.push(Job { flow: number, at, due, bytes: bytes * factor });
        }
    }
    all.sort_by(|a, b| a.at.total_cmp(&b.at).then(a.flow.cmp(&b.flow)));
    let week = |number: usize| {
        let begins = (before + number as f64) * WEEK_S;
        let of_week = |job: &&Job| (begins - lead_s..begins + WEEK_S).contains(&job.at);
        Week { begins, jobs: all.iter().filter(of_week).copied().collect() }
    };
    (0..workload.weeks).map(week).collect()
}
