//! A workload file: what is to move and when, what a node can do, and the links that are on offer.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::calendar::{Hours, Moment, WEEK_S};
use super::unit::{ByteRate, Growth, LinkRate, Monthly, PerGb, PerMbit, Share, Size, Time};

/// Arrivals that a flow may have in all weeks: what comes more often is gathered to larger sizes.
const ARRIVALS_MAX: f64 = 500_000.0;
/// Weeks and months that may be asked for.
const WEEKS_MAX: usize = 520;
const MONTHS_MAX: u32 = 120;
/// Longest deadline, in weeks: what is under way that long is before every week that is simulated.
const DEADLINE_WEEKS_MAX: f64 = 4.0;
/// Links of one option that are looked at.
const LINKS_MAX: u32 = 64;
/// Bytes of an IP packet: the least that QUIC needs (RFC 9000, section 14, and headers), the most
/// that IP has.
const MTU_MIN: u32 = 1280;
const MTU_MAX: u32 = 65_535;
/// The highest share of lost packets that Portway's rate was measured with
/// (`docs/transports.md`); from 2 % on its congestion control slows down on purpose.
const LOSS_MAX: f64 = 0.01;

/// A workload file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workload {
    /// What it is, for headings.
    pub(crate) name: String,
    /// What sizes grow by each month.
    #[serde(default = "no_growth")]
    pub(crate) growth: Growth,
    /// Months to look ahead.
    #[serde(default = "months")]
    pub(crate) months: u32,
    /// Whether deadlines hold when a link is lost.
    #[serde(default)]
    pub(crate) redundancy: Redundancy,
    /// What is kept free, as a share of what is needed.
    #[serde(default = "headroom")]
    pub(crate) headroom: Share,
    /// The week whose deadlines must hold.
    #[serde(default)]
    pub(crate) plan_for: PlanFor,
    /// Weeks that are simulated.
    #[serde(default = "weeks")]
    pub(crate) weeks: usize,
    /// What chance is made of: the same seed gives the same weeks.
    #[serde(default)]
    pub(crate) seed: u64,
    /// What one node can do.
    #[serde(default)]
    pub(crate) node: NodeLimits,
    /// What moves.
    #[serde(rename = "flow", default)]
    pub(crate) flows: Vec<Flow>,
    /// Links that can be ordered.
    #[serde(rename = "option", default)]
    pub(crate) options: Vec<LinkOption>,
}

fn no_growth() -> Growth {
    Growth(0.0)
}

fn months() -> u32 {
    24
}

fn headroom() -> Share {
    Share(0.2)
}

fn weeks() -> usize {
    52
}

/// Whether there is a link more than deadlines need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Redundancy {
    /// As many links as deadlines need.
    #[default]
    N,
    /// One more.
    #[serde(rename = "N+1")]
    NPlus1,
}

/// The week whose deadlines must hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PlanFor {
    /// The week that is in the middle.
    Median,
    /// The week that only one in twenty is worse than.
    P95,
    /// Every simulated week.
    #[default]
    Worst,
}

/// What one node can do; what is left out does not limit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeLimits {
    /// Processors that transfers may use.
    pub(crate) cores: Option<u32>,
    /// Its network port.
    pub(crate) nic: Option<LinkRate>,
    /// The PCIe slot of that port.
    pub(crate) pcie: Option<ByteRate>,
    /// Reading sources.
    pub(crate) disk_read: Option<ByteRate>,
    /// Writing targets.
    pub(crate) disk_write: Option<ByteRate>,
    /// `limits.window_mib` of the receiver [default: 32 MiB].
    pub(crate) window: Option<Size>,
}

/// Something that moves again and again.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flow {
    /// Its name.
    pub(crate) name: String,
    /// What one node has of it each time, before anything is saved.
    pub(crate) size: Size,
    /// Files of that.
    #[serde(default = "one")]
    pub(crate) files: u64,
    /// Nodes that each move so much, at the same time, each to a node of its own.
    #[serde(default = "one")]
    pub(crate) nodes: u64,
    /// The part of it that the receiver does not have yet.
    #[serde(default)]
    pub(crate) changed: Fraction,
    /// What is left of that when it is encoded.
    #[serde(default)]
    pub(crate) encoded: Fraction,
    /// Time from one to the next.
    pub(crate) every: Time,
    /// When the first of them comes [default: Mon 00:00].
    pub(crate) first: Option<Moment>,
    /// Longest delay of each.
    #[serde(default)]
    pub(crate) jitter: Option<Time>,
    /// Whether `every` is a mean and they come at random (a Poisson process).
    #[serde(default)]
    pub(crate) random: bool,
    /// How far sizes are from `size`, either way.
    pub(crate) spread: Option<Share>,
    /// When it may move [default: always].
    pub(crate) window: Option<Hours>,
    /// When it must be there, from when it came [default: when the next comes].
    pub(crate) deadline: Option<Time>,
}

fn one() -> u64 {
    1
}

