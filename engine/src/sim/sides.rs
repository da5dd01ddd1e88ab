//! The two ends of a session: they do what the machines ask for, each thing after a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::world::{Check, Event, Outcome, World};
use crate::base::Seq;
use crate::manifest::Entry;
use crate::protocol::{
    Checked, CommitJob, PlacePiece, ReadJob, SettledObject, Source, SourceAction, SourceEnd,
    SourceInput, Target, TargetAction, TargetEnd, TargetInput,
};
use crate::runtime::source::SourceFiles;
use crate::runtime::target::TargetStore;
use crate::wire::{DataHeader, Frame, Piece};

/// Content that the source holds for a run.
pub(super) enum Held {
    Run(Vec<Piece>, Vec<u8>),
    Again(Vec<Piece>, Vec<u8>),
}

pub(super) struct SourceSide {
    pub(super) machine: Source,
    files: SourceFiles,
    pub(super) held: BTreeMap<u64, Held>,
    /// When the last frame arrives at the target.
    last_frame: u64,
    ended: bool,
}

impl SourceSide {
    pub(super) fn new(machine: Source, files: SourceFiles) -> Self {
        Self { machine, files, held: BTreeMap::new(), last_frame: 0, ended: false }
    }
}

pub(super) enum SourceJob {
    Scan(usize),
    Read(u64, ReadJob),
    ReadAgain(u64, Vec<Piece>, Entry),
}

/// Work that is done one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Checks,
    Ledger,
}

pub(super) enum TargetJob {
    Check(Seq, Vec<Entry>),
    Resolve(u64, Vec<(usize, Piece)>),
    Place(u64, u64, Vec<PlacePiece>),
    Commit(CommitJob),
    Settle(Vec<SettledObject>),
    Publish(crate::base::Digest, u64),
}

pub(super) struct TargetSide {
    pub(super) machine: Target,
    pub(super) store: Option<Arc<TargetStore>>,
    held: BTreeMap<u64, Vec<u8>>,
    tickets: u64,
    lanes: [VecDeque<TargetJob>; 2],
    busy: [bool; 2],
    tick: Option<u64>,
    last_frame: u64,
    publishes: u32,
    end: Option<TargetEnd>,
}

impl TargetSide {
    pub(super) fn new(machine: Target, store: TargetStore) -> Self {
        Self {
            machine,
            store: Some(Arc::new(store)),
            held: BTreeMap::new(),
            tickets: 0,
            lanes: Default::default(),
            busy: [false; 2],
            tick: None,
            last_frame: 0,
            publishes: 0,
            end: None,
        }
    }
}

impl World {
    fn work_delay(&mut self) -> u64 {
        let bound = self.session.as_ref().map_or(1, |s| s.work_ns);
        self.rng.spread(bound)
    }

    fn wire_delay(&mut self) -> u64 {
        let bound = self.session.as_ref().map_or(1, |s| s.wire_ns);
        self.rng.spread(bound)
    }

    pub(super) fn source_in(&mut self, input: SourceInput) -> Check {
        let Some(session) = &mut self.session else { return Ok(()) };
        session.source.machine.handle(input);
        self.pump_source()
    }

    pub(super) fn pump_source(&mut self) -> Check {
        loop {
            let Some(session) = &mut self.session else { return Ok(()) };
            let Some(action) = session.source.machine.poll_action() else { return Ok(()) };
            if session.source.ended {
                return Err(format!("the source goes on after its end: {action:?}"));
            }
            self.source_action(action)?;
        }
    }

    fn source_action(&mut self, action: SourceAction) -> Check {
        match action {
            SourceAction::Send(frame) => {
                let bytes = frame.encode();
                self.trace.update(&bytes);
                let delay = self.wire_delay();
                let now = self.now;
                let Some(session) = &mut self.session else { return Ok(()) };
                let at = (now + delay).max(session.source.last_frame + 1);
                session.source.last_frame = at;
                let again = decoded(&frame, &bytes)?;
                self.schedule_at(at, Event::ToTarget(again));
            }
            SourceAction::Scan(max) => self.source_work(SourceJob::Scan(max)),
            SourceAction::Read { run, job } => self.source_work(SourceJob::Read(run, job)),
            SourceAction::ReadAgain { run, pieces, entry } => {
                self.source_work(SourceJob::ReadAgain(run, pieces, entry));
            }
            SourceAction::SendData(header) => return self.send_data(&header),
            // Nothing is planned here.
            SourceAction::Probe(_) => {}
            SourceAction::Forget(run) => {
                if let Some(session) = &mut self.session {
                    session.source.held.remove(&run);
                }
            }
            SourceAction::Close { seq, round } => {
                if let Some(session) = &self.session {
                    session.source.files.close(seq, round);
                }
            }
            SourceAction::End(end) => return self.source_ended(end),
        }
        Ok(())
    }

