//! `transfer`: a push by the engine as it is, stage by stage at both ends, and what limits it.

mod bottleneck;
pub(crate) mod cases;
mod throttle;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use portway::api::{Compress, Engine, Outcome, Remote, TransferOptions};
use portway::base::RelPath;
use portway::config::{Config, Congestion};
use portway::metrics::{NodeStatus, Snapshot, Stage, Work};

use self::bottleneck::{Evidence, Side, judge};
use super::net::{HomeArgs, block_on, node, told};
use super::rows::{self, OutputArgs, Sample};
use crate::result::{Kind, Row, Unit};

/// Arguments of `transfer`.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// A file or directory
    source: PathBuf,
    /// Where it goes: NODE:PATH, at a node that runs `portway serve`. PATH should hold nothing of it
    /// yet: what is there is not sent
    target: String,
    /// Whether content is made smaller [default: as configured]
    #[arg(long, value_enum)]
    compress: Option<CompressWord>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    home: HomeArgs,
}

/// Words for [`Compress`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CompressWord {
    Auto,
    Always,
    Never,
}

/// How long the receiver may take to have ended the transfer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Window of the control connection, in bytes: what `limits.window_mib` has for content is the rest.
const CONTROL_WINDOW_BYTES: u64 = 4 << 20;
/// Round trip in microseconds from which on the congestion control `auto` is BBR.
const FAR_US: u64 = 2_000;

/// Pushes, and prints where the time went.
pub(crate) fn transfer(args: &TransferArgs) -> Result<bool> {
    block_on(run(args)).map(|()| true)
}

async fn run(args: &TransferArgs) -> Result<()> {
    let when = rows::now();
    let (engine, config) = args.home.engine()?;
    let target = remote(&args.target)?;
    let options = TransferOptions {
        compress: args.compress.map(|word| match word {
            CompressWord::Auto => Compress::Auto,
            CompressWord::Always => Compress::Always,
            CompressWord::Never => Compress::Never,
        }),
        ..TransferOptions::default()
    };
    let (outcome, evidence) = measure(&engine, &config, &args.source, &target, options).await?;
    let verdict = judge(&evidence);
    let rows = rows_of(&outcome, &evidence);
    let notes = vec![
        format!("The bottleneck: {}.", verdict.limit.name()),
        format!("Evidence: {}.", verdict.why),
        format!("What would move it: {}.", verdict.remedy),
    ];
    args.output.give(Kind::Transfer, when, notes, rows)
}

/// Pushes, and asks both ends where their time went.
async fn measure(
    engine: &Engine,
    config: &Config,
    source: &Path,
    target: &Remote,
    options: TransferOptions,
) -> Result<(Outcome, Evidence)> {
    let transfer = engine.push(vec![source.to_owned()], target.clone(), options);
    let outcome = transfer.clone().wait().await.map_err(|error| told(&error))?;
    let ours = transfer.progress().work;
    ensure!(
        outcome.bytes_sent > 0,
        "nothing was sent: the receiver has all of it\nhint: push to a path that holds nothing of \
         it yet"
    );
    let theirs = work_of(engine, target, &outcome.transfer_id).await?;
    let evidence = evidence(config, &outcome, ours, theirs);
    Ok((outcome, evidence))
}

/// `NODE:PATH`, or `HOST:PORT:PATH`.
fn remote(text: &str) -> Result<Remote> {
    let Some((at, path)) = text.rsplit_once(':') else {
        bail!("`{text}` names no node\nhint: a target is NODE:PATH");
    };
    ensure!(
        path.parse::<u16>().is_err(),
        "`{text}` has no path\nhint: a target is NODE:PATH or HOST:PORT:PATH"
    );
    let (into, path) = (path.ends_with('/'), path.trim_end_matches('/'));
    Ok(Remote { node: node(at)?, path: RelPath::from_typed(path.as_bytes())?, into })
}

