//! Reading a log: its records in order, and proofs about them.

use super::error::{Damage, ReadError};
use super::folder::LogFolder;
use super::frames::{Frames, heads};
use super::merkle::Prover;
use super::record::Entry;
use crate::base::Digest;

/// The records of a log up to its head, in order. Each is whole and follows the one before; whether
/// the log is the one that was signed is what [`verify`](super::verify) tells.
pub struct Entries {
    /// None once an error ended it.
    frames: Option<Frames>,
}

impl Entries {
    /// The records of the log in `folder`, as many as there are now.
    ///
    /// # Errors
    /// There is no log, or its head cannot be read.
    pub fn open(folder: &LogFolder) -> Result<Self, ReadError> {
        Ok(Self { frames: Some(frames(folder)?) })
    }

    /// The next record; `None` at the end, and after an error.
    ///
    /// # Errors
    /// The log is damaged there, or cannot be read.
    pub fn read(&mut self) -> Result<Option<Entry>, ReadError> {
        let Some(frames) = &mut self.frames else { return Ok(None) };
        let read = frames.next().and_then(|found| found.map(|found| found.entry()).transpose());
        if read.is_err() {
            self.frames = None;
        }
        read
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

fn frames(folder: &LogFolder) -> Result<Frames, ReadError> {
    let _held = folder.hold()?;
    let found = heads(folder)?.ok_or(ReadError::Missing)?;
    Frames::all(folder, &found.newest)
}

/// A record's leaf, and the proof that it is record `seq` of the first `size`.
///
/// # Errors
/// The log cannot be read, or has fewer records.
pub fn prove_inclusion(
    folder: &LogFolder,
    seq: u64,
    size: u64,
) -> Result<(Digest, Vec<Digest>), ReadError> {
    let mut leaf = Digest::default();
    let prover = Prover::inclusion(seq, size);
    let proof = prove(folder, prover, size, |number, digest| {
        if number == seq {
            leaf = digest;
        }
    })?;
    Ok((leaf, proof))
}

/// The proof that the first `old` records are the beginning of the first `size`.
///
/// # Errors
/// The log cannot be read, has fewer records, or `old` is zero or larger than `size`.
pub fn prove_consistency(
    folder: &LogFolder,
    old: u64,
    size: u64,
) -> Result<Vec<Digest>, ReadError> {
    prove(folder, Prover::consistency(old, size), size, |_, _| ())
}

fn prove(
    folder: &LogFolder,
    prover: Option<Prover>,
    size: u64,
    mut see: impl FnMut(u64, Digest),
) -> Result<Vec<Digest>, ReadError> {
    let mut frames = frames(folder)?;
    let short = |seq| ReadError::Damaged(Damage::Short { segment: 0, seq });
    let mut prover = prover.ok_or(short(size))?;
    let mut seen = 0;
    while seen < size {
        let Some(found) = frames.next()? else { return Err(short(seen)) };
        prover.push(found.digest);
        see(found.seq, found.digest);
        seen += 1;
    }
    prover.finish().ok_or(short(size))
}
