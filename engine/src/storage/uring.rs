//! Reads and writes through `io_uring`: several pieces under way at once, waited for together.
//!
//! Each thread has a ring of its own. The kernel holds the callers' buffers only while a call is
//! in here: every way out of [`drive`], a panic included, first waits for all that was submitted.
#![expect(unsafe_code, reason = "the kernel is handed pointers to buffers that are only borrowed")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;

use io_uring::{IoUring, Probe, opcode, squeue, types};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

use super::os::{read_full, write_full};

/// Bytes of one submission. Larger reads and writes are cut into pieces of this size.
pub const PIECE_BYTES: usize = 256 << 10;
/// Most pieces under way in one ring: a lease of 2 MiB twice.
const PIECES_MAX: u32 = 16;
/// `/proc` file of the sysctl that switches `io_uring` off: 0 is on, 1 is off for unprivileged
/// processes, 2 is off (Linux 6.6, admin-guide/sysctl/kernel).
const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

/// Why there is no `io_uring` here.
#[derive(Debug, thiserror::Error)]
pub enum UringUnavailable {
    /// The system call is missing.
    #[error("the kernel is older than 5.1 or built without io_uring")]
    Missing,
    /// An administrator switched it off.
    #[error("io_uring is switched off by the sysctl kernel.io_uring_disabled={level}")]
    SwitchedOff {
        /// The sysctl's value.
        level: u8,
    },
    /// It is forbidden by something else.
    #[error("io_uring is forbidden, most likely by the seccomp filter of a container")]
    Forbidden,
    /// The operations used here are missing.
    #[error("the kernel is older than 5.6: its io_uring has no plain read and write")]
    TooOld,
    /// Setting up a ring failed in another way.
    #[error("setting up an io_uring failed")]
    Setup(#[source] io::Error),
}

/// Whether rings can be used in this process.
///
/// # Errors
/// The reason why not.
pub fn probe() -> Result<(), UringUnavailable> {
    let ring = IoUring::new(PIECES_MAX).map_err(why_not)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|_| UringUnavailable::TooOld)?;
    let has_both =
        probe.is_supported(opcode::Read::CODE) && probe.is_supported(opcode::Write::CODE);
    if has_both { Ok(()) } else { Err(UringUnavailable::TooOld) }
}

fn why_not(error: io::Error) -> UringUnavailable {
    match Errno::from_io_error(&error) {
        Some(Errno::NOSYS) => UringUnavailable::Missing,
        Some(Errno::PERM | Errno::ACCESS) => match sysctl_level() {
            0 => UringUnavailable::Forbidden,
            level => UringUnavailable::SwitchedOff { level },
        },
        _ => UringUnavailable::Setup(error),
    }
}

