//! Entries, chunk references, and the digests over them.

use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

use crate::base::{Digest, FileTime, PieceHasher, RelPath, Stamp};

/// One chunk of an object: where it lies in the object, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// First byte in the object.
    pub offset: u64,
    /// Number of bytes, at least one.
    pub len: u32,
    /// Digest of the bytes.
    pub digest: Digest,
}

impl ChunkRef {
    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.len))
    }
}

/// One name of a snapshot and what it is, before its content is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is below the snapshot's root; the root path if the snapshot is a single file.
    pub path: RelPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Modification time.
    pub mtime: FileTime,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Dir,
    /// A symbolic link and its text.
    Symlink(Vec<u8>),
    /// A regular file: its length in bytes, and the source's stamp of it.
    File {
        /// Content length in bytes.
        len: u64,
        /// The source's stamp.
        stamp: Stamp,
    },
}

impl Entry {
    /// Content length; zero for what is not a file.
    pub fn len(&self) -> u64 {
        if let EntryKind::File { len, .. } = self.kind { len } else { 0 }
    }

    /// Whether there is no content.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this is a regular file.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, EntryKind::File { .. })
    }

    /// The stamp of a file; zero for the rest.
    pub fn stamp(&self) -> Stamp {
        if let EntryKind::File { stamp, .. } = self.kind { stamp } else { Stamp::default() }
    }
}

/// A file's content, once it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// Digest over the chunk list; see [`ListHasher`].
    pub digest: Digest,
    /// Content length in bytes.
    pub len: u64,
    /// The cutter that made the list, as `chunk::Cutter` encodes it.
    pub cutter: u32,
}

/// The stamp of a source file.
///
/// Sixteen bytes of a BLAKE3 over what a change cannot leave alone; the path is not part of it.
pub fn stamp_of(dev: u64, ino: u64, len: u64, mtime: FileTime, ctime: FileTime) -> Stamp {
    static KEY: LazyLock<ContextKey> =
        LazyLock::new(|| hash_derive_key_context("portway 2026-11 source stamp v1"));
    let numbers = [dev, ino, len, mtime.secs as u64, ctime.secs as u64].map(u64::to_le_bytes);
    let nanos = [mtime.nanos, ctime.nanos].map(u32::to_le_bytes);
    let mut input = [0; 48];
    input[..40].copy_from_slice(numbers.as_flattened());
    input[40..].copy_from_slice(nanos.as_flattened());
    let digest = blake3::Hasher::new_from_context_key(&KEY).update(&input).finalize();
    let mut out = [0; 16];
    out.copy_from_slice(&digest.as_bytes()[..16]);
    Stamp(out)
}

/// Input of a [`ListHasher`] that is kept as it is: the most that BLAKE3 takes in one go. That is
/// the list of 23 chunks, and so of most files; a hasher has 2 KB.
const HEAD_BYTES_MAX: usize = 1024;

/// Digest of an object: over its chunk list in order, then its length. Gaps between chunks are
/// holes and read as zeros, so offset and length of every chunk are part of it.
#[derive(Default)]
pub struct ListHasher {
    /// What is not hashed yet, of a list that is short.
    head: Vec<u8>,
    /// Of one that is longer.
    hasher: Option<Box<blake3::Hasher>>,
    end: u64,
}

impl ListHasher {
    fn hasher() -> blake3::Hasher {
        static KEY: LazyLock<ContextKey> =
            LazyLock::new(|| hash_derive_key_context("portway 2026-11 object v1"));
        blake3::Hasher::new_from_context_key(&KEY)
    }

    /// Adds the next chunk; `false` if it is empty or begins before the last one ended.
    #[must_use]
    pub fn push(&mut self, chunk: &ChunkRef) -> bool {
        let (true, Some(end)) =
            (chunk.len > 0 && chunk.offset >= self.end, chunk.offset.checked_add(chunk.len.into()))
        else {
            return false;
        };
        self.end = end;
        let mut input = [0; 44];
        input[..8].copy_from_slice(&chunk.offset.to_le_bytes());
        input[8..12].copy_from_slice(&chunk.len.to_le_bytes());
        input[12..].copy_from_slice(&chunk.digest.0);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&input);
        } else if self.head.len() + input.len() <= HEAD_BYTES_MAX {
            self.head.extend_from_slice(&input);
        } else {
            let mut hasher = Box::new(Self::hasher());
            hasher.update(&std::mem::take(&mut self.head)).update(&input);
            self.hasher = Some(hasher);
        }
        true
    }

    /// One past the last byte of the chunks so far.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The digest of an object of `len` bytes with the chunks so far.
    pub fn finish(&self, len: u64) -> Digest {
        let mut hasher = self.hasher.as_deref().map_or_else(Self::hasher, Clone::clone);
        hasher.update(&self.head).update(&len.to_le_bytes());
        Digest(*hasher.finalize().as_bytes())
    }
}

