//! Reading checksummed records from a file, in order.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::File;
use crate::manifest::record::{self, Parsed, RECORD_HEAD_BYTES};

/// Reads records in order and stops at the first that is torn or damaged.
pub struct RecordReader {
    file: Arc<dyn File>,
    /// Position in the file of the next unread byte.
    at: u64,
    /// What was read last, and the position in the file of its first byte.
    buffer: Bytes,
    buffer_at: u64,
    /// The end of it, not looked at yet.
    unread: Bytes,
    /// Bytes to read at a time; zero reads no further than a record needs.
    ahead: usize,
}

impl RecordReader {
    /// A reader that begins at the position `at`.
    pub fn new(file: Arc<dyn File>, at: u64, ahead: usize) -> Self {
        Self { file, at, buffer: Bytes::new(), buffer_at: at, unread: Bytes::new(), ahead }
    }

    /// Position of the next record.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The records from a position to the next one, if they were not read too long ago.
    pub fn since(&self, position: u64) -> Option<Bytes> {
        let begin = usize::try_from(position.checked_sub(self.buffer_at)?).ok()?;
        let end = self.buffer.len() - self.unread.len();
        (begin <= end).then(|| self.buffer.slice(begin..end))
    }

    /// Whether the next bytes are `magic`; passes over them.
    pub fn magic(&mut self, magic: &[u8]) -> io::Result<bool> {
        let there = self.fill(magic.len())? >= magic.len() && self.unread.starts_with(magic);
        if there {
            self.skip(magic.len());
        }
        Ok(there)
    }

    /// The next record: its position and payload. `None` at the end, and where the bytes are torn
    /// or damaged.
    pub fn read(&mut self) -> io::Result<Option<(u64, Bytes)>> {
        loop {
            match record::parse(&self.unread) {
                Parsed::Damaged => return Ok(None),
                Parsed::Short(want) => {
                    if self.fill(want.max(self.ahead))? < want {
                        return Ok(None);
                    }
                }
                Parsed::Record(_, bytes) => {
                    let found = (self.at, self.unread.slice(RECORD_HEAD_BYTES..bytes));
                    self.skip(bytes);
                    return Ok(Some(found));
                }
            }
        }
    }

    /// Reads on until `want` bytes are unread or the file ends; returns how many are.
    fn fill(&mut self, want: usize) -> io::Result<usize> {
        let have = self.unread.len();
        if have < want {
            let mut bytes = vec![0; want];
            bytes[..have].copy_from_slice(&self.unread);
            let read = self.file.read_at(&mut bytes[have..], self.at + have as u64)?;
            bytes.truncate(have + read);
            self.buffer = bytes.into();
            self.buffer_at = self.at;
            self.unread = self.buffer.clone();
        }
        Ok(self.unread.len())
    }

    fn skip(&mut self, bytes: usize) {
        self.unread.advance(bytes);
        self.at += bytes as u64;
    }
}
