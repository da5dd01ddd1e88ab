//! What is durable in a staging area: an append-only file of checksummed records.
//!
//! A record is appended only after the bytes that it speaks of were synced. A torn or damaged tail
//! is cut off when the journal is taken up. The journal is trusted as far as it can be checked:
//! chunks of unfinished objects are read and verified before they count, finished objects must
//! still be the same inode with the same times. `docs/journal.md` argues the failure cases.

mod codec;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use crate::base::{Digest, FileTime, RelPath, Stamp, TransferId};
use crate::manifest::record::{self, MAGIC_BYTES};
use crate::manifest::{ChunkRef, DecodeError, Entry, LIST_CHUNKS_MAX, Object};
use crate::storage::records::RecordReader;
use crate::storage::{File, Meta, Tree};

pub use codec::Record;

const MAGIC: &[u8; MAGIC_BYTES] = b"PWJRNL01";
/// Bytes that replay reads at a time.
const REPLAY_BYTES: usize = 1 << 20;

/// What a journal belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The transfer's name.
    pub transfer_id: TransferId,
    /// Where it will be published.
    pub target: RelPath,
    /// The node that sends it; stamps mean something only from there.
    pub source: String,
}

/// How a staged file looked when it was finished; a change since then shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// Inode number.
    pub ino: u64,
    /// Time of the last inode change.
    pub ctime: FileTime,
    /// Length in bytes.
    pub len: u64,
}

impl From<&Meta> for Inode {
    fn from(meta: &Meta) -> Self {
        Self { ino: meta.ino, ctime: meta.ctime, len: meta.len }
    }
}

/// A finished object as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoneObject {
    /// What it is.
    pub entry: Entry,
    /// Its content.
    pub object: Object,
    /// The staged file.
    pub inode: Inode,
    /// Its chunk list.
    pub chunks: Vec<ChunkRef>,
}

/// Chunks of an unfinished object that were durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// The source's stamp when they were read.
    pub stamp: Stamp,
    /// Offset to length and digest.
    pub chunks: HashMap<u64, (u32, Digest)>,
}

/// What replay found.
pub struct Replay {
    /// Whose journal it is.
    pub head: Head,
    /// The snapshot was complete and being made visible: roll forward.
    pub publishing: Option<(Digest, u64)>,
    /// Bytes of a torn or damaged tail, which is cut off when the journal is opened to write.
    pub cut_bytes: u64,
    hasher: RandomState,
    /// Keyed hash of the path to the position of the record. A record is read and compared before
    /// it counts, so a collision costs a miss.
    done: HashMap<u64, u64>,
    partial: HashMap<u64, Partial>,
}

impl Replay {
    /// A replay of nothing.
    pub fn nothing(head: Head) -> Self {
        Self {
            head,
            publishing: None,
            cut_bytes: 0,
            hasher: RandomState::new(),
            done: HashMap::new(),
            partial: HashMap::new(),
        }
    }

    /// Where a finished object's record is.
    pub fn done_at(&self, path: &RelPath) -> Option<u64> {
        self.done.get(&self.hasher.hash_one(path)).copied()
    }

    /// The durable chunks of an unfinished object, if they are of the file with this stamp.
    pub fn take_partial(&mut self, path: &RelPath, stamp: Stamp) -> Option<Partial> {
        let partial = self.partial.remove(&self.hasher.hash_one(path))?;
        (partial.stamp == stamp).then_some(partial)
    }

