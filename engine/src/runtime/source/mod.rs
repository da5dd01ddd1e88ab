//! The source's files: scanning, reading, cutting and digesting, each byte once.

mod basis;
mod guard;
mod labels;
mod object;
mod root;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::{Trouble, trouble};
use crate::base::{RelPath, Seq};
use crate::border::Way;
use crate::manifest::{Entry, EntryKind, stamp_of};
use crate::metrics::{Stage, Stages};
use crate::protocol::{Changed, Failure, ReadDone, ReadJob};
use crate::runtime::effort::Effort;
use crate::storage::{Kind, Meta, Tree};
use crate::wire::Piece;

pub use basis::Difference;
pub(super) use basis::read as read_basis;
pub use root::{Above, Around, SourceRoot};

use basis::Bases;
use object::ObjectReader;
use scan::Scan;

/// Something about an entry that is not moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Its path, escaped.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Entries in canonical order.
    pub entries: Vec<Entry>,
    /// How many were left out.
    pub skipped: u64,
    /// There are no more.
    pub done: bool,
}

/// Entries that are not moved, and why; the lists are capped, the counts are not.
#[derive(Debug, Clone, Default)]
pub struct Remarks {
    /// Left out: not regular files, links that leave the tree, other file systems.
    pub skipped: Vec<Remark>,
    /// How many were left out.
    pub skipped_total: u64,
    /// Could not be scanned.
    pub failed: Vec<Remark>,
    /// How many could not be scanned.
    pub failed_total: u64,
}

/// The source's files of one transfer. Calls block; several may run at once.
pub struct SourceFiles {
    roots: Vec<SourceRoot>,
    whole: bool,
    scan: Mutex<Scan>,
    readers: Mutex<HashMap<(Seq, u32), ObjectReader>>,
    /// Files that were read at least partly.
    needed: AtomicU64,
    /// What is told of the labels of files that are read.
    way: OnceLock<Arc<Way>>,
    bases: Bases,
    stages: Arc<Stages>,
}

impl SourceFiles {
    /// Files of these sources; their places must differ and not contain one another.
    pub fn new(mut roots: Vec<SourceRoot>) -> Self {
        roots.sort_by(|a, b| a.place.cmp(&b.place));
        let scan = Scan::new(&roots);
        let (scan, readers, needed) = (Mutex::new(scan), Mutex::default(), AtomicU64::new(0));
        let (way, bases, stages) = (OnceLock::new(), Bases::default(), Arc::default());
        Self { roots, whole: false, scan, readers, needed, way, bases, stages }
    }

    /// The same, to be published all or nothing: what cannot be scanned ends the transfer.
    pub fn publish_whole(mut self, whole: bool) -> Self {
        self.whole = whole;
        self
    }

    /// Whether they are to be published all or nothing.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    fn scan_state(&self) -> MutexGuard<'_, Scan> {
        self.scan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was not moved so far, and why.
    pub fn remarks(&self) -> Remarks {
        self.scan_state().remarks.clone()
    }

    /// How many files had to be read, wholly or in part.
    pub fn needed(&self) -> u64 {
        self.needed.load(Relaxed)
    }