/// A share, or one that a sample says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fraction {
    /// From the sample directory.
    Measured,
    /// From the file.
    Known(Share),
}

impl Default for Fraction {
    fn default() -> Self {
        Self::Known(Share(1.0))
    }
}

impl Fraction {
    /// The number; all of it while no sample said otherwise.
    pub(crate) fn value(self) -> f64 {
        match self {
            Self::Measured => 1.0,
            Self::Known(share) => share.0,
        }
    }
}

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "measured" {
            return Ok(Self::Measured);
        }
        Share::read(&text)
            .map(Self::Known)
            .map_err(|error| D::Error::custom(format!("{error}, or `measured`")))
    }
}

/// A kind of link that can be ordered, any number of times.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkOption {
    /// Its name.
    pub(crate) name: String,
    /// What it goes over.
    pub(crate) kind: LinkKind,
    /// Rate of one link.
    pub(crate) rate: LinkRate,
    /// Round trip.
    pub(crate) rtt: Time,
    /// Share of packets that is lost.
    pub(crate) loss: Option<Share>,
    /// Largest IP packet in bytes.
    #[serde(default = "mtu")]
    pub(crate) mtu: u32,
    /// Links of it that can be had.
    #[serde(default = "links_max")]
    pub(crate) links_max: u32,
    /// How traffic is billed.
    pub(crate) billing: Billing,
    /// Price of one link, whatever it carries.
    pub(crate) port: Option<Monthly>,
    /// Price of what is sent.
    pub(crate) per_gb: Option<PerGb>,
    /// Rate of one link that is paid for whether it is used or not.
    pub(crate) commit: Option<LinkRate>,
    /// Price of the committed rate.
    pub(crate) per_mbit: Option<PerMbit>,
    /// Price of the rate above it [default: `per_mbit`].
    pub(crate) overage: Option<PerMbit>,
}

fn mtu() -> u32 {
    1500
}

fn links_max() -> u32 {
    LINKS_MAX
}

/// What a link goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LinkKind {
    /// Shared with everybody.
    Internet,
    /// A circuit or cross-connect of one's own.
    Dedicated,
}

/// How traffic is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Billing {
    /// A price for the port, and one for each byte where `per_gb` says so.
    #[serde(rename = "flat")]
    Flat,
    /// The 95th percentile of the rates of all five minutes of a month, at least the commit.
    #[serde(rename = "95th-percentile")]
    Percentile,
}

impl Flow {
    /// Seconds from arrival to when it must be there.
    pub(crate) fn deadline_s(&self) -> f64 {
        self.deadline.unwrap_or(self.every).0
    }

    /// Whether a sample has to say something of it.
    pub(crate) fn is_measured(&self) -> bool {
        [self.changed, self.encoded].contains(&Fraction::Measured)
    }

    /// When it may move.
    pub(crate) fn hours(&self) -> &Hours {
        const ALWAYS: &Hours = &Hours::ALWAYS;
        self.window.as_ref().unwrap_or(ALWAYS)
    }

    /// Content on the wire for each byte of `size`.
    pub(crate) fn wire_share(&self) -> f64 {
        self.changed.value() * self.encoded.value()
    }
}

impl LinkOption {
    /// Share of packets that is lost.
    pub(crate) fn loss(&self) -> f64 {
        self.loss.map_or(0.0, |loss| loss.0)
    }
}

impl Workload {
    /// Reads a workload file.
    ///
    /// # Errors
    /// With the line, the field and what is expected there; or with everything that contradicts
    /// itself.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let workload: Self = toml_edit::de::from_str(text)?;
        let mut wrong = Vec::new();
        workload.check_all(&mut wrong);
        workload.flows.iter().for_each(|flow| flow.check(workload.weeks, &mut wrong));
        workload.options.iter().for_each(|option| option.check(workload.redundancy, &mut wrong));
        match wrong.as_slice() {
            [] => Ok(workload),
            wrong => bail!("the workload contradicts itself:\n  {}", wrong.join("\n  ")),
        }
    }

    fn check_all(&self, wrong: &mut Vec<String>) {
        if self.flows.is_empty() {
            wrong.push("nothing moves: give at least one [[flow]]".into());
        }
        if self.options.is_empty() {
            wrong.push("there is no link to choose: give at least one [[option]]".into());
        }
        let names = self.flows.iter().map(|flow| ("flow", &flow.name));
        let names = names.chain(self.options.iter().map(|option| ("option", &option.name)));
        let mut seen = BTreeSet::new();
        for (kind, name) in names {
            if !seen.insert((kind, name)) {
                wrong.push(format!(
                    "{kind} `{name}`: the name is there twice; names tell them apart"
                ));
            }
        }
        if !(1..=WEEKS_MAX).contains(&self.weeks) {
            wrong.push(format!("weeks: {} is not in 1 to {WEEKS_MAX}", self.weeks));
        }
        if self.months > MONTHS_MAX {
            wrong.push(format!("months: {} is more than {MONTHS_MAX}", self.months));
        }
        let rates = [
            ("nic", self.node.nic.map(|rate| rate.0)),
            ("pcie", self.node.pcie.map(|rate| rate.0)),
            ("disk_read", self.node.disk_read.map(|rate| rate.0)),
            ("disk_write", self.node.disk_write.map(|rate| rate.0)),
            ("window", self.node.window.map(|window| window.0)),
            ("cores", self.node.cores.map(f64::from)),
        ];
        for (name, rate) in rates {
            if rate == Some(0.0) {
                wrong
                    .push(format!("node.{name}: 0 moves nothing; leave it out if it has no limit"));
            }
        }
    }
}

