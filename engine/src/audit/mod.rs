//! The audit log of the border: what was decided, what crossed, and what both ends say of it.
//!
//! A log is append-only. Its records lie in frames, each with the BLAKE3 digest of the frame before;
//! the digests are the leaves of a Merkle tree (RFC 9162), whose root every append signs with
//! Ed25519. [`AuditLog::append`] returns when a record is on disk, and gives a [`Permit`] for a
//! decision that grants content to leave; there is no other way to one. [`verify`] finds any change;
//! with a [`Checkpoint`] that a peer holds, an old copy too. [`reconcile`] compares the logs of both
//! ends of transfers, [`Export`] writes them as one view.
//!
//! `docs/border.md` has the format byte by byte and argues the failure cases.

mod checkpoint;
mod closing;
mod codec;
mod error;
mod export;
mod extents;
mod extract;
mod folder;
mod frame;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod head;
pub(crate) mod kill;
mod log;
mod merkle;
mod names;
mod portable;
mod read;
mod receipt;
mod reconcile;
mod record;
mod store;
#[cfg(test)]
mod tests;
mod verify;

pub use checkpoint::{CHECKPOINT_BYTES, Checkpoint};
pub use closing::Account;
pub(crate) use closing::{Offer, Statement};
pub use codec::{CERT_BYTES_MAX, CERTS_MAX, RECORD_BYTES_MAX, VERSION};
pub use error::{Damage, LogError, ReadError, StopCause, VerifyError};
pub use export::{Export, ExportError, Format, Row, csv_cell};
pub use extents::{
    EXTENTS_PER_RECORD_MAX, ExtentSet, LeftHasher, LeftSum, OBJECTS_PER_RECORD_MAX,
    PATHS_PER_RECORD_BYTES_MAX,
};
pub use extract::ExtractError;
pub(crate) use extract::{Extract, extract};
pub use folder::LogFolder;
pub use frame::FRAME_BYTES;
pub use log::{Appended, AuditLog, Permit, Setup};
pub use merkle::{Frontier, Prover, consistency_holds, inclusion_holds};
pub use names::{Ending, LogId, Place, Word};
pub(crate) use portable::Portable;
pub use read::{Entries, prove_consistency, prove_inclusion};
pub use receipt::{Party, Receipt, ReceiptBody, ReceiptError};
pub use reconcile::{Difference, End, Reconciled, Remark, reconcile};
pub use record::{
    Crossing, Decision, Dispute, Entry, KeyRecord, Meter, Progress, Record, Stop, Witness,
};
pub use store::{Recovered, SEGMENT_BYTES};
pub use verify::{Judge, Known, Report, verify};
