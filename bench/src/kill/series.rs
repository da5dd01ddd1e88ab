//! One transfer that is killed until it has had enough, resumed, and judged.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::tally::{RESENT_BYTES_MAX, Rule, Tally};
use super::workload::Workload;
use crate::compare::{self, Options};
use crate::events::Log;
use crate::nodes::{self, Node, Pair, Running, Transfer};
use crate::rng::Rng;
use crate::{system, visible};

/// Most kills in one series.
const KILLS_MAX: u64 = 6;
/// A kill in recovery comes this soon after the one before, at the latest.
const RECOVERY: Duration = Duration::from_millis(120);
/// Commands that may fail one after another though nothing was killed meanwhile.
const TRIES_MAX: u32 = 3;
/// Longest that a command may take once nothing is killed any more.
const END_TIMEOUT: Duration = Duration::from_mins(2);
/// Bytes on the wire that each new try may cost beside content: handshakes, manifest, offers.
const WIRE_SLACK_BYTES: u64 = 4 << 20;

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Victim {
    Sender,
    Receiver,
    Both,
}

impl Victim {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Sender => "the sender",
            Self::Receiver => "the receiver",
            Self::Both => "both at once",
        }
    }
}

/// What moves which way, and onto what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Way {
    /// Index of the workload.
    workload: usize,
    /// The command is `pull`, so that it is the receiver.
    pull: bool,
    /// The target holds the version before, so that objects are published one by one.
    existing: bool,
}

/// One series: all choices are drawn before it starts, but for the moments of the kills.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) way: Way,
    kills: u32,
    rng: Rng,
}

impl Plan {
    pub(super) fn draw(rng: &mut Rng, workloads: &[Workload]) -> Self {
        let way = Way {
            workload: rng.below(workloads.len() as u64) as usize,
            pull: rng.below(3) == 0,
            existing: rng.below(2) == 0,
        };
        Self { way, kills: 1 + rng.below(KILLS_MAX) as u32, rng: rng.clone() }
    }

    /// The same with no more kills than are still wanted.
    pub(super) fn at_most(self, kills: u32) -> Self {
        Self { kills: self.kills.min(kills), ..self }
    }
}

/// What the same transfer does if nobody is killed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calm {
    elapsed: Duration,
    deduplicated: u64,
    wire_bytes: u64,
}

/// What does not change from series to series.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) pair: &'a Pair,
    pub(super) work: &'a Path,
    pub(super) workloads: &'a [Workload],
}

/// Runs a transfer without kills, to know how long it takes and what it sends.
pub(super) fn calm(stage: &Stage<'_>, way: Way, number: u64, tally: &mut Tally) -> Result<Calm> {
    let plan = Plan { way, kills: 0, rng: Rng::new(0) };
    let nothing = Calm { elapsed: END_TIMEOUT, deduplicated: 0, wire_bytes: 0 };
    let mut act = tally.timed("set-up", || Act::open(stage, &plan, nothing, number))?;
    act.play(tally)?;
    let last = Log::read(&act.log_path());
    Ok(Calm {
        elapsed: act.elapsed,
        deduplicated: last.sum("bytes_deduplicated").unwrap_or(0),
        wire_bytes: system::loopback_bytes()?.saturating_sub(act.wire_before),
    })
}

/// Runs one series.
pub(super) fn run(
    stage: &Stage<'_>,
    plan: &Plan,
    calm: Calm,
    number: u64,
    tally: &mut Tally,
) -> Result<()> {
    let mut act = tally.timed("set-up", || Act::open(stage, plan, calm, number))?;
    let bad_before = tally.bad_series();
    if act.play(tally)? {
        act.account(tally)?;
    }
    tally.finished(act.title());
    if tally.bad_series() > bad_before {
        act.keep()?;
    }
    Ok(())
}

/// A series while it runs.
struct Act<'a> {
    stage: &'a Stage<'a>,
    workload: &'a Workload,
    way: Way,
    number: u64,
    calm: Calm,
    rng: Rng,
    kills_left: u32,
    kills: u32,
    attempts: u32,
    /// Content that commands sent which were killed or failed.
    sent_in_vain: u64,
    elapsed: Duration,
    wire_before: u64,
    home: PathBuf,
    root: PathBuf,
    target: PathBuf,
}

