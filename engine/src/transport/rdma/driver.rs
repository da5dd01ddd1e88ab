//! The thread that runs a session's rails: commands in, completions out.
//!
//! It polls while there is something under way, and sleeps on the devices' descriptors when
//! nothing has completed for a while.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::{mpsc, oneshot};

use super::machine::{Output, Rails, SendEnd};
use super::message::{Grant, Note, encode_notes};
use super::port::Rail;
use crate::base::Instant;
use crate::buf::Lease;
use crate::metrics::RailStatus;

/// How long the devices are polled without a completion before the thread sleeps.
const SPIN: Duration = Duration::from_micros(30);
/// How often what is due by time is looked for while there is always something to do.
const TICK: Duration = Duration::from_millis(10);
/// Longest sleep.
const SLEEP: Duration = Duration::from_millis(50);
/// Sleep between polls of devices that cannot wake anybody.
const POLLED_SLEEP: Duration = Duration::from_micros(100);
/// Grants that are done and told to the peer together, while there is always something to do.
const DONE_TOGETHER: usize = 4;
/// How often the rails' status is made known.
const STATUS: Duration = Duration::from_millis(100);

/// What a link asks of its rails.
pub(super) enum Command {
    /// Send content; the answer comes when it is sent.
    Send { id: u64, header: Bytes, content: Vec<Bytes>, done: oneshot::Sender<SendEnd> },
    /// Nobody waits for a send any more.
    Unsend { id: u64 },
    /// The link below has taken what it was to carry.
    Carried { id: u64 },
    /// Read what the peer granted.
    Read { grant: Grant, lease: Lease, done: oneshot::Sender<Option<(Lease, usize)>> },
    /// Nobody wants what the peer granted.
    Unread { grant: Grant },
    /// Content that came over a rail was altered.
    Blame { rail: u8 },
    /// The peer says something.
    Peer(Vec<Note>),
    /// End.
    Stop,
}

/// Commands on their way to the thread.
pub(super) struct Commands {
    /// `None` when nobody takes them any more.
    queue: Mutex<Option<Vec<Command>>>,
    /// Whether the thread sleeps, or is about to; it changes under the lock of the queue.
    asleep: AtomicBool,
    wake: OwnedFd,
}

impl Commands {
    pub(super) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let queue = Mutex::new(Some(Vec::new()));
        Ok(Self { queue, asleep: AtomicBool::new(false), wake })
    }

    /// Hands a command over, or drops it when the rails are gone: who waits for an answer learns
    /// it by that.
    pub(super) fn push(&self, command: Command) {
        let mut queue = self.queue();
        let Some(commands) = queue.as_mut() else { return };
        commands.push(command);
        let asleep = self.asleep.swap(false, Relaxed);
        drop(queue);
        if asleep {
            // Full means that it was woken already.
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    fn queue(&self) -> MutexGuard<'_, Option<Vec<Command>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<Command> {
        self.queue().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Says that the thread is about to sleep, unless there is something to do.
    fn doze(&self) -> bool {
        let queue = self.queue();
        let idle = queue.as_ref().is_none_or(Vec::is_empty);
        self.asleep.store(idle, Relaxed);
        idle
    }

    /// Says that the thread is awake.
    fn calm(&self) {
        self.asleep.store(false, Relaxed);
        let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
    }
}

/// What the thread shares with its link.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) commands: Arc<Commands>,
    pub(super) status: Arc<Mutex<Vec<RailStatus>>>,
    /// Headers for the peer.
    pub(super) tell: mpsc::UnboundedSender<Bytes>,
    /// Rules that the peer broke.
    pub(super) violations: mpsc::UnboundedSender<&'static str>,
    pub(super) header_bytes_max: usize,
}

struct Driver<R: Rail> {
    rails: Rails<R>,
    shared: Shared,
    began: Clock,
    sends: HashMap<u64, oneshot::Sender<SendEnd>>,
    reads: HashMap<u64, oneshot::Sender<Option<(Lease, usize)>>>,
    notes: Vec<Note>,
    status_at: Clock,
    ticked: Clock,
}

/// Ends the queue of commands, however the thread ends.
struct Closing(Arc<Commands>);

impl Drop for Closing {
    fn drop(&mut self) {
        let rest = self.0.queue().take();
        drop(rest);
    }
}

