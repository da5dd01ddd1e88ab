//! Control frames and the headers of data messages.

use bytes::Bytes;

use crate::base::limits::{
    CHUNK_BYTES_MAX, ENTRIES_PER_FRAME_MAX, FRAME_BYTES_MAX, OBJECT_BYTES_MAX, RUN_PIECES_MAX,
};
use crate::base::{Digest, FileTime, Parts, Priority, Rate, RelPath, Stamp, TransferId};
use crate::encode::{CONTENT_BYTES_MAX, Compress, Encoding, Layout, NEAR_SUMS_BYTES_MAX, Width};
use crate::manifest::{Entry, EntryKind, Object};
use crate::policy::RolesMark;
use crate::wire::{
    Accept, Basis, BasisExtent, BasisFile, Bitmap, Coded, DataHeader, End, Frame, Hello, Known,
    NO_RAILS_BYTES_MAX, Numbers, Open, Operation, PORTS_MAX, Piece, Port, Published, Verdict,
};

pub(super) fn frame(data: &[u8]) -> bool {
    if data.len() > FRAME_BYTES_MAX {
        return false;
    }
    let decoded = Frame::decode(data);
    assert_eq!(Frame::take(Bytes::copy_from_slice(data)), decoded);
    let Ok(frame) = decoded else { return false };
    match &frame {
        Frame::Entries { entries, .. } => assert!(entries.len() <= ENTRIES_PER_FRAME_MAX),
        Frame::Verdicts(verdicts) => assert!(verdicts.len() <= ENTRIES_PER_FRAME_MAX),
        Frame::Bases(bases) => assert!(bases.len() <= ENTRIES_PER_FRAME_MAX),
        Frame::Near { sums, .. } => assert!(sums.len() <= NEAR_SUMS_BYTES_MAX),
        Frame::Offer { pieces, ends, .. } => {
            assert!(ends.len() <= RUN_PIECES_MAX);
            bounded(pieces);
        }
        Frame::Again { pieces, .. } => bounded(pieces),
        Frame::Hello(hello) => {
            assert!(hello.rails.len() <= PORTS_MAX && hello.no_rails.len() <= NO_RAILS_BYTES_MAX);
            assert!(hello.rails.iter().all(|port| port.check().is_ok()));
        }
        Frame::Want { wanted, .. } => assert!(!wanted.bit(RUN_PIECES_MAX)),
        _ => {}
    }
    assert!(!frame.name().is_empty());
    assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    true
}

fn bounded(pieces: &[Piece]) {
    assert!(pieces.len() <= RUN_PIECES_MAX);
    for piece in pieces {
        assert!((1..=CHUNK_BYTES_MAX as u32).contains(&piece.len));
        assert!(piece.offset <= OBJECT_BYTES_MAX);
    }
}

pub(super) fn frame_seeds() -> Vec<Vec<u8>> {
    frames().iter().map(|frame| frame.encode().to_vec()).collect()
}

