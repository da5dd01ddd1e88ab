//! The rails of one session: what is posted where, and what becomes of it.
//!
//! A machine over the port: it has no clock and no randomness of its own, so that a seed replays
//! everything it does over software devices.
//!
//! ```text
//! rail, leading end:   Down --setup--> Asked --answer--> Ready        any --trouble--> Down
//! rail, other end:     Down --setup--> Answered --up, grant--> Ready
//!
//! content to send:     Waiting --window posted--> Opening --open--> Granted --done--> gone
//!                         ^------------- the rail is down ---------------'
//! content to receive:  granted, lease --> Reading --all read--> done
//! ```
//!
//! What is under way on a rail that goes down counts as not done, whatever the devices did with
//! it: the sending end takes it to another rail, or hands it back for the link below. A rail that
//! came back is on trial until it has carried something: it gets one message, nothing waits for
//! it, and what it does not carry at once the link below carries as well.

mod line;
mod reads;
mod sends;
mod setup;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::BorrowedFd;

use super::message::{Grant, Note};
use super::port::{Completion, PortInfo, Rail, RailError};
use crate::base::Instant;
use crate::buf::Lease;
use crate::metrics::RailStatus;

use line::{Line, What};
use reads::Reading;
use sends::Sending;

/// Longest that content waits at the start of a session for a first rail, in milliseconds.
const START_MS: u64 = 5_000;
/// How long after its end a rail is tried again, in milliseconds.
const RETRY_MS: u64 = 500;
/// Longest that the other end may take to connect, in milliseconds. It has to register its slab,
/// which takes a while where memory is in small pages.
const CONNECT_MS: u64 = 10_000;
/// Longest without a completion while one is due, in milliseconds. A device's own retries end
/// before (at most about 2 s); this is for a device that forgets.
const COMPLETION_MS: u64 = 4_000;
/// How long content waits for a rail that came back before the link below carries it as well, in
/// milliseconds.
const TRIAL_MS: u64 = 200;
/// How long a rail that altered content is left alone, in milliseconds.
const QUARANTINE_MS: u64 = 30_000;
/// How often events of a port are looked for when nothing wakes, in milliseconds.
const EVENTS_MS: u64 = 50;

/// Why a rail is left alone.
const ALTERED: &str =
    "content came altered over it: check memory and adapters of both nodes; left alone for 30 s";

/// How content that was to be sent ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendEnd {
    /// The peer has it, or wants it no more.
    Done,
    /// It has to go over the link below.
    Carry,
}

