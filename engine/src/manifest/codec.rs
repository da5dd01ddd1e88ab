//! Encoding of manifest records (protobuf; unknown fields are skipped).

use bytes::{Buf, Bytes};
use prost::Message;

use super::{ChunkRef, Entry, EntryKind, Object};
use crate::base::limits::{CHUNK_BYTES_MAX, LINK_BYTES_MAX, OBJECT_BYTES_MAX};
use crate::base::{Class, Digest, FileTime, PathError, RelPath, Stamp};

/// Bytes of one chunk in an encoded list: offset u64 LE, length u32 LE, digest.
pub const CHUNK_REF_BYTES: usize = 44;
/// Most chunks in one list record.
pub const LIST_CHUNKS_MAX: usize = 65_536;

/// Bytes from outside are not what they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the protobuf message that was expected.
    #[error("malformed message: {detail}")]
    Malformed {
        /// The decoder's words.
        detail: String,
    },
    /// A field that must be there is missing.
    #[error("the field {field} is missing or has a wrong size")]
    Field {
        /// Its name.
        field: &'static str,
    },
    /// A path is not safe.
    #[error("unsafe path: {0}")]
    Path(#[from] PathError),
    /// A count or size is over its bound.
    #[error("{what} is {value}, over the limit of {limit}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The peer's number.
        value: u64,
        /// The bound.
        limit: u64,
    },
}

impl From<prost::DecodeError> for DecodeError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed { detail: error.to_string() }
    }
}

/// An entry on the wire and in files.
#[derive(Clone, PartialEq, Message)]
pub struct EntryMsg {
    /// Slash-separated raw bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// 1 directory, 2 symbolic link, 3 file.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// Permission bits.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// Modification time, seconds.
    #[prost(sint64, tag = "4")]
    pub mtime_secs: i64,
    /// Modification time, nanoseconds.
    #[prost(uint32, tag = "5")]
    pub mtime_nanos: u32,
    /// Content length.
    #[prost(uint64, tag = "6")]
    pub len: u64,
    /// The source's stamp, 16 bytes.
    #[prost(bytes = "bytes", tag = "7")]
    pub stamp: Bytes,
    /// Text of a symbolic link.
    #[prost(bytes = "bytes", tag = "8")]
    pub link: Bytes,
}

impl From<&Entry> for EntryMsg {
    fn from(entry: &Entry) -> Self {
        let (kind, len, stamp, link) = match &entry.kind {
            EntryKind::Dir => (1, 0, Bytes::new(), Bytes::new()),
            EntryKind::Symlink(text) => (2, 0, Bytes::new(), Bytes::copy_from_slice(text)),
            EntryKind::File { len, stamp } => {
                (3, *len, Bytes::copy_from_slice(&stamp.0), Bytes::new())
            }
        };
        Self {
            path: Bytes::copy_from_slice(entry.path.as_bytes()),
            kind,
            mode: entry.mode,
            mtime_secs: entry.mtime.secs,
            mtime_nanos: entry.mtime.nanos,
            len,
            stamp,
            link,
        }
    }
}

impl TryFrom<EntryMsg> for Entry {
    type Error = DecodeError;

    fn try_from(msg: EntryMsg) -> Result<Self, DecodeError> {
        let limit = |what, value, limit| {
            if value > limit { Err(DecodeError::Limit { what, value, limit }) } else { Ok(()) }
        };
        limit("mtime nanoseconds", u64::from(msg.mtime_nanos), 999_999_999)?;
        let kind = match msg.kind {
            1 => EntryKind::Dir,
            2 => {
                limit("link text", msg.link.len() as u64, LINK_BYTES_MAX as u64)?;
                if msg.link.is_empty() || msg.link.contains(&0) {
                    return Err(DecodeError::Field { field: "link" });
                }
                EntryKind::Symlink(msg.link.to_vec())
            }
            3 => {
                limit("object length", msg.len, OBJECT_BYTES_MAX)?;
                let stamp = msg.stamp[..].try_into();
                let stamp = stamp.map_err(|_| DecodeError::Field { field: "stamp" })?;
                EntryKind::File { len: msg.len, stamp: Stamp(stamp) }
            }
            _ => return Err(DecodeError::Field { field: "kind" }),
        };
        Ok(Self {
            path: RelPath::from_bytes(&msg.path)?,
            kind,
            mode: msg.mode & 0o7777,
            mtime: FileTime { secs: msg.mtime_secs, nanos: msg.mtime_nanos },
        })
    }
}