/// One of every kind.
pub(crate) fn frames() -> Vec<Frame> {
    let numbers = Numbers { files: 1, sent: 2, deduplicated: 3, resumed: 4, discarded: 5 };
    let object = Object { digest: Digest::of(b"o"), len: 77, cutter: 3 };
    let piece = |seq| Piece { seq, round: 1, offset: 7, len: 9, digest: Digest::of(b"piece") };
    let path = |text: &[u8]| RelPath::from_typed(text).unwrap_or_default();
    let entry =
        |path, kind| Entry { path, kind, mode: 0o640, mtime: FileTime { secs: -5, nanos: 999 } };
    let file = entry(path(b"dir/\xff\xfe"), EntryKind::File { len: 77, stamp: Stamp([3; 16]) });
    let text = String::from("words");
    let port = |device: &str, fabric| Port {
        device: device.to_owned(),
        port: 1,
        fabric,
        gid: [0xfe; 16],
        lid: 7,
        mtu: 4096,
        rate_mbit: 400_000,
        reads_max: 16,
    };
    let open = Open {
        operation: Operation::Plan,
        transfer_id: TransferId(5),
        path: path(b"a/b"),
        checksum: true,
        rails: true,
        compress: Compress::Auto,
        limit: Rate::from_mbps(3),
        class: "internal".parse().ok(),
        wire_max: Some(10_000_000),
        priority: Priority::Bulk,
        fresh: true,
        parts: None,
        basis: Some(path(b"a/before")),
        near: true,
    };
    vec![
        Frame::Hello(Hello {
            versions: (1, 3),
            program: text.clone(),
            clock_ms: 9,
            rails: vec![port("mlx5_0", 1), port("rxe0", 2)],
            no_rails: text.clone(),
            roles: Some(RolesMark { version: 7, digest: Digest([7; 32]) }),
        }),
        Frame::Open(open.clone()),
        Frame::Open(Open {
            operation: Operation::Push,
            parts: Parts::new(8, "second").ok(),
            ..open
        }),
        Frame::Accept(Accept {
            transfer_id: TransferId(5),
            free_bytes: 1,
            compress: Compress::Always,
            class: "public".parse().ok(),
            fresh: true,
        }),
        Frame::Refuse { code: text.clone(), detail: text.clone(), retry: true },
        Frame::Entries {
            first: 4,
            entries: vec![
                entry(path(b"dir"), EntryKind::Dir),
                file.clone(),
                entry(path(b"dir/l"), EntryKind::Symlink(b"../x".to_vec())),
            ],
        },
        Frame::EntriesEnd { entries: 6, skipped: 1 },
        Frame::Verdicts(vec![
            Verdict { seq: 1, known: Known::Need },
            Verdict { seq: 2, known: Known::Have(object) },
        ]),
        Frame::Bases(vec![BasisFile { seq: 1, len: 77, stamp: Stamp([4; 16]) }]),
        Frame::Near { run: 8, sums: bytes::Bytes::from_static(&[9; 20]) },
        Frame::Offer {
            run: 8,
            pieces: vec![piece(1), piece(2)],
            ends: vec![End { seq: 2, round: 1, object }],
        },
        Frame::Want { run: 8, wanted: Bitmap::of([true, false, true].into_iter()) },
        Frame::Again { run: 1 << 63, pieces: vec![piece(3)] },
        Frame::Restart { seq: 1, round: 2, entry: file },
        Frame::Failed { seq: 1, code: text.clone(), detail: text.clone() },
        Frame::Settled { below: 3, numbers },
        Frame::Root { root: Digest::of(b"r"), failed: 3 },
        Frame::Class("restricted".parse().expect("a class")),
        Frame::Published(Published { root: Digest::of(b"r"), numbers }),
        Frame::Call { method: text, body: bytes::Bytes::from_static(b"{}") },
        Frame::Reply { body: bytes::Bytes::from_static(b"[]"), last: true },
        Frame::Statement(bytes::Bytes::from_static(b"a")),
        Frame::Receipt(bytes::Bytes::from_static(b"b")),
        Frame::Countersign(bytes::Bytes::from_static(b"c")),
    ]
}

pub(super) fn data_header(data: &[u8]) -> bool {
    let Ok(header) = DataHeader::decode(data) else { return false };
    // There is one form only.
    assert_eq!(header.encode(), data);
    let mut bits = vec![false; RUN_PIECES_MAX];
    for piece in header.pieces() {
        bits[piece] = true;
    }
    let (coded, basis) = (header.coded, header.basis.clone());
    assert!(coded.is_none_or(|coded| coded.len as usize <= CONTENT_BYTES_MAX));
    assert_eq!(basis.is_some(), coded.is_some_and(Coded::has_basis));
    let extents = basis.iter().flat_map(|it| &it.extents);
    let total: u64 = extents.map(|extent| u64::from(extent.len)).sum();
    assert!(basis.is_none() || coded.is_some_and(|coded| u64::from(coded.len) == total));
    assert_eq!(DataHeader { coded, basis, ..DataHeader::of(header.run, bits) }, header);
    true
}

pub(super) fn data_header_seeds() -> Vec<Vec<u8>> {
    let header = |run, bit: fn(usize) -> bool| {
        DataHeader::of(run, (0..RUN_PIECES_MAX).map(bit)).encode().to_vec()
    };
    let layout = Layout::new(Width::Four, 3);
    let coded = Some(Coded { encoding: Encoding::Turned(layout), len: 77 });
    let coded = DataHeader { coded, ..DataHeader::of(3, [true, false, true]) }.encode().to_vec();
    let difference = DataHeader {
        coded: Some(Coded { encoding: Encoding::Delta(layout), len: 77 }),
        basis: Some(Basis {
            object: 5,
            extents: vec![
                BasisExtent { offset: None, len: 7 },
                BasisExtent { offset: Some(9), len: 70 },
            ],
        }),
        ..DataHeader::of(3, [true])
    };
    vec![
        difference.encode().to_vec(),
        header(0, |_| false),
        header(9, |_| true),
        header(1 << 63, |i| i < 40 && i % 3 != 0),
        header(7, |i| i + 1 == RUN_PIECES_MAX),
        header(7, |i| i % 2 == 0),
        coded,
    ]
}
