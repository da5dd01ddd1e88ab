//! The target's role: say what is known, want what is missing, place, commit, settle, publish.
//!
//! ```text
//! object:  Checking --need--> Open --all placed--> Closing --committed--> Done --front--> settled
//!             |                ^ |                    |
//!             |have            +-+--restart           |          any --failed--> Failed --front--> settled
//!             +----------------------------------------------> Done
//!
//! piece:   Resolving --found--> Placed --commit--> Closed
//!             |                   ^
//!             |missing            |right digest
//!             v                   |
//!          Queued --credit--> Wanted --data--> Placing --wrong digest--> Wanted (asked again)
//!             v
//!          Waiting (the same chunk is under way for another piece) --> Resolving
//! ```
//!
//! A piece counts only once a commit covered it: data, sync, journal, in this order.

mod commit;
mod entries;
mod finish;
mod io;
mod pieces;
mod runs;

use std::collections::VecDeque;
use std::sync::Arc;

use super::settle::Window;
use super::{FailedObject, Failure, Stop};
use crate::base::limits::PATH_DEPTH_MAX;
use crate::base::{Digest, Instant, Seq};
use crate::manifest::{ChunkRef, Entry, ListHasher, Object, RootHasher};
use crate::wire::{Frame, Numbers};

use commit::Commits;
use entries::Places;
use runs::Runs;

pub use io::{
    Checked, CommitJob, CommitObject, Finding, PlacePiece, PlaceResult, PlantedMachine,
    SettledObject, TargetAction, TargetEnd, TargetInput, Task,
};
pub(crate) use runs::OWN_RUN;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Checking,
    Open,
    Closing,
    Done(Object),
    Failed,
}

struct Slot {
    entry: Entry,
    round: u32,
    state: State,
    hasher: ListHasher,
    chunks: Vec<ChunkRef>,
    list: Option<Arc<Vec<ChunkRef>>>,
    ended: Option<Object>,
    /// Offered pieces that are not placed yet.
    unplaced: u32,
    /// Failed syncs and refused chunks so far.
    tries: u32,
    counts: Numbers,
}

impl Slot {
    fn new(entry: Entry, state: State) -> Self {
        Self {
            entry,
            round: 0,
            state,
            hasher: ListHasher::default(),
            chunks: Vec::new(),
            list: None,
            ended: None,
            unplaced: 0,
            tries: 0,
            counts: Numbers::default(),
        }
    }

    fn settled(&self) -> bool {
        matches!(self.state, State::Done(_) | State::Failed)
    }
}

/// The target of one transfer. See the module for how it is driven.
pub struct Target {
    task: Task,
    window: Window<Slot>,
    places: Places,
    /// Most components of an entry's path.
    depth_max: usize,
    entries_done: Option<u32>,
    /// Checks that are not answered.
    checks: usize,
    /// Files whose content is not all placed yet.
    open_files: usize,
    now: Instant,
    runs: Runs,
    commits: Commits,
    root: RootHasher,
    /// The source's root, and how many objects it knew to have failed.
    their_root: Option<(Digest, u64)>,
    publishing: bool,
    failed: Vec<FailedObject>,
    numbers: Numbers,
    files_total: u64,
    bytes_total: u64,
    settled_sent: (Seq, Numbers),
    out: VecDeque<TargetAction>,
    ended: bool,
    planted: PlantedMachine,
}

impl Target {
    /// A target that has at most `credit_bytes` of content wanted and not yet durable.
    pub fn new(task: Task, credit_bytes: u64) -> Self {
        Self {
            task,
            window: Window::default(),
            places: Places::default(),
            depth_max: PATH_DEPTH_MAX,
            entries_done: None,
            checks: 0,
            open_files: 0,
            now: Instant::default(),
            runs: Runs::new(credit_bytes),
            commits: Commits::default(),
            root: RootHasher::default(),
            their_root: None,
            publishing: false,
            failed: Vec::new(),
            numbers: Numbers::default(),
            files_total: 0,
            bytes_total: 0,
            settled_sent: (0, Numbers::default()),
            out: VecDeque::new(),
            ended: false,
            planted: PlantedMachine::default(),
        }
    }

    /// Lets objects fail whose path has more than `depth_max` components; to be called before the first
    /// input.
    pub fn bound_depth(&mut self, depth_max: usize) {
        self.depth_max = depth_max;
    }

    /// Plants defects.
    #[doc(hidden)]
    pub fn plant(&mut self, planted: PlantedMachine) {
        self.planted = planted;
    }

    /// The next action, if any.
    pub fn poll_action(&mut self) -> Option<TargetAction> {
        self.out.pop_front()
    }

