//! What a source is told, and what it asks for.

use crate::base::Seq;
use crate::manifest::Entry;
use crate::protocol::{FailedObject, Failure, Stop};
use crate::wire::{DataHeader, End, Frame, Piece, Published};

/// Work for whoever reads files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadJob {
    /// These small files, whole, one after the other.
    Pack(Vec<(Seq, u32, Entry)>),
    /// The next run of one large file.
    Next(Seq, u32, Entry),
}

impl ReadJob {
    /// The objects that it reads of.
    pub fn objects(&self) -> Vec<(Seq, &Entry)> {
        match self {
            Self::Pack(files) => files.iter().map(|(seq, _, entry)| (*seq, entry)).collect(),
            Self::Next(seq, _, entry) => vec![(*seq, entry)],
        }
    }
}

/// An object is not what was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The object.
    pub seq: Seq,
    /// The reading that noticed.
    pub round: u32,
    /// What it is now.
    pub entry: Entry,
}

/// What a read gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadDone {
    /// The run that the read filled.
    pub run: u64,
    /// Its pieces in order of their bytes.
    pub pieces: Vec<Piece>,
    /// Objects read to their end.
    pub ends: Vec<End>,
    /// A large object of which more is to be read.
    pub more: Option<(Seq, u32)>,
    /// Objects that changed while they were read.
    pub changed: Vec<Changed>,
    /// Objects that cannot be read.
    pub failed: Vec<(Seq, Failure)>,
}

/// What a source is told.
#[derive(Debug)]
pub enum SourceInput {
    /// A frame from the target.
    Frame(Frame),
    /// Entries that a `Scan` found, in canonical order; fewer than asked for is fine.
    Scanned {
        /// The entries.
        entries: Vec<Entry>,
        /// How many were left out.
        skipped: u64,
        /// There are no more.
        done: bool,
    },
    /// A `Read` is done.
    Read(ReadDone),
    /// A `ReadAgain` is done: all pieces are held, or else the object changed or failed.
    ReadAgain {
        /// The run.
        run: u64,
        /// The object is no longer what it was.
        changed: Option<Changed>,
        /// The object cannot be read.
        failed: Option<(Seq, Failure)>,
    },
    /// The content of a run is with the transport, and forgotten here.
    Sent {
        /// The run.
        run: u64,
    },
    /// The source cannot go on.
    Broken(Failure),
}

/// What a source asks for.
#[derive(Debug)]
pub enum SourceAction {
    /// Send a frame.
    Send(Frame),
    /// Find up to this many further entries.
    Scan(usize),
    /// Read into a lease that is then held under the number `run`.
    Read {
        /// Names the run.
        run: u64,
        /// What to read.
        job: ReadJob,
    },
    /// Read these pieces anew, check their digests, and hold them under the number `run`.
    ReadAgain {
        /// Names the run.
        run: u64,
        /// What to read, all of one object.
        pieces: Vec<Piece>,
        /// The object.
        entry: Entry,
    },
    /// Send these pieces of a held run, then forget it.
    SendData(DataHeader),
    /// These pieces of a held run would be sent, were this no plan; it is forgotten next.
    Probe(DataHeader),
    /// Forget a held run.
    Forget(u64),
    /// This reading of the object needs no reader any more.
    Close {
        /// The object.
        seq: Seq,
        /// The reading.
        round: u32,
    },
    /// The transfer is over for this session.
    End(SourceEnd),
}

/// How a session ended for the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEnd {
    /// The target published; these objects failed alone.
    Published(Published, Vec<FailedObject>),
    /// It stopped early.
    Stopped(Stop),
}
