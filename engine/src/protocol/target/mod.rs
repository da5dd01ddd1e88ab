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
mod io;
mod pieces;
mod runs;

use std::collections::VecDeque;
use std::sync::Arc;

use super::settle::Window;
use super::{FailedObject, Failure, Stop};
use crate::base::limits::{ENTRY_WINDOW, OBJECTS_MAX};
use crate::base::{Digest, Instant, RelPath, Seq};
use crate::manifest::{ChunkRef, Entry, EntryKind, ListHasher, Object, RootHasher};
use crate::wire::{Frame, Known, Numbers, Published, Verdict};

use commit::Commits;
use runs::Runs;

pub use io::{
    Checked, CommitJob, CommitObject, Finding, PlacePiece, PlaceResult, PlantedMachine,
    SettledObject, TargetAction, TargetEnd, TargetInput, Task,
};

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
    /// Directories whose contents may still be announced, outermost first.
    parents: Vec<RelPath>,
    last_path: Option<RelPath>,
    /// The snapshot is one file or link: nothing lies below it.
    single: bool,
    entries_done: Option<u32>,
    /// Checks that are not answered.
    checks: usize,
    /// Files whose content is not all placed yet.
    open_files: usize,
    now: Instant,
    runs: Runs,
    commits: Commits,
    root: RootHasher,
    their_root: Option<Digest>,
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
            parents: Vec::new(),
            last_path: None,
            single: false,
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
            Frame::Root { root } => {
                if self.entries_done.is_none() || self.their_root.is_some() {
                    return self.violation("a root before its time");
                }
                self.their_root = Some(root);
            }
            Frame::Refuse { code, detail, retry } => {
                self.stop(Stop::Refused { failure: Failure { code, detail }, retry });
            }
            other => self.violation(format!("the frame {} is not for a target", other.name())),
        }
    }

    fn entries(&mut self, first: Seq, entries: Vec<Entry>) {
        if first != self.window.next() || self.entries_done.is_some() {
            return self.violation("entries out of turn");
        }
        if self.window.len() + entries.len() > ENTRY_WINDOW + 1 {
            return self.violation(format!("more than {ENTRY_WINDOW} entries are unsettled"));
        }
        if u64::from(first) + entries.len() as u64 > u64::from(OBJECTS_MAX) {
            return self.violation("more objects than a snapshot may have");
        }
        let mut files = 0;
        for entry in &entries {
            if let Err(detail) = self.place_is_new_and_below(entry) {
                return self.violation(format!("{}: {detail}", entry.path));
            }
            files += u64::from(entry.is_file());
            self.open_files += usize::from(entry.is_file());
            let Some(bytes_total) = self.bytes_total.checked_add(entry.len()) else {
                return self.violation("more content than can be counted");
            };
            self.bytes_total = bytes_total;
            let state = if entry.is_file() {
                State::Checking
            } else {
                State::Done(Object { digest: Digest::default(), len: 0, cutter: 0 })
            };
            let seq = self.window.push(Slot::new(entry.clone(), state));
            if let EntryKind::Symlink(text) = &entry.kind
                && !entry.path.link_stays_below(text)
            {
                let failure = Failure::new("unsafe-link", "the link leaves the snapshot");
                self.fail(seq, failure, true);
            }
        }
        self.files_total += files;
        if !entries.is_empty() {
            self.checks += 1;
            self.out.push_back(TargetAction::Check { first, entries });
        }
    }

    /// Canonical order makes every name unique, and every parent an announced directory.
    fn place_is_new_and_below(&mut self, entry: &Entry) -> Result<(), &'static str> {
        if self.last_path.as_ref().is_some_and(|last| *last >= entry.path) {
            return Err("entries are not in canonical order");
        }
        let parent = entry.path.parent();
        if let Some(parent) = &parent {
            while self.parents.last().is_some_and(|dir| dir != parent) {
                self.parents.pop();
            }
            if self.parents.is_empty() && !parent.is_root() {
                return Err("its directory was not announced");
            }
            if self.single {
                return Err("the snapshot is a single file");
            }
        }
        if entry.kind == EntryKind::Dir {
            self.parents.push(entry.path.clone());
        } else if entry.path.is_root() {
            self.single = true;
        }
        self.last_path = Some(entry.path.clone());
        Ok(())
    }

    fn checked(&mut self, answers: Vec<(Seq, Checked)>) {
        self.checks = self.checks.saturating_sub(1);
        let mut verdicts = Vec::with_capacity(answers.len());
        for (seq, checked) in answers {
            let Some(slot) = self.window.slot_mut(seq) else { continue };
            if slot.state != State::Checking {
                continue;
            }
            let known = match checked {
                Checked::Need => {
                    slot.state = State::Open;
                    Known::Need
                }
                Checked::Resumed(object) => {
                    slot.state = State::Done(object);
                    slot.counts.resumed = object.len;
                    self.numbers.resumed += object.len;
                    Known::Have(object)
                }
                Checked::Published(object) => {
                    slot.state = State::Done(object);
                    slot.counts.deduplicated = object.len;
                    self.numbers.deduplicated += object.len;
                    Known::Have(object)
                }
            };
            if known != Known::Need {
                self.numbers.files += 1;
                self.open_files -= 1;
            }
            verdicts.push(Verdict { seq, known });
        }
        if !verdicts.is_empty() {
            self.out.push_back(TargetAction::Send(Frame::Verdicts(verdicts)));
        }
    }

    fn restart(&mut self, seq: Seq, round: u32, entry: Entry) {
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

    fn published(&mut self, result: Result<(), Failure>) {
        match result {
            Err(failure) => self.stop(Stop::Local(failure)),
            Ok(()) => {
                let published = Published { root: self.root.finish(), numbers: self.numbers };
                self.out.push_back(TargetAction::Send(Frame::Published(published.clone())));
                let failed = std::mem::take(&mut self.failed);
                self.ended = true;
                self.out.push_back(TargetAction::End(TargetEnd::Published(published, failed)));
            }
        }
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

    fn settle_front(&mut self) {
        let mut settled = Vec::new();
        while self.window.front().is_some_and(Slot::settled) {
            let seq = self.window.base();
            let Some(slot) = self.window.pop() else { break };
            let State::Done(object) = slot.state else { continue };
            let object = slot.entry.is_file().then_some(object);
            self.root.push(&slot.entry, object.map(|o| o.digest));
            settled.push(SettledObject { seq, entry: slot.entry, object, list: slot.list });
        }
        if !settled.is_empty() && self.task == Task::Receive {
            self.out.push_back(TargetAction::Settle(settled));
        }
        let state = (self.window.base(), self.numbers);
        if state != self.settled_sent {
            self.settled_sent = state;
            let (below, numbers) = state;
            self.out.push_back(TargetAction::Send(Frame::Settled { below, numbers }));
        }
    }

    fn publish_if_complete(&mut self) {
        let (Some(_), Some(theirs), 0, false) =
            (self.entries_done, self.their_root, self.window.len(), self.publishing)
        else {
            return;
        };
        if self.checks > 0 {
            // Directories and links wait for nothing, but whether they changed is to be known.
            return;
        }
        let root = self.root.finish();
        if root != theirs {
            let detail = format!("the source's root is {theirs}, what was received has {root}");
            return self.stop(Stop::Violation(Failure::new("root-mismatch", detail)));
        }
        if !self.failed.is_empty() && self.numbers.files == 0 {
            let FailedObject { path, failure, .. } = &self.failed[0];
            let detail = format!("every file failed, the first is {path}: {}", failure.detail);
            let failure = Failure::new("nothing-to-publish", detail);
            return self.stop(Stop::Violation(failure));
        }
        self.publishing = true;
        if self.task == Task::Plan {
            return self.published(Ok(()));
        }
        let entries = self.root.entries();
        self.out.push_back(TargetAction::Publish { root, entries });
        if self.planted.duplicate_publish {
            self.out.push_back(TargetAction::Publish { root, entries });
        }
    }

    fn is_plan(&self) -> bool {
        self.task == Task::Plan
    }
}