    /// When a `Tick` is due, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.commits.deadline()
    }

    /// Files and content bytes announced so far, and whether that is all.
    pub fn found(&self) -> (u64, u64, bool) {
        (self.files_total, self.bytes_total, self.entries_done.is_some())
    }

    /// The counters so far.
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Objects that failed so far.
    pub fn failed(&self) -> u64 {
        self.failed.len() as u64
    }

    /// Content that is wanted and not yet durable, in bytes.
    pub fn outstanding(&self) -> u64 {
        self.runs.outstanding()
    }

    /// Takes an input at the time `now`.
    pub fn handle(&mut self, input: TargetInput, now: Instant) {
        if self.ended {
            if let TargetInput::Data { ticket, .. } = input {
                self.out.push_back(TargetAction::Drop { ticket });
            }
            return;
        }
        self.now = now;
        match input {
            TargetInput::Frame(frame) => self.frame(frame),
            TargetInput::Data { ticket, header, bytes } => self.data(ticket, &header, bytes),
            TargetInput::Checked(answers) => self.checked(answers),
            TargetInput::Resolved { run, found } => self.resolved(run, found),
            TargetInput::Placed { run, results } => self.placed(run, results),
            TargetInput::Committed(objects) => self.committed(objects),
            TargetInput::Published(result) => self.published(result),
            TargetInput::Tick => {}
            TargetInput::Broken(failure) => self.stop(Stop::Local(failure)),
        }
        self.pump(now);
    }

    fn stop(&mut self, stop: Stop) {
        if self.ended {
            return;
        }
        self.ended = true;
        let told = match &stop {
            Stop::Refused { .. } => None,
            Stop::Violation(failure) => Some((failure, false)),
            Stop::Local(failure) => Some((failure, true)),
        };
        if let Some((failure, retry)) = told {
            let Failure { code, detail } = failure.clone();
            self.out.push_back(TargetAction::Send(Frame::Refuse { code, detail, retry }));
        }
        self.out.push_back(TargetAction::End(TargetEnd::Stopped(stop)));
    }

    fn violation(&mut self, detail: impl Into<String>) {
        self.stop(Stop::Violation(Failure::new("protocol", detail)));
    }

    fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Entries { first, entries } => self.entries(first, entries),
            Frame::EntriesEnd { entries, .. } => {
                if self.entries_done.is_some() || entries != self.window.next() {
                    return self.violation("the number of entries is wrong");
                }
                self.entries_done = Some(entries);
            }
            Frame::Offer { run, pieces, ends } => self.offer(run, pieces, ends),
            Frame::Restart { seq, round, entry } => self.restart(seq, round, entry),
            Frame::Failed { seq, code, detail } => {
                if seq < self.window.base() {
                    return;
                }
                if self.window.slot(seq).is_some_and(|slot| !slot.entry.is_file()) {
                    return self.violation(format!("object {seq} is not a file and cannot fail"));
                }
                self.fail(seq, Failure { code, detail }, false);
            }
            Frame::Root { root, failed } => {
                if self.entries_done.is_none() {
                    return self.violation("a root before its time");
                }
                self.their_root = Some((root, failed));
            }
            Frame::Refuse { code, detail, retry } => {
                self.stop(Stop::Refused { failure: Failure { code, detail }, retry });
            }
            other => self.violation(format!("the frame {} is not for a target", other.name())),
        }
    }

    fn restart(&mut self, seq: Seq, round: u32, entry: Entry) {
        self.their_root = None;
        if seq < self.window.base() {
            // It failed here, and the source had not heard of it.
            return;
        }
        let Some(slot) = self.window.slot(seq) else {
            return self.violation(format!("object {seq} cannot be started over"));
        };
        let fits = round == slot.round + 1 && entry.path == slot.entry.path && entry.is_file();
        match slot.state {
            State::Failed => {}
            State::Checking | State::Done(_) => {
                self.violation(format!("object {seq} is started over out of turn"));
            }
            State::Open | State::Closing if !fits => {
                self.violation(format!("object {seq} is started over wrongly"));
            }
            State::Open | State::Closing => {
                let others = self.bytes_total.saturating_sub(slot.entry.len());
                match others.checked_add(entry.len()) {
                    Some(bytes_total) => {
                        self.bytes_total = bytes_total;
                        self.begin_anew(seq, round, entry);
                    }
                    None => self.violation("more content than can be counted"),
                }
            }
        }
    }

    fn begin_anew(&mut self, seq: Seq, round: u32, entry: Entry) {
        self.forget_content(seq);
        self.runs.forgive(seq);
        let Some(slot) = self.window.slot_mut(seq) else { return };
        let tries = slot.tries;
        self.open_files += usize::from(slot.state == State::Closing);
        *slot = Slot::new(entry.clone(), State::Open);
        slot.round = round;
        slot.tries = tries;
        self.out.push_back(TargetAction::Reset { seq, round, entry });
    }

    /// Takes an object's content out of the reckoning: what came for it is discarded.
    fn forget_content(&mut self, seq: Seq) {
        let (mut orphans, placing) = self.runs.close_object(seq);
        self.numbers.discarded += placing;
        let (credit, digests) = self.commits.forget(seq);
        self.runs.release(credit);
        orphans.extend(digests);
        for digest in orphans {
            let waiting = self.runs.landed(&digest);
            self.resolve_anew(waiting);
        }
        let Some(slot) = self.window.slot_mut(seq) else { return };
        let counts = std::mem::take(&mut slot.counts);
        self.numbers.sent -= counts.sent;
        self.numbers.deduplicated -= counts.deduplicated;
        self.numbers.resumed -= counts.resumed;
        self.numbers.discarded += counts.sent;
    }

    fn fail(&mut self, seq: Seq, failure: Failure, tell: bool) {
        let Some(slot) = self.window.slot(seq) else {
            return self.violation(format!("object {seq}, which is unknown, failed"));
        };
        match slot.state {
            State::Failed => return,
            State::Done(_) if slot.entry.is_file() => self.numbers.files -= 1,
            State::Checking | State::Open => self.open_files -= 1,
            State::Done(_) | State::Closing => {}
        }
        let path = slot.entry.path.to_string();
        self.forget_content(seq);
        self.runs.forgive(seq);
        if let Some(slot) = self.window.slot_mut(seq) {
            slot.state = State::Failed;
            slot.chunks = Vec::new();
            slot.list = None;
        }
        if tell {
            let Failure { code, detail } = failure.clone();
            self.out.push_back(TargetAction::Send(Frame::Failed { seq, code, detail }));
        }
        self.failed.push(FailedObject { seq, path, failure });
    }

    fn pump(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        self.grant();
        self.commit_if_due(now);
        self.settle_front();
        self.publish_if_complete();
    }

    fn is_plan(&self) -> bool {
        self.task == Task::Plan
    }
}