    /// Where the time of reading and digesting goes.
    pub fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }

    /// How many entries were left out so far.
    pub fn skipped_total(&self) -> u64 {
        self.scan_state().remarks.skipped_total
    }

    /// The next entries, at most `max`.
    pub fn scan(&self, max: usize) -> Result<Scanned, Failure> {
        self.may_go_on()?;
        let mut scan = self.scan_state();
        let before = scan.remarks.skipped_total;
        let mut found = Scanned::default();
        while found.entries.len() < max {
            match scan.next() {
                Some(Ok(entry)) => {
                    self.may_be_told(&entry)?;
                    found.entries.push(entry);
                }
                Some(Err(failure)) => return Err(failure),
                None => {
                    found.done = true;
                    break;
                }
            }
        }
        if let Some(first) = scan.remarks.failed.first().filter(|_| self.whole) {
            return Err(Failure::incomplete(&first.path, &first.reason));
        }
        found.skipped = scan.remarks.skipped_total - before;
        Ok(found)
    }

    /// Where an entry of the snapshot is read from.
    fn locate(&self, path: &RelPath) -> Option<(&Arc<dyn Tree>, RelPath)> {
        self.root_of(path).map(|(root, path)| (&root.tree, path))
    }

    /// The source that an entry of the snapshot belongs to, and its path in that tree.
    fn root_of(&self, path: &RelPath) -> Option<(&SourceRoot, RelPath)> {
        self.roots.iter().find_map(|root| {
            let below = path.strip(&root.place)?;
            Some((root, root.path.join_path(&below).ok()?))
        })
    }

    /// Does a job: fills `lease` with the pieces' bytes, back to back.
    pub fn read(&self, run: u64, job: &ReadJob, lease: &mut [u8]) -> ReadDone {
        let mut done = ReadDone { run, ..ReadDone::default() };
        let objects = job.objects();
        if let Err(failure) = self.may_go_on() {
            done.failed.extend(objects.first().map(|(seq, _)| (*seq, failure)));
            return done;
        }
        let mut effort = Effort::work(&self.stages, Stage::Read);
        match job {
            ReadJob::Pack(files) => {
                let mut at = 0;
                for (seq, round, entry) in files {
                    let room = lease.get_mut(at..).unwrap_or_default();
                    at += self.read_whole((*seq, *round), entry, room, &mut done, &mut effort);
                }
            }
            ReadJob::Next(seq, round, entry) => {
                self.read_next((*seq, *round), entry, lease, &mut done, &mut effort);
            }
        }
        if let Err(failure) = self.may_leave(objects.iter().map(|(_, entry)| &entry.path)) {
            let failed = objects.iter().map(|(seq, ..)| (*seq, failure.clone())).collect();
            return ReadDone { run, failed, ..ReadDone::default() };
        }
        done
    }

    fn open(&self, entry: &Entry) -> Result<ObjectReader, ReadTrouble> {
        let Some((tree, path)) = self.locate(&entry.path) else {
            let detail = format!("{} is in no source", entry.path);
            return Err(ReadTrouble::Failed(Failure::new("vanished", detail)));
        };
        self.needed.fetch_add(1, Relaxed);
        let file = self
            .open_to_send(&entry.path, (&**tree, &path))
            .map_err(|error| ReadTrouble::of("open", &entry.path, &error))?
            .map_err(ReadTrouble::Failed)?;
        ObjectReader::open(file, entry)
    }

    /// Reads a small file to its end; returns the bytes that it takes in the lease. A file that
    /// changes meanwhile leaves nothing behind.
    fn read_whole(
        &self,
        (seq, round): (Seq, u32),
        entry: &Entry,
        lease: &mut [u8],
        done: &mut ReadDone,
        effort: &mut Effort<'_>,
    ) -> usize {
        let before = done.pieces.len();
        let mut at = 0;
        effort.turn(Stage::Read);
        let result = self.open(entry).and_then(|mut reader| {
            loop {
                let room = lease.get_mut(at..).unwrap_or_default();
                let read = reader.next((seq, round), room, &mut done.pieces, effort)?;
                at += read.bytes;
                if let Some(end) = read.end {
                    return Ok(end);
                }
                if read.bytes == 0 {
                    // Larger than announced.
                    return Err(reader.changed());
                }
            }
        });
        match result {
            Ok(object) => {
                done.ends.push(crate::wire::End { seq, round, object });
                at
            }
            Err(error) => {
                done.pieces.truncate(before);
                self.note(seq, round, entry, error, done);
                0
            }
        }
    }

    fn read_next(
        &self,
        (seq, round): (Seq, u32),
        entry: &Entry,
        lease: &mut [u8],
        done: &mut ReadDone,
        effort: &mut Effort<'_>,
    ) {
        let kept = self.lock_readers().remove(&(seq, round));
        let again = |reader: ObjectReader| {
            let may = self.may_be_sent(&entry.path, reader.file());
            may.map_err(|e| ReadTrouble::of("look at", &entry.path, &e))?
                .map_err(ReadTrouble::Failed)?;
            Ok(reader)
        };
        let mut reader = match kept.map_or_else(|| self.open(entry), again) {
            Ok(reader) => reader,
            Err(error) => return self.note(seq, round, entry, error, done),
        };
        match reader.next((seq, round), lease, &mut done.pieces, effort) {
            Ok(read) => match read.end {
                Some(object) => done.ends.push(crate::wire::End { seq, round, object }),
                None => {
                    done.more = Some((seq, round));
                    self.lock_readers().insert((seq, round), reader);
                }
            },
            Err(error) => {
                done.pieces.clear();
                self.note(seq, round, entry, error, done);
            }
        }
    }

    fn note(&self, seq: Seq, round: u32, entry: &Entry, error: ReadTrouble, done: &mut ReadDone) {
        match error {
            ReadTrouble::Failed(failure) => done.failed.push((seq, failure)),
            ReadTrouble::Changed => match self.entry_now(entry) {
                Ok(entry) => done.changed.push(Changed { seq, round, entry }),
                Err(failure) => done.failed.push((seq, failure)),
            },
        }
    }

    /// What an announced file is now.
    fn entry_now(&self, entry: &Entry) -> Result<Entry, Failure> {
        let gone = || Failure::new("vanished", format!("{} is no longer there", entry.path));
        let (tree, path) = self.locate(&entry.path).ok_or_else(gone)?;
        match tree.meta(&path) {
            Ok(meta) if meta.kind == Kind::File => Ok(entry_of(entry.path.clone(), &meta, None)),
            Ok(_) => Err(Failure::new("source-changed", "it is no longer a file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(gone()),
            Err(error) => Err(super::fatal("look at", &entry.path, &error)),
        }
    }

    /// Reads pieces of one object anew into `buffer`, back to back, and checks their digests.
    /// `Err` holds what became of the object instead.
    pub fn read_again(
        &self,
        pieces: &[Piece],
        entry: &Entry,
        buffer: &mut [u8],
    ) -> Result<usize, Result<Changed, (Seq, Failure)>> {
        let Some(first) = pieces.first() else { return Ok(0) };
        let changed = || match self.entry_now(entry) {
            Ok(entry) => Err(Ok(Changed { seq: first.seq, round: first.round, entry })),
            Err(failure) => Err(Err((first.seq, failure))),
        };
        let Some((tree, path)) = self.locate(&entry.path) else { return changed() };
        let file = match self.open_to_send(&entry.path, (&**tree, &path)) {
            Ok(Ok(file)) => file,
            Ok(Err(denied)) => return Err(Err((first.seq, denied))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return changed(),
            Err(error) => return Err(Err((first.seq, super::fatal("open", &entry.path, &error)))),
        };
        let mut at = 0;
        for piece in pieces {
            let end = at + piece.len as usize;
            let Some(room) = buffer.get_mut(at..end) else { return Ok(at) };
            match file.read_at(room, piece.offset) {
                Err(error) => {
                    let failure = super::fatal("read", &entry.path, &error);
                    return Err(Err((first.seq, failure)));
                }
                Ok(read) => {
                    let right =
                        read == room.len() && *blake3::hash(room).as_bytes() == piece.digest.0;
                    if !right {
                        return changed();
                    }
                }
            }
            at = end;
        }
        let may_leave = self.may_leave(std::iter::once(&entry.path));
        may_leave.map_err(|failure| Err((first.seq, failure)))?;
        Ok(at)
    }

    /// The reading of an object is over.
    pub fn close(&self, seq: Seq, round: u32) {
        self.lock_readers().remove(&(seq, round));
    }

    fn lock_readers(&self) -> MutexGuard<'_, HashMap<(Seq, u32), ObjectReader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a read did not give what was announced.
enum ReadTrouble {
    Changed,
    Failed(Failure),
}

impl ReadTrouble {
    fn of(doing: &str, path: &RelPath, error: &io::Error) -> Self {
        match trouble(doing, path, error) {
            Trouble::Object(failure) | Trouble::Node(failure) => Self::Failed(failure),
        }
    }
}

fn entry_of(path: RelPath, meta: &Meta, link: Option<Vec<u8>>) -> Entry {
    let kind = match (meta.kind, link) {
        (_, Some(text)) => EntryKind::Symlink(text),
        (Kind::Dir, _) => EntryKind::Dir,
        _ => EntryKind::File {
            len: meta.len,
            stamp: stamp_of(meta.dev, meta.ino, meta.len, meta.mtime, meta.ctime),
        },
    };
    // Set-user-id, set-group-id and sticky bits never travel.
    Entry { path, kind, mode: meta.mode & 0o777, mtime: meta.mtime }
}
