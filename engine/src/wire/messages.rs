//! The protobuf messages that frames travel as; `docs/protocol.md` lists their fields.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::DecodeError;
use crate::base::Digest;
use crate::manifest::EntryMsg;
use crate::policy::RolesMark;

/// The tag of [`HelloMsg`] in [`Msg`].
pub(super) const HELLO_TAG: u32 = 1;
/// The tag of a port in [`HelloMsg`].
pub(super) const PORT_TAG: u32 = 5;
/// The tag of [`EntriesMsg`] in [`Msg`].
pub(super) const ENTRIES_TAG: u32 = 5;
/// The tag of an entry in [`EntriesMsg`].
pub(super) const ENTRY_TAG: u32 = 2;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Msg {
    #[prost(oneof = "Body", tags = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23")]
    pub(super) body: Option<Body>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Body {
    #[prost(message, tag = "1")]
    Hello(HelloMsg),
    #[prost(message, tag = "2")]
    Open(OpenMsg),
    #[prost(message, tag = "3")]
    Accept(AcceptMsg),
    #[prost(message, tag = "4")]
    Refuse(RefuseMsg),
    #[prost(message, tag = "5")]
    Entries(EntriesMsg),
    #[prost(message, tag = "6")]
    EntriesEnd(EntriesEndMsg),
    #[prost(bytes = "bytes", tag = "7")]
    Verdicts(Bytes),
    #[prost(message, tag = "8")]
    Offer(OfferMsg),
    #[prost(message, tag = "9")]
    Want(WantMsg),
    #[prost(message, tag = "10")]
    Again(OfferMsg),
    #[prost(message, tag = "11")]
    Restart(RestartMsg),
    #[prost(message, tag = "12")]
    Failed(FailedMsg),
    #[prost(message, tag = "13")]
    Settled(SettledMsg),
    #[prost(message, tag = "14")]
    Root(RootMsg),
    #[prost(message, tag = "15")]
    Published(PublishedMsg),
    #[prost(message, tag = "16")]
    Call(CallMsg),
    #[prost(message, tag = "17")]
    Reply(ReplyMsg),
    #[prost(message, tag = "18")]
    Statement(WordsMsg),
    #[prost(message, tag = "19")]
    Receipt(WordsMsg),
    #[prost(message, tag = "20")]
    Countersign(WordsMsg),
    #[prost(string, tag = "21")]
    Class(String),
    #[prost(bytes = "bytes", tag = "22")]
    Bases(Bytes),
    #[prost(message, tag = "23")]
    Near(NearMsg),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HelloMsg {
    #[prost(uint32, tag = "1")]
    pub(super) oldest: u32,
    #[prost(uint32, tag = "2")]
    pub(super) newest: u32,
    #[prost(string, tag = "3")]
    pub(super) program: String,
    #[prost(uint64, tag = "4")]
    pub(super) clock_ms: u64,
    #[prost(message, repeated, tag = "5")]
    pub(super) rails: Vec<PortMsg>,
    #[prost(string, tag = "6")]
    pub(super) no_rails: String,
    #[prost(message, optional, tag = "8")]
    pub(super) roles: Option<RolesMsg>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RolesMsg {
    #[prost(uint64, tag = "1")]
    pub(super) version: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) digest: Bytes,
}

impl From<RolesMark> for RolesMsg {
    fn from(mark: RolesMark) -> Self {
        Self { version: mark.version, digest: mark.digest.0.to_vec().into() }
    }
}

impl TryFrom<RolesMsg> for RolesMark {
    type Error = DecodeError;

    fn try_from(msg: RolesMsg) -> Result<Self, DecodeError> {
        let digest = Digest::from_slice(&msg.digest);
        let digest = digest.ok_or(DecodeError::Field { field: "roles" })?;
        Ok(Self { version: msg.version, digest })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PortMsg {
    #[prost(string, tag = "1")]
    pub(super) device: String,
    #[prost(uint32, tag = "2")]
    pub(super) port: u32,
    #[prost(uint32, tag = "3")]
    pub(super) fabric: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) gid: Bytes,
    #[prost(uint32, tag = "5")]
    pub(super) lid: u32,
    #[prost(uint32, tag = "6")]
    pub(super) mtu: u32,
    #[prost(uint32, tag = "7")]
    pub(super) rate_mbit: u32,
    #[prost(uint32, tag = "8")]
    pub(super) reads_max: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OpenMsg {
    #[prost(uint32, tag = "1")]
    pub(super) operation: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) transfer_id: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) path: Bytes,
    #[prost(bool, tag = "4")]
    pub(super) checksum: bool,
    #[prost(bool, tag = "5")]
    pub(super) rails: bool,
    #[prost(uint32, tag = "6")]
    pub(super) compress: u32,
    #[prost(uint64, tag = "7")]
    pub(super) limit: u64,
    #[prost(string, tag = "8")]
    pub(super) class: String,
    #[prost(uint64, optional, tag = "9")]
    pub(super) wire_max: Option<u64>,
    #[prost(uint32, tag = "10")]
    pub(super) priority: u32,
    #[prost(uint32, tag = "11")]
    pub(super) parts: u32,
    #[prost(string, tag = "12")]
    pub(super) attempt: String,
    #[prost(bool, tag = "13")]
    pub(super) fresh: bool,
    #[prost(bytes = "bytes", optional, tag = "14")]
    pub(super) basis: Option<Bytes>,
    #[prost(bool, tag = "15")]
    pub(super) near: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NearMsg {
    #[prost(uint64, tag = "1")]
    pub(super) run: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) sums: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AcceptMsg {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) transfer_id: Bytes,
    #[prost(uint64, tag = "2")]
    pub(super) free_bytes: u64,
    #[prost(uint32, tag = "3")]
    pub(super) compress: u32,
    #[prost(string, tag = "4")]
    pub(super) class: String,
    #[prost(bool, tag = "5")]
    pub(super) fresh: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RootMsg {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) root: Bytes,
    #[prost(uint64, tag = "2")]
    pub(super) failed: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RefuseMsg {
    #[prost(string, tag = "1")]
    pub(super) code: String,
    #[prost(string, tag = "2")]
    pub(super) detail: String,
    #[prost(bool, tag = "3")]
    pub(super) retry: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EntriesMsg {
    #[prost(uint32, tag = "1")]
    pub(super) first: u32,
    #[prost(message, repeated, tag = "2")]
    pub(super) entries: Vec<EntryMsg>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EntriesEndMsg {
    #[prost(uint32, tag = "1")]
    pub(super) entries: u32,
    #[prost(uint64, tag = "2")]
    pub(super) skipped: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OfferMsg {
    #[prost(uint64, tag = "1")]
    pub(super) run: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) pieces: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) ends: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WantMsg {
    #[prost(uint64, tag = "1")]
    pub(super) run: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) wanted: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RestartMsg {
    #[prost(uint32, tag = "1")]
    pub(super) seq: u32,
    #[prost(uint32, tag = "2")]
    pub(super) round: u32,
    #[prost(message, optional, tag = "3")]
    pub(super) entry: Option<EntryMsg>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FailedMsg {
    #[prost(uint32, tag = "1")]
    pub(super) seq: u32,
    #[prost(string, tag = "2")]
    pub(super) code: String,
    #[prost(string, tag = "3")]
    pub(super) detail: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct NumbersMsg {
    #[prost(uint64, tag = "1")]
    pub(super) files: u64,
    #[prost(uint64, tag = "2")]
    pub(super) sent: u64,
    #[prost(uint64, tag = "3")]
    pub(super) deduplicated: u64,
    #[prost(uint64, tag = "4")]
    pub(super) resumed: u64,
    #[prost(uint64, tag = "5")]
    pub(super) discarded: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SettledMsg {
    #[prost(uint32, tag = "1")]
    pub(super) below: u32,
    #[prost(message, optional, tag = "2")]
    pub(super) numbers: Option<NumbersMsg>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PublishedMsg {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) root: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(super) numbers: Option<NumbersMsg>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CallMsg {
    #[prost(string, tag = "1")]
    pub(super) method: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) body: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReplyMsg {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) body: Bytes,
    #[prost(bool, tag = "2")]
    pub(super) last: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WordsMsg {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) words: Bytes,
}
