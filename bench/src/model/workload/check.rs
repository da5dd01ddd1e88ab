//! What contradicts itself in a workload file, all of it at once.

use std::collections::BTreeSet;

use super::{Billing, Flow, LINKS_MAX, LinkOption, Redundancy, Workload};
use crate::model::calendar::WEEK_S;
use crate::model::unit::{Share, Time};

/// Arrivals that a flow may have in all weeks: what comes more often is gathered to larger sizes.
const ARRIVALS_MAX: f64 = 500_000.0;
/// Weeks and months that may be asked for.
const WEEKS_MAX: usize = 520;
const MONTHS_MAX: u32 = 120;
/// Longest deadline, in weeks: what is under way that long is before every week that is simulated.
const DEADLINE_WEEKS_MAX: f64 = 4.0;
/// Bytes of an IP packet: the least that QUIC needs (RFC 9000, section 14, and headers), the most
/// that IP has.
const MTU_MIN: u32 = 1280;
const MTU_MAX: u32 = 65_535;
/// The highest share of lost packets that Portway's rate was measured with
/// (`docs/transports.md`); from 2 % on its congestion control slows down on purpose.
const LOSS_MAX: f64 = 0.01;

impl Workload {
    /// What is wrong with the whole.
    pub(super) fn check_all(&self, wrong: &mut Vec<String>) {
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
    /// What is wrong with a flow, when so many weeks are simulated.
    pub(super) fn check(&self, weeks: usize, wrong: &mut Vec<String>) {
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
    /// What is wrong with an option.
    pub(super) fn check(&self, redundancy: Redundancy, wrong: &mut Vec<String>) {
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
