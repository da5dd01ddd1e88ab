//! How a session of a transfer begins and ends, and what the model says of it.

use std::sync::Arc;

use super::events::Abort;
use super::law::{CLASSES, NO_CLASS};
use super::node::peer;
use super::pump::{Pump, Sides};
use super::tap::{Tap, canaries};
use super::world::{Crossing, World, crosses};
use crate::audit::Ending;
use crate::base::{Class, RelPath, TransferId};
use crate::border::{Denied, Way};
use crate::policy::Action;
use crate::protocol::Failure;
use crate::runtime::source::{Above, Around, SourceFiles, SourceRoot};
use crate::runtime::target::{Planted, StoreOptions, TargetStore};
use crate::storage::Tree;

/// What is to be moved.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) source: usize,
    pub(super) target: usize,
    /// The source asks; otherwise the target does.
    pub(super) push: bool,
    pub(super) from: RelPath,
    pub(super) to: RelPath,
    /// Things happen meanwhile.
    pub(super) rough: bool,
    /// The target finds chunks by its index.
    pub(super) indexed: bool,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    Published,
    Denied(String),
    Stopped(String),
    Aborted(Abort),
}

/// Both ends let the transfer in, or one of them does not.
type Opened = Result<(Arc<Way>, Arc<Way>, Arc<TargetStore>, Arc<SourceFiles>), Ended>;

fn rank(class: &Class) -> u8 {
    let rank = CLASSES.iter().position(|it| *it == class.as_str());
    rank.map_or(NO_CLASS, |rank| rank as u8)
}

fn denied(why: &Denied) -> Ended {
    Ended::Denied(why.to_string())
}

fn stopped(failure: &Failure) -> Ended {
    match failure.code.as_str() {
        "denied" | "no-audit" => Ended::Denied(failure.detail.clone()),
        code => Ended::Stopped(code.to_owned()),
    }
}

impl Plan {
    /// What is asked of the border.
    pub(super) fn asked(&self, class: u8) -> Crossing<'_> {
        let (who, dataset) =
            if self.push { (self.source, &self.to) } else { (self.target, &self.from) };
        Crossing { who, from: self.source, to: self.target, dataset, class }
    }

    pub(super) fn crosses(&self) -> bool {
        crosses(self.source, self.target)
    }
}

impl World {
    /// One session, to whatever end.
    pub(super) fn session(&mut self, plan: &Plan) -> Result<Ended, String> {
        self.model.gone.clear();
        self.tally.sessions += 1;
        let crosses = plan.crosses();
        let class = self.model.dataset(plan.source, &plan.from);
        let permitted = [plan.source, plan.target].map(|at| self.permits(at, plan.asked(class)));
        let opened = self.opened(plan)?;
        // What an earlier crash left half published may have become visible.
        self.resync(plan.target)?;
        let ended = match opened {
            Err(ended) => ended,
            Ok((out, into, store, files)) => {
                // What is empty has nothing that could cross; what it was received as, the model forgets.
                let something = self.model.below(plan.source, &plan.from).next().is_some();
                if crosses && something && permitted != [true, true] {
                    let taken = [out.class(), into.class()];
                    return Err(format!(
                        "{plan:?} of class {class} was let in as {taken:?}, permitted {permitted:?}"
                    ));
                }
                self.tally.crossings += u64::from(crosses);
                let id = store.transfer_id();
                let sides = Sides { out, into, store, files };
                self.pumped(plan, sides, id, class)?
            }
        };
        if let Ended::Aborted(Abort::Crash { node, power }) = ended {
            let power = power.then(|| self.rng.next());
            self.nodes[node].restart(power);
            self.tally.event(if power.is_some() { "power lost" } else { "process killed" });
            self.resync(node)?;
        }
        self.resync(plan.target)?;
        match &ended {
            Ended::Published => self.tally.published += u64::from(crosses),
            Ended::Denied(_) => self.tally.denied += u64::from(crosses),
            Ended::Stopped(_) | Ended::Aborted(_) => {}
        }
        let to = (plan.target, plan.to.clone());
        let sure = !plan.rough
            && crosses
            && !self.model.receivers.contains(&plan.source)
            && self.model.dirs.get(&to) != Some(&Some(NO_CLASS));
        // The model forgets what the top of a received snapshot was labelled, and that manifests keep
        // classes: that denies more, and never less.
        if matches!(ended, Ended::Denied(_)) && sure && permitted == [true, true] {
            self.tally.stricter += 1;
        }
        Ok(ended)
    }