fn sysctl_level() -> u8 {
    std::fs::read_to_string(SYSCTL).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Reads several ranges, each until it is full or the file ends; returns the bytes read by each.
pub(super) fn read_many(
    fd: BorrowedFd<'_>,
    ops: &mut [(u64, &mut [u8])],
) -> io::Result<Vec<usize>> {
    let (mut read, mut ended) = (vec![0; ops.len()], vec![false; ops.len()]);
    let mut pieces = Vec::new();
    for (op, (offset, buf)) in ops.iter_mut().enumerate() {
        for (n, part) in buf.chunks_mut(PIECE_BYTES).enumerate() {
            pieces.push(Piece::new(op, Span::Read(part), *offset, n));
        }
    }
    submit(fd, &mut pieces);
    for mut piece in pieces {
        piece.finish(fd)?;
        // Only bytes without a gap count, should the file have grown meanwhile.
        if let (Some(read), Some(ended)) = (read.get_mut(piece.op), ended.get_mut(piece.op))
            && !*ended
        {
            *read += piece.done;
            *ended = piece.done < piece.len();
        }
    }
    Ok(read)
}

/// Writes all of several ranges.
pub(super) fn write_many(fd: BorrowedFd<'_>, ops: &[(u64, &[u8])]) -> io::Result<()> {
    let mut pieces = Vec::new();
    for (op, (offset, buf)) in ops.iter().enumerate() {
        for (n, part) in buf.chunks(PIECE_BYTES).enumerate() {
            pieces.push(Piece::new(op, Span::Write(part), *offset, n));
        }
    }
    submit(fd, &mut pieces);
    pieces.iter_mut().try_for_each(|piece| piece.finish(fd))
}

/// Memory of one piece.
enum Span<'a> {
    Read(&'a mut [u8]),
    Write(&'a [u8]),
}

/// A part of an operation that is submitted by itself, and what came of it.
struct Piece<'a> {
    op: usize,
    span: Span<'a>,
    offset: u64,
    done: usize,
    outcome: Outcome,
}

enum Outcome {
    /// Not complete, for no reason but that the ring did not get to it.
    Open,
    /// Complete, or at the end of the file.
    Settled,
    Failed(Errno),
}

impl<'a> Piece<'a> {
    fn new(op: usize, span: Span<'a>, offset: u64, n: usize) -> Self {
        let offset = offset.saturating_add((n * PIECE_BYTES) as u64);
        Self { op, span, offset, done: 0, outcome: Outcome::Open }
    }

    fn len(&self) -> usize {
        match &self.span {
            Span::Read(buf) => buf.len(),
            Span::Write(buf) => buf.len(),
        }
    }

    /// The submission of what is left, or `None` if that is nothing.
    fn entry(&mut self, fd: BorrowedFd<'_>, index: usize) -> Option<squeue::Entry> {
        let fd = types::Fd(fd.as_raw_fd());
        let offset = self.offset.saturating_add(self.done as u64);
        let entry = match &mut self.span {
            Span::Read(buf) => {
                let rest = buf.get_mut(self.done..).filter(|rest| !rest.is_empty())?;
                opcode::Read::new(fd, rest.as_mut_ptr(), u32::try_from(rest.len()).ok()?)
                    .offset(offset)
                    .build()
            }
            Span::Write(buf) => {
                let rest = buf.get(self.done..).filter(|rest| !rest.is_empty())?;
                opcode::Write::new(fd, rest.as_ptr(), u32::try_from(rest.len()).ok()?)
                    .offset(offset)
                    .build()
            }
        };
        Some(entry.user_data(index as u64))
    }

    /// Takes in a completion; says whether the rest is to be submitted again.
    fn settle(&mut self, result: i32) -> bool {
        match (usize::try_from(result), &self.span) {
            (Ok(0), Span::Read(_)) => self.outcome = Outcome::Settled,
            (Ok(0), Span::Write(_)) => self.outcome = Outcome::Open,
            (Ok(bytes), _) => {
                self.done = self.len().min(self.done + bytes);
                if self.done < self.len() {
                    return true;
                }
                self.outcome = Outcome::Settled;
            }
            (Err(_), _) => match Errno::from_raw_os_error(result.saturating_neg()) {
                Errno::INTR => return true,
                // Not now, or not by a ring: `finish` does it.
                Errno::AGAIN | Errno::CANCELED | Errno::OPNOTSUPP => {}
                errno => self.outcome = Outcome::Failed(errno),
            },
        }
        false
    }

    /// Does by plain calls what the ring left open; an error if anything failed.
    fn finish(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        match self.outcome {
            Outcome::Settled => return Ok(()),
            Outcome::Failed(errno) => return Err(errno.into()),
            Outcome::Open => {}
        }
        let offset = self.offset.saturating_add(self.done as u64);
        match &mut self.span {
            Span::Read(buf) => {
                let rest = buf.get_mut(self.done..).unwrap_or_default();
                self.done += read_full(fd, rest, offset)?;
            }
            Span::Write(buf) => {
                let rest = buf.get(self.done..).unwrap_or_default();
                write_full(fd, rest, offset)?;
                self.done = buf.len();
            }
        }
        self.outcome = Outcome::Settled;
        Ok(())
    }
}

thread_local! {
    /// This thread's ring. A call takes it out and puts it back only if nothing was left in it.
    static RING: Cell<Option<IoUring>> = const { Cell::new(None) };
}

/// Puts the pieces through this thread's ring. Where there is none, they stay open.
fn submit(fd: BorrowedFd<'_>, pieces: &mut [Piece<'_>]) {
    // A thread that is ending has no place for a ring any more.
    let kept = RING.try_with(Cell::take).ok().flatten();
    let Some(mut ring) = kept.or_else(|| IoUring::new(PIECES_MAX).ok()) else { return };
    if drive(&mut ring, fd, pieces) {
        let _ = RING.try_with(|slot| slot.set(Some(ring)));
    }
}

/// Submits the pieces and waits for them. Returns whether the ring is empty and fit for more; if
/// not, it may hold submissions that the kernel never took and must be dropped.
fn drive(ring: &mut IoUring, fd: BorrowedFd<'_>, pieces: &mut [Piece<'_>]) -> bool {
    let mut flight = Flight { ring, out: 0 };
    let mut queue: VecDeque<usize> = (0..pieces.len()).collect();
    loop {
        while flight.out < PIECES_MAX as usize
            && let Some(index) = queue.pop_front()
        {
            let Some(entry) = pieces.get_mut(index).and_then(|piece| piece.entry(fd, index)) else {
                continue;
            };
            if !flight.push(&entry) {
                return false;
            }
        }
        if flight.out == 0 {
            return true;
        }
        if !flight.wait() {
            flight.drain(pieces);
            return false;
        }
        flight.reap(|index, result| {
            if pieces.get_mut(index).is_some_and(|piece| piece.settle(result)) {
                queue.push_back(index);
            }
        });
    }
}

