//! The source's role: announce, read, offer, send what is wanted.
//!
//! ```text
//! object:  Announced --need--> Queued --read--> Reading --end--> Read --settled--> gone
//!              |                  ^                |
//!              |have              +----changed-----+      any --failed--> Failed --settled--> gone
//!              v
//!            Known --settled--> gone
//! ```

mod again;
mod finish;
mod io;
mod reads;

use std::collections::{BTreeSet, HashMap, VecDeque};

pub use self::io::{Changed, ReadDone, ReadJob, SourceAction, SourceEnd, SourceInput};
use self::reads::Reads;
use super::settle::Window;
use super::{FailedObject, Failure, Stop};
use crate::base::limits::{ENTRIES_PER_FRAME_MAX, ENTRY_WINDOW, OBJECTS_MAX};
use crate::base::{Digest, Seq};
use crate::manifest::{Entry, Object, RootHasher};
use crate::wire::{DataHeader, Frame, Known, Numbers};

/// Reads under way at once.
const READS_MAX: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Announced,
    Queued,
    Reading,
    Known(Object),
    Failed,
}

struct Slot {
    entry: Entry,
    round: u32,
    state: State,
}

/// The source of one transfer. See the module for how it is driven.
pub struct Source {
    dry_run: bool,
    whole: bool,
    runs_max: usize,
    /// The target said that all is needed.
    fresh: bool,
    window: Window<Slot>,
    /// Files in the window whose content is not known yet.
    unread: usize,
    scan_asked: bool,
    scan_done: bool,
    skipped: u64,
    to_read: Reads,
    /// Reads under way.
    reading: usize,
    next_run: u64,
    /// Runs that are being read, offered or sent, and their number of pieces once known.
    runs: HashMap<u64, usize>,
    /// Runs that the target asked for again, and their number of pieces.
    rereads: HashMap<u64, usize>,
    /// Runs whose first offer was answered.
    answered: BTreeSet<u64>,
    root: RootHasher,
    root_sent: Option<Digest>,
    failed: Vec<FailedObject>,
    numbers: Numbers,
    files_total: u64,
    bytes_total: u64,
    out: VecDeque<SourceAction>,
    ended: bool,
}

impl Source {
    /// A source that holds at most `runs_max` runs at a time; with `dry_run` it reads and offers
    /// but sends no content.
    pub fn new(runs_max: usize, dry_run: bool) -> Self {
        let mut source = Self {
            dry_run,
            whole: false,
            runs_max: runs_max.max(1),
            fresh: false,
            window: Window::default(),
            unread: 0,
            scan_asked: false,
            scan_done: false,
            skipped: 0,
            to_read: Reads::default(),
            reading: 0,
            next_run: 0,
            runs: HashMap::new(),
            rereads: HashMap::new(),
            answered: BTreeSet::new(),
            root: RootHasher::default(),
            root_sent: None,
            failed: Vec::new(),
            numbers: Numbers::default(),
            files_total: 0,
            bytes_total: 0,
            out: VecDeque::new(),
            ended: false,
        };
        source.pump();
        source
    }

    /// The same, but all or nothing: the first object that fails ends the transfer.
    pub fn publish_whole(mut self) -> Self {
        self.whole = true;
        self
    }

