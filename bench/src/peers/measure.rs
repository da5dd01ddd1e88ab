//! Wall time, CPU, memory and wire of one client and its server, if it has one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::mover::Mover;
use super::{Work, pretouch, read_all};
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
    /// From the client's start to its end, or from its server's where that works first.
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
    /// The received tree equals its source, with as much metadata as the mover keeps.
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

/// One run, from just before the first of its processes that count.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    what: (Mover, &'a Work),
    directory: std::fs::File,
    server: Option<u32>,
    server_before_s: f64,
    wire_before: u64,
    busy_before: Option<f64>,
    begin: Instant,
}

impl<'a> Meter<'a> {
    /// Begins, with a warm source and touched memory. `server` is the id of the other side where that
    /// runs already.
    pub(crate) fn begin(
        what: (Mover, &'a Work),
        server: Option<u32>,
        target: &Path,
    ) -> Result<Self> {
        let directory = std::fs::File::open(target)?;
        rustix::fs::syncfs(&directory)?;
        read_all(&what.1.source)?;
        // Last: a machine may give free pages back to its host two seconds after they were freed.
        pretouch(what.1);
        Ok(Self {
            what,
            directory,
            server,
            server_before_s: server.map_or(Ok(0.0), family_cpu_s)?,
            wire_before: system::loopback_bytes()?,
            busy_before: system::busy_s(),
            begin: Instant::now(),
        })
    }

    /// The other side was started since: all that it does counts.
    pub(crate) fn server(&mut self, server: u32) {
        self.server = Some(server);
    }

    /// Watches the client, which has just been started, to its end.
    pub(crate) fn watch(self, mut client: Running) -> Result<Sample> {
        let pid = client.pid();
        let (end, peaks) = self.wait(&client)?;
        let client_cpu_s = system::cpu_s(pid).context("the client is gone")?;
        let status = client.wait(SETTLE_TIMEOUT).context("the client cannot be reaped")?;
        anyhow::ensure!(status.success(), "the client ended with {status}");
        let wire_bytes = system::loopback_bytes()?.saturating_sub(self.wire_before);
        let busy = system::busy_s().zip(self.busy_before);
        let before_sync = Instant::now();
        rustix::fs::syncfs(&self.directory)?;
        let sync = before_sync.elapsed();
        let server_cpu_s = self.server.map_or(Ok(0.0), |server| {
            system::wait_until(SETTLE_TIMEOUT, || system::family(server).len() == 1);
            family_cpu_s(server).map(|cpu_s| cpu_s - self.server_before_s)
        })?;
        let busy_s = busy.map_or(0.0, |(after, before)| after - before);
        let wall = end - self.begin;
        let (mover, work) = self.what;
        Ok(Sample {
            mover,
            work: work.name.clone(),
            wall_s: wall.as_secs_f64(),
            synced_s: (wall + sync).as_secs_f64(),
            client_cpu_s,
            server_cpu_s,
            others_cpu_s: (busy_s - client_cpu_s - server_cpu_s).max(0.0),
            client_peak_bytes: peaks[0].bytes(),
            server_peak_bytes: peaks[1].bytes(),
            wire_bytes,
            equal: false,
        })
    }

    /// Waits until the client has ended, a zombie from then on; memory is looked at meanwhile.
    fn wait(&self, client: &Running) -> Result<(Instant, [MemoryPeak; 2])> {
        let ended = AtomicBool::new(false);
        let (peaks, waited) = std::thread::scope(|scope| {
            let sampler = scope.spawn(|| {
                let mut peaks = [MemoryPeak::default(), MemoryPeak::default()];
                while !ended.load(Ordering::Relaxed) {
                    peaks[0].sample(client.pid());
                    if let Some(server) = self.server {
                        peaks[1].sample(server);
                    }
                    std::thread::sleep(SAMPLE);
                }
                peaks
            });
            let waited = client.wait_unreaped();
            let end = Instant::now();
            ended.store(true, Ordering::Relaxed);
            (sampler.join().unwrap_or_default(), waited.map(|()| end))
        });
        Ok((waited.context("wait for the client")?, peaks))
    }
}

/// CPU seconds of a process, of its children that ended and of those that live.
fn family_cpu_s(root: u32) -> Result<f64> {
    system::cpu_s(root).with_context(|| format!("process {root} is gone"))?;
    Ok(system::family(root).into_iter().filter_map(system::cpu_s).sum())
}
