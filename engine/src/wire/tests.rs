//! Round trips, limits and garbage.

use proptest::prelude::*;

use super::*;
use crate::base::limits::FRAME_BYTES_MAX;
use crate::base::{Digest, FileTime, RelPath, Stamp, TransferId};
use crate::fuzzing::heap::peak_of;
use crate::manifest::{Entry, EntryKind, Object};

fn piece(seq: u32) -> Piece {
    Piece { seq, round: 1, offset: 7, len: 9, digest: Digest::of(&seq.to_le_bytes()) }
}

fn object() -> Object {
    Object { digest: Digest::of(b"o"), len: 77, cutter: 3 }
}

fn entry() -> Entry {
    Entry {
        path: RelPath::from_bytes(b"dir/\xff\xfe").unwrap(),
        kind: EntryKind::File { len: 77, stamp: Stamp([3; 16]) },
        mode: 0o640,
        mtime: FileTime { secs: -5, nanos: 999 },
    }
}

fn samples() -> Vec<Frame> {
    let numbers = Numbers { files: 1, sent: 2, deduplicated: 3, resumed: 4, discarded: 5 };
    let text = String::from("words");
    vec![
        Frame::Hello(Hello { versions: (1, 3), program: text.clone(), clock_ms: 9 }),
        Frame::Open(Open {
            operation: Operation::Plan,
            transfer_id: TransferId(5),
            path: RelPath::from_bytes(b"a/b").unwrap(),
            checksum: true,
        }),
        Frame::Accept(Accept { transfer_id: TransferId(5), free_bytes: 1 }),
        Frame::Refuse { code: text.clone(), detail: text.clone(), retry: true },
        Frame::Entries { first: 4, entries: vec![entry(), entry()] },
        Frame::EntriesEnd { entries: 6, skipped: 1 },
        Frame::Verdicts(vec![
            Verdict { seq: 1, known: Known::Need },
            Verdict { seq: 2, known: Known::Have(object()) },
        ]),
        Frame::Offer {
            run: 8,
            pieces: vec![piece(1), piece(2)],
            ends: vec![End { seq: 2, round: 1, object: object() }],
        },
        Frame::Want { run: 8, wanted: Bitmap::of([true, false, true].into_iter()) },
        Frame::Again { run: 1 << 63, pieces: vec![piece(3)] },
        Frame::Restart { seq: 1, round: 2, entry: entry() },
        Frame::Failed { seq: 1, code: text.clone(), detail: text.clone() },
        Frame::Settled { below: 3, numbers },
        Frame::Root { root: Digest::of(b"r") },
        Frame::Published(Published { root: Digest::of(b"r"), numbers }),
        Frame::Call { method: text, body: bytes::Bytes::from_static(b"{}") },
        Frame::Reply { body: bytes::Bytes::from_static(b"[]"), last: true },
    ]
}

#[test]
fn every_frame_survives_its_encoding() {
    for frame in samples() {
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }
}

#[test]
fn too_many_items_and_lying_sizes_are_refused() {
    let many = Frame::Again { run: 0, pieces: vec![piece(0); 1025] };
    assert!(matches!(Frame::decode(&many.encode()), Err(DecodeError::Limit { .. })));
    let wide = Frame::Want { run: 0, wanted: Bitmap(vec![0; 129]) };
    assert!(matches!(Frame::decode(&wide.encode()), Err(DecodeError::Limit { .. })));
    let mut huge = piece(0);
    huge.len = u32::MAX;
    let huge = Frame::Again { run: 0, pieces: vec![huge] };
    assert!(matches!(Frame::decode(&huge.encode()), Err(DecodeError::Limit { .. })));
    let mut empty = piece(0);
    empty.len = 0;
    let empty = Frame::Again { run: 0, pieces: vec![empty] };
    assert!(matches!(Frame::decode(&empty.encode()), Err(DecodeError::Field { .. })));
}

#[test]
fn too_many_entries_are_refused_before_memory_is_taken_for_them() {
    // A frame of the largest size, full of entries of two bytes each, in one message or in many.
    let field = |tag: u8, body: &[u8]| {
        let mut out = vec![tag << 3 | 2];
        prost::encode_length_delimiter(body.len(), &mut out).unwrap();
        [&out[..], body].concat()
    };
    let empty = field(2, &[]);
    let one = field(5, &empty.repeat(FRAME_BYTES_MAX / 2 - 4));
    let many = field(5, &empty).repeat(FRAME_BYTES_MAX / 4);
    for bytes in [one, many] {
        assert!(bytes.len() <= FRAME_BYTES_MAX);
        let (decoded, peak) = peak_of(|| Frame::decode(&bytes));
        assert!(matches!(decoded, Err(DecodeError::Limit { .. })), "{decoded:?}");
        assert!(peak < 64 << 10, "{peak} bytes of memory");
    }
}

#[test]
fn versions_meet_at_the_newest_common_one_or_not_at_all() {
    assert_eq!(negotiate((1, 9)), Some(1));
    assert_eq!(negotiate((2, 9)), None);
    assert_eq!(negotiate((0, 0)), None);
    assert_eq!(negotiate((9, 0)), None);
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Frame::decode(&bytes);
        let _ = DataHeader::decode(&bytes);
    }

    #[test]
    fn damaged_frames_never_panic(which in 0usize..17, at in any::<u16>(), flip in 1u8..) {
        let mut bytes = samples()[which].encode().to_vec();
        let at = usize::from(at) % bytes.len();
        bytes[at] ^= flip;
        let _ = Frame::decode(&bytes);
    }

    #[test]
    fn data_headers_hold_exactly_the_wanted_pieces(bits in proptest::collection::vec(any::<bool>(), 0..1024)) {
        let header = DataHeader::of(9, bits.iter().copied());
        let back = DataHeader::decode(&header.encode()).unwrap();
        let pieces: Vec<usize> = back.pieces().collect();
        let wanted: Vec<usize> = (0..bits.len()).filter(|&i| bits[i]).collect();
        prop_assert_eq!(pieces, wanted);
    }
}
