//! The target's files: staging, journal, index and publishing of one transfer.
//!
//! ```text
//! ROOT/.portway/index.redb, index.runs/       digest -> place, a cache
//! ROOT/.portway/staging/KEY/journal           what is durable
//! ROOT/.portway/staging/KEY/tree[/...]        objects under their final names, invisible
//! ROOT/.portway/staging/KEY/manifest          entries that are settled, in order
//! ROOT/.portway/manifests/KEY                 manifest of what is published at the target path
//! ROOT/.portway/parts/KEY/                    parts of a snapshot that wait for others, see `parts`
//! ```
//!
//! `KEY` is 32 hexadecimal digits of the BLAKE3 digest of the target path.

mod basis;
mod check;
mod commit;
mod label;
mod near;
mod nested;
mod parts;
mod place;
mod publish;
mod refuse;
mod replaced;
mod staged;
mod tell;
mod visible;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use super::manifest_file::ManifestWriter;
use super::source::Above;
use super::{OWN_DIR, Trouble, fatal, trouble};
use crate::base::limits::PATH_DEPTH_MAX;
use crate::base::{Digest, RelPath, Seq, TransferId};
use crate::index::{BaseId, Index};
use crate::journal::{Head, Inode, Journal, JournalError, Replay};
use crate::manifest::ChunkRef;
use crate::metrics::Stages;
use crate::protocol::Failure;
use crate::storage::{self, Tree};

use basis::Bases;
use check::OldManifest;
use label::KeptLabel;
use near::Nears;
use staged::Staged;
use tell::Told;

pub use label::noted_class;
pub use nested::{Nested, describing};
pub use parts::{Around, PARTS_KEPT_S, Part, expire as expire_parts};
pub(super) use publish::renew_manifest;
pub use publish::{Recovered, clean_up, index_published, recover_all};

/// Defects that can be planted to prove that the tests notice them. All off in real use.
#[derive(Debug, Clone, Copy, Default)]
#[doc(hidden)]
pub struct Planted {
    /// Journal first, sync the data after.
    pub journal_before_sync: bool,
    /// Do not make names durable.
    pub no_dir_sync: bool,
    /// Take chunks without looking at their digest.
    pub no_digest_check: bool,
    /// Publish without waiting for anything to be durable.
    pub publish_before_sync: bool,
}

/// Paths of one transfer's own files.
#[derive(Debug, Clone)]
pub struct Layout {
    /// `.portway/staging/KEY`.
    pub staging: RelPath,
    /// The journal in it.
    pub journal: RelPath,
    /// The staged snapshot in it.
    pub tree: RelPath,
    /// The manifest in it.
    pub manifest: RelPath,
    /// `.portway/manifests/KEY`.
    pub published: RelPath,
}

fn own(names: &[&[u8]]) -> RelPath {
    let mut path = RelPath::root();
    for name in std::iter::once(&OWN_DIR).chain(names) {
        // The names are ours and short, so joining cannot fail.
        path = path.join(name).unwrap_or_default();
    }
    path
}

/// Where the index lies.
pub fn index_path() -> RelPath {
    own(&[b"index.redb"])
}

/// Where staging areas lie.
pub fn staging_path() -> RelPath {
    own(&[b"staging"])
}

/// Where manifests of what is published lie.
pub fn manifests_path() -> RelPath {
    own(&[b"manifests"])
}

/// Where snapshots lie that are being removed.
pub fn trash_path() -> RelPath {
    own(&[b"trash"])
}

/// The key of a target path.
pub fn key_of(target: &RelPath) -> String {
    let mut key = Digest::of(target.as_bytes()).to_string();
    key.truncate(32);
    key
}

impl Layout {
    /// The files of a transfer to `target`.
    pub fn of(target: &RelPath) -> Self {
        let key = key_of(target);
        let staging = own(&[b"staging", key.as_bytes()]);
        let file = |name: &[u8]| staging.join(name).unwrap_or_default();
        Self {
            journal: file(b"journal"),
            tree: file(b"tree"),
            manifest: file(b"manifest"),
            published: own(&[b"manifests", key.as_bytes()]),
            staging,
        }
    }
}

