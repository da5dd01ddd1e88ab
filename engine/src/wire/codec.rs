//! Frames as protobuf messages; unknown fields are skipped, unknown frames are refused.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{self, DecodeContext, WireType};

use super::DecodeError;
use super::frame::{
    Accept, BasisFile, Bitmap, End, Frame, Hello, Known, Numbers, Open, PIECES_MAX, Piece,
    Published, Verdict,
};
use super::messages::{
    AcceptMsg, Body, CallMsg, ENTRIES_TAG, ENTRY_TAG, EntriesEndMsg, EntriesMsg, FailedMsg,
    HELLO_TAG, HelloMsg, Msg, NumbersMsg, OfferMsg, OpenMsg, PORT_TAG, PublishedMsg, RefuseMsg,
    ReplyMsg, RestartMsg, RootMsg, SettledMsg, WantMsg, WordsMsg,
};
use super::port::{NO_RAILS_BYTES_MAX, PORTS_MAX, Port};
use super::words::{
    class, class_text, compress, compress_number, operation, operation_number, priority,
};
use crate::base::limits::{CHUNK_BYTES_MAX, ENTRIES_PER_FRAME_MAX, OBJECT_BYTES_MAX};
use crate::base::{Digest, Parts, Rate, RelPath, Stamp, TransferId};
use crate::manifest::{Entry, Object};
use crate::policy::RolesMark;

/// Bytes of a packed piece: seq, round, offset, length (all LE) and digest.
const PIECE_BYTES: usize = 4 + 4 + 8 + 4 + 32;
/// Bytes of a packed end: seq, round, cutter, length, digest.
const END_BYTES: usize = 4 + 4 + 4 + 8 + 32;
/// Bytes of a packed verdict: seq, known (0 need, 1 have), cutter, length, digest.
const VERDICT_BYTES: usize = 4 + 4 + 4 + 8 + 32;
/// Bytes of a packed basis: seq, length, stamp.
const BASIS_BYTES: usize = 4 + 8 + 16;
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

fn packed<T>(items: &[T], bytes: usize, put: impl Fn(&T, &mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(items.len() * bytes);
    for item in items {
        put(item, &mut out);
    }
    out.into()
}

fn unpacked<T>(
    field: &'static str,
    raw: &[u8],
    bytes: usize,
    limit: u64,
    take: impl Fn(&mut Fields<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    if !raw.len().is_multiple_of(bytes) {
        return Err(DecodeError::Field { field });
    }
    bounded(field, (raw.len() / bytes) as u64, limit)?;
    raw.chunks_exact(bytes).map(|item| take(&mut Fields(item))).collect()
}

/// Fixed-width fields of a packed item, whose length was checked before.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        if let Some((head, rest)) = self.0.split_at_checked(N) {
            out.copy_from_slice(head);
            self.0 = rest;
        }
        out
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn object(&mut self) -> Result<Object, DecodeError> {
        let cutter = self.u32();
        let len = bounded("object length", self.u64(), OBJECT_BYTES_MAX)?;
        Ok(Object { digest: Digest(self.take()), len, cutter })
    }
}

pub(super) fn bounded(what: &'static str, value: u64, limit: u64) -> Result<u64, DecodeError> {
    if value > limit { Err(DecodeError::Limit { what, value, limit }) } else { Ok(value) }
}

fn put_object(object: &Object, out: &mut Vec<u8>) {
    out.extend_from_slice(&object.cutter.to_le_bytes());
    out.extend_from_slice(&object.len.to_le_bytes());
    out.extend_from_slice(&object.digest.0);
}

fn put_piece(piece: &Piece, out: &mut Vec<u8>) {
    out.extend_from_slice(&piece.seq.to_le_bytes());
    out.extend_from_slice(&piece.round.to_le_bytes());
    out.extend_from_slice(&piece.offset.to_le_bytes());
    out.extend_from_slice(&piece.len.to_le_bytes());
    out.extend_from_slice(&piece.digest.0);
}

