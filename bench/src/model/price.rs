//! What links cost in a month, and what they carry.

use super::calendar::{WEEK_HOURS, WEEK_S};
use super::need::{Demand, percentile};
use super::path::Link;
use super::unit::LinkRate;
use super::workload::{Billing, LinkOption};

/// Length of a sample of 95th-percentile billing, in seconds: five minutes.
const SAMPLE_S: f64 = 300.0;
/// Weeks of a month: 365.25 days in twelve of them.
const MONTH_WEEKS: f64 = 365.25 / 12.0 / 7.0;

/// What some links carry in the simulated weeks.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    /// Bytes of IP packets in a month.
    pub(crate) month_bytes: f64,
    /// 95th percentile of the rates of five minutes, in bits of IP packets per second.
    pub(crate) p95: LinkRate,
    /// The part of the links that is used in each hour of the week: in the lowest, the median and
    /// the highest week.
    pub(crate) hours: Vec<[f64; 3]>,
}

/// Runs all weeks over some links, which are used as fast as they are.
pub(crate) fn usage(demand: &Demand<'_>, link: &Link, links: u32, growth: f64) -> Usage {
    let network = demand.network(link, links, 0.0, growth);
    let per_week = (WEEK_S / SAMPLE_S) as usize;
    let mut samples = Vec::new();
    let mut hours = vec![Vec::new(); WEEK_HOURS];
    for week in &demand.weeks {
        let mut bins = vec![0.0; per_week];
        network.usage(&week.jobs, &mut |from, to, rate| {
            let (mut from, to) = (from - week.begins, (to - week.begins).min(WEEK_S));
            from = from.max(0.0);
            while from < to {
                let bin = ((from / SAMPLE_S) as usize).min(per_week - 1);
                let end = ((bin + 1) as f64 * SAMPLE_S).min(to);
                bins[bin] += (end - from) * rate;
                from = end;
            }
        });
        for (number, hour) in hours.iter_mut().enumerate() {
            let of_hour = per_week / WEEK_HOURS;
            let bytes: f64 = bins[number * of_hour..(number + 1) * of_hour].iter().sum();
            hour.push(bytes / (network.capacity * SAMPLE_S * of_hour as f64));
        }
        samples.append(&mut bins);
    }
    let content: f64 = samples.iter().sum();
    samples.sort_by(f64::total_cmp);
    let spread = |mut weeks: Vec<f64>| {
        weeks.sort_by(f64::total_cmp);
        [weeks[0], percentile(&weeks, 0.5), weeks[weeks.len() - 1]]
    };
    Usage {
        month_bytes: content * link.sent() / demand.weeks.len() as f64 * MONTH_WEEKS,
        p95: LinkRate::of_bytes(percentile(&samples, 0.95) / SAMPLE_S * link.sent()),
        hours: hours.into_iter().map(spread).collect(),
    }
}

/// The bill of a month, in USD.
pub(crate) fn bill(option: &LinkOption, links: u32, usage: &Usage) -> f64 {
    let links = f64::from(links);
    let port = option.port.map_or(0.0, |port| port.0) * links;
    let sent = option.per_gb.map_or(0.0, |price| price.0) * usage.month_bytes / 1e9;
    let rate = match (option.billing, option.per_mbit) {
        (Billing::Percentile, Some(price)) => {
            let commit = option.commit.map_or(0.0, |commit| commit.0) * links / 1e6;
            let above = (usage.p95.0 / 1e6 - commit).max(0.0);
            commit * price.0 + above * option.overage.unwrap_or(price).0
        }
        _ => 0.0,
    };
    port + sent + rate
}

/// What setting up so many links costs, in USD, once.
pub(crate) fn setup(option: &LinkOption, links: u32) -> f64 {
    option.setup.map_or(0.0, |setup| setup.0) * f64::from(links)
}

/// The hour of the week that is used most in the median week, and how much.
pub(crate) fn busiest(usage: &Usage) -> (usize, f64) {
    let hours = usage.hours.iter().enumerate().map(|(hour, weeks)| (hour, weeks[1]));
    hours.fold((0, 0.0), |most, this| if this.1 > most.1 { this } else { most })
}