/// What a transfer begins with at the target.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The transfer's name, if the journal has none.
    pub transfer_id: TransferId,
    /// The node that sends.
    pub source: String,
    /// Trust neither times nor records of earlier runs.
    pub checksum: bool,
    /// Change nothing; only look.
    pub plan: bool,
    /// It is a part of a snapshot, and the target path is where that waits for the others.
    pub part: Option<Part>,
    /// Where an earlier version of what comes may be published.
    pub basis: Option<RelPath>,
    /// The directories above the tree: what they are labelled counts for what is written.
    pub above: Above,
    /// The source takes sums of blocks that are here, and content may come as copies of them.
    pub near: bool,
    /// See [`Planted`].
    #[doc(hidden)]
    pub planted: Planted,
}

/// Where the chunk list of an object that was known is to be read.
enum Origin {
    Journal(u64),
    Old(Vec<ChunkRef>),
    /// The records of the object in the old manifest.
    Records(Bytes),
}

/// What changes while a transfer runs.
struct Inner {
    /// Objects that are not settled.
    staged: HashMap<Seq, Box<Staged>>,
    origins: HashMap<Seq, Origin>,
    replay: Replay,
    old: Option<OldManifest>,
    /// Directories with names that are not durable yet.
    dirty_dirs: BTreeSet<RelPath>,
    /// Something in this snapshot is not just as the old manifest has it.
    changed: bool,
    /// Objects whose staged files were finished here, and how many of them were settled: others
    /// failed, and what is staged of them must not be seen.
    finished: u64,
    settled: u64,
}

/// What only commits and publishing touch, one at a time.
struct Ledger {
    journal: Option<Journal>,
    manifest: Option<ManifestWriter>,
}

/// The target's files of one transfer. Calls block; several may run at once.
pub struct TargetStore {
    tree: Arc<dyn Tree>,
    index: Index,
    target: RelPath,
    layout: Layout,
    options: StoreOptions,
    transfer_id: TransferId,
    /// An earlier run left something, so the staging area may hold what is not in this snapshot.
    resumed: bool,
    /// What is staged may be of another source.
    foreign: bool,
    fresh: bool,
    base: Option<BaseId>,
    bases: Option<Bases>,
    nears: Nears,
    label: Mutex<Option<KeptLabel>>,
    /// The class of what comes was asked for once.
    classed: AtomicBool,
    told: OnceLock<Told>,
    inner: Mutex<Inner>,
    /// Held while the file of an object is made or opened, which is one of these by its number; taken
    /// before `inner`.
    making: [Mutex<()>; 16],
    ledger: Mutex<Ledger>,
    stages: Arc<Stages>,
}

