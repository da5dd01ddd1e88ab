//! What holds for any bytes, well-formed or not, and any way to feed them.

use std::fmt::Write;

use proptest::prelude::*;

use super::{CHUNK_BYTES_MAX, ChunkSize, Cuts, Cutter, Random, cut, cut_extent, with_header};

/// A file that is almost safetensors: places at random, then bytes of the header overwritten.
fn nearly_safetensors() -> impl Strategy<Value = Vec<u8>> {
    let tensor = (0u64..60_000, 0u64..60_000, any::<bool>());
    let harm = (any::<prop::sample::Index>(), any::<u8>());
    (prop::collection::vec(tensor, 0..12), prop::collection::vec(harm, 0..3), 0usize..150_000)
        .prop_map(|(tensors, harm, len)| {
            let mut at = 0;
            let mut json = String::from("{");
            for (i, (begin, tensor_len, in_line)) in tensors.iter().enumerate() {
                let begin = if *in_line { at } else { *begin };
                at = begin + tensor_len;
                let comma = if i > 0 { "," } else { "" };
                let _ = write!(json, r#"{comma}"t{i}":{{"data_offsets":[{begin},{at}]}}"#);
            }
            json.push('}');
            let mut data = with_header(&json, &Random(len as u64).bytes(len));
            for (index, byte) in harm {
                let at = index.index(8 + json.len());
                data[at] = byte;
            }
            data
        })
}

/// Bytes of little variety, so that runs and repetitions occur.
fn plain_bytes() -> impl Strategy<Value = Vec<u8>> {
    (any::<u64>(), 0usize..200_000, 0u32..8).prop_map(|(seed, len, keep)| {
        Random(seed).bytes(len).into_iter().map(|byte| byte >> keep).collect()
    })
}

fn any_cutter() -> impl Strategy<Value = Cutter> {
    let size = (12u32..=21).prop_map(|log2| ChunkSize::from_log2(log2).unwrap());
    prop_oneof![
        2 => Just(Cutter::Tensor),
        2 => size.clone().prop_map(|avg| Cutter::Content { avg }),
        1 => size.prop_map(|block| Cutter::Fixed { block }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn boundaries_do_not_depend_on_how_bytes_are_fed(
        data in prop_oneof![plain_bytes(), nearly_safetensors()],
        cutter in any_cutter(),
        seed in any::<u64>(),
        feed_max in prop_oneof![Just(7u64), Just(5_000), Just(100_000)],
    ) {
        // Feeds of a few bytes take too many calls on long data.
        let data = &data[..data.len().min(feed_max as usize * 4000)];
        let at_once = cut(cutter, data);
        let mut random = Random(seed);
        let mut cuts = Cuts::new(cutter, data.len() as u64);
        let fed = cut_extent(&mut cuts, 0, data, || 1 + (random.next() % feed_max) as usize);
        prop_assert_eq!(at_once, fed);
    }

    #[test]
    fn chunks_stay_within_their_extent_and_limits(
        data in prop_oneof![plain_bytes(), nearly_safetensors()],
        cutter in any_cutter(),
        holes in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        // Every other stretch is a hole.
        let mut edges: Vec<usize> = holes.iter().map(|hole| hole.index(data.len() + 1)).collect();
        edges.sort_unstable();
        edges.insert(0, 0);
        edges.push(data.len());
        let mut cuts = Cuts::new(cutter, data.len() as u64);
        for pair in edges.windows(2).step_by(2) {
            let ends = cut_extent(&mut cuts, pair[0], &data[pair[0]..pair[1]], || CHUNK_BYTES_MAX);
            prop_assert!(ends.is_sorted() && ends.iter().all(|&end| end <= pair[1]));
            prop_assert_eq!(ends.last().copied().unwrap_or(pair[0]), pair[1].max(pair[0]));
            if let Cutter::Content { avg } = cutter {
                let mut start = pair[0];
                for (i, &end) in ends.iter().enumerate() {
                    prop_assert!(end - start <= avg.bytes() * 4);
                    prop_assert!(end - start > avg.bytes() / 4 || i + 1 == ends.len());
                    start = end;
                }
            }
        }
    }
}