/// Encodes chunks at fixed width.
pub fn encode_list(chunks: &[ChunkRef]) -> Vec<u8> {
    let mut out = Vec::with_capacity(chunks.len() * CHUNK_REF_BYTES);
    for chunk in chunks {
        out.extend_from_slice(&chunk.offset.to_le_bytes());
        out.extend_from_slice(&chunk.len.to_le_bytes());
        out.extend_from_slice(&chunk.digest.0);
    }
    out
}

/// Decodes what [`encode_list`] made; their number and every chunk are within the limits.
pub fn decode_list(bytes: &[u8]) -> Result<Vec<ChunkRef>, DecodeError> {
    if !bytes.len().is_multiple_of(CHUNK_REF_BYTES) {
        return Err(DecodeError::Field { field: "chunks" });
    }
    let (value, limit) = ((bytes.len() / CHUNK_REF_BYTES) as u64, LIST_CHUNKS_MAX as u64);
    if value > limit {
        return Err(DecodeError::Limit { what: "chunks in a list", value, limit });
    }
    let decode = |raw: &[u8]| {
        let mut offset = [0; 8];
        offset.copy_from_slice(&raw[..8]);
        let mut len = [0; 4];
        len.copy_from_slice(&raw[8..12]);
        let mut digest = Digest::default();
        digest.0.copy_from_slice(&raw[12..CHUNK_REF_BYTES]);
        let chunk =
            ChunkRef { offset: u64::from_le_bytes(offset), len: u32::from_le_bytes(len), digest };
        let limit = CHUNK_BYTES_MAX as u64;
        if chunk.len == 0 || u64::from(chunk.len) > limit {
            let value = u64::from(chunk.len);
            return Err(DecodeError::Limit { what: "chunk length", value, limit });
        }
        if chunk.offset > OBJECT_BYTES_MAX {
            let (value, limit) = (chunk.offset, OBJECT_BYTES_MAX);
            return Err(DecodeError::Limit { what: "chunk offset", value, limit });
        }
        Ok(chunk)
    };
    bytes.chunks_exact(CHUNK_REF_BYTES).map(decode).collect()
}

/// What a manifest says before its entries.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestHead {
    /// Name of the source node: which stamps therefore mean something.
    pub source: String,
    /// Where it is published, below the root.
    pub target: RelPath,
    /// The class of the snapshot; `None` for the default of the node.
    pub class: Option<Class>,
}

/// One record of a manifest file.
#[derive(Debug, Clone, PartialEq)]
pub enum ManifestRecord {
    /// First.
    Head(ManifestHead),
    /// An entry; a file has its object, and `lists` list records follow.
    Entry {
        /// The entry.
        entry: Entry,
        /// Content of a file.
        object: Option<Object>,
        /// List records that follow.
        lists: u32,
    },
    /// A part of the chunk list of the entry before it.
    List(Vec<ChunkRef>),
    /// Last: the snapshot's root digest and number of entries.
    End {
        /// The root digest.
        root: Digest,
        /// Number of entries.
        entries: u64,
    },
}

#[derive(Clone, PartialEq, Message)]
struct RecordMsg {
    #[prost(string, tag = "1")]
    source: String,
    #[prost(message, optional, tag = "2")]
    entry: Option<EntryMsg>,
    #[prost(bytes = "bytes", tag = "3")]
    digest: Bytes,
    #[prost(uint32, tag = "4")]
    cutter: u32,
    #[prost(uint32, tag = "5")]
    lists: u32,
    #[prost(bytes = "bytes", tag = "6")]
    list: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    root: Bytes,
    #[prost(uint64, tag = "8")]
    entries: u64,
    #[prost(bytes = "bytes", tag = "9")]
    target: Bytes,
    #[prost(string, tag = "10")]
    class: String,
}

