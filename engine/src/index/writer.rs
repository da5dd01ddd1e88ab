//! Writing a run: entries in order, then what will be held of them in memory, then the header.

use std::io;
use std::sync::Arc;

use super::entry::{ENTRY_BYTES, key_of};
use super::run::{ENTRIES_MAX, HEADER_BYTES, Header, Hints, Run, bucket_of, damaged, mark_of};
use crate::base::Digest;
use crate::storage::File;

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;
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
        self.out.extend_from_slice(entry);
        if self.out.len() >= WRITE_BYTES { self.write_entries() } else { Ok(()) }
    }

    /// Lets all buckets up to the `count`th that did not begin yet begin here.
    fn start_buckets(&mut self, count: usize) {
        let here = self.hints.marks.len() as u32;
        if self.hints.starts.len() < count {
            self.hints.starts.resize(count, here);
        }
    }

    fn write_entries(&mut self) -> io::Result<()> {
        self.hasher.update(&self.out);
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_at(&self.out, self.at)?;
        self.at += self.out.len() as u64;
        self.unsynced += self.out.len();
        self.out.clear();
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.file.sync()?;
        }
        Ok(())
    }

    /// Ends the run; `None` if it has no entries.
    pub(super) fn finish(mut self) -> io::Result<Option<Run>> {
        let entries = self.hints.marks.len() as u64;
        if entries == 0 {
            return Ok(None);
        }
        self.write_entries()?;
        self.start_buckets(self.buckets as usize + 1);
        self.hints.marks.shrink_to_fit();
        let hints_digest = self.write_hints()?;
        let header = Header {
            buckets: self.buckets,
            entries,
            chunks: self.chunks,
            entries_digest: Digest(*self.hasher.finalize().as_bytes()),
            hints_digest,
        };
        self.file.write_at(&header.encode(), 0)?;
        Ok(Some(Run::written(self.id, header, self.hints, self.file)))
    }

    fn write_hints(&mut self) -> io::Result<Digest> {
        let hints = std::mem::replace(&mut self.hints, Hints { starts: vec![], marks: vec![] });
        let mut hasher = blake3::Hasher::new();
        for part in hints.starts.chunks(WRITE_BYTES / 4) {
            self.out.extend(part.iter().flat_map(|start| start.to_le_bytes()));
            hasher.update(&self.out);
            self.write()?;
        }
        for part in hints.marks.chunks(WRITE_BYTES / 2) {
            self.out.extend(part.iter().flat_map(|mark| mark.to_le_bytes()));
            hasher.update(&self.out);
            self.write()?;
        }
        self.hints = hints;
        Ok(Digest(*hasher.finalize().as_bytes()))
    }
}
