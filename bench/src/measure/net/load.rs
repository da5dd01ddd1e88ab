//! One measuring session: questions and answers, and content sent as fast as it goes.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use portway::base::limits::LEASE_BYTES;
use portway::transport::quic::QuicLink;
use portway::transport::{Link as _, LinkError, WireMeter};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::probe::{Probe, due};
use super::talk::{self, Answer, Ask, Buffers, Count};
use crate::measure::rows::Sample;
use crate::result::Machine;
use crate::system;

/// Longest that an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often is looked whether something is there.
const LOOK: Duration = Duration::from_millis(2);
/// Messages that a run should have at least, and the smallest that they are made for that, in bytes.
const RUN_MESSAGES: f64 = 64.0;
const MESSAGE_BYTES_MIN: usize = 64 << 10;
/// Before the first run, at least: the rate grows from nothing.
const WARM_UP_MIN: Duration = Duration::from_secs(1);

/// A session with an end that serves.
pub(super) struct Measuring {
    pub(super) link: QuicLink,
    /// What the other end runs on.
    pub(super) machine: Machine,
    /// UDP buffers of the other end.
    pub(super) buffers: Buffers,
    counts: mpsc::UnboundedReceiver<Count>,
    probe: Arc<Mutex<Option<Probe>>>,
    listening: JoinHandle<LinkError>,
}

impl Drop for Measuring {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Messages under way at once.
    pub(super) streams: usize,
    /// Runs.
    pub(super) runs: u64,
    /// Time of all of them.
    pub(super) time: Duration,
}

/// What a load gave.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    /// Content that arrived in each run, by the clock of the other end.
    pub(super) samples: Vec<Sample>,
    /// CPU seconds of this end and of the other one for 10^9 bytes.
    pub(super) cpu_s_per_gb: [f64; 2],
    /// UDP payload that was sent for each byte of content.
    pub(super) sent_per_byte: f64,
    /// Packets that were lost, of those that were sent.
    pub(super) lost_share: f64,
    /// Largest UDP payload that the path took, in bytes.
    pub(super) mtu: u16,
    /// Bytes of a message.
    pub(super) message_bytes: usize,
}

/// All counters of both ends at about one moment.
struct Look {
    count: Count,
    cpu_s: f64,
    wire: WireMeter,
}

impl Measuring {
    /// Greets the other end and listens to it.
    pub(super) async fn begin(link: QuicLink, label: &str) -> Result<Self> {
        let (machine, buffers) = talk::greet(&link, label).await?;
        let (told, counts) = mpsc::unbounded_channel();
        let probe: Arc<Mutex<Option<Probe>>> = Arc::default();
        let (from, answers) = (link.clone(), Arc::clone(&probe));
        let listening = tokio::spawn(async move {
            loop {
                match from.recv().await.and_then(|frame| talk::heard(&frame)) {
                    Err(error) => return error,
                    Ok(Answer::Count(count)) => drop(told.send(count)),
                    Ok(Answer::Ping { number }) => {
                        let now = Instant::now();
                        if let Some(probe) = locked(&answers).as_mut() {
                            probe.answer(number, now);
                        }
                    }
                    Ok(Answer::Hello { .. } | Answer::Rdma(_)) => {}
                }
            }
        });
        Ok(Self { link, machine, buffers, counts, probe, listening })
    }

