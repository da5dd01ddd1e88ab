//! A node of a simulated world: a home with policy and roles, a border, a tree and a log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use super::law::Law;
use super::tap::canaries;
use crate::audit::LogFolder;
use crate::base::{RelPath, Tier};
use crate::border::{Border, Stage};
use crate::config::{Config, Home, change_roles};
use crate::identity::{Identity, SpiffeId, UnixTime};
use crate::index::Index;
use crate::policy::{ChangeError, Grant, Kind, Principal, Roles};
use crate::runtime::OWN_DIR;
use crate::runtime::target::index_path;
use crate::storage::{File, MemoryTree, Tree, Walk, WalkItem};
use crate::transport::Peer;

/// The names, sites and tiers of all nodes, and the class that nodes of each give what has no label.
pub(super) const NODES: [(&str, &str, Tier, u8); 4] = [
    ("one", "dc", Tier::Private, 1),
    ("two", "dc", Tier::Private, 1),
    ("three", "lab", Tier::Private, 0),
    ("four", "eu", Tier::Public, 1),
];
/// When each history begins, in seconds since 1970.
pub(super) const BEGIN_S: i64 = 1_800_000_000;

pub(super) struct Node {
    pub(super) home: Home,
    pub(super) border: Arc<Border>,
    identity: Identity,
    pub(super) clock: Arc<AtomicI64>,
    pub(super) law: Law,
    /// Exporters: who, for which dataset, until when.
    pub(super) exporters: Vec<(usize, RelPath, i64)>,
    pub(super) revoked: BTreeSet<usize>,
    pub(super) tree: MemoryTree,
    pub(super) log: MemoryTree,
    pub(super) index: Option<Index>,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Node {
    pub(super) fn open(dir: &Path, number: usize) -> Result<Self, String> {
        let (name, site, tier, class) = NODES[number];
        let home = Home::at(dir.join(name));
        home.create().map_err(text)?;
        std::fs::create_dir_all(home.policy_dir()).map_err(text)?;
        let class = super::law::CLASSES[usize::from(class)];
        let config = format!("[border]\ndefault_class = \"{class}\"\n");
        std::fs::write(home.config_file(), config).map_err(text)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(BEGIN_S as u64));
        let (name, site) = (name.parse().map_err(text)?, site.parse().map_err(text)?);
        let made = Identity::init(home.config_dir(), name, site, tier, now).map_err(text)?;
        let identity = Identity::load(home.config_dir()).map_err(text)?;
        let config = Config::load(&home, [], &[]).map_err(text)?;
        let (clock, log) = (Arc::new(AtomicI64::new(BEGIN_S)), MemoryTree::new(1));
        let stage = Stage { now_s: Arc::clone(&clock), log: Mutex::new(folder(&log)) };
        let border = Arc::new(Border::staged(&home, &config, made, stage));
        let tree = MemoryTree::new(1);
        let (exporters, revoked) = (Vec::new(), BTreeSet::new());
        let (law, index) = (Law::Ready, None);
        Ok(Self { home, border, identity, clock, law, exporters, revoked, tree, log, index })
    }

    /// Begins a history: an empty tree and log, and nobody with a role.
    pub(super) fn begin(&mut self, seed: u64) -> Result<(), String> {
        (self.tree, self.log, self.index) =
            (MemoryTree::new(seed), MemoryTree::new(seed ^ 1), None);
        self.border.restart(folder(&self.log));
        self.clock.store(BEGIN_S, Relaxed);
        self.set_law(Law::Ready)?;
        for (who, dataset, _) in std::mem::take(&mut self.exporters) {
            let (who, role) = (self.principal(who), role()?);
            self.change(|roles| roles.revoke(&who, &role, Some(&dataset)))?;
        }
        for who in std::mem::take(&mut self.revoked) {
            let who = self.principal(who);
            self.change(|roles| roles.readmit(&who))?;
        }
        Ok(())
    }

    /// The same process again, or another one after the power failed.
    pub(super) fn restart(&mut self, power: Option<u64>) {
        if let Some(seed) = power {
            self.tree.crash(seed);
            self.log.crash(seed ^ 2);
        }
        self.index = None;
        self.border.restart(folder(&self.log));
    }

    pub(super) fn set_law(&mut self, law: Law) -> Result<(), String> {
        if law == self.law {
            return Ok(());
        }
        let (path, new) = (self.home.policy_file(), self.home.policy_dir().join("new"));
        match law.text() {
            Some(law) => std::fs::write(&new, law).and_then(|()| std::fs::rename(&new, &path)),
            None => std::fs::remove_file(&path),
        }
        .map_err(text)?;
        self.law = law;
        Ok(())
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.load(Relaxed)
    }

