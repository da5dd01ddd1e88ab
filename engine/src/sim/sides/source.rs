//! The end that sends.

use std::collections::BTreeMap;

use super::decoded;
use crate::base::Seq;
use crate::manifest::Entry;
use crate::protocol::{ReadJob, Source, SourceAction, SourceEnd, SourceInput, TargetEnd};
use crate::runtime::source::SourceFiles;
use crate::sim::world::{Check, Event, Outcome, World};
use crate::wire::{DataHeader, Piece};

/// Content that the source holds for a run.
pub(in crate::sim) enum Held {
    Run(Vec<Piece>, Vec<u8>),
    Again(Vec<Piece>, Vec<u8>),
}

pub(in crate::sim) struct SourceSide {
    pub(in crate::sim) machine: Source,
    files: SourceFiles,
    pub(in crate::sim) held: BTreeMap<u64, Held>,
    /// When the last frame arrives at the target.
    last_frame: u64,
    ended: bool,
}

impl SourceSide {
    pub(in crate::sim) fn new(machine: Source, files: SourceFiles) -> Self {
        Self { machine, files, held: BTreeMap::new(), last_frame: 0, ended: false }
    }
}

pub(in crate::sim) enum SourceJob {
    Scan(usize),
    Read(u64, ReadJob),
    ReadAgain(u64, Vec<Piece>, Entry),
}

impl World {
    pub(in crate::sim) fn source_in(&mut self, input: SourceInput) -> Check {
        let Some(session) = &mut self.session else { return Ok(()) };
        session.source.machine.handle(input);
        self.pump_source()
    }

    pub(in crate::sim) fn pump_source(&mut self) -> Check {
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

    pub(in crate::sim) fn source_job(&mut self, job: SourceJob) {
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
                let done = session.source.files.read(run, &job, &mut self.scratch);
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
}
