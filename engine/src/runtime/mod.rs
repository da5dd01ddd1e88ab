//! The driver: files, tasks, real clock, wiring.
//!
//! `target::TargetStore` and `source::SourceFiles` carry out what the protocol machines ask for,
//! over the storage port; they block and know no network, so the simulation runs them too.

pub mod codecs;
pub mod copies;
pub mod drive;
mod effort;
mod idle;
pub(crate) mod labels;
pub mod manifest_file;
mod noted;
pub mod readers;
pub mod root;
pub mod scan;
pub mod shares;
pub mod snapshots;
pub mod source;
pub mod target;

use std::io;

use crate::base::RelPath;
use crate::border::{DENIALS, Denied};
use crate::protocol::Failure;
use crate::storage::lacks_descriptors;

/// Directory of Portway's own files at the top of a node's root.
pub const OWN_DIR: &[u8] = b".portway";

/// Whether a path is Portway's own and no business of a peer, be it of another root that lies below.
pub(crate) fn is_own(path: &RelPath) -> bool {
    path.components().any(|name| name == OWN_DIR)
}

/// What a failed file operation means.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// One object fails alone.
    Object(Failure),
    /// Nothing can go on: the disk is full, the tree is gone, or no descriptor is left.
    Node(Failure),
}

/// Sorts an error of the operation `doing` at `path`.
pub(crate) fn trouble(doing: &str, path: &RelPath, error: &io::Error) -> Trouble {
    let detail = format!("cannot {doing} {path}: {error}");
    if lacks_descriptors(error) {
        return Trouble::Node(Failure::no_descriptors(detail));
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Trouble::Node(Failure::new("no-space", detail))
        }
        io::ErrorKind::ReadOnlyFilesystem => Trouble::Node(Failure::new("read-only", detail)),
        io::ErrorKind::PermissionDenied => Trouble::Object(Failure::new("permission", detail)),
        io::ErrorKind::NotFound => Trouble::Object(Failure::new("vanished", detail)),
        io::ErrorKind::InvalidFilename => Trouble::Object(Failure::new("name-too-long", detail)),
        _ => Trouble::Object(Failure::new("io", detail)),
    }
}

/// What a denial is for a machine: the end of the transfer, at both ends.
pub(crate) fn denial(denied: &Denied) -> Failure {
    Failure::new(denied.code(), denied.to_string())
}

/// Whether a failure is that the border says no: one object that may not move is enough, all is of
/// its class.
pub(crate) fn is_denial(failure: &Failure) -> bool {
    let code = &*failure.code;
    DENIALS.contains(&code) || code == "no-audit" || ends_payment(failure)
}

/// Whether a failure is that nothing more is paid for; what was, may still arrive.
pub(crate) fn ends_payment(failure: &Failure) -> bool {
    matches!(&*failure.code, "budget" | "link-closed")
}

/// The same error, whatever it hits.
pub(crate) fn fatal(doing: &str, path: &RelPath, error: &io::Error) -> Failure {
    match trouble(doing, path, error) {
        Trouble::Object(failure) | Trouble::Node(failure) => failure,
    }
}
