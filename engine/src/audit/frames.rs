//! Reading a log: frames in order, each checked against the one before.

use std::io;
use std::sync::Arc;

use super::error::{Damage, ReadError};
use super::folder::LogFolder;
use super::frame::{
    self, FRAME_BYTES, FRAME_HEAD_BYTES, Parsed, SEGMENT_HEAD_BYTES, segment_head, segment_name,
};
use super::head::{self, Head, Heads, head_name};
use super::record::Entry;
use crate::base::Digest;
use crate::manifest::DecodeError;
use crate::storage::File;

/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// One record in its frame.
pub(super) struct Found<'a> {
    /// Its number.
    pub seq: u64,
    /// Its bytes.
    pub record: &'a [u8],
    /// The bytes of its frame.
    pub frame: &'a [u8],
    /// The digest of its frame: its leaf in the tree.
    pub digest: Digest,
}

impl Found<'_> {
    /// The record, decoded; it has the number of its place.
    pub(super) fn entry(&self) -> Result<Entry, ReadError> {
        let seq = self.seq;
        match Entry::decode(self.record) {
            Ok(entry) if entry.seq == seq => Ok(entry),
            Ok(_) => Err(Damage::Chain { seq }.into()),
            Err(DecodeError::Field { field: "version" | "kind" }) => Err(ReadError::Newer { seq }),
            Err(source) => Err(Damage::Record { seq, source }.into()),
        }
    }
}

/// A segment that is being read.
struct Segment {
    first: u64,
    file: Arc<dyn File>,
    /// Where the unread bytes of the buffer lie.
    at: u64,
    /// Where the records end.
    end: u64,
}

/// The frames of a log up to its head, in order.
pub(super) struct Frames {
    folder: LogFolder,
    head: Head,
    /// Segments to come, the next one last.
    segments: Vec<u64>,
    segment: Option<Segment>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were used.
    used: usize,
    seq: u64,
    chain: Digest,
}

/// The numbers of the segments in a folder, in order.
pub(super) fn segments(folder: &LogFolder) -> io::Result<Vec<u64>> {
    let names = folder.tree.list(&folder.dir)?;
    let mut found: Vec<u64> =
        names.iter().filter_map(|(name, _)| frame::segment_first(name)).collect();
    found.sort_unstable();
    Ok(found)
}

/// The heads of a log; `None` if there is no log.
pub(super) fn heads(folder: &LogFolder) -> Result<Option<Heads>, ReadError> {
    let file = match folder.tree.open(&head_name(&folder.dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let empty = segments(folder)?.is_empty();
            return if empty { Ok(None) } else { Err(Damage::Head.into()) };
        }
        opened => opened?,
    };
    match head::read(&*file)?.as_ref().and_then(Heads::decode) {
        Some(heads) => Ok(Some(heads)),
        // Its making was cut short: there never was a record.
        None if segments(folder)?.is_empty() => Ok(None),
        None => Err(Damage::Head.into()),
    }
}

/// Bytes behind the head, which never were acknowledged: of the last segment, and of one that was
/// begun after it.
pub(super) fn unacknowledged(folder: &LogFolder, head: &Head) -> io::Result<u64> {
    let len = |first: u64| -> io::Result<u64> {
        Ok(folder.tree.meta(&segment_name(&folder.dir, first))?.len)
    };
    let mut bytes = 0;
    for first in segments(folder)? {
        if first == head.segment {
            bytes += len(first)?.saturating_sub(head.position);
        } else if first == head.checkpoint.size {
            bytes += len(first)?;
        }
    }
    Ok(bytes)
}

impl Frames {
    /// All frames of the log.
    pub(super) fn all(folder: &LogFolder, head: &Head) -> Result<Self, ReadError> {
        let segments = segments(folder)?;
        Ok(Self::new(folder, head, segments, 0, Digest::default()))
    }

    /// The frames of the last segment. What came before is taken as the segment says.
    pub(super) fn last_segment(folder: &LogFolder, head: &Head) -> Result<Self, ReadError> {
        let first = head.segment;
        let mut segments = segments(folder)?;
        segments.retain(|segment| *segment >= first);
        let mut chain = Digest::default();
        if let Ok(file) = folder.tree.open(&segment_name(&folder.dir, first)) {
            file.read_at(&mut chain.0, (SEGMENT_HEAD_BYTES - Digest::BYTES) as u64)?;
        }
        Ok(Self::new(folder, head, segments, first, chain))
    }

