//! Sessions: a machine, its files and a link, driven by tasks until the transfer ends.

mod arrivals;
mod coding;
mod estimate;
mod expected;
mod held;
mod landing;
mod placing;
mod ledger;
mod source;
mod target;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use crate::base::Instant;
use crate::border::Way;
use crate::buf::Slab;
use crate::encode::Compress;
use crate::metrics::{HostTime, LinkTime, RailStatus, Stages, TransferMeter, Work, add_rails};
use crate::protocol::Failure;
use crate::transport::{Link, LinkError};
use crate::wire::{Frame, Numbers};

use super::codecs::Codecs;
use super::effort::{HostClock, now_ns};
use super::shares::{Direction, Look, Share};
use super::{denial, ends_payment, is_denial};

pub use estimate::Estimate;
pub use source::run_source;
pub use target::run_target;

/// Inputs that wait for a machine; senders wait when it is full.
const INPUTS_MAX: usize = 1024;
/// How often the meter looks at the link.
const METER: Duration = Duration::from_millis(200);
/// How often in that time the link is looked at for room.
const ROOM_LOOKS: u32 = 5;
/// Of so many looks at the meter one is at the machine too: that reads a file for each thread.
const HOST_METERS: u32 = 5;
/// Longest that content which nobody waits for any more may take to leave or to arrive, between
/// sites, so that both ends count the same.
const STRAGGLERS: Duration = Duration::from_secs(2);
/// Longest that the last frames of a session may take to leave.
const FLUSH: Duration = Duration::from_secs(2);

/// What both roles of a session need.
#[derive(Clone)]
pub struct Context<L> {
    /// The authenticated session.
    pub link: L,
    /// Memory for content.
    pub slab: Slab,
    /// What content is encoded and decoded with.
    pub codecs: Arc<Codecs>,
    /// Whether content is encoded that this end sends.
    pub compress: Compress,
    /// Its place among the transfers of this node.
    pub share: Share,
    /// The transfer's counters.
    pub meter: Arc<TransferMeter>,
    /// The right to move content, and the record of what moved.
    pub way: Arc<Way>,
    /// Turns true when this end is to stop, resumably.
    pub cancel: watch::Receiver<bool>,
}

/// How a session ended, short of its transfer's end.
#[derive(Debug, Clone)]
pub enum Lost {
    /// The link failed.
    Link(LinkError),
    /// This end was told to stop.
    Cancelled,
}

/// Monotonic time with the origin where machines began.
#[derive(Clone, Copy)]
struct MachineClock(Clock);

impl MachineClock {
    fn start() -> Self {
        Self(Clock::now())
    }

    fn now(self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment `at`, for tokio's timers.
    fn sleep_until(self, at: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.0 + Duration::from_nanos(at.0))
    }
}

/// Completes when this end is told to stop.
async fn cancelled(cancel: &mut watch::Receiver<bool>) {
    if cancel.wait_for(|stop| *stop).await.is_err() {
        // Nobody is left who could cancel.
        std::future::pending::<()>().await;
    }
}

/// What a driver is told when a task of its panicked.
trait Broken {
    /// The input that ends the transfer.
    fn broken(failure: Failure) -> Self;
}

/// The failure that a panicking task stands for.
fn panicked() -> Failure {
    Failure::new("internal", "a task of this transfer ended unexpectedly")
}

/// Sends frames in order from a task of its own, so that a machine never waits for the link.
struct FrameSender {
    queue: FrameQueue,
    task: JoinHandle<()>,
}