    /// Whether an earlier run left anything.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty() && self.partial.is_empty() && self.publishing.is_none()
    }

    fn apply(&mut self, position: u64, record: Record) {
        match record {
            Record::Head(_) | Record::List(_) => {}
            Record::Chunks { path, stamp, chunks } => {
                let key = self.hasher.hash_one(&path);
                self.done.remove(&key);
                let partial = self
                    .partial
                    .entry(key)
                    .or_insert_with(|| Partial { stamp, chunks: HashMap::new() });
                if partial.stamp != stamp {
                    *partial = Partial { stamp, chunks: HashMap::new() };
                }
                partial.chunks.extend(chunks.iter().map(|c| (c.offset, (c.len, c.digest))));
            }
            Record::Done { entry, .. } => {
                let key = self.hasher.hash_one(&entry.path);
                self.partial.remove(&key);
                self.done.insert(key, position);
            }
            Record::Publishing { root, entries } => self.publishing = Some((root, entries)),
        }
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system failed. After a failed sync the journal takes no further records.
    #[error("the journal {path}: {source}")]
    Io {
        /// The journal's path below the root.
        path: RelPath,
        /// The system's error.
        source: io::Error,
    },
    /// A record that was there at replay cannot be read back.
    #[error("the journal {path} has no record at {position}")]
    Record {
        /// The journal's path below the root.
        path: RelPath,
        /// Byte position.
        position: u64,
    },
    /// A newer version wrote it; what it says must not be lost.
    #[error("the journal {path} was written by a newer version of portway")]
    Newer {
        /// The journal's path below the root.
        path: RelPath,
    },
    /// An earlier append failed.
    #[error("the journal {path} failed before")]
    Broken {
        /// The journal's path below the root.
        path: RelPath,
    },
}

/// An open journal; one writer.
pub struct Journal {
    file: Arc<dyn File>,
    path: RelPath,
    len: u64,
    broken: bool,
}

impl Journal {
    /// Opens the journal at `path` and replays it, or begins a new one with `head` if there is
    /// none or it is not readable at all.
    ///
    /// The name of a new journal is durable when this returns.
    pub fn open(
        tree: &dyn Tree,
        path: &RelPath,
        head: &Head,
    ) -> Result<(Self, Replay), JournalError> {
        let io = |source| JournalError::Io { path: path.clone(), source };
        let parent = path.parent().unwrap_or_default();
        if let Some(found) = Self::take_up(tree, path)? {
            // Whoever made it may have died before its name was durable.
            tree.sync_dir(&parent).map_err(io)?;
            return Ok(found);
        }
        match tree.unlink(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let file = tree.create(path).map_err(io)?;
        let mut journal = Self { file, path: path.clone(), len: 0, broken: false };
        let mut bytes = MAGIC.to_vec();
        record::push(&mut bytes, &Record::Head(head.clone()).encode());
        journal.write(&bytes)?;
        tree.sync_dir(&parent).map_err(io)?;
        Ok((journal, Replay::nothing(head.clone())))
    }

    /// Opens and replays an existing journal, and cuts off its torn tail.
    fn take_up(tree: &dyn Tree, path: &RelPath) -> Result<Option<(Self, Replay)>, JournalError> {
        let io = |source| JournalError::Io { path: path.clone(), source };
        let file = match tree.open_rw(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io)?,
        };
        let Some((replay, len)) = read_all(&file, path)? else { return Ok(None) };
        if replay.cut_bytes > 0 {
            file.set_len(len).and_then(|()| file.sync()).map_err(io)?;
        }
        Ok(Some((Self { file, path: path.clone(), len, broken: false }, replay)))
    }

