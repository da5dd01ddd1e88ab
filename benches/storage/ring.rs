//! A ring with several leases under way, taken in the order in which they were submitted.
#![expect(unsafe_code, reason = "the kernel is handed pointers to leases")]

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use io_uring::{IoUring, opcode, types};
use portway::buf::{Lease, Slab};

use crate::bed::Piece;
use crate::way::DEPTH;

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Read,
    Write,
}

/// A ring and the leases that it works on. The ring is first: it is gone before its memory is.
pub(crate) struct Ring {
    uring: IoUring,
    fixed: bool,
    leases: Vec<Lease>,
    results: [Option<i32>; DEPTH],
}

impl Ring {
    /// A ring over `leases`, of which it has `DEPTH`; with `fixed`, all of `slab` is registered.
    pub(crate) fn new(slab: &Slab, leases: Vec<Lease>, fixed: bool) -> Result<Self> {
        ensure!(leases.len() == DEPTH, "{} leases", leases.len());
        let uring = IoUring::new(DEPTH as u32).context("no io_uring")?;
        if fixed {
            let range = slab.range();
            let all = libc::iovec { iov_base: range.start as *mut _, iov_len: range.len() };
            // SAFETY: the slab is mapped as long as any of its leases lives; `self` holds some and
            // drops them after the ring.
            let registered = unsafe { uring.submitter().register_buffers(&[all]) };
            registered.context("cannot register the slab")?;
        }
        Ok(Self { uring, fixed, leases, results: [None; DEPTH] })
    }

    /// Any of the leases; in the benchmark they hold the same.
    pub(crate) fn any_lease(&self) -> &[u8] {
        &self.leases[0]
    }

    /// Reads or writes each piece; `each` sees the bytes of the pieces in their order.
    pub(crate) fn pass(
        &mut self,
        verb: Verb,
        file: &File,
        pieces: &[Piece],
        each: impl FnMut(&[u8]),
    ) -> Result<()> {
        let mut under_way = VecDeque::new();
        let outcome = self.turns(verb, file, pieces, each, &mut under_way);
        // Whatever happened, the kernel is done with the leases.
        for (slot, _) in under_way {
            self.wait(slot);
        }
        outcome
    }

    fn turns(
        &mut self,
        verb: Verb,
        file: &File,
        pieces: &[Piece],
        mut each: impl FnMut(&[u8]),
        under_way: &mut VecDeque<(usize, Piece)>,
    ) -> Result<()> {
        let mut next = pieces.iter().copied().enumerate();
        loop {
            while under_way.len() < DEPTH
                && let Some((index, piece)) = next.next()
            {
                self.push(verb, file, piece, index % DEPTH)?;
                under_way.push_back((index % DEPTH, piece));
                self.uring.submit()?;
            }
            let Some((slot, piece)) = under_way.pop_front() else { return Ok(()) };
            match usize::try_from(self.wait(slot)) {
                Ok(done) => ensure!(done == piece.len, "{done} bytes of {}", piece.len),
                Err(_) => {
                    let errno = self.results[slot].unwrap_or(0).saturating_neg();
                    return Err(std::io::Error::from_raw_os_error(errno).into());
                }
            }
            each(piece.of(&self.leases[slot]));
        }
    }

    /// The result of what is under way in a slot.
    fn wait(&mut self, slot: usize) -> i32 {
        loop {
            for done in self.uring.completion() {
                self.results[done.user_data() as usize] = Some(done.result());
            }
            if let Some(result) = self.results[slot] {
                return result;
            }
            // An interrupted wait is begun again.
            let _ = self.uring.submit_and_wait(1);
        }
    }

    fn push(&mut self, verb: Verb, file: &File, piece: Piece, slot: usize) -> Result<()> {
        let (fd, offset) = (types::Fd(file.as_raw_fd()), piece.offset);
        let bytes = piece.of_mut(&mut self.leases[slot]);
        let (at, len) = (bytes.as_mut_ptr(), u32::try_from(bytes.len())?);
        let entry = match (verb, self.fixed) {
            (Verb::Read, false) => opcode::Read::new(fd, at, len).offset(offset).build(),
            (Verb::Read, true) => opcode::ReadFixed::new(fd, at, len, 0).offset(offset).build(),
            (Verb::Write, false) => opcode::Write::new(fd, at, len).offset(offset).build(),
            (Verb::Write, true) => opcode::WriteFixed::new(fd, at, len, 0).offset(offset).build(),
        };
        self.results[slot] = None;
        let mut queue = self.uring.submission();
        // SAFETY: the entry points into a lease of `self`, which is not touched before `pass` has
        // waited for it; `pass` waits for all it pushed, and the file is borrowed as long.
        unsafe { queue.push(&entry.user_data(slot as u64)) }.context("the ring is full")
    }
}
