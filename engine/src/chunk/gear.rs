//! The content cutter: `FastCDC` with a gear hash whose every cut depends on 64 bytes alone.
//!
//! Wen Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage
//! Systems", IEEE TPDS 31 (2020). Two things differ. A cut asks that the hash is below a threshold
//! rather than that scattered bits are zero: the top bits see the most bytes, and thresholds nest.
//! And hashing starts a whole window before the first byte that may end a chunk, so that whether a
//! byte may end one never depends on where the chunk began.

use super::ChunkSize;
use crate::base::limits::CHUNK_BYTES_MAX;

/// Bytes that the hash sees: it moves up a bit with each byte and has 64 of them.
const WINDOW_BYTES: usize = 64;
/// Normalisation: this many bits harder to cut before the average, easier after.
const NORMAL_BITS: u32 = 2;

/// A random number for each byte: the first 256 outputs of splitmix64 from the state `portway1`.
static GEAR: [u64; 256] = gear();

const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state = u64::from_le_bytes(*b"portway1");
    let mut i = 0;
    while i < table.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[i] = z ^ (z >> 31);
        i += 1;
    }
    table
}

/// Finds the ends of content-defined chunks.
pub(super) struct Content {
    /// Up to which length of a chunk which threshold holds; the last length always ends it.
    stages: [(usize, u64); 3],
    scan: Scan,
}

/// How far the chunk at `start` is looked through; `at` is zero before the first look.
struct Scan {
    start: u64,
    at: usize,
    hash: u64,
}

impl Content {
    pub(super) fn new(avg: ChunkSize) -> Self {
        let bytes = avg.bytes();
        let bits = bytes.ilog2();
        let below = |bits: u32| 1 << (u64::BITS - bits);
        Self {
            stages: [
                (bytes / 4, 0),
                (bytes, below(bits + NORMAL_BITS)),
                ((bytes * 4).min(CHUNK_BYTES_MAX), below(bits - NORMAL_BITS)),
            ],
            scan: Scan { start: 0, at: 0, hash: 0 },
        }
    }

    /// As [`super::Cuts::next`].
    pub(super) fn next(&mut self, start: u64, bytes: &[u8], last: bool) -> Option<usize> {
        let [(min_bytes, _), _, (max_bytes, _)] = self.stages;
        let scan = &mut self.scan;
        if scan.at == 0 || scan.start != start {
            *scan = Scan { start, at: min_bytes - WINDOW_BYTES, hash: 0 };
        }
        for (stop, threshold) in self.stages {
            let Some(ahead) = bytes.get(scan.at..stop.min(bytes.len())) else { continue };
            if let Some(len) = roll(&mut scan.hash, ahead, threshold) {
                let end = scan.at + len;
                scan.at = 0;
                return Some(end);
            }
            scan.at += ahead.len();
        }
        if bytes.len() >= max_bytes {
            scan.at = 0;
            return Some(max_bytes);
        }
        last.then_some(bytes.len())
    }
}

/// Rolls `hash` over `bytes` up to the first byte that brings it below `threshold`, and returns how
/// many bytes that took.
///
/// Four bytes at a time: their sums do not wait for the hash, so the chain of dependent operations
/// is one shift and one addition long for all four.
fn roll(hash: &mut u64, bytes: &[u8], threshold: u64) -> Option<usize> {
    let next = |h: u64, g: u64| (h << 1).wrapping_add(g);
    let mut h = *hash;
    let (fours, rest) = bytes.as_chunks::<4>();
    for (i, four) in fours.iter().enumerate() {
        let g = four.map(|byte| GEAR[usize::from(byte)]);
        let g2 = next(g[0], g[1]);
        let g3 = next(g2, g[2]);
        let g4 = next(g3, g[3]);
        if (h << 1).wrapping_add(g[0]) < threshold {
            return Some(4 * i + 1);
        }
        if (h << 2).wrapping_add(g2) < threshold {
            return Some(4 * i + 2);
        }
        if (h << 3).wrapping_add(g3) < threshold {
            return Some(4 * i + 3);
        }
        h = (h << 4).wrapping_add(g4);
        if h < threshold {
            return Some(4 * i + 4);
        }
    }
    for (i, &byte) in rest.iter().enumerate() {
        h = next(h, GEAR[usize::from(byte)]);
        if h < threshold {
            return Some(4 * fours.len() + i + 1);
        }
    }
    *hash = h;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gear_table_is_the_documented_one() {
        let bytes: Vec<u8> = GEAR.iter().flat_map(|g| g.to_le_bytes()).collect();
        assert_eq!(GEAR[0], 14_420_616_551_707_194_416);
        let digest = "08a378d0ace18ed1ce6a0d4e713c20c1658a16511eed98412193dee3c5d27870";
        assert_eq!(crate::base::Digest::of(&bytes).to_string(), digest);
    }

    #[test]
    fn long_runs_of_one_byte_make_the_largest_chunks() {
        // The smallest ones would be sixteen times as many, for data that compresses to nothing.
        for byte in [0, b' ', 0xff] {
            let run = vec![byte; CHUNK_BYTES_MAX];
            for log2 in 12..=20 {
                let avg = ChunkSize::from_log2(log2).unwrap();
                let len = Content::new(avg).next(0, &run, false);
                assert_eq!(len, Some((avg.bytes() * 4).min(CHUNK_BYTES_MAX)), "{byte} {log2}");
            }
        }
    }
}
