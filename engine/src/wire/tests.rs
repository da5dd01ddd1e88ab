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
    // The same of ports in greetings.
    let ports = field(1, &field(5, &[]).repeat(FRAME_BYTES_MAX / 2 - 4));
    let greetings = field(1, &field(5, &[])).repeat(FRAME_BYTES_MAX / 4);
    for bytes in [one, many, ports, greetings] {
        assert!(bytes.len() <= FRAME_BYTES_MAX);
        let (decoded, peak) = peak_of(|| Frame::decode(&bytes));
        assert!(matches!(decoded, Err(DecodeError::Limit { .. })), "{decoded:?}");
        assert!(peak < 64 << 10, "{peak} bytes of memory");
    }
}

fn greeting(rails: Vec<Port>, no_rails: &str) -> Frame {
    Frame::Hello(Hello {
        versions: VERSIONS,
        program: "p".to_owned(),
        clock_ms: 1,
        rails,
        no_rails: no_rails.to_owned(),
        roles: None,
    })
}

#[test]
fn ports_of_a_greeting_are_within_their_bounds_or_refused() {
    let port = Port {
        device: "m".repeat(64),
        port: 255,
        fabric: 9,
        gid: [1; 16],
        lid: u16::MAX,
        mtu: 256,
        rate_mbit: u32::MAX,
        reads_max: 1,
    };
    let most = greeting(vec![port.clone(); PORTS_MAX], &"w".repeat(NO_RAILS_BYTES_MAX));
    assert_eq!(Frame::decode(&most.encode()), Ok(most));
    let many = greeting(vec![port.clone(); PORTS_MAX + 1], "");
    let wordy = greeting(Vec::new(), &"w".repeat(NO_RAILS_BYTES_MAX + 1));
    let long = greeting(vec![Port { device: "m".repeat(65), ..port.clone() }], "");
    let wide = greeting(vec![Port { mtu: 4097, ..port.clone() }], "");
    for frame in [many, wordy, long, wide] {
        let decoded = Frame::decode(&frame.encode());
        assert!(matches!(decoded, Err(DecodeError::Limit { .. })), "{decoded:?}");
    }
    for wrong in [
        Port { device: String::new(), ..port.clone() },
        Port { device: "a b".to_owned(), ..port.clone() },
        Port { device: "a\u{1b}[2J".to_owned(), ..port.clone() },
        Port { port: 0, ..port.clone() },
        Port { mtu: 255, ..port.clone() },
        Port { reads_max: 0, ..port.clone() },
    ] {
        let decoded = Frame::decode(&greeting(vec![wrong], "").encode());
        assert!(matches!(decoded, Err(DecodeError::Field { .. })), "{decoded:?}");
    }
    // A gid of another size, and numbers that only a wider field holds.
    let good = messages::PortMsg::from(port);
    let wrong = [
        messages::PortMsg { gid: bytes::Bytes::from_static(&[1; 15]), ..good.clone() },
        messages::PortMsg { port: 256, ..good.clone() },
        messages::PortMsg { lid: 65_536, ..good.clone() },
        messages::PortMsg { mtu: 65_536 + 1024, ..good.clone() },
        messages::PortMsg { reads_max: 256, ..good },
    ];
    for msg in wrong {
        assert!(Port::try_from(msg.clone()).is_err(), "{msg:?}");
    }
}

#[test]
fn greetings_of_nodes_before_and_after_rdma_are_understood() {
    // `hello` of a node that knows no ports: versions, program, clock.
    let old = b"\x0a\x09\x08\x01\x10\x01\x1a\x01p\x20\x01";
    assert_eq!(Frame::decode(old), Ok(greeting(Vec::new(), "")));
    assert_eq!(greeting(Vec::new(), "").encode()[..], old[..]);
    // A later one says more, in a greeting and in a port.
    let new = b"\x0a\x0d\x08\x01\x10\x01\x1a\x01p\x20\x01\xfa\x07\x01x";
    assert_eq!(Frame::decode(new), Ok(greeting(Vec::new(), "")));
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
    fn damaged_frames_never_panic(which in 0usize..20, at in any::<u16>(), flip in 1u8..) {
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
