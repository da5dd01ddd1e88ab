//! The busiest stretch of a workload in real time: real transfers over an emulated link of the size
//! that the model says, and over one that is 10 % smaller.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use super::arrivals::Job;
use super::calendar;
use super::need::Demand;
use super::path::{Engine, Link};
use super::unit::{LinkRate, Share, Size, Time};
use super::workload::{LinkOption, Workload};
use crate::columns::Columns;
use crate::nodes::{self, Node, Pair, Transfer};
use crate::rng::Rng;
use crate::wan::{self, Relay};

/// How much smaller the second link is.
const SMALLER: f64 = 0.1;
/// What the least link is made smaller by to find the transfer that it is for: more than it is
/// inexact by.
const A_LITTLE: f64 = 1e-3;
/// Longest stretch that is replayed, in seconds.
const STRETCH_S: f64 = 180.0;
/// Longest that a transfer may take after it was due.
const PATIENCE: Duration = Duration::from_mins(3);

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The workload; its first option says round trip, loss and packet size
    workload: PathBuf,
    /// The portway command
    #[arg(long, default_value = "target/release/portway")]
    portway: PathBuf,
    /// Directory for sources, homes and targets
    #[arg(long)]
    work: PathBuf,
}

/// The transfers of a stretch, and the link that they are replayed over.
struct Stretch<'a> {
    demand: Demand<'a>,
    link: Link,
    jobs: Vec<Job>,
}

/// One transfer of a run.
struct Ended {
    job: Job,
    /// When the model and the transfer were done, in seconds from arrival.
    model_s: f64,
    real_s: f64,
}

/// Replays over both links; false if a deadline was missed on the one that the model says, or none
/// on the smaller one.
pub(crate) fn run(args: &ReplayArgs) -> Result<bool> {
    let shown = args.workload.display();
    let text = std::fs::read_to_string(&args.workload).with_context(|| format!("read {shown}"))?;
    let workload = Workload::parse(&text).with_context(|| format!("{shown}"))?;
    let option = &workload.options[0];
    let stretch = Stretch::busiest(&workload, option)?;
    std::fs::create_dir_all(&args.work)?;
    let run = args.work.canonicalize()?.join("replay");
    nodes::remove(&run)?;
    std::fs::create_dir_all(run.join("sources"))?;
    let pair = Pair::enrol(&args.portway, &run)?;
    stretch.make_sources(&run)?;
    let advised = stretch.link.rate;
    let smaller = LinkRate(advised.0 * (1.0 - SMALLER));
    let mut late = Vec::new();
    for rate in [advised, smaller] {
        let link = Link { rate, ..stretch.link };
        println!("A link of {rate}, {}, {} loss:\n", link.rtt, Share(link.loss));
        let ended = stretch.over(&pair, &run, &link, option)?;
        println!("{}", stretch.table(&ended));
        late.push(ended.iter().filter(|one| one.is_late()).count());
    }
    let count = stretch.jobs.len();
    println!(
        "Of {count} transfers {} were late over {advised}, and {} over {smaller}.",
        late[0], late[1]
    );
    nodes::remove(&run)?;
    Ok(late[0] == 0 && late[1] > 0)
}

impl Ended {
    fn is_late(&self) -> bool {
        self.real_s > self.job.due - self.job.at
    }
}

impl<'a> Stretch<'a> {
    /// The stretch around the transfer that would be the first to be late with less.
    fn busiest(workload: &'a Workload, option: &LinkOption) -> Result<Self> {
        let demand = Demand::new(workload, Engine::default())?;
        let none = || anyhow!("no rate of `{}` is enough, see `portway-bench size`", option.name);
        let link = demand.smallest_link(option).ok_or_else(none)?;
        ensure!(
            workload.headroom.0 < SMALLER,
            "headroom: with {} deadlines hold on a link that is {} smaller too; give it less",
            workload.headroom,
            Share(SMALLER)
        );
        let less = Link { rate: LinkRate(link.rate.0 * (1.0 - A_LITTLE)), ..link };
        let tight = demand.network(&less, 1, workload.headroom.0, 1.0);
        let mut weeks = demand.weeks.iter();
        let found = weeks.find_map(|week| Some((week, tight.first_late(&week.jobs)?)));
        let (week, late) = found.context("no transfer is late on a smaller link")?;
        // From when the links were idle for the last time before it.
        let (mut begins, mut busy_until) = (late.job.at, f64::NEG_INFINITY);
        tight.usage(&week.jobs, &mut |from, to, _| {
            if from > busy_until + 1e-3 && from <= late.job.due {
                begins = from;
            }
            busy_until = to;
        });
        // Content moves a start after its transfer came.
        let start_s = tight.lanes.iter().map(|lane| lane.start_s).fold(0.0, f64::max);
        let begins = begins.min(late.job.at) - start_s - 1e-3;
        let jobs = week.jobs.iter().filter(|job| (begins..late.job.due).contains(&job.at));
        let jobs: Vec<Job> = jobs.copied().collect();
        let length = jobs.iter().map(|job| job.due).fold(0.0, f64::max) - jobs[0].at;
        ensure!(
            length <= STRETCH_S,
            "the busiest stretch takes {}, and at most {} are replayed: make sizes and times smaller",
            Time(length),
            Time(STRETCH_S)
        );
        Ok(Self { demand, link, jobs })
    }

