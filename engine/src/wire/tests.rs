//! Round trips, limits and garbage.

use proptest::prelude::*;

use super::*;
use crate::base::Digest;
use crate::base::limits::FRAME_BYTES_MAX;
use crate::fuzzing::heap::peak_of;
use crate::fuzzing::wire::frames;

fn piece(seq: u32) -> Piece {
    Piece { seq, round: 1, offset: 7, len: 9, digest: Digest::of(&seq.to_le_bytes()) }
}

#[test]
fn every_frame_survives_its_encoding() {
    for frame in frames() {
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
        let mut bytes = frames()[which].encode().to_vec();
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
