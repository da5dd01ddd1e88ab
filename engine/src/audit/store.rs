//! The log on disk: appending, rolling over, and taking up where a crash left it.
//!
//! An append writes frames, syncs them, writes the head, and syncs that. Only then are its records
//! acknowledged. So whatever lies behind the head never was, and is cut when the log is taken up;
//! what the head covers is never written again. `docs/border.md` argues each failure.

use std::io;
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::codec::{self, RECORD_BYTES_MAX};
use super::error::{Damage, ReadError, StopCause};
use super::folder::LogFolder;
use super::frame::{self, FRAME_BYTES, SEGMENT_HEAD_BYTES, segment_head, segment_name};
use super::frames::{self, Frames, heads};
use super::head::{self, HEAD_FILE_BYTES, Head, Heads, head_name};
use super::kill;
use super::log::{Pending, Setup, What};
use super::merkle::Frontier;
use super::names::LogId;
use super::receipt::ReceiptBody;
use super::record::{KeyRecord, Record};
use crate::base::{Digest, FileTime};
use crate::identity::{Attestation, AuditPublicKey, AuditSignature};
use crate::storage::{File, mkdir_all};

/// Bytes from which on a segment is followed by another one.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes after which an append takes no further records; it goes over by one record at most.
const BATCH_BYTES: usize = 4 << 20;
/// Most bytes that an append which was cut short can leave: those of a batch with one more record
/// and a seal.
const TAIL_BYTES_MAX: u64 = (BATCH_BYTES + 2 * (RECORD_BYTES_MAX + FRAME_BYTES)) as u64;
/// A seal comes with each record whose number is a multiple of this.
pub(super) const SEAL_RECORDS: u64 = 1024;

/// What was cut off when the log was taken up: an append that was never acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Bytes that lay behind the head.
    pub cut_bytes: u64,
}

pub(super) struct Store {
    folder: LogFolder,
    setup: Setup,
    segment_bytes: u64,
    head: Head,
    tree: Frontier,
    head_file: Arc<dyn File>,
    /// What the head file held after our last append, to notice those of other processes.
    head_bytes: [u8; HEAD_FILE_BYTES],
    /// The last segment, once it was opened.
    segment: Option<(u64, Arc<dyn File>)>,
    pub(super) recovered: Recovered,
}

impl Store {
    /// Takes up the log in `folder`, or begins one.
    pub(super) fn open(
        folder: LogFolder,
        setup: Setup,
        segment_bytes: u64,
        at: FileTime,
    ) -> Result<Self, StopCause> {
        let turn = folder.clone();
        let _held = turn.hold().map_err(StopCause::io("locked"))?;
        mkdir_all(&*folder.tree, &folder.dir).map_err(StopCause::io("given a folder"))?;
        // Whoever made the folder, a segment or the head may have died before its name was durable.
        let mut above = Some(folder.dir.clone());
        while let Some(dir) = above {
            folder.tree.sync_dir(&dir).map_err(StopCause::io("given a folder"))?;
            above = dir.parent();
        }
        let found = match heads(&folder)? {
            Some(found) => found,
            None => begin(&folder, &setup, at)?,
        };
        let head_file = folder.tree.open_rw(&head_name(&folder.dir));
        let mut store = Self {
            segment_bytes,
            head: found.newest.clone(),
            tree: Frontier::default(),
            head_file: head_file.map_err(StopCause::io("written"))?,
            head_bytes: [0; HEAD_FILE_BYTES],
            segment: None,
            recovered: Recovered::default(),
            folder,
            setup,
        };
        store.recover()?;
        let mut frames = Frames::last_segment(&store.folder, &store.head)?;
        while frames.next()?.is_some() {}
        store.adopt(found)?;
        if store.head.checkpoint.size == 0 || store.head.key != store.setup.key.public() {
            store.append(&[Pending::new(at, What::Key)])?;
        }
        Ok(store)
    }

