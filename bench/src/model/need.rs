//! What a workload needs: the least rate for each week, and the fewest links of an option.

use anyhow::{Result, bail};

use super::arrivals::{self, Week};
use super::calendar;
use super::path::{self, Engine, Link};
use super::share::{Late, Network};
use super::unit::{Size, Time};
use super::workload::{LinkOption, PlanFor, Workload};

/// How exact the least rate is found, as a share of it.
const EXACT: f64 = 1e-4;
/// A rate that is taken for no limit, in bytes per second.
const UNLIMITED: f64 = 1e18;

/// A workload with its weeks.
#[derive(Debug)]
pub(crate) struct Demand<'a> {
    /// What was asked.
    pub(crate) workload: &'a Workload,
    /// What the engine does on one node.
    pub(crate) engine: Engine,
    /// Simulated weeks, of today's sizes.
    pub(crate) weeks: Vec<Week>,
}

/// The least rates, in bytes of content per second, without headroom.
#[derive(Debug, Clone)]
pub(crate) struct Required {
    /// In the median week.
    pub(crate) median: f64,
    /// In the week that one in twenty is worse than.
    pub(crate) p95: f64,
    /// In the worst week.
    pub(crate) worst: f64,
    /// The worst week's number, from 1.
    pub(crate) worst_week: usize,
    /// The transfer that would be late first with less.
    pub(crate) critical: Option<Late>,
}

/// The value that `share` of all are not above (nearest rank).
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share - 1e-9).ceil().max(1.0) as usize;
    sorted[rank.min(sorted.len()) - 1]
}

impl<'a> Demand<'a> {
    /// Makes the weeks.
    ///
    /// # Errors
    /// If there are transfers that no link can bring in time, with what stops each.
    pub(crate) fn new(workload: &'a Workload, engine: Engine) -> Result<Self> {
        let demand = Self { workload, engine, weeks: arrivals::weeks(workload) };
        let mut wrong = demand.never_open();
        if wrong.is_empty() {
            wrong = demand.too_slow();
        }
        match wrong.as_slice() {
            [] => Ok(demand),
            wrong => bail!("the workload contradicts itself:\n  {}", wrong.join("\n  ")),
        }
    }

    /// Flows with a transfer whose window does not open before it is due.
    fn never_open(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (number, flow) in self.workload.flows.iter().enumerate() {
            let mut jobs = self.weeks.iter().flat_map(|week| &week.jobs);
            let shut =
                jobs.find(|job| job.flow == number && flow.hours().open_s(job.at, job.due) <= 0.0);
            if let Some(job) = shut {
                wrong.push(format!(
                    "flow `{}`, window: what comes {} is due {}, and until then the window is shut; \
                     give it a longer `deadline` or a wider `window`",
                    flow.name,
                    calendar::shown(job.at),
                    calendar::shown(job.due)
                ));
            }
        }
        wrong
    }

    /// Flows that are late although nothing shares the network with them, and it has no limit.
    fn too_slow(&self) -> Vec<String> {
        let network = path::ideal(self.workload, self.engine, UNLIMITED);
        let mut wrong = Vec::new();
        for (number, flow) in self.workload.flows.iter().enumerate() {
            let mut late = self.weeks.iter().filter_map(|week| {
                let own = week.jobs.iter().filter(|job| job.flow == number).copied();
                network.first_late(&own.collect::<Vec<_>>())
            });
            if let Some(late) = late.next() {
                let limits = path::node_limits(flow, &self.workload.node, self.engine);
                let why = limits.first().map_or_else(String::new, |limit| limit.why.clone());
                wrong.push(format!(
                    "flow `{}`, deadline: {} of content that comes {} is not there in {} on any \
                     link, because {why}; give it a longer `deadline`, or faster or more `nodes` with \
                     less each",
                    flow.name,
                    Size(late.job.bytes),
                    calendar::shown(late.job.at),
                    Time(late.job.due - late.job.at)
                ));
            }
        }
        wrong
    }

    /// The least rate of each week, whatever the links are.
    pub(crate) fn required(&self) -> Required {
        let network = |capacity| path::ideal(self.workload, self.engine, capacity);
        let needs: Vec<f64> = self
            .weeks
            .iter()
            .map(|week| least(|rate| network(rate).first_late(&week.jobs).is_none()))
            .collect();
        let mut sorted = needs.clone();
        sorted.sort_by(f64::total_cmp);
        let worst = sorted[sorted.len() - 1];
        let number = needs.iter().position(|need| need.total_cmp(&worst).is_eq()).unwrap_or(0);
        let less = network(worst * (1.0 - 2.0 * EXACT));
        Required {
            median: percentile(&sorted, 0.5),
            p95: percentile(&sorted, 0.95),
            worst,
            worst_week: number + 1,
            critical: less.first_late(&self.weeks[number].jobs),
        }
    }

    /// Weeks that may have late transfers.
    fn weeks_late_max(&self) -> usize {
        let share = match self.workload.plan_for {
            PlanFor::Median => 0.5,
            PlanFor::P95 => 0.95,
            PlanFor::Worst => 1.0,
        };
        let within = (self.weeks.len() as f64 * share - 1e-9).ceil() as usize;
        self.weeks.len() - within.max(1)
    }

    /// Whether deadlines hold in the weeks that are planned for.
    fn holds(&self, network: &Network<'_>) -> bool {
        let late_max = self.weeks_late_max();
        let late = self.weeks.iter().filter(|week| network.first_late(&week.jobs).is_some());
        late.take(late_max + 1).count() <= late_max
    }

    /// The network of some links of an option when the workload has grown, with `spare` kept free.
    pub(crate) fn network(&self, link: &Link, links: u32, spare: f64, growth: f64) -> Network<'a> {
        Network { growth, ..path::network(self.workload, self.engine, link, links, spare) }
    }

    /// The fewest links of an option for which deadlines hold with headroom, from `from` on and
    /// without redundancy.
    pub(crate) fn links(&self, option: &LinkOption, growth: f64, from: u32) -> Option<u32> {
        let (link, spare) = (Link::of(option), self.workload.headroom.0);
        (from.max(1)..=option.links_max)
            .find(|links| self.holds(&self.network(&link, *links, spare, growth)))
    }

    /// The least rate of a single link, with the round trip and losses of `option`, that does with
    /// headroom; `None` if none does.
    pub(crate) fn smallest_link(&self, option: &LinkOption) -> Option<Link> {
        let with = |content: f64| {
            let link = Link::of(option);
            let rate = super::unit::LinkRate(link.rate.0 * content / link.usable());
            Link { rate, ..link }
        };
        let spare = self.workload.headroom.0;
        let enough = |content| self.holds(&self.network(&with(content), 1, spare, 1.0));
        enough(UNLIMITED).then(|| with(least(enough)))
    }
}

/// The least rate that is enough, where more is always enough and [`UNLIMITED`] is.
fn least(enough: impl Fn(f64) -> bool) -> f64 {
    let mut high = 1e6;
    while high < UNLIMITED && !enough(high) {
        high *= 4.0;
    }
    let mut low = high;
    while low > 1.0 && enough(low) {
        high = low;
        low /= 4.0;
    }
    while high - low > EXACT * high {
        let middle = f64::midpoint(low, high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}
