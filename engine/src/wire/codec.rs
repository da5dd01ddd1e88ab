//! Frames as protobuf messages; unknown fields are skipped, unknown frames are refused.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{self, DecodeContext, WireType};

use super::DecodeError;
use super::frame::{Accept, Bitmap, Frame, Hello, Numbers, Open, PIECES_MAX, Published};
use super::messages::{
    AcceptMsg, Body, CallMsg, ENTRIES_TAG, ENTRY_TAG, EntriesEndMsg, EntriesMsg, FailedMsg,
    HELLO_TAG, HelloMsg, Msg, NearMsg, NumbersMsg, OfferMsg, OpenMsg, PORT_TAG, PublishedMsg,
    RefuseMsg, ReplyMsg, RestartMsg, RootMsg, SettledMsg, WantMsg, WordsMsg,
};
use super::packed::{
    bases, bounded, ends, pieces, put_bases, put_ends, put_pieces, put_verdicts, verdicts,
};
use super::port::{NO_RAILS_BYTES_MAX, PORTS_MAX, Port};
use super::words::{
    class, class_text, compress, compress_number, operation, operation_number, priority,
};
use crate::base::limits::ENTRIES_PER_FRAME_MAX;
use crate::base::{Digest, Parts, Rate, RelPath, TransferId};
use crate::encode::NEAR_SUMS_BYTES_MAX;
use crate::manifest::Entry;
use crate::policy::RolesMark;

/// Longest text in a frame, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

impl From<Numbers> for NumbersMsg {
    fn from(n: Numbers) -> Self {
        let Numbers { files, sent, deduplicated, resumed, discarded } = n;
        Self { files, sent, deduplicated, resumed, discarded }
    }
}

impl From<Option<NumbersMsg>> for Numbers {
    fn from(n: Option<NumbersMsg>) -> Self {
        let NumbersMsg { files, sent, deduplicated, resumed, discarded } = n.unwrap_or_default();
        Self { files, sent, deduplicated, resumed, discarded }
    }
}

pub(super) fn encode(frame: &Frame) -> Bytes {
    let body = match frame.clone() {
        Frame::Hello(hello) => {
            let Hello { versions: (oldest, newest), program, clock_ms, .. } = hello;
            let (rails, no_rails) = (hello.rails.into_iter().map(Into::into), hello.no_rails);
            let (rails, roles) = (rails.collect(), hello.roles.map(Into::into));
            Body::Hello(HelloMsg { oldest, newest, program, clock_ms, rails, no_rails, roles })
        }
        Frame::Open(open) => Body::Open(OpenMsg {
            operation: operation_number(open.operation, open.parts.as_ref()),
            transfer_id: open.transfer_id.0.to_be_bytes().to_vec().into(),
            path: open.path.as_bytes().to_vec().into(),
            checksum: open.checksum,
            rails: open.rails,
            compress: compress_number(open.compress),
            limit: open.limit.map_or(0, Rate::bytes_per_s),
            class: class_text(open.class),
            wire_max: open.wire_max,
            priority: open.priority.code().into(),
            parts: open.parts.as_ref().map_or(0, Parts::count),
            attempt: open.parts.map_or_else(String::new, |parts| parts.attempt().to_owned()),
            fresh: open.fresh,
            basis: open.basis.map(|path| path.as_bytes().to_vec().into()),
            near: open.near,
        }),
        Frame::Accept(accept) => Body::Accept(AcceptMsg {
            transfer_id: accept.transfer_id.0.to_be_bytes().to_vec().into(),
            free_bytes: accept.free_bytes,
            compress: compress_number(accept.compress),
            class: class_text(accept.class),
            fresh: accept.fresh,
        }),
        Frame::Refuse { code, detail, retry } => Body::Refuse(RefuseMsg { code, detail, retry }),
        Frame::Entries { first, entries } => {
            Body::Entries(EntriesMsg { first, entries: entries.iter().map(Into::into).collect() })
        }
        Frame::EntriesEnd { entries, skipped } => {
            Body::EntriesEnd(EntriesEndMsg { entries, skipped })
        }
        Frame::Verdicts(verdicts) => Body::Verdicts(put_verdicts(&verdicts)),
        Frame::Bases(bases) => Body::Bases(put_bases(&bases)),
        Frame::Near { run, sums } => Body::Near(NearMsg { run, sums }),
        Frame::Offer { run, pieces, ends } => {
            Body::Offer(OfferMsg { run, pieces: put_pieces(&pieces), ends: put_ends(&ends) })
        }
        Frame::Want { run, wanted } => Body::Want(WantMsg { run, wanted: wanted.0 }),
        Frame::Again { run, pieces } => {
            let pieces = put_pieces(&pieces);
            Body::Again(OfferMsg { run, pieces, ends: Bytes::new() })
        }
        Frame::Restart { seq, round, entry } => {
            Body::Restart(RestartMsg { seq, round, entry: Some((&entry).into()) })
        }
        Frame::Failed { seq, code, detail } => Body::Failed(FailedMsg { seq, code, detail }),
        Frame::Settled { below, numbers } => {
            Body::Settled(SettledMsg { below, numbers: Some(numbers.into()) })
        }
        Frame::Root { root, failed } => {
            Body::Root(RootMsg { root: root.0.to_vec().into(), failed })
        }
        Frame::Class(class) => Body::Class(class.to_string()),
        Frame::Published(Published { root, numbers }) => Body::Published(PublishedMsg {
            root: root.0.to_vec().into(),
            numbers: Some(numbers.into()),
        }),
        Frame::Call { method, body } => Body::Call(CallMsg { method, body }),
        Frame::Reply { body, last } => Body::Reply(ReplyMsg { body, last }),
        Frame::Statement(words) => Body::Statement(WordsMsg { words }),
        Frame::Receipt(words) => Body::Receipt(WordsMsg { words }),
        Frame::Countersign(words) => Body::Countersign(WordsMsg { words }),
    };
    Msg { body: Some(body) }.encode_to_vec().into()
}

