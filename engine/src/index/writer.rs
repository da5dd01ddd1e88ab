//! Writing a run: entries in order, then what will be held of them in memory, then the header.

use std::io;
use std::sync::Arc;

use super::entry::{ENTRY_BYTES, key_of};
use super::run::{ENTRIES_MAX, HEADER_BYTES, Header, Hints, Run, bucket_of, damaged, mark_of};
use crate::base::Digest;
use crate::storage::File;

/// Writes end where a block of the file of this many bytes ends. Linux keeps what comes in one
/// aligned write in one piece of the page cache, and finds large pieces faster.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes after which a long run is made durable as far as it is written, so that its end does not
/// wait for all of it.
const SYNC_BYTES: usize = 64 << 20;

/// A run that is being written.
pub(super) struct RunWriter {
    id: u64,
    file: Arc<dyn File>,
    buckets: u32,
    hints: Hints,
    chunks: u64,
    /// The last key, and whether it has a spot.
    last: Option<(u128, bool)>,
    /// What is not written yet, and where it belongs in the file.
    out: Vec<u8>,
    at: u64,
    unsynced: usize,
    hasher: blake3::Hasher,
}

impl RunWriter {
    /// Begins a run of up to `entries_max` entries in an empty file.
    pub(super) fn new(id: u64, file: Arc<dyn File>, entries_max: u64) -> io::Result<Self> {
        if entries_max > ENTRIES_MAX {
            return Err(io::Error::other("too many entries for a run"));
        }
        let buckets = Header::buckets_for(entries_max);
        Ok(Self {
            id,
            file,
            buckets,
            // Pages that stay untouched take no memory.
            hints: Hints {
                starts: Vec::with_capacity(buckets as usize + 1),
                marks: Vec::with_capacity(entries_max as usize),
            },
            chunks: 0,
            last: None,
            out: Vec::new(),
            at: HEADER_BYTES as u64,
            unsynced: 0,
            hasher: blake3::Hasher::new(),
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Adds an encoded entry. Its key is not smaller than the one before; of one key, newer
    /// entries come first.
    pub(super) fn push(&mut self, entry: &[u8; ENTRY_BYTES], forgotten: bool) -> io::Result<()> {
        let key = key_of(entry);
        match self.last {
            Some((last, _)) if key < last => return Err(damaged("entries are out of order")),
            Some((last, placed)) if key == last => {
                self.chunks += u64::from(!placed && !forgotten);
                self.last = Some((key, placed || !forgotten));
            }
            _ => {
                self.chunks += u64::from(!forgotten);
                self.last = Some((key, !forgotten));
            }
        }
        self.start_buckets(bucket_of(key, self.buckets) as usize + 1);
        self.hints.marks.push(mark_of(key));
        self.gather(entry)
    }

    fn gather(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.extend_from_slice(bytes);
        if self.out.len() >= self.room() { self.write(self.room()) } else { Ok(()) }
    }

    /// Bytes from where the next write begins to the end of its block.
    fn room(&self) -> usize {
        WRITE_BYTES - self.at as usize % WRITE_BYTES
    }

    /// Lets all buckets up to the `count`th that did not begin yet begin here.
    fn start_buckets(&mut self, count: usize) {
        let here = self.hints.marks.len() as u32;
        if self.hints.starts.len() < count {
            self.hints.starts.resize(count, here);
        }
    }

    /// Writes the first `bytes` of what was gathered.
    fn write(&mut self, bytes: usize) -> io::Result<()> {
        let part = &self.out[..bytes];
        self.hasher.update(part);
        self.file.write_at(part, self.at)?;
        self.at += bytes as u64;
        self.unsynced += bytes;
        self.out.drain(..bytes);
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.file.sync()?;
        }
        Ok(())
    }

    /// Writes all that was gathered; returns the digest of what was written since the last time.
    fn end_part(&mut self) -> io::Result<Digest> {
        while !self.out.is_empty() {
            self.write(self.room().min(self.out.len()))?;
        }
        let digest = Digest(*self.hasher.finalize().as_bytes());
        self.hasher.reset();
        Ok(digest)
    }

    /// Ends the run; `None` if it has no entries.
    pub(super) fn finish(mut self) -> io::Result<Option<Run>> {
        let entries = self.hints.marks.len() as u64;
        if entries == 0 {
            return Ok(None);
        }
        let entries_digest = self.end_part()?;
        self.start_buckets(self.buckets as usize + 1);
        self.hints.marks.shrink_to_fit();
        let hints_digest = self.write_hints()?;
        let header = Header {
            buckets: self.buckets,
            entries,
            chunks: self.chunks,
            entries_digest,
            hints_digest,
        };
        self.file.write_at(&header.encode(), 0)?;
        Ok(Some(Run::written(self.id, header, self.hints, self.file)))
    }

    fn write_hints(&mut self) -> io::Result<Digest> {
        let none = Hints { starts: Vec::new(), marks: Vec::new() };
        let hints = std::mem::replace(&mut self.hints, none);
        for start in &hints.starts {
            self.gather(&start.to_le_bytes())?;
        }
        for mark in &hints.marks {
            self.gather(&mark.to_le_bytes())?;
        }
        self.hints = hints;
        self.end_part()
    }
}
