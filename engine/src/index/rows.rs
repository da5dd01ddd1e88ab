//! Blocks: the rows of the table of files, each with the paths of some files.
//!
//! ```text
//! files | shared, length, rest | shared, length, rest | ...
//! ```
//!
//! Numbers are LEB128. Decoding is strict about ends and never panics.

use std::sync::Arc;

use crate::base::RelPath;

/// Bytes after which a block of paths is closed: many of these fit into one 4 KiB page of the
/// database, and finding the last path of a full one takes well under a microsecond.
const BLOCK_BYTES: usize = 512;

/// A block of the paths of files with consecutive numbers that is being made, each path as the
/// bytes it shares with the one before it and the rest.
#[derive(Default)]
pub(super) struct Block {
    rows: Vec<u8>,
    pub(super) files: u32,
    last: Vec<u8>,
}

impl Block {
    /// Adds a path; true if the block is full with it.
    pub(super) fn push(&mut self, path: &RelPath) -> bool {
        let path = path.as_bytes();
        let shared = self.last.iter().zip(path).take_while(|(a, b)| a == b).count();
        put(&mut self.rows, shared as u64);
        put(&mut self.rows, (path.len() - shared) as u64);
        self.rows.extend_from_slice(&path[shared..]);
        self.last.clear();
        self.last.extend_from_slice(path);
        self.files += 1;
        self.rows.len() >= BLOCK_BYTES
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.rows.len() + 2);
        put(&mut out, self.files.into());
        out.extend_from_slice(&self.rows);
        out
    }
}

/// Reads an encoded block from its first path on.
pub(super) struct BlockReader {
    bytes: Arc<[u8]>,
    at: usize,
    /// Paths in the block, by its own word.
    pub(super) files: u32,
    /// Paths that were read.
    read: u32,
    path: Vec<u8>,
}

impl BlockReader {
    pub(super) fn new(bytes: Arc<[u8]>) -> Option<Self> {
        let mut rest = &bytes[..];
        let files = take(&mut rest)?.try_into().ok()?;
        let at = bytes.len() - rest.len();
        Some(Self { bytes, at, files, read: 0, path: Vec::new() })
    }

    /// Whether the path of the `nth` file can be read without going back.
    pub(super) fn reaches(&self, nth: u32) -> bool {
        nth < self.files && nth + 1 >= self.read.max(1)
    }

    /// The bytes of the path of the `nth` file, or `None` if it is not ahead or the block is damaged.
    pub(super) fn path(&mut self, nth: u32) -> Option<&[u8]> {
        if !self.reaches(nth) {
            return None;
        }
        while self.read <= nth {
            self.step()?;
        }
        Some(&self.path)
    }

    fn step(&mut self) -> Option<()> {
        let mut rest = &self.bytes[self.at..];
        let shared = usize::try_from(take(&mut rest)?).ok()?;
        let len = usize::try_from(take(&mut rest)?).ok()?;
        if shared > self.path.len() {
            return None;
        }
        let (head, tail) = rest.split_at_checked(len)?;
        self.path.truncate(shared);
        self.path.extend_from_slice(head);
        self.at = self.bytes.len() - tail.len();
        self.read += 1;
        Some(())
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_never_panics(bytes: Vec<u8>, nths in vec(0u32..300, 1..5)) {
            if let Some(mut reader) = BlockReader::new(bytes.into()) {
                for nth in nths {
                    let _ = reader.path(nth);
                }
            }
        }

        #[test]
        fn a_block_gives_back_its_paths(names in vec("[a-c]{1,3}(/[a-c]{1,9}){0,3}", 1..60)) {
            let paths: Vec<RelPath> =
                names.iter().map(|name| RelPath::from_bytes(name.as_bytes()).unwrap()).collect();
            let mut block = Block::default();
            for path in &paths {
                block.push(path);
            }
            let bytes: Arc<[u8]> = block.encode().into();
            let mut on = BlockReader::new(bytes.clone()).unwrap();
            for (nth, path) in paths.iter().enumerate() {
                let nth = nth as u32;
                let mut anew = BlockReader::new(bytes.clone()).unwrap();
                prop_assert_eq!(anew.path(nth), Some(path.as_bytes()));
                // Each may be read twice, the one before it no more.
                prop_assert_eq!(on.path(nth), Some(path.as_bytes()));
                prop_assert_eq!(on.path(nth), Some(path.as_bytes()));
                prop_assert!(nth == 0 || on.path(nth - 1).is_none());
            }
            prop_assert_eq!(on.path(block.files), None);
        }
    }
}
