//! Round trips, what they cost, damage, and the bytes of the form.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::fuzzing::heap::peak_of;
use crate::sim::rng::Rng;

fn blocks_of(region: &[u8]) -> Blocks {
    let mut sums = Vec::new();
    sum_blocks(region, &mut sums);
    assert_eq!(sums.len(), region.len() / BLOCK_BYTES * SUM_BYTES);
    Blocks::from_sums(&sums).expect("sums of a region")
}

/// Writes, reads, compares; what was written.
fn round_trip(region: &[u8], content: &[u8]) -> Vec<u8> {
    let mut written = b"something else".to_vec();
    assert!(blocks_of(region).write(content, usize::MAX, &mut written));
    let mut back = vec![0x5a; content.len()];
    assert_eq!(read(region, &written, &mut back), Ok(()));
    assert!(back == content, "{} bytes by a region of {}", content.len(), region.len());
    written
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    Rng::new(seed).bytes(len)
}

fn edit(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(bytes.len() as u64 + 1) as usize;
    let to = at + rng.spread((bytes.len() - at) as u64 + 1) as usize;
    let len = rng.spread(2000) as usize;
    match rng.below(4) {
        0 => drop(bytes.splice(at..at, rng.bytes(len))),
        1 => drop(bytes.drain(at..to)),
        2 => {
            let other = rng.bytes(to - at);
            bytes[at..to].copy_from_slice(&other);
        }
        _ => {
            let moved: Vec<u8> = bytes.drain(at..to).collect();
            let at = rng.below(bytes.len() as u64 + 1) as usize;
            bytes.splice(at..at, moved);
        }
    }
}

#[test]
fn content_comes_back_whatever_the_lengths() {
    let bytes = noise(5000, 1);
    let lengths = [0, 1, 511, 512, 513, 519, 520, 1023, 1024, 1025, 1700, 5000];
    for region in lengths {
        for content in lengths {
            let written = round_trip(&bytes[..region], &bytes[..content]);
            let copied = region.min(content) / BLOCK_BYTES * BLOCK_BYTES;
            assert!(written.len() <= content - copied + 8, "{region} {content}");
        }
    }
    assert!(round_trip(&bytes, &[]).is_empty());
}

#[test]
fn a_document_that_was_replaced_costs_itself() {
    let region = noise(64 << 10, 2);
    for (at, len, by) in [(0, 7 << 10, 7 << 10), (10_001, 7 << 10, 6 << 10), (50_000, 500, 7 << 10)]
    {
        let mut content = region.clone();
        content.splice(at..at + len, noise(by, 3));
        let written = round_trip(&region, &content).len();
        assert!(written <= by + (2 << 10), "{written} at {at}");
    }
}

#[test]
fn blocks_are_found_wherever_they_moved() {
    let region = noise(64 << 10, 4);
    let parts: Vec<&[u8]> = region.chunks(8 << 10).rev().collect();
    let content = [b"front".as_slice(), &parts.concat()].concat();
    let written = round_trip(&region, &content).len();
    assert!(written < 64, "{written}");
}

#[test]
fn equal_blocks_are_copied_in_runs_and_in_linear_time() {
    let zeros = vec![0; BLOCKS_MAX * BLOCK_BYTES];
    assert_eq!(round_trip(&zeros, &zeros), [0, 0, 0xff, 0x3f]);
    // One block of them stands for all.
    let written = round_trip(&zeros[..BLOCK_BYTES], &zeros[..100 * BLOCK_BYTES]);
    assert_eq!(written, [0, 0, 0].repeat(100));
    // Zeros around what is new.
    let mut content = zeros;
    content.splice(100_000..100_000, noise(1000, 5));
    assert!(round_trip(&vec![0; 1 << 20], &content).len() < 1000 + 600 + 40);
}

#[test]
fn content_of_a_period_is_found_at_any_phase() {
    for period in [1, 2, 3, 7, 32, 512, 513, 1000] {
        let whole: Vec<u8> = noise(period, 6).into_iter().cycle().take(40_000).collect();
        let written = round_trip(&whole[..20_000], &whole[17..]).len();
        assert!(written < 2 * BLOCK_BYTES + period + 200, "{written} for {period}");
    }
}

