//! What one seed does.

use std::collections::{BTreeMap, BTreeSet};

use super::events::Abort;
use super::node::{NODES, folder};
use super::session::{Ended, Plan};
use super::world::{World, crosses, path};
use crate::audit::{Entries, Known, Record, verify};
use crate::base::RelPath;
use crate::policy::Verdict;

impl World {
    pub(super) fn history(&mut self, seed: u64, step: &mut &'static str) -> Result<(), String> {
        self.begin(seed)?;
        self.populate()?;
        let mut broken_off = None;
        for _ in 0..self.rng.between(4, 9) {
            match self.rng.below(20) {
                0..9 => {
                    *step = "transfer";
                    let plan = self.plan();
                    broken_off = self.session(&plan).map(|ended| left(&ended, plan))?;
                }
                9 | 10 => {
                    *step = "transfer again";
                    let Some(plan) = broken_off.take() else { continue };
                    let plan = Plan { rough: self.rng.chance(40), ..plan };
                    broken_off = self.session(&plan).map(|ended| left(&ended, plan))?;
                }
                11 | 12 => {
                    *step = "parts of a file";
                    let plan = self.plan();
                    let files: Vec<RelPath> =
                        self.model.below(plan.source, &plan.from).map(|at| at.1.clone()).collect();
                    if let Some(from) = self.rng.pick(&files).cloned() {
                        self.read_part(&Plan { from, push: false, ..plan })?;
                    }
                }
                13 | 14 => {
                    *step = "change of policy or roles";
                    let node = self.some_node();
                    self.govern(node)?;
                }
                15 => {
                    *step = "raised label";
                    let (node, set) = (self.some_node(), self.some_set());
                    if self.model.dirs.contains_key(&(node, set.clone())) {
                        self.raise(node, &set)?;
                    }
                }
                16..19 => {
                    *step = "work on files";
                    let (node, set) = (self.some_node(), self.some_set());
                    if self.model.dirs.contains_key(&(node, set.clone())) {
                        self.work(node, &set, true)?;
                    }
                }
                _ => {
                    *step = "power loss";
                    let (node, seed) = (self.some_node(), self.rng.next());
                    self.nodes[node].restart(Some(seed));
                    self.tally.event("power lost");
                    self.resync(node)?;
                }
            }
            self.relabelled = false;
        }
        *step = "logs";
        self.check_logs()
    }

    fn some_node(&mut self) -> usize {
        self.rng.below(NODES.len() as u64) as usize
    }

    fn some_set(&mut self) -> RelPath {
        path(&format!("d{}", self.rng.below(3)))
    }

    fn plan(&mut self) -> Plan {
        let source = self.some_node();
        let target = (source + self.rng.between(1, NODES.len() as u64 - 1) as usize) % NODES.len();
        let to = format!("d{}", self.rng.below(5));
        Plan {
            source,
            target,
            push: self.rng.chance(60),
            from: self.some_set(),
            to: path(&to),
            rough: self.rng.chance(60),
            indexed: self.rng.chance(75),
        }
    }

    /// After a power loss, each log is whole, has a grant for whatever crossed, and every byte of it.
    fn check_logs(&mut self) -> Result<(), String> {
        for (node, (name, ..)) in NODES.iter().enumerate() {
            let moved: BTreeMap<u128, _> =
                self.moved.iter().filter(|it| it.0.0 == node).map(|it| (it.0.1, *it.1)).collect();
            if moved.is_empty() {
                continue;
            }
            let seed = self.rng.next();
            self.nodes[node].restart(Some(seed));
            // Who takes up the log cuts what was not acknowledged.
            let log = self.nodes[node].border.log().map_err(|e| e.to_string())?;
            let folder = folder(&self.nodes[node].log);
            verify(&folder, &Known::default()).map_err(|e| format!("the log of {node}: {e}"))?;
            drop(log);
            let (mut granted, mut recorded) = (BTreeSet::new(), BTreeMap::new());
            for entry in Entries::open(&folder).map_err(|e| e.to_string())? {
                match entry.map_err(|e| e.to_string())?.record {
                    Record::Decision(it) if it.verdict == Verdict::Granted => {
                        granted.insert(it.crossing.transfer.0);
                    }
                    Record::Progress(it) if it.crossing.from.node.as_str() == *name => {
                        *recorded.entry(it.crossing.transfer.0).or_default() += it.bytes;
                    }
                    Record::Stop(it) if it.crossing.from.node.as_str() == *name => {
                        *recorded.entry(it.crossing.transfer.0).or_default() += it.bytes;
                    }
                    _ => {}
                }
            }
            for (id, moved) in moved {
                let recorded: u64 = recorded.get(&id).copied().unwrap_or(0);
                if moved.bytes > 0 && !granted.contains(&id) {
                    return Err(format!(
                        "transfer {id} crossed without a grant in the log of {node}"
                    ));
                }
                if recorded > moved.bytes || (!moved.unstopped && recorded < moved.bytes) {
                    let bytes = moved.bytes;
                    return Err(format!(
                        "transfer {id}: {bytes} crossed, {recorded} are in the log"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// A transfer that was broken off goes on later.
fn left(ended: &Ended, plan: Plan) -> Option<Plan> {
    let again =
        matches!(ended, Ended::Aborted(Abort::Cut | Abort::Crash { .. }) | Ended::Denied(_));
    (again && crosses(plan.source, plan.target)).then_some(plan)
}