    /// The log up to the last record that this process knows of, signed.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        self.head.checkpoint
    }

    /// What the log says of its key now.
    pub(super) fn key_record(&self) -> KeyRecord {
        self.setup.record(self.log())
    }

    /// From now on the log says this of its key.
    pub(super) fn set_attestation(&mut self, attestation: Attestation) {
        self.setup.attestation = attestation;
    }

    /// Signs a receipt with the log's key.
    pub(super) fn sign_receipt(&self, body: &ReceiptBody) -> AuditSignature {
        body.sign(&self.setup.key)
    }

    /// The key that seals the log.
    pub(super) fn key(&self) -> AuditPublicKey {
        self.setup.key.public()
    }

    pub(super) fn log(&self) -> LogId {
        self.head.checkpoint.log
    }

    /// Appends the first records of `batch`, as many as go in one; gives the number of the first
    /// and how many they are. They are durable on return. After an error none counts, and this
    /// must not be called again: what the failed calls left on the medium is unknown.
    pub(super) fn commit(&mut self, batch: &[Pending]) -> Result<(u64, usize), StopCause> {
        let turn = self.folder.clone();
        let _held = turn.hold().map_err(StopCause::io("locked"))?;
        self.refresh()?;
        self.append(batch)
    }

    /// Takes notice of what other processes appended, and cuts what one left that died.
    fn refresh(&mut self) -> Result<(), StopCause> {
        let bytes = head::read(&*self.head_file).map_err(ReadError::from)?;
        if bytes != Some(self.head_bytes) {
            let found = bytes.as_ref().and_then(Heads::decode);
            let found = found.filter(|heads| {
                let (old, new) = (&self.head, &heads.newest);
                new.generation > old.generation
                    && new.checkpoint.log == old.checkpoint.log
                    && new.checkpoint.size >= old.checkpoint.size
                    && new.key == old.key
            });
            let found = found.ok_or(ReadError::Damaged(Damage::Head))?;
            self.head = found.newest.clone();
            self.segment = None;
            self.recover()?;
            return self.adopt(found);
        }
        let (position, segment) = (self.head.position, self.head.segment);
        if position == 0 {
            return self.recover();
        }
        let len = self.last_segment()?.meta().map_err(ReadError::from)?.len;
        if len < position {
            let seq = self.head.checkpoint.size;
            return Err(ReadError::Damaged(Damage::Short { segment, seq }).into());
        }
        if len > position { self.recover() } else { Ok(()) }
    }

    /// The last segment, which is there.
    fn last_segment(&mut self) -> Result<Arc<dyn File>, StopCause> {
        let first = self.head.segment;
        if let Some((open, file)) = &self.segment
            && *open == first
        {
            return Ok(Arc::clone(file));
        }
        let file = match self.folder.tree.open_rw(&segment_name(&self.folder.dir, first)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ReadError::Damaged(Damage::SegmentMissing { first }).into());
            }
            opened => opened.map_err(ReadError::from)?,
        };
        self.segment = Some((first, Arc::clone(&file)));
        Ok(file)
    }

    /// Cuts what lies behind the head.
    fn recover(&mut self) -> Result<(), StopCause> {
        let Head { segment, position, checkpoint, .. } = self.head;
        let bounded = |bytes: u64| {
            let long = Damage::Long { bytes };
            if bytes > TAIL_BYTES_MAX { Err(ReadError::Damaged(long)) } else { Ok(bytes) }
        };
        for first in frames::segments(&self.folder).map_err(ReadError::from)? {
            if first <= segment && position > 0 {
                continue;
            }
            if first != checkpoint.size {
                return Err(ReadError::Damaged(Damage::SegmentStray { first }).into());
            }
            // A segment that was begun with records that never were acknowledged.
            let name = segment_name(&self.folder.dir, first);
            let meta = self.folder.tree.meta(&name).map_err(ReadError::from)?;
            self.recovered.cut_bytes += bounded(meta.len)?;
            let removed = self.folder.tree.unlink(&name);
            let removed = removed.and_then(|()| self.folder.tree.sync_dir(&self.folder.dir));
            removed.map_err(StopCause::io("cut off"))?;
        }
        if position == 0 {
            return Ok(());
        }
        let file = self.last_segment()?;
        let len = file.meta().map_err(ReadError::from)?.len;
        let Some(behind) = len.checked_sub(position) else {
            let seq = checkpoint.size;
            return Err(ReadError::Damaged(Damage::Short { segment, seq }).into());
        };
        if bounded(behind)? > 0 {
            let cut = file.set_len(position).and_then(|()| file.sync());
            cut.map_err(StopCause::io("cut off"))?;
            self.recovered.cut_bytes += behind;
        }
        Ok(())
    }

    /// Makes the newest head ours, with its tree: the one beside it, or the one that the records
    /// give. Its slot is written again as it is: whoever wrote it may have failed to sync it, and
    /// then it is in the cache only. If a tree is torn, both slots are written anew.
    fn adopt(&mut self, found: Heads) -> Result<(), StopCause> {
        let [newest, before] = found.trees;
        let whole = newest.is_some() && before.is_some();
        self.tree = match newest {
            Some(tree) => tree,
            None => self.read_tree()?,
        };
        let written = self.head.write(&*self.head_file, &self.tree);
        written.map_err(StopCause::io("acknowledged"))?;
        if !whole {
            self.write_head(self.head.clone())?;
            self.write_head(self.head.clone())?;
        }
        let bytes = head::read(&*self.head_file).map_err(ReadError::from)?;
        self.head_bytes = bytes.ok_or(ReadError::Damaged(Damage::Head))?;
        Ok(())
    }

    fn read_tree(&self) -> Result<Frontier, ReadError> {
        let mut tree = Frontier::default();
        let mut frames = Frames::all(&self.folder, &self.head)?;
        while let Some(found) = frames.next()? {
            tree.push(found.digest);
        }
        let right = tree.root() == self.head.checkpoint.root;
        if right { Ok(tree) } else { Err(Damage::Tree.into()) }
    }

    /// Writes `head` as the next one, with our tree; durable on return.
    fn write_head(&mut self, mut head: Head) -> Result<(), StopCause> {
        head.generation = self.head.generation + 1;
        let written = head.write(&*self.head_file, &self.tree);
        written.map_err(StopCause::io("acknowledged"))?;
        self.head = head;
        Ok(())
    }

    fn append(&mut self, batch: &[Pending]) -> Result<(u64, usize), StopCause> {
        let first = self.head.checkpoint.size;
        let roll = self.head.position == 0 || self.head.position >= self.segment_bytes;
        let mut draft = Draft::new(self, roll);
        let mut count = 0;
        for pending in batch {
            draft.push(pending);
            count += 1;
            if draft.bytes.len() >= BATCH_BYTES {
                break;
            }
        }
        if first / SEAL_RECORDS != draft.tree.size() / SEAL_RECORDS {
            draft.push(&Pending::new(draft.at, What::Seal));
        }
        let Draft { bytes, chain, tree, at, .. } = draft;
        let (segment, position) =
            if roll { (first, 0) } else { (self.head.segment, self.head.position) };
        let file = if roll { self.new_segment(first)? } else { self.last_segment()? };
        let written = file.write_at(&bytes, position);
        written.map_err(StopCause::io("written"))?;
        kill::step("append-written");
        let synced = file
            .sync()
            .and_then(|()| if roll { self.folder.tree.sync_dir(&self.folder.dir) } else { Ok(()) });
        synced.map_err(StopCause::io("synced"))?;
        kill::step("append-synced");
        let key = &self.setup.key;
        let checkpoint = Checkpoint::sign(key, self.log(), tree.size(), tree.root(), at);
        let position = position + bytes.len() as u64;
        let key = key.public();
        self.tree = tree;
        self.write_head(Head { segment, position, chain, key, checkpoint, ..self.head.clone() })?;
        kill::step("append-acknowledged");
        let at = (self.head.generation % 2) as usize * head::SLOT_BYTES;
        let slot = self.head.slot(&self.tree);
        self.head_bytes[at..at + head::SLOT_BYTES].copy_from_slice(&slot);
        Ok((first, count))
    }

    fn new_segment(&mut self, first: u64) -> Result<Arc<dyn File>, StopCause> {
        let name = segment_name(&self.folder.dir, first);
        let file = match self.folder.tree.create(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Another process died on the way to its first record.
                self.recover()?;
                self.folder.tree.create(&name)
            }
            made => made,
        };
        let file = file.map_err(StopCause::io("given a file"))?;
        self.segment = Some((first, Arc::clone(&file)));
        Ok(file)
    }
}

