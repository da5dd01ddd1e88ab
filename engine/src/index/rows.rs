//! What the tables' values are made of: a chunk's spots and blocks of file paths.
//!
//! Numbers are LEB128. Decoding is strict about ends and never panics.

use crate::base::RelPath;

/// Bytes after which a block of paths is closed: some of these fit into one 4 KiB page of the
/// database, and finding the last path of a full one takes well under a microsecond.
const BLOCK_BYTES: usize = 1024;

/// Where a chunk lies: a place in terms of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) base: u32,
    pub(super) file: u32,
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// The spots of one chunk, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spots {
    pub(super) first: Spot,
    pub(super) second: Option<Spot>,
}

impl Spots {
    pub(super) fn iter(&self) -> impl Iterator<Item = Spot> {
        std::iter::once(self.first).chain(self.second)
    }

    /// The spots that pass `keep`, or `None` if there are none.
    pub(super) fn retain(&self, mut keep: impl FnMut(&Spot) -> bool) -> Option<Self> {
        let mut kept = self.iter().filter(|spot| keep(spot));
        Some(Self { first: kept.next()?, second: kept.next() })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for spot in self.iter() {
            put(out, spot.base.into());
            put(out, spot.file.into());
            put(out, spot.offset);
            put(out, spot.len.into());
        }
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let first = take_spot(&mut bytes)?;
        let second = if bytes.is_empty() { None } else { Some(take_spot(&mut bytes)?) };
        bytes.is_empty().then_some(Self { first, second })
    }
}

fn take_spot(bytes: &mut &[u8]) -> Option<Spot> {
    Some(Spot {
        base: take(bytes)?.try_into().ok()?,
        file: take(bytes)?.try_into().ok()?,
        offset: take(bytes)?,
        len: take(bytes)?.try_into().ok()?,
    })
}

/// A block of the paths of files with consecutive numbers, each as the bytes it shares with the
/// one before it and the rest.
#[derive(Default)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    pub(super) files: u32,
    last: Vec<u8>,
}

impl Block {
    /// Adds a path; true if the block is full with it.
    pub(super) fn push(&mut self, path: &RelPath) -> bool {
        let path = path.as_bytes();
        let shared = self.last.iter().zip(path).take_while(|(a, b)| a == b).count();
        put(&mut self.bytes, shared as u64);
        put(&mut self.bytes, (path.len() - shared) as u64);
        self.bytes.extend_from_slice(&path[shared..]);
        self.last.clear();
        self.last.extend_from_slice(path);
        self.files += 1;
        self.bytes.len() >= BLOCK_BYTES
    }

    /// The path of the file `nth` from the block's first, or `None` if the block ends before it.
    pub(super) fn path(mut bytes: &[u8], nth: u32) -> Option<RelPath> {
        let mut path = Vec::new();
        for _ in 0..=nth {
            let shared = usize::try_from(take(&mut bytes)?).ok()?;
            let rest = usize::try_from(take(&mut bytes)?).ok()?;
            if shared > path.len() {
                return None;
            }
            let (head, tail) = bytes.split_at_checked(rest)?;
            path.truncate(shared);
            path.extend_from_slice(head);
            bytes = tail;
        }
        RelPath::from_bytes(&path).ok()
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
    use proptest::option;
    use proptest::prelude::*;

    fn any_spot() -> impl Strategy<Value = Spot> {
        any::<(u32, u32, u64, u32)>().prop_map(|(base, file, offset, len)| Spot {
            base,
            file,
            offset,
            len,
        })
    }

    proptest! {
        #[test]
        fn spots_survive_their_encoding(first in any_spot(), second in option::of(any_spot())) {
            let spots = Spots { first, second };
            let mut bytes = Vec::new();
            spots.encode(&mut bytes);
            prop_assert_eq!(Spots::decode(&bytes), Some(spots));
            prop_assert_eq!(Spots::decode(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn decoding_never_panics(bytes: Vec<u8>, nth in 0u32..300) {
            let _ = Spots::decode(&bytes);
            let _ = Block::path(&bytes, nth);
        }

        #[test]
        fn a_block_gives_back_its_paths(names in vec("[a-c]{1,3}(/[a-c]{1,9}){0,3}", 1..60)) {
            let paths: Vec<RelPath> =
                names.iter().map(|name| RelPath::from_bytes(name.as_bytes()).unwrap()).collect();
            let mut block = Block::default();
            for path in &paths {
                block.push(path);
            }
            for (nth, path) in paths.iter().enumerate() {
                prop_assert_eq!(Block::path(&block.bytes, nth as u32), Some(path.clone()));
            }
            prop_assert_eq!(Block::path(&block.bytes, block.files), None);
        }
    }
}