    /// The same for a target that knows nothing of what comes: nothing waits for its verdicts.
    pub fn fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }

    /// The same with at most `files` in a run, for tests with few files and many runs.
    #[doc(hidden)]
    pub fn packing(mut self, files: usize) -> Self {
        self.to_read = self.to_read.packing(files);
        self
    }

    /// The next action, if any.
    pub fn poll_action(&mut self) -> Option<SourceAction> {
        self.out.pop_front()
    }

    /// Files and content bytes found so far, and whether that is all.
    pub fn found(&self) -> (u64, u64, bool) {
        (self.files_total, self.bytes_total, self.scan_done)
    }

    /// The entry of an object that is announced and not settled.
    pub fn entry(&self, seq: Seq) -> Option<&Entry> {
        self.window.slot(seq).map(|slot| &slot.entry)
    }

    /// The target's counters as last heard.
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Objects that failed so far.
    pub fn failed(&self) -> u64 {
        self.failed.len() as u64
    }

    /// Takes an input.
    pub fn handle(&mut self, input: SourceInput) {
        if self.ended {
            return;
        }
        match input {
            SourceInput::Frame(frame) => self.frame(frame),
            SourceInput::Scanned { entries, skipped, done } => self.scanned(entries, skipped, done),
            SourceInput::Read(read) => self.read_done(read),
            SourceInput::ReadAgain { run, changed, failed } => {
                self.read_again(run, changed, failed);
            }
            SourceInput::Sent { run } => self.forget(run),
            SourceInput::Broken(failure) => self.end(SourceEnd::Stopped(Stop::Local(failure))),
        }
        self.pump();
    }

    fn end(&mut self, end: SourceEnd) {
        if !self.ended {
            self.ended = true;
            self.out.push_back(SourceAction::End(end));
        }
    }

    fn violation(&mut self, detail: impl Into<String>) {
        self.end(SourceEnd::Stopped(Stop::Violation(Failure::new("protocol", detail))));
    }

    fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Verdicts(verdicts) => {
                for verdict in verdicts {
                    self.verdict(verdict.seq, verdict.known);
                }
            }
            Frame::Want { run, wanted } => {
                let Some(&pieces) = self.runs.get(&run) else {
                    return self.violation(format!("an answer about run {run}, which is unknown"));
                };
                if !self.answered.insert(run) {
                    return self.violation(format!("a second answer about run {run}"));
                }
                let header = DataHeader::of(run, (0..pieces).map(|i| wanted.bit(i)));
                self.send_or_forget(header);
            }
            Frame::Again { run, pieces } => self.again(run, pieces),
            Frame::Failed { seq, code, detail } => self.fail(seq, Failure { code, detail }, false),
            Frame::Settled { below, numbers } => {
                self.numbers = numbers;
                self.settle(below);
            }
            Frame::Published(published) => {
                if self.root_sent != Some(published.root) || self.window.len() > 0 {
                    return self.violation("the published root is another one");
                }
                self.numbers = published.numbers;
                let failed = std::mem::take(&mut self.failed);
                self.end(SourceEnd::Published(published, failed));
            }
            Frame::Refuse { code, detail, retry } => {
                let failure = Failure { code, detail };
                self.end(SourceEnd::Stopped(Stop::Refused { failure, retry }));
            }
            other => self.violation(format!("the frame {} is not for a source", other.name())),
        }
    }

    fn verdict(&mut self, seq: Seq, known: Known) {
        let Some(slot) = self.window.slot_mut(seq) else {
            return self.violation(format!("a verdict on object {seq}, which is unknown"));
        };
        match (slot.state, known) {
            // Nothing else was said when the session began.
            (_, Known::Need) if self.fresh => {}
            (State::Announced, Known::Need) => {
                slot.state = State::Queued;
                self.to_read.wants(seq, slot.entry.len());
            }
            (State::Announced, Known::Have(object)) => {
                if object.len != slot.entry.len() {
                    return self.violation(format!("object {seq} has another length"));
                }
                slot.state = State::Known(object);
                self.unread -= 1;
            }
            (State::Failed, _) => {}
            (State::Queued | State::Reading | State::Known(_), _) => {
                self.violation(format!("a second verdict on object {seq}"));
            }
        }
    }

    fn send_or_forget(&mut self, header: DataHeader) {
        if !header.ranges.is_empty() && !self.dry_run {
            self.out.push_back(SourceAction::SendData(header));
            return;
        }
        let run = header.run;
        if !header.ranges.is_empty() {
            self.out.push_back(SourceAction::Probe(header));
        }
        self.out.push_back(SourceAction::Forget(run));
        self.forget(run);
    }

    fn forget(&mut self, run: u64) {
        self.runs.remove(&run);
        self.answered.remove(&run);
    }

    fn scanned(&mut self, entries: Vec<Entry>, skipped: u64, done: bool) {
        self.scan_asked = false;
        self.skipped += skipped;
        let first = self.window.next();
        if u64::from(first) + entries.len() as u64 > u64::from(OBJECTS_MAX) {
            let failure = Failure::new("too-many-objects", "a snapshot has at most 2^32-2 objects");
            return self.end(SourceEnd::Stopped(Stop::Local(failure)));
        }
        for entry in &entries {
            if entry.is_file() {
                self.files_total += 1;
                self.bytes_total += entry.len();
            }
            let state = match (entry.is_file(), self.fresh) {
                (true, true) => State::Queued,
                (true, false) => State::Announced,
                _ => State::Known(Object { digest: Digest::default(), len: 0, cutter: 0 }),
            };
            let seq = self.window.push(Slot { entry: entry.clone(), round: 0, state });
            self.unread += usize::from(entry.is_file());
            if state == State::Queued {
                self.to_read.wants(seq, entry.len());
            }
        }
        if !entries.is_empty() {
            self.out.push_back(SourceAction::Send(Frame::Entries { first, entries }));
        }
        if done {
            self.scan_done = true;
            let (entries, skipped) = (self.window.next(), self.skipped);
            self.out.push_back(SourceAction::Send(Frame::EntriesEnd { entries, skipped }));
        }
    }

    fn read_done(&mut self, read: ReadDone) {
        self.reading -= 1;
        let ReadDone { run, pieces, ends, more, changed, failed } = read;
        if let Some((seq, round)) = more {
            match self.window.slot(seq) {
                Some(slot) if slot.round == round && slot.state == State::Reading => {
                    self.to_read.goes_on(seq);
                }
                _ => self.out.push_back(SourceAction::Close { seq, round }),
            }
        }
        for end in &ends {
            if let Some(slot) = self.window.slot_mut(end.seq)
                && slot.round == end.round
                && slot.state == State::Reading
            {
                slot.state = State::Known(end.object);
                self.unread -= 1;
                self.to_read.ended(end.seq);
            }
        }
        // What has been refused or started over meanwhile is offered all the same: the target
        // knows by the round that it is stale, and a run keeps its shape.
        if pieces.is_empty() {
            self.out.push_back(SourceAction::Forget(run));
            self.forget(run);
        } else {
            self.runs.insert(run, pieces.len());
        }
        if !pieces.is_empty() || !ends.is_empty() {
            self.out.push_back(SourceAction::Send(Frame::Offer { run, pieces, ends }));
        }
        for change in changed {
            self.changed(change);
        }
        for (seq, failure) in failed {
            self.fail(seq, failure, true);
        }
    }

    fn fail(&mut self, seq: Seq, failure: Failure, tell: bool) {
        if tell && failure.is_no_descriptors() {
            return self.end(SourceEnd::Stopped(Stop::Local(failure)));
        }
        let Some(slot) = self.window.slot_mut(seq) else { return };
        if slot.state == State::Failed {
            return;
        }
        self.unread -= usize::from(!matches!(slot.state, State::Known(_)));
        slot.state = State::Failed;
        self.root_sent = None;
        self.out.push_back(SourceAction::Close { seq, round: slot.round });
        let path = slot.entry.path.to_string();
        if self.whole {
            let failure = Failure::incomplete(&path, &failure.detail);
            return self.end(SourceEnd::Stopped(Stop::Local(failure)));
        }
        if tell {
            let Failure { code, detail } = failure.clone();
            self.out.push_back(SourceAction::Send(Frame::Failed { seq, code, detail }));
        }
        self.failed.push(FailedObject { seq, path, failure });
        self.to_read.forget(seq);
    }

    fn pump(&mut self) {
        if self.ended {
            return;
        }
        let room = ENTRY_WINDOW.saturating_sub(self.window.len());
        if !self.scan_done && !self.scan_asked && room >= ENTRIES_PER_FRAME_MAX / 4 {
            self.scan_asked = true;
            self.out.push_back(SourceAction::Scan(room.min(ENTRIES_PER_FRAME_MAX)));
        }
        while self.reading < READS_MAX && self.runs.len() < self.runs_max {
            let Some(job) = self.to_read.next(&mut self.window) else { break };
            self.reading += 1;
            let run = self.next_run;
            self.next_run += 1;
            self.runs.insert(run, 0);
            self.out.push_back(SourceAction::Read { run, job });
        }
        self.tell_root();
    }
}
