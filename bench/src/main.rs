//! `portway-bench`: data sets, an independent comparison, a kill loop, and measurements.

mod budget;
mod columns;
mod compare;
mod data;
mod events;
mod kill;
mod measure;
mod model;
mod nodes;
mod peers;
mod report;
mod result;
mod rng;
mod size;
mod spread;
mod system;
mod visible;
mod wan;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a deterministic data set; prints its numbers as JSON
    Data(data::DataArgs),
    /// Compare two trees by content and metadata; exit status 1 if they differ
    Compare(compare::CompareArgs),
    /// Kill transfers at random moments and judge what is left
    KillLoop(kill::KillArgs),
    /// Measure Portway beside rsync and others on the same work; prints Markdown
    Peers(peers::PeersArgs),
    /// Measure what a push costs a processor beside what no push can do without; prints Markdown
    Budget(budget::BudgetArgs),
    /// Measure pushes over an emulated link; prints Markdown
    Wan(wan::WanArgs),
    /// Be an emulated link to an address, until it is stopped
    Relay(wan::RelayArgs),
    /// Say which links a workload needs, what they cost, and why
    Size(model::SizeArgs),
    /// Replay the busiest stretch of a workload over an emulated link, and over a smaller one
    Replay(model::ReplayArgs),
    /// Show results as tables, and as a page with pictures
    Report(report::ReportArgs),
    /// Measure what this machine does with bytes alone, stage by stage
    Local(measure::local::LocalArgs),
    /// Let other nodes measure the way to this one
    Serve(measure::net::ServeArgs),
    /// Measure QUIC to a node that runs `portway-bench serve`
    Quic(measure::net::QuicArgs),
    /// Measure RDMA to a node that runs `portway-bench serve`, in perftest's columns
    Rdma(measure::net::RdmaArgs),
    /// Measure what lies between this node and one that runs `portway-bench serve`
    Path(measure::net::PathArgs),
    /// Push with the engine as it is, stage by stage, and name what limits
    Transfer(measure::transfer::TransferArgs),
    /// Make one thing scarce in many transfers, and count how often `transfer` names it
    Bottlenecks(measure::transfer::cases::BottlenecksArgs),
    /// Print the last value of a field in the JSON lines of standard input
    Field(events::FieldArgs),
    /// Wait until a running `--json` transfer has moved a share of its bytes
    WaitProgress(events::WaitProgressArgs),
    /// Print how fast one processor core digests content (BLAKE3), in MB/s
    DigestRate,
    /// Print free UDP ports of 127.0.0.1, one a line
    FreePorts {
        /// How many
        #[arg(default_value_t = 1)]
        count: usize,
    },
    /// Wait until a process has bound a UDP port
    WaitUdp {
        /// The port
        port: u16,
        /// Longest wait in seconds
        #[arg(long, default_value_t = 10)]
        timeout_s: u64,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<bool> {
    match command {
        Command::Data(args) => data::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::KillLoop(args) => kill::run(&args),
        Command::Peers(args) => peers::run(&args),
        Command::Budget(args) => budget::run(&args),
        Command::Wan(args) => wan::run(&args),
        Command::Relay(args) => wan::relay(&args),
        Command::Size(args) => model::run(&args),
        Command::Replay(args) => model::replay(&args),
        Command::Report(args) => report::run(&args),
        Command::Local(args) => measure::local::run(&args),
        Command::Serve(args) => measure::net::serve(&args),
        Command::Quic(args) => measure::net::quic(&args),
        Command::Rdma(args) => measure::net::rdma(&args),
        Command::Path(args) => measure::net::path(&args),
        Command::Transfer(args) => measure::transfer::transfer(&args),
        Command::Bottlenecks(args) => measure::transfer::cases::run(&args),
        Command::Field(args) => events::field(&args),
        Command::WaitProgress(args) => events::wait_progress(&args),
        Command::DigestRate => {
            println!("{:.1}", system::digest_rate() / 1e6);
            Ok(true)
        }
        Command::FreePorts { count } => {
            system::free_ports(count)?.iter().for_each(|port| println!("{port}"));
            Ok(true)
        }
        Command::WaitUdp { port, timeout_s } => {
            let timeout = Duration::from_secs(timeout_s);
            system::wait_bound(system::Socket::Udp, port, timeout)?;
            Ok(true)
        }
    }
}
