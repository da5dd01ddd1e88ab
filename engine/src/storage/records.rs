//! Reading checksummed records from a file, in order.

use std::io;
use std::sync::Arc;

use super::File;
use crate::manifest::record::{self, Parsed};

/// Reads records in order and stops at the first that is torn or damaged.
pub struct RecordReader {
    file: Arc<dyn File>,
    /// Position in the file of the next unread byte.
    at: u64,
    /// Bytes read ahead; those before `start` are used up.
    buffer: Vec<u8>,
    start: usize,
    /// Bytes to read at a time; zero reads no further than a record needs.
    ahead: usize,
}

impl RecordReader {
    /// A reader that begins at the position `at`.
    pub fn new(file: Arc<dyn File>, at: u64, ahead: usize) -> Self {
        Self { file, at, buffer: Vec::new(), start: 0, ahead }
    }

    /// Position of the next record.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Whether the next bytes are `magic`; passes over them.
    pub fn magic(&mut self, magic: &[u8]) -> io::Result<bool> {
        let there = self.fill(magic.len())? >= magic.len() && self.unread().starts_with(magic);
        if there {
            self.skip(magic.len());
        }
        Ok(there)
    }

    /// The next record: its position and payload. `None` at the end, and where the bytes are torn
    /// or damaged.
    pub fn read(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            match record::parse(self.unread()) {
                Parsed::Damaged => return Ok(None),
                Parsed::Short(want) => {
                    if self.fill(want.max(self.ahead))? < want {
                        return Ok(None);
                    }
                }
                Parsed::Record(payload, bytes) => {
                    let found = (self.at, payload.to_vec());
                    self.skip(bytes);
                    return Ok(Some(found));
                }
            }
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads on until `want` bytes are unread or the file ends; returns how many are.
    fn fill(&mut self, want: usize) -> io::Result<usize> {
        if self.unread().len() < want {
            self.buffer.drain(..self.start);
            self.start = 0;
            let have = self.buffer.len();
            self.buffer.resize(want, 0);
            let read = self.file.read_at(&mut self.buffer[have..], self.at + have as u64)?;
            self.buffer.truncate(have + read);
        }
        Ok(self.unread().len())
    }

    fn skip(&mut self, bytes: usize) {
        self.start += bytes;
        self.at += bytes as u64;
    }
}