fn text(field: &'static str, value: String) -> Result<String, DecodeError> {
    bounded(field, value.len() as u64, TEXT_BYTES_MAX as u64)?;
    Ok(value)
}

fn digest(field: &'static str, raw: &[u8]) -> Result<Digest, DecodeError> {
    Digest::from_slice(raw).ok_or(DecodeError::Field { field })
}

fn transfer_id(raw: &[u8]) -> Result<TransferId, DecodeError> {
    let raw = raw.try_into().map_err(|_| DecodeError::Field { field: "transfer id" })?;
    Ok(TransferId(u128::from_be_bytes(raw)))
}

fn hello(msg: HelloMsg) -> Result<Hello, DecodeError> {
    bounded("no-rails", msg.no_rails.len() as u64, NO_RAILS_BYTES_MAX as u64)?;
    Ok(Hello {
        versions: (msg.oldest, msg.newest),
        program: text("program", msg.program)?,
        clock_ms: msg.clock_ms,
        rails: msg.rails.into_iter().map(Port::try_from).collect::<Result<_, _>>()?,
        no_rails: msg.no_rails,
        roles: msg.roles.map(RolesMark::try_from).transpose()?,
    })
}

fn open(msg: &OpenMsg) -> Result<Open, DecodeError> {
    let (operation, parts) = operation(msg)?;
    Ok(Open {
        operation,
        transfer_id: transfer_id(&msg.transfer_id)?,
        path: RelPath::from_bytes(&msg.path)?,
        checksum: msg.checksum,
        rails: msg.rails,
        compress: compress(msg.compress)?,
        limit: Rate::from_bytes_per_s(msg.limit),
        class: class(&msg.class)?,
        wire_max: msg.wire_max,
        priority: priority(msg.priority),
        parts,
        fresh: msg.fresh,
        basis: msg.basis.as_ref().map(|path| RelPath::from_bytes(path)).transpose()?,
        near: msg.near,
    })
}

/// Gives every field `tag` of a message that has bytes of its own.
fn fields<'a>(
    mut message: &'a [u8],
    tag: u32,
    mut found: impl FnMut(&'a [u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !message.is_empty() {
        let (found_tag, wire_type) = encoding::decode_key(&mut message)?;
        let before = message;
        encoding::skip_field(wire_type, found_tag, &mut message, DecodeContext::default())?;
        if found_tag == tag && wire_type == WireType::LengthDelimited {
            let mut field = &before[..before.len() - message.len()];
            encoding::decode_varint(&mut field)?;
            found(field)?;
        }
    }
    Ok(())
}

