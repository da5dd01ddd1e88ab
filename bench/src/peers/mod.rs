//! Portway beside others that move trees: the same work, the same run, one after the other.

mod borg;
mod measure;
mod mover;
mod program;
mod qcp;
mod sendme;
mod sshd;
mod table;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::measure::Meter;
pub(crate) use self::measure::Sample;
pub(crate) use self::mover::{Bench, Mover};
use self::program::Programs;
pub(crate) use self::table::machine;
use crate::data::{self, Kind};
use crate::{nodes, system};

/// Arguments of `peers`.
#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    /// Runs of each mover and workload; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    runs: u64,
    /// Movers in the order in which they take turns
    #[arg(long, value_enum, value_delimiter = ',', default_value = "rsync,portway")]
    movers: Vec<Mover>,
    /// Workloads: ckpt, ckpt-next, shards, tokens, tokens-next, small, unchanged, million, sparse
    #[arg(long, value_delimiter = ',', default_value = "ckpt,ckpt-next,shards,small")]
    workloads: Vec<String>,
    /// Size of the checkpoint
    #[arg(long, value_parser = crate::size::parse, default_value = "2GiB")]
    bytes: u64,
    /// Whether Portway makes content smaller: never, auto, always [default: auto]
    #[arg(long)]
    compress: Option<String>,
    /// Largest payload of a datagram in bytes; loopback is made no larger than that takes, which
    /// needs a network namespace of its own [default: loopback as it is, movers by their defaults]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1200..))]
    mtu: Option<u16>,
    /// The portway command
    #[arg(long, default_value = "target/release/portway")]
    portway: PathBuf,
    #[command(flatten)]
    programs: Programs,
    /// Directory for sources and homes; data sets that are there already are used again
    #[arg(long)]
    work: PathBuf,
    /// Directory for targets [default: below --work]
    #[arg(long)]
    target: Option<PathBuf>,
}

/// Length of the sparse file: no mover gets through it byte by byte.
const SPARSE_BYTES: u64 = 1 << 40;

/// Headers of IPv6 and of UDP, in front of a datagram's payload: with 1,452 bytes of that, packets
/// are Ethernet's.
const HEADERS_BYTES: u32 = 48;

/// Something to move.
#[derive(Debug)]
pub(crate) struct Work {
    /// Its name in tables.
    pub(crate) name: String,
    /// What is moved.
    pub(crate) source: PathBuf,
    /// What the target holds before.
    pub(crate) base: Option<PathBuf>,
    /// Content of the source in bytes, holes left out.
    pub(crate) bytes: u64,
}

/// Measures everything and prints the table; false if a received tree differs from its source.
pub(crate) fn run(args: &PeersArgs) -> Result<bool> {
    let programs = args.programs.resolve(&args.movers)?;
    args.mtu.map_or(Ok(()), narrow_loopback)?;
    std::fs::create_dir_all(&args.work)?;
    let work = args.work.canonicalize()?;
    let target = args.target.clone().unwrap_or_else(|| work.clone()).join("portway-bench-target");
    let works: Vec<Work> = args
        .workloads
        .iter()
        .map(|name| make_work(&work.join("data"), name, args.bytes))
        .collect::<Result<_>>()?;
    let mut bench = Bench::new(&args.portway, &work.join("run"), &target, &args.movers)?;
    bench.compress.clone_from(&args.compress);
    bench.mtu = args.mtu;
    bench.programs = programs;
    if let Some(mtu) = args.mtu {
        bench.lines = format!("[quic]\nmtu_max = {mtu}");
    }
    let mut samples: Vec<Sample> = Vec::new();
    for work in &works {
        for run in 1..=args.runs {
            for &mover in &args.movers {
                let sample = bench
                    .once(mover, work)
                    .with_context(|| format!("{} of {}, run {run}", mover.title(), work.name))?;
                eprintln!("{} run {run}: {}", work.name, sample.line());
                samples.push(sample);
            }
        }
    }
    bench.clean()?;
    let mut head = vec![machine(&target)];
    head.extend(args.mtu.map(|mtu| format!("datagrams of at most {mtu} bytes")));
    let version = |mover: &Mover| bench.programs.version(*mover, &args.portway);
    head.extend(args.movers.iter().map(version));
    table::print(args.runs, &works, &args.movers, &samples, &head.join(", "));
    Ok(samples.iter().all(|sample| sample.equal))
}