impl FrameSender {
    /// The protocol bounds what can queue here: entries by their window, runs by their number.
    fn spawn<L: Link>(link: &L) -> Self {
        let (queue, mut frames) = mpsc::unbounded_channel::<Bytes>();
        let link = link.clone();
        let task = tokio::spawn(async move {
            while let Some(frame) = frames.recv().await {
                // The receiving task reports a link that is gone.
                if link.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Self { queue: FrameQueue(queue), task }
    }

    fn send(&self, frame: &Frame) {
        self.queue.send(frame);
    }

    /// Sends too, from elsewhere; it must be gone before the queue is flushed.
    fn handle(&self) -> FrameQueue {
        self.queue.clone()
    }

    /// Sends what is queued, within a bound.
    async fn flush(self) {
        let Self { queue, mut task } = self;
        drop(queue);
        if tokio::time::timeout(FLUSH, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// Adds to what a [`FrameSender`] sends.
#[derive(Clone)]
struct FrameQueue(mpsc::UnboundedSender<Bytes>);

impl FrameQueue {
    fn send(&self, frame: &Frame) {
        let _ = self.0.send(frame.encode());
    }
}

/// Receives frames and hands them on, until one that is the last for this role, or until the link
/// ends, which it reports last, or until it is aborted. What comes after that is left to whoever comes
/// next.
fn spawn_receiver<L: Link, I: Send + 'static>(
    link: &L,
    inputs: mpsc::Sender<I>,
    tasks: &mut JoinSet<()>,
    last: fn(&Frame) -> bool,
    wrap: impl Fn(Result<Frame, LinkError>) -> I + Send + 'static,
) -> AbortHandle {
    let link = link.clone();
    tasks.spawn(async move {
        loop {
            let frame = link.recv().await.and_then(|bytes| {
                Frame::take(bytes).map_err(|e| LinkError::Protocol { detail: e.to_string() })
            });
            let over = frame.as_ref().map_or(true, last);
            if inputs.send(wrap(frame)).await.is_err() || over {
                return;
            }
        }
    })
}

/// Ends the transfer when its way falls, though nothing moves.
fn spawn_guard<L, I: Broken + Send + 'static>(
    context: &Context<L>,
    inputs: &mpsc::Sender<I>,
    tasks: &mut JoinSet<()>,
) {
    let way = Arc::clone(&context.way);
    spawn_input(tasks, inputs, async move { I::broken(denial(&way.falls().await)) });
}

/// Jobs that are done one after the other, on threads that may block.
struct Ordered<J>(mpsc::UnboundedSender<J>);

impl<J: Send + 'static> Ordered<J> {
    /// Runs `work` for each job; what it returns goes to `inputs`.
    fn spawn<I: Broken + Send + 'static>(
        inputs: mpsc::Sender<I>,
        tasks: &mut JoinSet<()>,
        work: impl Fn(J) -> Option<I> + Send + Sync + 'static,
    ) -> Self {
        let (queue, mut jobs) = mpsc::unbounded_channel::<J>();
        let work = Arc::new(work);
        tasks.spawn(async move {
            while let Some(job) = jobs.recv().await {
                let work = Arc::clone(&work);
                let done = tokio::task::spawn_blocking(move || work(job)).await;
                if let Some(input) = done.unwrap_or_else(|_| Some(I::broken(panicked())))
                    && inputs.send(input).await.is_err()
                {
                    return;
                }
            }
        });
        Self(queue)
    }

    fn send(&self, job: J) {
        let _ = self.0.send(job);
    }
}

/// Runs blocking work and sends what it returns to `inputs`.
fn spawn_work<I: Broken + Send + 'static>(
    tasks: &mut JoinSet<()>,
    inputs: &mpsc::Sender<I>,
    work: impl FnOnce() -> I + Send + 'static,
) {
    spawn_input(tasks, inputs, async move {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| I::broken(panicked()))
    });
}

/// A task that ends with an input.
fn spawn_input<I: Send + 'static>(
    tasks: &mut JoinSet<()>,
    inputs: &mpsc::Sender<I>,
    task: impl Future<Output = I> + Send + 'static,
) {
    let inputs = inputs.clone();
    tasks.spawn(async move {
        let input = task.await;
        let _ = inputs.send(input).await;
    });
}