    fn source_work(&mut self, job: SourceJob) {
        let delay = self.work_delay();
        self.schedule(delay, Event::SourceJob(job));
    }

    pub(super) fn source_job(&mut self, job: SourceJob) {
        let Some(session) = &mut self.session else { return };
        let input = match job {
            SourceJob::Scan(max) => match session.source.files.scan(max) {
                Ok(found) => SourceInput::Scanned {
                    entries: found.entries,
                    skipped: found.skipped,
                    done: found.done,
                },
                Err(failure) => SourceInput::Broken(failure),
            },
            SourceJob::Read(run, job) => {
                let done = session.source.files.read(run, job, &mut self.scratch);
                let bytes: usize = done.pieces.iter().map(|p| p.len as usize).sum();
                let content = self.scratch[..bytes].to_vec();
                session.source.held.insert(run, Held::Run(done.pieces.clone(), content));
                SourceInput::Read(done)
            }
            SourceJob::ReadAgain(run, pieces, entry) => {
                match session.source.files.read_again(&pieces, &entry, &mut self.scratch) {
                    Ok(bytes) => {
                        let content = self.scratch[..bytes].to_vec();
                        session.source.held.insert(run, Held::Again(pieces, content));
                        SourceInput::ReadAgain { run, changed: None, failed: None }
                    }
                    Err(Ok(changed)) => {
                        SourceInput::ReadAgain { run, changed: Some(changed), failed: None }
                    }
                    Err(Err(failed)) => {
                        SourceInput::ReadAgain { run, changed: None, failed: Some(failed) }
                    }
                }
            }
        };
        let calls = self.source_life.calls();
        self.note("source job", calls);
        let delay = self.work_delay();
        self.schedule(delay, Event::SourceIn(input));
    }

    fn send_data(&mut self, header: &DataHeader) -> Check {
        let Some(session) = &mut self.session else { return Ok(()) };
        let run = header.run;
        let Some(Held::Run(pieces, bytes) | Held::Again(pieces, bytes)) =
            session.source.held.remove(&run)
        else {
            return Err(format!("the source sends run {run}, which is not held"));
        };
        let mut starts = Vec::with_capacity(pieces.len());
        let mut at = 0;
        for piece in &pieces {
            starts.push(at..at + piece.len as usize);
            at += piece.len as usize;
        }
        let mut content = Vec::new();
        for index in header.pieces() {
            let part = starts.get(index).and_then(|range| bytes.get(range.clone()));
            content.extend(part.ok_or_else(|| format!("run {run} has no piece {index}"))?);
        }
        let (corrupt, duplicate) = (session.corrupt, session.duplicate);
        self.transfer.sent += content.len() as u64;
        let header = header.encode();
        if self.rng.chance(duplicate) {
            self.tally.fault("network: data twice");
            let delay = self.wire_delay() * 2;
            self.schedule(delay, Event::Data(header.clone(), content.clone()));
        }
        if self.rng.chance(corrupt) && !content.is_empty() {
            self.tally.fault("network: wrong byte");
            let at = self.rng.below(content.len() as u64) as usize;
            content[at] ^= 1 << self.rng.below(8);
            if let Some(session) = &mut self.session {
                session.corrupted += 1;
            }
        }
        let (taken, delay) = (self.wire_delay(), self.wire_delay());
        self.schedule(taken, Event::SourceIn(SourceInput::Sent { run }));
        self.schedule(delay, Event::Data(header, content));
        Ok(())
    }

