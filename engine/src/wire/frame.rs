//! What nodes say to each other.

use bytes::Bytes;

use super::{DecodeError, Port};
use crate::base::limits::RUN_PIECES_MAX;
use crate::base::{Class, Digest, Parts, Priority, Rate, RelPath, Seq, Stamp, TransferId};
use crate::encode::Compress;
use crate::manifest::{Entry, Object};
use crate::policy::RolesMark;

/// First frame of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Oldest and newest protocol version that the sender speaks.
    pub versions: (u32, u32),
    /// Program and version, for logs.
    pub program: String,
    /// The sender's wall clock, milliseconds since 1970.
    pub clock_ms: u64,
    /// Ports that can carry content to the sender and from it by RDMA, at most 16; empty where it
    /// offers none, or is older than RDMA.
    pub rails: Vec<Port>,
    /// Why there are none, at most 200 bytes as they came; empty if it does not say.
    pub no_rails: String,
    /// The roles that the sender has and that the CA signed.
    pub roles: Option<RolesMark>,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The opener is the source.
    Push,
    /// The opener is the target.
    Pull,
    /// As `Push`, but only to learn what would move.
    Plan,
}

/// The opener asks for a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// What for.
    pub operation: Operation,
    /// The opener's name for the transfer; a resumed one keeps the name that its journal has.
    pub transfer_id: TransferId,
    /// The path at the peer.
    pub path: RelPath,
    /// Trust nothing but content.
    pub checksum: bool,
    /// Content takes rails between the ports that both greetings told of.
    pub rails: bool,
    /// What an opener who is the target wants encoded; one that knows no encodings wants none.
    pub compress: Compress,
    /// The most that an opener who is the target wants to be sent, or that one who is the source sends.
    pub limit: Option<Rate>,
    /// The class of what an opener who is the source has.
    pub class: Option<Class>,
    /// The most that an opener who is the target pays for, in bytes on the wire in this session.
    pub wire_max: Option<u64>,
    /// How soon it is needed; one that knows no priorities means the highest.
    pub priority: Priority,
    /// An opener who is the target knows nothing of what comes: all of it is needed, and may be offered
    /// without waiting for verdicts.
    pub fresh: bool,
    /// What a push brings is a part of the snapshot that is the directory around `path`. One that knows no
    /// parts refuses the session.
    pub parts: Option<Parts>,
    /// An opener who is the source has an earlier version of what it brings, and the acceptor may have the
    /// same at this path: content may then come as differences to it.
    pub basis: Option<RelPath>,
    /// An opener who is the source takes [`Frame::Near`].
    pub near: bool,
}

/// The peer agrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The transfer's name from now on.
    pub transfer_id: TransferId,
    /// Free bytes where the target writes; zero if the acceptor is the source.
    pub free_bytes: u64,
    /// What an acceptor who is the target wants encoded; one that knows no encodings wants none.
    pub compress: Compress,
    /// The class of what an acceptor who is the source has.
    pub class: Option<Class>,
    /// As [`Open::fresh`], of an acceptor who is the target.
    pub fresh: bool,
}

/// A part of an object that the source offers or is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The object.
    pub seq: Seq,
    /// Which reading of the object; it grows when the source starts it over.
    pub round: u32,
    /// First byte in the object.
    pub offset: u64,
    /// Number of bytes.
    pub len: u32,
    /// Digest of the bytes.
    pub digest: Digest,
}

/// The source has read an object to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The object.
    pub seq: Seq,
    /// Which reading.
    pub round: u32,
    /// Its content.
    pub object: Object,
}

/// What the target knows of an announced file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing that spares reading it.
    Need,
    /// The very same file is there: this is its content.
    Have(Object),
}

/// What the target has of an earlier version of an announced file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasisFile {
    /// The object that it is a basis for.
    pub seq: Seq,
    /// Its length in bytes.
    pub len: u64,
    /// The source's stamp of it, when it was received.
    pub stamp: Stamp,
}

/// The target's answer to an announced file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The object.
    pub seq: Seq,
    /// What the target knows.
    pub known: Known,
}

/// One bit per piece of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bitmap(pub Vec<u8>);

impl Bitmap {
    /// A map of `bits`.
    pub fn of(bits: impl ExactSizeIterator<Item = bool>) -> Self {
        let mut map = vec![0; bits.len().div_ceil(8)];
        for (i, bit) in bits.enumerate() {
            map[i / 8] |= u8::from(bit) << (i % 8);
        }
        Self(map)
    }

    /// Bit `i`; false past the end.
    pub fn bit(&self, i: usize) -> bool {
        self.0.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1)
    }
}

/// The target's counters, for the source's progress and for the reckoning at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    /// Files that are settled well.
    pub files: u64,
    /// Content bytes that were sent.
    pub sent: u64,
    /// Content bytes that were there already.
    pub deduplicated: u64,
    /// Content bytes that an earlier run had made durable.
    pub resumed: u64,
    /// Content bytes that arrived and did not count.
    pub discarded: u64,
}

/// The snapshot is visible and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its root digest.
    pub root: Digest,
    /// The final counters.
    pub numbers: Numbers,
}

