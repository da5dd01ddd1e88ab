//! Sessions of a transfer: how they begin, what goes wrong in them, how they end.

use std::sync::Arc;

use rustix::io::Errno;

use super::process::{Life, ProcessTree};
use super::rng::Rng;
use super::sides::{SourceSide, TargetSide};
use super::world::{Check, Event, MS, Outcome, Process, Session, World};
use crate::base::TransferId;
use crate::index::Index;
use crate::protocol::{Failure, Source, Stop, Target, Task};
use crate::runtime::source::{Above, Around, SourceFiles, SourceRoot};
use crate::runtime::target::{Layout, StoreOptions, TargetStore, index_path, recover_all};
use crate::storage::Tree;
use crate::storage::memory::{Fault, Op};

/// Most sessions of one transfer after the faults have stopped.
const CALM_SESSIONS_MAX: u32 = 4;

/// Rolls forward what was half published; the first failure, if there is one.
fn recover(tree: &dyn Tree, index: &Index) -> Result<(), Failure> {
    let recovered = recover_all(tree, index, |_| Ok(Some(())))?;
    recovered.failed.into_iter().next().map_or(Ok(()), |(_, failure)| Err(failure))
}

impl World {
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
        if self.transfer.faults.rot && self.transfer.budget > 0 && self.rng.chance(50) {
            self.flip_a_bit();
        }
        let tree: Arc<dyn Tree> =
            Arc::new(ProcessTree { tree: self.tree.clone(), life: Arc::clone(&life) });
        let opened = Index::open(Arc::clone(&tree), &index_path());
        let index = opened.map_or_else(|_| Index::disabled(), |(index, _)| index);
        let recovered = if self.rng.chance(50) { recover(&*tree, &index) } else { Ok(()) };
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

    /// One of the target's own files changes by itself while nothing runs.
    fn flip_a_bit(&mut self) {
        let layout = Layout::of(&self.transfer.to);
        let mut own = vec![index_path(), layout.journal, layout.manifest, layout.published];
        let runs = index_path().parent().and_then(|dir| dir.join(b"index.runs").ok());
        if let Some(runs) = runs {
            // In the order of the tree, which follows from its seed.
            let mut names = self.tree.list(&runs).unwrap_or_default();
            own.extend(names.pop().and_then(|(name, _)| runs.join(&name).ok()));
        }
        let Some(path) = self.rng.pick(&own) else { return };
        let len = self.tree.meta(path).map_or(0, |meta| meta.len);
        let offset = self.rng.below(len);
        if self.tree.flip(path, offset).is_ok() {
            self.tally.fault("target: a bit flipped");
            self.transfer.rough = true;
        }
    }

    pub(super) fn connect(&mut self) -> Check {
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
            part: None,
            above: Above::default(),
            basis: None,
            near: false,
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
            around: Around::default(),
        });
        let files = SourceFiles::new(roots.collect());
        let mut target = Target::new(Task::Receive, self.credit);
        target.plant(self.options.machine);
        let source = Source::new(self.runs_max, false).fresh(store.is_fresh());
        self.session = Some(Session {
            id,
            source: SourceSide::new(source, files),
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

    pub(super) fn end_session(&mut self) {
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
}