/// What the machine wants done.
pub(crate) enum Output {
    /// Tell the peer; order does not matter.
    Tell(Note),
    /// Tell the peer that content can be read.
    Grant(Grant),
    /// Content is sent.
    Sent {
        /// The send.
        id: u64,
        /// How it ended.
        end: SendEnd,
    },
    /// Content is read, with its length; `None` if it has to come another way.
    Read {
        /// The grant.
        grant: u64,
        /// The lease, filled.
        lease: Option<(Lease, usize)>,
    },
    /// The peer broke a rule: the session has to end.
    Violation(&'static str),
}

/// Opens a port of this node by its place in the list.
pub(crate) type Opener<R> = Box<dyn FnMut(&PortInfo) -> Result<R, RailError> + Send>;

/// What a session's rails are made of.
pub(crate) struct Setup<R> {
    /// Whether this end sets rails up.
    pub(crate) lead: bool,
    /// Ports of this node, as its greeting named them.
    pub(crate) mine: Vec<PortInfo>,
    /// Ports of the peer.
    pub(crate) yours: Vec<PortInfo>,
    /// Queue pairs of each rail.
    pub(crate) queue_pairs: usize,
    /// The memory node that the slab is at, if known.
    pub(crate) near: Option<u16>,
    /// Longest header that the link below takes, in bytes.
    pub(crate) header_bytes_max: usize,
    /// Opens a port.
    pub(crate) opener: Opener<R>,
}

/// The rails of a session.
pub(crate) struct Rails<R: Rail> {
    setup: Setup<R>,
    lines: BTreeMap<u8, Line<R>>,
    sends: BTreeMap<u64, Sending>,
    /// Sends by their grant.
    granted: BTreeMap<u64, u64>,
    waiting: VecDeque<u64>,
    /// Sends that the link below carries at the moment.
    carrying: BTreeSet<u64>,
    /// Sends on rails that are on trial, and when they are carried as well.
    trials: BTreeMap<u64, Instant>,
    reads: BTreeMap<u64, Reading>,
    next_tag: u64,
    next_grant: u64,
    /// A rail was up once, or none came up in time: nothing waits for a first one any more.
    settled: bool,
    started: Instant,
    events_at: Instant,
    stale: u64,
    /// Kept for their memory.
    polled: Vec<Completion>,
    completed: Vec<(u8, Completion)>,
    now: Instant,
    out: VecDeque<Output>,
}

impl<R: Rail> Rails<R> {
    /// Rails that are not set up yet; [`start`](Self::start) does it.
    pub(crate) fn new(setup: Setup<R>) -> Self {
        Self {
            setup,
            lines: BTreeMap::new(),
            sends: BTreeMap::new(),
            granted: BTreeMap::new(),
            waiting: VecDeque::new(),
            carrying: BTreeSet::new(),
            trials: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_tag: 1,
            next_grant: 1,
            settled: false,
            started: Instant::default(),
            events_at: Instant::default(),
            stale: 0,
            polled: Vec::new(),
            completed: Vec::new(),
            now: Instant::default(),
            out: VecDeque::new(),
        }
    }

    /// What is to be done next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`tick`](Self::tick) has to be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let start = (!self.settled).then(|| self.started.plus_ms(START_MS));
        let lines = self.lines.values().filter_map(|line| line.deadline(self.setup.lead));
        let trials = self.trials.values().copied();
        lines.chain(start).chain(trials).min()
    }

    /// Rails as an operator sees them.
    pub(crate) fn status(&self) -> Vec<RailStatus> {
        self.lines.values().map(|line| line.status(&self.setup)).collect()
    }

    /// Completions that named nothing under way.
    #[cfg(test)]
    pub(crate) fn stale(&self) -> u64 {
        self.stale
    }

    /// Whether a completion is due on some rail.
    pub(crate) fn is_busy(&self) -> bool {
        self.lines.values().any(|line| !line.posted.is_empty())
    }

    /// Asks the devices on which something is under way to wake at their next completion; false
    /// if one of them cannot, and has to be polled.
    pub(crate) fn arm(&mut self) -> bool {
        let mut all = true;
        for line in self.lines.values_mut().filter(|line| !line.posted.is_empty()) {
            let armed = line
                .rail
                .as_mut()
                .is_some_and(|rail| !rail.descriptors().is_empty() && rail.arm().is_ok());
            all &= armed;
        }
        all
    }

