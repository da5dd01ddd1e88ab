//! The world of one seed: two machines with a disk each, a network between them, and a clock that
//! jumps from event to event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;

use super::process::{Life, ProcessTree};
use super::rng::Rng;
use super::sides::{Held, Lane, SourceJob, SourceSide, TargetJob, TargetSide};
use super::workload::{Version, Workload};
use super::{Faults, Options, Tally};
use crate::base::limits::LEASE_BYTES;
use crate::base::{Digest, Instant, RelPath, TransferId};
use crate::index::Index;
use crate::manifest::{Entry, Object};
use crate::protocol::{Failure, Source, SourceInput, Stop, Target, TargetInput, Task};
use crate::runtime::source::{SourceFiles, SourceRoot};
use crate::runtime::target::{StoreOptions, TargetStore, index_path, recover_all};
use crate::storage::memory::{Fault, Op};
use crate::storage::{MemoryTree, Tree};
use crate::wire::{Frame, Published};

/// Most events of one transfer.
const EVENTS_MAX: u64 = 200_000;
/// Most sessions of one transfer after the faults have stopped.
const CALM_SESSIONS_MAX: u32 = 4;
const MS: u64 = 1_000_000;

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
    tree: Arc<dyn Tree>,
    index: Index,
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
    power: bool,
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
    budget: u32,
    calm_sessions: u32,
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
    sessions: u64,
    pub(super) transfer: Transfer,
    pub(super) tally: Tally,
    /// What a file was when it was last looked at, by inode and time of change.
    pub(super) seen: HashMap<(u64, crate::base::FileTime), Version>,
    /// What is visible is to be looked at after this event.
    look: bool,
    pub(super) scratch: Vec<u8>,
    credit: u64,
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
    fn schedule_in(&mut self, session: u64, delay: u64, event: Event) {
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

    /// Starts the target's process if none runs; false if it died at once.
    fn start_process(&mut self) -> Check<bool> {
        if self.process.is_some() {
            return Ok(true);
        }
        let life = Arc::new(Life::default());
        if self.transfer.faults.kills && self.transfer.budget > 0 && self.rng.chance(25) {
            self.transfer.budget -= 1;
            life.kill_in(self.rng.spread(120));
        }
        let tree: Arc<dyn Tree> =
            Arc::new(ProcessTree { tree: self.tree.clone(), life: Arc::clone(&life) });
        let opened = Index::open(Arc::clone(&tree), &index_path());
        let index = opened.map_or_else(|_| Index::disabled(), |(index, _)| index);
        let recovered =
            if self.rng.chance(50) { recover_all(&*tree, &index).map(|_| ()) } else { Ok(()) };
        let dead = life.is_dead();
        self.note("process", life.calls());
        self.process = Some(Process { life, tree, index });
        if dead {
            self.died();
            return Ok(false);
        }
        recovered.map_err(|failure| format!("recovery failed: {}", failure.detail))?;
        Ok(true)
    }

    fn connect(&mut self) -> Check {
        if !self.start_process()? {
            return Ok(());
        }
        self.sessions += 1;
        self.tally.sessions += 1;
        let id = self.sessions;
        let (corrupt, duplicate, power) = self.plan(id)?;
        let Some(process) = &self.process else { return Ok(()) };
        let life = Arc::clone(&process.life);
        let options = StoreOptions {
            transfer_id: TransferId(id.into()),
            source: "onprem".to_owned(),
            checksum: false,
            plan: false,
            planted: self.options.store,
        };
        let (tree, index) = (Arc::clone(&process.tree), process.index.clone());
        let opened = TargetStore::open(tree, index, &self.transfer.to, options);
        self.note("open", life.calls());
        if life.is_dead() {
            self.session_is_power(power);
            self.died();
            return Ok(());
        }
        let store = match opened {
            Ok(store) => store,
            Err(failure) => {
                self.excuse(&failure)?;
                self.reconnect();
                return Ok(());
            }
        };
        let tree: Arc<dyn Tree> = Arc::new(ProcessTree {
            tree: self.work.tree.clone(),
            life: Arc::clone(&self.source_life),
        });
        let roots = self.work.roots.iter().map(|(path, place)| SourceRoot {
            tree: Arc::clone(&tree),
            path: path.clone(),
            place: place.clone(),
        });
        let files = SourceFiles::new(roots.collect());
        let mut target = Target::new(Task::Receive, self.credit);
        target.plant(self.options.machine);
        self.session = Some(Session {
            id,
            source: SourceSide::new(Source::new(self.runs_max, false), files),
            target: TargetSide::new(target, store),
            corrupt,
            duplicate,
            corrupted: 0,
            wire_ns: [MS / 10, 5 * MS, 60 * MS, 300 * MS][self.rng.below(4) as usize],
            work_ns: [MS / 10, 3 * MS, 40 * MS, 150 * MS][self.rng.below(4) as usize],
            power,
        });
        self.pump_source()?;
        self.pump_target()
    }

    /// Decides what goes wrong in the next session.
    fn plan(&mut self, id: u64) -> Check<(u64, u64, bool)> {
        let faults = self.transfer.faults;
        self.source_life.calm();
        if let Some(process) = &self.process {
            process.life.calm();
        }
        if self.transfer.budget == 0 {
            self.transfer.calm_sessions += 1;
            if self.transfer.calm_sessions > CALM_SESSIONS_MAX {
                return Err("the faults are over and the transfer still does not end".to_owned());
            }
            return Ok((0, 0, false));
        }
        self.transfer.budget -= 1;
        let mut power = false;
        let mut kinds = if self.rng.chance(15) { vec![0] } else { Vec::new() };
        kinds.extend(faults.network.then_some(1));
        kinds.extend(faults.kills.then_some(2));
        kinds.extend(faults.power.then_some(3));
        match self.rng.pick(&kinds).copied() {
            Some(1) => {
                let delay = self.rng.spread(3000 * MS);
                self.schedule_in(id, delay, Event::Cut);
            }
            Some(kind @ (2 | 3)) => {
                power = kind == 3;
                let (at_sync, syncs) = (self.rng.chance(50), self.rng.spread(30));
                let calls = self.rng.spread(1000);
                match &self.process {
                    Some(process) if at_sync => process.life.kill_in_syncs(syncs),
                    Some(process) => process.life.kill_in(calls),
                    None => {}
                }
            }
            _ => {}
        }
        if faults.disk {
            self.plan_disk_faults();
        }
        if faults.changes
            && self.rng.chance(60)
            && let Some(hook) =
                self.work.sudden_change(&mut self.rng).map_err(|e| format!("no change: {e}"))?
        {
            self.tally.fault("source: changed while it is read");
            self.transfer.rough = true;
            let calls = self.rng.spread(150);
            self.source_life.hook_in(calls, hook);
        }
        let corrupt = if faults.corruption { [2, 10, 40][self.rng.below(3) as usize] } else { 0 };
        let duplicate = if faults.network { [0, 5, 30][self.rng.below(3) as usize] } else { 0 };
        Ok((corrupt, duplicate, power))
    }

    fn plan_disk_faults(&mut self) {
        const TARGET: [Op; 17] = [
            Op::Meta,
            Op::List,
            Op::Open,
            Op::Create,
            Op::Mkdir,
            Op::Symlink,
            Op::Rename,
            Op::Unlink,
            Op::Rmdir,
            Op::SetMeta,
            Op::SyncDir,
            Op::SyncAll,
            Op::Read,
            Op::Write,
            Op::SetLen,
            Op::Sync,
            Op::Write,
        ];
        const SOURCE: [Op; 5] = [Op::Read, Op::Open, Op::Meta, Op::List, Op::ReadLink];
        let fault = |rng: &mut Rng, ops: &[Op]| Fault {
            op: rng.pick(ops).copied().unwrap_or(Op::Read),
            after: rng.spread(200) as u32,
            errno: Errno::IO,
        };
        for _ in 0..self.rng.below(4) {
            let mut fault = fault(&mut self.rng, &TARGET);
            if matches!(fault.op, Op::Write | Op::Create) && self.rng.chance(40) {
                fault.errno = Errno::NOSPC;
            }
            if let Some(process) = &self.process {
                process.life.add_fault(fault);
                self.tally.fault("target: disk error planned");
            }
        }
        for _ in 0..self.rng.below(3) {
            self.source_life.add_fault(fault(&mut self.rng, &SOURCE));
            self.tally.fault("source: disk error planned");
        }
    }

    /// Disks have failed, so that nobody is to blame.
    pub(super) fn disks_failed(&mut self) -> bool {
        let met = self.source_life.met() + self.process.as_ref().map_or(0, |p| p.life.met());
        self.transfer.rough |= met > 0;
        self.transfer.rough
    }

    pub(super) fn excuse(&mut self, failure: &Failure) -> Check {
        let Failure { code, detail } = failure;
        if self.disks_failed() {
            Ok(())
        } else {
            Err(format!("stopped without a cause: {code}: {detail}"))
        }
    }

    /// A side of the session stopped early.
    pub(super) fn stopped(&mut self, stop: Stop) -> Check {
        let corrupted = self.session.as_ref().is_some_and(|s| s.corrupted > 0);
        let failure = match stop {
            Stop::Refused { failure, .. } | Stop::Violation(failure) | Stop::Local(failure) => {
                failure
            }
        };
        match failure.code.as_str() {
            "wrong-content" if corrupted => self.tally.fault("network: path given up"),
            "nothing-to-publish" if self.disks_failed() => {
                self.transfer.outcome = Some(Outcome::Nothing);
                return Ok(());
            }
            "protocol" | "root-mismatch" => {
                return Err(format!("{}: {}", failure.code, failure.detail));
            }
            _ => self.excuse(&failure)?,
        }
        self.interrupted();
        Ok(())
    }

    fn end_session(&mut self) {
        self.disks_failed();
        self.session = None;
    }

    /// The session is over for both sides; the source comes back later.
    pub(super) fn interrupted(&mut self) {
        let lost = self.session.as_ref().map_or(0, |s| s.target.machine.outstanding());
        self.transfer.lost += lost;
        self.end_session();
        self.reconnect();
    }

    fn reconnect(&mut self) {
        let pause = self.rng.spread(2000 * MS);
        self.schedule_in(0, pause, Event::Connect);
    }

    fn session_is_power(&mut self, power: bool) {
        if power {
            self.power_loss();
        }
    }

    fn power_loss(&mut self) {
        self.tally.fault("target: power lost");
        let seed = self.rng.next();
        self.note("power", seed);
        self.tree.crash(seed);
        self.seen.clear();
    }

    /// The target's process is dead; everything that it held is gone.
    pub(super) fn died(&mut self) {
        let power = self.session.as_ref().is_some_and(|s| s.power);
        self.tally.fault("target: process killed");
        self.interrupted();
        if let Some(process) = self.process.take() {
            process.life.kill();
            self.note("died", process.life.calls());
        }
        self.session_is_power(power);
        self.look = true;
    }

    /// The power fails while nothing runs.
    pub(super) fn rest_and_lose_power(&mut self) {
        if let Some(process) = self.process.take() {
            process.life.kill();
        }
        self.power_loss();
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
}

impl World {
    pub(super) fn instant(&self) -> Instant {
        Instant(self.now)
    }
}
