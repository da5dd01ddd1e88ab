//! Seeded transfers in which one thing is scarce: is it the one that `transfer` names?

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use rustix::fs::{Advice, fadvise};

use super::bottleneck::{Limit, Side};
use super::throttle::{BusyProcessor, SlowDisk};
use crate::nodes::{self, Node, Pair};
use crate::result::Document;
use crate::rng::Rng;
use crate::wan::{Link, Relay};

/// Arguments of `bottlenecks`.
#[derive(Debug, Args)]
pub(crate) struct BottlenecksArgs {
    /// Cases; kinds take turns
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1000))]
    cases: u64,
    /// The first case: the same number is always the same case
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Content takes so many times as long
    #[arg(long, default_value_t = 1.0)]
    size: f64,
    /// What is made scarce
    #[arg(long, value_enum, value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// The portway command
    #[arg(long, default_value = "target/release/portway")]
    portway: PathBuf,
    /// Directory for sources, homes and targets, on a disk
    #[arg(long)]
    work: PathBuf,
}

/// What is scarce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    SourceDisk,
    TargetDisk,
    SourceCpu,
    TargetCpu,
    LinkRate,
    Window,
    Loss,
    SmallFiles,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::SourceDisk,
        Self::TargetDisk,
        Self::SourceCpu,
        Self::TargetCpu,
        Self::LinkRate,
        Self::Window,
        Self::Loss,
        Self::SmallFiles,
    ];

    fn limit(self) -> Limit {
        match self {
            Self::SourceDisk => Limit::Disk(Side::Source),
            Self::TargetDisk => Limit::Disk(Side::Target),
            Self::SourceCpu => Limit::Cpu(Side::Source),
            Self::TargetCpu => Limit::Cpu(Side::Target),
            Self::LinkRate => Limit::LinkRate,
            Self::Window => Limit::Window,
            Self::Loss => Limit::Loss,
            Self::SmallFiles => Limit::SmallFiles,
        }
    }
}

/// One case, drawn from its number.
#[derive(Debug, Clone, PartialEq)]
struct Case {
    kind: Kind,
    /// Content in bytes, and in how many files it lies.
    bytes: u64,
    files: u64,
    /// Rate of the disk in bytes a second, where it is scarce.
    disk: u64,
    /// Threads that compete for the processor, where it is scarce.
    competitors: usize,
    /// What lies between the nodes; none is loopback.
    link: Option<Link>,
    /// Lines of both nodes' configuration.
    config: String,
}

impl Case {
    /// The case of this number and kind, sized so that it takes some three seconds.
    fn new(number: u64, kind: Kind, size: f64) -> Self {
        let mut rng = Rng::named(number, "bottleneck");
        let mut between = |low: f64, high: f64| {
            let unit = rng.below(1 << 20) as f64 / f64::from(1 << 20);
            low + (high - low) * unit
        };
        let mut case = Self {
            kind,
            bytes: 0,
            files: 2,
            disk: 0,
            competitors: 0,
            link: None,
            config: String::new(),
        };
        let wire = |mbit: f64, rtt_ms: f64, loss: f64| Link {
            rate_bps: mbit * 1e6,
            delay_s: rtt_ms / 2e3,
            queue_s: (rtt_ms / 1e3).max(0.01),
            loss,
            mtu: 1500,
        };
        let bytes_per_s = match kind {
            Kind::SourceDisk | Kind::TargetDisk => {
                case.disk = between(20e6, 60e6) as u64;
                if kind == Kind::TargetDisk {
                    "[storage]\ndirect = true\n".clone_into(&mut case.config);
                }
                case.disk as f64
            }
            Kind::SourceCpu | Kind::TargetCpu => {
                case.competitors = between(3.0, 7.0) as usize;
                100e6
            }
            Kind::LinkRate => {
                let mbit = between(50.0, 300.0);
                case.link = Some(wire(mbit, between(2.0, 30.0), 0.0));
                mbit * 1e6 / 8.0
            }
            Kind::Window => {
                let (window_mib, rtt_ms) = (between(8.0, 11.0) as u64, between(80.0, 200.0));
                case.link = Some(wire(1000.0, rtt_ms, 0.0));
                case.config = format!("[limits]\nwindow_mib = {window_mib}\n");
                (window_mib - 4) as f64 * 1_048_576.0 / (rtt_ms / 1e3)
            }
            Kind::Loss => {
                let (rtt_ms, loss) = (between(10.0, 25.0), between(0.003, 0.02));
                case.link = Some(wire(1000.0, rtt_ms, loss));
                "[quic]\ncongestion = \"cubic\"\n".clone_into(&mut case.config);
                // Mathis, Semke, Mahdavi, Ott (1997): MSS / RTT * sqrt(3 / 2p).
                1452.0 / (rtt_ms / 1e3) * (1.5 / loss).sqrt()
            }
            Kind::SmallFiles => {
                let each = between(1024.0, 16384.0);
                case.files = (3000.0 * size) as u64;
                case.bytes = case.files * each as u64;
                return case;
            }
        };
        // Content that always takes long enough to be seen, and never too long.
        let bytes = (bytes_per_s * 3.0 * size).clamp(4e6, 4e8 * size);
        case.bytes = bytes as u64;
        case
    }
}

