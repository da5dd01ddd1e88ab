//! The head of a log: how far it was acknowledged, signed.
//!
//! Two slots in a file of their own, written in turn. The head is written after the records that it
//! covers are durable and before they are acknowledged: what lies behind it never was. What must be
//! whole lies in the first 512 bytes of a slot, a sector, which a disk writes whole or not at all;
//! so a slot that is neither the old one nor the new one is no trace of a crash. Behind it are the
//! roots of the subtrees, so that a log is taken up without reading it; they prove themselves by
//! the root that the sector has, and are found again from the log if they do not.

use std::io;

use super::checkpoint::Checkpoint;
use super::merkle::Frontier;
use super::portable::Portable;
use crate::base::{Digest, RelPath};
use crate::identity::AuditPublicKey;
use crate::manifest::DecodeError;
use crate::policy::fields::{Reader, Writer, wrong};
use crate::storage::{File, Tree};

const MAGIC: &[u8; 8] = b"PWAHEAD1";
/// Bytes that a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;
/// Bytes of a slot: no write to one touches a page of the other.
pub(super) const SLOT_BYTES: usize = 4096;
/// Bytes of the file.
pub(super) const HEAD_FILE_BYTES: usize = 2 * SLOT_BYTES;

/// Where a log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Counts the writes of heads; the slot is its last bit.
    pub generation: u64,
    /// Number of the first record of the last segment.
    pub segment: u64,
    /// Bytes of that segment that are acknowledged; zero before there is one.
    pub position: u64,
    /// Digest of the last frame.
    pub chain: Digest,
    /// The key that signs.
    pub key: AuditPublicKey,
    /// All records up to here.
    pub checkpoint: Checkpoint,
}

/// Where the file is.
pub(super) fn head_name(dir: &RelPath) -> RelPath {
    dir.join(b"head").unwrap_or_default()
}

impl Head {
    /// The sector: the fields, zeros, and the BLAKE3 of all of it.
    pub(super) fn encode(&self) -> [u8; SECTOR_BYTES] {
        let mut out = Writer::new(MAGIC);
        out.u64(self.generation);
        out.u64(self.segment);
        out.u64(self.position);
        out.digest(&self.chain);
        out.array(&self.key.0);
        self.checkpoint.put(&mut out);
        let fields = out.finish();
        let mut sector = [0; SECTOR_BYTES];
        sector[..fields.len()].copy_from_slice(&fields);
        let sum_at = SECTOR_BYTES - Digest::BYTES;
        let sum = Digest::of(&sector[..sum_at]);
        sector[sum_at..].copy_from_slice(&sum.0);
        sector
    }

    /// Decodes a sector; its sum and its signature are right.
    pub(super) fn decode(sector: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(sector);
        if fields.array("magic")? != *MAGIC {
            return wrong("magic");
        }
        let head = Self {
            generation: fields.u64("generation")?,
            segment: fields.u64("segment")?,
            position: fields.u64("position")?,
            chain: fields.digest("chain")?,
            key: AuditPublicKey(fields.array("key")?),
            checkpoint: Checkpoint::take(&mut fields)?,
        };
        // The sum, and the zeros before it.
        if head.encode() != sector {
            return wrong("sum");
        }
        if !head.checkpoint.is_signed_by(&head.key) {
            return wrong("signature");
        }
        Ok(head)
    }

    /// A slot: the sector, then the subtrees of `tree`, then zeros.
    pub(super) fn slot(&self, tree: &Frontier) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        slot[..SECTOR_BYTES].copy_from_slice(&self.encode());
        for (out, peak) in slot[SECTOR_BYTES..].chunks_exact_mut(Digest::BYTES).zip(tree.peaks()) {
            out.copy_from_slice(&peak.0);
        }
        slot
    }

    /// The tree of a slot, if its subtrees are whole and only zeros follow.
    fn tree(&self, slot: &[u8]) -> Option<Frontier> {
        let count = self.checkpoint.size.count_ones() as usize;
        let peaks = slot[SECTOR_BYTES..].chunks_exact(Digest::BYTES).take(count);
        let peaks = peaks.filter_map(Digest::from_slice).collect();
        let tree = Frontier::from_peaks(self.checkpoint.size, peaks)?;
        (tree.root() == self.checkpoint.root && self.slot(&tree) == *slot).then_some(tree)
    }

    /// Writes the head to its slot, durable on return.
    pub(super) fn write(&self, file: &dyn File, tree: &Frontier) -> io::Result<()> {
        file.write_at(&self.slot(tree), self.generation % 2 * SLOT_BYTES as u64)?;
        file.sync()
    }
}

/// What a head file holds.
#[derive(Debug)]
pub(super) struct Heads {
    /// The head.
    pub newest: Head,
    /// The one before it.
    pub before: Head,
    /// The tree of each, unless its subtrees are torn.
    pub trees: [Option<Frontier>; 2],
}

impl Heads {
    /// Both slots. `None` if they are not both whole, one written after the other: no crash leaves
    /// that once a log was begun.
    pub(super) fn decode(bytes: &[u8; HEAD_FILE_BYTES]) -> Option<Self> {
        let slot = |at: usize| {
            let slot = &bytes[at * SLOT_BYTES..(at + 1) * SLOT_BYTES];
            let head = Head::decode(&slot[..SECTOR_BYTES]).ok()?;
            (head.generation % 2 == at as u64).then_some((head, slot))
        };
        let (even, odd) = (slot(0)?, slot(1)?);
        let even_is_newer = even.0.generation > odd.0.generation;
        let (newest, before) = if even_is_newer { (even, odd) } else { (odd, even) };
        let ((newest, newest_slot), (before, before_slot)) = (newest, before);
        let in_order = newest.generation - before.generation == 1
            && before.checkpoint.log == newest.checkpoint.log
            && before.checkpoint.size <= newest.checkpoint.size;
        let trees = [newest.tree(newest_slot), before.tree(before_slot)];
        in_order.then_some(Self { newest, before, trees })
    }
}

/// The bytes of the file; `None` if it has more or fewer.
pub(super) fn read(file: &dyn File) -> io::Result<Option<[u8; HEAD_FILE_BYTES]>> {
    let mut bytes = [0; HEAD_FILE_BYTES];
    let whole = file.read_at(&mut bytes, 0)? == bytes.len();
    Ok((whole && file.meta()?.len == bytes.len() as u64).then_some(bytes))
}

/// Makes the file of a log that begins, with both slots written. There may be one whose making was
/// cut short.
pub(super) fn create(tree: &dyn Tree, dir: &RelPath, head: &Head) -> io::Result<()> {
    let name = head_name(dir);
    let file = match tree.create(&name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => tree.open_rw(&name)?,
        made => made?,
    };
    file.set_len(HEAD_FILE_BYTES as u64)?;
    let none = Frontier::default();
    head.write(&*file, &none)?;
    Head { generation: head.generation + 1, ..head.clone() }.write(&*file, &none)?;
    tree.sync_dir(dir)
}
