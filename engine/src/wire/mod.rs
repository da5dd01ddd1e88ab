//! Frames of the control channel and headers of data messages. The text is `docs/protocol.md`.

mod codec;
mod data;
mod frame;
mod messages;
mod packed;
mod port;
mod words;

pub(crate) use data::BASIS_EXTENTS_MAX;
pub use data::{Basis, BasisExtent, Coded, DataHeader, PieceRange};
pub use frame::{
    Accept, BasisFile, Bitmap, End, Frame, Hello, Known, Numbers, Open, Operation, Piece,
    Published, Verdict,
};

pub use port::{NO_RAILS_BYTES_MAX, PORTS_MAX, Port};

pub use crate::manifest::DecodeError;

/// Protocol versions that this build speaks, oldest and newest.
pub const VERSIONS: (u32, u32) = (1, 1);

/// The newest version that both sides speak, or `None`.
pub fn negotiate(theirs: (u32, u32)) -> Option<u32> {
    let newest = VERSIONS.1.min(theirs.1);
    (newest >= VERSIONS.0.max(theirs.0)).then_some(newest)
}

#[cfg(test)]
mod tests;