/// Where the receiver's time went; it is asked until it has ended the transfer.
async fn work_of(engine: &Engine, target: &Remote, id: &str) -> Result<Work> {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let status: NodeStatus =
            engine.status(Some(target.node.clone())).await.map_err(|error| told(&error))?;
        let ended = status.recent.into_iter().map(|(snapshot, _): (Snapshot, String)| snapshot);
        // A node that pushes to itself has both ends of the transfer; the receiver syncs.
        let mut ours = ended.filter(|it| it.transfer_id == id).map(|it| it.work);
        if let Some(work) = ours.find(|work| work.stage(Stage::Sync).times > 0) {
            return Ok(work);
        }
        ensure!(
            std::time::Instant::now() < end,
            "the receiver does not tell where the time of this transfer went\nhint: it must run a \
             `portway serve` of this version"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn evidence(config: &Config, outcome: &Outcome, source: Work, target: Work) -> Evidence {
    let (quic, limits) = (&config.settings.quic, &config.settings.limits);
    let single = quic.connections < 2;
    let window = limits.window_mib << 20;
    Evidence {
        loss_based: match quic.congestion {
            Congestion::Cubic => true,
            Congestion::Bbr => false,
            Congestion::Auto => source.link.rtt_least_us < FAR_US,
        },
        source,
        target,
        sent_bytes: outcome.bytes_sent as f64,
        bytes: outcome.bytes_total as f64,
        files: outcome.files as f64,
        window_bytes: if single { window } else { window - CONTROL_WINDOW_BYTES } as f64,
        connections: if single { 1 } else { quic.connections - 1 } as f64,
    }
}

/// A row for the whole, and for each stage how long something was in it and how fast it goes.
fn rows_of(outcome: &Outcome, evidence: &Evidence) -> Vec<Row> {
    let ends = [Side::Source, Side::Target];
    let cpu_us: u64 = ends.iter().map(|side| evidence.of(*side).host.cpu_us).sum();
    let whole = Sample {
        bytes: outcome.bytes_total as f64,
        wall_s: outcome.elapsed_s,
        cpu_s: cpu_us as f64 / 1e6,
    };
    let mut rows = vec![rows::rate("transfer", "", &[whole])];
    for (side, end) in ends.into_iter().zip(["sender", "receiver"]) {
        for time in &evidence.of(side).stages {
            let stage = time.stage.as_str();
            let one = |case: &str, unit, value| {
                Row::of_runs(stage, &format!("{end}, {case}"), unit, vec![value])
            };
            rows.push(one("active", Unit::Share, evidence.active(side, time.stage)));
            let busy_s = time.busy_us as f64 / 1e6;
            if time.bytes > 0 && busy_s > 0.0 {
                let bytes = time.bytes as f64;
                rows.push(Row {
                    cpu_s_per_gb: Some(time.cpu_us as f64 / bytes * 1e3),
                    ..one("one at a time", Unit::BytesPerSecond, bytes / busy_s)
                });
            }
        }
        let host = evidence.of(side).host;
        let wall_us = host.wall_us.max(1) as f64;
        let host_row = |case: &str, unit, us: u64| {
            let value = us as f64 / wall_us;
            Row::of_runs("processors", &format!("{end}, {case}"), unit, vec![value])
        };
        rows.push(host_row("used", Unit::Count, host.cpu_us));
        rows.push(host_row("threads waiting for one", Unit::Count, host.delay_us));
        let idle_us = host.idle_us / host.processors.max(1);
        rows.push(host_row("idle", Unit::Share, idle_us));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use portway::api::{NodeAddress, ServeOptions};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn both_ends_tell_where_the_time_of_a_push_went() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = crate::measure::net::tests::engine(dir.path());
        let (source, root) = (dir.path().join("source"), dir.path().join("root"));
        for path in [&source, &root] {
            std::fs::create_dir(path).expect("a directory");
        }
        let mut content = vec![0; 5 << 20];
        crate::rng::Rng::new(1).fill(&mut content);
        std::fs::write(source.join("one"), &content).expect("written");
        std::fs::write(source.join("two"), &content[..1000]).expect("written");
        let listen = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        let server = engine.serve(ServeOptions { root, listen, admin: None }).await;
        let server = server.expect("a server");
        let target = remote(&format!("{}:set", server.listen())).expect("a target");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(server.run(async move { drop(stopped.await) }));
        let config = Config::default();
        let push = || measure(&engine, &config, &source, &target, TransferOptions::default());
        let (outcome, evidence) = push().await.expect("a push");
        let all = content.len() as u64 + 1000;
        assert_eq!((outcome.bytes_total, outcome.files), (all, 2));
        for (side, stage) in [
            (Side::Source, Stage::Read),
            (Side::Source, Stage::Digest),
            (Side::Target, Stage::Verify),
            (Side::Target, Stage::Write),
        ] {
            let time = evidence.of(side).stage(stage);
            assert_eq!(time.bytes, all, "{stage:?}");
            assert!(0 < time.active_us && time.active_us <= time.busy_us + 1, "{time:?}");
            assert!(evidence.active(side, stage) <= 1.0, "{time:?}");
        }
        assert!(evidence.target.stage(Stage::Sync).times > 0);
        let link = evidence.source.link;
        // How full the link is is looked at by a clock, which may not come round in so short a push.
        assert!(link.sent_bytes > all && link.rtt_least_us > 0, "{link:?}");
        let rows = rows_of(&outcome, &evidence);
        assert!(rows.iter().any(|row| row.stage == "verify" && row.unit == Unit::BytesPerSecond));
        let again = push().await.expect_err("nothing is sent");
        assert!(again.to_string().contains("hint: push to a path that holds nothing"), "{again}");
        drop(stop);
        serving.await.expect("no panic").expect("stopped");
    }

    #[test]
    fn a_target_is_a_node_and_a_path() {
        let plain = remote("cloud:a/b").expect("a target");
        assert_eq!((plain.path.to_string(), plain.into), ("a/b".to_owned(), false));
        assert!(remote("cloud:a/").expect("a target").into);
        let address = remote("127.0.0.1:7717:set").expect("a target");
        assert!(matches!(address.node, NodeAddress::Address(_)));
        for wrong in ["cloud", "127.0.0.1:7717", "cloud:../x", "a b:c"] {
            assert!(remote(wrong).is_err(), "{wrong}");
        }
    }
}
