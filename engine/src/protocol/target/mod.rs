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
mod pieces;

use std::collections::VecDeque;
use std::sync::Arc;

use super::settle::Window;
use super::{FailedObject, Failure, Stop};
use crate::base::limits::{ENTRY_WINDOW, OBJECTS_MAX};
use crate::base::{Digest, Instant, RelPath, Seq};
use crate::manifest::{ChunkRef, Entry, EntryKind, ListHasher, Object, RootHasher};
use crate::wire::{DataHeader, Frame, Known, Numbers, Piece, Published, Verdict};

use commit::Commits;
use pieces::Runs;

/// What the session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Receive and publish.
    Receive,
    /// Only reckon what would be received.
    Plan,
}

/// What is known at the target of an announced file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Nothing that spares reading it.
    Need,
    /// An earlier run of this transfer has finished it.
    Resumed(Object),
    /// It is published already, and neither side has changed since.
    Published(Object),
}

/// Where a piece was found at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nowhere.
    Missing,
    /// In a file here; it is verified and placed (or, for a plan, known).
    Deduplicated,
    /// In the staged object itself, from an earlier run; it is verified.
    Resumed,
}

/// A piece in the order of a data message's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacePiece {
    /// Its place in the run.
    pub index: usize,
    /// The piece.
    pub piece: Piece,
    /// Its bytes are there but not wanted any more.
    pub skip: bool,
}

/// What became of a piece that was to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceResult {
    /// Verified and written.
    Placed,
    /// The bytes do not have the digest.
    Wrong,
    /// The object cannot be written.
    Failed(Failure),
}

/// An object in a commit.
#[derive(Debug, Clone)]
pub struct CommitObject {
    /// The object.
    pub seq: Seq,
    /// Which reading.
    pub round: u32,
    /// What it is.
    pub entry: Entry,
    /// Chunks that were placed since the last commit.
    pub chunks: Vec<ChunkRef>,
    /// The whole object, if this commit finishes it: content and full chunk list.
    pub finish: Option<(Object, Arc<Vec<ChunkRef>>)>,
}

/// What is to become durable together.
#[derive(Debug, Clone, Default)]
pub struct CommitJob {
    /// The objects, in order.
    pub objects: Vec<CommitObject>,
}

/// An object that takes its place in the manifest.
#[derive(Debug, Clone)]
pub struct SettledObject {
    /// Its number.
    pub seq: Seq,
    /// What it is.
    pub entry: Entry,
    /// Content of a file.
    pub object: Option<Object>,
    /// Its chunk list, if it was received now; else it is where the check found it.
    pub list: Option<Arc<Vec<ChunkRef>>>,
}

/// What a target is told.
#[derive(Debug)]
pub enum TargetInput {
    /// A frame from the source.
    Frame(Frame),
    /// A data message has come; it is held under `ticket`.
    Data {
        /// Names the held content.
        ticket: u64,
        /// What the content is.
        header: DataHeader,
        /// Length of the content.
        bytes: usize,
    },
    /// A `Check` is done: an answer for every file of it, and none if there is none.
    Checked(Vec<(Seq, Checked)>),
    /// A `Resolve` is done: an answer for every piece of it, or a failure of its object.
    Resolved {
        /// The run.
        run: u64,
        /// Place in the run, and what was found or failed.
        found: Vec<(usize, Result<Finding, Failure>)>,
    },
    /// A `Place` is done: an answer for every piece that was not to be skipped.
    Placed {
        /// The run.
        run: u64,
        /// Place in the run, and what became of it.
        results: Vec<(usize, PlaceResult)>,
    },
    /// A `Commit` is done: for each object whether it is durable now.
    Committed(Vec<(Seq, u32, Result<(), Failure>)>),
    /// A `Publish` is done.
    Published(Result<(), Failure>),
    /// Time has passed; see [`Target::deadline`].
    Tick,
    /// The target cannot go on.
    Broken(Failure),
}

/// What a target asks for.
#[derive(Debug)]
pub enum TargetAction {
    /// Send a frame.
    Send(Frame),
    /// Look what is known of these entries; the first has the number `first`.
    Check {
        /// Number of the first.
        first: Seq,
        /// The entries, in canonical order.
        entries: Vec<Entry>,
    },
    /// Look for these pieces here, and place what is found.
    Resolve {
        /// The run.
        run: u64,
        /// Places in the run, and the pieces.
        pieces: Vec<(usize, Piece)>,
    },
    /// Verify the held content and write it.
    Place {
        /// The held content.
        ticket: u64,
        /// The run.
        run: u64,
        /// The pieces, in the order of the content.
        pieces: Vec<PlacePiece>,
    },
    /// Forget held content.
    Drop {
        /// The held content.
        ticket: u64,
    },
    /// Forget what is staged of an object, and begin it anew.
    Reset {
        /// The object.
        seq: Seq,
        /// The new reading.
        round: u32,
        /// What it is now.
        entry: Entry,
    },
    /// Make these durable: data, sync, journal.
    Commit(CommitJob),
    /// These are final; append them to the manifest.
    Settle(Vec<SettledObject>),
    /// Make the snapshot visible.
    Publish {
        /// Its root digest.
        root: Digest,
        /// Number of entries in it.
        entries: u64,
    },
    /// The transfer is over for this session.
    End(TargetEnd),
}

/// How a session ended for the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetEnd {
    /// Published; these objects failed alone.
    Published(Published, Vec<FailedObject>),
    /// It stopped early.
    Stopped(Stop),
}

/// Defects that can be planted to prove that the tests notice them. All off in real use.
#[derive(Debug, Clone, Copy, Default)]
#[doc(hidden)]
pub struct PlantedMachine {
    /// Credit of what was committed does not come back.
    pub lost_credit: bool,
    /// Publish twice.
    pub duplicate_publish: bool,
}

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
                    return self.violation(format!("object {seq} failed and is no file"));
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
            self.bytes_total += entry.len();
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
            if parent.is_root() && self.single_file() {
                return Err("the snapshot is a single file");
            }
        }
        if entry.kind == EntryKind::Dir {
            self.parents.push(entry.path.clone());
        }
        self.last_path = Some(entry.path.clone());
        Ok(())
    }

    fn single_file(&self) -> bool {
        // Only a root entry sorts before every other path.
        self.window.base() == 0
            && self
                .window
                .front()
                .is_some_and(|s| s.entry.path.is_root() && s.entry.kind != EntryKind::Dir)
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
            State::Open | State::Closing if fits => self.begin_anew(seq, round, entry),
            State::Open | State::Closing => {
                self.violation(format!("object {seq} is started over wrongly"));
            }
            State::Checking | State::Done(_) => {
                self.violation(format!("object {seq} is started over out of turn"));
            }
        }
    }

    fn begin_anew(&mut self, seq: Seq, round: u32, entry: Entry) {
        self.forget_content(seq);
        self.runs.forgive(seq);
        let Some(slot) = self.window.slot_mut(seq) else { return };
        self.bytes_total = (self.bytes_total + entry.len()).saturating_sub(slot.entry.len());
        let tries = slot.tries;
        self.open_files += usize::from(slot.state == State::Closing);
        *slot = Slot::new(entry.clone(), State::Open);
        slot.round = round;
        slot.tries = tries;
        self.out.push_back(TargetAction::Reset { seq, round, entry });
    }

    /// Takes an object's content out of the reckoning: what was sent for it is discarded.
    fn forget_content(&mut self, seq: Seq) {
        let mut orphans = self.runs.close_object(seq);
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
