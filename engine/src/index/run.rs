//! A run: a file of sorted entries that never changes, and what is held of it in memory.
//!
//! ```text
//! header 128 | entry 40, entry 40, ... | starts u32, ... | marks u16, ...
//!
//! header: magic 8 | version u32 | buckets u32 | entries u64 | chunks u64
//!         | BLAKE3 of the entries 32 | BLAKE3 of starts and marks 32 | BLAKE3 of the 96 before 32
//! ```
//!
//! Keys are halves of digests, so evenly spread: they fall into buckets by their first 64 bits, and
//! a bucket is a few consecutive entries. `starts` has the first entry of each bucket, and the
//! number of entries behind the last; `marks` has 16 further bits of each key. Both are in memory:
//! an unknown key costs no read but once in some thousand times, a known one reads its own entry.

use std::hint;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::entry::{ENTRY_BYTES, Entry, Spot};
use crate::base::Digest;
use crate::storage::File;

/// Bytes of a run's header.
pub(super) const HEADER_BYTES: usize = 128;
const MAGIC: [u8; 8] = *b"PWINDEXR";
const VERSION: u32 = 1;
/// Most entries of a run: positions are 32 bits.
pub(super) const ENTRIES_MAX: u64 = u32::MAX as u64;
/// Entries of a bucket on average, if none was left out while the run was written.
const BUCKET_ENTRIES: u64 = 16;
/// Bytes of starts and marks that are read at a time.
const LOAD_BYTES: usize = 1 << 20;
/// Keys that are looked up at a time: their entries are read together.
const KEYS_AT_ONCE: usize = 1024;

/// A run that cannot be believed.
pub(super) fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// At least one.
    pub(super) buckets: u32,
    pub(super) entries: u64,
    /// Distinct chunks among them that have a spot.
    pub(super) chunks: u64,
    pub(super) entries_digest: Digest,
    pub(super) hints_digest: Digest,
}

impl Header {
    /// Buckets for this many entries.
    pub(super) fn buckets_for(entries: u64) -> u32 {
        entries.div_ceil(BUCKET_ENTRIES).clamp(1, u32::MAX.into()) as u32
    }

    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.buckets.to_le_bytes());
        out[16..24].copy_from_slice(&self.entries.to_le_bytes());
        out[24..32].copy_from_slice(&self.chunks.to_le_bytes());
        out[32..64].copy_from_slice(&self.entries_digest.0);
        out[64..96].copy_from_slice(&self.hints_digest.0);
        let seal = Digest::of(&out[..96]);
        out[96..].copy_from_slice(&seal.0);
        out
    }

    /// The header in `bytes`, or `None` if they are damaged or of another version.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let digest = |at: usize| Digest::from_slice(&bytes[at..at + 32]);
        if digest(96)? != Digest::of(&bytes[..96]) || bytes[..8] != MAGIC {
            return None;
        }
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| bytes[at + n]));
        let long = |at: usize| u64::from(word(at + 4)) << 32 | u64::from(word(at));
        let header = Self {
            buckets: word(12),
            entries: long(16),
            chunks: long(24),
            entries_digest: digest(32)?,
            hints_digest: digest(64)?,
        };
        let sound = word(8) == VERSION
            && header.buckets > 0
            && header.entries <= ENTRIES_MAX
            && header.chunks <= header.entries;
        sound.then_some(header)
    }

    /// What names this very run: the digest over all digests in it.
    pub(super) fn seal(&self) -> Digest {
        Digest::of(&self.encode()[..96])
    }

    pub(super) fn hints_offset(&self) -> u64 {
        HEADER_BYTES as u64 + self.entries * ENTRY_BYTES as u64
    }

    /// Bytes of the whole file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.hints_offset() + (u64::from(self.buckets) + 1) * 4 + self.entries * 2
    }
}

/// What of a run is in memory: about 2.25 bytes an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hints {
    pub(super) starts: Vec<u32>,
    pub(super) marks: Vec<u16>,
}

impl Hints {
    /// Reads the hints of a run and verifies them.
    fn load(file: &dyn File, header: &Header) -> io::Result<Self> {
        let mut starts = Vec::with_capacity(header.buckets as usize + 1);
        let mut marks = Vec::with_capacity(header.entries as usize);
        let mut hasher = blake3::Hasher::new();
        let mut buffer =
            vec![0; LOAD_BYTES.min((header.file_bytes() - header.hints_offset()) as usize)];
        let mut at = header.hints_offset();
        let mut read = |bytes: u64, take: &mut dyn FnMut(&[u8])| -> io::Result<()> {
            let end = at + bytes;
            while at < end {
                let part = &mut buffer[..LOAD_BYTES.min((end - at) as usize)];
                if file.read_at(part, at)? < part.len() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                hasher.update(part);
                take(part);
                at += part.len() as u64;
            }
            Ok(())
        };
        read((u64::from(header.buckets) + 1) * 4, &mut |part| {
            let words = part.as_chunks::<4>().0;
            starts.extend(words.iter().map(|word| u32::from_le_bytes(*word)));
        })?;
        read(header.entries * 2, &mut |part| {
            let halves = part.as_chunks::<2>().0;
            marks.extend(halves.iter().map(|half| u16::from_le_bytes(*half)));
        })?;
        let whole = Digest(*hasher.finalize().as_bytes()) == header.hints_digest;
        let ends = starts.first() == Some(&0)
            && starts.last().map(|&end| u64::from(end)) == Some(header.entries);
        if whole && ends && starts.is_sorted() {
            Ok(Self { starts, marks })
        } else {
            Err(damaged("the hints of a run are damaged"))
        }
    }

