//! The end that receives.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::decoded;
use crate::base::Seq;
use crate::manifest::Entry;
use crate::protocol::{
    Checked, CommitJob, PlacePiece, SettledObject, Target, TargetAction, TargetEnd, TargetInput,
};
use crate::runtime::target::TargetStore;
use crate::sim::world::{Check, Event, World};
use crate::wire::{DataHeader, Piece};

/// Work that is done one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Lane {
    Checks,
    Ledger,
}

pub(in crate::sim) enum TargetJob {
    Check(Seq, Vec<Entry>),
    Resolve(u64, Vec<(usize, Piece)>),
    Place(u64, u64, Vec<PlacePiece>),
    Commit(CommitJob),
    Settle(Vec<SettledObject>),
    Publish(crate::base::Digest, u64),
}

pub(in crate::sim) struct TargetSide {
    pub(in crate::sim) machine: Target,
    pub(in crate::sim) store: Option<Arc<TargetStore>>,
    held: BTreeMap<u64, Vec<u8>>,
    tickets: u64,
    lanes: [VecDeque<TargetJob>; 2],
    busy: [bool; 2],
    tick: Option<u64>,
    last_frame: u64,
    publishes: u32,
    pub(super) end: Option<TargetEnd>,
}

impl TargetSide {
    pub(in crate::sim) fn new(machine: Target, store: TargetStore) -> Self {
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
    pub(in crate::sim) fn target_in(&mut self, input: TargetInput) -> Check {
        let now = self.instant();
        let Some(session) = &mut self.session else { return Ok(()) };
        session.target.machine.handle(input, now);
        self.pump_target()
    }

    pub(in crate::sim) fn arrived(&mut self, header: &Bytes, content: Vec<u8>) -> Check {
        let Some(session) = &mut self.session else { return Ok(()) };
        let header = DataHeader::decode(header).map_err(|e| format!("a bad header: {e}"))?;
        let (ticket, bytes) = (session.target.tickets, content.len());
        session.target.tickets += 1;
        session.target.held.insert(ticket, content);
        self.note("data", bytes as u64);
        self.target_in(TargetInput::Data { ticket, header, bytes })
    }

    pub(in crate::sim) fn pump_target(&mut self) -> Check {
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
                if let Some(store) = session.target.store.clone().filter(|it| it.is_fresh()) {
                    // As the driver does: the source offers without waiting for verdicts.
                    let answers = store.check(first, &entries);
                    self.check_answers(first, &entries, &answers)?;
                    return self.target_in(TargetInput::Checked(answers));
                }
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

    pub(in crate::sim) fn lane_is_free(&mut self, lane: Lane) {
        let delay = self.work_delay();
        let Some(session) = &mut self.session else { return };
        let waits = !session.target.lanes[lane as usize].is_empty();
        session.target.busy[lane as usize] = waits;
        if waits {
            self.schedule(delay, Event::Step(lane));
        }
    }

    pub(in crate::sim) fn step(&mut self, lane: Lane) -> Check {
        let Some(session) = &mut self.session else { return Ok(()) };
        match session.target.lanes[lane as usize].pop_front() {
            Some(job) => self.target_job(Some(lane), job),
            None => Ok(()),
        }
    }

    pub(in crate::sim) fn target_job(&mut self, lane: Option<Lane>, job: TargetJob) -> Check {
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
}
