//! The part of a log that is about one peer, with what proves that it is the log's.
//!
//! ```text
//! extract: checkpoint 132 | item  item  ...
//! item:    0 | level u8 | digest 32       2^level records that are not told, as one subtree
//!          1 | frame                      one record
//! ```
//!
//! Items come in the order of the log and are all of it, so their digests give its root. Subtrees that
//! are not told end where one asks for it, so the root of a beginning is seen too: that is an inclusion
//! proof of every record that is told and a consistency proof, in one.

use super::checkpoint::{CHECKPOINT_BYTES, Checkpoint};
use super::error::ReadError;
use super::folder::LogFolder;
use super::frame::{self, Parsed};
use super::frames::{Frames, heads};
use super::merkle::{Frontier, node};
use super::portable::Portable;
use super::record::Entry;
use crate::base::Digest;

const SUBTREE: u8 = 0;
const RECORD: u8 = 1;
/// Bytes of a subtree.
const SUBTREE_BYTES: usize = 2 + Digest::BYTES;
/// Bytes that are gathered before they are given.
const PART_BYTES: usize = 128 << 10;

/// Gives the records of a log of which `wanted` is true, and what proves them, in parts of some hundred
/// KiB, until `give` says no. Subtrees end at `pin`.
pub(crate) fn extract(
    folder: &LogFolder,
    pin: u64,
    wanted: impl Fn(&Entry) -> bool,
    give: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<(), ReadError> {
    let (head, mut frames) = {
        let _held = folder.hold()?;
        let found = heads(folder)?.ok_or(ReadError::Missing)?;
        let frames = Frames::all(folder, &found.newest)?;
        (found.newest, frames)
    };
    let (mut out, mut gap) = (head.checkpoint.encode(), Gap::default());
    while let Some(found) = frames.next()? {
        if found.seq == pin {
            gap.put(&mut out);
        }
        if wanted(&found.entry()?) {
            gap.put(&mut out);
            out.push(RECORD);
            out.extend_from_slice(found.frame);
            gap.next += 1;
        } else {
            gap.push(found.digest);
        }
        if out.len() >= PART_BYTES && !give(std::mem::take(&mut out)) {
            return Ok(());
        }
    }
    gap.put(&mut out);
    give(out);
    Ok(())
}

/// Records that are not told, as the largest subtrees.
#[derive(Default)]
struct Gap {
    /// Number of the next record.
    next: u64,
    /// Levels and roots, in the order of the log.
    subtrees: Vec<(u8, Digest)>,
}

impl Gap {
    fn push(&mut self, leaf: Digest) {
        self.next += 1;
        let (mut level, mut root) = (0_u8, leaf);
        while let Some(&(before, left)) = self.subtrees.last()
            && before == level
            && self.next.trailing_zeros() > u32::from(level)
        {
            self.subtrees.pop();
            root = node(left, root);
            level += 1;
        }
        self.subtrees.push((level, root));
    }

    fn put(&mut self, out: &mut Vec<u8>) {
        for (level, root) in self.subtrees.drain(..) {
            out.extend([SUBTREE, level]);
            out.extend_from_slice(&root.0);
        }
    }
}

/// Why an extract proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    /// The bytes are no extract.
    #[error("it cannot be understood")]
    Nonsense,
    /// A record is damaged, or of a newer version.
    #[error("record {seq} in it cannot be understood")]
    Record {
        /// The record.
        seq: u64,
    },
    /// It ends before the log does.
    #[error("it ends after {seen} of {size} records")]
    Cut {
        /// Records that it accounts for.
        seen: u64,
        /// Records that it begins with.
        size: u64,
    },
    /// Its records do not give the root that its checkpoint has.
    #[error("its records are not those that its checkpoint was signed for")]
    Root,
}

/// Reads an extract as it comes.
#[derive(Default)]
pub(crate) struct Extract {
    buffer: Vec<u8>,
    used: usize,
    checkpoint: Option<Checkpoint>,
    tree: Frontier,
    /// The size at which the root is noted, and that root.
    pin: u64,
    pinned: Option<Digest>,
}

impl Extract {
    /// Notes the root of the first `pin` records.
    pub(crate) fn new(pin: u64) -> Self {
        Self { pin, ..Self::default() }
    }

    /// Takes more bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next record that is told; `None` if more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ExtractError> {
        if self.checkpoint.is_none() {
            let Some(bytes) = self.buffer.get(..CHECKPOINT_BYTES) else { return Ok(None) };
            let checkpoint = Checkpoint::decode(bytes).map_err(|_| ExtractError::Nonsense)?;
            self.checkpoint = Some(checkpoint);
            self.used = CHECKPOINT_BYTES;
        }
        loop {
            let rest = &self.buffer[self.used..];
            match rest.first() {
                None => return Ok(None),
                Some(&SUBTREE) => {
                    let Some(item) = rest.get(..SUBTREE_BYTES) else { return Ok(None) };
                    let root = Digest::from_slice(&item[2..]).ok_or(ExtractError::Nonsense)?;
                    if !self.tree.push_subtree(item[1].into(), root) {
                        return Err(ExtractError::Nonsense);
                    }
                    self.used += SUBTREE_BYTES;
                }
                Some(&RECORD) => {
                    let seq = self.tree.size();
                    return match frame::parse(&rest[1..]) {
                        Parsed::Short(_) => Ok(None),
                        Parsed::Damaged => Err(ExtractError::Record { seq }),
                        Parsed::Frame(frame) => {
                            let entry = Entry::decode(frame.record).ok();
                            let entry = entry.filter(|entry| entry.seq == seq);
                            self.used += 1 + frame.bytes;
                            self.tree.push(frame.digest);
                            self.note();
                            entry.map(Some).ok_or(ExtractError::Record { seq })
                        }
                    };
                }
                Some(_) => return Err(ExtractError::Nonsense),
            }
            self.note();
        }
    }

    fn note(&mut self) {
        if self.tree.size() == self.pin {
            self.pinned = Some(self.tree.root());
        }
    }

    /// The checkpoint that everything was for, and the root of the first records that was to be noted,
    /// if subtrees end there. Who signed the checkpoint is another question.
    pub(crate) fn finish(self) -> Result<(Checkpoint, Option<Digest>), ExtractError> {
        let checkpoint = self.checkpoint.ok_or(ExtractError::Nonsense)?;
        let (seen, size) = (self.tree.size(), checkpoint.size);
        if self.used < self.buffer.len() || seen != size {
            return Err(ExtractError::Cut { seen, size });
        }
        if self.tree.root() != checkpoint.root {
            return Err(ExtractError::Root);
        }
        Ok((checkpoint, self.pinned))
    }
}