    fn source_ended(&mut self, end: SourceEnd) -> Check {
        let Some(session) = &mut self.session else { return Ok(()) };
        session.source.ended = true;
        let (published, failed) = match end {
            SourceEnd::Stopped(stop) => return self.stopped(stop),
            SourceEnd::Published(published, failed) => (published, failed),
        };
        let Some(TargetEnd::Published(theirs, theirs_failed)) = &session.target.end else {
            return Err("the source heard of a publication that was none".to_owned());
        };
        let seqs = |all: &[crate::protocol::FailedObject]| {
            let mut seqs: Vec<Seq> = all.iter().map(|f| f.seq).collect();
            seqs.sort_unstable();
            seqs
        };
        if *theirs != published || seqs(theirs_failed) != seqs(&failed) {
            return Err("the two ends do not agree on what was published".to_owned());
        }
        if !failed.is_empty() && !self.disks_failed() {
            return Err(format!("an object failed without a cause: {:?}", failed[0]));
        }
        self.transfer.outcome = Some(Outcome::Published(published, failed.len() as u64));
        Ok(())
    }

    pub(super) fn target_in(&mut self, input: TargetInput) -> Check {
        let now = self.instant();
        let Some(session) = &mut self.session else { return Ok(()) };
        session.target.machine.handle(input, now);
        self.pump_target()
    }

    pub(super) fn arrived(&mut self, header: &Bytes, content: Vec<u8>) -> Check {
        let Some(session) = &mut self.session else { return Ok(()) };
        let header = DataHeader::decode(header).map_err(|e| format!("a bad header: {e}"))?;
        let (ticket, bytes) = (session.target.tickets, content.len());
        session.target.tickets += 1;
        session.target.held.insert(ticket, content);
        self.note("data", bytes as u64);
        self.target_in(TargetInput::Data { ticket, header, bytes })
    }

    pub(super) fn pump_target(&mut self) -> Check {
        loop {
            let now = self.now;
            let Some(session) = &mut self.session else { return Ok(()) };
            let Some(action) = session.target.machine.poll_action() else {
                let due = session.target.machine.deadline().map(|at| at.0.max(now));
                if due != session.target.tick {
                    session.target.tick = due;
                    if let Some(due) = due {
                        self.schedule_at(due, Event::Tick);
                    }
                }
                return Ok(());
            };
            if session.target.end.is_some() && !matches!(action, TargetAction::Drop { .. }) {
                return Err(format!("the target goes on after its end: {action:?}"));
            }
            self.target_action(action)?;
        }
    }

    fn target_action(&mut self, action: TargetAction) -> Check {
        let Some(session) = &mut self.session else { return Ok(()) };
        match action {
            TargetAction::Send(frame) => {
                let bytes = frame.encode();
                self.trace.update(&bytes);
                let delay = self.wire_delay();
                let now = self.now;
                let Some(session) = &mut self.session else { return Ok(()) };
                let at = (now + delay).max(session.target.last_frame + 1);
                session.target.last_frame = at;
                let again = decoded(&frame, &bytes)?;
                self.schedule_at(at, Event::ToSource(again));
            }
            TargetAction::Check { first, entries } => {
                self.enqueue(Lane::Checks, TargetJob::Check(first, entries));
            }
            TargetAction::Commit(job) => self.enqueue(Lane::Ledger, TargetJob::Commit(job)),
            TargetAction::Settle(objects) => {
                self.enqueue(Lane::Ledger, TargetJob::Settle(objects));
            }
            TargetAction::Publish { root, entries } => {
                session.target.publishes += 1;
                if session.target.publishes > 1 {
                    return Err("one session publishes twice".to_owned());
                }
                self.enqueue(Lane::Ledger, TargetJob::Publish(root, entries));
            }
            TargetAction::Resolve { run, pieces } => {
                let delay = self.work_delay();
                self.schedule(delay, Event::TargetJob(TargetJob::Resolve(run, pieces)));
            }
            TargetAction::Place { ticket, run, pieces } => {
                let delay = self.work_delay();
                self.schedule(delay, Event::TargetJob(TargetJob::Place(ticket, run, pieces)));
            }
            TargetAction::Drop { ticket } => {
                session.target.held.remove(&ticket);
            }
            TargetAction::Reset { seq, round, entry } => {
                if let Some(store) = &session.target.store {
                    store.reset(seq, round, &entry);
                }
            }
            TargetAction::End(end) => {
                session.target.store = None;
                let stopped = matches!(&end, TargetEnd::Stopped(_));
                session.target.end = Some(end.clone());
                if let (true, TargetEnd::Stopped(stop)) = (stopped, end) {
                    return self.target_stopped(stop);
                }
            }
        }
        Ok(())
    }

