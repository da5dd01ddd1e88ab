//! Portway over an emulated link: how much of it a transfer fills, and what it sends for that.

mod alone;
mod line;
mod relay;
mod series;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::builder::ArgPredicate::IsPresent;

pub(crate) use self::alone::{RelayArgs, run as relay};
use self::line::Counters;
pub(crate) use self::line::Link;
pub(crate) use self::relay::Relay;
use crate::compare::{self, Options};
use crate::nodes::{self, Node, Pair, Transfer};
use crate::peers::{Work, make_work};
use crate::spread::Spread;
use crate::system;

/// Longest that a push may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// Arguments of `wan`.
#[derive(Debug, Args)]
pub(crate) struct WanArgs {
    /// Rate of the link, in Mb/s of IP packets; 200 unless it is said with --series
    #[arg(long, default_value = "1000", default_value_if("series", IsPresent, "200"))]
    rate_mbit: f64,
    /// Round trip, in ms; 20 unless it is said with --series
    #[arg(long, default_value = "50", default_value_if("series", IsPresent, "20"))]
    rtt_ms: f64,
    /// Packets lost at random each way, in per cent; none unless it is said with --series
    #[arg(long, value_delimiter = ',', default_value = "0,0.1,1")]
    #[arg(default_value_if("series", IsPresent, "0"))]
    loss_percent: Vec<f64>,
    /// Longest wait before the link, in ms [default: the round trip]
    #[arg(long)]
    queue_ms: Option<f64>,
    /// Largest IP packet, in bytes
    #[arg(long, default_value_t = 1500)]
    mtu: usize,
    /// Workloads: ckpt, ckpt-next, shards, tokens, tokens-next, small
    #[arg(long, value_delimiter = ',', default_value = "ckpt")]
    workloads: Vec<String>,
    /// Instead: every directory in this one, in the order of names, to one receiver that keeps all
    #[arg(long, conflicts_with_all = ["workloads", "bytes", "known_path"])]
    series: Option<PathBuf>,
    /// Size of the checkpoint
    #[arg(long, value_parser = crate::size::parse, default_value = "512MiB")]
    bytes: u64,
    /// Whether content is made smaller: never, auto, always; all three unless it is said with --series
    #[arg(long, value_delimiter = ',', default_value = "never,auto")]
    #[arg(default_value_if("series", IsPresent, "never,auto,always"))]
    compress: Vec<String>,
    /// From the second run on the sender knows the path, as one that pushed within the hour
    #[arg(long)]
    known_path: bool,
    /// Runs of each; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    runs: u64,
    /// The portway command
    #[arg(long, default_value = "target/release/portway")]
    portway: PathBuf,
    /// Directory for sources, homes and targets; data sets that are there already are used again
    #[arg(long)]
    work: PathBuf,
}

/// What one push took.
#[derive(Debug, Clone, Copy)]
struct Sample {
    wall_s: f64,
    there: Counters,
    back: Counters,
}

/// Measures everything and prints the table; false if a received tree differs from its source.
pub(crate) fn run(args: &WanArgs) -> Result<bool> {
    ensure!(args.rate_mbit > 0.0 && args.rtt_ms >= 0.0, "a link has a rate and a round trip");
    std::fs::create_dir_all(&args.work)?;
    let dir = args.work.canonicalize()?;
    let run = dir.join("wan");
    nodes::remove(&run)?;
    std::fs::create_dir_all(&run)?;
    let pair = Pair::enrol(&args.portway, &run)?;
    println!(
        "{} Mb/s, round trip {} ms, queue {} ms, MTU {}; medians of {} runs.\n",
        args.rate_mbit,
        args.rtt_ms,
        args.queue_ms.unwrap_or(args.rtt_ms),
        args.mtu,
        args.runs
    );
    let equal = match &args.series {
        None => workloads(args, &pair, &dir, &run)?,
        Some(series) => series::measure(args, &pair, &series.canonicalize()?, &run)?,
    };
    nodes::remove(&run)?;
    Ok(equal)
}