    fn change(
        &self,
        change: impl FnOnce(&Roles) -> Result<Roles, ChangeError>,
    ) -> Result<(), String> {
        change_roles(&self.home, &self.identity, change).map(drop).map_err(text)
    }

    pub(super) fn grant(&mut self, who: usize, dataset: RelPath, until: i64) -> Result<(), String> {
        if self.revoked.contains(&who) {
            return Ok(());
        }
        let grant =
            Grant { identity: self.principal(who), role: role()?, dataset: dataset.clone() };
        let now = self.now();
        self.change(|roles| roles.grant(grant, Some(until), now))?;
        self.exporters.retain(|it| it.2 > now && (it.0, &it.1) != (who, &dataset));
        self.exporters.push((who, dataset, until));
        Ok(())
    }

    pub(super) fn revoke(&mut self, who: usize) -> Result<(), String> {
        if !self.revoked.insert(who) {
            self.revoked.remove(&who);
            let who = self.principal(who);
            return self.change(|roles| roles.readmit(&who));
        }
        self.exporters.retain(|it| it.0 != who);
        let who = self.principal(who);
        self.change(|roles| roles.revoke_identity(&who))
    }

    /// The id of a node, in this one's trust domain.
    pub(super) fn id(&self, number: usize) -> Result<SpiffeId, String> {
        let (name, site, tier, _) = NODES[number];
        let (site, node) = (site.parse().map_err(text)?, name.parse().map_err(text)?);
        let domain = self.border.us().domain.clone();
        Ok(SpiffeId { domain, tier, site, kind: Kind::Node, node })
    }

    fn principal(&self, number: usize) -> Principal {
        let us = self.border.us().clone();
        Principal::from(&self.id(number).unwrap_or(us))
    }

    /// The index of the tree.
    pub(super) fn index(&mut self, enabled: bool) -> Index {
        if !enabled {
            return Index::disabled();
        }
        let tree: Arc<dyn Tree> = Arc::new(self.tree.clone());
        let open =
            || Index::open(tree, &index_path()).map_or_else(|_| Index::disabled(), |it| it.0);
        self.index.get_or_insert_with(open).clone()
    }

    /// What is there for all to see: files with their contents and numbers, and directories.
    pub(super) fn look(&self) -> Result<Seen, String> {
        let tree: Arc<dyn Tree> = Arc::new(self.tree.clone());
        let (mut files, mut dirs) = (BTreeMap::new(), vec![RelPath::root()]);
        let own = BTreeSet::from([OWN_DIR.to_vec()]);
        for item in Walk::new(Arc::clone(&tree), RelPath::root(), own).map_err(text)? {
            let WalkItem::Entry { path, meta, .. } = item else { continue };
            if path.components().next() == Some(OWN_DIR) {
                continue;
            }
            if meta.kind == crate::storage::Kind::Dir {
                dirs.push(path);
                continue;
            }
            let mut bytes = vec![0; meta.len as usize];
            tree.open(&path).and_then(|file| file.read_at(&mut bytes, 0)).map_err(text)?;
            let mut found = canaries(&bytes).into_iter();
            match (found.next(), found.next()) {
                (Some(canary), None) => drop(files.insert(path, (canary, meta.ino))),
                _ => return Err(format!("{path} has no whole content")),
            }
        }
        Ok((files, dirs))
    }
}

/// Files with their contents and numbers, and directories.
type Seen = (BTreeMap<RelPath, (u64, u64)>, Vec<RelPath>);

/// A node as its peers see it.
pub(super) fn peer(number: usize) -> Result<Peer, String> {
    let (name, site, tier, _) = NODES[number];
    let (node, site) = (name.parse().map_err(text)?, site.parse().map_err(text)?);
    Ok(Peer { node, kind: Kind::Node, site, tier, valid_until_s: u64::MAX, enrolling: None })
}

pub(super) fn folder(log: &MemoryTree) -> LogFolder {
    LogFolder::on(Arc::new(log.clone()), RelPath::root())
}

fn role() -> Result<crate::policy::Role, String> {
    "exporter".parse().map_err(text)
}

/// Makes a file with a content.
pub(super) fn write(tree: &MemoryTree, path: &RelPath, bytes: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        crate::storage::mkdir_all(tree, &dir)?;
    }
    crate::storage::remove_all(tree, path)?;
    let file: Arc<dyn File> = tree.create(path)?;
    file.write_at(bytes, 0)
}
