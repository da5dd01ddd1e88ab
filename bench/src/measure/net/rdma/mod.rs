//! `rdma`: throughput and latency of READ, WRITE and SEND to another node.

mod lend;
mod pump;
mod words;

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use portway::base::human;
use portway::base::limits::LEASE_BYTES;
use portway::buf::{Lease, Slab};
use portway::config::PortName;
use portway::transport::Link as _;
use portway::transport::quic::QuicLink;
use portway::transport::rdma::{Operation, Plan, PortInfo, Role, SystemVerbs, best_pair};

pub(super) use self::lend::Lender;
use self::pump::Pump;
pub(super) use self::words::{Answer, Ask, Op};
use self::words::{End, Open, Port};
use super::quic::{rate, seconds};
use super::{HomeArgs, node, talk, told};
use crate::measure::rows::{self, OutputArgs, bits};
use crate::result::{Kind, Row};

/// Arguments of `rdma`.
#[derive(Debug, Args)]
pub(crate) struct RdmaArgs {
    /// A node that runs `portway-bench serve`: a name, or HOST:PORT
    node: String,
    /// What is measured, one after the other
    #[arg(long, value_enum, value_delimiter = ',', default_value = "read")]
    op: Vec<Op>,
    /// Sizes of messages, up to 2 MiB
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = crate::size::parse,
        default_value = "64,1KiB,4KiB,16KiB,64KiB,256KiB,1MiB"
    )]
    sizes: Vec<u64>,
    /// Queue pairs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    qps: u64,
    /// Messages under way in each of them
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=4096))]
    depth: u64,
    /// Port here: DEVICE or DEVICE/PORT [default: that which fits a port of the node best]
    #[arg(long)]
    device: Option<PortName>,
    /// Time of all runs of a size together, after a warm-up
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Runs of each size; median, lowest and highest are printed
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(3..=99))]
    runs: u64,
    /// Messages a second that latency is measured with
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    rate: f64,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    home: HomeArgs,
}

/// What memory holds before content comes.
const UNTOUCHED: u8 = 0xee;

/// Whether this end of a measurement has the content.
fn has_content(plan: &Plan, role: Role) -> bool {
    (plan.operation == Operation::Read) == (role == Role::Answers)
}

/// What the memory of a queue pair holds at first.
fn fill(plan: &Plan, role: Role, memory: &mut [u8]) {
    if has_content(plan, role) {
        memory.copy_from_slice(&talk::content()[..memory.len()]);
    } else {
        memory.fill(UNTOUCHED);
    }
}

/// Queue pairs whose memory did not get the content and nothing else; memory that is missing counts.
fn wrong(plan: &Plan, role: Role, memory: &[Lease]) -> usize {
    let content = talk::content();
    let right = |lease: &&Lease| {
        let (got, rest) = lease.split_at(plan.bytes);
        has_content(plan, role)
            || got == &content[..plan.bytes] && rest.iter().all(|byte| *byte == UNTOUCHED)
    };
    plan.queue_pairs - memory.iter().filter(right).count()
}

/// Both ends of the measurement.
struct Ends {
    link: QuicLink,
    verbs: std::sync::Arc<SystemVerbs>,
    mine: PortInfo,
    /// The other node's port, and its place in that node's list.
    theirs: (PortInfo, usize),
}

