//! Writes around the page cache (`O_DIRECT`), where file system, offset and memory allow it.
//!
//! Only whole blocks of a file go directly, from memory that is aligned as they are. What a write
//! has before the first and behind the last whole block goes through the cache; it shares its
//! blocks with neighbouring writes, which do the same. So no block is written by both ways but for
//! bytes that are written twice, and there the kernel keeps the order: a direct write first writes
//! back and then drops what the cache holds of its range, under the inode's lock.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use rustix::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::file::write_full;

/// What offsets and memory are aligned to: the larger of the two sector sizes that disks have.
const BLOCK_BYTES: usize = 4096;
/// Fewest bytes of whole blocks that are written directly. Each such write waits for the medium.
const DIRECT_BYTES_MIN: usize = 256 << 10;

/// Whether the files of a tree are written directly: shared by all of them, since what refuses one
/// refuses the next.
#[derive(Debug, Clone)]
pub(super) struct Allowed(Arc<AtomicBool>);

impl Allowed {
    pub(super) fn new(allowed: bool) -> Self {
        Self(Arc::new(AtomicBool::new(allowed)))
    }

    fn refuse(&self) {
        self.0.store(false, Relaxed);
    }
}

/// The direct way into one file.
pub(super) struct Direct {
    allowed: Allowed,
    /// A second descriptor of the file, opened when there is something for it.
    fd: OnceLock<Option<OwnedFd>>,
}

impl Direct {
    pub(super) fn new(allowed: Allowed) -> Self {
        Self { allowed, fd: OnceLock::new() }
    }

    /// Writes the whole blocks of `buf` directly and the rest through the cache. False if nothing
    /// was written, because it cannot be done or would not pay.
    pub(super) fn write(&self, fd: BorrowedFd<'_>, buf: &[u8], offset: u64) -> io::Result<bool> {
        let Some((head, blocks)) = split(buf, offset) else { return Ok(false) };
        if !self.allowed.0.load(Relaxed) {
            return Ok(false);
        }
        let Some(direct) = self.fd.get_or_init(|| reopen(fd)) else { return Ok(false) };
        let (first, rest) = buf.split_at(head);
        let (middle, last) = rest.split_at(blocks);
        let begin = offset.saturating_add(head as u64);
        write_full(fd, first, offset)?;
        let done = self.write_blocks(direct, middle, begin)?;
        write_full(fd, middle.get(done..).unwrap_or_default(), begin + done as u64)?;
        write_full(fd, last, begin.saturating_add(blocks as u64))?;
        Ok(true)
    }

    /// Writes blocks as far as the file system takes them directly; returns the bytes written.
    fn write_blocks(&self, direct: &OwnedFd, blocks: &[u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = blocks.get(done..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pwrite(direct, rest, offset.saturating_add(done as u64)) {
                // What is left after a part of a block is no longer aligned.
                Ok(written) if written == 0 || !written.is_multiple_of(BLOCK_BYTES) => {
                    return Ok(done + written);
                }
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                // Not here, or not with this alignment.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                    self.allowed.refuse();
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }
}

/// How many bytes of `buf` are before its first whole block of the file, and how many are whole
/// blocks. `None` if those are few, or lie in memory otherwise than in the file.
fn split(buf: &[u8], offset: u64) -> Option<(usize, usize)> {
    let head = (offset.next_multiple_of(BLOCK_BYTES as u64) - offset) as usize;
    let blocks = buf.len().checked_sub(head)? / BLOCK_BYTES * BLOCK_BYTES;
    let begin = buf.as_ptr() as usize + head;
    (blocks >= DIRECT_BYTES_MIN && begin.is_multiple_of(BLOCK_BYTES)).then_some((head, blocks))
}

/// The same file with `O_DIRECT`, through the system's link to the descriptor, since the file may
/// have another name by now. `None` if it cannot be opened so, for whatever reason.
fn reopen(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NOCTTY;
    fs::open(link.as_str(), flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests;