/// Checks how many messages a frame holds in its field `outer` under `inner`, before memory is
/// taken for them: one of no fields takes two bytes in a frame, and more than a hundred when it is
/// decoded.
fn check_count(
    frame: &[u8],
    (outer, inner): (u32, u32),
    what: &'static str,
    limit: usize,
) -> Result<(), DecodeError> {
    let mut count = 0;
    fields(frame, outer, |message| {
        fields(message, inner, |_| {
            count += 1;
            Ok(())
        })
    })?;
    bounded(what, count, limit as u64).map(drop)
}

fn entries(msg: EntriesMsg) -> Result<Frame, DecodeError> {
    let entries = msg.entries.into_iter().map(Entry::try_from).collect::<Result<Vec<_>, _>>()?;
    Ok(Frame::Entries { first: msg.first, entries })
}

/// Decodes a frame whose parts are copied.
pub(super) fn decode(bytes: &[u8]) -> Result<Frame, DecodeError> {
    check_counts(bytes)?;
    frame(Msg::decode(bytes)?)
}

/// Decodes a frame whose parts stay where they are.
pub(super) fn take(bytes: Bytes) -> Result<Frame, DecodeError> {
    check_counts(&bytes)?;
    frame(Msg::decode(bytes)?)
}

fn check_counts(bytes: &[u8]) -> Result<(), DecodeError> {
    check_count(bytes, (ENTRIES_TAG, ENTRY_TAG), "entries in a frame", ENTRIES_PER_FRAME_MAX)?;
    check_count(bytes, (HELLO_TAG, PORT_TAG), "ports in a greeting", PORTS_MAX)
}

fn frame(msg: Msg) -> Result<Frame, DecodeError> {
    Ok(match msg.body.ok_or(DecodeError::Field { field: "frame" })? {
        Body::Hello(m) => Frame::Hello(hello(m)?),
        Body::Open(m) => Frame::Open(open(&m)?),
        Body::Accept(m) => Frame::Accept(Accept {
            transfer_id: transfer_id(&m.transfer_id)?,
            free_bytes: m.free_bytes,
            compress: compress(m.compress)?,
            class: class(&m.class)?,
            fresh: m.fresh,
        }),
        Body::Refuse(m) => Frame::Refuse {
            code: text("code", m.code)?,
            detail: text("detail", m.detail)?,
            retry: m.retry,
        },
        Body::Entries(m) => entries(m)?,
        Body::EntriesEnd(m) => Frame::EntriesEnd { entries: m.entries, skipped: m.skipped },
        Body::Verdicts(raw) => Frame::Verdicts(verdicts(&raw)?),
        Body::Bases(raw) => Frame::Bases(bases(&raw)?),
        Body::Near(m) => {
            bounded("sums of blocks", m.sums.len() as u64, NEAR_SUMS_BYTES_MAX as u64)?;
            Frame::Near { run: m.run, sums: m.sums }
        }
        Body::Offer(m) => {
            Frame::Offer { run: m.run, pieces: pieces(&m.pieces)?, ends: ends(&m.ends)? }
        }
        Body::Want(m) => {
            bounded("bits in a map", m.wanted.len() as u64 * 8, PIECES_MAX)?;
            Frame::Want { run: m.run, wanted: Bitmap(m.wanted) }
        }
        Body::Again(m) => Frame::Again { run: m.run, pieces: pieces(&m.pieces)? },
        Body::Restart(m) => {
            let entry = m.entry.ok_or(DecodeError::Field { field: "entry" })?;
            Frame::Restart { seq: m.seq, round: m.round, entry: entry.try_into()? }
        }
        Body::Failed(m) => Frame::Failed {
            seq: m.seq,
            code: text("code", m.code)?,
            detail: text("detail", m.detail)?,
        },
        Body::Settled(m) => Frame::Settled { below: m.below, numbers: m.numbers.into() },
        Body::Root(m) => Frame::Root { root: digest("root", &m.root)?, failed: m.failed },
        Body::Class(name) => {
            Frame::Class(class(&name)?.ok_or(DecodeError::Field { field: "class" })?)
        }
        Body::Published(m) => Frame::Published(Published {
            root: digest("root", &m.root)?,
            numbers: m.numbers.into(),
        }),
        Body::Call(m) => Frame::Call { method: text("method", m.method)?, body: m.body },
        Body::Reply(m) => Frame::Reply { body: m.body, last: m.last },
        Body::Statement(m) => Frame::Statement(m.words),
        Body::Receipt(m) => Frame::Receipt(m.words),
        Body::Countersign(m) => Frame::Countersign(m.words),
    })
}