/// Measures and prints.
pub(super) async fn run(args: &RdmaArgs) -> Result<()> {
    let when = rows::now();
    let (engine, _) = args.home.engine()?;
    for size in &args.sizes {
        let most = LEASE_BYTES as u64;
        ensure!(
            (1..=most).contains(size),
            "a message of {size} bytes cannot be measured\nhint: --sizes takes 1 to {most} bytes"
        );
    }
    let (verbs, mut mine) = engine.bare_ports().map_err(|error| told(&error))?;
    if let Some(name) = &args.device {
        let all: Vec<String> = mine.iter().map(PortInfo::name).collect();
        mine.retain(|port| name.names(&port.device, port.port));
        ensure!(!mine.is_empty(), "no port here is called so\nhint: one of {}", all.join(", "));
    }
    let to = node(&args.node)?;
    let link = engine.bare_session(&to, engine.quic_options()).await;
    let link = link.map_err(|error| told(&error))?;
    let (machine, _) = talk::greet(&link, &args.node).await?;
    let theirs = match ask(&link, Ask::Ports).await? {
        Answer::Ports { ports } => ports.iter().map(PortInfo::from).collect::<Vec<_>>(),
        Answer::Refused { why } => bail!("{}: {why}", args.node),
        other => bail!("{} answered with {other:?}", args.node),
    };
    let (here, there) = best_pair(&mine, &theirs)
        .context("no port here is on a network with one there\nhint: `portway doctor` on both")?;
    let (mine, theirs) = (mine.swap_remove(here), (theirs[there].clone(), there));
    let ends = Ends { link, verbs, mine, theirs };
    let mut rows = Vec::new();
    for &op in &args.op {
        for &size in &args.sizes {
            eprintln!("{} of {size} bytes", op.word());
            rows.extend(measure(args, &ends, op, size as usize).await?);
        }
    }
    ends.link.close("done").await;
    let mut notes: Vec<String> = share(&ends.mine, &rows).into_iter().collect();
    notes.push(format!(
        "{} here, {} there; payload of a packet: {} bytes.",
        ends.mine.name(),
        ends.theirs.0.name(),
        ends.mine.mtu.min(ends.theirs.0.mtu)
    ));
    notes.push(format!(
        "The other end: {}, {} processors, {}.",
        machine.cpu, machine.processors, machine.kernel
    ));
    args.output.give(Kind::Rdma, when, notes, rows)
}

/// The fastest row, and how much of the wire it uses if the device says what that has.
fn share(port: &PortInfo, rows: &[Row]) -> Option<String> {
    let wire_bps = f64::from(port.rate_mbit) * 1e6;
    let rates = rows.iter().filter(|row| row.latency_s.is_none());
    let most = rates.max_by(|a, b| a.median.total_cmp(&b.median))?;
    let (stage, size) = (&most.stage, most.size.unwrap_or(0));
    let fastest =
        format!("The fastest, {stage} of {size} bytes, moves {}", human::rate(most.median));
    let part = most.median * 8.0 / wire_bps * 100.0;
    Some(if wire_bps > 0.0 {
        format!("{fastest}: {part:.0} % of the {} that the port has.", bits(wire_bps))
    } else {
        format!("{fastest}.")
    })
}

async fn ask(link: &QuicLink, ask: Ask) -> Result<Answer> {
    talk::say(link, &talk::Ask::Rdma(ask)).await?;
    match talk::heard(&link.recv().await?)? {
        talk::Answer::Rdma(answer) => Ok(answer),
        other => bail!("the other end answered with {other:?}"),
    }
}

