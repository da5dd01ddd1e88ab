//! The content of a file: sparse pages that copies share.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::Extent;

/// Unit of allocation, in bytes.
pub(super) const PAGE_BYTES: u64 = 4096;
const PAGE: usize = PAGE_BYTES as usize;

/// Bytes of a file with its holes. A clone shares pages until one side writes.
#[derive(Clone, Default)]
pub(super) struct Content {
    len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

/// The parts of `[offset, offset + len)` page by page: page number, start within, bytes.
fn parts(mut offset: u64, mut len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    std::iter::from_fn(move || {
        let start = (offset % PAGE_BYTES) as usize;
        let bytes = len.min(PAGE - start);
        let part = (offset / PAGE_BYTES, start, bytes);
        offset += bytes as u64;
        len -= bytes;
        (bytes > 0).then_some(part)
    })
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Pages that a write there would have to allocate.
    pub(super) fn pages_missing(&self, offset: u64, len: usize) -> u64 {
        parts(offset, len).filter(|(page, ..)| !self.pages.contains_key(page)).count() as u64
    }

    /// Fills `buf` as far as the content goes; returns the bytes filled.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let there = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut rest = &mut buf[..there];
        for (page, start, bytes) in parts(offset, there) {
            let (part, after) = rest.split_at_mut(bytes);
            match self.pages.get(&page) {
                Some(page) => part.copy_from_slice(&page[start..start + bytes]),
                None => part.fill(0),
            }
            rest = after;
        }
        there
    }

    /// Writes `data`; the end must be within the range of a file offset.
    pub(super) fn write(&mut self, mut data: &[u8], offset: u64) {
        self.len = self.len.max(offset + data.len() as u64);
        for (page, start, bytes) in parts(offset, data.len()) {
            let (part, after) = data.split_at(bytes);
            self.page_mut(page)[start..start + bytes].copy_from_slice(part);
            data = after;
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let pages = len.div_ceil(PAGE_BYTES);
            self.pages.split_off(&pages);
            let keep = (len % PAGE_BYTES) as usize;
            // What follows the new end must read as zeros should the file grow again.
            if keep > 0 && self.pages.contains_key(&(pages - 1)) {
                self.page_mut(pages - 1)[keep..].fill(0);
            }
        }
        self.len = len;
    }

    /// Flips the lowest bit of one byte; nothing happens past the end.
    pub(super) fn flip(&mut self, offset: u64) {
        if offset < self.len {
            self.page_mut(offset / PAGE_BYTES)[(offset % PAGE_BYTES) as usize] ^= 1;
        }
    }

    /// The first extent of allocated pages at or after `offset`.
    pub(super) fn next_data(&self, offset: u64) -> Option<Extent> {
        if offset >= self.len {
            return None;
        }
        let first = *self.pages.range(offset / PAGE_BYTES..).next()?.0;
        let start = offset.max(first * PAGE_BYTES);
        let run = self.pages.range(first..).zip(first..).take_while(|((page, _), n)| **page == *n);
        let end = (first + run.count() as u64) * PAGE_BYTES;
        (start < self.len).then(|| Extent { offset: start, len: end.min(self.len) - start })
    }

    fn page_mut(&mut self, page: u64) -> &mut [u8; PAGE] {
        Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE])))
    }
}