    /// What the target refuses is on its way to the source, which ends the session when it hears.
    fn target_stopped(&mut self, stop: crate::protocol::Stop) -> Check {
        match stop {
            crate::protocol::Stop::Refused { .. } => self.stopped(stop),
            crate::protocol::Stop::Violation(failure) | crate::protocol::Stop::Local(failure) => {
                self.note(&failure.code, 0);
                Ok(())
            }
        }
    }

    fn enqueue(&mut self, lane: Lane, job: TargetJob) {
        let Some(session) = &mut self.session else { return };
        session.target.lanes[lane as usize].push_back(job);
        if !session.target.busy[lane as usize] {
            self.lane_is_free(lane);
        }
    }

    pub(super) fn lane_is_free(&mut self, lane: Lane) {
        let delay = self.work_delay();
        let Some(session) = &mut self.session else { return };
        let waits = !session.target.lanes[lane as usize].is_empty();
        session.target.busy[lane as usize] = waits;
        if waits {
            self.schedule(delay, Event::Step(lane));
        }
    }

    pub(super) fn step(&mut self, lane: Lane) -> Check {
        let Some(session) = &mut self.session else { return Ok(()) };
        match session.target.lanes[lane as usize].pop_front() {
            Some(job) => self.target_job(Some(lane), job),
            None => Ok(()),
        }
    }

    pub(super) fn target_job(&mut self, lane: Option<Lane>, job: TargetJob) -> Check {
        let Some(session) = &mut self.session else { return Ok(()) };
        let Some(store) = session.target.store.clone() else { return Ok(()) };
        let input = match job {
            TargetJob::Check(first, entries) => {
                let answers = store.check(first, &entries);
                self.check_answers(first, &entries, &answers)?;
                Some(TargetInput::Checked(answers))
            }
            TargetJob::Resolve(run, pieces) => Some(match store.resolve(&pieces) {
                Ok(found) => TargetInput::Resolved { run, found },
                Err(failure) => TargetInput::Broken(failure),
            }),
            TargetJob::Place(ticket, run, pieces) => {
                let content = session.target.held.remove(&ticket).unwrap_or_default();
                Some(match store.place(&pieces, &content) {
                    Ok(results) => TargetInput::Placed { run, results },
                    Err(failure) => TargetInput::Broken(failure),
                })
            }
            TargetJob::Commit(job) => {
                // In real use both run side by side; this way round is the harder one.
                store.add_to_index(&job);
                Some(match store.commit(&job) {
                    Ok(done) => {
                        self.committed(&job, &done)?;
                        TargetInput::Committed(done)
                    }
                    Err(failure) => TargetInput::Broken(failure),
                })
            }
            TargetJob::Settle(objects) => store.settle(&objects).err().map(TargetInput::Broken),
            TargetJob::Publish(root, entries) => {
                self.transfer.entries = Some(entries);
                self.transfer.acked.clear();
                Some(TargetInput::Published(store.publish(root, entries)))
            }
        };
        drop(store);
        let Some(process) = &self.process else { return Ok(()) };
        let (calls, dead) = (process.life.calls(), process.life.is_dead());
        self.note("target job", calls);
        if dead {
            self.died();
            return Ok(());
        }
        match input {
            Some(input) => {
                let delay = self.work_delay();
                self.schedule(delay, Event::TargetIn(lane, input));
            }
            None => lane.into_iter().for_each(|lane| self.lane_is_free(lane)),
        }
        Ok(())
    }

    fn check_answers(
        &mut self,
        first: Seq,
        entries: &[Entry],
        answers: &[(Seq, Checked)],
    ) -> Check {
        if self.is_dead() || self.disks_failed() {
            return Ok(());
        }
        for (seq, answer) in answers {
            let Some(entry) = entries.get((seq - first) as usize) else { continue };
            let Some((known, object)) = self.transfer.acked.get(&entry.path) else { continue };
            if known == entry && *answer != Checked::Resumed(*object) {
                return Err(format!("{} was durable, and is now {answer:?}", entry.path));
            }
        }
        Ok(())
    }

    pub(super) fn is_dead(&self) -> bool {
        self.process.as_ref().is_none_or(|p| p.life.is_dead())
    }
}

fn decoded(frame: &Frame, bytes: &[u8]) -> Check<Frame> {
    match Frame::decode(bytes) {
        Ok(again) if again == *frame => Ok(again),
        Ok(_) => Err(format!("a {} frame changes on its way", frame.name())),
        Err(error) => Err(format!("a {} frame cannot be read: {error}", frame.name())),
    }
}