fn take_piece(fields: &mut Fields<'_>) -> Result<Piece, DecodeError> {
    let (seq, round) = (fields.u32(), fields.u32());
    let offset = bounded("piece offset", fields.u64(), OBJECT_BYTES_MAX)?;
    let len = fields.u32();
    bounded("piece length", len.into(), CHUNK_BYTES_MAX as u64)?;
    if len == 0 {
        return Err(DecodeError::Field { field: "piece length" });
    }
    Ok(Piece { seq, round, offset, len, digest: Digest(fields.take()) })
}

fn put_end(end: &End, out: &mut Vec<u8>) {
    out.extend_from_slice(&end.seq.to_le_bytes());
    out.extend_from_slice(&end.round.to_le_bytes());
    put_object(&end.object, out);
}

fn put_verdict(verdict: &Verdict, out: &mut Vec<u8>) {
    let none = Object { digest: Digest::default(), len: 0, cutter: 0 };
    let (known, object) = match &verdict.known {
        Known::Need => (0u32, &none),
        Known::Have(object) => (1, object),
    };
    out.extend_from_slice(&verdict.seq.to_le_bytes());
    out.extend_from_slice(&known.to_le_bytes());
    put_object(object, out);
}

fn put_basis(basis: &BasisFile, out: &mut Vec<u8>) {
    out.extend_from_slice(&basis.seq.to_le_bytes());
    out.extend_from_slice(&basis.len.to_le_bytes());
    out.extend_from_slice(&basis.stamp.0);
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
        Frame::Verdicts(verdicts) => Body::Verdicts(packed(&verdicts, VERDICT_BYTES, put_verdict)),
        Frame::Bases(bases) => Body::Bases(packed(&bases, BASIS_BYTES, put_basis)),
        Frame::Offer { run, pieces, ends } => Body::Offer(OfferMsg {
            run,
            pieces: packed(&pieces, PIECE_BYTES, put_piece),
            ends: packed(&ends, END_BYTES, put_end),
        }),
        Frame::Want { run, wanted } => Body::Want(WantMsg { run, wanted: wanted.0 }),
        Frame::Again { run, pieces } => {
            let pieces = packed(&pieces, PIECE_BYTES, put_piece);
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

fn pieces(raw: &[u8]) -> Result<Vec<Piece>, DecodeError> {
    unpacked("pieces", raw, PIECE_BYTES, PIECES_MAX, take_piece)
}

fn ends(raw: &[u8]) -> Result<Vec<End>, DecodeError> {
    unpacked("ends", raw, END_BYTES, PIECES_MAX, |f| {
        Ok(End { seq: f.u32(), round: f.u32(), object: f.object()? })
    })
}

fn verdicts(raw: &[u8]) -> Result<Vec<Verdict>, DecodeError> {
    unpacked("verdicts", raw, VERDICT_BYTES, ENTRIES_PER_FRAME_MAX as u64, |f| {
        let (seq, known, object) = (f.u32(), f.u32(), f.object()?);
        match known {
            0 => Ok(Verdict { seq, known: Known::Need }),
            1 => Ok(Verdict { seq, known: Known::Have(object) }),
            _ => Err(DecodeError::Field { field: "verdict" }),
        }
    })
}

fn bases(raw: &[u8]) -> Result<Vec<BasisFile>, DecodeError> {
    unpacked("bases", raw, BASIS_BYTES, ENTRIES_PER_FRAME_MAX as u64, |f| {
        let (seq, len) = (f.u32(), bounded("object length", f.u64(), OBJECT_BYTES_MAX)?);
        Ok(BasisFile { seq, len, stamp: Stamp(f.take()) })
    })
}

pub(super) fn decode(bytes: &[u8]) -> Result<Frame, DecodeError> {
    check_count(bytes, (ENTRIES_TAG, ENTRY_TAG), "entries in a frame", ENTRIES_PER_FRAME_MAX)?;
    check_count(bytes, (HELLO_TAG, PORT_TAG), "ports in a greeting", PORTS_MAX)?;
    let msg = Msg::decode(bytes)?;
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