/// Copies a machine's numbers into the meter; what earlier sessions of this run moved is added by
/// the receiver's journal, which the numbers include.
fn update_meter(meter: &TransferMeter, found: (u64, u64, bool), numbers: Numbers, failed: u64) {
    meter.files_total.set(found.0);
    meter.bytes_total.set(found.1);
    meter.scan_done.set(u64::from(found.2));
    meter.files_done.set(numbers.files);
    meter.bytes_sent.set(numbers.sent);
    meter.bytes_deduplicated.set(numbers.deduplicated);
    meter.bytes_resumed.set(numbers.resumed);
    meter.bytes_discarded.set(numbers.discarded);
    meter.files_failed.set(failed);
}

/// What earlier sessions of a transfer moved over the wire, and took.
#[derive(Clone)]
struct Before {
    bytes: u64,
    rails: Vec<RailStatus>,
    work: Work,
}

impl Before {
    fn of(meter: &TransferMeter) -> Self {
        Self { bytes: meter.bytes_wire.value(), rails: meter.rails(), work: meter.work() }
    }
}

/// Keeps the meter's view of the wire and of the machine fresh, for one session.
struct Watch<L> {
    link: L,
    meter: Arc<TransferMeter>,
    stages: Arc<Stages>,
    before: Before,
    host: HostClock,
    host_time: HostTime,
    seen: LinkTime,
    look: Look,
}

impl<L: Link> Watch<L> {
    /// Begins to look, in a task of its own.
    fn spawn(
        context: &Context<L>,
        direction: Direction,
        stages: &Arc<Stages>,
        tasks: &mut JoinSet<()>,
    ) -> Arc<Mutex<Self>> {
        let watch = Arc::new(Mutex::new(Self {
            link: context.link.clone(),
            meter: Arc::clone(&context.meter),
            stages: Arc::clone(stages),
            before: Before::of(&context.meter),
            host: HostClock::start(),
            host_time: HostTime::default(),
            seen: LinkTime::default(),
            look: context.share.look(direction),
        }));
        let looking = Arc::clone(&watch);
        tasks.spawn(async move {
            loop {
                for _ in 0..HOST_METERS {
                    lock(&looking).look();
                    for _ in 0..ROOM_LOOKS {
                        tokio::time::sleep(METER / ROOM_LOOKS).await;
                        lock(&looking).look_for_room();
                    }
                }
                lock(&looking).look_at_host();
            }
        });
        watch
    }

    fn look_at_host(&mut self) {
        self.host_time = self.host.look();
    }

    fn look_for_room(&mut self) {
        self.seen.looks += 1;
        self.seen.full += u64::from(!self.link.has_room());
        let wire = self.link.meter();
        let rails: u64 = self.link.rails().iter().map(|rail| rail.bytes).sum();
        self.look.again(wire.sent + wire.received + rails, self.link.waits());
    }

    fn look(&mut self) {
        let wire = self.link.meter();
        self.meter.bytes_wire.set(self.before.bytes + wire.sent + wire.received);
        self.meter.rtt_us.set(wire.rtt_us);
        self.meter.set_rails(add_rails(self.link.rails(), &self.before.rails));
        let rtt = &mut self.seen;
        rtt.rtt_sum_us += wire.rtt_us;
        rtt.rtt_count += 1;
        if rtt.rtt_count == 1 || wire.rtt_us < rtt.rtt_least_us {
            rtt.rtt_least_us = wire.rtt_us;
        }
        let link = LinkTime {
            lost_packets: wire.lost_packets,
            sent_bytes: wire.sent,
            mtu: wire.mtu.into(),
            ..*rtt
        };
        let (stages, host) = (self.stages.times(now_ns()), self.host_time);
        self.meter.set_work(Work { stages, host, link }.plus(&self.before.work));
    }
}

fn lock<L>(watch: &Mutex<Watch<L>>) -> MutexGuard<'_, Watch<L>> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at everything at the end of a session.
fn look<L: Link>(watch: &Mutex<Watch<L>>) {
    let mut watch = lock(watch);
    watch.look_at_host();
    watch.look();
}

#[cfg(test)]
mod tests;
