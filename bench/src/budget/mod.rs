//! The processor's budget of a push: what it takes beside the sum of what no push can do without.

mod raw;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::raw::RawQuinn;
use crate::measure::local::Stages;
use crate::nodes;
use crate::peers::{Bench, Mover, machine, make_work};
use crate::spread::Spread;

/// Arguments of `budget`.
#[derive(Debug, Args)]
pub(crate) struct BudgetArgs {
    /// Rounds, in each of which everything is measured once; medians, lowest and highest are printed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=99))]
    runs: u64,
    /// Size of the checkpoint that is pushed
    #[arg(long, value_parser = crate::size::parse, default_value = "2GiB")]
    bytes: u64,
    /// Size of the file that is read and written
    #[arg(long, value_parser = crate::size::parse, default_value = "512MiB")]
    file: u64,
    /// Time of one run of quinn and of the digest, in seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Largest payload of a datagram in bytes, of quinn and of the push
    #[arg(long, default_value_t = 8952, value_parser = clap::value_parser!(u16).range(1200..))]
    mtu: u16,
    /// Exit status 1 if the push takes more than so many times the sum
    #[arg(long, default_value_t = 1.25)]
    at_most: f64,
    /// The portway command
    #[arg(long, default_value = "target/release/portway")]
    portway: PathBuf,
    /// quinn with nothing around it: the example `raw_quinn` of portway-bench
    #[arg(long, default_value = "target/release/examples/raw_quinn")]
    raw_quinn: PathBuf,
    /// Directory for sources and homes; data sets that are there already are used again
    #[arg(long)]
    work: PathBuf,
    /// Directory for targets, and for the file [default: below --work]
    #[arg(long)]
    target: Option<PathBuf>,
}

/// CPU seconds of a gigabyte, of one round.
#[derive(Debug, Clone, Copy)]
struct Round {
    quinn: f64,
    /// Of one digest; a push digests at both ends.
    digest: f64,
    read: f64,
    write: f64,
    client: f64,
    server: f64,
}

impl Round {
    fn digests(&self) -> f64 {
        2.0 * self.digest
    }

    fn sum(&self) -> f64 {
        self.quinn + self.digests() + self.read + self.write
    }

    fn push(&self) -> f64 {
        self.client + self.server
    }

    fn ratio(&self) -> f64 {
        self.push() / self.sum()
    }
}

/// Measures all in turns and prints the table; false if a push takes too much, or arrives as something else.
pub(crate) fn run(args: &BudgetArgs) -> Result<bool> {
    std::fs::create_dir_all(&args.work)?;
    let work = args.work.canonicalize()?;
    let below = args.target.clone().unwrap_or_else(|| work.clone());
    std::fs::create_dir_all(&below)?;
    let (run, target) = (work.join("run"), below.join("portway-bench-target"));
    let checkpoint = make_work(&work.join("data"), "ckpt", args.bytes)?;
    let mut bench = Bench::new(&args.portway, &run, &target, &[Mover::Portway])?;
    // Encoding is no part of the sum.
    bench.compress = Some("never".to_owned());
    bench.lines = format!("[quic]\nmtu_max = {}", args.mtu);
    let stages = Stages::new(&below, args.file)?;
    let quinn = RawQuinn::start(&args.raw_quinn, args.mtu, &run)?;
    let time = Duration::from_secs(args.seconds);
    let (mut rounds, mut equal) = (Vec::new(), true);
    for number in 1..=args.runs {
        let quinn = quinn.cpu_s_per_gb(time)?;
        let [digest, read, write] = stages.cpu_s_per_gb(time)?;
        let sample = bench.once(Mover::Portway, &checkpoint).context("push")?;
        equal &= sample.equal;
        let gb = checkpoint.bytes as f64 / 1e9;
        let (client, server) = (sample.client_cpu_s / gb, sample.server_cpu_s / gb);
        let round = Round { quinn, digest, read, write, client, server };
        let (push, sum) = (round.push(), round.sum());
        eprintln!("round {number}: push {push:.3}, sum {sum:.3}, ratio {:.3}", round.ratio());
        rounds.push(round);
    }
    let names = stages.names();
    println!("{}\n", machine(&target));
    println!(
        "CPU seconds of a GB, {} rounds; a checkpoint of {} bytes, datagrams of {} bytes.\n",
        args.runs, checkpoint.bytes, args.mtu
    );
    print(&rounds, &names);
    drop((stages, quinn));
    bench.clean()?;
    nodes::remove(&run)?;
    ensure!(equal, "what arrived is not what was sent");
    Ok(spread(&rounds, Round::ratio).median <= args.at_most)
}

fn spread(rounds: &[Round], value: fn(&Round) -> f64) -> Spread {
    Spread::of(rounds.iter().map(value).collect())
}

fn print(rounds: &[Round], [digest, read, write]: &[String; 3]) {
    println!("| | median | low | high |\n|---|---:|---:|---:|");
    let line = |name: &str, value: fn(&Round) -> f64| {
        let Spread { median, low, high } = spread(rounds, value);
        println!("| {name} | {median:.3} | {low:.3} | {high:.3} |");
    };
    line("quinn alone, both ends", |round| round.quinn);
    line(&format!("2 times {digest}"), Round::digests);
    line(read, |round| round.read);
    line(write, |round| round.write);
    line("sum", Round::sum);
    line("push, sender", |round| round.client);
    line("push, receiver", |round| round.server);
    line("push, both ends", Round::push);
    line("push / sum, of each round", Round::ratio);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_a_round_and_a_digest_counts_twice() {
        let round = |quinn, server| Round {
            quinn,
            digest: 0.1,
            read: 0.1,
            write: 0.2,
            client: 0.5,
            server,
        };
        let rounds = [round(0.5, 0.5), round(0.6, 0.7), round(1.5, 1.5)];
        let near = |found: Spread, expected: [f64; 3]| {
            let found = [found.median, found.low, found.high];
            found.iter().zip(expected).all(|(one, other)| (one - other).abs() < 1e-9)
        };
        assert!(near(spread(&rounds, Round::sum), [1.1, 1.0, 2.0]));
        assert!(near(spread(&rounds, Round::ratio), [1.0, 1.0, 1.2 / 1.1]));
    }
}
