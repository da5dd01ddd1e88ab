//! What a target is told and what it asks for.

use std::sync::Arc;

use crate::base::{Digest, Seq};
use crate::manifest::{ChunkRef, Entry, Object};
use crate::protocol::{FailedObject, Failure, Stop};
use crate::wire::{DataHeader, Frame, Piece, Published};

/// What the session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Receive and publish.
    Receive,
    /// Only reckon what would be received.
    Plan,
}

/// What is known at the target of an announced file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Nothing that spares reading it.
    Need,
    /// An earlier run of this transfer has finished it.
    Resumed(Object),
    /// It is published already, and neither side has changed since.
    Published(Object),
}

/// Where a piece was found at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nowhere.
    Missing,
    /// In a file here; it is verified and placed (or, for a plan, known).
    Deduplicated,
    /// In the staged object itself, from an earlier run; it is verified.
    Resumed,
}

/// A piece in the order of a data message's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacePiece {
    /// Its place in the run.
    pub index: usize,
    /// The piece.
    pub piece: Piece,
    /// Its bytes are there but not wanted any more.
    pub skip: bool,
}

/// What became of a piece that was to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceResult {
    /// Verified and written.
    Placed,
    /// The bytes do not have the digest.
    Wrong,
    /// The bytes do not have the digest, and came as a difference: the basis may be another one at the
    /// source. They are asked for again, as they are.
    WrongBasis,
    /// The object cannot be written.
    Failed(Failure),
}

/// An object in a commit.
#[derive(Debug, Clone)]
pub struct CommitObject {
    /// The object.
    pub seq: Seq,
    /// Which reading.
    pub round: u32,
    /// What it is.
    pub entry: Entry,
    /// Chunks that were placed since the last commit.
    pub chunks: Vec<ChunkRef>,
    /// The whole object, if this commit finishes it: content and full chunk list.
    pub finish: Option<(Object, Arc<Vec<ChunkRef>>)>,
}

/// What is to become durable together.
#[derive(Debug, Clone, Default)]
pub struct CommitJob {
    /// The objects, in order.
    pub objects: Vec<CommitObject>,
}

/// An object that takes its place in the manifest.
#[derive(Debug, Clone)]
pub struct SettledObject {
    /// Its number.
    pub seq: Seq,
    /// What it is.
    pub entry: Entry,
    /// Content of a file.
    pub object: Option<Object>,
    /// Its chunk list, if it was received now; else it is where the check found it.
    pub list: Option<Arc<Vec<ChunkRef>>>,
}

/// What a target is told.
#[derive(Debug)]
pub enum TargetInput {
    /// A frame from the source.
    Frame(Frame),
    /// A data message has come; it is held under `ticket`.
    Data {
        /// Names the held content.
        ticket: u64,
        /// What the content is.
        header: DataHeader,
        /// Length of the content.
        bytes: usize,
    },
    /// A `Check` is done: an answer for every file of it, and none if there is none.
    Checked(Vec<(Seq, Checked)>),
    /// A `Resolve` is done: an answer for every piece of it, or a failure of its object.
    Resolved {
        /// The run.
        run: u64,
        /// Place in the run, and what was found or failed.
        found: Vec<(usize, Result<Finding, Failure>)>,
    },
    /// A `Place` is done: an answer for every piece that was not to be skipped.
    Placed {
        /// The run.
        run: u64,
        /// Place in the run, and what became of it.
        results: Vec<(usize, PlaceResult)>,
    },
    /// A `Commit` is done: for each object whether it is durable now.
    Committed(Vec<(Seq, u32, Result<(), Failure>)>),
    /// A `Publish` is done.
    Published(Result<(), Failure>),
    /// Time has passed; see [`Target::deadline`].
    Tick,
    /// The target cannot go on.
    Broken(Failure),
}

/// What a target asks for.
#[derive(Debug)]
pub enum TargetAction {
    /// Send a frame.
    Send(Frame),
    /// Look what is known of these entries; the first has the number `first`.
    Check {
        /// Number of the first.
        first: Seq,
        /// The entries, in canonical order.
        entries: Vec<Entry>,
    },
    /// Look for these pieces here, and place what is found.
    Resolve {
        /// The run.
        run: u64,
        /// Places in the run, and the pieces.
        pieces: Vec<(usize, Piece)>,
    },
    /// Verify the held content and write it.
    Place {
        /// The held content.
        ticket: u64,
        /// The run.
        run: u64,
        /// The pieces, in the order of the content.
        pieces: Vec<PlacePiece>,
    },
    /// Forget held content.
    Drop {
        /// The held content.
        ticket: u64,
    },
    /// Forget what is staged of an object, and begin it anew.
    Reset {
        /// The object.
        seq: Seq,
        /// The new reading.
        round: u32,
        /// What it is now.
        entry: Entry,
    },
    /// Make these durable: data, sync, journal.
    Commit(CommitJob),
    /// These are final; append them to the manifest.
    Settle(Vec<SettledObject>),
    /// Make the snapshot visible.
    Publish {
        /// Its root digest.
        root: Digest,
        /// Number of entries in it.
        entries: u64,
    },
    /// The transfer is over for this session.
    End(TargetEnd),
}

/// How a session ended for the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetEnd {
    /// Published; these objects failed alone.
    Published(Published, Vec<FailedObject>),
    /// It stopped early.
    Stopped(Stop),
}

/// Defects that can be planted to prove that the tests notice them. All off in real use.
#[derive(Debug, Clone, Copy, Default)]
#[doc(hidden)]
pub struct PlantedMachine {
    /// Credit of what was committed does not come back.
    pub lost_credit: bool,
    /// Publish twice.
    pub duplicate_publish: bool,
}
