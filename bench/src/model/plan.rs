//! The plan: what each option takes and costs while the workload grows, and which to order.

use anyhow::Result;

use super::need::{Demand, Required};
use super::path::{self, Engine, Limit, Link};
use super::price::{self, Usage};
use super::share::Late;
use super::workload::{LinkKind, LinkOption, Redundancy, Workload};

/// Traffic at which a break-even is looked for, as powers of this: from 1/64 to 64 times of today's.
const STEP: f64 = 1.189_207_115_002_721;
const STEPS: u32 = 24;

/// What follows from a workload.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// What was asked.
    pub(crate) workload: &'a Workload,
    /// The least rates.
    pub(crate) required: Required,
    /// Every option, in the order of the file.
    pub(crate) options: Vec<OptionPlan<'a>>,
    /// The option to order, by number.
    pub(crate) advised: Option<usize>,
    /// For each pair of an internet and a dedicated option.
    pub(crate) break_evens: Vec<BreakEven>,
}

/// An option, looked at for all months.
#[derive(Debug)]
pub(crate) struct OptionPlan<'a> {
    /// The option.
    pub(crate) option: &'a LinkOption,
    /// One link of it.
    pub(crate) link: Link,
    /// The least single link that would do today, with headroom.
    pub(crate) smallest: Option<Link>,
    /// From this month on, while its links are enough.
    pub(crate) months: Vec<Month>,
    /// What today's links carry, if they are enough.
    pub(crate) usage: Option<Usage>,
    /// What happens today when one link is lost.
    pub(crate) loss: Option<Loss>,
    /// The first transfer that is late today with one link fewer than deadlines need; or, where
    /// its links are not enough, with all that can be had.
    pub(crate) short: Option<Late>,
    /// What bounds a session of each flow most.
    pub(crate) limits: Vec<Limit>,
}

/// One month of an option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Month {
    /// Links, with the spare one.
    pub(crate) links: u32,
    /// Bytes of IP packets.
    pub(crate) bytes: f64,
    /// USD that are paid for the month.
    pub(crate) price: f64,
    /// USD that are paid in it once, for links that come.
    pub(crate) once: f64,
}

/// What happens when one link is lost.
#[derive(Debug, Clone)]
pub(crate) struct Loss {
    /// Links that are left.
    pub(crate) left: u32,
    /// Transfers in all weeks.
    pub(crate) transfers: usize,
    /// Late ones among them; empty if no link is left.
    pub(crate) late: Vec<Late>,
}

/// From which traffic on a dedicated option costs no more than one over the internet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BreakEven {
    /// Names of the two.
    pub(crate) internet: String,
    pub(crate) dedicated: String,
    /// Today's traffic times this; `None` if it is dearer up to the largest that was looked at.
    pub(crate) growth: Option<f64>,
    /// Bytes of a month at that traffic.
    pub(crate) bytes: f64,
}

impl<'a> Plan<'a> {
    /// Works everything out.
    ///
    /// # Errors
    /// If the workload contradicts itself.
    pub(crate) fn make(workload: &'a Workload, engine: Engine) -> Result<Self> {
        let demand = Demand::new(workload, engine)?;
        let required = demand.required();
        let options: Vec<_> =
            workload.options.iter().map(|option| option_plan(&demand, option)).collect();
        let advised = advised(&options);
        let break_evens = break_evens(&demand);
        Ok(Self { workload, required, options, advised, break_evens })
    }
}

impl OptionPlan<'_> {
    /// What is paid once, in all months that its links are enough.
    pub(crate) fn once(&self) -> f64 {
        self.months.iter().map(|month| month.once).sum()
    }

    /// The price of all months, with what is paid once, if its links are enough in all.
    pub(crate) fn total(&self, months: u32) -> Option<f64> {
        let enough = self.months.len() > months as usize;
        enough.then(|| self.months.iter().map(|month| month.price + month.once).sum())
    }
}

/// What a workload has grown by after some months.
pub(crate) fn growth(workload: &Workload, months: u32) -> f64 {
    (1.0 + workload.growth.0).powf(f64::from(months))
}

/// The cheapest option that is enough for all months; or the one that is for most, the cheaper of
/// two.
fn advised(options: &[OptionPlan<'_>]) -> Option<usize> {
    let price = |plan: &OptionPlan<'_>| {
        plan.months.iter().map(|month| month.price + month.once).sum::<f64>()
    };
    let able = options.iter().enumerate().filter(|(_, plan)| !plan.months.is_empty());
    let best = able.min_by(|(_, a), (_, b)| {
        b.months.len().cmp(&a.months.len()).then(price(a).total_cmp(&price(b)))
    });
    best.map(|(number, _)| number)
}