    fn new(
        folder: &LogFolder,
        head: &Head,
        mut segments: Vec<u64>,
        seq: u64,
        chain: Digest,
    ) -> Self {
        segments.reverse();
        Self {
            folder: folder.clone(),
            head: head.clone(),
            segments,
            segment: None,
            buffer: Vec::new(),
            used: 0,
            seq,
            chain,
        }
    }

    /// The next frame; `None` at the head, which it was then compared with.
    pub(super) fn next(&mut self) -> Result<Option<Found<'_>>, ReadError> {
        while self.segment.as_ref().is_none_or(|segment| segment.at == segment.end) {
            if !self.open_next()? {
                let head = (self.head.checkpoint.size, self.head.chain);
                return if (self.seq, self.chain) == head {
                    Ok(None)
                } else {
                    Err(Damage::Tree.into())
                };
            }
        }
        let (start, end) = self.frame()?;
        let seq = self.seq;
        self.seq += 1;
        let (record, digest) = (&self.buffer[start..end], self.chain);
        let frame = &self.buffer[start - FRAME_HEAD_BYTES..self.used];
        Ok(Some(Found { seq, record, frame, digest }))
    }

    /// Opens the next segment; false behind the last one.
    fn open_next(&mut self) -> Result<bool, ReadError> {
        let Some(first) = self.segments.pop() else {
            let empty = self.head.position == 0;
            let done = empty || self.segment.as_ref().is_some_and(|s| s.first == self.head.segment);
            return if done { Ok(false) } else { Err(missing(self.seq)) };
        };
        if self.segment.as_ref().is_some_and(|segment| segment.first == self.head.segment)
            || self.head.position == 0
        {
            return Err(Damage::SegmentStray { first }.into());
        }
        if first > self.seq {
            return Err(missing(self.seq));
        }
        if first < self.seq {
            return Err(Damage::SegmentStray { first }.into());
        }
        let file = self.folder.tree.open(&segment_name(&self.folder.dir, first))?;
        let len = file.meta()?.len;
        let end = if first == self.head.segment { self.head.position } else { len };
        if len < end {
            return Err(Damage::Short { segment: first, seq: self.seq }.into());
        }
        let mut head = [0; SEGMENT_HEAD_BYTES];
        let read = file.read_at(&mut head, 0)?;
        let log = self.head.checkpoint.log;
        if read < head.len() || head != segment_head(log, first, self.chain) {
            return Err(Damage::SegmentHead { segment: first }.into());
        }
        self.buffer.clear();
        self.used = 0;
        self.segment = Some(Segment { first, file, at: SEGMENT_HEAD_BYTES as u64, end });
        Ok(true)
    }

    /// Passes over the next frame; gives where its record lies in the buffer.
    fn frame(&mut self) -> Result<(usize, usize), ReadError> {
        let mut want = FRAME_BYTES;
        loop {
            let there = self.fill(want)?;
            let Some(segment) = &mut self.segment else { return Err(missing(self.seq)) };
            let (seq, short) = (self.seq, there < want);
            match frame::parse(&self.buffer[self.used..]) {
                Parsed::Short(_) if short => {
                    return Err(Damage::Short { segment: segment.first, seq }.into());
                }
                Parsed::Short(more) => want = more,
                Parsed::Damaged => {
                    let (segment, offset) = (segment.first, segment.at);
                    return Err(Damage::Frame { seq, segment, offset }.into());
                }
                Parsed::Frame(frame) if frame.chain != self.chain => {
                    return Err(Damage::Chain { seq }.into());
                }
                Parsed::Frame(frame) => {
                    let start = self.used + FRAME_HEAD_BYTES;
                    let end = start + frame.record.len();
                    self.chain = frame.digest;
                    self.used += frame.bytes;
                    segment.at += frame.bytes as u64;
                    return Ok((start, end));
                }
            }
        }
    }

    /// Reads on until `want` bytes are unused or the segment ends; gives how many are.
    fn fill(&mut self, want: usize) -> io::Result<usize> {
        let unused = self.buffer.len() - self.used;
        let Some(segment) = &self.segment else { return Ok(unused) };
        if unused < want {
            self.buffer.drain(..self.used);
            self.used = 0;
            let from = segment.at + unused as u64;
            let more = (segment.end - from).min(READ_BYTES.max(want) as u64) as usize;
            self.buffer.resize(unused + more, 0);
            let read = segment.file.read_at(&mut self.buffer[unused..], from)?;
            self.buffer.truncate(unused + read);
        }
        Ok(self.buffer.len() - self.used)
    }
}

fn missing(first: u64) -> ReadError {
    Damage::SegmentMissing { first }.into()
}