    fn buckets(&self) -> u32 {
        (self.starts.len() - 1) as u32
    }

    /// The entries of the bucket that `key` falls into.
    fn bucket(&self, key: u128) -> Range<usize> {
        let bucket = bucket_of(key, self.buckets()) as usize;
        self.starts[bucket] as usize..self.starts[bucket + 1] as usize
    }
}

/// The bucket of a key; a larger key is never in an earlier one.
pub(super) fn bucket_of(key: u128, buckets: u32) -> u32 {
    let scaled = (key >> 64) * u128::from(buckets);
    (scaled >> 64) as u32
}

/// The mark of a key: bits that say nothing about its bucket.
pub(super) fn mark_of(key: u128) -> u16 {
    (key >> 48) as u16
}

/// A run that is open for reading.
pub(super) struct Run {
    /// Names the file.
    pub(super) id: u64,
    pub(super) header: Header,
    hints: Hints,
    file: Arc<dyn File>,
    /// Whether the file's content is durable.
    synced: AtomicBool,
}

impl Run {
    /// Opens a durable run, whose header must be the one that `seal` is of.
    pub(super) fn open(id: u64, file: Arc<dyn File>, seal: Digest) -> io::Result<Self> {
        let mut bytes = [0; HEADER_BYTES];
        let read = file.read_at(&mut bytes, 0)?;
        let header = Header::decode(&bytes).filter(|_| read == HEADER_BYTES);
        let header = header.filter(|header| header.seal() == seal);
        let header = header.ok_or_else(|| damaged("the header of a run is damaged"))?;
        // Before memory is taken: a run has the length that its header claims.
        if file.meta()?.len != header.file_bytes() {
            return Err(damaged("a run has not the length that its header says"));
        }
        let hints = Hints::load(&*file, &header)?;
        Ok(Self { id, header, hints, file, synced: AtomicBool::new(true) })
    }

    /// A run that was just written.
    pub(super) fn written(id: u64, header: Header, hints: Hints, file: Arc<dyn File>) -> Self {
        Self { id, header, hints, file, synced: AtomicBool::new(false) }
    }

    /// Makes the file's content durable, once.
    pub(super) fn sync(&self) -> io::Result<()> {
        if !self.synced.load(Ordering::Acquire) {
            self.file.sync()?;
            self.synced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Reads encoded entries from the one at `first` on, as many as fit.
    pub(super) fn read(&self, first: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = HEADER_BYTES as u64 + first * ENTRY_BYTES as u64;
        if self.file.read_at(out, offset)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Tells the spots of each key, with the number beside it; those of a key newest first.
    pub(super) fn find(
        &self,
        keys: &[(u128, usize)],
        tell: &mut dyn FnMut(usize, Spot),
    ) -> io::Result<()> {
        let mut buckets = Vec::with_capacity(keys.len().min(KEYS_AT_ONCE));
        let mut marked = Vec::new();
        let mut bytes = Vec::new();
        for keys in keys.chunks(KEYS_AT_ONCE) {
            // Each of these loops misses the processor's caches at each key. Apart from each other
            // they wait for many at a time.
            buckets.clear();
            buckets.extend(keys.iter().map(|&(key, _)| self.hints.bucket(key)));
            let first = |bucket: &Range<usize>| self.hints.marks.get(bucket.start).copied();
            hint::black_box(buckets.iter().filter_map(first).fold(0, |all, mark| all ^ mark));
            marked.clear();
            for (asked, (&(key, _), bucket)) in keys.iter().zip(&buckets).enumerate() {
                let mark = mark_of(key);
                let marks = &self.hints.marks[bucket.clone()];
                let hits = bucket.clone().zip(marks).filter(|(_, other)| **other == mark);
                marked.extend(hits.map(|(position, _)| (position, asked)));
            }
            if marked.is_empty() {
                continue;
            }
            bytes.clear();
            bytes.resize(marked.len() * ENTRY_BYTES, 0);
            self.read_each(&marked, &mut bytes)?;
            for (&(_, asked), bytes) in marked.iter().zip(bytes.as_chunks::<ENTRY_BYTES>().0) {
                let (key, number) = keys[asked];
                let entry = Entry::decode(bytes).ok_or_else(|| damaged("an entry is damaged"))?;
                // Another key has the same mark; but not one of another bucket or mark.
                let place = |key| (bucket_of(key, self.hints.buckets()), mark_of(key));
                if entry.key == key {
                    tell(number, entry.spot);
                } else if place(entry.key) != place(key) {
                    return Err(damaged("an entry is not where it was written"));
                }
            }
        }
        Ok(())
    }

    /// Reads the entries at some positions.
    fn read_each(&self, at: &[(usize, usize)], out: &mut [u8]) -> io::Result<()> {
        let offset = |position| (HEADER_BYTES + position * ENTRY_BYTES) as u64;
        let mut reads: Vec<(u64, &mut [u8])> = at
            .iter()
            .zip(out.chunks_exact_mut(ENTRY_BYTES))
            .map(|(&(position, _), bytes)| (offset(position), bytes))
            .collect();
        let whole = self.file.read_many(&mut reads)?.iter().all(|&read| read == ENTRY_BYTES);
        if whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
