//! The nodes of a history, and what the model says of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::Tally;
use super::law::{Asked, CLASSES};
use super::model::Model;
use super::node::{NODES, Node};
use super::tap::content;
use crate::audit::Word;
use crate::base::limits::LEASE_BYTES;
use crate::base::{Class, Digest, RelPath, Tier, TransferId};
use crate::border::{Ask, Party};
use crate::policy::{Action, Transport};
use crate::sim::rng::Rng;
use crate::storage::Tree;

/// What went over the border from a node in the name of a transfer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moved {
    pub(super) bytes: u64,
    /// A session of it ended without a word to the log.
    pub(super) unstopped: bool,
}

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) model: Model,
    pub(super) rng: Rng,
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) scratch: Vec<u8>,
    pub(super) tally: Tally,
    /// Which content a chunk is.
    pub(super) digests: HashMap<Digest, u64>,
    /// What a target got, or found, of a content that a source offered for a path.
    pub(super) got: BTreeSet<(usize, usize, RelPath, u64)>,
    pub(super) moved: BTreeMap<(usize, u128), Moved>,
    pub(super) transfers: u128,
    canaries: Vec<u64>,
    /// The border of a source was told of a label.
    pub(super) relabelled: bool,
}

/// One question of the border, with the nodes by their numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crossing<'a> {
    pub(super) who: usize,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) dataset: &'a RelPath,
    pub(super) class: u8,
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::from_typed(text.as_bytes()).unwrap_or_default()
}

pub(super) fn crosses(one: usize, other: usize) -> bool {
    NODES[one].1 != NODES[other].1
}

impl World {
    pub(super) fn open(dir: &Path) -> Result<Self, String> {
        let nodes: Result<_, _> = (0..NODES.len()).map(|number| Node::open(dir, number)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        Ok(Self {
            nodes: nodes?,
            model: Model::default(),
            rng: Rng::new(0),
            runtime: runtime.map_err(|e| e.to_string())?,
            scratch: vec![0; LEASE_BYTES],
            tally: Tally::default(),
            digests: HashMap::new(),
            got: BTreeSet::new(),
            moved: BTreeMap::new(),
            transfers: 0,
            canaries: Vec::new(),
            relabelled: false,
        })
    }

    /// Begins a history.
    pub(super) fn begin(&mut self, seed: u64) -> Result<(), String> {
        self.rng = Rng::new(seed);
        for node in &mut self.nodes {
            node.begin(self.rng.next())?;
        }
        let defaults = NODES.iter().map(|node| node.3).collect();
        self.model = Model { defaults, ..Model::default() };
        self.canaries.clear();
        self.relabelled = false;
        self.digests.clear();
        self.got.clear();
        self.moved.clear();
        self.transfers = 0;
        Ok(())
    }

    /// A content: a new one, or one that is somewhere already.
    pub(super) fn canary(&mut self) -> u64 {
        if self.rng.chance(40)
            && let Some(canary) = self.rng.pick(&self.canaries)
        {
            return *canary;
        }
        let canary = self.rng.next();
        self.canaries.push(canary);
        self.digests.insert(Digest::of(&content(canary)), canary);
        canary
    }

    /// The model's word on whether a node lets something move by what is true there now.
    pub(super) fn permits(&self, at: usize, asked: Crossing<'_>) -> bool {
        let Crossing { who, from, to, dataset, class } = asked;
        let node = &self.nodes[at];
        let site = NODES[who].1;
        node.law.permits(Asked {
            at_an_end: site == NODES[from].1 || site == NODES[to].1,
            exporter: node.exporters.iter().any(|(exporter, granted, until)| {
                *exporter == who && dataset.strip(granted).is_some() && node.now() < *until
            }),
            revoked: [who, from, to].iter().any(|party| node.revoked.contains(party)),
            outward: NODES[from].2 == Tier::Private && NODES[to].2 == Tier::Public,
            class,
        })
    }

    /// What the code under test is asked at a node.
    pub(super) fn ask(
        &self,
        at: usize,
        (action, transfer): (Action, TransferId),
        class: Class,
        Crossing { who, from, to, dataset, .. }: Crossing<'_>,
    ) -> Result<Ask, String> {
        let node = &self.nodes[at];
        let party =
            |number| Ok::<_, String>(Party { id: node.id(number)?, valid_until_s: u64::MAX });
        Ok(Ask {
            transfer,
            who: node.id(who)?,
            action,
            path: dataset.clone(),
            class,
            from: party(from)?,
            to: party(to)?,
            link: "wan".parse::<Word>().map_err(|e| e.to_string())?,
            transport: Transport::Quic,
            cost_max: None,
            wire_max: None,
        })
    }

    /// Whether `to` may learn that `at` has a content: somewhere it may read it.
    pub(super) fn may_know(&self, at: usize, to: usize, canary: u64) -> bool {
        let root = RelPath::root();
        self.model.below(at, &root).any(|file| {
            let dataset = file.1.parent().unwrap_or_default();
            let class = self.model.class_of(file);
            let asked = Crossing { who: to, from: at, to, dataset: &dataset, class };
            self.model.inode(file).is_some_and(|inode| inode.canary == canary)
                && self.permits(at, asked)
        })
    }

    pub(super) fn take_relabelled(&mut self) -> bool {
        std::mem::take(&mut self.relabelled)
    }

    pub(super) fn next_transfer(&mut self) -> TransferId {
        self.transfers += 1;
        TransferId(self.transfers)
    }

    /// Takes in what there is at a node now.
    pub(super) fn resync(&mut self, node: usize) -> Result<(), String> {
        let (files, dirs) = self.nodes[node].look()?;
        // A snapshot that comes where nothing was has a label at its top, for what is added there too.
        let bare: Vec<RelPath> = dirs
            .iter()
            .filter(|dir| self.model.below(node, dir).next().is_none())
            .filter(|dir| files.keys().any(|file| file.strip(dir).is_some()))
            .cloned()
            .collect();
        self.model.resync(node, &files, &dirs)?;
        for dir in bare {
            let label = self.nodes[node].tree.label(&dir).map_err(|e| e.to_string())?;
            let rank =
                label.and_then(|label| CLASSES.iter().position(|class| class.as_bytes() == label));
            if let Some(rank) = rank {
                self.model.dirs.insert((node, dir), Some(rank as u8));
            }
        }
        Ok(())
    }
}