    fn sessions(&self, job: &Job) -> u64 {
        self.demand.workload.flows[job.flow].nodes
    }

    /// A directory with a file of noise for each session: what the model counts is what moves.
    fn make_sources(&self, run: &Path) -> Result<()> {
        for (number, job) in self.jobs.iter().enumerate() {
            for session in 0..self.sessions(job) {
                let mut noise = vec![0; (job.bytes / self.sessions(job) as f64) as usize];
                Rng::named(number as u64, &session.to_string()).fill(&mut noise);
                std::fs::write(run.join(format!("sources/{number}-{session}")), noise)?;
            }
        }
        Ok(())
    }

    /// Pushes everything when it comes, over a link.
    fn over(
        &self,
        pair: &Pair,
        run: &Path,
        link: &Link,
        option: &LinkOption,
    ) -> Result<Vec<Ended>> {
        let target = run.join("target");
        nodes::remove(&target)?;
        std::fs::create_dir_all(&target)?;
        pair.reset()?;
        let _server = pair.serve(Node::Cloud, &target)?;
        let emulated = wan::Link {
            rate_bps: link.rate.0,
            delay_s: link.rtt.0 / 2.0,
            queue_s: link.rtt.0,
            loss: link.loss,
            mtu: option.mtu as usize,
        };
        let relay = Relay::start(pair.socket_address(Node::Cloud), emulated, 1)?;
        let first = self.jobs[0].at;
        let began = Instant::now();
        let took: Vec<Result<f64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .jobs
                .iter()
                .enumerate()
                .map(|(number, job)| {
                    let address = relay.address();
                    scope.spawn(move || {
                        let comes = began + Duration::from_secs_f64(job.at - first);
                        std::thread::sleep(comes.saturating_duration_since(Instant::now()));
                        let mut running = Vec::new();
                        for session in 0..self.sessions(job) {
                            let name = format!("{number}-{session}");
                            let transfer = Transfer::Push {
                                source: run.join("sources").join(&name),
                                to: Node::Cloud,
                                path: name.clone(),
                                through: Some(address),
                                compress: Some("never".into()),
                            };
                            let log = run.join(format!("{name}.jsonl"));
                            running.push((pair.transfer(Node::Onprem, &transfer, &log)?, log));
                        }
                        for (one, log) in &mut running {
                            let patience = Duration::from_secs_f64(job.due - job.at) + PATIENCE;
                            let well = one.wait(patience).is_some_and(|status| status.success());
                            ensure!(well, "push: {}", nodes::tail(&log.with_extension("err")));
                        }
                        Ok(comes.elapsed().as_secs_f64())
                    })
                })
                .collect();
            let lost = |_| Err(anyhow!("a thread ended early"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(lost)).collect()
        });
        let model = self.demand.network(link, 1, 0.0, 1.0).ends(&self.jobs);
        let all = self.jobs.iter().zip(model).zip(took);
        all.map(|((job, end), took)| Ok(Ended { job: *job, model_s: end - job.at, real_s: took? }))
            .collect()
    }

    fn table(&self, ended: &[Ended]) -> Columns {
        let mut table = Columns::new(&["flow", "size", "came", "deadline", "model", "took", ""]);
        for one in ended {
            let job = &one.job;
            let seconds = |s: f64| format!("{s:.2} s");
            let came = format!("{} + {:.1} s", calendar::shown(job.at), job.at % 60.0);
            table.row([
                self.demand.workload.flows[job.flow].name.clone(),
                Size(job.bytes).to_string(),
                came,
                seconds(job.due - job.at),
                seconds(one.model_s),
                seconds(one.real_s),
                if one.is_late() { "late".to_owned() } else { String::new() },
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stretch_holds_on_its_link_and_not_on_a_smaller_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sizing/replay.toml");
        let workload = Workload::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        let stretch = Stretch::busiest(&workload, &workload.options[0]).unwrap();
        let late = |factor: f64| {
            let link = Link { rate: LinkRate(stretch.link.rate.0 * factor), ..stretch.link };
            let ends = stretch.demand.network(&link, 1, 0.0, 1.0).ends(&stretch.jobs);
            stretch.jobs.iter().zip(ends).filter(|(job, end)| *end > job.due).count()
        };
        assert!(stretch.jobs.len() >= 2, "they share the link");
        assert_eq!(late(1.0), 0);
        assert!(late(1.0 - SMALLER) > 0);
    }
}