    /// Replays an existing journal, which may be in use, to look at it; it takes no records.
    /// `None` if there is none with a readable head.
    pub fn replay(tree: &dyn Tree, path: &RelPath) -> Result<Option<(Self, Replay)>, JournalError> {
        let file = match tree.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| JournalError::Io { path: path.clone(), source })?,
        };
        let found = read_all(&file, path)?;
        Ok(found
            .map(|(replay, len)| (Self { file, path: path.clone(), len, broken: true }, replay)))
    }

    /// Appends records and makes them durable, all or (after a crash) a prefix of them. Returns
    /// the position of each.
    pub fn append(&mut self, records: &[Record]) -> Result<Vec<u64>, JournalError> {
        let mut bytes = Vec::new();
        let mut positions = Vec::with_capacity(records.len());
        for item in records {
            positions.push(self.len + bytes.len() as u64);
            record::push(&mut bytes, &item.encode());
        }
        self.write(&bytes)?;
        Ok(positions)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        if self.broken {
            return Err(JournalError::Broken { path: self.path.clone() });
        }
        let written = self.file.write_at(bytes, self.len).and_then(|()| self.file.sync());
        if let Err(source) = written {
            // What reached the medium is unknown, so nothing may be appended behind it: not by this
            // journal, and not by the next one, which would find it in the cache and take it for
            // durable.
            self.broken = true;
            let _ = self.file.set_len(self.len);
            return Err(JournalError::Io { path: self.path.clone(), source });
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Reads the finished object whose record is at `position`.
    pub fn done(&self, position: u64) -> Result<DoneObject, JournalError> {
        let io = |source| JournalError::Io { path: self.path.clone(), source };
        let missing = || JournalError::Record { path: self.path.clone(), position };
        let mut reader = RecordReader::new(Arc::clone(&self.file), position, 0);
        let first = next(&mut reader).map_err(io)?;
        let Some((_, Record::Done { entry, object, inode, lists })) = first else {
            return Err(missing());
        };
        let mut chunks = Vec::new();
        for _ in 0..lists {
            let Some((_, Record::List(part))) = next(&mut reader).map_err(io)? else {
                return Err(missing());
            };
            chunks.extend(part);
        }
        Ok(DoneObject { entry, object, inode, chunks })
    }
}

/// Replays a journal; gives the length of what is good in it.
fn read_all(file: &Arc<dyn File>, path: &RelPath) -> Result<Option<(Replay, u64)>, JournalError> {
    let io = |source| JournalError::Io { path: path.clone(), source };
    let newer = || JournalError::Newer { path: path.clone() };
    let mut reader = RecordReader::new(Arc::clone(file), 0, REPLAY_BYTES);
    if !reader.magic(MAGIC).map_err(io)? {
        return Ok(None);
    }
    let Some((_, Record::Head(head))) = next(&mut reader).map_err(io)? else { return Ok(None) };
    let mut replay = Replay::nothing(head);
    let mut len = reader.position();
    // A finished object counts once all of its list is there.
    let mut unlisted: Option<(u64, Record, u32)> = None;
    while let Some((position, payload)) = reader.read().map_err(io)? {
        let record = match Record::decode(&payload) {
            Ok(record) => record,
            // The bytes are whole, so this is no damage.
            Err(DecodeError::Field { field: "kind" }) => return Err(newer()),
            Err(_) => break,
        };
        let lists = if let Record::Done { lists, .. } = &record { *lists } else { 0 };
        unlisted = match (unlisted.take(), record) {
            (None, record) if lists > 0 => Some((position, record, lists)),
            (None, record) => {
                replay.apply(position, record);
                None
            }
            (Some((at, done, 1)), Record::List(_)) => {
                replay.apply(at, done);
                None
            }
            (Some((at, done, left)), Record::List(_)) => Some((at, done, left - 1)),
            // Not what this program writes.
            (Some(_), _) => break,
        };
        if unlisted.is_none() {
            len = reader.position();
        }
    }
    replay.cut_bytes = file.meta().map_err(io)?.len.saturating_sub(len);
    Ok(Some((replay, len)))
}

/// The next record, or `None` where the journal ends or can no longer be read.
fn next(reader: &mut RecordReader) -> io::Result<Option<(u64, Record)>> {
    let Some((position, payload)) = reader.read()? else { return Ok(None) };
    Ok(Record::decode(&payload).ok().map(|record| (position, record)))
}

/// The records of a finished object, in the order in which they are appended.
pub fn done_records(
    entry: &Entry,
    object: Object,
    inode: Inode,
    chunks: &[ChunkRef],
) -> Vec<Record> {
    let lists: Vec<Record> =
        chunks.chunks(LIST_CHUNKS_MAX).map(|part| Record::List(part.to_vec())).collect();
    let head = Record::Done { entry: entry.clone(), object, inode, lists: lists.len() as u32 };
    std::iter::once(head).chain(lists).collect()
}

#[cfg(test)]
mod tests;
