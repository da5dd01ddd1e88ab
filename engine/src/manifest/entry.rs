//! Entries, chunk references, and the digests over them.

use crate::base::{Digest, FileTime, RelPath, Stamp};

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
    let mut hasher = blake3::Hasher::new_derive_key("portway 2026-11 source stamp v1");
    for number in [dev, ino, len, mtime.secs as u64, ctime.secs as u64] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&mtime.nanos.to_le_bytes());
    hasher.update(&ctime.nanos.to_le_bytes());
    let mut out = [0; 16];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Stamp(out)
}

/// Digest of an object: over its chunk list in order, then its length. Gaps between chunks are
/// holes and read as zeros, so offset and length of every chunk are part of it.
pub struct ListHasher {
    hasher: blake3::Hasher,
    end: u64,
}

impl Default for ListHasher {
    fn default() -> Self {
        Self { hasher: blake3::Hasher::new_derive_key("portway 2026-11 object v1"), end: 0 }
    }
}

impl ListHasher {
    /// Adds the next chunk; `false` if it is empty or begins before the last one ended.
    #[must_use]
    pub fn push(&mut self, chunk: &ChunkRef) -> bool {
        let (true, Some(end)) =
            (chunk.len > 0 && chunk.offset >= self.end, chunk.offset.checked_add(chunk.len.into()))
        else {
            return false;
        };
        self.end = end;
        self.hasher.update(&chunk.offset.to_le_bytes());
        self.hasher.update(&chunk.len.to_le_bytes());
        self.hasher.update(&chunk.digest.0);
        true
    }

    /// One past the last byte of the chunks so far.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The digest of an object of `len` bytes with the chunks so far.
    pub fn finish(&self, len: u64) -> Digest {
        let mut hasher = self.hasher.clone();
        hasher.update(&len.to_le_bytes());
        Digest(*hasher.finalize().as_bytes())
    }
}

/// Root digest of a snapshot: over all entries in canonical order.
#[derive(Clone)]
pub struct RootHasher {
    hasher: blake3::Hasher,
    entries: u64,
}

impl Default for RootHasher {
    fn default() -> Self {
        Self { hasher: blake3::Hasher::new_derive_key("portway 2026-11 snapshot v1"), entries: 0 }
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
        let hasher = &mut self.hasher;
        hasher.update(&[kind]);
        hasher.update(&(path.len() as u32).to_le_bytes());
        hasher.update(path);
        hasher.update(&entry.mode.to_le_bytes());
        hasher.update(&entry.mtime.secs.to_le_bytes());
        hasher.update(&entry.mtime.nanos.to_le_bytes());
        hasher.update(&len.to_le_bytes());
        hasher.update(body);
        hasher.update(&digest.unwrap_or_default().0);
    }

    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The root digest.
    pub fn finish(&self) -> Digest {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.entries.to_le_bytes());
        Digest(*hasher.finalize().as_bytes())
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