impl Flow {
    fn check(&self, weeks: usize, wrong: &mut Vec<String>) {
        let mut say = |field: &str, what: String| {
            wrong.push(format!("flow `{}`, {field}: {what}", self.name));
        };
        if self.size.0 < 1.0 {
            say("size", "0 bytes are nothing to move".into());
        }
        if self.nodes == 0 || self.files == 0 {
            say("nodes, files", "there is at least one of each".into());
        }
        for (field, share) in [("changed", self.changed), ("encoded", self.encoded)] {
            if share.value() > 1.0 {
                let share = Share(share.value());
                say(field, format!("{share} is more than there is; at most 100 %"));
            } else if share.value() <= 0.0 {
                say(field, "with 0 % nothing moves".into());
            }
        }
        if self.spread.is_some_and(|spread| spread.0 > 1.0) {
            say("spread", "sizes that vary by more than 100 % would be negative".into());
        }
        let every = self.every.0;
        let simulated_s = weeks as f64 * WEEK_S;
        if every * ARRIVALS_MAX < simulated_s {
            let least = Time(simulated_s / ARRIVALS_MAX);
            let what = format!(
                "{} is too often for {weeks} weeks; at least {least}: gather some in one, or take \
                 fewer weeks",
                self.every
            );
            say("every", what);
        } else if every > simulated_s {
            let what =
                format!("{} is longer than the {weeks} weeks that are simulated", self.every);
            say("every", what);
        }
        if self.random && (self.first.is_some() || self.jitter.is_some()) {
            let what = "arrivals at random have no `first` and no `jitter`; leave one out";
            say("random", what.into());
        }
        if let Some(jitter) = self.jitter
            && jitter.0 > every
        {
            say("jitter", format!("{jitter} is longer than `every`, {}", self.every));
        }
        if self.deadline_s() > DEADLINE_WEEKS_MAX * WEEK_S {
            let what = format!("{DEADLINE_WEEKS_MAX} weeks are the longest that is looked at");
            say("deadline", what);
        } else if self.deadline_s() <= 0.0 {
            say("deadline", "nothing is there at once".into());
        }
    }
}

impl LinkOption {
    fn check(&self, redundancy: Redundancy, wrong: &mut Vec<String>) {
        let mut say = |field: &str, what: String| {
            wrong.push(format!("option `{}`, {field}: {what}", self.name));
        };
        if self.rate.0 <= 0.0 {
            say("rate", "a link without a rate carries nothing".into());
        }
        if self.loss() > LOSS_MAX {
            let (loss, most) = (Share(self.loss()), Share(LOSS_MAX));
            let what = "a link that loses more is to be repaired, not ordered";
            say("loss", format!("{loss} is more than was measured, {most}; {what}"));
        }
        if !(MTU_MIN..=MTU_MAX).contains(&self.mtu) {
            say("mtu", format!("{} is not in {MTU_MIN} to {MTU_MAX} bytes", self.mtu));
        }
        let least = if redundancy == Redundancy::NPlus1 { 2 } else { 1 };
        if !(least..=LINKS_MAX).contains(&self.links_max) {
            let what = format!("{} is not in {least} to {LINKS_MAX}", self.links_max);
            let why = if least == 2 { "; N+1 needs a second link" } else { "" };
            say("links_max", what + why);
        }
        match self.billing {
            Billing::Flat => {
                if self.commit.is_some() || self.per_mbit.is_some() || self.overage.is_some() {
                    let what = "has no `commit`, `per_mbit` or `overage`; these are of \
                                `95th-percentile`";
                    say("billing", format!("`flat` {what}"));
                }
                if self.port.is_none() && self.per_gb.is_none() {
                    say("billing", "`flat` needs `port`, `per_gb`, or both".into());
                }
            }
            Billing::Percentile => {
                if self.per_mbit.is_none() {
                    say("per_mbit", "`95th-percentile` needs the price of a rate".into());
                }
                if self.overage.is_some() && self.commit.is_none() {
                    say("overage", "it is what is above a `commit`, and there is none".into());
                }
            }
        }
        if let Some(commit) = self.commit
            && commit > self.rate
        {
            let what = format!("{commit} is more than the link has, {}", self.rate);
            say("commit", what);
        }
    }
}

#[cfg(test)]
mod tests;