/// The bytes of an append, and where the log stands after it.
struct Draft<'a> {
    setup: &'a Setup,
    log: LogId,
    bytes: Vec<u8>,
    chain: Digest,
    tree: Frontier,
    at: FileTime,
}

impl<'a> Draft<'a> {
    fn new(store: &'a Store, roll: bool) -> Self {
        let (log, chain, tree) = (store.log(), store.head.chain, store.tree.clone());
        let mut bytes = Vec::with_capacity(SEGMENT_HEAD_BYTES);
        if roll {
            bytes.extend_from_slice(&segment_head(log, tree.size(), chain));
        }
        Self { setup: &store.setup, log, bytes, chain, tree, at: store.head.checkpoint.at }
    }

    fn push(&mut self, pending: &Pending) {
        let (seq, at) = (self.tree.size(), pending.at);
        let record = match &pending.what {
            What::Record(record) => codec::encode(seq, at, record),
            What::Seal => {
                let root = self.tree.root();
                let seal = Checkpoint::sign(&self.setup.key, self.log, seq, root, at);
                codec::encode(seq, at, &Record::Seal(seal))
            }
            What::Key => codec::encode(seq, at, &Record::Key(self.setup.record(self.log))),
        };
        self.chain = frame::push(&mut self.bytes, self.chain, &record);
        self.tree.push(self.chain);
        self.at = at;
    }
}

/// Begins a log without records.
fn begin(folder: &LogFolder, setup: &Setup, at: FileTime) -> Result<Heads, StopCause> {
    let root = Frontier::default().root();
    let head = Head {
        generation: 0,
        segment: 0,
        position: 0,
        chain: Digest::default(),
        key: setup.key.public(),
        checkpoint: Checkpoint::sign(&setup.key, setup.new_log, 0, root, at),
    };
    head::create(&*folder.tree, &folder.dir, &head).map_err(StopCause::io("begun"))?;
    let found = heads(folder)?;
    found.ok_or_else(|| ReadError::Damaged(Damage::Head).into())
}
