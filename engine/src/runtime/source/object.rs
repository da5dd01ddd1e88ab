//! Reading one object: every byte once, cut and digested while it is hot.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{ReadTrouble, entry_of};
use crate::base::limits::RUN_PIECES_MAX;
use crate::base::{Digest, Extent, FileTime, RelPath, Seq};
use crate::chunk::{Cuts, Cutter};
use crate::manifest::{ChunkRef, Entry, ListHasher, Object};
use crate::metrics::Stage;
use crate::runtime::effort::Effort;
use crate::storage::File;
use crate::wire::Piece;

/// Within this time two changes of a file may carry the same time stamp: twice the longest tick
/// (`CONFIG_HZ` of 100) that a kernel stamps files by.
const TICK: Duration = Duration::from_millis(20);

/// Waits until a change from now on must show in a file's times: one that came in the same tick as
/// the last change would leave no trace, and a mix of both would pass for the file.
fn outlast_tick(changed: FileTime) {
    let (Ok(now), Ok(secs)) =
        (SystemTime::now().duration_since(UNIX_EPOCH), u64::try_from(changed.secs))
    else {
        return;
    };
    let age = now.checked_sub(Duration::new(secs, changed.nanos));
    if let Some(left) = age.and_then(|age| TICK.checked_sub(age)) {
        sleep(left);
    }
}

/// What one step gave.
pub(super) struct Step {
    /// Bytes of whole chunks at the start of the lease.
    pub(super) bytes: usize,
    /// The object, if this was its end.
    pub(super) end: Option<Object>,
}

/// An object that is being read.
pub(super) struct ObjectReader {
    file: Arc<dyn File>,
    path: RelPath,
    entry: Entry,
    sparse: bool,
    /// The extent of data that is being read; it ends at a hole or at the object's end.
    extent: Extent,
    /// Next byte to read.
    at: u64,
    /// Bytes that were read and belong to the next chunk; they end at `at`.
    tail: Vec<u8>,
    cuts: Option<(Cutter, Cuts)>,
    list: ListHasher,
}

impl ObjectReader {
    /// Begins to read an announced file; it must still be what was announced.
    pub(super) fn open(file: Arc<dyn File>, entry: &Entry) -> Result<Self, ReadTrouble> {
        let failed = |e| ReadTrouble::of("open", &entry.path, &e);
        let meta = file.meta().map_err(failed)?;
        if entry_of(entry.path.clone(), &meta, None) != *entry {
            return Err(ReadTrouble::Changed);
        }
        outlast_tick(meta.ctime);
        let sparse = meta.allocated < meta.len;
        let extent = if sparse { Extent::default() } else { Extent { offset: 0, len: meta.len } };
        Ok(Self {
            file,
            path: entry.path.clone(),
            entry: entry.clone(),
            sparse,
            extent,
            at: 0,
            tail: Vec::new(),
            cuts: None,
            list: ListHasher::default(),
        })
    }

    /// The file that is read.
    pub(super) fn file(&self) -> &dyn File {
        &*self.file
    }

    /// The error for an object that is not what was announced.
    pub(super) fn changed(&self) -> ReadTrouble {
        ReadTrouble::Changed
    }

    /// Fills `lease` with whole chunks, and adds a piece for each.
    pub(super) fn next(
        &mut self,
        (seq, round): (Seq, u32),
        lease: &mut [u8],
        pieces: &mut Vec<Piece>,
        effort: &mut Effort<'_>,
    ) -> Result<Step, ReadTrouble> {
        let mut used = 0;
        loop {
            let extent_end = self.extent.offset + self.extent.len;
            if self.at >= extent_end && self.tail.is_empty() {
                let next = self.next_extent()?;
                let Some(extent) = next else {
                    effort.turn(Stage::Read);
                    return self.finish().map(|object| Step { bytes: used, end: Some(object) });
                };
                self.extent = extent;
                self.at = extent.offset;
                continue;
            }
            if used == lease.len() || pieces.len() >= RUN_PIECES_MAX {
                return Ok(Step { bytes: used, end: None });
            }
            used += self.fill_and_cut((seq, round), &mut lease[used..], pieces, effort)?;
            if self.at < extent_end || !self.tail.is_empty() {
                return Ok(Step { bytes: used, end: None });
            }
        }
    }

