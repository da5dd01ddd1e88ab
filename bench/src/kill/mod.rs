//! The kill loop: real nodes, real files, SIGKILL at random moments, and a judge that trusts nobody.

mod series;
mod tally;
mod workload;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use self::series::{Calm, Plan, Stage};
use self::tally::Tally;
use crate::nodes::{self, Pair};
use crate::{rng::Rng, system};

/// How often a run tells how far it is.
const REPORTS: u32 = 10;
/// After so many series with violations the loop stops: the point is made.
const BAD_SERIES_MAX: usize = 5;
/// Series without a single kill before the loop gives up: transfers end before they can be killed.
const IDLE_SERIES_MAX: u32 = 50;

/// Arguments of `kill-loop`.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// How many kills
    kills: u32,
    /// Seed of all choices; printed, so that a run can be repeated
    #[arg(long)]
    seed: Option<u64>,
    /// Number of the first series, to repeat one that failed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// The portway command
    #[arg(long, default_value = "target/release/portway")]
    portway: PathBuf,
    /// Directory for data, homes and logs; made, and removed at the end unless something was wrong
    #[arg(long)]
    work: PathBuf,
    /// Size of the checkpoint; the other workloads follow it
    #[arg(long, value_parser = crate::size::parse, default_value = "200MiB")]
    bytes: u64,
    /// Leave the directory in any case
    #[arg(long)]
    keep: bool,
}

/// Runs the loop and prints the closing table; false on any violation.
pub(crate) fn run(args: &KillArgs) -> Result<bool> {
    let seed = args.seed.unwrap_or_else(seed_of_now);
    println!("kill loop: {} kills, seed {seed}, first series {}", args.kills, args.first);
    std::fs::create_dir_all(&args.work)
        .with_context(|| format!("create {}", args.work.display()))?;
    let work = args.work.canonicalize()?;
    let start = Instant::now();
    let workloads = workload::make_all(&work.join("data"), args.bytes)?;
    let pair = Pair::enrol(&args.portway, &work)?;
    println!("data and nodes ready after {:.1} s", start.elapsed().as_secs_f64());

    let mut tally = Tally::new(system::only_loopback());
    let stage = Stage { pair: &pair, work: &work, workloads: &workloads };
    kill(args, seed, &stage, &mut tally)?;
    let good = tally.print(seed);
    if good && !args.keep {
        nodes::remove(&work)?;
    } else {
        println!("logs and trees are in {}", work.display());
    }
    Ok(good)
}

fn kill(args: &KillArgs, seed: u64, stage: &Stage<'_>, tally: &mut Tally) -> Result<()> {
    let start = Instant::now();
    let mut calm: HashMap<series::Way, Calm> = HashMap::new();
    let mut idle = 0;
    let mut number = args.first;
    while tally.kills() < args.kills && tally.bad_series() < BAD_SERIES_MAX {
        let plan = Plan::draw(&mut Rng::named(seed, &format!("series {number}")), stage.workloads);
        let calm = match calm.get(&plan.way) {
            Some(calm) => *calm,
            None => *calm.entry(plan.way).or_insert(series::calm(stage, plan.way, number, tally)?),
        };
        let before = tally.kills();
        let left = args.kills - before;
        series::run(stage, &plan.at_most(left), calm, number, tally)?;
        let kills = tally.kills();
        if kills * REPORTS / args.kills > before * REPORTS / args.kills {
            println!("{kills} kills after {:.0} s", start.elapsed().as_secs_f64());
        }
        idle = if kills == before { idle + 1 } else { 0 };
        anyhow::ensure!(idle < IDLE_SERIES_MAX, "{idle} series ended before anything was killed");
        number += 1;
    }
    Ok(())
}

fn seed_of_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| u64::from(now.subsec_nanos()) ^ (now.as_secs() & 0xffff_ffff))
}
