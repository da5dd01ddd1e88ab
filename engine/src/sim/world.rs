//! The world of one seed: two machines with a disk each, a network between them, and a clock that
//! jumps from event to event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::process::Life;
use super::rng::Rng;
use super::sides::{Held, Lane, SourceJob, SourceSide, TargetJob, TargetSide};
use super::workload::{Version, Workload};
use super::{Faults, Options, Tally};
use crate::base::limits::LEASE_BYTES;
use crate::base::{Digest, Instant, RelPath};
use crate::index::Index;
use crate::manifest::{Entry, Object};
use crate::protocol::{SourceInput, TargetInput};
use crate::storage::{MemoryTree, Tree};
use crate::wire::{Frame, Published};

/// Most events of one transfer.
const EVENTS_MAX: u64 = 200_000;
/// A millisecond on the clock.
pub(super) const MS: u64 = 1_000_000;

/// Something went against what must hold; says what.
pub(super) type Check<T = ()> = Result<T, String>;

pub(super) enum Event {
    Connect,
    Cut,
    ToSource(Frame),
    ToTarget(Frame),
    Data(Bytes, Vec<u8>),
    SourceJob(SourceJob),
    SourceIn(SourceInput),
    TargetJob(TargetJob),
    Step(Lane),
    TargetIn(Option<Lane>, TargetInput),
    Tick,
}

/// A running target process.
pub(super) struct Process {
    pub(super) life: Arc<Life>,
    pub(super) tree: Arc<dyn Tree>,
    pub(super) index: Index,
}

pub(super) struct Session {
    pub(super) id: u64,
    pub(super) source: SourceSide,
    pub(super) target: TargetSide,
    /// Percent of the data messages that arrive with a wrong byte.
    pub(super) corrupt: u64,
    /// Percent of the data messages that arrive twice.
    pub(super) duplicate: u64,
    pub(super) corrupted: u32,
    /// Longest delay on the wire.
    pub(super) wire_ns: u64,
    pub(super) work_ns: u64,
    /// The power fails, rather than only the process, when the target's time has come.
    pub(super) power: bool,
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Published(Published, u64),
    /// Every file failed.
    Nothing,
}

/// One transfer, over all its sessions.
#[derive(Default)]
pub(super) struct Transfer {
    pub(super) to: RelPath,
    /// Nothing was there before.
    pub(super) fresh: bool,
    pub(super) faults: Faults,
    /// Interruptions and sets of faults that are still to come.
    pub(super) budget: u32,
    pub(super) calm_sessions: u32,
    /// Entries of the snapshot that was last to be published.
    pub(super) entries: Option<u64>,
    /// Objects that a commit made durable, as the source will announce them again.
    pub(super) acked: BTreeMap<RelPath, (Entry, Object)>,
    /// Content bytes that the source sent in all sessions.
    pub(super) sent: u64,
    /// Content bytes that an interruption may have cost.
    pub(super) lost: u64,
    /// A disk has failed, or the source has changed, in some session.
    pub(super) rough: bool,
    pub(super) outcome: Option<Outcome>,
    events: u64,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: u64,
    ties: u64,
    queue: BTreeMap<(u64, u64), (u64, Event)>,
    pub(super) trace: blake3::Hasher,
    pub(super) options: Options,
    pub(super) work: Workload,
    pub(super) source_life: Arc<Life>,
    pub(super) tree: MemoryTree,
    pub(super) process: Option<Process>,
    pub(super) session: Option<Session>,
    pub(super) sessions: u64,
    pub(super) transfer: Transfer,
    pub(super) tally: Tally,
    /// What a file was when it was last looked at, by inode and time of change.
    pub(super) seen: HashMap<(u64, crate::base::FileTime), Version>,
    /// What is visible is to be looked at after this event.
    pub(super) look: bool,
    pub(super) scratch: Vec<u8>,
    pub(super) credit: u64,
    pub(super) runs_max: usize,
}

impl World {
    pub(super) fn new(seed: u64, options: Options) -> Check<Self> {
        let mut rng = Rng::new(seed);
        let work = Workload::build(&mut rng).map_err(|e| format!("no workload: {e}"))?;
        let credit = [256 << 10, 1 << 20, 8 << 20, 64 << 20][rng.below(4) as usize];
        Ok(Self {
            now: 0,
            ties: 0,
            queue: BTreeMap::new(),
            trace: blake3::Hasher::new(),
            options,
            work,
            source_life: Arc::default(),
            tree: MemoryTree::new(rng.next()),
            process: None,
            session: None,
            sessions: 0,
            transfer: Transfer::default(),
            tally: Tally::default(),
            seen: HashMap::new(),
            look: false,
            scratch: vec![0; LEASE_BYTES],
            credit,
            runs_max: rng.between(1, 8) as usize,
            rng,
        })
    }

