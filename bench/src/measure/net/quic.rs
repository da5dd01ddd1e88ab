//! `quic`: throughput, CPU time and latency of QUIC to another node.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use portway::transport::Link as _;
use portway::transport::quic::{Congestion, QuicOptions};

use super::load::{Load, Loaded, Measuring};
use super::{HomeArgs, node, told};
use crate::measure::rows::{self, OutputArgs, bits};
use crate::result::{Kind, Row, Unit};

/// Arguments of `quic`.
#[derive(Debug, Args)]
pub(crate) struct QuicArgs {
    /// A node that runs `portway-bench serve`: a name, or HOST:PORT
    node: String,
    /// Messages under way at once, a stream each
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    streams: u8,
    /// Connections; with two or more the first one carries no content [default: as configured]
    #[arg(long)]
    connections: Option<usize>,
    /// Largest UDP payload that is tried, in bytes [default: as configured]
    #[arg(long)]
    mtu: Option<u16>,
    /// Congestion control of what this end sends [default: as configured]
    #[arg(long, value_enum)]
    congestion: Option<Control>,
    /// Time of all runs together, after a warm-up
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// Runs; median, lowest and highest are printed
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(3..=99))]
    runs: u64,
    /// Questions a second that latency is measured with, idle and under load
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    rate: f64,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    home: HomeArgs,
}

/// Words for [`Congestion`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Control {
    Auto,
    Cubic,
    Bbr,
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if (0.5..=3600.0).contains(&s) => Ok(s),
        _ => Err("a time is 0.5 to 3600 seconds".to_owned()),
    }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1.0..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("a rate is 1 to 10000 a second".to_owned()),
    }
}

impl QuicArgs {
    fn options(&self, configured: &QuicOptions) -> QuicOptions {
        QuicOptions {
            connections: self.connections.unwrap_or(configured.connections),
            mtu_max: self.mtu.unwrap_or(configured.mtu_max),
            congestion: match self.congestion {
                None => configured.congestion,
                Some(Control::Auto) => Congestion::Auto,
                Some(Control::Cubic) => Congestion::Cubic,
                Some(Control::Bbr) => Congestion::Bbr,
            },
            ..configured.clone()
        }
    }
}

/// Measures and prints.
pub(super) async fn run(args: &QuicArgs) -> Result<()> {
    let when = rows::now();
    let (engine, _) = args.home.engine()?;
    let options = args.options(&engine.quic_options());
    let link = engine
        .bare_session(&node(&args.node)?, options.clone())
        .await
        .map_err(|error| told(&error))?;
    let mut measuring = Measuring::begin(link, &args.node).await?;
    measuring.attached(options.connections).await?;
    let case = format!(
        "{} connections, {} streams, {}",
        options.connections, args.streams, options.congestion
    );
    let time = Duration::from_secs_f64(args.seconds);
    let idle = measuring.probe(args.rate, time / 3, 1).await?.row("idle")?;
    let load = Load { streams: args.streams.into(), runs: args.runs, time };
    let loaded = measuring.load(load).await?;
    // Under a load of its own: questions cost the one that is measured nothing.
    let sending = measuring.sending(load.streams, loaded.message_bytes);
    let busy = measuring.probe(args.rate, time / 3, 2).await?.row("under load")?;
    sending.stop().await?;
    let mut rows = rows_of(&case, &loaded);
    let notes = vec![
        finding(&rows[0], &idle, &busy),
        format!(
            "The other end: {}, {} processors, {}.",
            measuring.machine.cpu, measuring.machine.processors, measuring.machine.kernel
        ),
    ];
    rows.extend([idle, busy]);
    measuring.link.close("done").await;
    args.output.give(Kind::Quic, when, notes, rows)
}

/// What was found, as a sentence.
fn finding(link: &Row, idle: &Row, busy: &Row) -> String {
    format!(
        "{} over {}; a round trip takes {:.2} ms when nothing else is sent, and {:.2} ms beside that.",
        bits(link.median),
        link.case,
        idle.median * 1e3,
        busy.median * 1e3
    )
}

/// The rows of a load: throughput, CPU of each end, what was sent for it, loss, MTU.
pub(super) fn rows_of(case: &str, loaded: &Loaded) -> Vec<Row> {
    let bit_rates = loaded.samples.iter().map(|s| s.bytes * 8.0 / s.wall_s).collect();
    let throughput = Row {
        size: Some(loaded.message_bytes as u64),
        cpu_s_per_gb: rows::rate("link", case, &loaded.samples).cpu_s_per_gb,
        ..Row::of_runs("link", case, Unit::BitsPerSecond, bit_rates)
    };
    let one = |case: &str, unit, value| Row::of_runs("link", case, unit, vec![value]);
    let [here, there] = loaded.cpu_s_per_gb;
    vec![
        throughput,
        one("CPU of a GB, sending end", Unit::Seconds, here),
        one("CPU of a GB, receiving end", Unit::Seconds, there),
        one("sent / content", Unit::Share, loaded.sent_per_byte),
        one("packets lost", Unit::Share, loaded.lost_share),
        one("UDP payload", Unit::Bytes, f64::from(loaded.mtu)),
    ]
}