#[test]
fn sums_that_are_lies_cost_little() {
    // Each window has the weak sum of a block, and none its strong one.
    let mut sums = Vec::new();
    sum_blocks(&[0; BLOCK_BYTES], &mut sums);
    sums[WEAK_BYTES] ^= 1;
    let blocks = Blocks::from_sums(&sums).expect("a sum");
    let content = vec![0; 100_000];
    let mut search = Search { blocks: &blocks, content: &content, vain_left: 10 };
    assert!(search.next(0, usize::MAX).is_none());
    assert_eq!(search.vain_left, 0);
    let mut written = Vec::new();
    assert!(blocks.write(&content, usize::MAX, &mut written));
    assert_eq!(written.len(), 100_003);
}

#[test]
fn chains_are_short_whatever_the_sums() {
    let sums: Vec<u8> = (0..BLOCKS_MAX as u32)
        .flat_map(|i| [&[1, 2, 3, 4], &i.to_le_bytes()[..], &[0, 0]].concat())
        .collect();
    let blocks = Blocks::from_sums(&sums).expect("sums");
    let weak = u32::from_le_bytes([1, 2, 3, 4]);
    assert_eq!(blocks.chain(weak).collect::<Vec<_>>(), (0..CHAIN_MAX).collect::<Vec<_>>());
}

#[test]
fn sums_are_whole_and_not_too_many() {
    let sums = vec![7; BLOCKS_MAX * SUM_BYTES + SUM_BYTES];
    assert!(Blocks::from_sums(&sums[..0]).is_some());
    assert!(Blocks::from_sums(&sums[SUM_BYTES..]).is_some());
    for wrong in [1, SUM_BYTES - 1, SUM_BYTES + 1, sums.len()] {
        assert!(Blocks::from_sums(&sums[..wrong]).is_none(), "{wrong}");
    }
    let (_, peak) = peak_of(|| Blocks::from_sums(&sums[SUM_BYTES..]));
    assert!(peak <= (64 << 10) + 22 * BLOCKS_MAX, "{peak}");
}

#[test]
fn the_weak_sum_rolls_and_spreads() {
    // Windows of bytes that are few, small and mostly zero, as of tokens.
    let mut rng = Rng::new(8);
    let content: Vec<u8> = (0..20_000)
        .map(|i| if i % 4 < 2 && rng.chance(60) { rng.below(4) as u8 } else { 0 })
        .collect();
    let windows: Vec<&Block> =
        content.windows(BLOCK_BYTES).map(|w| w.try_into().unwrap()).collect();
    let mut sum = weak(windows[0]);
    let (old, _) = content.as_chunks::<STEP>();
    let (new, _) = content[BLOCK_BYTES..].as_chunks::<STEP>();
    for (i, (old, new)) in old.iter().zip(new).enumerate() {
        let sums = roll(sum, *old, *new);
        for (window, rolled) in windows[i * STEP..].iter().zip(sums) {
            assert_eq!(weak(window), rolled);
        }
        sum = sums[STEP];
    }
    let sums: HashSet<u32> = windows.iter().map(|window| weak(window)).collect();
    assert!(sums.len() + 2 >= windows.len(), "{} of {}", sums.len(), windows.len());
    let places: HashSet<_> = sums.iter().map(|sum| filter_place(*sum)).collect();
    // As many as if they fell at random: 1/54 of them fall where another did.
    assert!(places.len() * 100 >= windows.len() * 97, "{} of {}", places.len(), windows.len());
}

#[test]
fn no_more_is_written_than_may_be() {
    let region = noise(20_000, 9);
    let mut rng = Rng::new(10);
    for _ in 0..40 {
        let mut content = region[..3000].to_vec();
        (0..3).for_each(|_| edit(&mut content, &mut rng));
        let (whole, blocks) = (round_trip(&region, &content), blocks_of(&region));
        let mut out = Vec::new();
        for at_most in 0..whole.len() + 3 {
            let fits = blocks.write(&content, at_most, &mut out);
            assert_eq!(fits, at_most >= whole.len(), "{at_most} of {}", whole.len());
            assert!(!fits || out == whole);
            assert!(out.len() <= at_most + 8, "{} of {at_most}", out.len());
        }
    }
}