    fn opened(&mut self, plan: &Plan) -> Result<Opened, String> {
        let crosses = plan.crosses();
        let (source, target) = (&self.nodes[plan.source].border, &self.nodes[plan.target].border);
        let (source, target) = (Arc::clone(source), Arc::clone(target));
        let tree: Arc<dyn Tree> = Arc::new(self.nodes[plan.source].tree.clone());
        let root = SourceRoot {
            tree,
            path: plan.from.clone(),
            place: RelPath::root(),
            around: Around::default(),
        };
        let files = Arc::new(SourceFiles::new(vec![root]));
        let labels = files.labels(crosses).map_err(|e| format!("labels: {e}"))?;
        let class = match source.class(labels) {
            Ok(class) => class,
            Err(why) => return Ok(Err(denied(&why))),
        };
        let action = if plan.push { Action::Push } else { Action::Pull };
        let id = self.next_transfer();
        let asked = plan.asked(rank(&class));
        let ask = |world: &Self, at, id| world.ask(at, (action, id), class.clone(), asked);
        if plan.push {
            let (out, into) = (ask(self, plan.source, id)?, ask(self, plan.target, id)?);
            if let Err(why) = source.would(&out).and_then(|()| target.would(&into)) {
                return Ok(Err(denied(&why)));
            }
        }
        let options = StoreOptions {
            transfer_id: id,
            source: plan.source.to_string(),
            checksum: false,
            plan: false,
            part: None,
            above: Above::default(),
            basis: None,
            near: false,
            planted: Planted::default(),
        };
        let tree: Arc<dyn Tree> = Arc::new(self.nodes[plan.target].tree.clone());
        let index = self.nodes[plan.target].index(plan.indexed);
        let store = match TargetStore::open(tree, index, &plan.to, options) {
            Ok(store) => Arc::new(store),
            Err(failure) => return Ok(Err(stopped(&failure))),
        };
        let id = store.transfer_id();
        let out = match source.enter(ask(self, plan.source, id)?) {
            Ok(way) => Arc::new(way),
            Err(why) => return Ok(Err(denied(&why))),
        };
        files.guard(&out);
        let into = match target.enter(ask(self, plan.target, id)?) {
            Ok(way) => Arc::new(way),
            Err(why) => {
                self.stop(plan.source, id, &out, Ending::Interrupted)?;
                return Ok(Err(denied(&why)));
            }
        };
        let told = store
            .keep_class(&into)
            .map_err(|why| denied(&why))
            .and_then(|()| store.tell_only(&into, Vec::new()).map_err(|failure| stopped(&failure)));
        if let Err(ended) = told {
            self.stop(plan.source, id, &out, Ending::Interrupted)?;
            self.stop(plan.target, id, &into, Ending::Interrupted)?;
            return Ok(Err(ended));
        }
        Ok(Ok((out, into, store, files)))
    }

    fn stop(&mut self, at: usize, id: TransferId, way: &Way, how: Ending) -> Result<(), String> {
        if way.stop(how, "over", None).is_err() {
            self.moved.entry((at, id.0)).or_default().unstopped = true;
            return Err("the end of a session cannot be recorded".to_owned());
        }
        Ok(())
    }

    fn pumped(
        &mut self,
        plan: &Plan,
        sides: Sides,
        id: TransferId,
        class: u8,
    ) -> Result<Ended, String> {
        let (out, into) = (Arc::clone(&sides.out), Arc::clone(&sides.into));
        let tap = Tap::new(peer(plan.target)?);
        let ended = Pump::new(self, plan, sides, tap, (id, class)).run()?;
        let how = match &ended {
            Ended::Published => Ending::Complete,
            Ended::Denied(_) => Ending::Denied,
            Ended::Stopped(_) => Ending::Failed,
            Ended::Aborted(_) => Ending::Interrupted,
        };
        for (at, way) in [(plan.source, out), (plan.target, into)] {
            match ended {
                Ended::Aborted(Abort::Crash { node, .. }) if node == at => {
                    self.moved.entry((at, id.0)).or_default().unstopped = true;
                }
                _ => self.stop(at, id, &way, how)?,
            }
        }
        Ok(ended)
    }

    /// A node reads a part of a file of another one.
    pub(super) fn read_part(&mut self, plan: &Plan) -> Result<(), String> {
        self.model.gone.clear();
        let at = (plan.source, plan.from.clone());
        let Some(inode) = self.model.inode(&at) else { return Ok(()) };
        let node = &self.nodes[plan.source];
        let tree: Arc<dyn Tree> = Arc::new(node.tree.clone());
        let root = SourceRoot {
            tree,
            path: plan.from.clone(),
            place: RelPath::root(),
            around: Around::default(),
        };
        let labels = SourceFiles::new(vec![root]).labels(false);
        let labels = labels.map_err(|e| format!("labels: {e}"))?;
        let border = Arc::clone(&node.border);
        let Ok(class) = border.class(labels) else { return Ok(()) };
        let id = self.next_transfer();
        let asked = plan.asked(rank(&class));
        let ask = self.ask(plan.source, (Action::Pull, id), class, asked)?;
        let Ok(way) = border.enter(ask) else { return Ok(()) };
        for part in 0..2 {
            if part == 1 && plan.rough {
                self.govern(plan.source)?;
            }
            let extent = crate::base::Extent { offset: part * 16, len: 16 };
            if way.leaves(&RelPath::root(), extent).is_err() {
                break;
            }
            let class = self.model.class_of(&at);
            if plan.crosses() && !self.permits(plan.source, plan.asked(class)) {
                let canary = inode.canary;
                return Err(format!("a part of {canary:x}, of class {class}, left by {plan:?}"));
            }
            self.tally.messages += u64::from(plan.crosses());
            if plan.crosses() {
                self.moved.entry((plan.source, id.0)).or_default().bytes += 16;
            }
        }
        self.stop(plan.source, id, &way, Ending::Complete)
    }

    /// Some bytes of content went over a border: whether they may have.
    pub(super) fn crossed(&mut self, plan: &Plan, class: u8, bytes: &[u8]) -> Result<(), String> {
        self.tally.messages += 1;
        let found = canaries(bytes);
        if !self.permits(plan.source, plan.asked(class)) {
            return Err(format!("{plan:?}, of class {class} by now, sent {found:x?}"));
        }
        for canary in found {
            let classes = self.model.classes(plan.source, canary, &RelPath::root());
            let may = |class: &u8| self.permits(plan.source, plan.asked(*class));
            if !classes.iter().any(may) {
                return Err(format!("{canary:x}, of the classes {classes:?}, crossed by {plan:?}"));
            }
            self.tally.canaries += 1;
        }
        Ok(())
    }
}