/// How one command came to its end.
enum End {
    Done,
    Killed,
    Failed,
    /// It cannot go on; already noted as a violation.
    Stuck,
}

impl<'a> Act<'a> {
    /// Fresh homes and, where asked, a target that holds the version before.
    fn open(stage: &'a Stage<'a>, plan: &Plan, calm: Calm, number: u64) -> Result<Self> {
        let workload = &stage.workloads[plan.way.workload];
        let home = stage.work.join("series");
        nodes::remove(&home)?;
        stage.pair.reset()?;
        let here = home.join("here");
        std::fs::create_dir_all(&here)?;
        let target = here.join("set");
        if plan.way.existing {
            nodes::copy(&workload.old, &target)?;
        }
        let root = if plan.way.pull { stage.work.join("data") } else { here };
        Ok(Self {
            stage,
            workload,
            way: plan.way,
            number,
            calm,
            rng: plan.rng.clone(),
            kills_left: plan.kills,
            kills: 0,
            attempts: 0,
            sent_in_vain: 0,
            elapsed: Duration::ZERO,
            wire_before: system::loopback_bytes()?,
            home,
            root,
            target,
        })
    }

    fn title(&self) -> String {
        let command = if self.way.pull { "pull" } else { "push" };
        let onto = if self.way.existing { "onto the version before" } else { "to a new path" };
        format!("{command} {} {onto}", self.workload.name)
    }

    fn log_path(&self) -> PathBuf {
        self.home.join(format!("command-{}.jsonl", self.attempts))
    }

    fn serve(&self) -> Result<Running> {
        self.stage.pair.serve(Node::Cloud, &self.root)
    }

    fn command(&mut self) -> Result<Running> {
        self.attempts += 1;
        let source = self.workload.new.clone();
        let transfer = if self.way.pull {
            let path = format!("{}/new", self.workload.name);
            Transfer::Pull { from: Node::Cloud, path, target: self.target.clone() }
        } else {
            Transfer::Push {
                source,
                to: Node::Cloud,
                path: "set".into(),
                through: None,
                compress: None,
            }
        };
        self.stage.pair.transfer(Node::Onprem, &transfer, &self.log_path())
    }

    /// The same command again and again until it is done; false if a violation ended it.
    fn play(&mut self, tally: &mut Tally) -> Result<bool> {
        let mut server = tally.timed("node starts", || self.serve())?;
        let start = Instant::now();
        let mut failures = 0;
        loop {
            let mut command = self.command()?;
            let kills_before = self.kills;
            let end = self.drive(&mut command, &mut server, tally)?;
            if !matches!(end, End::Done) {
                self.sent_in_vain += Log::read(&self.log_path()).sent().unwrap_or(0);
            }
            match end {
                End::Done => break,
                End::Stuck => return Ok(false),
                End::Killed => failures = 0,
                End::Failed if self.kills > kills_before => failures = 0,
                End::Failed => failures += 1,
            }
            if failures >= TRIES_MAX {
                let words = nodes::tail(&self.log_path().with_extension("err"));
                self.broke(tally, Rule::Repair, &[format!("{failures} tries failed: {words}")]);
                return Ok(false);
            }
        }
        self.elapsed = start.elapsed();
        server.kill();
        let options = Options { meta: true, skip_special: true };
        let differences =
            tally.timed("judging", || compare::trees(&self.workload.new, &self.target, options))?;
        if !differences.is_empty() {
            self.broke(tally, Rule::Result, &differences);
        }
        Ok(true)
    }