    /// Runs a transfer to its end.
    pub(super) fn transfer(&mut self, to: &RelPath, faults: Faults) -> Check<Outcome> {
        let budget = if faults.any() { self.rng.between(1, 9) as u32 } else { 0 };
        self.transfer = Transfer {
            to: to.clone(),
            fresh: self.tree.meta(to).is_err(),
            faults,
            budget,
            ..Transfer::default()
        };
        self.schedule_in(0, 0, Event::Connect);
        while self.transfer.outcome.is_none() {
            let Some(((at, _), (session, event))) = self.queue.pop_first() else {
                return Err("the transfer stands still and nothing is to come".to_owned());
            };
            self.now = at;
            let current = self.session.as_ref().map_or(0, |s| s.id);
            if session != 0 && session != current {
                continue;
            }
            self.tally.events += 1;
            self.transfer.events += 1;
            if self.transfer.events > EVENTS_MAX {
                return Err(format!("the transfer does not end within {EVENTS_MAX} events"));
            }
            self.event(event)?;
            self.check_bounds()?;
            let shown = self.process.as_ref().is_some_and(|p| p.life.take_shown());
            let died = std::mem::take(&mut self.look);
            if shown || died {
                self.check_visible()?;
            }
            if died {
                self.check_journal()?;
            }
        }
        self.queue.clear();
        self.end_session();
        if let Some(process) = &self.process {
            process.life.calm();
        }
        self.transfer.outcome.clone().ok_or_else(|| "no outcome".to_owned())
    }

    /// Schedules an event of the session `session`, or of none if that is zero.
    pub(super) fn schedule_in(&mut self, session: u64, delay: u64, event: Event) {
        self.ties += 1;
        self.queue.insert((self.now + delay, self.ties), (session, event));
    }

    pub(super) fn schedule(&mut self, delay: u64, event: Event) {
        let session = self.session.as_ref().map_or(0, |s| s.id);
        self.schedule_in(session, delay, event);
    }

    pub(super) fn schedule_at(&mut self, at: u64, event: Event) {
        self.schedule(at.saturating_sub(self.now), event);
    }

    pub(super) fn note(&mut self, what: &str, number: u64) {
        self.trace.update(&self.now.to_le_bytes());
        self.trace.update(what.as_bytes());
        self.trace.update(&number.to_le_bytes());
    }

    fn event(&mut self, event: Event) -> Check {
        match event {
            Event::Connect => self.connect(),
            Event::Cut => {
                self.note("cut", 0);
                self.tally.fault("network: session lost");
                self.interrupted();
                Ok(())
            }
            Event::ToSource(frame) => self.source_in(SourceInput::Frame(frame)),
            Event::ToTarget(frame) => self.target_in(TargetInput::Frame(frame)),
            Event::Data(header, content) => self.arrived(&header, content),
            Event::SourceJob(job) => {
                self.source_job(job);
                Ok(())
            }
            Event::SourceIn(input) => self.source_in(input),
            Event::TargetJob(job) => self.target_job(None, job),
            Event::Step(lane) => self.step(lane),
            Event::TargetIn(lane, input) => {
                self.target_in(input)?;
                if let Some(lane) = lane {
                    self.lane_is_free(lane);
                }
                Ok(())
            }
            Event::Tick => self.target_in(TargetInput::Tick),
        }
    }

    fn check_bounds(&self) -> Check {
        let Some(session) = &self.session else { return Ok(()) };
        let outstanding = session.target.machine.outstanding();
        let most = self.credit.max(LEASE_BYTES as u64);
        if outstanding > most {
            return Err(format!("{outstanding} bytes are outstanding, more than {most}"));
        }
        let held = session.source.held.values().filter(|h| matches!(h, Held::Run(..))).count();
        if held > self.runs_max {
            return Err(format!("{held} runs are held, more than {}", self.runs_max));
        }
        Ok(())
    }

    /// What the whole run comes to; equal for equal seeds.
    pub(super) fn digest(&mut self) -> Digest {
        let (now, sessions) = (self.now, self.sessions);
        self.note("end", sessions);
        self.note("now", now);
        Digest(*self.trace.finalize().as_bytes())
    }

    pub(super) fn instant(&self) -> Instant {
        Instant(self.now)
    }
}