/// Makes packets on loopback no larger than datagrams with this payload are.
fn narrow_loopback(mtu: u16) -> Result<()> {
    ensure!(
        system::only_loopback(),
        "--mtu would change loopback for everybody\nhint: scripts/bench-peers.sh runs in a network \
         namespace of its own, or unshare --net"
    );
    let bytes = u32::from(mtu) + HEADERS_BYTES;
    let status = Command::new("ip")
        .args(["link", "set", "lo", "mtu", &bytes.to_string()])
        .status()
        .context("start ip; is iproute2 installed?")?;
    ensure!(status.success(), "ip cannot set the MTU of loopback to {bytes}");
    Ok(())
}

pub(crate) fn make_work(data: &Path, name: &str, bytes: u64) -> Result<Work> {
    let (kind, base) = match name {
        "ckpt" => (Kind::Ckpt, None),
        "ckpt-next" => (Kind::CkptNext, Some(("ckpt", Kind::Ckpt))),
        "shards" => (Kind::Shards, None),
        "tokens" => (Kind::Tokens, None),
        "tokens-next" => (Kind::TokensNext, Some(("tokens", Kind::Tokens))),
        "small" | "million" => (Kind::Small, None),
        // The very same tree, a second time.
        "unchanged" => (Kind::Small, Some((name, Kind::Small))),
        "sparse" => (Kind::Sparse, None),
        other => anyhow::bail!("`{other}` is no workload"),
    };
    let set = |name: &str, kind: Kind| -> Result<PathBuf> {
        let size = matches!(kind, Kind::Ckpt | Kind::CkptNext).then(|| format!("-{bytes}"));
        let bytes = if kind == Kind::Sparse { SPARSE_BYTES } else { bytes };
        let files = match name {
            "million" => 1_000_000,
            "unchanged" => 100_000,
            _ => 0,
        };
        let path = data.join(format!("{name}{}", size.unwrap_or_default()));
        // A set is made under another name first, so that one that is there is whole.
        if !path.exists() {
            let part = path.with_extension("part");
            nodes::remove(&part)?;
            data::simple(kind, part.clone(), bytes, files, 1)?;
            std::fs::rename(&part, &path)?;
        }
        Ok(path)
    };
    let source = set(name, kind)?;
    let base = base.map(|(name, kind)| set(name, kind)).transpose()?;
    let bytes = read_all(&source)?;
    ensure!(bytes > 0, "{} is empty", source.display());
    Ok(Work { name: name.to_owned(), source, base, bytes })
}

/// Reads every file below a directory, so that it is cached, and returns their size. Sparse files
/// are not read: their size is what is allocated.
pub(crate) fn read_all(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let allocated = metadata.blocks() * 512;
        if metadata.is_file() && allocated < metadata.len() / 2 {
            bytes += allocated;
        } else if metadata.is_dir() {
            bytes += read_all(&entry.path())?;
        } else {
            bytes += std::io::copy(&mut std::fs::File::open(entry.path())?, &mut std::io::sink())?;
        }
    }
    Ok(bytes)
}

/// Memory that a run may touch first: the target's pages, those of what it holds before, which a
/// mover may keep until the end, and the movers' own.
fn pretouch(work: &Work) {
    let base = if work.base.is_some() { work.bytes } else { 0 };
    system::pretouch(work.bytes + work.bytes / 10 + base + (256 << 20));
}