/// Pieces that were pushed and did not come back. Dropping it waits for them.
struct Flight<'r> {
    ring: &'r mut IoUring,
    out: usize,
}

impl Flight<'_> {
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        let mut queue = self.ring.submission();
        // SAFETY: the entry points into a buffer that the caller of `read_many` or `write_many`
        // lends until that returns, which is after this `Flight` waited for every completion;
        // nobody touches the buffer in between. The descriptor is borrowed as long.
        let pushed = unsafe { queue.push(entry) }.is_ok();
        drop(queue);
        self.out += usize::from(pushed);
        pushed
    }

    /// Submits and waits for one completion at least; `false` if the ring gives up.
    fn wait(&mut self) -> bool {
        match self.ring.submit_and_wait(1) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::Interrupted,
        }
    }

    fn reap(&mut self, mut each: impl FnMut(usize, i32)) {
        for done in self.ring.completion() {
            self.out = self.out.saturating_sub(1);
            each(done.user_data() as usize, done.result());
        }
    }

    /// Waits for all that the kernel took. What it did not take stays in the queue.
    fn drain(&mut self, pieces: &mut [Piece<'_>]) {
        loop {
            self.reap(|index, result| {
                if let Some(piece) = pieces.get_mut(index) {
                    piece.settle(result);
                }
            });
            if self.out <= self.ring.submission().len() {
                return;
            }
            if !self.wait() {
                // Any system call lets completions be posted.
                std::thread::yield_now();
            }
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.drain(&mut []);
    }
}

#[cfg(test)]
mod tests {
    use rustix::fd::AsFd;

    use super::*;

    fn file_with(content: &[u8]) -> std::fs::File {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, content, 0).unwrap();
        file
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    #[test]
    fn a_large_read_is_whole_and_ends_where_the_file_ends() {
        let content = pattern(20 * PIECE_BYTES + 77);
        let file = file_with(&content);
        let mut buf = vec![0; content.len() + 3 * PIECE_BYTES];
        let read = read_many(file.as_fd(), &mut [(0, &mut buf)]).unwrap();
        assert_eq!(read, [content.len()]);
        assert!(buf[..content.len()] == content[..]);
        let read = read_many(file.as_fd(), &mut [(content.len() as u64, &mut buf)]).unwrap();
        assert_eq!(read, [0]);
    }

    #[test]
    fn many_small_and_empty_ranges_come_back_in_their_places() {
        let content = pattern(100_000);
        let file = file_with(&content);
        let mut bufs: Vec<Vec<u8>> = (0..100).map(|n| vec![0; n * 7]).collect();
        let mut ops: Vec<(u64, &mut [u8])> =
            bufs.iter_mut().enumerate().map(|(n, buf)| (n as u64 * 997, buf.as_mut())).collect();
        let read = read_many(file.as_fd(), &mut ops).unwrap();
        for (n, buf) in bufs.iter().enumerate() {
            assert_eq!(read[n], buf.len());
            assert_eq!(buf[..], content[n * 997..][..buf.len()]);
        }
    }

    #[test]
    fn large_writes_land_where_they_belong() {
        let content = pattern(5 * PIECE_BYTES + 3);
        let file = file_with(b"");
        write_many(file.as_fd(), &[(10, &content), (0, b"0123456789")]).unwrap();
        let mut buf = vec![0; content.len() + 10];
        assert_eq!(read_full(file.as_fd(), &mut buf, 0).unwrap(), buf.len());
        assert!(buf[10..] == content[..] && &buf[..10] == b"0123456789");
    }

    #[test]
    fn an_error_is_returned_and_the_ring_stays_usable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, pattern(PIECE_BYTES * 4)).unwrap();
        let read_only = std::fs::File::open(&path).unwrap();
        let data = pattern(PIECE_BYTES * 40);
        let error = write_many(read_only.as_fd(), &[(0, &data)]).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::BADF));
        let mut buf = vec![0; PIECE_BYTES * 4];
        assert_eq!(read_many(read_only.as_fd(), &mut [(0, &mut buf)]).unwrap(), [buf.len()]);
        assert!(buf == data[..buf.len()]);
    }

    #[test]
    fn this_threads_ring_is_kept_where_rings_exist() {
        let file = file_with(b"abc");
        let mut buf = [0; 3];
        assert_eq!(read_many(file.as_fd(), &mut [(0, &mut buf)]).unwrap(), [3]);
        let kept = RING.take();
        assert_eq!(kept.is_some(), probe().is_ok());
    }
}
