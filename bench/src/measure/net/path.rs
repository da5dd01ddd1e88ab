//! `path`: what lies between two nodes, and whether the settings fit it.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use portway::base::human;
use portway::transport::Link as _;
use portway::transport::quic::{CONNECTIONS_MAX, QuicOptions};

use super::load::{Load, Loaded, Measuring};
use super::quic::{rate, rows_of, seconds};
use super::talk::Buffers;
use super::{HomeArgs, node, told};
use crate::measure::rows::{self, OutputArgs, bits};
use crate::result::{Kind, Row, Unit};

/// Arguments of `path`.
#[derive(Debug, Args)]
pub(crate) struct PathArgs {
    /// A node that runs `portway-bench serve`: a name, or HOST:PORT
    node: String,
    /// Time of each of the three parts: idle, under load, with one more connection
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// Questions a second that the round trip is measured with
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    rate: f64,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    home: HomeArgs,
}

/// Messages under way at once.
const STREAMS: usize = 4;
/// Runs of each load.
const RUNS: u64 = 9;
/// What one more connection must bring to be worth it, beyond the noise of runs.
const GAIN_MIN: f64 = 1.15;

/// What was found between two nodes.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// Shortest round trip in seconds.
    rtt_s: f64,
    /// Content in bits a second, as configured.
    rate_bps: f64,
    /// The same with one more connection, if one more is allowed.
    more_bps: Option<f64>,
    /// Packets lost, of those sent.
    lost_share: f64,
    /// Largest UDP payload in bytes.
    mtu: u16,
    /// UDP buffers of this end and of the other.
    buffers: [Buffers; 2],
    /// Window of the session's content in bytes, and its connections.
    window: u64,
    connections: usize,
}

/// Measures and prints.
pub(super) async fn run(args: &PathArgs) -> Result<()> {
    let when = rows::now();
    let (engine, _) = args.home.engine()?;
    let (to, options) = (node(&args.node)?, engine.quic_options());
    let time = Duration::from_secs_f64(args.seconds);
    let load = Load { streams: STREAMS, runs: RUNS, time };
    let loaded = async |options: &QuicOptions| -> Result<(Measuring, Loaded, Vec<Row>, f64)> {
        let link = engine.bare_session(&to, options.clone()).await.map_err(|error| told(&error))?;
        let mut measuring = Measuring::begin(link, &args.node).await?;
        measuring.attached(options.connections).await?;
        let probe = measuring.probe(args.rate, time, 1).await?;
        let mut rows = vec![probe.row("idle")?];
        let loaded = measuring.load(load).await?;
        let case = format!("{} connections", options.connections);
        rows.extend(rows_of(&case, &loaded));
        let sending = measuring.sending(load.streams, loaded.message_bytes);
        rows.push(measuring.probe(args.rate, time / 3, 2).await?.row("under load")?);
        sending.stop().await?;
        Ok((measuring, loaded, rows, probe.least_s()))
    };
    let (measuring, first, mut rows, rtt_s) = loaded(&options).await?;
    let own = Buffers::from(measuring.link.socket_buffers());
    let buffers = [own, measuring.buffers];
    measuring.link.close("done").await;
    let more = if options.connections < CONNECTIONS_MAX {
        let more = QuicOptions { connections: options.connections + 1, ..options.clone() };
        let (measuring, loaded, more_rows, _) = loaded(&more).await?;
        measuring.link.close("done").await;
        rows.push(more_rows[1].clone());
        Some(loaded)
    } else {
        None
    };
    let rate_of = |loaded: &Loaded| 8.0 * rows::rate("link", "", &loaded.samples).median;
    let found = Found {
        rtt_s,
        rate_bps: rate_of(&first),
        more_bps: more.as_ref().map(rate_of),
        lost_share: first.lost_share,
        mtu: first.mtu,
        buffers,
        window: options.window_bytes as u64,
        connections: options.connections,
    };
    let product = found.rate_bps / 8.0 * found.rtt_s;
    rows.push(Row::of_runs("link", "bandwidth-delay product", Unit::Bytes, vec![product]));
    args.output.give(Kind::Path, when, advice(&found), rows)
}

