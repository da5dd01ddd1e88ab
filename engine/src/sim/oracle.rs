//! What must hold, whatever happens.

use std::collections::BTreeMap;

use super::workload::{Version, content, look, walk};
use super::world::{Check, Outcome, World};
use crate::base::limits::LEASE_BYTES;
use crate::base::{Digest, Extent, FileTime, RelPath, Seq};
use crate::chunk::{Cuts, Cutter};
use crate::journal::{DoneObject, Inode, Journal};
use crate::manifest::{ChunkRef, Entry, EntryKind, ListHasher, RootHasher, stamp_of};
use crate::protocol::{CommitJob, Failure};
use crate::runtime::manifest_file::{Listed, ManifestEnd, ManifestReader};
use crate::runtime::target::Layout;
use crate::storage::{Kind, MemoryTree, Tree};
use crate::wire::Published;

fn io(doing: &str) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("cannot {doing}: {error}")
}

impl World {
    /// Everything that can be seen at the target path is a whole object that the source once had.
    pub(super) fn check_visible(&mut self) -> Check {
        let to = self.transfer.to.clone();
        if self.tree.meta(&to).is_err() {
            return Ok(());
        }
        let mut count = 0;
        for (path, kind) in walk(&self.tree, &to).map_err(io("walk the target"))? {
            count += 1;
            let Some(below) = path.strip(&to) else { continue };
            if kind == Kind::Dir {
                continue;
            }
            let version = self.version_at(&path)?;
            if !self.work.versions.has(&below, &version) {
                return Err(format!(
                    "{path} is visible and was never so at the source: {version:?}"
                ));
            }
        }
        if self.transfer.fresh {
            match self.transfer.entries {
                // Later sessions may add to it.
                Some(entries) if entries == count => self.transfer.fresh = false,
                entries => {
                    return Err(format!(
                        "{count} entries of a new snapshot are visible, not {entries:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn version_at(&mut self, path: &RelPath) -> Check<Version> {
        let meta = self.tree.meta(path).map_err(io("look"))?;
        let key = (meta.ino, meta.ctime);
        if let Some(known) = self.seen.get(&key) {
            return Ok(known.clone());
        }
        let version = look(&self.tree, path).map_err(io("look"))?;
        self.seen.insert(key, version.clone());
        Ok(version)
    }

    /// What a commit made durable, the journal has, and the other way round.
    pub(super) fn committed(
        &mut self,
        job: &CommitJob,
        done: &[(Seq, u32, Result<(), Failure>)],
    ) -> Check {
        if self.is_dead() {
            return Ok(());
        }
        let layout = Layout::of(&self.transfer.to);
        let replayed =
            Journal::replay(&self.tree, &layout.journal).map_err(|e| format!("replay: {e}"))?;
        let Some((journal, mut replay)) = replayed else {
            return Err("there is no journal".to_owned());
        };
        for (object, (seq, _, result)) in job.objects.iter().zip(done) {
            if object.seq != *seq {
                return Err("a commit answers out of order".to_owned());
            }
            let path = &object.entry.path;
            match (&object.finish, result) {
                (Some((content, list)), Ok(())) => {
                    let found = replay.done_at(path).map(|at| journal.done(at));
                    let same = matches!(&found, Some(Ok(found)) if found.entry == object.entry
                        && found.object == *content && found.chunks == **list);
                    if !same {
                        return Err(format!("the journal does not have {path}, which is finished"));
                    }
                    self.transfer.acked.insert(path.clone(), (object.entry.clone(), *content));
                }
                (None, Ok(())) => {
                    let partial = replay.take_partial(path, object.entry.stamp());
                    let has = |c: &ChunkRef| {
                        partial
                            .as_ref()
                            .is_some_and(|p| p.chunks.get(&c.offset) == Some(&(c.len, c.digest)))
                    };
                    if !object.chunks.iter().all(has) {
                        return Err(format!("the journal does not have the chunks of {path}"));
                    }
                }
                (_, Err(_)) => {}
            }
        }
        Ok(())
    }

    /// After a death: what the journal calls finished, and the source still has so, is there.
    pub(super) fn check_journal(&mut self) -> Check {
        if self.disks_failed() {
            // An object may have failed alone later, and then its file goes.
            return Ok(());
        }
        let layout = Layout::of(&self.transfer.to);
        let replayed = Journal::replay(&self.tree, &layout.journal).map_err(|e| e.to_string())?;
        let Some((journal, replay)) = replayed else { return Ok(()) };
        if replay.publishing.is_some() {
            return Ok(());
        }
        for (path, kind) in self.work.listing().map_err(io("list the source"))? {
            let Some(placed) = self.work.placed(&path).filter(|_| kind == Kind::File) else {
                continue;
            };
            let Some(Ok(done)) = replay.done_at(&placed).map(|at| journal.done(at)) else {
                continue;
            };
            let now = self.work.tree.meta(&path).map_err(io("look"))?;
            let stamp = stamp_of(now.dev, now.ino, now.len, now.mtime, now.ctime);
            if done.entry.path == placed && done.entry.stamp() == stamp {
                self.check_finished(&layout, &done)?;
            }
        }
        Ok(())
    }

    fn check_finished(&self, layout: &Layout, done: &DoneObject) -> Check {
        let path = layout.tree.join_path(&done.entry.path).map_err(|e| e.to_string())?;
        let same = self.tree.meta(&path).is_ok_and(|meta| Inode::from(&meta) == done.inode);
        let bytes = if same { content(&self.tree, &path).map_err(io("read"))? } else { Vec::new() };
        let durable = |chunk: &ChunkRef| {
            let part = bytes.get(chunk.offset as usize..chunk.end() as usize);
            part.is_some_and(|part| Digest::of(part) == chunk.digest)
        };
        if same && done.chunks.iter().all(durable) {
            return Ok(());
        }
        Err(format!("the journal has {} as finished, and it is not durable", done.entry.path))
    }

    /// After a transfer: what was published is what its manifest says, and the numbers add up.
    pub(super) fn check_published(&mut self, outcome: &Outcome) -> Check {
        let Outcome::Published(published, _) = outcome else { return Ok(()) };
        self.seen.clear();
        self.check_visible()?;
        let (listed, end) = self.manifest()?;
        let Published { root, numbers } = published;
        if end.root != *root {
            return Err("the manifest has another root".to_owned());
        }
        let (mut files, mut bytes) = (0, 0);
        for listed in &listed {
            if listed.entry.is_file() {
                files += 1;
                bytes += listed.entry.len();
            }
            self.check_listed(listed)?;
        }
        if numbers.files != files || numbers.sent + numbers.deduplicated + numbers.resumed != bytes
        {
            return Err(format!("{files} files of {bytes} bytes do not add up to {numbers:?}"));
        }
        self.check_resent()
    }

    /// An interruption costs no more than was under way.
    fn check_resent(&mut self) -> Check {
        let faults = self.transfer.faults;
        if faults.changes || faults.disk || faults.corruption || faults.rot {
            return Ok(());
        }
        let bytes = self.work.bytes().map_err(io("measure the source"))?;
        let (sent, lost) = (self.transfer.sent, self.transfer.lost);
        if sent > bytes + lost {
            return Err(format!("{sent} bytes were sent for {bytes}, with {lost} lost on the way"));
        }
        Ok(())
    }

    fn manifest(&self) -> Check<(Vec<Listed>, ManifestEnd)> {
        let path = Layout::of(&self.transfer.to).published;
        let opened = ManifestReader::open(&self.tree, &path).map_err(io("open the manifest"))?;
        let Some(mut reader) = opened else { return Err("no manifest is published".to_owned()) };
        let mut all = Vec::new();
        while let Some(listed) = reader.read().map_err(io("read the manifest"))? {
            all.push(listed);
        }
        let end = reader.end().ok_or("the manifest has no end")?;
        Ok((all, end))
    }

    fn check_listed(&self, listed: &Listed) -> Check {
        let Listed { entry, object, chunks } = listed;
        let path = self.transfer.to.join_path(&entry.path).map_err(|e| e.to_string())?;
        let meta = self.tree.meta(&path).map_err(|e| format!("{path} is published: {e}"))?;
        let wrong = |what: &str| Err(format!("{what} of {path} is not what its manifest says"));
        if meta.mtime != entry.mtime {
            return wrong("the time");
        }
        match &entry.kind {
            EntryKind::Symlink(text) => {
                let there = self.tree.read_link(&path).map_err(io("read a link"))?;
                return if there == *text { Ok(()) } else { wrong("the text") };
            }
            EntryKind::Dir if meta.kind != Kind::Dir => return wrong("the kind"),
            EntryKind::Dir | EntryKind::File { .. } if meta.mode != entry.mode => {
                return wrong("the mode");
            }
            EntryKind::Dir => return Ok(()),
            EntryKind::File { .. } => {}
        }
        let bytes = content(&self.tree, &path).map_err(io("read"))?;
        let mut list = ListHasher::default();
        let mut end = 0;
        for chunk in chunks {
            let hole = bytes.get(end..chunk.offset as usize);
            end = chunk.end() as usize;
            let part = bytes.get(chunk.offset as usize..end);
            let right = hole.is_some_and(|hole| hole.iter().all(|byte| *byte == 0))
                && part.is_some_and(|part| Digest::of(part) == chunk.digest)
                && list.push(chunk);
            if !right {
                return wrong("a chunk");
            }
        }
        let rest = bytes.get(end..).unwrap_or_default();
        let whole = rest.iter().all(|byte| *byte == 0)
            && bytes.len() as u64 == entry.len()
            && object.is_some_and(|o| o.digest == list.finish(entry.len()));
        if whole { Ok(()) } else { wrong("the content") }
    }

    /// While nothing changes at the source: the target has all of it, under the root that follows
    /// from it.
    pub(super) fn check_same(&mut self, outcome: &Outcome) -> Check {
        let Outcome::Published(published, 0) = outcome else {
            return Err(format!("a transfer without faults ends with {outcome:?}"));
        };
        let to = self.transfer.to.clone();
        let mut root = RootHasher::default();
        let mut expected = BTreeMap::new();
        for (path, _) in self.work.listing().map_err(io("list the source"))? {
            let Some(placed) = self.work.placed(&path) else { continue };
            expected.insert(placed, path);
        }
        if self.work.roots.iter().all(|(_, place)| !place.is_root()) {
            // Several sources have a top of their own, as new as the newest of them.
            let mut mtime = FileTime::default();
            for (path, _) in &self.work.roots {
                mtime = mtime.max(self.work.tree.meta(path).map_err(io("look"))?.mtime);
            }
            let (path, kind) = (RelPath::root(), EntryKind::Dir);
            root.push(&Entry { path, kind, mode: 0o755, mtime }, None);
        }
        for (placed, path) in expected {
            let meta = self.work.tree.meta(&path).map_err(io("look"))?;
            let kind = match meta.kind {
                Kind::Symlink => {
                    EntryKind::Symlink(self.work.tree.read_link(&path).map_err(io("read a link"))?)
                }
                Kind::Dir => EntryKind::Dir,
                _ => {
                    let stamp = stamp_of(meta.dev, meta.ino, meta.len, meta.mtime, meta.ctime);
                    EntryKind::File { len: meta.len, stamp }
                }
            };
            let entry = Entry { path: placed, kind, mode: meta.mode & 0o777, mtime: meta.mtime };
            let at = to.join_path(&entry.path).map_err(|e| e.to_string())?;
            let mut digest = None;
            if entry.is_file() {
                let there =
                    content(&self.tree, &at).map_err(|e| format!("{at} is missing: {e}"))?;
                let here = content(&self.work.tree, &path).map_err(io("read"))?;
                if there != here {
                    return Err(format!("{at} has another content than the source"));
                }
                digest = Some(object_digest(&self.work.tree, &path, &here)?);
            }
            let there = self.tree.meta(&at).map_err(|e| format!("{at} is missing: {e}"))?;
            if there.mtime != meta.mtime
                || (meta.kind != Kind::Symlink && there.mode != entry.mode)
                || there.kind != meta.kind
            {
                return Err(format!("{at} has other attributes than the source"));
            }
            root.push(&entry, digest);
        }
        if root.finish() != published.root {
            return Err("the root is not the one that follows from the source".to_owned());
        }
        Ok(())
    }

    /// Times of all that is visible: unchanged if nothing was touched.
    pub(super) fn touched(&self) -> Check<Vec<(RelPath, crate::base::FileTime)>> {
        let all = walk(&self.tree, &self.transfer.to).map_err(io("walk the target"))?;
        let time = |path: RelPath| {
            let meta = self.tree.meta(&path).map_err(io("look"))?;
            Ok((path, meta.ctime))
        };
        all.into_iter().map(|(path, _)| time(path)).collect()
    }
}

/// The digest of an object, cut in one go.
fn object_digest(tree: &MemoryTree, path: &RelPath, bytes: &[u8]) -> Check<Digest> {
    let len = bytes.len() as u64;
    let file = tree.open(path).map_err(io("open"))?;
    let meta = file.meta().map_err(io("look"))?;
    let mut extents = Vec::new();
    if meta.allocated < len {
        let mut at = 0;
        while let Some(extent) = file.next_data(at).map_err(io("seek"))? {
            at = extent.offset + extent.len;
            extents.push(extent);
        }
    } else {
        extents.push(Extent { offset: 0, len });
    }
    let mut list = ListHasher::default();
    let mut cuts: Option<Cuts> = None;
    for Extent { offset, len: extent_len } in extents {
        let end = (offset + extent_len) as usize;
        let mut at = offset as usize;
        while at < end {
            let rest = &bytes[at..end];
            let cuts = cuts.get_or_insert_with(|| {
                let head = if at == 0 { &rest[..rest.len().min(LEASE_BYTES)] } else { &[] };
                let name = path.name().unwrap_or_default();
                Cuts::new(Cutter::choose(name, len, head), len)
            });
            let cut = cuts.next(at as u64, rest, true).ok_or("the cutter stands still")?;
            let digest = Digest::of(&rest[..cut]);
            if !list.push(&ChunkRef { offset: at as u64, len: cut as u32, digest }) {
                return Err("the cutter overlaps".to_owned());
            }
            at += cut;
        }
    }
    Ok(list.finish(len))
}
