//! Calls of the database that may fail or panic, and what their failures mean.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{Database, Durability, Error, WriteTransaction};

use super::IndexError;
use super::view::View;

/// Whether a base is there, for the table of chunks.
pub(super) fn alive(view: &mut View<'_>, base: u32) -> io::Result<bool> {
    view.is_live(base).map_err(|error| match error {
        Error::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    })
}

/// Begins a write transaction. A durable one commits in two phases, as redb advises where damage
/// by power loss matters.
pub(super) fn begin(db: &Database, durability: Durability) -> Result<WriteTransaction, Error> {
    let mut txn = db.begin_write()?;
    txn.set_two_phase_commit(matches!(durability, Durability::Immediate));
    txn.set_durability(durability)?;
    Ok(txn)
}

/// Runs `f` with its panics turned into errors: redb panics on some kinds of damage.
pub(super) fn quietly<T>(f: impl FnOnce() -> Result<T, Error>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(done) => done.map_err(told),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Err(IndexError::Corrupt { detail: text.unwrap_or_default() })
        }
    }
}

/// Sorts redb's errors into damage and trouble with the medium.
fn told(error: Error) -> IndexError {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        Error::Io(error) if !matches!(error.kind(), InvalidData | UnexpectedEof) => {
            IndexError::Io(error)
        }
        Error::PreviousIo => IndexError::Io(io::Error::other("an earlier call failed")),
        error => IndexError::Corrupt { detail: error.to_string() },
    }
}

/// Whether the medium is full or may not be written.
pub(super) fn no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}