/// Each workload to a fresh target, over a link with each loss.
fn workloads(args: &WanArgs, pair: &Pair, dir: &Path, run: &Path) -> Result<bool> {
    println!(
        "| workload | loss % | compress | wall s | content / link | sent / content \
         | arrived / content | lost | dropped by the queue |"
    );
    println!("|---|---:|---|---:|---:|---:|---:|---:|---:|");
    let mut equal = true;
    for name in &args.workloads {
        let work = make_work(&dir.join("data"), name, args.bytes)?;
        for &loss in &args.loss_percent {
            for compress in &args.compress {
                let mut samples = Vec::new();
                let mut known: Option<Vec<u8>> = None;
                for number in 1..=args.runs {
                    let link = args.link(loss);
                    let past = known.take().filter(|_| args.known_path);
                    let sample =
                        once(pair, run, (&work, past.as_deref()), (link, number), compress)
                            .with_context(|| format!("{name}, loss {loss} %, run {number}"))?;
                    known = std::fs::read(path_file(pair)).ok();
                    eprintln!("{name}, loss {loss} %, {compress}: {:.2} s", sample.wall_s);
                    let options = Options { meta: true, skip_special: true };
                    let place = run.join("target/set");
                    let differences = compare::trees(&work.source, &place, options)?;
                    differences.iter().take(5).for_each(|it| eprintln!("    {it}"));
                    equal &= differences.is_empty();
                    samples.push(sample);
                }
                print(args, &work, (loss, compress), &samples);
            }
        }
    }
    Ok(equal)
}

impl WanArgs {
    fn link(&self, loss_percent: f64) -> Link {
        Link {
            rate_bps: self.rate_mbit * 1e6,
            delay_s: self.rtt_ms / 2e3,
            queue_s: self.queue_ms.unwrap_or(self.rtt_ms) / 1e3,
            loss: loss_percent / 100.0,
            mtu: self.mtu,
        }
    }
}

/// Where the sender notes what it knows of paths.
fn path_file(pair: &Pair) -> PathBuf {
    pair.home(Node::Onprem).join("paths.json")
}

/// One push to a fresh target, through a link with a seed; `known` is what the sender knows of it.
fn once(
    pair: &Pair,
    run: &Path,
    (work, known): (&Work, Option<&[u8]>),
    (link, seed): (Link, u64),
    compress: &str,
) -> Result<Sample> {
    let target = run.join("target");
    nodes::remove(&target)?;
    std::fs::create_dir_all(&target)?;
    pair.reset()?;
    if let Some(known) = known {
        let file = path_file(pair);
        std::fs::create_dir_all(file.parent().unwrap_or(run))?;
        std::fs::write(file, known)?;
    }
    let _server = pair.serve(Node::Cloud, &target)?;
    if let Some(base) = &work.base {
        push(pair, run, (base, "set"), None, compress)?;
    }
    system::pretouch(work.bytes + (256 << 20));
    let relay = Relay::start(pair.socket_address(Node::Cloud), link, seed)?;
    let wall_s = push(pair, run, (&work.source, "set"), Some(relay.address()), compress)?;
    let [there, back] = relay.counters();
    Ok(Sample { wall_s, there, back })
}

/// Pushes a tree to a path at the receiver and waits for the end: seconds that it took.
fn push(
    pair: &Pair,
    run: &Path,
    (source, path): (&Path, &str),
    through: Option<SocketAddr>,
    compress: &str,
) -> Result<f64> {
    let log = run.join("push.jsonl");
    let transfer = Transfer::Push {
        source: source.to_owned(),
        to: Node::Cloud,
        path: path.to_owned(),
        through,
        compress: Some(compress.to_owned()),
    };
    let began = Instant::now();
    let mut running = pair.transfer(Node::Onprem, &transfer, &log)?;
    let status = running.wait(PATIENCE);
    let wall = began.elapsed().as_secs_f64();
    let well = status.is_some_and(|status| status.success());
    ensure!(well, "push: {}", nodes::tail(&log.with_extension("err")));
    Ok(wall)
}

fn print(args: &WanArgs, work: &Work, (loss, compress): (f64, &str), samples: &[Sample]) {
    let middle =
        |value: &dyn Fn(&Sample) -> f64| Spread::of(samples.iter().map(value).collect()).median;
    let content = work.bytes as f64;
    let wall = middle(&|sample| sample.wall_s);
    println!(
        "| {} | {loss} | {compress} | {wall:.2} | {:.3} | {:.3} | {:.3} | {:.0} | {:.0} |",
        work.name,
        content * 8.0 / wall / (args.rate_mbit * 1e6),
        middle(&|sample| sample.there.offered_bytes as f64 / content),
        middle(&|sample| sample.there.passed_bytes as f64 / content),
        middle(&|sample| (sample.there.lost + sample.back.lost) as f64),
        middle(&|sample| (sample.there.dropped + sample.back.dropped) as f64),
    );
}