impl TargetStore {
    /// Opens, or begins, the staging area for `target`; rolls a half-done publish forward first.
    pub fn open(
        tree: Arc<dyn Tree>,
        index: Index,
        target: &RelPath,
        options: StoreOptions,
    ) -> Result<Self, Failure> {
        let layout = Layout::of(target);
        let head = Head {
            transfer_id: options.transfer_id,
            target: target.clone(),
            source: options.source.clone(),
        };
        let journal_failed = |error| journal_failure(&error);
        let part = options.part.clone();
        refuse::refuse_place(&*tree, part.as_ref().map_or(target, Part::whole))?;
        let _gate = part.as_ref().map(Part::gate);
        let (journal, mut replay, manifest, base);
        if options.plan {
            let found = Journal::replay(&*tree, &layout.journal).map_err(journal_failed)?;
            (journal, replay) = match found {
                Some((journal, replay)) if replay.head.source == head.source => {
                    (Some(journal), replay)
                }
                // Stamps of another source say nothing here.
                _ => (None, Replay::nothing(head.clone())),
            };
            (manifest, base) = (None, None);
        } else {
            publish::recover(&*tree, &index, target)?;
            if let Some(part) = &part {
                part.recover(&*tree, &index)?;
            }
            storage::mkdir_all(&*tree, &layout.staging)
                .and_then(|()| storage::mkdir_all(&*tree, &manifests_path()))
                .and_then(|()| sync_ancestors(&*tree, &layout.staging))
                .map_err(|e| fatal("make", &layout.staging, &e))?;
            let mut opened =
                Journal::open(&*tree, &layout.journal, &head).map_err(journal_failed)?;
            if opened.1.head.source != head.source || opened.1.head.target != head.target {
                drop(opened);
                tree.unlink(&layout.journal).map_err(|e| fatal("remove", &layout.journal, &e))?;
                opened = Journal::open(&*tree, &layout.journal, &head).map_err(journal_failed)?;
            }
            let writer = ManifestWriter::create(&*tree, &layout.manifest, &options.source, target);
            manifest = Some(writer.map_err(|e| fatal("write", &layout.manifest, &e))?);
            (journal, replay) = (Some(opened.0), opened.1);
            base = index.add_base(&layout.tree).ok();
        }
        let old = OldManifest::open(&*tree, &layout.published, &options);
        let basis = options.basis.as_ref().filter(|_| !options.plan);
        let bases = basis.and_then(|at| Bases::find(&*tree, at, &options.source));
        // A journal has records only of what its source sent.
        let foreign = replay.is_empty();
        let fresh = foreign && old.is_none();
        let resumed = !foreign || !matches!(publish::present(&*tree, &layout.tree), Ok(false));
        let transfer_id = replay.head.transfer_id;
        replay.publishing = None;
        let inner = Inner {
            staged: HashMap::new(),
            origins: HashMap::new(),
            replay,
            old,
            dirty_dirs: BTreeSet::new(),
            changed: false,
            finished: 0,
            settled: 0,
        };
        let ledger = Mutex::new(Ledger { journal, manifest });
        let (target, inner) = (target.clone(), Mutex::new(inner));
        let (label, told, stages) = (Mutex::default(), OnceLock::new(), Arc::default());
        Ok(Self {
            tree,
            index,
            target,
            layout,
            options,
            transfer_id,
            resumed,
            foreign,
            fresh,
            base,
            bases,
            nears: Nears::default(),
            label,
            classed: AtomicBool::new(false),
            told,
            inner,
            making: Default::default(),
            ledger,
            stages,
        })
    }

    /// The transfer's name: the one that its journal has.
    pub fn transfer_id(&self) -> TransferId {
        self.transfer_id
    }

    /// Whether nothing is known of what comes, so that all of it is needed: nothing of it was published
    /// or staged here by Portway.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Where the time of verifying, writing and syncing goes.
    pub fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    /// Most components of a path in the snapshot: it is to be expressed where it is staged, and where it is
    /// seen in the end.
    pub fn depth_max(&self) -> usize {
        let part = self.options.part.as_ref().map_or(0, |part| part.path().depth());
        let tops = [self.layout.tree.depth(), self.target.depth(), part];
        PATH_DEPTH_MAX - tops.into_iter().max().unwrap_or_default()
    }

    /// Bytes that can still be written.
    pub fn free_bytes(&self) -> u64 {
        self.tree.free_bytes().unwrap_or(0)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Path of an entry in the staging area.
    fn staged_path(&self, path: &RelPath) -> Result<RelPath, Failure> {
        below(&self.layout.tree, path)
    }
}

/// A journal that cannot be written for want of space is no broken one.
fn journal_failure(error: &JournalError) -> Failure {
    match error {
        JournalError::Io { path, source } => match trouble("write", path, source) {
            Trouble::Node(failure) => failure,
            Trouble::Object(_) => Failure::new("journal", error.to_string()),
        },
        _ => Failure::new("journal", error.to_string()),
    }
}

/// `path` below `base`, or a failure that names the limit.
fn below(base: &RelPath, path: &RelPath) -> Result<RelPath, Failure> {
    base.join_path(path).map_err(|e| Failure::new("path-too-deep", format!("{path}: {e}")))
}

/// Makes the name `path`, and the directories that hold it, durable.
fn sync_ancestors(tree: &dyn Tree, path: &RelPath) -> std::io::Result<()> {
    let mut dir = path.parent();
    while let Some(path) = dir {
        tree.sync_dir(&path)?;
        dir = path.parent();
    }
    Ok(())
}

/// Whether a staged file is still the one that the journal speaks of.
fn same_inode(tree: &dyn Tree, path: &RelPath, inode: &Inode) -> bool {
    tree.meta(path)
        .is_ok_and(|meta| meta.kind == storage::Kind::File && Inode::from(&meta) == *inode)
}

#[cfg(test)]
mod tests;