/// What follows from it, a sentence each, with what to change.
fn advice(found: &Found) -> Vec<String> {
    let mut notes = Vec::new();
    let product = found.rate_bps / 8.0 * found.rtt_s;
    let window = found.window as f64;
    notes.push(format!(
        "{} with a round trip of {:.2} ms is {} under way; the window is {}.",
        bits(found.rate_bps),
        found.rtt_s * 1e3,
        human::bytes(product as u64),
        human::bytes(found.window)
    ));
    if product > window / 2.0 {
        notes.push(format!(
            "The window limits: what is under way is near it. Set limits.window_mib to {} at both \
             nodes, and limits.slab_mib to twice that.",
            (2.0 * window / f64::from(1 << 20)).ceil()
        ));
    }
    let ends = ["here", "at the other node"];
    for (end, Buffers { asked, receive, send }) in ends.iter().zip(found.buffers) {
        if receive < asked || send < asked {
            notes.push(format!(
                "UDP buffers {end} are {} to receive and {} to send, {} are wanted: sysctl -w \
                 net.core.rmem_max={asked} net.core.wmem_max={asked}",
                human::bytes(receive),
                human::bytes(send),
                human::bytes(asked)
            ));
        }
    }
    // An Ethernet frame of 1,500 bytes has 1,472 of UDP payload over IPv4.
    if found.mtu < 1400 {
        notes.push(format!(
            "The largest datagram is {} bytes: a tunnel on the path takes room. Every packet costs \
             CPU, so a larger MTU there is worth having.",
            found.mtu
        ));
    }
    if found.lost_share > 0.001 {
        notes.push(format!(
            "{:.2} % of packets are lost under load. quic.congestion = \"bbr\" keeps its rate \
             through that, cubic does not.",
            found.lost_share * 100.0
        ));
    }
    if let Some(more) = found.more_bps {
        let gain = more / found.rate_bps;
        let words = format!(
            "One more connection brings {} instead of {} ({:+.0} %)",
            bits(more),
            bits(found.rate_bps),
            (gain - 1.0) * 100.0
        );
        notes.push(if gain >= GAIN_MIN {
            format!("{words}: set quic.connections to {}.", found.connections + 1)
        } else {
            format!("{words}: the connections are not what limits.")
        });
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Found = Found {
        rtt_s: 0.001,
        rate_bps: 8e9,
        more_bps: Some(8.1e9),
        lost_share: 0.0,
        mtu: 8952,
        buffers: [Buffers { asked: 4 << 20, receive: 4 << 20, send: 4 << 20 }; 2],
        window: 32 << 20,
        connections: 2,
    };

    fn has(found: &Found, words: &str) -> bool {
        advice(found).iter().any(|note| note.contains(words))
    }

    #[test]
    fn a_path_that_fits_has_its_numbers_and_nothing_to_change() {
        let notes = advice(&WELL);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert_eq!(
            notes[0],
            "8.00 Gb/s with a round trip of 1.00 ms is 1.00 MB under way; the window is 33.6 MB."
        );
        assert!(notes[1].ends_with("(+1 %): the connections are not what limits."), "{notes:?}");
    }

    #[test]
    fn each_obstacle_is_named_with_its_remedy() {
        let small = Buffers { asked: 4 << 20, receive: 212_992, send: 4 << 20 };
        let buffers = [WELL.buffers[0], small];
        assert!(has(&Found { buffers, ..WELL }, "at the other node are 213 kB to receive"));
        assert!(has(&Found { buffers, ..WELL }, "sysctl -w net.core.rmem_max=4194304"));
        let far = Found { rtt_s: 0.02, ..WELL };
        assert!(has(&far, "Set limits.window_mib to 64 at both"), "{:?}", advice(&far));
        assert!(has(&Found { mtu: 1280, ..WELL }, "largest datagram is 1280 bytes"));
        assert!(has(&Found { lost_share: 0.01, ..WELL }, "1.00 % of packets are lost"));
        assert!(has(&Found { more_bps: Some(1.2e10), ..WELL }, "set quic.connections to 3."));
    }
}