/// The links of an option with the spare one, if that many can be had.
fn with_spare(demand: &Demand<'_>, option: &LinkOption, growth: f64, from: u32) -> Option<u32> {
    let spare = u32::from(demand.workload.redundancy == Redundancy::NPlus1);
    let links = demand.links(option, growth, from.saturating_sub(spare))? + spare;
    (links <= option.links_max).then_some(links)
}

/// A month with so many links, of which `new` come in it.
fn month(
    demand: &Demand<'_>,
    option: &LinkOption,
    growth: f64,
    links: u32,
    new: u32,
) -> (Month, Usage) {
    let usage = price::usage(demand, &Link::of(option), links, growth);
    let price = price::bill(option, links, &usage);
    let once = price::setup(option, new);
    (Month { links, bytes: usage.month_bytes, price, once }, usage)
}

fn option_plan<'a>(demand: &Demand<'a>, option: &'a LinkOption) -> OptionPlan<'a> {
    let (workload, link) = (demand.workload, Link::of(option));
    let mut months = Vec::new();
    let mut today = None;
    let mut links = 1;
    for number in 0..=workload.months {
        let growth = growth(workload, number);
        let Some(more) = with_spare(demand, option, growth, links) else { break };
        let new = more - if number == 0 { 0 } else { links };
        links = more;
        let (month, usage) = month(demand, option, growth, links, new);
        months.push(month);
        today = today.or(Some(usage));
    }
    let limits = workload.flows.iter().filter_map(|flow| {
        path::session_limits(flow, workload, demand.engine, &link).into_iter().next()
    });
    OptionPlan {
        option,
        link,
        smallest: demand.smallest_link(option),
        loss: months.first().map(|month| lose_one(demand, &link, month.links - 1)),
        short: short(demand, option, &months),
        months,
        usage: today,
        limits: limits.collect(),
    }
}

fn short(demand: &Demand<'_>, option: &LinkOption, months: &[Month]) -> Option<Late> {
    let spare = u32::from(demand.workload.redundancy == Redundancy::NPlus1);
    let links = months.first().map_or(option.links_max, |month| month.links - 1) - spare;
    let link = Link::of(option);
    let network =
        (links > 0).then(|| demand.network(&link, links, demand.workload.headroom.0, 1.0))?;
    demand.weeks.iter().find_map(|week| network.first_late(&week.jobs))
}

fn lose_one(demand: &Demand<'_>, link: &Link, left: u32) -> Loss {
    let of_week = |job: &&super::arrivals::Job, begins: f64| job.at >= begins;
    let transfers = demand
        .weeks
        .iter()
        .map(|week| week.jobs.iter().filter(|job| of_week(job, week.begins)).count())
        .sum();
    let mut late = Vec::new();
    if left > 0 {
        let network = demand.network(link, left, 0.0, 1.0);
        for week in &demand.weeks {
            let all = network.all_late(&week.jobs);
            late.extend(all.into_iter().filter(|late| of_week(&&late.job, week.begins)));
        }
    }
    Loss { left, transfers, late }
}

/// Traffic at a step, in times of today's.
fn at_step(step: usize) -> f64 {
    STEP.powf(step as f64 - f64::from(STEPS))
}

/// The price of an option at each step of traffic, while its links are enough. What is paid once is
/// spread over the months that are looked ahead.
fn curve(demand: &Demand<'_>, option: &LinkOption) -> Vec<Month> {
    let mut links = 1;
    let mut months = Vec::new();
    for step in 0..=2 * STEPS {
        let growth = at_step(step as usize);
        let Some(more) = with_spare(demand, option, growth, links) else { break };
        links = more;
        let (mut month, _) = month(demand, option, growth, links, links);
        month.price += month.once / f64::from(demand.workload.months + 1);
        months.push(month);
    }
    months
}

fn break_evens(demand: &Demand<'_>) -> Vec<BreakEven> {
    let curves: Vec<_> =
        demand.workload.options.iter().map(|option| (option, curve(demand, option))).collect();
    let of = |kind: LinkKind| curves.iter().filter(move |(option, _)| option.kind == kind);
    let mut found = Vec::new();
    for (internet, theirs) in of(LinkKind::Internet) {
        for (dedicated, ours) in of(LinkKind::Dedicated) {
            // Where only the dedicated one is enough, it is what is left.
            let better = |step: &usize| {
                theirs.get(*step).is_none_or(|their| ours[*step].price <= their.price)
            };
            let after_worse = (0..ours.len()).rev().find(|step| !better(step)).map(|step| step + 1);
            let step = after_worse.unwrap_or(0);
            let month = ours.get(step);
            found.push(BreakEven {
                internet: internet.name.clone(),
                dedicated: dedicated.name.clone(),
                growth: month.map(|_| at_step(step)),
                bytes: month.or(ours.last()).map_or(0.0, |month| month.bytes),
            });
        }
    }
    found
}