/// One frame of the control channel. Source and target are the roles of a transfer, whoever dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Either, first.
    Hello(Hello),
    /// Opener: a transfer.
    Open(Open),
    /// Acceptor: go on.
    Accept(Accept),
    /// Either: no, or no further. The code is stable; `retry` says whether to come back.
    Refuse {
        /// Stable code, such as `conflict`.
        code: String,
        /// For people.
        detail: String,
        /// Whether the same request may succeed later.
        retry: bool,
    },
    /// Source: the next entries, in canonical order.
    Entries {
        /// Number of the first one.
        first: Seq,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// Source: there are no more entries.
    EntriesEnd {
        /// How many there were.
        entries: u32,
        /// How many were left out at the source.
        skipped: u64,
    },
    /// Target: what it knows of announced files.
    Verdicts(Vec<Verdict>),
    /// Target: what content of announced files may be differences to.
    Bases(Vec<BasisFile>),
    /// Source: content that it holds, and objects that end with it.
    Offer {
        /// Names the run in `Want` and in data headers.
        run: u64,
        /// What is in the run, in the order of its bytes.
        pieces: Vec<Piece>,
        /// Objects whose last piece is in this run or an earlier one.
        ends: Vec<End>,
    },
    /// Target, before the `Want` of the same run: sums of blocks that it has beside what it found of the run,
    /// so that what is wanted may come as copies of them.
    Near {
        /// The run.
        run: u64,
        /// A sum of each block, in the order of the blocks.
        sums: Bytes,
    },
    /// Target: which pieces of a run to send; the rest can be forgotten.
    Want {
        /// The run.
        run: u64,
        /// One bit per piece.
        wanted: Bitmap,
    },
    /// Target: send these pieces (again) under a run number of the target's choosing.
    Again {
        /// Names the run in the data header.
        run: u64,
        /// What to send.
        pieces: Vec<Piece>,
    },
    /// Source: an object changed while it was read and is read anew.
    Restart {
        /// The object.
        seq: Seq,
        /// The new reading's number.
        round: u32,
        /// What it is now.
        entry: Entry,
    },
    /// Either: this object fails alone.
    Failed {
        /// The object.
        seq: Seq,
        /// Stable code, such as `source-changed`.
        code: String,
        /// For people.
        detail: String,
    },
    /// Target: all objects below this number are settled, and the counters so far.
    Settled {
        /// One past the last settled object.
        below: Seq,
        /// Counters.
        numbers: Numbers,
    },
    /// Source: everything was read, and this is the root over what did not fail. It comes ahead of the
    /// content that is still wanted; when an object fails or is started over after it, another one comes.
    Root {
        /// The root digest.
        root: Digest,
        /// Objects that failed, as far as the source knows: with another number it does not count.
        failed: u64,
    },
    /// Source: what moves is of this class, higher than was told when the session began.
    Class(Class),
    /// Target: done.
    Published(Published),
    /// Opener: a small question, such as `list` or `status`; the body is JSON.
    Call {
        /// Name of the method.
        method: String,
        /// Its arguments.
        body: Bytes,
    },
    /// Acceptor: a part of the answer; the body is JSON.
    Reply {
        /// The part.
        body: Bytes,
        /// Whether it is the last one.
        last: bool,
    },
    /// Target, between sites, after `Published`: what it says of what arrived; the words are those of
    /// the audit log.
    Statement(Bytes),
    /// Source: the receipt, signed by it.
    Receipt(Bytes),
    /// Target: its signature on the receipt.
    Countersign(Bytes),
}

impl Frame {
    /// The frame's bytes.
    pub fn encode(&self) -> Bytes {
        super::codec::encode(self)
    }

    /// Decodes a frame; counts and sizes are checked against their bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        super::codec::decode(bytes)
    }

    /// Decodes a frame as [`Frame::decode`] does. Its parts are not copied, so what keeps one of them
    /// keeps all of the bytes.
    pub fn take(bytes: Bytes) -> Result<Self, DecodeError> {
        super::codec::take(bytes)
    }

    /// The frame's name, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Open(_) => "open",
            Self::Accept(_) => "accept",
            Self::Refuse { .. } => "refuse",
            Self::Entries { .. } => "entries",
            Self::EntriesEnd { .. } => "entries-end",
            Self::Verdicts(_) => "verdicts",
            Self::Bases(_) => "bases",
            Self::Near { .. } => "near",
            Self::Offer { .. } => "offer",
            Self::Want { .. } => "want",
            Self::Again { .. } => "again",
            Self::Restart { .. } => "restart",
            Self::Failed { .. } => "failed",
            Self::Settled { .. } => "settled",
            Self::Root { .. } => "root",
            Self::Class(_) => "class",
            Self::Published(_) => "published",
            Self::Call { .. } => "call",
            Self::Reply { .. } => "reply",
            Self::Statement(_) => "statement",
            Self::Receipt(_) => "receipt",
            Self::Countersign(_) => "countersign",
        }
    }
}

/// Most pieces in one frame, as a number to compare with.
pub(super) const PIECES_MAX: u64 = RUN_PIECES_MAX as u64;
