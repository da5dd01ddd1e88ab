//! What decoding promises: it never panics, fills exactly what it is given or fails, and takes no
//! memory by what the content says.

use super::near::{self, BLOCK_BYTES, BLOCKS_MAX, Blocks, SUM_BYTES};
use super::{Decoder, Encoder, Encoding, Layout, Width};

/// Wire form of the encoding, bytes of the decoded content u24 LE, encoded content. The base of a
/// difference is the encoded content, repeated.
pub(crate) fn encoding(data: &[u8]) -> bool {
    let Some(([kind @ .., a, b, c], content)) = data.split_first_chunk::<7>() else { return false };
    let Ok(encoding) = Encoding::from_bytes(*kind) else { return false };
    assert_eq!(encoding.to_bytes(), *kind);
    let len = (u32::from_le_bytes([*a, *b, *c, 0]) as usize).min(LEN_MAX);
    let base: Vec<u8> = base(content, len);
    let mut out = vec![0; len];
    if Decoder::new().decode(encoding, content, Some(&base), &mut out).is_err() {
        return false;
    }
    // What was decoded is content as any other.
    let mut encoder = Encoder::new();
    let mut again = vec![0; len];
    for encoding in [encoding, encoder.probe(&[&out])] {
        let Some(encoded) = encoder.encode(encoding, &[&out], Some(&base), &mut again) else {
            continue;
        };
        let mut back = vec![0; len];
        let content = &again[..encoded.len];
        let decoded = Decoder::new().decode(encoded.encoding, content, Some(&base), &mut back);
        assert_eq!(decoded, Ok(()));
        assert_eq!(back, out);
    }
    true
}

/// Most bytes that are decoded.
const LEN_MAX: usize = 128 << 10;

fn base(content: &[u8], len: usize) -> Vec<u8> {
    content.iter().chain(&[7]).copied().cycle().take(len).collect()
}

pub(crate) fn encoding_seeds() -> Vec<Vec<u8>> {
    let content: Vec<u8> = (0..3000u32).flat_map(|i| (i / 3).to_le_bytes()).collect();
    let mut seeds = vec![[&[0, 0, 0, 0, 3, 0, 0][..], b"raw"].concat()];
    let mut encodings = vec![Encoding::Zstd];
    for width in Width::ALL {
        for shift in [0, 1] {
            let layout = Layout::new(width, shift);
            encodings.extend([Encoding::Planes(layout), Encoding::Turned(layout)]);
            encodings.push(Encoding::Delta(layout));
        }
    }
    for encoding in encodings {
        let mut out = vec![0; content.len()];
        // The base is another one when decoding, which gives other bytes.
        let base = vec![7; content.len()];
        let Some(encoded) = Encoder::new().encode(encoding, &[&content], Some(&base), &mut out)
        else {
            continue;
        };
        let len = (content.len() as u32).to_le_bytes();
        seeds.push([&encoding.to_bytes(), &len[..3], &out[..encoded.len]].concat());
    }
    seeds
}

/// Bytes of the rebuilt content u24 LE, blocks of the region u8, the region, the written form. What
/// is rebuilt can be written again, also with what the form is when it is taken for sums.
pub(crate) fn near(data: &[u8]) -> bool {
    let Some(([a, b, c, blocks], rest)) = data.split_first_chunk::<4>() else { return false };
    let Some((region, written)) = rest.split_at_checked(usize::from(*blocks) * BLOCK_BYTES) else {
        return false;
    };
    let len = (u32::from_le_bytes([*a, *b, *c, 0]) as usize).min(LEN_MAX);
    let mut out = vec![0; len];
    let accepted = near::read(region, written, &mut out).is_ok();
    let mut again = Vec::new();
    let told = Blocks::from_sums(written);
    let whole = written.len().is_multiple_of(SUM_BYTES);
    assert_eq!(told.is_some(), whole && written.len() <= BLOCKS_MAX * SUM_BYTES);
    if let Some(told) = told {
        assert!(told.write(&out, usize::MAX, &mut again));
    }
    let mut sums = Vec::new();
    near::sum_blocks(region, &mut sums);
    let blocks = Blocks::from_sums(&sums).expect("sums of a region");
    assert!(blocks.write(&out, usize::MAX, &mut again));
    let mut back = vec![0; len];
    assert_eq!(near::read(region, &again, &mut back), Ok(()));
    assert_eq!(back, out);
    let fits = again.len();
    assert!(blocks.write(&out, fits, &mut again) && again.len() == fits);
    assert!(fits == 0 || !blocks.write(&out, fits - 1, &mut again));
    accepted
}

pub(crate) fn near_seeds() -> Vec<Vec<u8>> {
    let region: Vec<u8> = (0..3000_u32).flat_map(|i| (i * i).to_le_bytes()).collect();
    let shifted = [b"before", &region[700..9000], &[0; 600], &region[..2000]].concat();
    let contents: [&[u8]; 5] = [&[], b"literal", &region[..2048], &shifted[..], &[0; 5000]];
    let mut sums = Vec::new();
    near::sum_blocks(&region, &mut sums);
    let blocks = Blocks::from_sums(&sums).expect("sums of a region");
    let seed = |content: &[u8]| {
        let mut written = Vec::new();
        assert!(blocks.write(content, usize::MAX, &mut written));
        let len = (content.len() as u32).to_le_bytes();
        let region = region.as_chunks::<BLOCK_BYTES>().0;
        [&len[..3], &[region.len() as u8], region.as_flattened(), &written].concat()
    };
    contents.into_iter().map(seed).collect()
}