/// Runs rails until they are told to stop.
pub(super) fn run<R: Rail>(rails: Rails<R>, shared: Shared) {
    let _closing = Closing(Arc::clone(&shared.commands));
    let now = Clock::now();
    let mut driver = Driver {
        rails,
        shared,
        began: now,
        sends: HashMap::new(),
        reads: HashMap::new(),
        notes: Vec::new(),
        status_at: now,
        ticked: now,
    };
    let now = driver.now();
    driver.rails.start(now);
    driver.flush();
    let mut active = Clock::now();
    loop {
        let commands = driver.shared.commands.take();
        let idle = commands.is_empty();
        for command in commands {
            if !driver.obey(command) {
                driver.rails.stop();
                driver.publish();
                return;
            }
        }
        let completed = driver.rails.poll(driver.now());
        driver.flush();
        if driver.ticked.elapsed() >= TICK {
            driver.tick(false);
        }
        if completed > 0 || !idle {
            active = Clock::now();
        } else if !driver.rails.is_busy() || active.elapsed() >= SPIN {
            driver.sleep();
        } else {
            std::hint::spin_loop();
        }
    }
}

impl<R: Rail> Driver<R> {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Hands a command to the rails; false if it is the last one.
    fn obey(&mut self, command: Command) -> bool {
        let now = self.now();
        match command {
            Command::Send { id, header, content, done } => {
                self.sends.insert(id, done);
                self.rails.send(id, header, content, now);
            }
            Command::Unsend { id } => {
                self.sends.remove(&id);
                self.rails.unsend(id, now);
            }
            Command::Carried { id } => self.rails.carried(id, now),
            Command::Read { grant, lease, done } => {
                self.reads.insert(grant.id, done);
                self.rails.read(grant, lease, now);
            }
            Command::Unread { grant } => self.rails.unread(&grant, now),
            Command::Blame { rail } => self.rails.blame(rail, now),
            Command::Peer(notes) => self.rails.handle(notes, now),
            Command::Stop => return false,
        }
        true
    }

    /// Does what the rails want done.
    fn flush(&mut self) {
        while let Some(output) = self.rails.poll_output() {
            match output {
                Output::Tell(note) => self.notes.push(note),
                Output::Grant(grant) => {
                    let _ = self.shared.tell.send(grant.encode());
                }
                Output::Sent { id, end } => {
                    if let Some(done) = self.sends.remove(&id) {
                        let _ = done.send(end);
                    }
                }
                Output::Read { grant, lease } => {
                    if let Some(done) = self.reads.remove(&grant) {
                        let _ = done.send(lease);
                    }
                }
                Output::Violation(what) => {
                    let _ = self.shared.violations.send(what);
                }
            }
        }
        let can_wait = |note: &Note| matches!(note, Note::Done { again: false, .. });
        if self.notes.len() >= DONE_TOGETHER || !self.notes.iter().all(can_wait) {
            self.tell();
        }
        if self.status_at.elapsed() >= STATUS {
            self.publish();
        }
    }

    /// Tells the peer what there is to tell.
    fn tell(&mut self) {
        while !self.notes.is_empty() {
            let header = encode_notes(&mut self.notes, self.shared.header_bytes_max);
            let _ = self.shared.tell.send(header);
        }
    }

    fn publish(&mut self) {
        self.status_at = Clock::now();
        let status = self.rails.status();
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Waits for a command, a completion, an event of a port, or the next deadline.
    fn sleep(&mut self) {
        self.tell();
        let now = self.now();
        let until = self.rails.deadline().map_or(u64::MAX, |at| at.0.saturating_sub(now.0));
        let mut limit = SLEEP.min(Duration::from_nanos(until));
        if !self.rails.arm() {
            limit = limit.min(POLLED_SLEEP);
        }
        // What completed before the devices were armed wakes nobody.
        let idle = self.rails.poll(now) == 0 && self.shared.commands.doze();
        let woken = idle && self.wait(limit);
        self.tick(woken);
    }

    fn tick(&mut self, events: bool) {
        self.ticked = Clock::now();
        let now = self.now();
        self.rails.tick(now, events);
        self.flush();
        self.tell();
    }

    /// Waits on the descriptors; whether one of a device woke.
    fn wait(&self, limit: Duration) -> bool {
        let wake = self.shared.commands.wake.as_fd();
        let mut fds = vec![PollFd::from_borrowed_fd(wake, PollFlags::IN)];
        let devices = self.rails.descriptors().into_iter();
        fds.extend(devices.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let limit = Timespec::try_from(limit).ok();
        let count = poll(&mut fds, limit.as_ref()).unwrap_or(0);
        let told = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        self.shared.commands.calm();
        count > usize::from(told)
    }
}
