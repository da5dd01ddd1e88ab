//! An entry of the table of chunks: half a digest, and one place of the chunk.
//!
//! ```text
//! key 16 (big-endian) | base u32 | file u32 | len u32 | offset u64 | check u32    40 bytes
//! ```
//!
//! Numbers are little-endian but for the key, so that encoded keys compare as keys do. The check
//! is for accidents: a look-up reads single entries and has no time for a digest, which a run has
//! over all of them. What it finds is verified before it counts anyway.

/// Bytes of an encoded entry.
pub(super) const ENTRY_BYTES: usize = 40;
/// Bytes under the check.
const CHECKED_BYTES: usize = ENTRY_BYTES - 4;
/// Stands for the offset of a place that was forgotten; no file reaches there.
const FORGOTTEN: u64 = 1 << 63;

/// Where a chunk lies: a place in terms of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) base: u32,
    pub(super) file: u32,
    pub(super) offset: u64,
    pub(super) len: u32,
}

impl Spot {
    /// Says that a chunk has no place in `base` any more, whatever older entries say.
    pub(super) fn forgotten(base: u32) -> Self {
        Self { base, file: 0, offset: FORGOTTEN, len: 0 }
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.offset == FORGOTTEN
    }
}

/// A chunk and one of its spots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// The first half of the chunk's digest.
    pub(super) key: u128,
    pub(super) spot: Spot,
}

impl Entry {
    pub(super) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut out = [0; ENTRY_BYTES];
        out[..16].copy_from_slice(&self.key.to_be_bytes());
        out[16..20].copy_from_slice(&self.spot.base.to_le_bytes());
        out[20..24].copy_from_slice(&self.spot.file.to_le_bytes());
        out[24..28].copy_from_slice(&self.spot.len.to_le_bytes());
        out[28..36].copy_from_slice(&self.spot.offset.to_le_bytes());
        let check = check(&out);
        out[CHECKED_BYTES..].copy_from_slice(&check);
        out
    }

    /// The entry in `bytes`, or `None` if they are damaged.
    pub(super) fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let entry = Self::decode_unchecked(bytes);
        let spot = entry.spot;
        let valid = spot.offset < FORGOTTEN || spot == Spot::forgotten(spot.base);
        (valid && bytes[CHECKED_BYTES..] == check(bytes)).then_some(entry)
    }

    /// As [`Self::decode`], without a look at the check: for who verifies a sum over many entries.
    pub(super) fn decode_unchecked(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| bytes[at + n]));
        let offset = u64::from(word(32)) << 32 | u64::from(word(28));
        let spot = Spot { base: word(16), file: word(20), len: word(24), offset };
        Self { key: key_of(bytes), spot }
    }
}

/// The key of an encoded entry.
pub(super) fn key_of(bytes: &[u8; ENTRY_BYTES]) -> u128 {
    let mut key = [0; 16];
    key.copy_from_slice(&bytes[..16]);
    u128::from_be_bytes(key)
}

/// Folds the bytes under the check with the finaliser of `SplitMix64` (Steele, Lea and Flood, "Fast
/// splittable pseudorandom number generators", 2014). It maps 64-bit numbers one to one, so what
/// differs in one word differs in the end, in the half that is kept but for once in 2^32.
fn check(bytes: &[u8; ENTRY_BYTES]) -> [u8; 4] {
    let (words, _) = bytes.as_chunks::<8>();
    let mut sum = 0x9e37_79b9_7f4a_7c15;
    for (word, mask) in words.iter().zip([u64::MAX, u64::MAX, u64::MAX, u64::MAX, u32::MAX.into()])
    {
        let z: u64 = sum ^ (u64::from_le_bytes(*word) & mask);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        sum = z ^ (z >> 31);
    }
    ((sum >> 32) as u32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_survives_its_encoding_and_no_flipped_bit_does(
            key: u128,
            (base, file, offset, len) in any::<(u32, u32, u64, u32)>(),
            forgotten: bool,
            bit in 0..ENTRY_BYTES * 8,
        ) {
            let spot = Spot { base, file, offset: offset >> 1, len };
            let spot = if forgotten { Spot::forgotten(base) } else { spot };
            let mut bytes = Entry { key, spot }.encode();
            prop_assert_eq!(Entry::decode(&bytes), Some(Entry { key, spot }));
            prop_assert_eq!(Entry::decode_unchecked(&bytes), Entry { key, spot });
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Entry::decode(&bytes), None);
        }
    }
}
