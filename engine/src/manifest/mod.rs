//! A snapshot's description: entries in canonical order, each file with its chunk list.
//!
//! The file format is in `docs/manifest.md`. Digests are over a fixed byte layout, never over the
//! encoding, so that the encoding can grow fields.

mod codec;
mod entry;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod record;

pub use codec::{
    CHUNK_REF_BYTES, DecodeError, EntryMsg, LIST_CHUNKS_MAX, ManifestHead, ManifestRecord,
    decode_list, encode_list, put_entry, put_list,
};
pub use entry::{ChunkRef, Entry, EntryKind, ListHasher, Object, RootHasher, stamp_of};
