//! Wall time, CPU, memory and wire of one client and one server.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::mover::Mover;
use crate::nodes::Running;
use crate::system::{self, MemoryPeak};

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(10);
/// How long the server's children may take to end after the client has.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// What one run cost.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) mover: Mover,
    pub(crate) work: String,
    /// From the client's start to its end.
    pub(crate) wall_s: f64,
    /// The same and a sync of the target's file system.
    pub(crate) synced_s: f64,
    pub(crate) client_cpu_s: f64,
    pub(crate) server_cpu_s: f64,
    /// What all else on the machine used meanwhile, this measurement included.
    pub(crate) others_cpu_s: f64,
    pub(crate) client_peak_bytes: u64,
    pub(crate) server_peak_bytes: u64,
    /// Bytes on the loopback device, both directions.
    pub(crate) wire_bytes: u64,
    /// The received tree equals its source, metadata included.
    pub(crate) equal: bool,
}

impl Sample {
    /// One line for the terminal.
    pub(crate) fn line(&self) -> String {
        format!(
            "{:8} {:.2} s, {:.2} s synced, CPU {:.2} + {:.2} s, wire {:.1} MB, peak {} + {} MiB, {}",
            self.mover.title(),
            self.wall_s,
            self.synced_s,
            self.client_cpu_s,
            self.server_cpu_s,
            self.wire_bytes as f64 / 1e6,
            self.client_peak_bytes >> 20,
            self.server_peak_bytes >> 20,
            if self.equal { "equal" } else { "DIFFERENT" },
        )
    }
}

/// Watches a client that `start` starts, to its end. `server` is the id of the other side.
pub(crate) fn run(
    (mover, work): (Mover, &str),
    server: u32,
    target: &Path,
    start: impl FnOnce() -> Result<Running>,
) -> Result<Sample> {
    let directory = std::fs::File::open(target)?;
    rustix::fs::syncfs(&directory)?;
    let cpu = |pid: u32| system::cpu_s(pid).with_context(|| format!("process {pid} is gone"));
    let server_before = family_cpu_s(server)?;
    let wire_before = system::loopback_bytes()?;

    let busy_before = system::busy_s();
    let begin = Instant::now();
    let mut child = start()?;
    let client = child.pid();
    let ended = AtomicBool::new(false);
    let (peaks, waited) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut peaks = [MemoryPeak::default(), MemoryPeak::default()];
            while !ended.load(Ordering::Relaxed) {
                peaks[0].sample(client);
                peaks[1].sample(server);
                std::thread::sleep(SAMPLE);
            }
            peaks
        });
        let waited = child.wait_unreaped();
        let end = Instant::now();
        ended.store(true, Ordering::Relaxed);
        (sampler.join().unwrap_or_default(), waited.map(|()| end))
    });
    let end = waited.context("wait for the client")?;
    let client_cpu_s = cpu(client)?;
    let status = child.wait(SETTLE_TIMEOUT).context("the client cannot be reaped")?;
    anyhow::ensure!(status.success(), "the client ended with {status}");
    let wire_bytes = system::loopback_bytes()?.saturating_sub(wire_before);
    let busy = system::busy_s().zip(busy_before).map_or(0.0, |(after, before)| after - before);
    let before_sync = Instant::now();
    rustix::fs::syncfs(&directory)?;
    let sync = before_sync.elapsed();
    system::wait_until(SETTLE_TIMEOUT, || system::family(server).len() == 1);
    let server_cpu_s = family_cpu_s(server)? - server_before;
    let wall = end - begin;
    Ok(Sample {
        mover,
        work: work.to_owned(),
        wall_s: wall.as_secs_f64(),
        synced_s: (wall + sync).as_secs_f64(),
        client_cpu_s,
        server_cpu_s,
        others_cpu_s: (busy - client_cpu_s - server_cpu_s).max(0.0),
        client_peak_bytes: peaks[0].bytes(),
        server_peak_bytes: peaks[1].bytes(),
        wire_bytes,
        equal: false,
    })
}

/// CPU seconds of a process, of its children that ended and of those that live.
fn family_cpu_s(root: u32) -> Result<f64> {
    system::cpu_s(root).with_context(|| format!("process {root} is gone"))?;
    Ok(system::family(root).into_iter().filter_map(system::cpu_s).sum())
}