    /// Watches one command to its end and kills on the way.
    fn drive(
        &mut self,
        command: &mut Running,
        server: &mut Running,
        tally: &mut Tally,
    ) -> Result<End> {
        loop {
            let wait = if self.kills_left > 0 { self.next_kill() } else { END_TIMEOUT };
            if let Some(status) = command.wait(wait) {
                tally.exited(status.code().unwrap_or(-1));
                return Ok(if status.success() { End::Done } else { End::Failed });
            }
            if self.kills_left == 0 {
                let words = format!("still running after {} s", END_TIMEOUT.as_secs());
                self.broke(tally, Rule::Repair, &[words]);
                return Ok(End::Stuck);
            }
            let victim =
                [Victim::Sender, Victim::Receiver, Victim::Both][self.rng.below(3) as usize];
            let of_command = if self.way.pull { Victim::Receiver } else { Victim::Sender };
            let command_dies = victim == Victim::Both || victim == of_command;
            let server_dies = victim == Victim::Both || victim != of_command;
            let hit_server = server_dies && server.kill();
            let hit_command = command_dies && command.kill();
            if hit_server || hit_command {
                tally.killed(victim, self.kills > 0);
                self.kills += 1;
                self.kills_left -= 1;
            }
            let wrong = tally.timed("judging", || self.look())?;
            tally.looked();
            if !wrong.is_empty() {
                self.broke(tally, Rule::Visible, &wrong);
            }
            if server_dies {
                match tally.timed("node starts", || self.serve()) {
                    Ok(again) => *server = again,
                    Err(error) => {
                        self.broke(tally, Rule::Repair, &[format!("{error:#}")]);
                        return Ok(End::Stuck);
                    }
                }
            }
            if hit_command {
                return Ok(End::Killed);
            }
        }
    }

    /// Anywhere in the time that the transfer takes, or soon after the kill before.
    fn next_kill(&mut self) -> Duration {
        let in_recovery = self.kills > 0 && self.rng.below(2) == 0;
        let span = if in_recovery { RECOVERY.min(self.calm.elapsed) } else { self.calm.elapsed };
        Duration::from_micros(self.rng.below(span.as_micros() as u64))
    }

    /// What a reader would see now that is wrong.
    fn look(&self) -> Result<Vec<String>> {
        let (old, new) = (self.workload.old.as_path(), self.workload.new.as_path());
        if self.way.existing {
            return visible::wrong(&self.target, &[new, old]);
        }
        if self.target.symlink_metadata().is_err() {
            return Ok(Vec::new());
        }
        compare::trees(new, &self.target, Options { meta: true, skip_special: true })
    }

    /// Checks the numbers of a series that ended well.
    fn account(&self, tally: &mut Tally) -> Result<()> {
        let last = Log::read(&self.log_path());
        let sum = |name: &str| last.sum(name);
        let (Some(total), Some(sent), Some(deduplicated), Some(resumed)) = (
            sum("bytes_total"),
            sum("bytes_sent"),
            sum("bytes_deduplicated"),
            sum("bytes_resumed"),
        ) else {
            self.broke(tally, Rule::Summary, &["no summary, or fields are missing".into()]);
            return Ok(());
        };
        if total != sent + deduplicated + resumed {
            let words = format!("{total} is not {sent} + {deduplicated} + {resumed}");
            self.broke(tally, Rule::Summary, &[words]);
        }
        if self.kills == 0 {
            return Ok(());
        }
        let kills = u64::from(self.kills);
        // What a killed command had made durable shows up as resumed, or as found at the target.
        let kept = resumed + deduplicated.saturating_sub(self.calm.deduplicated);
        let discarded = sum("bytes_discarded").unwrap_or(0);
        let resent = (self.sent_in_vain.saturating_sub(kept) + discarded) / kills;
        tally.resent(resent);
        let mut over = resent > RESENT_BYTES_MAX;
        let mut words = vec![format!("{resent} bytes per kill by summaries, {kills} kills")];
        if tally.wire_is_ours() {
            let wire = system::loopback_bytes()?.saturating_sub(self.wire_before);
            let excess = wire.saturating_sub(self.calm.wire_bytes) / kills;
            tally.wire_excess(excess);
            let bound = RESENT_BYTES_MAX + RESENT_BYTES_MAX / 10 + WIRE_SLACK_BYTES;
            over |= excess > bound + self.calm.wire_bytes / 20;
            words.push(format!("{excess} bytes on the wire per kill beyond a calm run"));
        }
        if over {
            self.broke(tally, Rule::Resent, &words);
        }
        Ok(())
    }

    fn broke(&self, tally: &mut Tally, rule: Rule, details: &[String]) {
        let mut all = vec![format!("{}, {} kills so far", self.title(), self.kills)];
        all.extend_from_slice(details);
        tally.broke(rule, self.number, &all);
    }

    /// Puts trees and logs of a series aside.
    fn keep(&self) -> Result<()> {
        let aside = self.stage.work.join(format!("bad-{}", self.number));
        nodes::remove(&aside)?;
        std::fs::rename(&self.home, &aside)?;
        nodes::copy(&self.stage.work.join("homes"), &aside.join("homes"))
    }
}