    /// What becomes readable at a completion, or an event of a port.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.lines.values().filter_map(|line| line.rail.as_ref()).flat_map(R::descriptors).collect()
    }

    /// What the peer says.
    pub(crate) fn handle(&mut self, notes: Vec<Note>, now: Instant) {
        self.now = now;
        for note in notes {
            match note {
                Note::Setup { rail, epoch, mine, yours, queue_pairs } => {
                    self.asked(rail, epoch, (yours, mine), &queue_pairs);
                }
                Note::Answer { rail, epoch, queue_pairs } => {
                    self.answered(rail, epoch, &queue_pairs);
                }
                Note::Up { rail, epoch } => self.up(rail, epoch),
                Note::Down { rail, epoch, why } => {
                    let known = self.lines.get(&rail).is_some_and(|l| l.lives(epoch));
                    if known {
                        self.take_down(rail, &format!("the peer: {why}"), false);
                    }
                }
                Note::Done { grant, again } => self.done(grant, again),
            }
        }
        self.pump();
    }

    /// Takes completions; returns how many there were.
    pub(crate) fn poll(&mut self, now: Instant) -> usize {
        self.now = now;
        let mut completed = std::mem::take(&mut self.completed);
        let mut broken: Vec<(u8, RailError)> = Vec::new();
        for (number, line) in &mut self.lines {
            let Some(rail) = line.rail.as_mut().filter(|_| !line.posted.is_empty()) else {
                continue;
            };
            if let Err(error) = rail.poll(&mut self.polled) {
                broken.push((*number, error));
            }
            completed.extend(self.polled.drain(..).map(|completion| (*number, completion)));
        }
        let count = completed.len() + broken.len();
        for (number, completion) in completed.drain(..) {
            self.complete(number, completion);
        }
        for (number, error) in broken {
            self.take_down(number, &error.what, true);
        }
        self.completed = completed;
        if count > 0 {
            self.pump();
        }
        count
    }

    fn complete(&mut self, number: u8, completion: Completion) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        let Some(posted) = line.complete(completion.tag, self.now) else {
            // Of an earlier life, or told twice.
            self.stale += 1;
            return;
        };
        if let Err(error) = completion.result {
            return self.take_down(number, &error.what, true);
        }
        match posted.what {
            What::Read { queue_pair, grant, .. } => {
                if !line.in_order(queue_pair, completion.tag) {
                    let what = "completions came out of order: one was lost";
                    return self.take_down(number, what, true);
                }
                self.read_part(grant);
            }
            What::Open { send, window, bytes } => self.opened(number, send, window, bytes),
            What::Close => {}
        }
        // Whatever it was has left its queue pair, so a READ may find room now.
        self.feed(number);
    }

    /// Does what is due by time, and looks for events of ports.
    pub(crate) fn tick(&mut self, now: Instant, events: bool) {
        self.now = now;
        if !self.settled && now >= self.started.plus_ms(START_MS) {
            self.settled = true;
        }
        let events = events || now >= self.events_at.plus_ms(EVENTS_MS);
        if events {
            self.events_at = now;
        }
        self.carry_trials();
        let numbers: Vec<u8> = self.lines.keys().copied().collect();
        for number in numbers {
            let Some(line) = self.lines.get_mut(&number) else { continue };
            let event = line.rail.as_mut().filter(|_| events).and_then(Rail::trouble);
            let trouble = event.filter(|_| !line.is_down()).map(|event| event.what);
            if let Some(what) = trouble.or_else(|| line.overdue(now)) {
                self.take_down(number, &what, true);
            } else if self.setup.lead && line.is_down() && now >= line.retry_at {
                self.set_up(number);
                // Opening a port takes time: the peer is told of this one meanwhile.
                break;
            }
        }
        self.pump();
    }

    /// Ends a rail's life. What was under way on it is not done.
    fn take_down(&mut self, number: u8, why: &str, tell: bool) {
        let Some(line) = self.lines.get_mut(&number) else { return };
        line.take_down(why, self.now);
        let epoch = line.epoch;
        tracing::info!(rail = number, epoch, why, "a rail is down");
        if tell {
            self.out.push_back(Output::Tell(Note::Down {
                rail: number,
                epoch,
                why: why.to_owned(),
            }));
        }
        if self.setup.lead && self.lines.values().all(Line::has_failed) {
            self.settled = true;
        }
        self.fail_reads(number);
        self.replace_sends(number);
    }

    /// Content that came over a rail was not what was sent: it is left alone for a while.
    pub(crate) fn blame(&mut self, number: u8, now: Instant) {
        self.now = now;
        let Some(line) = self.lines.get_mut(&number) else { return };
        line.quarantine = Some(now.plus_ms(QUARANTINE_MS));
        if !line.is_down() {
            self.take_down(number, ALTERED, true);
        }
        self.pump();
    }

    /// Ends all rails, for good: nothing can be read through them any more.
    pub(crate) fn stop(&mut self) {
        for line in self.lines.values_mut() {
            line.take_down("the session is over", self.now);
            line.rail = None;
        }
        self.sends.clear();
        self.trials.clear();
        self.reads.clear();
        self.out.clear();
    }

    fn tag(&mut self) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        tag
    }
}
