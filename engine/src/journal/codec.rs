//! Encoding of journal records (protobuf; unknown fields are skipped).

use prost::Message;

use super::{Head, Inode};
use crate::base::{Digest, FileTime, RelPath, Stamp, TransferId};
use crate::manifest::{ChunkRef, DecodeError, Entry, EntryMsg, Object, decode_list, encode_list};

/// One record of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// First: whose journal this is.
    Head(Head),
    /// These chunks of an unfinished object are durable in its staged file.
    Chunks {
        /// Path below the snapshot's root.
        path: RelPath,
        /// The source's stamp.
        stamp: Stamp,
        /// The chunks.
        chunks: Vec<ChunkRef>,
    },
    /// An object is finished and durable; `lists` list records follow.
    Done {
        /// What it is.
        entry: Entry,
        /// Its content.
        object: Object,
        /// The staged file.
        inode: Inode,
        /// List records that follow.
        lists: u32,
    },
    /// A part of the chunk list of the object before it.
    List(Vec<ChunkRef>),
    /// Everything is durable and is being made visible.
    Publishing {
        /// Root digest of the snapshot.
        root: Digest,
        /// Entries in its manifest.
        entries: u64,
    },
}

#[derive(Clone, PartialEq, Message)]
struct RecordMsg {
    /// 1 head, 2 chunks, 3 done, 4 list, 5 publishing.
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bytes = "vec", tag = "2")]
    transfer_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    path: Vec<u8>,
    #[prost(string, tag = "4")]
    source: String,
    #[prost(bytes = "vec", tag = "5")]
    stamp: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    list: Vec<u8>,
    #[prost(message, optional, tag = "7")]
    entry: Option<EntryMsg>,
    #[prost(bytes = "vec", tag = "8")]
    digest: Vec<u8>,
    #[prost(uint32, tag = "9")]
    cutter: u32,
    #[prost(uint64, tag = "10")]
    ino: u64,
    #[prost(sint64, tag = "11")]
    ctime_secs: i64,
    #[prost(uint32, tag = "12")]
    ctime_nanos: u32,
    #[prost(uint32, tag = "13")]
    lists: u32,
    #[prost(uint64, tag = "14")]
    entries: u64,
}

impl Record {
    /// The record's payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut msg = RecordMsg::default();
        match self {
            Self::Head(head) => {
                msg.kind = 1;
                msg.transfer_id = head.transfer_id.0.to_be_bytes().to_vec();
                msg.path = head.target.as_bytes().to_vec();
                msg.source.clone_from(&head.source);
            }
            Self::Chunks { path, stamp, chunks } => {
                msg.kind = 2;
                msg.path = path.as_bytes().to_vec();
                msg.stamp = stamp.0.to_vec();
                msg.list = encode_list(chunks);
            }
            Self::Done { entry, object, inode, lists } => {
                msg.kind = 3;
                msg.entry = Some(entry.into());
                msg.digest = object.digest.0.to_vec();
                msg.cutter = object.cutter;
                msg.ino = inode.ino;
                msg.ctime_secs = inode.ctime.secs;
                msg.ctime_nanos = inode.ctime.nanos;
                msg.lists = *lists;
            }
            Self::List(chunks) => {
                msg.kind = 4;
                msg.list = encode_list(chunks);
            }
            Self::Publishing { root, entries } => {
                msg.kind = 5;
                msg.digest = root.0.to_vec();
                msg.entries = *entries;
            }
        }
        msg.encode_to_vec()
    }

    /// Decodes a payload.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let msg = RecordMsg::decode(bytes)?;
        let digest =
            || Digest::from_slice(&msg.digest).ok_or(DecodeError::Field { field: "digest" });
        Ok(match msg.kind {
            1 => {
                let id = msg.transfer_id.as_slice().try_into();
                let id = id.map_err(|_| DecodeError::Field { field: "transfer id" })?;
                Self::Head(Head {
                    transfer_id: TransferId(u128::from_be_bytes(id)),
                    target: RelPath::from_bytes(&msg.path)?,
                    source: msg.source,
                })
            }
            2 => {
                let stamp = msg.stamp.as_slice().try_into();
                let stamp = stamp.map_err(|_| DecodeError::Field { field: "stamp" })?;
                Self::Chunks {
                    path: RelPath::from_bytes(&msg.path)?,
                    stamp: Stamp(stamp),
                    chunks: decode_list(&msg.list)?,
                }
            }
            3 => {
                let digest = digest()?;
                let entry = msg.entry.ok_or(DecodeError::Field { field: "entry" })?;
                let entry = Entry::try_from(entry)?;
                let object = Object { digest, len: entry.len(), cutter: msg.cutter };
                let ctime = FileTime { secs: msg.ctime_secs, nanos: msg.ctime_nanos };
                let inode = Inode { ino: msg.ino, ctime, len: entry.len() };
                Self::Done { entry, object, inode, lists: msg.lists }
            }
            4 => Self::List(decode_list(&msg.list)?),
            5 => Self::Publishing { root: digest()?, entries: msg.entries },
            _ => return Err(DecodeError::Field { field: "kind" }),
        })
    }
}
