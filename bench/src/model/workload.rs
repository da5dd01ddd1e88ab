//! A workload file: what is to move and when, what a node can do, and the links that are on offer.

mod check;

use anyhow::{Result, anyhow, bail};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::calendar::{Hours, Moment};
use super::unit::{ByteRate, Growth, LinkRate, Monthly, Once, PerGb, PerMbit, Share, Size, Time};

/// Links of one option that are looked at.
const LINKS_MAX: u32 = 64;

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
    /// The `PCIe` slot of that port.
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
    /// Price of setting up one link, when it is ordered.
    pub(crate) setup: Option<Once>,
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
        let read = toml_edit::de::from_str(text);
        let workload: Self = read.map_err(|error| anyhow!("{}", error.to_string().trim_end()))?;
        let mut wrong = Vec::new();
        workload.check_all(&mut wrong);
        workload.flows.iter().for_each(|flow| flow.check(workload.weeks, &mut wrong));
        workload.options.iter().for_each(|option| option.check(workload.redundancy, &mut wrong));
        match wrong.as_slice() {
            [] => Ok(workload),
            wrong => bail!("the workload contradicts itself:\n  {}", wrong.join("\n  ")),
        }
    }
}

#[cfg(test)]
mod tests;
