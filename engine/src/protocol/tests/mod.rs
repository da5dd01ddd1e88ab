//! Tests of the machines: one alone against a hand-made peer.

mod source;
mod target;

use crate::base::{Digest, FileTime, Instant, RelPath, Seq, Stamp};
use crate::chunk::{ChunkSize, Cutter};
use crate::manifest::{ChunkRef, Entry, EntryKind, ListHasher, Object};
use crate::wire::{End, Piece};

pub(super) const T0: Instant = Instant(0);

pub(super) fn path(text: &str) -> RelPath {
    RelPath::from_typed(text.as_bytes()).unwrap()
}

pub(super) fn file(name: &str, len: u64) -> Entry {
    stamped(name, len, 0)
}

pub(super) fn stamped(name: &str, len: u64, stamp: u8) -> Entry {
    let kind = EntryKind::File { len, stamp: Stamp([stamp; 16]) };
    Entry { path: path(name), kind, mode: 0o644, mtime: FileTime::default() }
}

pub(super) fn dir(name: &str) -> Entry {
    Entry { path: path(name), kind: EntryKind::Dir, mode: 0o755, mtime: FileTime::default() }
}

pub(super) fn link(name: &str, text: &str) -> Entry {
    let kind = EntryKind::Symlink(text.as_bytes().to_vec());
    Entry { path: path(name), kind, mode: 0o777, mtime: FileTime::default() }
}

/// A piece whose content is named by `content`.
pub(super) fn piece(seq: Seq, round: u32, offset: u64, len: u32, content: &str) -> Piece {
    Piece { seq, round, offset, len, digest: Digest::of(content.as_bytes()) }
}

/// The end of an object of `len` bytes that has these pieces.
pub(super) fn end(seq: Seq, round: u32, len: u64, pieces: &[Piece]) -> End {
    End { seq, round, object: object(len, pieces) }
}

pub(super) fn object(len: u64, pieces: &[Piece]) -> Object {
    let mut list = ListHasher::default();
    for &Piece { offset, len, digest, .. } in pieces {
        assert!(list.push(&ChunkRef { offset, len, digest }));
    }
    let cutter = Cutter::Content { avg: ChunkSize::CONTENT }.code();
    Object { digest: list.finish(len), len, cutter }
}
