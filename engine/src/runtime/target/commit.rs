//! Commits: data, sync, journal, in this order, and the index beside them. And the manifest of what
//! is settled.

use std::io;
use std::sync::Arc;

use super::{Origin, Part, TargetStore};
use crate::base::{Digest, Seq};
use crate::index::FileChunks;
use crate::journal::{Inode, Record, done_records};
use crate::manifest::{ChunkRef, LIST_CHUNKS_MAX};
use crate::metrics::Stage;
use crate::protocol::{CommitJob, CommitObject, Failure, SettledObject};
use crate::runtime::effort::Effort;
use crate::runtime::{Trouble, fatal, is_own, trouble};
use crate::storage::{File, lacks_descriptors};

/// Up to this many files are synced one by one; more are synced with their file system.
const SYNC_EACH_MAX: usize = 8;

/// An answer for each object of a commit.
type Committed = Vec<(Seq, u32, Result<(), Failure>)>;

impl TargetStore {
    /// Makes the job's objects durable. An error means that nothing more can become durable.
    pub fn commit(&self, job: &CommitJob) -> Result<Committed, Failure> {
        let _syncing = Effort::work(&self.stages, Stage::Sync);
        let mut outcome: Committed = Vec::with_capacity(job.objects.len());
        let mut files = Vec::new();
        for object in &job.objects {
            let result = match self.finish(object) {
                Ok(file) => {
                    files.extend(file);
                    Ok(())
                }
                Err(Trouble::Node(failure)) => return Err(failure),
                Err(Trouble::Object(failure)) => Err(failure),
            };
            outcome.push((object.seq, object.round, result));
        }
        if self.options.planted.journal_before_sync {
            self.write_journal(job, &outcome)?;
            self.sync(&files, job, &mut outcome)?;
        } else {
            self.sync(&files, job, &mut outcome)?;
            self.write_journal(job, &outcome)?;
        }
        for (object, (_, _, result)) in job.objects.iter().zip(&outcome) {
            if object.finish.is_some() && result.is_ok() {
                let mut inner = self.inner();
                inner.staged.remove(&object.seq);
                inner.finished += 1;
            }
        }
        Ok(outcome)
    }

    /// Sets length, mode and times of an object that is complete; returns the file if it is open.
    fn finish(&self, object: &CommitObject) -> Result<Option<Arc<dyn File>>, Trouble> {
        let (seq, round, entry) = (object.seq, object.round, &object.entry);
        let failure = |detail: &str| {
            let detail = format!("cannot make {} durable: {detail}", entry.path);
            Trouble::Object(Failure::new("sync-failed", detail))
        };
        let state = self
            .inner()
            .staged
            .get(&seq)
            .filter(|s| s.round == round)
            .map(|s| (s.lost, s.finished.is_some()));
        match state {
            // The machine drops this answer.
            None => return Err(failure("it was started over")),
            Some((true, _)) => return Err(failure("an earlier sync failed")),
            Some((false, true)) => return Ok(None),
            Some((false, false)) => {}
        }
        let Some((file, _)) = self.staged_file(seq, round)? else { return Ok(None) };
        if object.finish.is_none() {
            return Ok(Some(file));
        }
        let failed = |e: io::Error| trouble("finish", &entry.path, &e);
        file.set_len(entry.len()).map_err(failed)?;
        self.label_file(&*file).map_err(failed)?;
        file.set_meta(entry.mode, entry.mtime).map_err(failed)?;
        let inode = Inode::from(&file.meta().map_err(failed)?);
        self.close(seq, &file, inode);
        Ok(Some(file))
    }

    /// Makes data and names durable. What a failed sync covered is not, whatever a later one says.
    fn sync(
        &self,
        files: &[Arc<dyn File>],
        job: &CommitJob,
        outcome: &mut Committed,
    ) -> Result<(), Failure> {
        let dirs = std::mem::take(&mut self.inner().dirty_dirs);
        let planted = self.options.planted;
        let whole = files.len() < job.objects.len() || files.len() > SYNC_EACH_MAX;
        let synced = if planted.no_dir_sync {
            files.iter().try_for_each(|file| file.sync())
        } else if whole {
            self.tree.sync_all()
        } else {
            let mut all = dirs.clone();
            for dir in &dirs {
                let mut parent = dir.parent();
                while let Some(path) = parent.filter(|p| p.strip(&self.layout.staging).is_some()) {
                    parent = path.parent();
                    all.insert(path);
                }
            }
            files
                .iter()
                .try_for_each(|file| file.sync())
                .and_then(|()| all.iter().try_for_each(|dir| self.tree.sync_dir(dir)))
        };
        if let Err(error) = synced {
            if lacks_descriptors(&error) {
                return Err(fatal("make durable", &self.layout.staging, &error));
            }
            self.inner().dirty_dirs.extend(dirs);
            if whole {
                // It covered also what was placed since the commit was asked for, and the system
                // tells of it only once.
                self.lose_all();
            }
            for (object, (_, _, result)) in job.objects.iter().zip(outcome) {
                if result.is_ok() {
                    let detail = format!("cannot make {} durable: {error}", object.entry.path);
                    *result = Err(Failure::new("sync-failed", detail));
                }
            }
        }
        Ok(())
    }