impl RecordMsg {
    fn of_entry(entry: &Entry, object: Option<&Object>, lists: u32) -> Self {
        let digest = object.map(|object| Bytes::copy_from_slice(&object.digest.0));
        let (digest, cutter) = (digest.unwrap_or_default(), object.map_or(0, |it| it.cutter));
        Self { entry: Some(entry.into()), lists, digest, cutter, ..Self::default() }
    }

    fn of_list(chunks: &[ChunkRef]) -> Self {
        Self { list: encode_list(chunks).into(), ..Self::default() }
    }

    fn put(&self, out: &mut Vec<u8>) {
        let encoded = self.encode(out);
        debug_assert!(encoded.is_ok(), "a vector has room");
    }
}

/// Appends the payload of an entry's record to `out`.
pub fn put_entry(out: &mut Vec<u8>, entry: &Entry, object: Option<&Object>, lists: u32) {
    RecordMsg::of_entry(entry, object, lists).put(out);
}

/// Appends the payload of a record with a part of a chunk list to `out`.
pub fn put_list(out: &mut Vec<u8>, chunks: &[ChunkRef]) {
    RecordMsg::of_list(chunks).put(out);
}

impl ManifestRecord {
    /// Appends the record's payload to `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        let msg = match self {
            Self::Head(ManifestHead { source, target, class }) => RecordMsg {
                source: source.clone(),
                target: Bytes::copy_from_slice(target.as_bytes()),
                class: class.as_ref().map(Class::to_string).unwrap_or_default(),
                ..RecordMsg::default()
            },
            Self::Entry { entry, object, lists } => {
                RecordMsg::of_entry(entry, object.as_ref(), *lists)
            }
            Self::List(chunks) => RecordMsg::of_list(chunks),
            Self::End { root, entries } => {
                let root = Bytes::copy_from_slice(&root.0);
                RecordMsg { root, entries: *entries, ..RecordMsg::default() }
            }
        };
        msg.put(out);
    }

    /// The record's payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    /// Decodes a payload.
    pub fn decode(bytes: impl Buf) -> Result<Self, DecodeError> {
        let msg = RecordMsg::decode(bytes)?;
        if let Some(entry) = msg.entry {
            let entry = Entry::try_from(entry)?;
            let object = if entry.is_file() {
                let digest = Digest::from_slice(&msg.digest);
                let digest = digest.ok_or(DecodeError::Field { field: "digest" })?;
                Some(Object { digest, len: entry.len(), cutter: msg.cutter })
            } else {
                None
            };
            Ok(Self::Entry { entry, object, lists: msg.lists })
        } else if !msg.list.is_empty() {
            decode_list(&msg.list).map(Self::List)
        } else if !msg.root.is_empty() {
            let root = Digest::from_slice(&msg.root);
            let root = root.ok_or(DecodeError::Field { field: "root" })?;
            Ok(Self::End { root, entries: msg.entries })
        } else {
            let class = Some(msg.class).filter(|class| !class.is_empty());
            let class = class.map(|class| class.parse()).transpose();
            let class = class.map_err(|_| DecodeError::Field { field: "class" })?;
            let target = RelPath::from_bytes(&msg.target)?;
            Ok(Self::Head(ManifestHead { source: msg.source, target, class }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_no_more_chunks_than_a_record_may_hold() {
        let chunk = ChunkRef { offset: 0, len: 1, digest: Digest::default() };
        let mut chunks = vec![chunk; LIST_CHUNKS_MAX];
        assert_eq!(decode_list(&encode_list(&chunks)).as_ref(), Ok(&chunks));
        chunks.push(chunk);
        assert!(matches!(decode_list(&encode_list(&chunks)), Err(DecodeError::Limit { .. })));
    }
}