#[test]
fn the_form_is_pinned() {
    let region: Vec<u8> = (0..4 * BLOCK_BYTES).map(|i| (i / BLOCK_BYTES) as u8 + 7).collect();
    let content = [b"ab", &region[BLOCK_BYTES..3 * BLOCK_BYTES], &region[..BLOCK_BYTES], b"c"];
    let written = round_trip(&region, &content.concat());
    assert_eq!(written, [2, b'a', b'b', 1, 1, 0, 0, 0, 1, b'c']);
    let mut sums = Vec::new();
    sum_blocks(&region[..BLOCK_BYTES + 100], &mut sums);
    assert_eq!(sums, [0, 0xea, 0xa6, 0xd9, 4, 44, 132, 176, 243, 183]);
}

#[test]
fn reading_takes_no_memory_and_exactly_what_there_is() {
    let region = noise(4 * BLOCK_BYTES, 11);
    let is = |written: &[u8], len: usize| {
        let mut out = vec![0; len];
        let (result, peak) = peak_of(|| read(&region, written, &mut out));
        assert_eq!(peak, 0);
        assert!(result.is_ok() || result == Err(Malformed { want: len }));
        result.is_ok()
    };
    assert!(is(&[], 0) && is(&[0, 3, 0], BLOCK_BYTES) && is(&[0, 0, 3], 4 * BLOCK_BYTES));
    assert!(is(&[1, 9], 1) && is(&[0, 0, 0, 2, 1, 1], BLOCK_BYTES + 2));
    // Something behind the end, also of nothing.
    assert!(!is(&[0], 0) && !is(&[1, 9, 0], 1) && !is(&[0, 3, 0, 0], BLOCK_BYTES));
    // A block or literal that is not there, or longer than what is missing.
    assert!(!is(&[0, 4, 0], BLOCK_BYTES) && !is(&[0, 3, 1], 2 * BLOCK_BYTES));
    assert!(!is(&[0, 0, 1], BLOCK_BYTES) && !is(&[2, 9, 9], 1) && !is(&[2, 9], 2));
    assert!(!is(&[0, 0, 0], BLOCK_BYTES - 1) && !is(&[0, 0, 0], BLOCK_BYTES + 1));
    // Numbers that are too long, too large, or end early.
    assert!(!is(&[0x81, 0, 9], 1) && !is(&[0x80, 0, 0, 0], BLOCK_BYTES) && !is(&[0x80], 1));
    let large = [&[0xff; 8][..], &[0x7f]].concat();
    for number in [&large[..], &[0xff; 9], &[0xff; 10], &[0xff; 30]] {
        assert!(!is(number, 1));
        assert!(!is(&[&[0], number, &[0]].concat(), BLOCK_BYTES));
        assert!(!is(&[&[0, 0], number].concat(), BLOCK_BYTES));
        assert!(!is(&[&[0], number, number].concat(), BLOCK_BYTES));
    }
    let mut from = large.as_slice();
    assert_eq!(take_number(&mut from), Some(usize::MAX >> 1));
}

#[test]
fn every_truncation_is_an_error_and_no_change_panics() {
    let region = noise(30_000, 12);
    let content =
        [&region[5000..9000], b"new", &region[..BLOCK_BYTES], &[0; 200], &region[20_000..]]
            .concat();
    let written = round_trip(&region, &content);
    let mut back = vec![0; content.len()];
    for len in 0..written.len() {
        assert!(read(&region, &written[..len], &mut back).is_err(), "{len}");
    }
    let mut damaged = written.clone();
    for at in 0..written.len() {
        for byte in 0..=u8::MAX {
            damaged[at] = byte;
            // What can still be read is something else.
            let same = read(&region, &damaged, &mut back).is_ok() && back == content;
            assert!(!same || byte == written[at], "{at} {byte}");
        }
        damaged[at] = written[at];
    }
}

proptest! {
    #[test]
    fn edited_content_comes_back(
        seed in any::<u64>(),
        len in 0_usize..60_000,
        period in prop::option::of(1_usize..3000),
        edits in 0_usize..6,
    ) {
        let mut rng = Rng::new(seed);
        let region: Vec<u8> = match period {
            Some(period) => rng.bytes(period).into_iter().cycle().take(len).collect(),
            None => rng.bytes(len),
        };
        let mut content = region.clone();
        (0..edits).for_each(|_| edit(&mut content, &mut rng));
        let written = round_trip(&region, &content);
        prop_assert!(written.len() <= content.len() + 9);
        if edits == 0 {
            prop_assert!(written.len() <= len % BLOCK_BYTES + 8);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        written in prop::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..40),
        len in 0_usize..4000,
    ) {
        let _ = read(&noise(2000, 13), &written, &mut vec![0; len]);
    }
}