    /// Waits until the session has so many connections.
    pub(super) async fn attached(&self, connections: usize) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.link.connections() < connections {
            ensure!(
                Instant::now() < end,
                "only {} of {connections} connections came about\nhint: does a firewall or NAT \
                 keep others out?",
                self.link.connections()
            );
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Begins to send content, so many messages at once, of so many bytes each.
    pub(super) fn sending(&self, streams: usize, bytes: usize) -> Sending {
        let stop = Arc::new(AtomicBool::new(false));
        let content = talk::content().slice(..bytes);
        let mut senders = JoinSet::new();
        for _ in 0..streams {
            senders.spawn(send(self.link.clone(), content.clone(), Arc::clone(&stop)));
        }
        Sending { stop, senders }
    }

    async fn look(&mut self) -> Result<Look> {
        talk::say(&self.link, &Ask::Count).await?;
        let count = tokio::time::timeout(PATIENCE, self.counts.recv()).await;
        let count = count.ok().flatten().context("the other end does not answer any more")?;
        Ok(Look { count, cpu_s: system::own_cpu_s(), wire: self.link.meter() })
    }

    /// Waits until so much content has arrived in all.
    async fn arrived(&mut self, bytes: u64) -> Result<Look> {
        let end = Instant::now() + PATIENCE;
        loop {
            let look = self.look().await?;
            if look.count.bytes >= bytes {
                return Ok(look);
            }
            ensure!(Instant::now() < end, "content was sent and did not arrive");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends content for the time of a load; the rate has its warm-up first.
    pub(super) async fn load(&mut self, load: Load) -> Result<Loaded> {
        let begun = self.look().await?;
        let mut sending = self.sending(load.streams, LEASE_BYTES);
        let each = load.time / load.runs as u32;
        tokio::time::sleep(each.max(WARM_UP_MIN)).await;
        let mut first = self.arrived(begun.count.bytes + 1).await?;
        let warm_s = first.count.at_s - begun.count.at_s;
        let rate = (first.count.bytes - begun.count.bytes) as f64 / warm_s.max(1e-3);
        let message_bytes = message_bytes(rate * each.as_secs_f64());
        let mut sent = 0;
        if message_bytes < LEASE_BYTES {
            sent = sending.stop().await?;
            first = self.arrived(begun.count.bytes + sent).await?;
            sending = self.sending(load.streams, message_bytes);
            tokio::time::sleep(each.max(WARM_UP_MIN)).await;
            first = self.arrived(first.count.bytes + 1).await?;
        }
        let (mut samples, mut before) = (Vec::new(), first.count);
        let mut cpu_before = first.cpu_s;
        let mut last = first.count;
        for _ in 0..load.runs {
            tokio::time::sleep(each).await;
            // A run ends with a message, so that none counts in part.
            let look = self.arrived(before.bytes + 1).await?;
            last = look.count;
            let cpu_s = look.cpu_s - cpu_before + last.cpu_s - before.cpu_s;
            let bytes = (last.bytes - before.bytes) as f64;
            samples.push(Sample { bytes, wall_s: last.at_s - before.at_s, cpu_s });
            (before, cpu_before) = (last, look.cpu_s);
        }
        sent += sending.stop().await?;
        let end = self.arrived(begun.count.bytes + sent).await?;
        ensure!(last.compared > 0 && last.bytes > first.count.bytes, "no content arrived");
        ensure!(last.wrong == 0, "{} of {} messages arrived altered", last.wrong, last.compared);
        // Over the whole load, so that what was under way at a look does not count.
        let gigabytes = (end.count.bytes - begun.count.bytes) as f64 / 1e9;
        let wire = (end.wire.sent - begun.wire.sent) as f64;
        let packets = wire / f64::from(end.wire.mtu.max(1));
        let lost = end.wire.lost_packets.saturating_sub(begun.wire.lost_packets) as f64;
        Ok(Loaded {
            samples,
            cpu_s_per_gb: [
                (end.cpu_s - begun.cpu_s) / gigabytes,
                (end.count.cpu_s - begun.count.cpu_s) / gigabytes,
            ],
            sent_per_byte: wire / 1e9 / gigabytes,
            lost_share: (lost / packets).min(1.0),
            mtu: end.wire.mtu,
            message_bytes,
        })
    }

    /// Asks so many questions a second for a time, whatever the answers do.
    pub(super) async fn probe(&self, per_second: f64, time: Duration, seed: u64) -> Result<Probe> {
        let due = due(per_second, time, seed);
        let began = Instant::now();
        *locked(&self.probe) = Some(Probe::new(began, due.clone())?);
        // A thread keeps the times: timers of the runtime have a grain of a millisecond.
        let (tick, mut ticks) = mpsc::unbounded_channel();
        let clock = std::thread::spawn(move || {
            for (number, due) in due.into_iter().enumerate() {
                std::thread::sleep((began + due).saturating_duration_since(Instant::now()));
                if tick.send(number as u64).is_err() {
                    return;
                }
            }
        });
        while let Some(number) = ticks.recv().await {
            talk::say(&self.link, &Ask::Ping { number }).await?;
        }
        let end = Instant::now() + PATIENCE;
        let answered = || locked(&self.probe).as_ref().is_none_or(Probe::done);
        while !answered() && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
        clock.join().map_err(|_| anyhow::anyhow!("the clock's thread panicked"))?;
        locked(&self.probe).take().context("the questions are gone")
    }
}

/// Bytes of a message where a run has so many: on a slow link smaller ones, so that a run has enough.
fn message_bytes(run_bytes: f64) -> usize {
    let fits = (run_bytes / RUN_MESSAGES) as usize;
    fits.clamp(MESSAGE_BYTES_MIN, LEASE_BYTES)
}

/// Content that is sent until this is stopped or dropped.
pub(super) struct Sending {
    stop: Arc<AtomicBool>,
    senders: JoinSet<Result<u64, LinkError>>,
}

impl Sending {
    /// Sends what was begun, and no more; returns how many bytes were sent.
    pub(super) async fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Relaxed);
        let mut bytes = 0;
        while let Some(sent) = self.senders.join_next().await {
            bytes += sent?.context("the session ended while content was sent")?;
        }
        Ok(bytes)
    }
}

/// Sends one message after the other.
async fn send(link: QuicLink, content: Bytes, stop: Arc<AtomicBool>) -> Result<u64, LinkError> {
    let mut bytes = 0;
    while !stop.load(Relaxed) {
        link.send_data(Bytes::from_static(b"bench"), vec![content.clone()]).await?;
        bytes += content.len() as u64;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_smaller_where_a_run_would_have_few() {
        assert_eq!(message_bytes(1e9), LEASE_BYTES);
        assert_eq!(message_bytes(64.0 * 1e5), 100_000, "64 of them");
        assert_eq!(message_bytes(1e5), MESSAGE_BYTES_MIN);
    }
}