/// Measures one operation with messages of one size: throughput, then latency.
async fn measure(args: &RdmaArgs, ends: &Ends, op: Op, bytes: usize) -> Result<[Row; 2]> {
    let (queue_pairs, depth) = (args.qps as usize, args.depth as usize);
    let plan = Plan { operation: op.into(), queue_pairs, depth, bytes };
    let slab = Slab::new(queue_pairs * LEASE_BYTES);
    let mut port = ends.verbs.open_measured(&ends.mine, &slab)?;
    let own = port.create(&plan, Role::Asks, |memory| fill(&plan, Role::Asks, memory))?;
    let open = Open {
        port: ends.theirs.1,
        peer: Port::from(&ends.mine),
        op,
        depth,
        bytes,
        ends: own.into_iter().map(End::from).collect(),
    };
    let theirs: Vec<_> = match ask(&ends.link, Ask::Open(open)).await? {
        Answer::Opened { ends } => ends.into_iter().map(Into::into).collect(),
        Answer::Refused { why } => bail!("the other end: {why}"),
        other => bail!("the other end answered with {other:?}"),
    };
    port.connect(&ends.theirs.0, &theirs)?;
    let (each, time) = (args.seconds / args.runs as f64, args.seconds / 3.0);
    let (runs, per_second) = (args.runs, args.rate);
    let pumped = tokio::task::spawn_blocking(move || -> Result<_> {
        let mut pump = Pump::new(port, plan);
        let samples = pump.runs(runs, Duration::from_secs_f64(each))?;
        let messages = pump.messages;
        let probe = pump.latency(per_second, Duration::from_secs_f64(time))?;
        let mut port = pump.into_port();
        Ok((samples, messages, probe, wrong(&plan, Role::Asks, &port.destroy())))
    });
    let (mut samples, messages, probe, wrong_here) = pumped.await??;
    let (wrong_there, cpu_s) = match ask(&ends.link, Ask::Close).await? {
        Answer::Closed { wrong, cpu_s } => (wrong, cpu_s),
        Answer::Refused { why } => bail!("the other end: {why}"),
        other => bail!("the other end answered with {other:?}"),
    };
    ensure!(
        wrong_here + wrong_there == 0,
        "content of {} queue pairs arrived altered",
        wrong_here + wrong_there
    );
    let all_bytes = messages as f64 * bytes as f64;
    for sample in &mut samples {
        sample.cpu_s += cpu_s * sample.bytes / all_bytes;
    }
    let plural = if queue_pairs == 1 { "" } else { "s" };
    let (stage, case) = (op.word(), format!("{queue_pairs} queue pair{plural}, depth {depth}"));
    let counted = samples.iter().map(|sample| sample.bytes / bytes as f64).sum::<f64>();
    let size = Some(bytes as u64);
    let throughput = rows::rate(stage, &case, &samples);
    Ok([
        Row { size, messages: Some(counted as u64), ..throughput },
        Row { size, stage: stage.to_owned(), ..probe.row("one at a time")? },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_without_content_must_have_it_afterwards_and_no_byte_more() {
        let slab = Slab::new(0);
        for operation in [Operation::Read, Operation::Write, Operation::Send] {
            let plan = Plan { operation, queue_pairs: 1, depth: 1, bytes: 4096 };
            let (from, to) = if operation == Operation::Read {
                (Role::Answers, Role::Asks)
            } else {
                (Role::Asks, Role::Answers)
            };
            let mut lease = slab.try_lease().expect("a lease");
            fill(&plan, from, &mut lease);
            let content = lease[..4096].to_vec();
            assert_eq!(wrong(&plan, from, &[lease]), 0);
            let mut lease = slab.try_lease().expect("a lease");
            fill(&plan, to, &mut lease);
            assert!(!lease.starts_with(&content));
            lease[..4096].copy_from_slice(&content);
            lease[4096] ^= 1;
            let mut leases = [lease];
            assert_eq!(wrong(&plan, to, &leases), 1, "a byte too many");
            leases[0][4096] = UNTOUCHED;
            assert_eq!(wrong(&plan, to, &leases), 0);
            leases[0][4095] ^= 1;
            assert_eq!(wrong(&plan, to, &leases), 1, "a byte is another");
            assert_eq!(wrong(&plan, to, &[]), 1, "memory that the device keeps");
        }
    }

    #[test]
    fn the_share_of_the_wire_is_that_of_the_fastest_rate() {
        let port = PortInfo { rate_mbit: 100_000, ..port() };
        let row = |size, rate| {
            let row = Row::of_runs("read", "", crate::result::Unit::BytesPerSecond, vec![rate]);
            Row { size: Some(size), ..row }
        };
        let words = share(&port, &[row(64, 1e6), row(65536, 1e10)]).expect("a share");
        assert_eq!(
            words,
            "The fastest, read of 65536 bytes, moves 10.0 GB/s: 80 % of the 100.00 Gb/s that the port has."
        );
        let silent = share(&PortInfo { rate_mbit: 0, ..port }, &[row(64, 1e6)]).expect("a finding");
        assert!(silent.ends_with("moves 1.00 MB/s."), "{silent}");
    }

    fn port() -> PortInfo {
        PortInfo {
            device: "mlx5_0".to_owned(),
            port: 1,
            fabric: portway::transport::rdma::Fabric::Ethernet,
            gid: [0; 16],
            gid_index: 0,
            lid: 0,
            mtu: 4096,
            rate_mbit: 0,
            numa: None,
            reads_max: 16,
        }
    }
}
