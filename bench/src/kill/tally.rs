//! Counts of a kill loop and its closing table.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::series::Victim;

/// Most content that may be sent again after one kill.
pub(super) const RESENT_BYTES_MAX: u64 = 64 << 20;
/// Violations that are printed in full.
const PRINT_MAX: usize = 20;

/// How a rule was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// Something partial, mixed or unknown was visible at the target.
    Visible,
    /// The target differs from the source after the transfer said it was done.
    Result,
    /// The same command again did not end the transfer, or a node did not start.
    Repair,
    /// More content was sent again than the bound allows.
    Resent,
    /// The summary is missing, or its numbers do not add up.
    Summary,
}

impl Rule {
    fn title(self) -> &'static str {
        match self {
            Self::Visible => "wrong or partial files visible at a kill",
            Self::Result => "wrong files after the end",
            Self::Repair => "manual repairs needed",
            Self::Resent => "over 64 MiB sent again for a kill",
            Self::Summary => "summaries missing or not adding up",
        }
    }
}

/// What happened so far.
#[derive(Debug)]
pub(super) struct Tally {
    start: Instant,
    wire_is_ours: bool,
    kills: BTreeMap<Victim, u32>,
    recovery_kills: u32,
    series: BTreeMap<String, u32>,
    looks: u32,
    /// Where the time went.
    spent: BTreeMap<&'static str, Duration>,
    exits: BTreeMap<i32, u32>,
    broken: BTreeMap<Rule, u32>,
    printed: usize,
    bad_series: Vec<u64>,
    resent_max: u64,
    wire_excess_max: u64,
}

impl Tally {
    /// An empty one; `wire_is_ours` says that nobody else uses the loopback device.
    pub(super) fn new(wire_is_ours: bool) -> Self {
        Self {
            start: Instant::now(),
            wire_is_ours,
            kills: BTreeMap::new(),
            recovery_kills: 0,
            series: BTreeMap::new(),
            looks: 0,
            spent: BTreeMap::new(),
            exits: BTreeMap::new(),
            broken: BTreeMap::new(),
            printed: 0,
            bad_series: Vec::new(),
            resent_max: 0,
            wire_excess_max: 0,
        }
    }

    pub(super) fn kills(&self) -> u32 {
        self.kills.values().sum()
    }

    pub(super) fn bad_series(&self) -> usize {
        self.bad_series.len()
    }

    pub(super) fn wire_is_ours(&self) -> bool {
        self.wire_is_ours
    }

    pub(super) fn killed(&mut self, victim: Victim, in_recovery: bool) {
        *self.kills.entry(victim).or_default() += 1;
        self.recovery_kills += u32::from(in_recovery);
    }

    /// Does something and notes how long it took.
    pub(super) fn timed<T>(&mut self, what: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        *self.spent.entry(what).or_default() += start.elapsed();
        result
    }

    pub(super) fn looked(&mut self) {
        self.looks += 1;
    }

    pub(super) fn exited(&mut self, code: i32) {
        *self.exits.entry(code).or_default() += 1;
    }

    pub(super) fn resent(&mut self, bytes_per_kill: u64) {
        self.resent_max = self.resent_max.max(bytes_per_kill);
    }

    pub(super) fn wire_excess(&mut self, bytes_per_kill: u64) {
        self.wire_excess_max = self.wire_excess_max.max(bytes_per_kill);
    }

    pub(super) fn finished(&mut self, what: String) {
        *self.series.entry(what).or_default() += 1;
    }

    /// Notes that a rule was broken in a series.
    pub(super) fn broke(&mut self, rule: Rule, series: u64, details: &[String]) {
        *self.broken.entry(rule).or_default() += 1;
        if self.bad_series.last() != Some(&series) {
            self.bad_series.push(series);
        }
        if self.printed < PRINT_MAX {
            self.printed += 1;
            println!("VIOLATION in series {series}: {}", rule.title());
            details.iter().take(5).for_each(|detail| println!("    {detail}"));
        }
    }

    /// Prints the closing table; true if no rule was broken.
    pub(super) fn print(&self, seed: u64) -> bool {
        let seconds = self.start.elapsed().as_secs_f64();
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
        let row = |name: &str, value: String| println!("| {name} | {value} |");
        println!("\n| kill loop, seed {seed} | |\n|---|---:|");
        row("kills", self.kills().to_string());
        for (victim, count) in &self.kills {
            row(&format!("- of {}", victim.title()), count.to_string());
        }
        row("- during recovery from another", self.recovery_kills.to_string());
        row("kills per second", format!("{:.2}", f64::from(self.kills()) / seconds));
        for (what, count) in &self.series {
            row(&format!("series: {what}"), count.to_string());
        }
        row("looks at the target", self.looks.to_string());
        let spent: Vec<String> = self
            .spent
            .iter()
            .map(|(what, time)| format!("{what} {:.1}", time.as_secs_f64()))
            .collect();
        row("seconds of it", spent.join(", "));
        let exits: Vec<String> =
            self.exits.iter().map(|(code, count)| format!("{code}: {count}")).collect();
        row("exit statuses of commands not killed", exits.join(", "));
        row("most content sent again per kill, by last progress lines", mib(self.resent_max));
        let wire =
            if self.wire_is_ours { mib(self.wire_excess_max) } else { "not measured".into() };
        row("most bytes on the wire per kill beyond a calm run", wire);
        for rule in [Rule::Visible, Rule::Result, Rule::Repair, Rule::Resent, Rule::Summary] {
            row(rule.title(), self.broken.get(&rule).copied().unwrap_or(0).to_string());
        }
        if !self.bad_series.is_empty() {
            println!("\nrepeat one with: --seed {seed} --first {}", self.bad_series[0]);
        }
        self.broken.is_empty()
    }
}
