//! What the program wants to be there before it starts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

/// A number of `bytes` at `at`, little endian.
fn number(file: &[u8], at: u64, bytes: u64) -> u64 {
    let (at, bytes) = (usize::try_from(at).unwrap(), usize::try_from(bytes).unwrap());
    file[at..at + bytes].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Names of the shared libraries that a 64-bit ELF file needs: `DT_NEEDED` (System V gABI).
fn needed(file: &[u8]) -> Vec<String> {
    assert_eq!(&file[..6], b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file");
    let (table, size) = (number(file, 32, 8), number(file, 54, 2));
    let headers: Vec<u64> = (0..number(file, 56, 2)).map(|n| table + n * size).collect();
    // Of each segment: type, offset in the file, address, size in the file.
    let segments = headers.iter().map(|at| {
        let field = |offset| number(file, at + offset, 8);
        (number(file, *at, 4), field(8), field(16), field(32))
    });
    let segments: Vec<_> = segments.collect();
    let (_, dynamic, _, length) =
        *segments.iter().find(|segment| segment.0 == 2).expect("a dynamic segment");
    let entries = (0..length / 16).map(|n| dynamic + n * 16);
    let entries: Vec<_> =
        entries.map(|at| (number(file, at, 8), number(file, at + 8, 8))).collect();
    let strings = entries.iter().find(|entry| entry.0 == 5).expect("strings").1;
    let place = |address: u64| {
        let holds = |s: &&(u64, u64, u64, u64)| s.0 == 1 && (s.2..s.2 + s.3).contains(&address);
        let (_, offset, start, _) = *segments.iter().find(holds).expect("a loaded segment");
        usize::try_from(address - start + offset).unwrap()
    };
    let name = |at: u64| {
        let text = &file[place(strings + at)..];
        let end = text.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(text[..end].to_vec()).unwrap()
    };
    entries.iter().filter(|entry| entry.0 == 1).map(|entry| name(entry.1)).collect()
}

#[test]
fn the_program_starts_where_no_rdma_library_is() {
    let needed = needed(&fs::read(env!("CARGO_BIN_EXE_portway")).unwrap());
    println!("{needed:?}");
    assert!(needed.iter().any(|name| name.starts_with("libc.so")), "the list was read");
    let rdma = |name: &&String| name.contains("ibverbs") || name.contains("rdmacm");
    assert_eq!(needed.iter().find(rdma), None);
}
