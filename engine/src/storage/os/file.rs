//! An open regular file: reads and writes that are complete, holes, syncs.

use std::io;
use std::sync::Mutex;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, Advice, SeekFrom};
use rustix::io::Errno;

use super::direct::{Allowed, Direct};
use super::{label, meta_of, set_meta_of};
use crate::base::{Extent, FileTime};
use crate::storage::{File, Meta, uring};

pub(super) struct OsFile {
    fd: OwnedFd,
    uring: bool,
    direct: Direct,
    /// Held for a write through the cache: the file system takes one at a time, and who waits for it
    /// in the kernel spins, where others had work for the processor.
    writing: Mutex<()>,
}

impl OsFile {
    pub(super) fn new(fd: OwnedFd, uring: bool, direct: Allowed) -> Self {
        Self { fd, uring, direct: Direct::new(direct), writing: Mutex::default() }
    }
}

impl File for OsFile {
    fn meta(&self) -> io::Result<Meta> {
        Ok(meta_of(&fs::fstat(&self.fd)?))
    }

    fn label(&self) -> io::Result<Option<Vec<u8>>> {
        label::of(self.fd.as_fd())
    }

    fn set_label(&self, label: &[u8]) -> io::Result<()> {
        label::set(self.fd.as_fd(), label)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.uring && buf.len() > uring::PIECE_BYTES {
            let read = uring::read_many(self.fd.as_fd(), &mut [(offset, buf)])?;
            return Ok(read.first().copied().unwrap_or(0));
        }
        read_full(self.fd.as_fd(), buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if self.direct.write(self.fd.as_fd(), buf, offset)? {
            return Ok(());
        }
        if self.uring && buf.len() > uring::PIECE_BYTES {
            return uring::write_many(self.fd.as_fd(), &[(offset, buf)]);
        }
        let _one = self.writing.lock();
        write_full(self.fd.as_fd(), buf, offset)
    }

    fn read_many(&self, ops: &mut [(u64, &mut [u8])]) -> io::Result<Vec<usize>> {
        if self.uring && ops.len() > 1 {
            return uring::read_many(self.fd.as_fd(), ops);
        }
        ops.iter_mut().map(|(offset, buf)| self.read_at(buf, *offset)).collect()
    }

    fn write_many(&self, ops: &[(u64, &[u8])]) -> io::Result<()> {
        if self.uring && ops.len() > 1 {
            return uring::write_many(self.fd.as_fd(), ops);
        }
        ops.iter().try_for_each(|(offset, buf)| self.write_at(buf, *offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(fs::ftruncate(&self.fd, len)?)
    }

    fn set_meta(&self, mode: u32, mtime: FileTime) -> io::Result<()> {
        Ok(set_meta_of(self.fd.as_fd(), mode, mtime)?)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.fd)?)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Extent>> {
        let len = self.meta()?.len;
        if offset >= len {
            return Ok(None);
        }
        let start = match fs::seek(&self.fd, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // The file system does not tell; all of it counts as data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                return Ok(Some(Extent { offset, len: len - offset }));
            }
            Err(error) => return Err(error.into()),
        };
        match fs::seek(&self.fd, SeekFrom::Hole(start)) {
            Ok(end) => Ok(Some(Extent { offset: start, len: end.saturating_sub(start) })),
            // The file was cut short in between.
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn drop_cache(&self) -> io::Result<()> {
        // Only clean pages can be forgotten.
        fs::fsync(&self.fd)?;
        Ok(fs::fadvise(&self.fd, 0, None, Advice::DontNeed)?)
    }
}

/// `pread` until `buf` is full or the file ends.
pub(in crate::storage) fn read_full(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(fd, rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// `pwrite` until all of `buf` is written.
pub(in crate::storage) fn write_full(
    fd: BorrowedFd<'_>,
    buf: &[u8],
    offset: u64,
) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = buf.get(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pwrite(fd, rest, offset.saturating_add(done as u64)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