/// Runs the cases and prints how many were named right; false if less than 95 % were.
pub(crate) fn run(args: &BottlenecksArgs) -> Result<bool> {
    std::fs::create_dir_all(&args.work)?;
    let dir = args.work.canonicalize()?.join("bottlenecks");
    nodes::remove(&dir)?;
    std::fs::create_dir_all(&dir)?;
    let pair = Pair::enrol(&args.portway, &dir)?;
    let kinds = if args.kinds.is_empty() { Kind::ALL.to_vec() } else { args.kinds.clone() };
    let mut right = 0;
    for number in args.first..args.first + args.cases {
        let kind = kinds[(number % kinds.len() as u64) as usize];
        let case = Case::new(number, kind, args.size);
        let document = once(&pair, &dir, &case).with_context(|| format!("case {number}"))?;
        let named = document.notes.first().cloned().unwrap_or_default();
        let hit = named == format!("The bottleneck: {}.", kind.limit().name());
        right += u64::from(hit);
        println!(
            "case {number}, {}: {} {}",
            kind.limit().name(),
            if hit { "right." } else { "WRONG." },
            document.notes.join(" ")
        );
    }
    nodes::remove(&dir)?;
    println!("{right} of {} named right", args.cases);
    Ok(right * 100 >= args.cases * 95)
}

/// One transfer in which one thing is scarce.
fn once(pair: &Pair, dir: &Path, case: &Case) -> Result<Document> {
    let (source, target) = (dir.join("source"), dir.join("target"));
    for path in [&source, &target] {
        nodes::remove(path)?;
        std::fs::create_dir_all(path)?;
    }
    make(&source, case)?;
    pair.reset()?;
    pair.configure(&case.config)?;
    let server = pair.serve(Node::Cloud, &target)?;
    let disk = match case.kind {
        Kind::SourceDisk | Kind::TargetDisk => Some(SlowDisk::new(dir, case.disk)?),
        _ => None,
    };
    let busy = (case.competitors > 0).then(|| BusyProcessor::new(case.competitors));
    match (case.kind, &disk) {
        (Kind::TargetDisk, Some(disk)) => disk.join(server.pid())?,
        (Kind::TargetCpu, _) => BusyProcessor::bind(server.pid())?,
        _ => {}
    }
    let own = std::env::current_exe()?;
    let mut command = match (case.kind, &disk) {
        (Kind::SourceDisk, Some(disk)) => disk.command(&own),
        (Kind::SourceCpu, _) => BusyProcessor::command(&own),
        _ => Command::new(&own),
    };
    let address = pair.socket_address(Node::Cloud);
    let relay = case.link.map(|link| Relay::start(address, link, 1)).transpose()?;
    let address = relay.as_ref().map_or(address, Relay::address);
    let output = command
        .args(["transfer", "--json", "--compress", "never", "--home"])
        .arg(pair.home(Node::Onprem))
        .arg(&source)
        .arg(format!("{address}:set"))
        .stdin(Stdio::null())
        .output()
        .context("run the transfer")?;
    drop((busy, relay));
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", words.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Files of random content, on the disk and out of the cache.
fn make(dir: &Path, case: &Case) -> Result<()> {
    let each = (case.bytes / case.files).max(1);
    let mut content = vec![0; each as usize];
    for number in 0..case.files {
        Rng::named(number, "content").fill(&mut content);
        std::fs::write(dir.join(format!("file-{number}")), &content)?;
    }
    if case.kind == Kind::SourceDisk {
        for number in 0..case.files {
            let file = File::open(dir.join(format!("file-{number}")))?;
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_always_the_same_case_and_takes_seconds() {
        for number in 0..80 {
            let kind = Kind::ALL[number as usize % Kind::ALL.len()];
            let case = Case::new(number, kind, 1.0);
            assert_eq!(case, Case::new(number, kind, 1.0));
            assert!((4_000_000 / 4..=400_000_000).contains(&case.bytes), "{case:?}");
            assert_eq!(case.disk > 0, matches!(kind, Kind::SourceDisk | Kind::TargetDisk));
        }
    }
}