/// Root digest of a snapshot: over all entries in canonical order.
#[derive(Clone)]
pub struct RootHasher {
    hasher: PieceHasher,
    entries: u64,
}

impl Default for RootHasher {
    fn default() -> Self {
        let hasher = blake3::Hasher::new_derive_key("portway 2026-11 snapshot v1");
        Self { hasher: PieceHasher::new(hasher), entries: 0 }
    }
}

impl RootHasher {
    /// Adds the next entry, with the object's digest if it is a file.
    pub fn push(&mut self, entry: &Entry, digest: Option<Digest>) {
        let path = entry.path.as_bytes();
        let (kind, len, body): (u8, u64, &[u8]) = match &entry.kind {
            EntryKind::Dir => (1, 0, &[]),
            EntryKind::Symlink(text) => (2, text.len() as u64, text),
            EntryKind::File { len, .. } => (3, *len, &[]),
        };
        self.entries += 1;
        self.hasher.add(|input| {
            input.push(kind);
            input.extend_from_slice(&(path.len() as u32).to_le_bytes());
            input.extend_from_slice(path);
            input.extend_from_slice(&entry.mode.to_le_bytes());
            input.extend_from_slice(&entry.mtime.secs.to_le_bytes());
            input.extend_from_slice(&entry.mtime.nanos.to_le_bytes());
            input.extend_from_slice(&len.to_le_bytes());
            input.extend_from_slice(body);
            input.extend_from_slice(&digest.unwrap_or_default().0);
        });
    }

    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The root digest.
    pub fn finish(&self) -> Digest {
        self.hasher.finish(&self.entries.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(offset: u64, len: u32) -> ChunkRef {
        ChunkRef { offset, len, digest: Digest::of(b"x") }
    }

    #[test]
    fn overlapping_empty_and_overflowing_chunks_are_refused() {
        let mut list = ListHasher::default();
        assert!(list.push(&chunk(0, 10)));
        assert!(!list.push(&chunk(9, 1)));
        assert!(!list.push(&chunk(10, 0)));
        assert!(!list.push(&chunk(u64::MAX, 2)));
        assert!(list.push(&chunk(20, 1)), "a gap is a hole");
    }

    #[test]
    fn the_object_digest_binds_position_and_length() {
        let digest = |chunks: &[ChunkRef], len| {
            let mut list = ListHasher::default();
            assert!(chunks.iter().all(|c| list.push(c)));
            list.finish(len)
        };
        let one = digest(&[chunk(0, 4)], 4);
        assert_ne!(one, digest(&[chunk(1, 4)], 5));
        assert_ne!(one, digest(&[chunk(0, 4)], 5), "a hole at the end counts");
    }

    #[test]
    fn the_digest_of_a_list_does_not_hang_on_how_much_of_it_is_kept() {
        for count in [0, 1, 22, 23, 24, 25, 100] {
            let mut list = ListHasher::default();
            let mut hasher = blake3::Hasher::new_derive_key("portway 2026-11 object v1");
            for n in 0..count {
                let chunk = chunk(n * 10, 10);
                assert!(list.push(&chunk));
                hasher.update(&chunk.offset.to_le_bytes()).update(&chunk.len.to_le_bytes());
                hasher.update(&chunk.digest.0);
            }
            hasher.update(&(count * 10).to_le_bytes());
            assert_eq!(list.finish(count * 10).0, *hasher.finalize().as_bytes(), "{count} chunks");
        }
    }

    #[test]
    fn golden_root_digest_of_a_small_snapshot() {
        let mut root = RootHasher::default();
        let entry = |path: &str, kind| Entry {
            path: RelPath::from_bytes(path.as_bytes()).unwrap_or_default(),
            kind,
            mode: 0o644,
            mtime: FileTime { secs: 1, nanos: 2 },
        };
        root.push(&entry("a", EntryKind::Dir), None);
        root.push(&entry("a/l", EntryKind::Symlink(b"../x".to_vec())), None);
        let file = EntryKind::File { len: 4, stamp: Stamp::default() };
        root.push(&entry("b", file), Some(Digest::of(b"list")));
        let golden = root.finish().to_string();
        assert_eq!(golden.len(), 64);
        let stamped = EntryKind::File { len: 4, stamp: Stamp([1; 16]) };
        let mut again = RootHasher::default();
        again.push(&entry("a", EntryKind::Dir), None);
        again.push(&entry("a/l", EntryKind::Symlink(b"../x".to_vec())), None);
        again.push(&entry("b", stamped), Some(Digest::of(b"list")));
        assert_eq!(again.finish().to_string(), golden, "the stamp is not content");
    }
}