    /// Reads into `room`, behind the tail, and cuts; returns the bytes of whole chunks.
    fn fill_and_cut(
        &mut self,
        (seq, round): (Seq, u32),
        room: &mut [u8],
        pieces: &mut Vec<Piece>,
        effort: &mut Effort<'_>,
    ) -> Result<usize, ReadTrouble> {
        let extent_end = self.extent.offset + self.extent.len;
        let kept = self.tail.len().min(room.len());
        let start = self.at - self.tail.len() as u64;
        room[..kept].copy_from_slice(&self.tail[..kept]);
        let mut have = kept;
        if kept == self.tail.len() {
            let want = (extent_end - self.at).min((room.len() - kept) as u64) as usize;
            let failed = |e| ReadTrouble::of("read", &self.path, &e);
            effort.turn(Stage::Read);
            let read = self.file.read_at(&mut room[kept..kept + want], self.at).map_err(failed)?;
            effort.add(read);
            if read < want {
                return Err(ReadTrouble::Changed);
            }
            have += read;
            self.at += read as u64;
            self.tail.clear();
        } else {
            self.tail.drain(..kept);
        }
        effort.turn(Stage::Digest);
        let last = self.at == extent_end && self.tail.is_empty();
        let len = self.entry.len();
        let (_, cuts) = self.cuts.get_or_insert_with(|| {
            let head = if start == 0 { &room[..have] } else { &[] };
            let cutter = Cutter::choose(self.path.name().unwrap_or_default(), len, head);
            (cutter, Cuts::new(cutter, len))
        });
        let mut cut = 0;
        while pieces.len() < RUN_PIECES_MAX {
            let offset = start + cut as u64;
            let Some(bytes) = cuts.next(offset, &room[cut..have], last) else { break };
            let digest = Digest::of(&room[cut..cut + bytes]);
            let chunk = ChunkRef { offset, len: bytes as u32, digest };
            if !self.list.push(&chunk) {
                return Err(ReadTrouble::Changed);
            }
            pieces.push(Piece { seq, round, offset, len: chunk.len, digest });
            cut += bytes;
        }
        effort.add(cut);
        // What is left goes first into the next lease.
        self.tail.splice(..0, room[cut..have].iter().copied());
        Ok(cut)
    }

    fn next_extent(&mut self) -> Result<Option<Extent>, ReadTrouble> {
        let after = self.extent.offset + self.extent.len;
        if !self.sparse || after >= self.entry.len() {
            return Ok(None);
        }
        let failed = |e| ReadTrouble::of("read", &self.path, &e);
        let found = self.file.next_data(after).map_err(failed)?;
        // A file that grows meanwhile shows at the end.
        Ok(found
            .filter(|e| e.offset < self.entry.len())
            .map(|e| Extent { offset: e.offset, len: e.len.min(self.entry.len() - e.offset) }))
    }

    /// The object is read: it must be the same file, untouched since it was announced.
    fn finish(&self) -> Result<Object, ReadTrouble> {
        let failed = |e| ReadTrouble::of("look at", &self.path, &e);
        let meta = self.file.meta().map_err(failed)?;
        if entry_of(self.entry.path.clone(), &meta, None) != self.entry {
            return Err(ReadTrouble::Changed);
        }
        let len = self.entry.len();
        let cutter = self.cuts.as_ref().map_or(0, |(cutter, _)| cutter.code());
        Ok(Object { digest: self.list.finish(len), len, cutter })
    }
}