    fn write_journal(&self, job: &CommitJob, outcome: &Committed) -> Result<(), Failure> {
        let mut records = Vec::new();
        for (object, (_, _, result)) in job.objects.iter().zip(outcome) {
            if result.is_err() {
                continue;
            }
            let CommitObject { seq, entry, chunks, finish, .. } = object;
            match finish {
                None => {
                    for part in chunks.chunks(LIST_CHUNKS_MAX) {
                        records.push(Record::Chunks {
                            path: entry.path.clone(),
                            stamp: entry.stamp(),
                            chunks: part.to_vec(),
                        });
                    }
                }
                Some((content, list)) => {
                    let inode = self.inner().staged.get(seq).and_then(|s| s.finished);
                    let Some(inode) = inode else { continue };
                    records.extend(done_records(entry, *content, inode, list));
                }
            }
        }
        let mut ledger = self.ledger();
        let Some(journal) = ledger.journal.as_mut() else { return Ok(()) };
        match journal.append(&records) {
            Ok(_) => Ok(()),
            Err(error) => {
                let failure = super::journal_failure(&error);
                if failure.code != "no-space" {
                    // After a failed sync the file may show records that the medium lost: it is
                    // never read again, and the next run begins a new one.
                    let _ = self.tree.unlink(&self.layout.journal);
                }
                Err(failure)
            }
        }
    }

    /// Adds a job's chunks to the index, before, after or while it becomes durable: the index is a
    /// cache, and whoever finds a chunk there verifies it. What it cannot take is not found again.
    pub fn add_to_index(&self, job: &CommitJob) {
        let Some(base) = self.base else { return };
        let lists: Vec<_> = job
            .objects
            .iter()
            .map(|object| {
                // A finished object's list also has what an earlier run made durable: an index
                // that did not outlive that run learns of it here.
                let chunks = object.finish.as_ref().map_or(&object.chunks, |(_, list)| &**list);
                (&object.entry.path, index_chunks(chunks))
            })
            .collect();
        let files: Vec<FileChunks<'_>> = lists
            .iter()
            .filter(|(_, chunks)| !chunks.is_empty())
            .map(|(path, chunks)| FileChunks { path: (*path).clone(), chunks })
            .collect();
        let _ = self.index.insert(base, &files);
    }

    /// Appends settled objects to the manifest, in order.
    pub fn settle(&self, objects: &[SettledObject]) -> Result<(), Failure> {
        let last = objects.last().map(|last| last.seq);
        self.bases.iter().zip(last).for_each(|(bases, last)| bases.settled(last));
        let origins: Vec<_> = {
            let mut inner = self.inner();
            inner.settled += objects.iter().filter(|settled| settled.list.is_some()).count() as u64;
            objects.iter().map(|settled| inner.origins.remove(&settled.seq)).collect()
        };
        let place = self.options.part.as_ref().map_or(&self.target, Part::path);
        for (settled, origin) in objects.iter().zip(origins) {
            let path = super::below(place, &settled.entry.path)?;
            if is_own(&path) {
                // Without its manifest nothing is published, whatever is queued behind this.
                self.ledger().manifest = None;
                let detail = format!("{path} is portway's own");
                return Err(Failure::new("unsafe-path", detail));
            }
            let failed = |e| fatal("write", &self.layout.manifest, &e);
            let chunks = match (&settled.list, origin) {
                (Some(list), _) => Arc::clone(list),
                (None, Some(Origin::Records(records))) => {
                    let mut ledger = self.ledger();
                    let Some(manifest) = ledger.manifest.as_mut() else { return Ok(()) };
                    manifest.push_records(&records).map_err(failed)?;
                    continue;
                }
                (None, Some(Origin::Old(chunks))) => Arc::new(chunks),
                (None, Some(Origin::Journal(position))) => {
                    let ledger = self.ledger();
                    let done = ledger.journal.as_ref().map(|journal| journal.done(position));
                    match done {
                        Some(Ok(done)) => {
                            drop(ledger);
                            self.index_again(settled, &done.chunks);
                            Arc::new(done.chunks)
                        }
                        Some(Err(error)) => return Err(super::journal_failure(&error)),
                        None => Arc::default(),
                    }
                }
                (None, None) => Arc::default(),
            };
            let mut ledger = self.ledger();
            let Some(manifest) = ledger.manifest.as_mut() else { return Ok(()) };
            manifest.push(&settled.entry, settled.object, &chunks).map_err(failed)?;
        }
        Ok(())
    }

    /// The run that finished the object may have lost its index entries.
    fn index_again(&self, settled: &SettledObject, chunks: &[ChunkRef]) {
        if let Some(base) = self.base {
            let path = settled.entry.path.clone();
            let files = [FileChunks { path, chunks: &index_chunks(chunks) }];
            let _ = self.index.insert(base, &files);
        }
    }
}

/// A chunk list as the index takes it: digest, offset and length of each chunk.
pub(super) type IndexList = Vec<(Digest, u64, u32)>;

/// A chunk list as the index takes it.
pub(super) fn index_chunks(chunks: &[ChunkRef]) -> IndexList {
    chunks.iter().map(|c| (c.digest, c.offset, c.len)).collect()
}
